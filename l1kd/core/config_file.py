"""Configurations from files: found by name or path, overridden by `--set`, errors with a line."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from l1kd.core.config import SOURCES, Config
from l1kd.core.config_types import MODEL_PATTERN, NAME_PATTERN, PART_PATTERN
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.files import atomic, check_regular, regular
from l1kd.core.sweep_config import Place, Setting

Places = dict[Place, str]  # where each value of a configuration is said: `file:line`, `--set`

_MAX_BYTES = 1 << 20
_MAX_VALUES = 20_000
_MAX_DIGITS = 100
_MAX_SHOWN = 80
_MOST_ERRORS = 10  # that one message tells
# pydantic speaks to programmers here
_PLAINER = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), "Input should be a mapping of keys"
    ),
    "list_type": "Input should be a list",
}
_RULES = {
    NAME_PATTERN: "name: letters, digits, '_', '.', '-', a letter or digit first",
    MODEL_PATTERN: "model file: its name ends in .keras, .h5 or .hdf5",
    PART_PATTERN: "part: letters, digits, '_', '-', a letter or digit first",
}
_TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2: 1e-3 is a number, 1:30:00 and 2020-01-01 are texts.
_CORE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"null|Null|NULL|~|", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (
        r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
        lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)),
    ),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        lambda text: float(re.sub(r"\.(?=[a-zA-Z])", "", text)),
    ),
}
_PATTERNS = {f"{_TAG}{kind}": re.compile(rf"(?:{text})\Z") for kind, (text, _) in _CORE.items()}


def _scalar(reader: _Reader, node: yaml.ScalarNode) -> Any:
    text, kind = reader.construct_scalar(node), node.tag.removeprefix(_TAG)
    if len(text) > _MAX_DIGITS or not _PATTERNS[node.tag].match(text):
        problem = f"{_shown(text)} is no {kind}, or too long"
        raise ConstructorError(None, None, problem, node.start_mark)
    return _CORE[kind][1](text)


class _Reader(yaml.SafeLoader):
    """Plain values only, few enough for a configuration."""

    yaml_implicit_resolvers = {None: list(_PATTERNS.items())}  # noqa: RUF012 - PyYAML has it so
    yaml_constructors: ClassVar[Any] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (f"{_TAG}str", f"{_TAG}seq", f"{_TAG}map", None)
    } | dict.fromkeys(_PATTERNS, _scalar)
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.values += 1
        problem = None
        if self.check_event(yaml.AliasEvent):
            # Short files could unfold without bound.
            problem = "YAML aliases are not supported"
        elif self.values > _MAX_VALUES:
            problem = f"more than {_MAX_VALUES} values"
        if problem:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)


class _Writer(yaml.SafeDumper):
    """Quotes the texts that a reader of YAML 1.1 or 1.2 would take for numbers."""


for _tag in (f"{_TAG}int", f"{_TAG}float"):
    _Writer.add_implicit_resolver(_tag, _PATTERNS[_tag], None)


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    installed = Path(str(resources.files("l1kd"))) / "configs"
    checkout = Path(__file__).parents[2] / "configs"
    directory = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(directory.glob("*.yaml"))}


def find(argument: str) -> Path:
    """The file that a command's CONFIG means: a shipped name, or a path."""
    if "/" in argument or argument.endswith((".yaml", ".yml")):
        path = Path(argument)
        check_regular(path, f"no configuration file at {argument}")
        return path
    names = shipped()
    if argument not in names:
        raise UserError(
            f"no shipped configuration is named {argument!r}{did_you_mean(argument, names)}; there "
            f"are {', '.join(names)}; a file of your own needs its path or its .yaml ending"
        )
    return names[argument]


def load(
    path: Path, overrides: Sequence[str] = (), known: Mapping[str, str] | None = None
) -> Config:
    """A YAML file over its source's defaults, and `--set KEY=VALUE` over both; errors say where.

    Paths of events by names that the file has for them may be known.
    """
    return next(load_each(path, overrides, [()], known))


def load_each(
    path: Path,
    overrides: Sequence[str],
    points: Iterable[Sequence[Setting]],
    known: Mapping[str, str] | None = None,
) -> Iterator[Config]:
    """As `load`, once for every point of a grid: its settings lie between file and `--set`."""
    raw, places = _read(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a configuration is a mapping of keys, found {_kind(raw)}")
    given = [_parsed(text) for text in overrides]
    for point in points:
        tree, said, settings = copy.deepcopy(raw), dict(places), [*point, *given]
        for setting in settings:
            if setting.key[0] == "data":
                _lay(tree, setting, said, path)
        tree.setdefault("name", path.stem)
        data = tree.get("data")
        name = data.get("source") if isinstance(data, dict) else None
        source = SOURCES.get(name) if isinstance(name, str) else None
        defaults = copy.deepcopy(source.defaults) if source else {}
        own, keys = tree.get("teacher"), [setting.key for setting in settings]
        if ("teacher", "file") in keys or (isinstance(own, dict) and "file" in own):
            defaults.pop("teacher", None)  # they are of an architecture
        merged = _merge(defaults, tree) if source else tree
        # After the merge: `students.0.weight_bits` may mean a student that the source brings.
        for setting in settings:
            if setting.key[0] != "data":
                _lay(merged, setting, said, path)
        yield _validate(merged, path, said, {"beside": path.parent, "known": known or {}})


def load_resolved(path: Path) -> Config:
    """Read the resolved configuration that a run keeps: no defaults, no search for paths."""
    raw, places = _read(path)
    return _validate(raw, path, places, None)


def save(config: Config, path: Path) -> None:
    """Write a resolved configuration, atomically."""
    with atomic(path) as temporary:
        values = config.model_dump(mode="json")
        text = yaml.dump(values, Dumper=_Writer, sort_keys=False, width=100)
        temporary.write_text(text, encoding="utf-8")


def _read(path: Path) -> tuple[Any, Places]:
    """The file's plain values and the line of every key."""
    try:
        with regular(path, _MAX_BYTES) as file:
            values, lines = _plain(file.read(_MAX_BYTES).decode())
        return values, {place: f"{path}:{line}" for place, line in lines.items()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error.reason})") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply for a configuration") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else path
        why = getattr(error, "problem", None) or error
        raise UserError(f"{where}: not a configuration in plain YAML: {why}") from error


