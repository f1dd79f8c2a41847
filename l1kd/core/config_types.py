"""Types of a configuration's values, and the base of its sections."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from l1kd.core.errors import did_you_mean

_T = TypeVar("_T", int, float)
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
PART_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
MODEL_PATTERN = r"(?i)^.+\.(keras|h5|hdf5)$"
# The values of some keys with their meanings, by key: the only list of them.
VALUES: dict[str, dict[str, str]] = yaml.safe_load(
    resources.files("l1kd.core").joinpath("config_values.yaml").read_text(encoding="utf-8")
)


class OneOf:
    """One of the values of a key in `config_values.yaml`, but for some."""

    def __init__(self, key: str, *, but: tuple[str, ...] = ()) -> None:
        self.names = [name for name in VALUES[key] if name not in but]

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        return core_schema.literal_schema(self.names)


def _no_bool(value: Any) -> Any:
    # YAML's `true` is Python's 1; a number is meant here.
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _absolute(value: str, info: ValidationInfo) -> str:
    """Absolute `path` or `path:key`; a relative one is meant from here, or from beside the file."""
    if not info.context or not value:
        return value
    if "\0" in value:
        raise ValueError("no usable path (there is a null byte in it)")
    name, colon, key = value.rpartition(":")
    known = info.context.get("known", {})
    if value in known or name in known:
        return known[value] if value in known else f"{known[name]}{colon}{key}"
    try:
        here, there = Path(value).expanduser(), Path(info.context["beside"], value)
        found_here, found_there = (
            Path(str(path).partition(":")[0]).exists() for path in (here, there)
        )
        return str((there if found_there and not found_here else here).absolute())
    except (OSError, RuntimeError) as error:
        # an unknown user's home, a name longer than any file's
        raise ValueError(f"no usable path ({getattr(error, 'strerror', None) or error})") from error


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
EventPath = Annotated[str, AfterValidator(_absolute)]
ModelPath = Annotated[EventPath, Field(pattern=MODEL_PATTERN)]
_TEXT, _SIDE = {"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 64}
Paths = Annotated[
    list[Annotated[EventPath, Field(min_length=1)]],
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
]
Bits = Annotated[Int, Field(ge=1, le=24)]
Size = Annotated[Int, Field(ge=1, le=4096)]
Share = Annotated[Float, Field(ge=0, lt=1)]
Part = Annotated[Float, Field(ge=0, le=1)]
Sides = Annotated[
    tuple[Annotated[Int, Field(ge=1, le=64)], Annotated[Int, Field(ge=1, le=64)]],
    BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value, value]),
    WithJsonSchema(
        {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}]}
    ),
]


def _split(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
        raise ValueError("train, validation and test are three positive fractions that add up to 1")
    return value


def _rising(value: tuple[_T, _T]) -> tuple[_T, _T]:
    if value[0] > value[1]:
        raise ValueError("a range is [lowest, highest]")
    return value


Split = Annotated[tuple[Float, Float, Float], AfterValidator(_split)]
Range = Annotated[tuple[_T, _T], AfterValidator(_rising)]


class Strict(BaseModel):
    """A section of the configuration: values do not change once read.

    The text under a key is its description in the schema, the reference and what `init` writes.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_other_keys(cls, value: Any) -> Any:
        known, given = list(cls.model_fields), value if isinstance(value, dict) else {}
        errors: list[InitErrorDetails] = []
        for key in map(str, given):
            if key not in known:
                near = did_you_mean(key[:80], known)
                text = f"unknown key{near}; known are {', '.join(known)}"
                said = PydanticCustomError("unknown_key", "{text}", {"text": text})
                errors.append({"type": said, "loc": (key,), "input": key})
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return value
