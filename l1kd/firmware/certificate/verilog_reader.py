"""Reads the Verilog that alkaid and we write, line by line: anything else is `Unreadable`.

Every wire holds the lowest bits of a number, and the reader gives a design's outputs as values of
a `Space`: widths, signs and shifts are those of the text. That the modules of `src/static/`, pinned
by their hashes, compute what is said of them here, tests show on all small widths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.symbolic import Space, Value
from l1kd.firmware.verilog.project import core_text, wrapper_text

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
_HEAD = """`timescale 1 ns / 1 ps

module {name} (
    input [{inputs}:0] model_inp,
    output [{outputs}:0] model_out
);

    // verilator lint_off UNUSEDSIGNAL
    // Explicit quantization operation will drop bits if exists

"""
_MIDDLE = "\n\n    // verilator lint_on UNUSEDSIGNAL\n\n"
_INDENT = "    "
_LARGEST = 4096  # of a width or a shift


class Wire(NamedTuple):
    """A vector of bits: the lowest ones of a value."""

    value: Value
    width: int


Pieces = Mapping[tuple[int, int], Wire]  # of a port, by lowest bit and width


@dataclass
class _Module:
    """The wires of a module while it is read, as far as lines to come read them."""

    space: Space
    inputs: Pieces
    wires: dict[str, Wire] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)

    def whole(self, name: str, width: int) -> Wire:
        """A wire with all its bits."""
        if (wire := self.wires.get(name)) is None or wire.width != width:
            raise Unreadable(f"{name} has no {width} bits here")
        return wire

    def number(self, name: str, width: int, signed: int) -> Value:
        """The number that a wire is, with or without a sign; also of `1'b0`, a constant."""
        if constant := re.fullmatch(r"(\d+)'b([01]+)", name):
            if (int(constant[1]), len(constant[2])) != (width, width):
                raise Unreadable(f"{name} has not {width} bits")
            return self.space.wrapped(int(constant[2], 2), width, bool(signed))
        return self.space.wrapped(*self.whole(name, width), bool(signed))

    def bits(self, name: str, high: int, low: int) -> Value:
        """The value whose lowest bits are some bits of a wire."""
        if (wire := self.wires.get(name)) is None or not 0 <= low <= high < wire.width:
            raise Unreadable(f"{name} has no bits {high} to {low}")
        return self.space.shifted(wire.value, low)


# Modules of `src/static/`: parameters, then operands, to the value whose lowest bits come out.


def _need(width: int, inner: int) -> None:
    if not 0 < width <= inner:
        raise Unreadable(f"{width} of {inner} bits are read")


def _aligned(
    module: _Module,
    operands: list[str],
    widths: tuple[int, int],
    signs: tuple[int, int],
    right: int,
) -> tuple[int, Value, Value]:
    """Bits that hold both operands side by side, and the operands, the second shifted left."""
    factors = 1 << max(-right, 0), 1 << max(right, 0)
    needed = max(widths[0] + max(-right, 0), widths[1] + max(right, 0)) + (signs[0] != signs[1])
    one, other = (
        module.space.linear([(factor, module.number(name, width, sign))])
        for name, width, sign, factor in zip(operands, widths, signs, factors, strict=True)
    )
    return needed, one, other


def _shift_adder(module: _Module, given: list[int], operands: list[str]) -> Value:
    bw0, bw1, s0, s1, width, drop, shift, subtract = given
    needed, one, other = _aligned(module, operands, (bw0, bw1), (s0, s1), shift)
    _need(width + drop, needed + subtract + 1)
    factor = -1 if subtract else 1
    return module.space.shifted(module.space.linear([(1, one), (factor, other)]), drop)


def _ternary_adder(module: _Module, given: list[int], operands: list[str]) -> Value:
    pairs = []
    for place, name in enumerate(operands):
        width, signed, negated, left = given[4 * place : 4 * place + 4]
        factor = (-1 if negated else 1) << left
        pairs.append((factor, module.number(name, width, signed)))
    return module.space.shifted(module.space.linear(pairs), given[13])


def _binop(module: _Module, given: list[int], operands: list[str]) -> Value:
    bw0, bw1, s0, s1, width, shift, operation = given
    needed, one, other = _aligned(module, operands, (bw0, bw1), (s0, s1), shift)
    _need(width, needed)
    return module.space.bitwise(("and", "or", "xor")[operation], one, other)


