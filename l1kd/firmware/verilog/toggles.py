"""Bits that change between events in written Verilog: the certificate's reader, fed with events.

One event enters per clock, and all is settled before the next: as a simulation without delays, so
glitches are not seen. The text is read back as it stands; nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.errors import CheckFailed
from l1kd.core.run_files import Toggles
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.certificate.symbolic import Space, Unproved, Value
from l1kd.firmware.certificate.verilog_reader import read_design
from l1kd.firmware.verilog.port_wrapper import Interface
from l1kd.firmware.verilog.project import Logic

_LARGEST = 1 << 62  # magnitude of a number
_LOGIC = ("~", "|", "&")  # begin the right side of an assignment that is more than wiring


class _Number(NamedTuple):
    """A number of every event, (N,) or () if it is constant, and its range."""

    values: NDArray[np.int64]
    low: int
    high: int


_Given = _Number | int
_Wires = Iterable[tuple[_Given, int]]


def _number(value: _Given) -> _Number:
    return _Number(np.array(value, np.int64), value, value) if isinstance(value, int) else value


@dataclass
class Evaluation:
    """Numbers of events in place of a `Space`'s symbols, and the toggles of what they drive."""

    nets: int = 0  # bits that logic drives
    net_toggles: int = 0
    register_bits: int = 0
    register_toggles: int = 0
    place: str = ""
    near: tuple[_Given, ...] = ()
    last: list[tuple[_Given, int]] = field(default_factory=list)

    def events(self, values: ArrayLike, low: int, high: int) -> _Number:
        """Numbers of a stream of events (N,), none of them beyond a range."""
        return self._made(np.ascontiguousarray(values, np.int64), low, high)

    def _made(self, values: Any, low: int, high: int) -> _Number:
        if max(-low, high) >= _LARGEST:
            raise Unproved("a value has more than 62 bits")
        return _Number(np.asarray(values, np.int64), low, high)

    def linear(self, pairs: Iterable[tuple[int, _Given]], constant: int = 0) -> _Number:
        """The sum of numbers with factors."""
        total = _number(constant)
        for factor, value in pairs:
            one = _number(value)
            ends = sorted((factor * one.low, factor * one.high))
            scaled = self._made(0, *ends)  # a factor that int64 does not hold is refused here
            values = total.values + (one.values * factor if any(ends) else scaled.values)
            total = self._made(values, total.low + ends[0], total.high + ends[1])
        return total

    def wrapped(self, value: _Given, width: int, signed: bool) -> _Number:
        """The number that the lowest bits are."""
        one, half = _number(value), 1 << (width - 1)
        low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
        if low <= one.low and one.high <= high:
            return one
        made = self._made(0, low, high)
        shift = half if signed else 0
        return made._replace(values=((one.values + shift) & (2 * half - 1)) - shift)

    def shifted(self, value: _Given, right: int) -> _Number:
        """A number without its lowest bits."""
        one = _number(value)
        return self._made(one.values >> min(right, 63), one.low >> right, one.high >> right)

    def bitwise(self, name: str, one: _Given, other: _Given) -> _Number:
        """`and`, `or` or `xor` of two numbers."""
        first, second = _number(one), _number(other)
        function: Any = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[name]
        ends = (first.low, first.high, second.low, second.high)
        size = 1 << max(abs(end).bit_length() for end in ends)
        values = function(first.values, second.values)
        return self._made(values, -size if min(ends) < 0 else 0, size - 1)

    def chosen(self, key: _Given, one: _Given, other: _Given) -> _Number:
        """The one number where a key is 1, the other where it is 0."""
        first, second = _number(one), _number(other)
        values = np.where(_number(key).values == 1, first.values, second.values)
        return self._made(values, min(first.low, second.low), max(first.high, second.high))

    def highest(self, one: _Given, other: _Given) -> _Number:
        """The higher of two numbers."""
        first, second = _number(one), _number(other)
        values = np.maximum(first.values, second.values)
        return self._made(values, max(first.low, second.low), max(first.high, second.high))

    def any_bit(self, value: _Given) -> _Number:
        """1 if a number is not 0."""
        return self._made(_number(value).values != 0, 0, 1)

    def product(self, one: _Given, other: _Given) -> _Number:
        """The product of two numbers."""
        first, second = _number(one), _number(other)
        ends = [a * b for a in (first.low, first.high) for b in (second.low, second.high)]
        made = self._made(0, min(ends), max(ends))
        return made._replace(values=first.values * second.values)

    def drives(self, text: str, value: _Given, width: int) -> None:
        """Count a wire that an instance or an operator drives; a slice of another one is none."""
        if " op_" in text or text.startswith(_LOGIC) or " & {" in text:
            self.nets += width
            self.net_toggles += _changes(value, width)

    def stage(self, inputs: _Wires, outputs: _Wires) -> None:
        """Count registers before a stage; those behind it are before the next one."""
        self.count_registers(inputs)
        self.last = list(outputs)

    def count_registers(self, wires: _Wires) -> None:
        """Count registers that hold some wires."""
        for value, width in wires:
            self.register_bits += width
            self.register_toggles += _changes(value, width)


def _changes(value: _Given, width: int) -> int:
    """Number of changes of the lowest bits from one event to the next."""
    values = _number(value).values
    if not values.ndim:
        return 0
    changed = (values[1:] ^ values[:-1]) & ((1 << min(width, 63)) - 1)
    return int(np.count_nonzero(np.unpackbits(changed.view(np.uint8))))


def evaluate(logic: Logic, events: ArrayLike) -> tuple[NDArray[np.float64], Evaluation]:
    """Outputs (N, outputs) of the Verilog as its text says, and what toggled.

    Raises Unreadable or Unproved if it is not in the subset that the reader reads, or too wide.
    """
    counts, evaluation = logic.counts(events), Evaluation()
    low, high = logic.input_type.bounds
    inputs = [evaluation.events(column, low, high) for column in counts.T]
    types = logic.input_type, logic.description.output.size, logic.output_type
    outside = Interface(logic.record.top, logic.network.shape, *types, latency=0)
    given = cast(Space, evaluation), contents(logic.directory), cast(list[Value], inputs)
    found, _ = read_design(*given, outside)
    evaluation.count_registers(evaluation.last)
    shown = (_number(cast(_Given, value)).values for value in found)
    columns = [np.broadcast_to(values, len(counts)) for values in shown]
    return np.stack(columns, axis=1) * logic.output_type.lsb, evaluation


def count_toggles(logic: Logic, events: ArrayLike) -> Toggles:
    """Toggles per event in a stream of consecutive events (N, *shape), N at least 2.

    Raises as `evaluate`, or CheckFailed if the Verilog computes something else than its network.
    """
    outputs, found = evaluate(logic, events)
    if not np.array_equal(outputs, logic.network.predict(events)):
        raise CheckFailed(f"{logic.record.top}: its Verilog is not its network")
    steps = len(outputs) - 1
    return Toggles(
        events=len(outputs),
        nets=found.nets,
        registers=found.register_bits,
        net_toggles=found.net_toggles / steps,
        register_toggles=found.register_toggles / steps,
    )
