"""Reads a written HLS project back from its C++: types, configurations, weights, calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate import cpp_text
from l1kd.firmware.certificate.adder_code import Generated, read_generated
from l1kd.firmware.certificate.cpp_text import Source, Unreadable, integer, statements, words
from l1kd.firmware.certificate.header_hashes import Library

_STANDARD = {"iostream", "array", "cstddef", "cstdio", "tuple", "type_traits"}
_VENDOR = {"ap_fixed.h", "ap_int.h", "hls_stream.h"}
_NAME = r"[A-Za-z_]\w*"
_TYPEDEF = re.compile(rf"typedef (?P<type>.+?) ?(?P<name>{_NAME})$")
_PACK = re.compile(r"nnet::array<(?P<type>.+),(?P<size>[\d*]+)>$")
_WEIGHTS = re.compile(rf"(?P<type>{_NAME}) (?P<name>{_NAME})\[(?P<size>\d+)\]={{(?P<values>.*)}}$")
_STRUCT = re.compile(
    rf"struct (?P<name>{_NAME})\s*(?::\s*(?P<base>nnet::\w+)\s*)?{{(?P<body>[^{{}}]*)}}\s*;"
)
_TOP = re.compile(rf"void (?P<name>{_NAME})\s*\((?P<arguments>[^()]*)\)\s*{{(?P<body>[^{{}}]*)}}")
_NUMBER = re.compile(
    rf"static const (?:unsigned|int|bool|nnet::\w+) (?P<name>{_NAME})=(?P<value>.+)$"
)
_USING = re.compile(rf"template<[^>]*>using (?P<name>{_NAME})=(?P<value>.+)$")
_AUTO = re.compile(rf"constexpr static auto (?P<name>{_NAME})=(?P<value>.+)$")
_OUTSIDE = re.compile(
    rf"const .+?[> ](?P<config>{_NAME})::(?P<name>{_NAME})(?:\[\])?=(?P<value>.+)$"
)
_DECLARED = re.compile(r"static const (?:ap_uint<[\w*]+>|\w+ )(?P<name>\w+)(?:\[[\w*]+\])?$")
_LOCAL = re.compile(rf"(?P<type>{_NAME}) (?P<name>{_NAME})\[(?P<size>[\d*]+)\]$")
_STREAM = re.compile(
    rf'hls::stream<(?P<type>{_NAME})>(?:&?)(?P<name>{_NAME})(?:\("(?P<said>\w+)"\))?$'
)
_ALIAS = re.compile(rf"auto&(?P<name>{_NAME})=(?P<of>{_NAME})$")
_CALL = re.compile(
    rf"(?P<space>(?:nnet::)?)(?P<function>{_NAME})<(?P<template>[\w,]+)>\((?P<arguments>[-\w,.]+)\)$"
)
_SIMULATION = re.compile(r"nnet::save_layer_output<[\w,]+>\([^()]*\)$")
# A name, or the choice between two that normalisation layers write.
_WORD = re.compile(r"(nnet::)?\w+(::\w+)*|\(\w+==-?\w+\)\?\w+:\w+")
_SIZE = re.compile(r"\d+(\*\d+)*")


@dataclass(frozen=True)
class Array:
    """An array or stream that a call reads or writes."""

    name: str
    type: FixedPoint
    declared: str  # the name of its C++ type
    size: int | None  # None: a stream, which does not say
    pack: int | None  # None: an array


@dataclass(frozen=True)
class Call:
    """One statement of the top function: `nnet::dense<a_t, b_t, config3>(a, b, w3, b3);`."""

    space: str  # `nnet::`, or nothing for code that was generated with the project
    function: str
    template: tuple[str, ...]
    arguments: tuple[str, ...]
    label: str  # the layer's name, as the comment behind it says

    @property
    def text(self) -> str:
        """As C++."""
        called = f"{self.space}{self.function}<{', '.join(self.template)}>"
        return f"{called}({', '.join(self.arguments)});"


@dataclass(frozen=True)
class Config:
    """A layer's configuration: its constants, its types and the templates that it chooses."""

    name: str
    base: str
    constants: Mapping[str, int | str]
    types: Mapping[str, str]
    templates: Mapping[str, str]