def _mux(module: _Module, given: list[int], operands: list[str]) -> Value:
    bw0, bw1, s0, s1, width, shift = given
    needed, one, other = _aligned(module, operands[1:], (bw0, bw1), (s0, s1), shift)
    _need(width, needed)
    name, bit = operands[0].rstrip("]").split("[")
    key = module.space.wrapped(module.bits(name, int(bit), int(bit)), 1, False)
    return module.space.chosen(key, one, other)


def _negative(module: _Module, given: list[int], operands: list[str]) -> Value:
    return module.space.linear([(-1, module.number(operands[0], given[0], given[2]))])


def _multiplier(module: _Module, given: list[int], operands: list[str]) -> Value:
    bw0, bw1, s0, s1, width = given
    _need(width, bw0 + bw1)
    one, other = module.number(operands[0], bw0, s0), module.number(operands[1], bw1, s1)
    return module.space.product(one, other)


@dataclass(frozen=True)
class _Instance:
    """The form of a line that uses a module."""

    parameters: str  # w a width, s a sign or a switch, p from 0 on, o below 3, i any integer
    operands: str  # f `v1[4:0]` or a constant, n `v1`, k `v1[4]`
    compute: Callable[[_Module, list[int], list[str]], Value]
    spaced: str = ","  # between parameters, then between operands
    commas: str = ","

    def line(self, name: str) -> re.Pattern[str]:
        """The form of the text behind the declaration."""
        one = {"w": r"[1-9]\d*", "s": "[01]", "o": "[012]", "p": r"0|[1-9]\d*"}
        one["i"] = r"0|-?[1-9]\d*"
        named = {"f": r"v\d+\[\d+:0\]|\d+'b[01]+", "n": r"v\d+", "k": r"v\d+\[\d+\]"}
        given = self.spaced.join(f"({one[each]})" for each in self.parameters)
        ports = self.commas.join(f"({named[each]})" for each in self.operands)
        pattern = rf"{name} #\({given}\) op_(\d+) \({ports}{self.commas}(v\d+(?:\[\d+:0\])?)\);"
        return re.compile(pattern, re.ASCII)


_INSTANCES = {
    "shift_adder": _Instance("wwsswpis", "ff", _shift_adder),
    "ternary_adder": _Instance("wsspwsspwsspwp", "fff", _ternary_adder),
    "binop": _Instance("wwsswio", "nn", _binop, commas=", "),
    "mux": _Instance("wwsswi", "kff", _mux),
    "negative": _Instance("wws", "n", _negative, ", ", ", "),
    "multiplier": _Instance("wwssw", "ff", _multiplier),
}
_LINES = {name: each.line(name) for name, each in _INSTANCES.items()}
_OUTPUT = {"shift_adder": 4, "ternary_adder": 12, "binop": 4, "mux": 4, "negative": 1}
_DECLARED = re.compile(r"wire \[(\d+):0\] v(\d+); (?:assign v(\d+)\[(\d+):0\] = )?(.*;)", re.ASCII)


def _assigned(module: _Module, text: str, width: int) -> Value:
    """The value of the right side of an assignment of so many bits."""
    space = module.space
    if found := re.fullmatch(r"model_inp\[(\d+):(\d+)\];", text):
        high, low = map(int, found.groups())
        wire = module.inputs.get((low, width))
        if high - low + 1 != width or wire is None:
            raise Unreadable("nothing drives these bits as one")
        return wire.value
    if found := re.fullmatch(r"(v\d+)\[(\d+):(\d+)\];", text):
        high, low = int(found[2]), int(found[3])
        _need(width, high - low + 1)
        return module.bits(found[1], high, low)
    if found := re.fullmatch(r"(v\d+)\[(\d+):(\d+)\] & \{(\d+)\{~(v\d+)\[(\d+)\]\}\};", text):
        high, low, times, sign = (int(found[each]) for each in (2, 3, 4, 6))
        if found[1] != found[5] or (high - low + 1, times) != (width, width) or high > sign:
            raise Unreadable("no ReLU")
        positive = space.highest(module.number(found[1], sign + 1, 1), 0)
        return space.shifted(positive, low)
    if found := re.fullmatch(r"\{(\d+)\{(v\d+)\[(\d+)\]\}\};", text):
        _need(width, int(found[1]))
        return space.shifted(module.number(found[2], int(found[3]) + 1, 1), int(found[3]))
    extended = r"\{\{(\d+)\{(v\d+)\[(\d+)\]\}\}, (v\d+)\[(\d+):(\d+)\]\};"
    if found := re.fullmatch(extended, text):
        times, sign, high, low = (int(found[each]) for each in (1, 3, 5, 6))
        if found[2] != found[4] or sign != high or times + high - low + 1 != width:
            raise Unreadable("no extension of a sign")
        return space.shifted(module.number(found[2], sign + 1, 1), low)
    if found := re.fullmatch(r"'b([01]{1,31});", text):
        _need(len(found[1].lstrip("0")), width) if int(found[1], 2) else None
        return int(found[1], 2)
    if found := re.fullmatch(r"([~|&])(v\d+);", text):
        wire = module.wires.get(found[2])
        if wire is None or (found[1] == "~" and wire.width != width):
            raise Unreadable(f"{found[2]} is not a wire of {width} bits")
        bits = space.wrapped(wire.value, wire.width, False)
        if found[1] == "|":
            return space.any_bit(bits)
        inverted = space.linear([(-1, bits)], (1 << wire.width) - 1)
        if found[1] == "~":
            return inverted
        return space.linear([(-1, space.any_bit(inverted))], 1)
    raise Unreadable("not in the Verilog subset that l1kd writes")


