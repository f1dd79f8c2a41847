"""Reads the Verilog that alkaid and we write, line by line: anything else is `Unreadable`.

Every wire holds the lowest bits of a number, and the reader gives a design's outputs as values of
a `Space`: widths, signs and shifts are those of the text. That the modules of `src/static/`, pinned
by their hashes, compute what is said of them here, tests show on all small widths.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.shipped_files import first_difference
from l1kd.firmware.certificate.symbolic import Space, Unproved, Value
from l1kd.firmware.verilog.port_wrapper import Interface, Kif, core_text, wrapper_text

ALKAID = "0.8.2"
# SHA-256 of the modules that it ships, of which the argument is.
MODULES = {
    "binop": "a58e6e086cc0f6f9ae89ff02d9778d4e1f29b6f3468a7597c5ac509a5cc6d6b7",
    "multiplier": "31f811622ee360fa785bde0a2ca5a973630fbb60e0f420e24379498b34889484",
    "mux": "b9a8e687bc8a0a058b8002b49de00fe591bb96a7f64adf85078d44fdd4971abc",
    "negative": "3a2a667b6866327c2d441429e70b853744698a68c70596b283dd3dbcc87b4539",
    "shift_adder": "6eee071cb4fdba2187360c8c5ee4a0a008bf9fd38ef042a1aa8bfc0d0d13299a",
    "ternary_adder": "e96711250006f25f78d4dada3f56f74c1db52d756178e243342ad247160ddda9",
}
_FRAME = re.compile(
    r"`timescale 1 ns / 1 ps\n\nmodule (\w+) \(\n    input \[(-1|\d+):0\] model_inp,\n"
    r"    output \[(-1|\d+):0\] model_out\n\);\n\n    // verilator lint_off UNUSEDSIGNAL\n"
    r"    // Explicit quantization operation will drop bits if exists\n\n(.*)\n\n"
    r"    // verilator lint_on UNUSEDSIGNAL\n\n(.*)\n\nendmodule\n",
    re.ASCII | re.DOTALL,
)
_DECLARED = re.compile(r"    wire \[(\d+):0\] v(\d+); (assign v\2\[\1:0\] = )?(.*)", re.ASCII)
_DRIVEN = re.compile(r"    assign model_out\[(\d+):(\d+)\] = (v\d+)\[(\d+):0\];", re.ASCII)
_LARGEST = 4096  # of a width or a shift


class Wire(NamedTuple):
    """A vector of bits: the lowest ones of a value."""

    value: Value
    width: int


Pieces = Mapping[tuple[int, int], Wire]  # of a port, by lowest bit and width
_SUBSET = "not in the Verilog subset that l1kd writes"


@dataclass
class _Module:
    """The wires of a module while it is read, as far as lines to come read them."""

    space: Space
    inputs: Pieces
    prefix: str  # of the names of all modules
    wires: dict[str, Wire] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)

    def declare(self, line: str) -> None:
        """Read a line that declares and drives a wire."""
        if not (found := _DECLARED.fullmatch(line)) or (name := found[2]) in self.declared:
            raise Unreadable(_SUBSET)
        width = int(found[1]) + 1
        drives = _assigned(self, found[4], width) if found[3] else None
        value = _instance(self, found[4], width, name) if drives is None else drives
        self.declared.add(name)
        self.wires[f"v{name}"] = Wire(value, width)
        self.space.drives(found[4], value, width)

    def driven(self, line: str, start: int) -> tuple[int, Wire]:
        """Read a line that drives bits of the output, from `start` on: their number and wire."""
        if not (found := _DRIVEN.fullmatch(line)):
            raise Unreadable(_SUBSET)
        high, low, width = int(found[1]), int(found[2]), int(found[4]) + 1
        if low != start or high - low + 1 != width or width > self.wire(found[3]).width:
            raise Unreadable("not the bits of one wire behind those before")
        return width, Wire(self.wires[found[3]].value, width)

    def wire(self, name: str, width: int | None = None) -> Wire:
        """A wire, which has to have some width."""
        if (wire := self.wires.get(name)) is None or width not in (None, wire.width):
            raise Unreadable(f"{name} has no {width} bits here")
        return wire

    def number(self, name: str, width: int | None, signed: int) -> Value:
        """The number that `v1`, `v1[4:0]` or `2'b11` is, read with a sign or without."""
        if constant := re.fullmatch(r"(\d+)'b([01]+)", name):
            wire = Wire(int(constant[2], 2), int(constant[1]))
            if not int(constant[1]) == len(constant[2]) == width:
                raise Unreadable(f"{name} has not {width} bits")
        elif whole := re.fullmatch(r"(v\d+)(?:\[(\d+):0\])?", name):
            wire = self.wire(whole[1], width)
            if whole[2] and wire.width != int(whole[2]) + 1:
                raise Unreadable(f"{name} is not all of it")
        else:
            raise Unreadable(_SUBSET)
        return self.space.wrapped(*wire, bool(signed))

    def bits(self, name: str, high: int, low: int) -> Value:
        """The value whose lowest bits are some bits of a wire."""
        if not 0 <= low <= high < self.wire(name).width:
            raise Unreadable(f"{name} has no bits {high} to {low}")
        return self.space.shifted(self.wires[name].value, low)

    def aligned(
        self, operands: list[str], given: list[int], right: int
    ) -> tuple[int, Value, Value]:
        """Bits that hold both operands, and the operands, the second shifted left."""
        factors = 1 << max(-right, 0), 1 << max(right, 0)
        one, other = (
            self.space.linear([(factors[i], self.number(operands[i], given[i], given[2 + i]))])
            for i in (0, 1)
        )
        needed = max(given[0] + max(-right, 0), given[1] + max(right, 0))
        return needed + (given[2] != given[3]), one, other


# Modules of `src/static/`: parameters and operands to the value whose lowest bits come out.


def _need(width: int, inner: int) -> None:
    if not 0 < width <= inner:
        raise Unreadable(f"{width} of {inner} bits are read")


def _shift_adder(module: _Module, given: list[int], operands: list[str]) -> Value:
    _, _, _, _, width, drop, right, subtract = given
    needed, one, other = module.aligned(operands, given, right)
    _need(width + drop, needed + subtract + 1)
    sign = -1 if subtract else 1
    return module.space.shifted(module.space.linear([(1, one), (sign, other)]), drop)


def _ternary_adder(module: _Module, given: list[int], operands: list[str]) -> Value:
    terms = (given[4 * place : 4 * place + 4] for place in range(3))
    return module.space.shifted(
        module.space.linear(
            ((-1 if negated else 1) << left, module.number(name, width, signed))
            for name, (width, signed, negated, left) in zip(operands, terms, strict=True)
        ),
        given[13],
    )


def _binop(module: _Module, given: list[int], operands: list[str]) -> Value:
    needed, one, other = module.aligned(operands, given, given[5])
    _need(given[4], needed)
    return module.space.bitwise(("and", "or", "xor")[given[6]], one, other)


def _mux(module: _Module, given: list[int], operands: list[str]) -> Value:
    needed, one, other = module.aligned(operands[1:], given, given[5])
    _need(given[4], needed)
    name, _, bit = operands[0][:-1].partition("[")
    if operands[0] != f"{name}[{module.wire(name).width - 1}]":
        raise Unreadable(f"{operands[0]} is not the highest bit")
    key = module.space.wrapped(module.bits(name, int(bit), int(bit)), 1, False)
    return module.space.chosen(key, one, other)


def _negative(module: _Module, given: list[int], operands: list[str]) -> Value:
    return module.space.linear([(-1, module.number(operands[0], given[0], given[2]))])


def _multiplier(module: _Module, given: list[int], operands: list[str]) -> Value:
    _need(given[4], given[0] + given[1])
    numbers = (module.number(operands[i], given[i], given[2 + i]) for i in (0, 1))
    return module.space.product(*numbers)


# Per module: its parameters (w a width, s a switch, p from 0 on, o below 3, i any number), which of
# them is the output's width, its operands, and what it computes.
_INSTANCES: dict[str, tuple[str, int, int, Callable[[_Module, list[int], list[str]], Value]]] = {
    "shift_adder": ("wwsswpis", 4, 2, _shift_adder),
    "ternary_adder": ("wsspwsspwsspwp", 12, 3, _ternary_adder),
    "binop": ("wwsswio", 4, 2, _binop),
    "mux": ("wwsswi", 4, 3, _mux),
    "negative": ("wws", 1, 1, _negative),
    "multiplier": ("wwssw", 4, 2, _multiplier),
}
_LOWEST = {"w": 1, "s": 0, "p": 0, "o": 0, "i": -_LARGEST}
_HIGHEST = {"w": _LARGEST, "s": 1, "p": _LARGEST, "o": 2, "i": _LARGEST}


def _instance(module: _Module, text: str, width: int, number: str) -> Value:
    """The value of a wire that an instance drives: `negative #(1, 1, 0) op_4 (v3, v4[0:0]);`."""
    found = re.fullmatch(r"(\w+) #\(([-\d, ]+)\) op_(\d+) \(([\w\[\]:', ]+)\);", text, re.ASCII)
    prefix, kind, named = found[1].rpartition(f"{module.prefix}_") if found else ("", "", "")
    if not found or not kind or prefix or named not in _INSTANCES or found[3] != number:
        raise Unreadable(_SUBSET)
    kinds, output, count, compute = _INSTANCES[named]
    given, operands = re.split(", ?", found[2]), re.split(", ?", found[4])
    if not all(re.fullmatch("0|-?[1-9][0-9]{0,3}", each) for each in given):
        raise Unreadable(_SUBSET)
    values = [int(each) for each in given]
    if len(values) != len(kinds) or len(operands) != count + 1:
        raise Unreadable(_SUBSET)
    for kind, value in zip(kinds, values, strict=True):
        if not _LOWEST[kind] <= value <= _HIGHEST[kind]:
            raise Unreadable(f"a parameter of {value}")
    if operands[-1] != f"v{number}[{width - 1}:0]" or values[output] != width:
        raise Unreadable(f"v{number} has not {width} bits")
    return compute(module, values, operands[:-1])


def _assigned(module: _Module, text: str, width: int) -> Value:
    """The value of the right side of an assignment of so many bits."""
    space = module.space
    if found := re.fullmatch(r"(\w+)\[(\d+):(\d+)\];", text, re.ASCII):
        high, low = int(found[2]), int(found[3])
        if high - low + 1 != width:
            raise Unreadable(f"{high - low + 1} bits are read as {width}")
        if found[1] != "model_inp":
            return module.bits(found[1], high, low)
        if (wire := module.inputs.get((low, width))) is None:
            raise Unreadable("nothing drives these bits as one")
        return wire.value
    if found := re.fullmatch(r"(v\d+)\[(\d+):(\d+)\] & \{(\d+)\{~\1\[(\d+)\]\}\};", text, re.ASCII):
        high, low, times, sign = (int(each) for each in found.groups()[1:])
        if (high - low + 1, times) != (width, width) or high > sign:
            raise Unreadable("no ReLU")
        return space.shifted(space.highest(module.number(found[1], sign + 1, 1), 0), low)
    extended = r"\{(?:(\d+)|\{(\d+))\{(v\d+)\[(\d+)\]\}(?:\}, \3\[\4:(\d+)\])?\};"
    if found := re.fullmatch(extended, text, re.ASCII):  # of a sign: alone, or above other bits
        times, sign = int(found[1] or found[2]), int(found[4])
        low = int(found[5] or sign)
        above = 0 if found[1] else sign - low + 1
        if bool(found[2]) != bool(found[5]) or low > sign or times + above != width:
            raise Unreadable("no extension of a sign")
        return space.shifted(module.number(found[3], sign + 1, 1), low)
    if found := re.fullmatch(r"'b([01]{1,31});", text):
        _need(max(int(found[1], 2).bit_length(), 1), width)
        return int(found[1], 2)
    if found := re.fullmatch(r"([~|&])(v\d+);", text, re.ASCII):
        wire = module.wire(found[2], width if found[1] == "~" else None)
        bits = module.number(found[2], None, 0)
        inverted = space.linear([(-1, bits)], (1 << wire.width) - 1)
        if found[1] == "&":
            return space.linear([(-1, space.any_bit(inverted))], 1)
        return space.any_bit(bits) if found[1] == "|" else inverted
    raise Unreadable(_SUBSET)


def read_module(space: Space, file: str, text: str, top: str, stage: int, inputs: Pieces) -> Pieces:
    """The pieces of a stage's output port; Unreadable with file and line if it is anything else."""
    name = f"{top}_logic{stage}"
    frame, taken = _FRAME.fullmatch(text), sum(width for _, width in inputs)
    if not frame or (frame[1], int(frame[2]) + 1) != (name, taken):
        raise Unreadable(f"{file} is no module {name} of {taken} bits, or not as l1kd writes it")
    # Nothing is driven where every output is a constant.
    lines, last = ([] if text == "    " else text.split("\n") for text in frame.groups()[3:])
    named = [set(re.findall(r"\bv\d+", line, re.ASCII)) for line in (*lines, *last)]
    uses = {each: place for place, line in enumerate(named) for each in line}
    module, outputs, end = _Module(space, inputs, top), dict[tuple[int, int], Wire](), 0
    for place, line in enumerate((*lines, *last)):
        space.place = f"{file}:{place + (11 if place < len(lines) else 14)}"
        try:
            if place < len(lines):
                module.declare(line)
            else:
                width, wire = module.driven(line, end)
                outputs[end, width], end = wire, end + width
        except (Unreadable, Unproved) as error:
            space.near = [module.wires[each].value for each in named[place] & set(module.wires)]
            if found := re.search(r"model_inp\[\d+:(\d+)\]", line):
                space.near = [
                    each.value for (low, _), each in inputs.items() if low == int(found[1])
                ]
            raise type(error)(f"{space.place}: {error}") from None
        for each in named[place]:
            if uses[each] == place:
                module.wires.pop(each, None)
    if end != int(frame[3]) + 1:
        raise Unreadable(f"{file}: {end} bits of the output are driven")
    space.stage(inputs.values(), outputs.values())
    return outputs