@dataclass(frozen=True)
class Weights:
    """A table of constants, as the type that stores them makes them, (size,)."""

    values: NDArray[np.float64]
    type: FixedPoint


@dataclass
class Program:
    """A project's top function and everything that it uses."""

    top: str
    namespace: str
    types: dict[str, tuple[FixedPoint, int | None]] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    generated: Generated = field(default_factory=Generated)
    files: set[str] = field(default_factory=set)  # read, relative to `firmware/`

    def array(self, name: str) -> Array:
        """An array by its name or by one that stands for it."""
        return self.arrays[self.base(name)]

    def base(self, name: str) -> str:
        """The name of an array itself, for one that may stand for it."""
        return self.aliases.get(name, name)


def read_program(directory: Path, top: str, library: Library) -> Program:
    """Read the files of a project; anything that l1kd does not generate is `Unreadable`."""
    firmware = directory / "firmware"
    program = Program(top, "")
    try:
        _read_defines(program, _source(firmware, "defines.h"))
        program.generated = read_generated(
            _text(firmware, "nnet_utils/nnet_code_gen.h"), library, program.types
        )
        parameters = _source(firmware, "parameters.h")
        program.files = {"defines.h", "parameters.h", "ports.h", f"{top}.h", f"{top}.cpp"}
        for name in parameters.includes:
            if name.startswith("weights/"):
                program.files.add(name)
                _read_weights(program, _source(firmware, name))
        _read_parameters(program, parameters)
        header, source = _source(firmware, f"{top}.h"), _source(firmware, f"{top}.cpp")
        _read_header(program, header)
        _read_top(program, source, _text(firmware, f"{top}.cpp"))
    except (KeyError, ValueError, IndexError) as error:
        raise Unreadable(f"{top}.cpp", f"{type(error).__name__}: {error}") from error
    for each in (header, source, parameters, _source(firmware, "defines.h")):
        _check_includes(each, library, top)
    return program