def _instance(module: _Module, text: str, width: int, number: str) -> Value:
    name = text.partition(" ")[0]
    if (form := _LINES.get(name)) is None or (found := form.fullmatch(text)) is None:
        raise Unreadable("not in the Verilog subset that l1kd writes")
    one, count = _INSTANCES[name], len(_INSTANCES[name].parameters)
    given = [int(each) for each in found.groups()[:count]]
    label, *operands, result = found.groups()[count:]
    if max(map(abs, given)) > _LARGEST:
        raise Unreadable(f"a parameter above {_LARGEST}")
    if label != number or result != f"v{number}[{width - 1}:0]":
        raise Unreadable(f"v{number} has not {width} bits")
    if given[_OUTPUT.get(name, 4)] != width:
        raise Unreadable(f"{name} gives another number of bits than {width}")
    names = []
    for kind, each in zip(one.operands, operands, strict=True):
        names.append(each)
        if kind == "f" and each.startswith("v"):
            names[-1], _, end = each.partition("[")
            module.whole(names[-1], int(end.partition(":")[0]) + 1)
    if one.operands[0] == "k":
        key, _, bit = names[0].partition("[")
        module.whole(key, int(bit[:-1]) + 1)
    return one.compute(module, given, names)


def read_module(space: Space, file: str, text: str, name: str, inputs: Pieces) -> Pieces:
    """The pieces of a stage's output port; Unreadable with file and line if it is anything else."""
    match = re.match(
        r".*\n\nmodule \w+ \(\n    input \[(\d+):0\] .*\n    output \[(\d+):0\] ", text
    )
    ends = {"inputs": match[1], "outputs": match[2]} if match else {"inputs": "", "outputs": ""}
    head, tail = _HEAD.format(name=name, **ends), "\n\nendmodule\n"
    body, middle, last = text[len(head) : -len(tail)].partition(_MIDDLE)
    taken = sum(width for _, width in inputs)
    if text != head + body + middle + last + tail or not middle or ends["inputs"] != str(taken - 1):
        raise Unreadable(f"{file} is no module {name} of {taken} bits, or not as l1kd writes it")
    module = _Module(space, inputs)
    lines = body.split("\n")
    uses = {each: line for line, each_line in enumerate(lines) for each in _named(each_line)}
    uses |= dict.fromkeys(_named(last), len(lines))
    outputs: dict[tuple[int, int], Wire] = {}
    start, line, number = head.count("\n") + 1, 0, 0
    try:
        for line, written in enumerate(lines):
            space.place = f"{file}:{start + line}"
            number = line + start
            _declare(module, written)
            for each in _named(written):
                if uses[each] == line:
                    module.wires.pop(each, None)
        end = 0
        for line, written in enumerate(last.split("\n"), start + len(lines) + 3):
            number, space.place = line, f"{file}:{line}"
            found = re.fullmatch(
                r"    assign model_out\[(\d+):(\d+)\] = (v\d+)\[(\d+):0\];", written, re.ASCII
            )
            if not found:
                raise Unreadable("not in the Verilog subset that l1kd writes")
            high, low, top = (int(found[each]) for each in (1, 2, 4))
            wire = module.wires.get(found[3])
            if wire is None or low != end or high - low != top or top + 1 > wire.width:
                raise Unreadable("an output's bits are not those of a wire, one after the other")
            outputs[low, top + 1], end = Wire(wire.value, top + 1), high + 1
        if end != int(ends["outputs"]) + 1:
            raise Unreadable(f"only {end} bits of the output are driven")
    except Unreadable as error:
        raise Unreadable(f"{file}:{number}: {error}") from None
    return outputs


