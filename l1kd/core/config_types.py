"""The kinds of values that a configuration has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


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
Paths = Annotated[list[Annotated[EventPath, Field(min_length=1)]], BeforeValidator(_one_or_many)]
Bits = Annotated[Int, Field(ge=1, le=24)]
Size = Annotated[Int, Field(ge=1, le=4096)]
Share = Annotated[Float, Field(ge=0, lt=1)]
Sides = Annotated[
    tuple[Annotated[Int, Field(ge=1, le=64)], Annotated[Int, Field(ge=1, le=64)]],
    BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value, value]),
]


# Of every section: unknown keys are errors and values do not change once read.
STRICT = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _split(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
        raise ValueError("train, validation and test are three positive fractions that add up to 1")
    return value


Split = Annotated[tuple[Float, Float, Float], AfterValidator(_split)]

Backend = Literal["Vitis", "Vivado"]  # of hls4ml; `firmware.hls.backends` has an object for each
VendorTool = Literal["vitis", "vivado"]  # the same in lower case, on the command line
IoType = Literal["io_parallel", "io_stream"]
Strategy = Literal["latency", "resource", "distributed_arithmetic"]