def _text(firmware: Path, name: str) -> str:
    try:
        return (firmware / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(name, f"cannot be read: {error}") from error


def _source(firmware: Path, name: str) -> Source:
    return cpp_text.clean(name, _text(firmware, name))


def _check_includes(source: Source, library: Library, top: str) -> None:
    own = {"defines.h", "parameters.h", "ports.h", f"{top}.h", f"{top}_ports.h"}
    for name in source.includes:
        known = name in _STANDARD | _VENDOR | own or name.startswith("weights/")
        if not known and name not in library.headers:
            raise Unreadable(source.file, f"#include {name}")


def _named(program: Program, source: Source) -> str:
    """A file's code inside of the project's namespace."""
    code = source.code
    wrapped = source.conditional.get("L1KD_GLOBAL", "")
    opened = re.fullmatch(rf"\s*namespace ({_NAME}) {{\s*}}\s*", wrapped)
    if opened:
        name = opened[1]
    elif wrapped.strip():
        raise Unreadable(source.file, wrapped)
    else:
        inside = re.fullmatch(rf"\s*namespace ({_NAME}) {{(.*)}}\s*", code, re.DOTALL)
        if not inside:
            return code
        name, code = inside[1], inside[2]
    if program.namespace not in ("", name):
        raise Unreadable(source.file, f"namespace {name}")
    program.namespace = name
    return code


def _matches(program: Program, source: Source, form: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The statements of a file, which all have to be of one form."""
    for statement in statements(_named(program, source)):
        found = form.match(statement)
        if not found:
            raise Unreadable(source.file, statement)
        yield found


def _read_defines(program: Program, source: Source) -> None:
    for found in _matches(program, source, _TYPEDEF):
        text, pack = found["type"], None
        if packed := _PACK.match(text):
            text, pack = packed["type"], integer(packed["size"], {})
        if found["name"] in program.types:
            raise Unreadable(source.file, found[0])
        program.types[found["name"]] = (FixedPoint.parse(text), pack)


def _read_weights(program: Program, source: Source) -> None:
    for found in _matches(program, source, _WEIGHTS):
        kind, _ = program.types[found["type"]]
        values = [cpp_text.constant(text) for text in found["values"].split(",")]
        if len(values) != int(found["size"]) or found["name"] in program.weights:
            raise Unreadable(source.file, found[0])
        program.weights[found["name"]] = Weights(kind.quantize(values), kind)


def _read_parameters(program: Program, source: Source) -> None:
    code = _named(program, source)
    outside: dict[tuple[str, str], str] = {}
    for statement in statements(_STRUCT.sub("", code)):
        found = _OUTSIDE.match(statement)
        if not found:
            raise Unreadable(source.file, statement)
        outside[found["config"], found["name"]] = found["value"]
    for struct in _STRUCT.finditer(code):
        name = struct["name"]
        if name in program.configs:
            raise Unreadable(source.file, struct[0])
        given = {key: value for (config, key), value in outside.items() if config == name}
        base, body = struct["base"] or "", struct["body"]
        program.configs[name] = _config(name, base, body, given, source.file)
    if unknown := {config for config, _ in outside} - set(program.configs):
        raise Unreadable(source.file, f"{min(unknown)} has no struct")


def _config(name: str, base: str, body: str, outside: dict[str, str], file: str) -> Config:
    constants: dict[str, int | str] = dict(outside)
    types: dict[str, str] = {}
    templates: dict[str, str] = {}
    for statement in statements(body):
        target: dict[str, Any]
        value: Any
        if found := _NUMBER.match(statement):
            target, value = constants, _number(found["value"], constants)
        elif found := _TYPEDEF.match(statement):
            target, value = types, found["type"]
        elif found := _USING.match(statement) or _AUTO.match(statement):
            target, value = templates, found["value"]
        elif (found := _DECLARED.match(statement)) and found["name"] in outside:
            continue
        else:
            raise Unreadable(file, statement)
        if found["name"] in target or value is None:
            raise Unreadable(file, statement)
        target[found["name"]] = value
    return Config(name, base, constants, types, templates)


def _number(text: str, known: Mapping[str, int | str]) -> int | str | None:
    """A constant: a number, or a name as it is; None if it is neither."""
    try:
        return integer(text, known)
    except ValueError:
        return text if _WORD.fullmatch(text) else None


def _read_header(program: Program, source: Source) -> None:
    (prototype,) = statements(_named(program, source))
    if not re.fullmatch(rf"void {program.top}\([^()]*\)", prototype):
        raise Unreadable(source.file, prototype)


def _read_top(program: Program, source: Source, text: str) -> None:
    found = _TOP.fullmatch(_named(program, source).strip())
    if not found or found["name"] != program.top:
        raise Unreadable(source.file, source.code.strip())
    for statement in statements(source.conditional.get("__SYNTHESIS__", "")):
        if not _SIMULATION.match(statement):
            raise Unreadable(source.file, statement)
    for argument in found["arguments"].split(","):
        program.ports.append(_declare(program, words(argument), source.file))
    labels = {  # calls, and the comments behind them: the layers' names
        words(code): label.strip()
        for code, separator, label in (line.partition("; //") for line in text.splitlines())
        if separator and _CALL.match(words(code))
    }
    for statement in statements(found["body"]):
        if call := _CALL.match(statement):
            template, arguments = call["template"].split(","), call["arguments"].split(",")
            label, named = labels.get(statement, ""), (call["space"], call["function"])
            program.calls.append(Call(*named, tuple(template), tuple(arguments), label))
        elif alias := _ALIAS.match(statement):
            of = program.aliases.get(alias["of"], alias["of"])
            if of not in program.arrays or alias["name"] in program.arrays:
                raise Unreadable(source.file, statement)
            program.aliases[alias["name"]] = of
        else:
            _declare(program, statement, source.file)


def _declare(program: Program, statement: str, file: str) -> str:
    found = _LOCAL.match(statement) or _STREAM.match(statement)
    if not found or found["name"] in program.arrays or found["name"] in program.aliases:
        raise Unreadable(file, statement)
    kind, pack = program.types[found["type"]]
    size = None
    if found.re is _LOCAL:
        if not _SIZE.fullmatch(found["size"]) or pack is not None:
            raise Unreadable(file, statement)
        size = integer(found["size"], {})
    elif pack is None:
        raise Unreadable(file, statement)
    program.arrays[found["name"]] = Array(found["name"], kind, found["type"], size, pack)
    return found["name"]