def _plain(text: str) -> tuple[Any, dict[Place, int]]:
    """The values of a YAML text, and the line of every key and item."""
    reader = _Reader(text)
    if (node := reader.get_single_node()) is None:
        return None, {}
    return reader.construct_document(node), dict(_lines(node, ()))


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            name = str(key.value)
            if name in keys:
                problem = f"the key {_shown(name)} stands twice in one mapping"
                raise ComposerError(None, None, problem, key.start_mark)
            keys.add(name)
            yield (*place, name), key.start_mark.line + 1
            yield from _lines(value, (*place, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))


def _parsed(text: str) -> Setting:
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise UserError(f"--set {text}: write KEY=VALUE, for example distillation.epochs=3")
    try:
        return Setting(tuple(key.split(".")), _plain(value)[0])
    except (yaml.YAMLError, RecursionError) as error:
        nested = isinstance(error, RecursionError)
        why = "nested too deeply" if nested else getattr(error, "problem", None) or error
        raise UserError(
            f"--set {key}={value[:_MAX_SHOWN]}: the value is not plain YAML: {why}"
        ) from error


def _lay(raw: dict[str, Any], setting: Setting, places: Places, path: Path) -> None:
    """Put a value in its place, and say there where it comes from."""
    said = "--set"
    if origin := setting.origin:
        said = f"{_nearest(places, origin, path)}: {'.'.join(map(str, origin[:4]))}"
    parts = [str(part) for part in setting.key]
    place: Place = ()
    target: Any = raw
    for depth, part in enumerate(parts, 1):
        step: str | int = part
        where = f"{said}: {'.'.join(parts)}: {'.'.join(parts[: depth - 1])}"
        if isinstance(target, list):
            if not part.isdecimal() or int(part) >= len(target):
                raise UserError(f"{where} is a list of {len(target)}; {part!r} is no item of it")
            step = int(part)
        elif not isinstance(target, dict):
            raise UserError(f"{where} has no keys")
        place += (step,)
        if depth == len(parts):
            target[step] = copy.deepcopy(setting.value)
        elif isinstance(target, dict):
            target = target.setdefault(step, {})
        else:
            target = target[step]
    for below in [each for each in places if each[: len(place)] == place]:
        del places[below]
    places[place] = said


def _merge(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merge(below, value)
        elif not isinstance(below, dict) or value is not None:
            # `teacher:` with nothing behind it means its defaults
            merged[key] = value
    return merged


def _validate(raw: Any, path: Path, places: Places, context: dict[str, Any] | None) -> Config:
    try:
        return Config.model_validate(raw, context=context)
    except ValidationError as error:
        found = []
        for each in error.errors(include_url=False)[:_MOST_ERRORS]:
            place = each["loc"]
            if place and place[-1] == "[key]":
                place = place[:-2]  # the key itself is wrong: its mapping is the place
            dotted = ".".join(map(str, place)) or "the file"
            found.append(f"{_nearest(places, place, path)}: {dotted}: {_message(dict(each))}")
        left = error.error_count() - len(found)
        raise UserError("; ".join(found) + (f" (and {left} more)" if left else "")) from error


def _nearest(places: Places, place: Place, path: Path) -> str:
    """Where a value is said, or the nearest one above it."""
    above = (place[:length] for length in range(len(place), 0, -1))
    return next((places[each] for each in above if each in places), str(path))


def _message(error: dict[str, Any]) -> str:
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        near = did_you_mean(str(value)[:_MAX_SHOWN], known)
        return f"unknown {_shown(value)}{near}; known are {', '.join(known)}"
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in _RULES:
        return f"{_shown(value)} is no {_RULES[error['ctx']['pattern']]}"
    message = _PLAINER.get(kind, str(error["msg"]).removeprefix("Value error, "))
    own = kind in ("value_error", "unknown_key")  # says already what was found
    return message if own else f"{message} (found {_shown(value)})"


def _shown(value: Any) -> str:
    if not isinstance(value, (str, int, float)) and value is not None:
        return _kind(value)
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(
        type(value), f"a {type(value).__name__}"
    )
