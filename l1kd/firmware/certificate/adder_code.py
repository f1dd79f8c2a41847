"""Reads `nnet_code_gen.h`: the inputs of convolution windows, and matrices as additions and shifts
(`strategy: distributed_arithmetic`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.cpp_text import Unreadable, clean, constant, words
from l1kd.firmware.certificate.header_hashes import Library

_FILE = "nnet_utils/nnet_code_gen.h"
_TYPE = r"ap_u?(?:fixed|int)<[-\w,]+>"
_BUFFER = re.compile(
    r"template<class data_T,typename CONFIG_T>class (?P<name>\w+):"
    r"public nnet::FillConv[12]DBuffer<data_T,CONFIG_T>"
    r"{public:static void fill_buffer\(data_T data\[[\w:*]+\],"
    r"data_T buffer\[[\w:*]+\]\[[\w:*]+\],const unsigned partition\)"
    r"{(?P<body>(?:if\(partition==\d+\){[^{}]*})+)}};"
)
_PARTITION = re.compile(r"if\(partition==(\d+)\){([^{}]*)}")
_CELL = re.compile(r"buffer\[(\d+)\]\[(\d+)\]=(?:data\[(\d+)\]|0);")
_ADDERS = re.compile(
    r"template<typename inp_t,typename out_t>void (?P<name>\w+)"
    r"\(inp_t model_inp\[(?P<inputs>\d+)\],out_t model_out\[(?P<outputs>\d+)\]\)"
    r"{(?P<body>[^{}]*)}"
)
_WRAPPER = re.compile(
    r"template<typename inp_t,typename out_t,typename DUMMY>struct (?P<name>dense_da_wrapper_\d+)"
    r"{static void dense\(inp_t inp\[\d+\],out_t out\[\d+\],void\*weights=nullptr,"
    r"void\*biases=nullptr\){(?P<inner>\w+)\(inp,out\);}};"
)
_DEFINITIONS = (_BUFFER, _ADDERS, _WRAPPER)


def _operand(side: str) -> str:
    return (
        rf"(?:(?P<{side}v>v\d+)|nnet::bit_shift<(?P<{side}s>-?\d+)>\((?P<{side}w>v\d+)\)|"
        rf"{_TYPE}\((?P<{side}c>-?[\d.e-]+)\))"
    )


_INPUT = re.compile(rf"(?P<type>{_TYPE})(?P<name>v\d+)=model_inp\[(?P<place>\d+)\]$")
_SUM = re.compile(
    rf"(?P<type>{_TYPE})(?P<name>v\d+)=(?P<minus>-?){_operand('a')}"
    rf"(?:(?P<sign>[-+]){_operand('b')})?$"
)
_OUTPUT = re.compile(
    rf"model_out\[(?P<place>\d+)\]="
    rf"(?:(?P<type>{_TYPE})\((?P<minus>-?){_operand('a')}\)|(?P<zero>0))$"
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
    lines: tuple[str, ...]  # statements

    def forms(self, fraction: int, low: Counts, high: Counts) -> list[Form]:
        """The outputs, for inputs (counts of 2^-fraction) between `low` and `high`, (inputs,) each.

        A `ValueError` names a statement whose type does not hold its value for every input.
        """
        known: dict[str, Form] = {}
        found: dict[int, Form] = {}
        for line in self.lines:
            given = _INPUT.match(line) or _SUM.match(line) or _OUTPUT.match(line)
            if given is None:
                raise Unreadable(_FILE, line)
            groups = given.groupdict()
            target: Any = groups.get("name") or int(groups["place"])
            held: dict[Any, Form] = known if "name" in groups else found
            if target in held:
                raise Unreadable(_FILE, line)
            if groups.get("zero"):
                form = Form(np.zeros(self.inputs + 1, object), 0)
            elif given.re is _INPUT:
                form = Form(np.zeros(self.inputs + 1, object), fraction)
                form.coefficients[int(groups["place"])] = 1
            else:
                form = self._operand(given, "a", known)
                form = -form if groups["minus"] else form
                if groups.get("sign"):
                    other = self._operand(given, "b", known)
                    form = form + (other if groups["sign"] == "+" else -other)
            kind = groups["type"]
            if kind and not form.held_by(FixedPoint.parse(kind), low, high):
                raise ValueError(f"`{line}` does not hold its value for every input")
            held[target] = form
        if sorted(found) != list(range(self.outputs)):
            raise Unreadable(_FILE, f"{self.name} does not set its {self.outputs} outputs")
        return [found[place] for place in range(self.outputs)]

    def _operand(self, found: re.Match[str], side: str, known: Mapping[str, Form]) -> Form:
        if name := found[f"{side}v"]:
            return known[name]
        if name := found[f"{side}w"]:
            return known[name].shifted(int(found[f"{side}s"]))
        value = constant(found[f"{side}c"])
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
    adders: dict[str, Adders] = field(default_factory=dict)
    wrappers: dict[str, str] = field(default_factory=dict)


def read_generated(text: str, library: Library, types: Mapping[str, Any]) -> Generated:
    """Read `nnet_code_gen.h`; anything else in it is `Unreadable`."""
    source = clean(_FILE, text)
    code = words(source.code)
    # Without its own namespace the file has hls4ml's.
    code = code.removeprefix("namespace nnet{")
    end = code.find("};") + 2
    if hashlib.sha256(code[:end].encode()).hexdigest() != library.frame:
        raise Unreadable(_FILE, code[:end])
    found, position = Generated(), end
    while rest := code[position:].strip():
        if rest == "}":
            break
        position = len(code) - len(code[position:].lstrip())
        given = next(filter(None, (each.match(code, position) for each in _DEFINITIONS)), None)
        if given is None:
            raise Unreadable(_FILE, rest)
        name, position = given["name"], given.end()
        if name in found.buffers or name in found.adders or name in found.wrappers:
            raise Unreadable(_FILE, f"{name} is defined twice")
        if given.re is _BUFFER:
            found.buffers[name] = _buffer(given["body"])
        elif given.re is _ADDERS:
            lines = tuple(filter(None, given["body"].split(";")))
            found.adders[name] = Adders(name, int(given["inputs"]), int(given["outputs"]), lines)
        elif given["inner"] in found.adders:
            found.wrappers[name] = given["inner"]
        else:
            raise Unreadable(_FILE, given[0])
    return found


def _buffer(body: str) -> list[NDArray[np.int64]]:
    windows: list[NDArray[np.int64]] = []
    for number, (partition, cells) in enumerate(_PARTITION.findall(body)):
        if int(partition) != number or _CELL.sub("", cells):
            raise Unreadable(_FILE, cells[:80])
        rows: dict[int, dict[int, int]] = {}
        for row, column, place in _CELL.findall(cells):
            line = rows.setdefault(int(row), {})
            if int(column) in line:
                raise Unreadable(_FILE, f"buffer[{row}][{column}] is set twice")
            line[int(column)] = int(place) if place else -1
        table = [
            [line[column] for column in range(len(line))]
            for line in (rows[k] for k in range(len(rows)))
        ]
        windows.append(np.array(table, np.int64))
    return windows
