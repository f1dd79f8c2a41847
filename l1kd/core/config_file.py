"""Configurations from files: found by name or path, overridden by `--set`, errors with a line.

What a configuration leaves unsaid, by source of events: what suits them was measured.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.files import atomic
from l1kd.core.sweep_config import Group, Search, Setting, Space, Sweep

_TRIGGER: dict[str, Any] = {
    "teacher": {
        "architecture": "dense",
        "hidden": [128, 64],
        "latent": 8,
        "square_root": 1.0,
        "standardise": True,
        "residual_power": 2.25,
    },
    "students": [
        {"architecture": "cicada_v1"},
        {"architecture": "cicada_v2"},
        {"architecture": "conv", "hidden": [16]},
    ],
    "distillation": {
        "epochs": 16,
        "final_epochs": 8,
        "batch": 256,
        "student_learning_rate": 3e-3,
        "exposure": ["patch", "shuffle"],
    },
    "choose": {"by": "efficiency"},
}
_IMAGES: dict[str, Any] = {
    "teacher": {"architecture": "paper", "latent": 20},
    "students": [{"architecture": f"s{i}"} for i in range(1, 8)],
    "distillation": {
        "epochs": 20,
        "final_epochs": 8,
        "batch": 100,
        "student_learning_rate": 5e-3,
        "warm_up": 3.0,
        "exposure": ["dataset", "warp", "pieces"],
    },
}
_ARRAYS: dict[str, Any] = {
    "teacher": {"architecture": "dense", "latent": 8, "standardise": True},
    "students": [{"architecture": "dense"}],
    "distillation": {"exposure": ["shuffle"]},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "l1toy": _TRIGGER,
    "calo": _TRIGGER,
    "mnist": _IMAGES,
    "fashion_mnist": _IMAGES,
    "arrays": _ARRAYS,
}


def source_defaults(source: str) -> dict[str, Any]:
    """The configuration that suits a source; what a file says is laid over it, key by key."""
    return _DEFAULTS.get(source, {})


_MAX_BYTES = 1 << 20
_MAX_SHOWN = 80
_PATH_KEYS = ("background", "test", "exposure", "signals", "directory")
# pydantic speaks to programmers here
_PLAINER = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), "Input should be a mapping of keys"
    ),
    "list_type": "Input should be a list",
}
Location = tuple[str | int, ...]


def _shipped_directory() -> Path:
    installed = Path(str(resources.files("l1kd"))) / "configs"
    checkout = Path(__file__).parents[2] / "configs"
    return installed if installed.is_dir() else checkout


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    return {path.stem: path for path in sorted(_shipped_directory().glob("*.yaml"))}


def find(argument: str) -> Path:
    """The file that a command's CONFIG means: a shipped name, or a path."""
    if "/" in argument or argument.endswith((".yaml", ".yml")):
        path = Path(argument)
        if not path.is_file():
            raise UserError(f"no configuration file at {argument}")
        return path
    names = shipped()
    if argument not in names:
        near = _nearest(argument, names)
        raise UserError(
            f"no shipped configuration is named {argument!r}{near}; there are "
            f"{', '.join(names)}; a file of your own needs its path or its .yaml ending"
        )
    return names[argument]


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, lay it over its source's defaults, and check it."""
    return next(load_each(path, overrides, [()]))


def load_each(
    path: Path, overrides: Sequence[str], points: Iterable[Sequence[Setting]]
) -> Iterator[Config]:
    """As `load`, once for every point of a grid: its settings lie between file and `--set`."""
    raw, lines = _read(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a configuration is a mapping of keys, found {_kind(raw)}")
    given = [_parsed(text) for text in overrides]
    for settings in points:
        laid = [_Laid(s.key, s.value, _at(path, lines, s.origin)) for s in settings]
        yield _load(copy.deepcopy(raw), path, lines, [*laid, *given])


class _Laid(NamedTuple):
    """A value laid over a configuration's, and where that is said."""

    key: Location
    value: Any
    said: str = "--set"


def _load(
    raw: dict[str, Any], path: Path, lines: dict[Location, int], laid: Sequence[_Laid]
) -> Config:
    said = {_lay(raw, each): each.said for each in laid if each.key[0] == "data"}
    raw.setdefault("name", path.stem)
    _absolute_paths(raw.get("data"), path)
    source = raw["data"].get("source") if isinstance(raw.get("data"), dict) else None
    defaults = source_defaults(source) if isinstance(source, str) else {}
    merged = _merge(copy.deepcopy(defaults), raw)
    # After the merge: `students.0.weight_bits` may mean a student that the source brings.
    said |= {_lay(merged, each): each.said for each in laid if each.key[0] != "data"}
    return _validate(merged, str(path), lines, said)


def load_resolved(path: Path) -> Config:
    """Read the resolved configuration that a run keeps: no defaults, no search for paths."""
    raw, lines = _read(path)
    return _validate(raw, str(path), lines, {})


def save(config: Config, path: Path) -> None:
    """Write a resolved configuration, atomically."""
    with atomic(path) as temporary:
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)
        temporary.write_text(text)


