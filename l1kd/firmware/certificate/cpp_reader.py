"""Reads a written HLS project back from its C++: types, configurations, weights, calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.adder_code import Generated, read_generated
from l1kd.firmware.certificate.cpp_text import DECIMAL, INTEGER, NAME, TYPE, Lines
from l1kd.firmware.hls.canonical_cpp import GENERATED, SHARED, STANDARD

# What a project may not call its own: words of C++ and of the library, and members of
# configurations, in whose scope names of types are looked up.
_ROLES = ("accum_t", "bias_t", "index_t", "mult_config", "slope_t", "table_t", "weight_t")
_TAKEN = re.compile(
    r"ap_\w*|nnet|hls|std|main|[A-Z]|void|auto|bool|char|int|long|short|signed|unsigned|"
    r"float|double|const|static|struct|class|union|enum|template|typename|typedef|using|namespace|"
    r"if|else|for|while|do|switch|case|default|break|continue|return|goto|new|delete|this|"
    r"operator|public|private|protected|friend|virtual|inline|extern|register|volatile|mutable|"
    r"explicit|export|try|catch|throw|true|false|sizeof|asm|and|or|not|xor|compl|bitand|bitor|"
    r"(?:and|or|not|xor)_eq|w?char(?:8|16|32)?_t|constexpr|decltype|nullptr|noexcept|static_assert|"
    r"alignas|alignof|thread_local|(?:data|res|x|y)_T|CONFIG_T|DUMMY|" + "|".join(_ROLES)
)
_TYPE_NAME, _CONFIG_NAME = rf"{NAME}_(?:t|index|prec)", r"(?:[A-Za-z]\w*_)?config\d+(?:_mult)?"
_TABLE_NAME = r"[a-z]\d+"
_VALUES = {  # constants of configurations, by their types
    "unsigned": rf"{INTEGER}|nnet::(?:latency|resource|distributed_arithmetic|io_\w+)",
    "bool": "true|false",
    "int": rf"-?{INTEGER}",
    "nnet::Pool_Op": "nnet::(?:Max|Average)",
    "nnet::conv_implementation": "nnet::conv_implementation::linebuffer",
}
_ELEMENT = rf"(?:{NAME}|typename {NAME}::value_type)"
_KERNEL = "class data_T, class res_T, class CONFIG_T"
_SCALE = "unsigned K, unsigned S, unsigned W"
_TEMPLATES = {  # parameters of the templates that a configuration chooses
    **{"kernel": _KERNEL, "conv_kernel": _KERNEL, "product": "class x_T, class y_T"},
    **{"fill_buffer": "class data_T, class CONFIG_T", "scale_index": _SCALE},
    **{"scale_index_height": _SCALE, "scale_index_width": _SCALE},
}


@dataclass(frozen=True)
class Array:
    """An array or stream that a call reads or writes."""

    name: str
    type: FixedPoint
    declared: str  # the name of its C++ type
    size: int | None  # None: a stream at a port, which does not say
    pack: int | None  # None: an array


@dataclass(frozen=True)
class Call:
    """One statement of the top function: `nnet::dense<a_t, b_t, config3>(a, b, w3, b3);`."""

    space: str  # `nnet::`, or nothing for code that was generated with the project
    function: str
    template: tuple[str, ...]
    arguments: tuple[str, ...]

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
    constants: dict[str, int | str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)


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
    style: str = ""  # of the top function: PIPELINE or DATAFLOW
    types: dict[str, tuple[FixedPoint, int | None]] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    generated: Generated = field(default_factory=Generated)
    read: set[str] = field(default_factory=set)  # files, relative to `firmware/`
    names: set[str] = field(default_factory=set)

    @property
    def streams(self) -> bool:
        """True if its ports are streams."""
        return self.arrays[self.ports[0]].pack is not None

    def named(self, name: str, lines: Lines) -> str:
        """A name that is defined in the line that was taken last, and nowhere else."""
        if name in self.names or re.fullmatch(_TAKEN, name):
            raise lines.last
        self.names.add(name)
        return name


def read_program(
    files: Mapping[str, bytes], top: str, namespace: str, headers: set[str]
) -> Program:
    """Read the files of a project, by path; what l1kd does not generate is `Unreadable`.

    `headers` are those of the library that it may include.
    """
    program = Program(top, namespace)

    def opened(name: str, *includes: str) -> Lines:
        """A file after its guard and includes, which are always the same."""
        lines = Lines(files, name)
        program.read.add(name)
        if name != f"{top}.cpp":
            guard = f"{namespace}_{PurePath(name).stem.upper()}_H_"
            lines.expect(f"#ifndef {guard}", f"#define {guard}")
        lines.expect(*(f'#include "{each}"' for each in includes))
        return lines

    def closed(lines: Lines) -> None:
        lines.expect("#endif")
        lines.end()

    library = opened("library.h")
    library.expect(*(f"#include <{name}>" for name in STANDARD))
    library.expect(*(f'#include "{name}"' for name in SHARED))
    included = ""
    while found := library.find(r'#include "(nnet_utils/\w+\.h)"'):
        if not included < found[1] or found[1] not in headers - set(SHARED):
            raise library.last
        included = found[1]
    closed(library)
    defines = opened("defines.h", "library.h")
    _types(program, defines)
    closed(defines)
    generated = opened(GENERATED)
    program.generated = read_generated(generated, lambda name: program.named(name, generated))
    closed(generated)
    parameters = opened("parameters.h", "defines.h", GENERATED)
    while found := parameters.find(rf'#include "(weights/({NAME})\.h)"'):
        if found[1] in program.read:
            raise parameters.last
        weights = opened(found[1])
        _weights(program, weights)
        closed(weights)
    while found := parameters.find(rf"struct ({_CONFIG_NAME})(?: : (nnet::{NAME}))? {{"):
        _config(program, parameters, found[1], found[2] or "")
    closed(parameters)
    source = opened(f"{top}.cpp", f"{top}.h", "parameters.h", "ports.h")
    signature = _top(program, source)
    source.end()
    header = opened(f"{top}.h", "defines.h")
    header.expect(f"{signature};")
    closed(header)
    return program


def _types(program: Program, lines: Lines) -> None:
    form = rf"typedef (?:({TYPE})|nnet::array<({TYPE}), ({INTEGER})>) ({_TYPE_NAME});"
    while found := lines.find(form):
        kind = FixedPoint.parse(found[1] or found[2])
        pack = int(found[3]) if found[3] else None
        program.types[program.named(found[4], lines)] = kind, pack


def _weights(program: Program, lines: Lines) -> None:
    form = rf"({NAME}) ({_TABLE_NAME})\[({INTEGER})\] = {{({DECIMAL}(?:, {DECIMAL})*)}};"
    found = lines.take(form)
    kind, pack = program.types.get(found[1], (None, None))
    values = [float(text) for text in found[4].split(", ")]
    if kind is None or pack is not None or len(values) != int(found[3]):
        raise lines.last
    program.weights[program.named(found[2], lines)] = Weights(kind.quantize(values), kind)


def _config(program: Program, lines: Lines, name: str, base: str) -> None:
    config = Config(program.named(name, lines), base)
    outside: list[str] = []  # forms of the definitions behind the struct
    while not lines.find("};"):
        target: dict[str, str] | dict[str, int | str]
        value: int | str
        if found := lines.find(rf"    static const ([\w:]+) ({NAME}) = ([-\w:]+);"):
            target, key, value = config.constants, found[2], found[3]
            if not re.fullmatch(_VALUES.get(found[1], "-"), value):
                raise lines.last
            value = int(value) if value.lstrip("-").isdigit() else value
        elif found := lines.find(rf"    typedef ({NAME}) ({'|'.join(_ROLES)});"):
            target, key, value = config.types, found[2], found[1]
            if value not in (program.configs if key == "mult_config" else program.types):
                raise lines.last
        elif found := lines.find(r"    template<(.+)> using (\w+) = ((?:nnet::)?[\w:]+)<(.+)>;"):
            target, key, value = config.templates, found[2], found[3]
            given = _TEMPLATES.get(key, "")
            if found[1] != given or found[4] != re.sub(r"\w+ (\w+)", r"\1", given):
                raise lines.last
        elif found := lines.find(
            rf"    constexpr static auto (dense_da) = ({NAME})<{_ELEMENT}, {_ELEMENT}>;"
        ):
            target, key, value = config.templates, found[1], found[2]
        elif found := lines.find(rf"    static const ({NAME}) (slope|shift);"):
            target, key, value = config.types, f"{found[2]}_t", found[1]
            outside.append(rf"const {found[1]} {name}::({found[2]}) = ({DECIMAL});")
        else:
            found = lines.take(rf"    static const (ap_uint<{INTEGER}>) (pixels)\[({INTEGER})\];")
            target, key, value = config.types, "pixels", found[1]
            outside.append(rf"const {found[1]} {name}::(pixels)\[{found[3]}\] = {{(0)}};")
        if key in target:
            raise lines.last
        target[key] = value  # type: ignore[assignment]
    for form in outside:
        found = lines.take(form)
        config.constants[found[1]] = found[2]
    program.configs[name] = config


def _top(program: Program, lines: Lines) -> str:
    """Read the top function; returns its signature."""
    begin = lines.take(rf"(void {program.top}\((.+)\)) {{")
    for argument in begin[2].split(", "):
        stream, array = rf"hls::stream<({NAME})> &({NAME})", rf"({NAME}) ({NAME})\[({INTEGER})\]"
        if not (found := re.fullmatch(f"{stream}|{array}", argument, re.ASCII)):
            raise lines.last
        groups = [group for group in found.groups() if group]
        program.ports.append(_declare(program, lines, *groups))
    source, *results = program.ports
    if not results:
        raise lines.last
    joined = ",".join(program.ports)
    if program.streams:
        lines.expect(f"    #pragma HLS INTERFACE axis port={joined}")
    else:
        lines.expect(f"    #pragma HLS ARRAY_RESHAPE variable={source} complete dim=0")
        lines.expect(*(_partition(name) for name in results))
        lines.expect(f"    #pragma HLS INTERFACE ap_vld port={joined}")
    program.style = lines.take("    #pragma HLS (PIPELINE|DATAFLOW)")[1]
    call = rf"    (nnet::|)({NAME})<([\w, ]+)>\(([\w, ]+)\);"
    while not lines.find("}"):
        if found := lines.find(rf"    hls::stream<({NAME})> ({NAME});"):
            after = lines.take(rf"    #pragma HLS STREAM variable={found[2]} depth=({INTEGER})")
            _declare(program, lines, found[1], found[2], after[1], stream=True)
        elif found := lines.find(rf"    ({NAME}) ({NAME})\[({INTEGER})\];"):
            _declare(program, lines, found[1], found[2], found[3])
            lines.expect(_partition(found[2]))
        else:
            found = lines.take(call)
            template, arguments = (tuple(found[each].split(", ")) for each in (3, 4))
            program.calls.append(Call(found[1], found[2], template, arguments))
    return begin[1]


def _partition(name: str) -> str:
    return f"    #pragma HLS ARRAY_PARTITION variable={name} complete dim=0"


def _declare(
    program: Program, lines: Lines, kind: str, name: str, size: str = "", *, stream: bool = False
) -> str:
    """Note an array of a size, or a stream (of a depth; none at a port)."""
    held, pack = program.types.get(kind, (None, None))
    if held is None or (stream or not size) != (pack is not None):
        raise lines.last
    count = int(size) * (pack or 1) if size else None
    program.arrays[name] = Array(program.named(name, lines), held, kind, count, pack)
    return name