_PORT = re.compile(
    r"    assign inner_inp\[\d+ \+: (\d+)\] = model_inp\[(\d+) \+: \d+\];"
    r"|    assign model_out\[(\d+) \+: (\d+)\] = inner_out\[\d+ \+: \d+\];"
    r"|    assign model_out\[(\d+) \+: \d+\] = \{\d+\{inner_out\[\d+\]\}\};",
    re.ASCII,
)


def _ports(text: str, outside: Interface) -> tuple[list[Kif], list[Kif]]:
    """The types of the core's inputs and outputs, of which the top module is exactly made."""
    kinds, file = (outside.port, outside.result), f"src/{outside.top}.v"
    sources, sinks = ([(0, 0, 0)] * size for size in (outside.inputs, outside.outputs))
    for found in filter(None, map(_PORT.fullmatch, text.split("\n"))):
        width, low, to, shown, extended = (-1 if n is None else int(n) for n in found.groups())
        kind, ends = (kinds[0], sources) if low >= 0 else (kinds[1], sinks)
        place, below = divmod(max(low, to, extended), kind.word)
        bits, fraction = (width if low >= 0 else shown), kind.fraction - below
        if place < len(ends):
            one = ends[place]
            ends[place] = (
                (1, one[1] - 1, one[2]) if extended >= 0 else (0, bits - fraction, fraction)
            )
    wanted = wrapper_text(outside, sources, sinks)
    if line := first_difference(text.encode(), wanted.encode()):
        stages = f"of a pipeline of {outside.latency} stages"
        raise Unreadable(f"{file}:{line} is not what l1kd writes around the ports {stages}")
    for kind, ends in zip(kinds, (sources, sinks), strict=True):
        for sign, integer, fraction in ends:
            below, width = kind.fraction - fraction, sign + integer + fraction
            if width and not 0 <= below <= kind.word - width:
                raise Unreadable(f"{file}: bits of a port are not of one value")
    return sources, sinks


