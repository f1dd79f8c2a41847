"""Adder-only logic of a network: every layer traced with alkaid's fixed-point variables.

Rounding comes first: its constant joins the bias, and a clamp needs single bits only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import add, mul, sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint, signed_digits
from l1kd.exact import layers
from l1kd.exact.arithmetic import Pads, as_images, pad, windows
from l1kd.exact.network import Network

Variables = NDArray[Any]  # of alkaid's FVariable
_WIDTH = 52  # bits of a sum; alkaid's ranges are float64
_NUMBER = 24  # bits of a number whose last bit alkaid finds: it looks in float32
# Of a matrix' decompositions the one without is taken: measured on an 18x14 student, 5 % less logic
# than alkaid's own choice among all of them, in an eighth of the time.
SOLVER = {"decompose_dc": 0, "search_all_decompose_dc": False}


class UnfitError(ValueError):
    """The network needs logic that cannot be traced; the message names it."""


def draw(
    network: Network, advance: Callable[[int], None] = lambda steps: None
) -> tuple[Variables, Variables, dict[str, float]]:
    """Inputs, outputs and LUTs per layer by alkaid's model; UnfitError if a sum is too wide."""
    from alkaid.trace import FVArrayInput

    pen = _Pen()
    held: dict[str, Variables] = {}
    raw = FVArrayInput(network.shape)
    for node in network.nodes:
        if (bits := network.bounds[node.name].bits) > _WIDTH:
            raise UnfitError(
                f"layer {node.name!r} has sums of {bits} bits; logic is traced up to {_WIDTH}"
            )
        parts = [held[name] for name in node.sources] or [raw]
        drawn = layers.of_kind(TRACES, NO_TRACE, node, UnfitError)(pen, node, parts)
        held[node.name] = drawn.reshape(node.shape)
        wide = any(network.bounds[each].bits > _NUMBER for each in (node.name, *node.sources))
        pen.count(node, held[node.name], wide=wide)
        advance(1)
    outputs = np.concatenate([held[name].reshape(-1) for name in network.outputs])
    return np.asarray(raw, dtype=object).reshape(-1), outputs, pen.costs


def expected_lut(network: Network) -> float:
    """Estimate of a network's LUTs from its weights alone: is it drawn at all?"""
    # Every non-zero signed digit of a weight is an adder as wide as what it multiplies; sharing
    # leaves about two in five, and Yosys needs one and a half LUTs for a bit of what is left.
    total = 0.0
    for node in network.matrices:
        digits = int(signed_digits(node.kernel).sum()) * node.positions
        source = network.bounds[node.sources[0]].type
        total += digits * (source.word + 2) * 0.6
    return total


@dataclass
class _Pen:
    """Matrices that were solved before, and the cost of what was drawn."""

    costs: dict[str, float] = field(default_factory=dict)
    solved: dict[Any, Any] = field(default_factory=dict)
    seen: set[Any] = field(default_factory=set)

    def count(self, node: layers.Node, values: Variables, *, wide: bool) -> None:
        """Add up what a layer's new variables cost; check the numbers of those of wide sums."""
        waiting = values.reshape(-1).tolist()
        total = 0.0
        while waiting:
            value = waiting.pop()
            if value.id not in self.seen:
                self.seen.add(value.id)
                if wide:
                    _check_numbers(node, value)
                total += _cost(value)
                waiting.extend(value._from)
        if total:
            name = node.name.removesuffix(":sums")
            self.costs[name] = self.costs.get(name, 0.0) + total

    def product(
        self, row: Variables, matrix: NDArray[np.float64]
    ) -> tuple[list[Any], NDArray[np.float64]]:
        """One row's products: variables, and the part of the inputs that are constants."""
        from alkaid.cmvm import cmvm_solve

        fixed = np.array([value.low == value.high for value in row])
        known = np.where(fixed, [value.low for value in row], 0.0) @ matrix
        live = ~fixed & matrix.any(axis=1)
        if not live.any():
            return [nothing(row[0].hwconf)] * matrix.shape[1], known
        values, part = row[live], np.ascontiguousarray(matrix[live], np.float32)
        ranges = tuple((float(v.low), float(v.high), float(v.step)) for v in values)
        times = tuple(float(v.latency) for v in values)
        key = (part.tobytes(), ranges, times)
        if key not in self.solved:
            self.solved[key] = cmvm_solve(
                part, qintervals=list(ranges), latencies=list(times), **SOLVER
            )
        first, second = self.solved[key]
        found = second(first(values, quantize=False), quantize=False)
        return [
            each if hasattr(each, "kif") else constant(float(each), values[0])
            for each in np.asarray(found, dtype=object).tolist()
        ], known