def _named(text: str) -> set[str]:
    return set(re.findall(r"\bv\d+", text, re.ASCII))


def _declare(module: _Module, written: str) -> None:
    """One line: a wire and its value."""
    found = _DECLARED.fullmatch(written.removeprefix(_INDENT))
    if not found or not written.startswith(_INDENT + "wire"):
        raise Unreadable("not in the Verilog subset that l1kd writes")
    width, name = int(found[1]) + 1, found[2]
    if width > _LARGEST or name in module.declared:
        raise Unreadable(f"v{name} is declared twice, or too wide")
    module.declared.add(name)
    if found[3] is None:
        value = _instance(module, found[5], width, name)
    elif (found[3], found[4]) == (name, found[1]):
        value = _assigned(module, found[5], width)
    else:
        raise Unreadable("not in the Verilog subset that l1kd writes")
    module.wires[f"v{name}"] = Wire(value, width)


_PORT = re.compile(
    r"    assign inner_inp\[\d+ \+: (\d+)\] = model_inp\[(\d+) \+: \d+\];"
    r"|    assign model_out\[(\d+) \+: (\d+)\] = inner_out\[\d+ \+: \d+\];"
    r"|    assign model_out\[(\d+) \+: \d+\] = \{\d+\{inner_out\[\d+\]\}\};",
    re.ASCII,
)


def read_design(
    space: Space,
    files: Mapping[str, bytes],
    top: str,
    inputs: list[Value],
    kinds: tuple[FixedPoint, FixedPoint],
    outputs: int,
) -> tuple[list[Value], int]:
    """Counts of every output (of `kinds[1]`) for counts of inputs (of `kinds[0]`), and the stages.

    Raises Unreadable, with file and line where they are known, or Unproved.
    """
    for name, known in MODULES.items():
        path = f"src/static/{name}.v"
        if sha256(files.get(path, b"")).hexdigest() != known:
            raise Unreadable(f"{path} is not the file that alkaid {ALKAID} ships")
    texts = {name: files[name].decode("ascii", "replace") for name in files if name[-2:] == ".v"}
    file, (port, result) = f"src/{top}.v", kinds
    # What the lines of the outer module can say: the module is what it is for these, or refused.
    sources, sinks = [(0, 0, 0)] * len(inputs), [(0, 0, 0)] * outputs
    for found in filter(None, map(_PORT.fullmatch, texts.get(file, "").split("\n"))):
        width, low, to, shown, extended = (int(each or -1) for each in found.groups())
        start, word = (low, port.word) if low >= 0 else (max(to, extended), result.word)
        place, below = divmod(start, word)
        if place >= len(sources if low >= 0 else sinks):
            break
        if low >= 0:
            sources[place] = 0, width - port.fraction + below, port.fraction - below
        elif to >= 0:
            sinks[place] = 0, shown - result.fraction + below, result.fraction - below
        else:
            sinks[place] = 1, sinks[place][1] - 1, sinks[place][2]
    if texts.get(file) != wrapper_text(top, sources, sinks, port, result):
        raise Unreadable(f"{file} is not of the form that l1kd writes")
    pieces: dict[tuple[int, int], Wire] = {}
    taken = 0
    space.place = file
    for value, (_, integer, fraction) in zip(inputs, sources, strict=True):
        if (width := integer + fraction) > 0:
            low = port.fraction - fraction
            if low < 0 or low + width > port.word:
                raise Unreadable(f"{file}: bits of the input port are not of one input")
            pieces[taken, width] = Wire(space.shifted(value, low), width)
            taken += width
    bits, stage = [taken], 0
    while f"src/{(name := f'{top}_logic{stage}')}.v" in texts:
        pieces = read_module(space, f"src/{name}.v", texts[f"src/{name}.v"], name, pieces)
        bits.append(sum(width for _, width in pieces))
        stage += 1
    if texts.get(f"src/{top}_core.v") != core_text(top, bits):
        raise Unreadable(f"src/{top}_core.v is not the pipeline of {stage} stages of their widths")
    values: list[Value] = []
    given = 0
    for sign, integer, fraction in sinks:
        width = sign + integer + fraction
        below = result.fraction - fraction
        if width and ((given, width) not in pieces or below < 0 or below + width > result.word):
            raise Unreadable(f"{file}: bits of the output port are not of one output")
        signed = bool(sign) or (result.signed and below + width == result.word)
        inner = space.wrapped(*pieces[given, width], signed) if width else 0
        shown = space.linear([(1 << below, inner)])
        values.append(space.wrapped(shown, result.word, result.signed))
        given += width
    return values, stage