def _check_modules(files: Mapping[str, bytes], top: str) -> None:
    """Refuse modules that are not alkaid's but for their names."""
    for name, known in MODULES.items():
        path, general = f"src/static/{top}_{name}.v", f"module {name} #(".encode()
        before, renamed, after = files.get(path, b"").partition(f"module {top}_{name} #(".encode())
        if not renamed or sha256(before + general + after).hexdigest() != known:
            raise Unreadable(f"{path} is not the file that alkaid {ALKAID} ships")


def read_design(
    space: Space, files: Mapping[str, bytes], inputs: list[Value], outside: Interface
) -> tuple[list[Value], int]:
    """Counts of every output for counts of inputs, and the stages, whose number is not given.

    Raises Unreadable, with file and line where they are known, or Unproved.
    """
    top, port, result = outside.top, outside.port, outside.result
    _check_modules(files, top)
    texts = {name: text.decode("ascii", "replace") for name, text in files.items()}
    names = (f"src/{top}_logic{stage}.v" for stage in itertools.count())
    stages = list(itertools.takewhile(texts.__contains__, names))
    space.place = f"src/{top}.v"
    sources, sinks = _ports(texts.get(space.place, ""), replace(outside, latency=len(stages)))
    pieces, taken = dict[tuple[int, int], Wire](), 0
    for value, (sign, integer, fraction) in zip(inputs, sources, strict=True):
        if width := sign + integer + fraction:
            pieces[taken, width] = Wire(space.shifted(value, port.fraction - fraction), width)
            taken += width
    bits = [taken]
    for stage, path in enumerate(stages):
        pieces = dict(read_module(space, path, texts[path], top, stage, pieces))
        bits.append(sum(width for _, width in pieces))
    if texts.get(path := f"src/{top}_core.v") != core_text(top, bits):
        raise Unreadable(f"{path} is not the pipeline of {len(stages)} stages of their widths")
    values, given = list[Value](), 0
    for sign, integer, fraction in sinks:
        width, below = sign + integer + fraction, result.fraction - fraction
        shown: Value = 0
        if width:
            if (given, width) not in pieces:
                raise Unreadable(f"src/{top}.v: nothing drives bits of the output as one")
            signed = bool(sign) or (result.signed and below + width == result.word)
            shown = space.linear([(1 << below, space.wrapped(*pieces[given, width], signed))])
        values.append(space.wrapped(shown, result.word, result.signed))
        given += width
    return values, len(stages)
