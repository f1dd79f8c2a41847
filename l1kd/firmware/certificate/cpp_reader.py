"""Reads a written HLS project back from its C++: types, configurations, weights, adders, calls.

A strict reader of the canonical form (`hls.canonical_cpp`): every line has to be of a form that
leaves one reading to every compiler. No comment, condition, macro, backslash or string is in any
form, integers are decimal and below 2^31. A line of no form is `Unreadable`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls.canonical_cpp import GENERATED, SHARED, STANDARD

INTEGER = r"(?:0|[1-9]\d{0,8})"
DECIMAL = r"-?(?:0|[1-9]\d{0,17})\.\d{1,60}"
NAME = r"[A-Za-z]\w*"
_MODES = (
    r"AP_(?:RND|RND_ZERO|RND_MIN_INF|RND_INF|RND_CONV|TRN|TRN_ZERO),"
    r"AP_(?:SAT|SAT_ZERO|SAT_SYM|WRAP)(?:,0)?"
)
TYPE = rf"ap_u?(?:int<[1-9]\d{{0,3}}>|fixed<[1-9]\d{{0,3}},-?{INTEGER}(?:,{_MODES})?>)"
# What a project may not call its own: words of C++ and of the library, and members of
# configurations, in whose scope names of types are looked up.
_ROLES = "accum_t|bias_t|index_t|mult_config|param_t|slope_t|table_t|weight_t"
_LISTS = "from_shape|to_shape|perm|perm_strides"  # of a transposition
TAKEN = re.compile(
    r"ap_\w*|nnet|hls|std|main|[A-Z]|void|auto|bool|char|int|long|short|signed|unsigned|"
    r"float|double|const|static|struct|class|union|enum|template|typename|typedef|using|namespace|"
    r"if|else|for|while|do|switch|case|default|break|continue|return|goto|new|delete|this|"
    r"operator|public|private|protected|friend|virtual|inline|extern|register|volatile|mutable|"
    r"explicit|export|try|catch|throw|true|false|sizeof|asm|and|or|not|xor|compl|bitand|bitor|"
    r"(?:and|or|not|xor)_eq|w?char(?:8|16|32)?_t|constexpr|decltype|nullptr|noexcept|static_assert|"
    r"alignas|alignof|typeid|typename|thread_local|(?:data|res|x|y)_T|CONFIG_T|DUMMY|" + _ROLES
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


class Unreadable(Exception):  # noqa: N818 - the project is at fault, not the program
    """A file of a project is not of the form that is generated: which, where, and its text."""


class Lines:
    """The lines of a file, to be taken one after the other; empty ones are left out."""

    def __init__(self, files: Mapping[str, bytes], name: str) -> None:
        self.file = name
        try:
            *rows, last = files[f"firmware/{name}"].decode("ascii").split("\n")
        except KeyError:
            raise Unreadable(f"{name} is missing") from None
        except UnicodeDecodeError as error:
            raise Unreadable(f"{name}: byte {error.start} is not ASCII") from error
        self._rows = [(number, row) for number, row in enumerate(rows, 1) if row]
        self._rows.append((len(rows) + 1, last))
        self._next = 0

    def find(self, form: str) -> re.Match[str] | None:
        """Take the next line, if it is of a form as a whole."""
        found = re.compile(form, re.ASCII).fullmatch(self._rows[self._next][1])
        self._next += found is not None
        return found

    def take(self, form: str) -> re.Match[str]:
        """Take the next line, which has to be of a form."""
        if (found := self.find(form)) is None:
            raise self._error(self._next)
        return found

    def expect(self, *texts: str) -> None:
        """Take lines that have to be these."""
        for text in texts:
            self.take(re.escape(text))

    def end(self) -> None:
        """Demand that nothing is left, and that the last line ended."""
        self.take("")

    @property
    def last(self) -> Unreadable:
        """An error about the line that was taken last."""
        return self._error(self._next - 1)

    def _error(self, place: int) -> Unreadable:
        number, text = self._rows[place]
        reason = "is not in the C++ subset that l1kd generates"
        return Unreadable(f"{self.file}:{number}: {text[:120]!r} {reason}")


# `nnet_code_gen.h`: inputs of convolution windows, and matrices as additions and shifts
# (`strategy: distributed_arithmetic`).
_DATA = "data_T data[CONFIG_T::in_height * CONFIG_T::in_width * CONFIG_T::n_chan]"
_CELLS = "[CONFIG_T::n_pixels][CONFIG_T::filt_height * CONFIG_T::filt_width * CONFIG_T::n_chan]"
_TEMPLATE = "template<typename inp_t, typename out_t"
_BUFFER = (
    r"template<class data_T, typename CONFIG_T> class (fill_buffer_\d+) : public "
    r"nnet::FillConv([12])DBuffer<data_T, CONFIG_T> {"
)
_ADDERS = (
    rf"{_TEMPLATE}> void (dense_da_\d+)\(inp_t model_inp\[({INTEGER})\], "
    rf"out_t model_out\[({INTEGER})\]\) {{"
)
_WRAPPER = rf"{_TEMPLATE}, typename DUMMY> struct dense_da_wrapper_(\d+) {{"
_VARIABLE = rf"v{INTEGER}"
_NUMBER = rf"{DECIMAL}|-?[1-9](?:\.\d{{1,30}})?e-\d{{2}}"


def _operand(side: str) -> str:
    return (
        rf"(?:(?P<{side}v>{_VARIABLE})|nnet::bit_shift<(?P<{side}s>-?{INTEGER})>"
        rf"\((?P<{side}w>{_VARIABLE})\)|(?P<{side}t>{TYPE})\((?P<{side}c>{_NUMBER})\))"
    )


_VALUE = rf"    (?P<type>{TYPE}) (?P<name>{_VARIABLE}) = "
_INPUT = rf"{_VALUE}model_inp\[(?P<place>{INTEGER})\];"
_SUM = (
    rf"{_VALUE}(?:(?P<minus>-?){_operand('a')}(?: (?P<sign>[-+]) {_operand('b')})?|"
    rf"(?P<plain>{_NUMBER}));"
)
_OUTPUT = (
    rf"    model_out\[(?P<place>{INTEGER})\] = "
    rf"(?:(?P<type>{TYPE})\((?P<minus>-?){_operand('a')}\)|(?P<zero>0));"
)

Counts = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """A number as an affine form of the inputs' counts, in units of 2^-fraction."""

    coefficients: Counts  # Python integers; the last one is the constant
    fraction: int

    def __add__(self, other: Form) -> Form:
        fraction = max(self.fraction, other.fraction)
        ours, theirs = (
            each.coefficients * (1 << (fraction - each.fraction)) for each in (self, other)
        )
        return Form(ours + theirs, fraction)

    def __neg__(self) -> Form:
        return Form(-self.coefficients, self.fraction)

    def reduced(self) -> Form:
        """The same with as few fraction bits as it needs."""
        present = int(np.bitwise_or.reduce(abs(self.coefficients)))
        if not present:
            return Form(self.coefficients, 0)
        spare = (present & -present).bit_length() - 1
        return Form(self.coefficients // (1 << spare), self.fraction - spare)

    def held_by(self, kind: FixedPoint, low: Counts, high: Counts) -> bool:
        """True if a type holds the form for all inputs between two ends, exactly."""
        form = self.reduced()
        up, down = np.maximum(form.coefficients, 0), np.minimum(form.coefficients, 0)
        lowest = int((up[:-1] * low + down[:-1] * high).sum() + form.coefficients[-1])
        highest = int((up[:-1] * high + down[:-1] * low).sum() + form.coefficients[-1])
        return kind.carries(lowest, highest, form.fraction)


@dataclass(frozen=True)
class Adders:
    """A matrix as straight-line code."""

    name: str
    inputs: int  # how many
    outputs: int
    lines: tuple[tuple[Unreadable, re.Match[str]], ...]  # and the error that one of them is

    def forms(self, fraction: int, low: Counts, high: Counts) -> list[Form]:
        """The outputs, for inputs (counts of 2^-fraction) between `low` and `high`, (inputs,)."""
        known: dict[str, Form] = {}
        found: dict[int, Form] = {}
        for error, given in self.lines:
            groups = given.groupdict()
            target: Any = groups.get("name") or int(groups["place"])
            held: dict[Any, Form] = known if "name" in groups else found
            if target in held:
                raise error
            if groups.get("zero") or groups.get("plain"):
                form = self._constant(groups.get("plain") or "0", groups["type"] or "ap_uint<1>")
            elif "minus" not in groups:
                form = Form(np.zeros(self.inputs + 1, object), fraction)
                form.coefficients[range(self.inputs)[int(groups["place"])]] = 1
            else:
                form = self._operand(given, "a", known)
                form = -form if groups["minus"] else form
                if groups.get("sign"):
                    other = self._operand(given, "b", known)
                    form = form + (other if groups["sign"] == "+" else -other)
            kind = groups["type"]
            if kind and not form.held_by(FixedPoint.parse(kind), low, high):
                raise ValueError(f"`{given[0].strip()}` does not hold its value for every input")
            held[target] = form
        if sorted(found) != list(range(self.outputs)):
            raise ValueError(f"{self.name} does not set its {self.outputs} outputs")
        return [found[place] for place in range(self.outputs)]

    def _operand(self, found: re.Match[str], side: str, known: Mapping[str, Form]) -> Form:
        if name := found[f"{side}v"]:
            return known[name]
        if name := found[f"{side}w"]:
            return Form(known[name].coefficients, known[name].fraction - int(found[f"{side}s"]))
        return self._constant(found[f"{side}c"], found[f"{side}t"])

    def _constant(self, text: str, kind: str) -> Form:
        value = float(text)
        if not FixedPoint.parse(kind).holds(value):
            raise ValueError(f"{kind} does not hold {text}")
        numerator, denominator = value.as_integer_ratio()
        kept = np.zeros(self.inputs + 1, object)
        kept[-1] = numerator
        return Form(kept, denominator.bit_length() - 1)


def _partitions(lines: Lines, rank: int) -> Iterator[NDArray[np.int64]]:
    """The windows of every partition of a `fill_buffer`, (windows, cells)."""
    width = rank == 1
    data = _DATA.replace("in_height * CONFIG_T::", "") if width else _DATA
    cells = _CELLS.replace("filt_height * CONFIG_T::", "") if width else _CELLS
    head = f"fill_buffer({data}, data_T buffer{cells}, const unsigned partition) {{"
    lines.expect("    public:", f"    static void {head}")
    number = 0
    while not lines.find("    }"):
        lines.expect(f"        if (partition == {number}) {{")
        rows: list[list[int]] = []
        while not lines.find("        }"):
            cell = lines.take(
                rf"            buffer\[({INTEGER})\]\[({INTEGER})\] = (?:data\[({INTEGER})\]|0);"
            )
            rows += [[]] if int(cell[1]) == len(rows) else []
            if int(cell[1]) != len(rows) - 1 or int(cell[2]) != len(rows[-1]):
                raise lines.last  # cells are set once, in their order
            rows[-1].append(int(cell[3]) if cell[3] else -1)
        if len({len(row) for row in rows}) != 1:
            raise lines.last
        yield np.array(rows, np.int64)
        number += 1
    lines.expect("};")


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
    # The cells that every window of a convolution sees, partition by partition: (windows, cells)
    # each, flat indices of the input, -1 for a zero.
    buffers: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)  # of the convolutions
    adders: dict[str, Adders] = field(default_factory=dict)
    wrappers: dict[str, str] = field(default_factory=dict)  # code of adders by its wrapper
    read: set[str] = field(default_factory=set)  # files, relative to `firmware/`
    names: set[str] = field(default_factory=set)

    @property
    def streams(self) -> bool:
        """True if its ports are streams."""
        return self.arrays[self.ports[0]].pack is not None

    def named(self, name: str, lines: Lines) -> str:
        """A name that is defined in the line that was taken last, and nowhere else."""
        if name in self.names or TAKEN.fullmatch(name):
            raise lines.last
        self.names.add(name)
        return name