def _input(_: _Pen, node: layers.Input, parts: list[Any]) -> Variables:
    sign = int(node.type.signed)
    taken = parts[0].quantize(sign, node.type.integer - sign, node.type.fraction)
    return np.asarray(taken, dtype=object)  # without alkaid's array around it


def _quantize(_: _Pen, node: layers.Quantize, parts: list[Variables]) -> Variables:
    if node.halved:
        return _each(lambda value: quantized(plus(value * 0.5, 0.5), node.type), parts[0])
    return _each(lambda value: quantized(value, node.type), parts[0])


def _dense(pen: _Pen, node: layers.Dense, parts: list[Variables]) -> Variables:
    return _sums(pen, node, parts[0].reshape(-1, node.kernel.shape[0]), node.kernel)


def _convolution(pen: _Pen, node: layers.Conv, parts: list[Variables]) -> Variables:
    seen = windows(_padded(parts[0], node.padding), node.window, node.strides, node.dilation)
    kernel = node.kernel.transpose(2, 0, 1, 3).reshape(-1, node.outputs)
    return _sums(pen, node, seen.reshape(-1, len(kernel)), kernel)


def _sums(pen: _Pen, node: layers.Affine, rows: Variables, kernel: NDArray[np.int64]) -> Variables:
    """Rows of variables (rows, inputs) times a kernel (inputs, outputs), and the bias."""
    matrix = kernel * 2.0**-node.kernel_fraction
    if (matrix != matrix.astype(np.float32)).any():
        raise UnfitError(f"layer {node.name!r} has weights of more than {_NUMBER} bits")
    bias = node.bias * 2.0**-node.bias_fraction
    sums = np.empty((len(rows), matrix.shape[1]), dtype=object)
    for index, row in enumerate(rows):
        given, known = pen.product(row, matrix)
        pairs = zip(given, known + bias, strict=True)
        sums[index] = [plus(value, float(number)) for value, number in pairs]
    return sums


def _pool(_: _Pen, node: layers.Pool, parts: list[Variables]) -> Variables:
    # Padded cells do not count for the highest value, and averages have none.
    images = pad(as_images(parts[0][None]), node.padding, None)
    cells = windows(images, node.window, node.strides).reshape(node.size, -1)
    found = np.empty(node.size, dtype=object)
    for index, window in enumerate(cells):
        values = [value for value in window if value is not None]
        found[index] = _tree(values, _higher if node.operation == "max" else add)
        if node.operation == "average":
            found[index] = found[index] * 2.0**-node.finer
    return found


def _sum(_: _Pen, node: layers.Sum, parts: list[Variables]) -> Variables:
    first = np.moveaxis(parts[0], node.axes, range(len(node.axes)))
    found = np.empty(node.size, dtype=object)
    found[:] = [_tree(list(values), add) for values in first.reshape(-1, node.size).T]
    return found


def _rectify(_: _Pen, node: layers.Rectify, parts: list[Variables]) -> Variables:
    if node.shift is None:
        return _each(lambda value: value.relu(), parts[0])
    slope = 2.0**-node.shift
    return _each(lambda value: value.max_of(value * slope), parts[0])