class _Plain(yaml.SafeLoader):
    """Plain values only; what is none of its kind, like 2020-13-45, is an error of YAML's."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{_shown(node.value)} is no such value", node.start_mark
            ) from error


def _values(text: str) -> Any:
    loader = _Plain(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _read(path: Path) -> tuple[Any, dict[Location, int]]:
    """The file's plain values and the line of every key."""
    try:
        content = path.read_bytes()
        if len(content) > _MAX_BYTES:
            raise UserError(f"{path}: {len(content)} bytes are no configuration")
        text = content.decode()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(node, (), str(path), set())) if node is not None else {}
        return _values(text), lines
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error.reason})") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply for a configuration") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{where}: not a configuration in plain YAML: {problem}") from error


def _lines(
    node: yaml.Node, location: Location, file: str, seen: set[int]
) -> Iterator[tuple[Location, int]]:
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)):
        # An alias is a second look at a node: short files could unfold without bound.
        if id(node) in seen:
            raise UserError(f"{file}:{node.start_mark.line + 1}: YAML aliases are not supported")
        seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in keys:
                raise UserError(f"{file}:{line}: the key {name!r} stands twice in one mapping")
            keys.add(name)
            yield (*location, name), line
            yield from _lines(value, (*location, name), file, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*location, index), value.start_mark.line + 1
            yield from _lines(value, (*location, index), file, seen)


def _parsed(text: str) -> _Laid:
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise UserError(f"--set {text}: write KEY=VALUE, for example distillation.epochs=3")
    try:
        return _Laid(tuple(key.split(".")), _values(value))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"--set {key}={value[:_MAX_SHOWN]}: the value is not plain YAML") from error


def _lay(raw: dict[str, Any], laid: _Laid) -> Location:
    """Put a value in its place; returns that place, list items by number."""
    parts = [str(part) for part in laid.key]
    location: list[str | int] = []
    target: Any = raw
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        step: str | int = part
        where = f"{laid.said}: {'.'.join(parts)}: {'.'.join(parts[:depth])}"
        if isinstance(target, list):
            if not part.isdecimal() or int(part) >= len(target):
                raise UserError(f"{where} is a list of {len(target)}; {part!r} is no item of it")
            step = int(part)
        elif not isinstance(target, dict):
            raise UserError(f"{where} has no keys")
        location.append(step)
        if last:
            target[step] = copy.deepcopy(laid.value)
        elif isinstance(target, list):
            target = target[int(part)]
        else:
            target = target.setdefault(part, {})
    return tuple(location)


def _absolute_paths(data: Any, file: Path) -> None:
    """Make paths absolute: a relative one is meant from here, or else from beside the file."""
    if not isinstance(data, dict):
        return

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(item) for item in value]
        if isinstance(value, dict):
            return {key: absolute(item) for key, item in value.items()}
        if not isinstance(value, str) or not value:
            return value
        if "\0" in value:
            raise ValueError("there is a null byte in it")
        here, there = Path(value).expanduser(), file.parent / value
        file_there = Path(str(there).partition(":")[0])
        file_here = Path(str(here).partition(":")[0])
        chosen = there if file_there.exists() and not file_here.exists() else here
        return str(chosen.absolute())

    for key in _PATH_KEYS:
        try:
            if key in data:
                data[key] = absolute(data[key])
        except (OSError, RuntimeError, ValueError) as error:
            # an unknown user's home, a null byte, a name longer than any file's
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{file}: data.{key} holds no usable path ({why})") from error