def read_program(
    files: Mapping[str, bytes], top: str, namespace: str, library: Container[str]
) -> Program:
    """Read the files of a project, by path; of hls4ml it may include those of `library`."""
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

    shared = opened("library.h")
    shared.expect(*(f"#include <{name}>" for name in STANDARD))
    shared.expect(*(f'#include "{name}"' for name in SHARED))
    included = ""
    while found := shared.find(r'#include "(nnet_utils/\w+\.h)"'):
        if not included < found[1] or found[1] in SHARED or f"firmware/{found[1]}" not in library:
            raise shared.last
        included = found[1]
    closed(shared)
    defines = opened("defines.h", "library.h")
    form = rf"typedef (?:({TYPE})|nnet::array<({TYPE}), ({INTEGER})>) ({_TYPE_NAME});"
    while found := defines.find(form):
        kind, pack = FixedPoint.parse(found[1] or found[2]), int(found[3]) if found[3] else None
        program.types[program.named(found[4], defines)] = kind, pack
    closed(defines)
    generated = opened(GENERATED)
    _generated(program, generated)
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


def _generated(program: Program, lines: Lines) -> None:
    """Read the definitions of `nnet_code_gen.h`."""
    while True:
        if given := lines.find(_BUFFER):
            name, rank = program.named(given[1], lines), int(given[2])
            program.ranks[name], program.buffers[name] = rank, list(_partitions(lines, rank))
        elif given := lines.find(_ADDERS):
            name, inputs, outputs = program.named(given[1], lines), int(given[2]), int(given[3])
            lines.expect("    #pragma HLS INLINE")
            rows = []
            while not lines.find("}"):
                row = lines.find(_INPUT) or lines.find(_SUM) or lines.take(_OUTPUT)
                rows.append((lines.last, row))
            program.adders[name] = Adders(name, inputs, outputs, tuple(rows))
        elif given := lines.find(_WRAPPER):
            name = program.named(f"dense_da_wrapper_{given[1]}", lines)
            program.wrappers[name] = f"dense_da_{given[1]}"
            adders = program.adders.get(program.wrappers[name])
            sizes = (adders.inputs, adders.outputs) if adders else (0, 0)
            lines.expect(
                f"    static void dense(inp_t inp[{sizes[0]}], out_t out[{sizes[1]}], "
                "void *weights=nullptr, void *biases=nullptr) {",
                f"        dense_da_{given[1]}(inp, out);",
                "    }",
                "};",
            )
        else:
            return


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
    arrays: list[str] = []  # forms of the definitions behind the struct
    outside: list[str] = []
    while not lines.find("};"):
        target: dict[str, str] | dict[str, int | str]
        value: int | str
        if found := lines.find(rf"    static const ([\w:]+) ({NAME}) = ([-\w:]+);"):
            target, key, value = config.constants, found[2], found[3]
            if not re.fullmatch(_VALUES.get(found[1], "-"), value):
                raise lines.last
            value = int(value) if value.lstrip("-").isdigit() else value
        elif found := lines.find(rf"    typedef ({NAME}) ({_ROLES});"):
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
        elif found := lines.find(rf"    static const (unsigned)\* const ({_LISTS});"):
            target, key, value = config.types, found[2], found[1]
            program.named(f"{name}_{key}", lines)
            values = rf"{{({INTEGER}(?:, {INTEGER})*)}}"
            arrays.append(rf"unsigned {name}_({key})\[{INTEGER}\] = {values};")
            outside.append(rf"const unsigned\* const {name}::({key}) = ({name}_{key});")
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
    for form in (*arrays, *outside):
        found = lines.take(form)
        config.constants.setdefault(found[1], found[2])
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
    leaky = rf"    (nnet::)(leaky_relu)<([\w, ]+)>\(({NAME}, (?:{_NUMBER}), {NAME})\);"
    while not lines.find("}"):
        if found := lines.find(rf"    hls::stream<({NAME})> ({NAME});"):
            after = lines.take(rf"    #pragma HLS STREAM variable={found[2]} depth=({INTEGER})")
            _declare(program, lines, found[1], found[2], after[1], stream=True)
        elif found := lines.find(rf"    ({NAME}) ({NAME})\[({INTEGER})\];"):
            _declare(program, lines, found[1], found[2], found[3])
            lines.expect(_partition(found[2]))
        else:
            found = lines.find(leaky) or lines.take(call)
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