def _merge(_: _Pen, node: layers.Merge, parts: list[Variables]) -> Variables:
    if node.operation == "concatenate":
        return np.concatenate(parts, axis=node.axis)
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "add": add,
        "subtract": sub,
        "multiply": mul,
        "average": lambda one, other: (one + other) * 0.5,
        "maximum": _higher,
        "minimum": lambda one, other: one.min_of(other),
    }
    return _each(functions[node.operation], *parts)


TRACES: dict[type[layers.Node], Callable[[_Pen, Any, list[Any]], Variables]] = {
    layers.Input: _input,
    layers.Quantize: _quantize,
    layers.Dense: _dense,
    layers.Conv: _convolution,
    layers.Pool: _pool,
    layers.Sum: _sum,
    layers.Pad: lambda _, node, parts: _padded(parts[0], node.padding),
    layers.Reshape: lambda _, node, parts: parts[0],
    layers.Permute: lambda _, node, parts: parts[0].transpose(node.axes),
    layers.Rectify: _rectify,
    layers.Merge: _merge,
}
NO_TRACE: dict[type[layers.Node], str] = {}


def _padded(source: Variables, padding: Pads) -> Variables:
    """An event as one image, with variables that are 0 around it."""
    zero = nothing(source.reshape(-1)[0].hwconf)
    return pad(as_images(source[None]), padding, zero)


def _each(function: Callable[..., Any], *values: Variables) -> Variables:
    """A function of every value (of every pair of values) of arrays."""
    return np.asarray(np.frompyfunc(function, len(values), 1)(*values), dtype=object)


def _higher(one: Any, other: Any) -> Any:
    return one.max_of(other)


def _tree(values: list[Any], function: Callable[[Any, Any], Any]) -> Any:
    while len(values) > 1:
        ends = [values[-1]] if len(values) % 2 else []
        pairs = zip(values[:-1:2], values[1::2], strict=False)
        values = [function(one, other) for one, other in pairs] + ends
    return values[0]


def _check_numbers(node: layers.Node, value: Any) -> None:
    """Refuse a sum with numbers whose last bit alkaid does not find."""
    form = value._affine
    numbers = [form.bias, *form.coeffs.values()]
    if value.opr == "cadd":
        (source,) = value._from
        numbers.append(form.bias * source._factor / value._factor - source._affine.bias)
    for number in numbers:
        if number != np.float32(number):
            raise UnfitError(
                f"layer {node.name!r} needs a constant, {number:.17g}, of more than {_NUMBER} "
                "bits; use narrower weights and quantizers"
            )


def _cost(value: Any) -> float:
    """LUTs of one variable, as alkaid counts them."""
    from alkaid.trace.passes import surrogate

    ranges = [each.qint for each in value._from]
    sizes = value.hwconf.adder_size, value.hwconf.carry_size
    match value.opr:
        case "vadd":
            return float(surrogate.cost_lat_add(*ranges, 0, *sizes)[0])
        case "vmul":
            return float(surrogate.cost_lat_mul(*ranges, *sizes)[0])
        case "relu":
            return float(surrogate.cost_relu(value.qint)[0]) if ranges[0].min < 0 else 0.0
        case "msb_mux":
            return 0.5 * sum(value.kif)
        case "bit_binary":
            return float(surrogate.cost_lat_bin_bitops(*ranges, 0, 6, 5)[0])
    return 0.0


def quantized(value: Any, kind: FixedPoint) -> Any:
    """A variable rounded to a type's grid, then brought into its range."""
    if value.low == value.high:
        return constant(float(kind.quantize(value.low)), value)
    return _overflown(_rounded(value, kind), kind)


def constant(number: float, like: Any) -> Any:
    return type(like).from_const(number, like.hwconf) if number else nothing(like.hwconf)


