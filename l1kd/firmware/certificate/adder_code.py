"""Reads `nnet_code_gen.h`: the inputs of convolution windows, and matrices as additions and shifts
(`strategy: distributed_arithmetic`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.cpp_text import DECIMAL, INTEGER, TYPE, Lines, Unreadable

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
    """A number as an affine form of the inputs' counts, in units of 2^-fraction.

    The last coefficient is the constant; all are Python integers.
    """

    coefficients: Counts
    fraction: int

    def __add__(self, other: Form) -> Form:
        fraction = max(self.fraction, other.fraction)
        return Form(self._at(fraction) + other._at(fraction), fraction)

    def __neg__(self) -> Form:
        return Form(-self.coefficients, self.fraction)

    def shifted(self, left: int) -> Form:
        """Times 2^left."""
        return Form(self.coefficients, self.fraction - left)

    def _at(self, fraction: int) -> Counts:
        return self.coefficients * (1 << (fraction - self.fraction))

    def reduced(self) -> Form:
        """The same with as few fraction bits as it needs."""
        present = 0
        for each in self.coefficients:
            present |= abs(int(each))
        if not present:
            return Form(self.coefficients, 0)
        spare = (present & -present).bit_length() - 1
        return Form(self.coefficients // (1 << spare), self.fraction - spare)

    def held_by(self, kind: FixedPoint, low: Counts, high: Counts) -> bool:
        """True if a type holds the form for all inputs between two ends, exactly."""
        form = self.reduced()
        if form.fraction > kind.fraction:
            return False
        up, down = np.maximum(form.coefficients, 0), np.minimum(form.coefficients, 0)
        lowest = int((up[:-1] * low + down[:-1] * high).sum() + form.coefficients[-1])
        highest = int((up[:-1] * high + down[:-1] * low).sum() + form.coefficients[-1])
        scale = 1 << (kind.fraction - form.fraction)
        bottom, top = kind.bounds
        return bottom <= lowest * scale and highest * scale <= top


@dataclass(frozen=True)
class Adders:
    """A matrix as straight-line code."""

    name: str
    inputs: int  # how many
    outputs: int
    lines: tuple[tuple[Unreadable, re.Match[str]], ...]  # and the error that one of them is

    def forms(self, fraction: int, low: Counts, high: Counts) -> list[Form]:
        """The outputs, for inputs (counts of 2^-fraction) between `low` and `high`, (inputs,) each.

        A `ValueError` names a statement whose type does not hold its value for every input.
        """
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
            return known[name].shifted(int(found[f"{side}s"]))
        return self._constant(found[f"{side}c"], found[f"{side}t"])

    def _constant(self, text: str, kind: str) -> Form:
        value = float(text)
        if not FixedPoint.parse(kind).holds(value):
            raise ValueError(f"{kind} does not hold {text}")
        numerator, denominator = value.as_integer_ratio()
        kept = np.zeros(self.inputs + 1, object)
        kept[-1] = numerator
        return Form(kept, denominator.bit_length() - 1)


@dataclass
class Generated:
    """The definitions of a project's `nnet_code_gen.h`, by name."""

    # The cells that every window of a convolution sees, partition by partition: (windows, cells)
    # each, flat indices of the input, -1 for a zero.
    buffers: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)  # of the convolutions
    adders: dict[str, Adders] = field(default_factory=dict)
    wrappers: dict[str, str] = field(default_factory=dict)


def read_generated(lines: Lines, named: Callable[[str], str]) -> Generated:
    """Read the definitions of `nnet_code_gen.h`; `named` checks a name."""
    found = Generated()
    while True:
        if given := lines.find(_BUFFER):
            found.ranks[given[1]] = int(given[2])
            found.buffers[named(given[1])] = list(_partitions(lines, int(given[2])))
        elif given := lines.find(_ADDERS):
            name, inputs, outputs = named(given[1]), int(given[2]), int(given[3])
            lines.expect("    #pragma HLS INLINE")
            rows = []
            while not lines.find("}"):
                row = lines.find(_INPUT) or lines.find(_SUM) or lines.take(_OUTPUT)
                rows.append((lines.last, row))
            found.adders[name] = Adders(name, inputs, outputs, tuple(rows))
        elif given := lines.find(_WRAPPER):
            name = named(f"dense_da_wrapper_{given[1]}")
            found.wrappers[name] = f"dense_da_{given[1]}"
            adders = found.adders.get(found.wrappers[name])
            sizes = (adders.inputs, adders.outputs) if adders else (0, 0)
            lines.expect(
                f"    static void dense(inp_t inp[{sizes[0]}], out_t out[{sizes[1]}], "
                "void *weights=nullptr, void *biases=nullptr) {",
                f"        dense_da_{given[1]}(inp, out);",
                "    }",
                "};",
            )
        else:
            return found


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