def _merge(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merge(below, value)
        elif isinstance(below, dict) and value is None:
            pass  # `teacher:` with nothing behind it means its defaults
        else:
            merged[key] = value
    return merged


def _validate(raw: Any, file: str, lines: dict[Location, int], said: dict[Location, str]) -> Config:
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        location, model = _place(first["loc"])
        dotted = ".".join(str(part) for part in location) or "the file"
        message = _message(dict(first), location, model)
        where = _where(file, location, lines, said)
        raise UserError(f"{where}: {dotted}: {message}{more}") from error


def _where(
    file: str, location: Location, lines: dict[Location, int], said: dict[Location, str]
) -> str:
    for length in range(len(location), 0, -1):
        if location[:length] in said:
            return said[location[:length]]
        if location[:length] in lines:
            return f"{file}:{lines[location[:length]]}"
    return file


def _at(path: Path, lines: dict[Location, int], origin: Location) -> str:
    """Where a grid says something."""
    return f"{_where(str(path), origin, lines, {})}: {'.'.join(map(str, origin[:4]))}"


def _place(location: Location) -> tuple[Location, type[BaseModel] | None]:
    """pydantic's location without its union tags, and the model that holds the last key."""
    from l1kd.core import config as tree

    tags: dict[str, type[BaseModel]] = {
        "l1toy": tree.ToyData,
        "calo": tree.CaloData,
        "mnist": tree.ImagesData,
        "fashion_mnist": tree.ImagesData,
        "arrays": tree.ArraysData,
    }
    sections: dict[str, type[BaseModel]] = {
        "teacher": tree.Teacher,
        "students": tree.Student,
        "distillation": tree.Distillation,
        "firmware": tree.Firmware,
        "rtl": tree.Rtl,
        "choose": tree.Choose,
        "verify": tree.Verify,
        "grid": tree.Grid,
        "score": tree.Score,
        "layers": tree.LayerWidths,
        "search": Search,
        "space": Space,
        "sweep": Sweep,
        "groups": Group,
    }
    cleaned: list[str | int] = []
    model: type[BaseModel] | None = Config
    if location and location[-1] == "[key]":
        location = location[:-2]  # the key itself is wrong: its mapping is the place
    for index, part in enumerate(location):
        if index == 1 and cleaned == ["data"] and part in tags:
            model = tags[str(part)]
            continue
        if index < len(location) - 1 and part in sections:
            model = sections[part] if isinstance(part, str) else model
        cleaned.append(part)
    return tuple(cleaned), model


def _message(error: dict[str, Any], location: Location, model: type[BaseModel] | None) -> str:
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden" and model is not None:
        known = list(model.model_fields)
        return f"unknown key{_nearest(str(location[-1]), known)}; known are {', '.join(known)}"
    if kind == "missing":
        return "is required"
    if kind == "union_tag_invalid":
        tag = str(error["ctx"]["tag"])
        names = ["l1toy", "calo", "mnist", "fashion_mnist", "arrays"]
        return f"unknown source {_shown(tag)}{_nearest(tag, names)}; known are {', '.join(names)}"
    if kind == "union_tag_not_found":
        return "needs a `source`: l1toy, calo, mnist, fashion_mnist or arrays"
    if kind == "literal_error":
        known = [
            name.strip("' ") for name in error["ctx"]["expected"].replace(" or ", ", ").split(",")
        ]
        near = _nearest(str(value), known)
        return f"unknown {_shown(value)}{near}; known are {', '.join(known)}"
    if kind == "string_pattern_mismatch":
        return (
            f"{_shown(value)} is no name: letters, digits, '_', '.', '-', a letter or digit first"
        )
    message = str(error["msg"]).removeprefix("Value error, ")
    message = _PLAINER.get(kind, message)
    return f"{message} (found {_shown(value)})" if kind != "value_error" else message


def _shown(value: Any) -> str:
    if not isinstance(value, (str, int, float)) and value is not None:
        return _kind(value)
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(
        type(value), f"a {type(value).__name__}"
    )