def nothing(hwconf: Any) -> Any:
    from alkaid.trace.fixed_variable import FVariable

    return FVariable(0, 0, 1, hwconf=hwconf, opr="const")


def plus(value: Any, number: float) -> Any:
    """A variable plus a constant, which alkaid joins with a constant that was added before."""
    if not number:
        return value
    return value + number


def _rounded(value: Any, kind: FixedPoint) -> Any:
    """A variable on the grid of a type, whatever its range."""
    signed, _, fraction = value.kif
    step, drop = 2.0**-kind.fraction, fraction - kind.fraction
    if drop <= 0:
        return value
    half, fine = step / 2, 2.0**-fraction
    mode = kind.rounding
    if mode == "RND_CONV":
        return _to_even(plus(value, half), kind.fraction)
    if mode in ("TRN_ZERO", "RND_ZERO", "RND_INF"):
        extra = {"TRN_ZERO": step - fine, "RND_ZERO": fine, "RND_INF": -fine}[mode]
        if signed:
            value = value + value.is_negative() * extra
        value = plus(value, {"TRN_ZERO": 0.0, "RND_ZERO": half - fine, "RND_INF": half}[mode])
    elif mode != "TRN":
        value = plus(value, half if mode == "RND" else half - fine)
    return _floor(value, kind.fraction)


def _floor(value: Any, fraction: int) -> Any:
    signed, integer, _ = value.kif
    step = 2.0**-fraction
    ends = [float(np.floor(end / step)) * step for end in (value.low, value.high)]
    if ends[0] == ends[1]:
        return constant(ends[0], value)
    if integer + fraction <= 0:  # nothing but the sign is left
        return value.is_negative() * -step
    return value.quantize(signed, integer, fraction)


def _to_even(value: Any, fraction: int) -> Any:
    """The floor of a value that a half was added to; of a tie, with its last bit cleared."""
    _, integer, finest = value.kif
    down = _floor(value, fraction)
    drop = finest - fraction
    if drop <= 0:  # a bias leaves nothing but ties
        return _floor(value, fraction - 1)
    step = 2.0**-fraction
    if down.low == down.high:
        if value.low > down.low or not (down.low / step) % 2:
            return down
        return plus(value.bits[-drop:].unary_bit_op("any") * step, down.low - step)
    if integer + fraction <= 0:  # nothing but the sign is left
        if value.low > -step:
            return down
        raise UnfitError("a quantizer's step lies above all its sums")
    dropped = value.bits[-drop:].unary_bit_op("any")
    last = down.bits[-1:]
    if last.low == last.high:
        return down if last.high == 0 else last * dropped
    even = (dropped * step) & last
    return even + down.bits[:-1] if sum(down.kif) > 1 else even


def _overflown(value: Any, kind: FixedPoint) -> Any:
    """A variable that is on the grid of a type, in its range."""
    low, high = (bound * kind.lsb for bound in kind._reach)
    if low <= value.low and value.high <= high:
        return value
    sign = int(kind.signed)
    integer = kind.integer - sign
    if kind.overflow == "WRAP":
        return value.quantize(sign, integer, kind.fraction)
    if kind.overflow == "SAT_ZERO":
        outside = (value > high) | (value < low)
        kept = value.quantize(sign, integer, kind.fraction)
        return outside.msb_mux(constant(0.0, value), kept)
    if value.high <= low:
        return constant(low, value)
    if value.low >= high:
        return constant(high, value)
    if low < 0:
        return value.max_of(low).min_of(high)
    value = value.relu()
    above = value.kif[1] - integer
    if above <= 0:
        return value
    if kind.word == 1:  # whatever is not 0 is the only other value
        return value.unary_bit_op("any") * kind.lsb
    full = value.bits[:above].unary_bit_op("any")
    kept = value.quantize(0, integer, kind.fraction)
    # A bit times -step is all ones, sign-extended.
    return ((full * -kind.lsb) | kept).quantize(0, integer, kind.fraction)
