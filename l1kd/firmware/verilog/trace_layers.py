"""A network as adder-only logic: every layer traced with alkaid's fixed-point variables.

Nothing is multiplied: a layer's constants become shared additions and subtractions of shifted
inputs (distributed arithmetic), quantizers become bits that are kept, set or cleared. What a
variable holds is a value, not a count, and every variable knows its range and its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import signed_digits
from l1kd.exact import arithmetic
from l1kd.exact.network import (
    Affine,
    Conv,
    Dense,
    Input,
    Merge,
    Network,
    Node,
    Pad,
    Permute,
    Pool,
    Quantize,
    Rectify,
    Reshape,
)
from l1kd.firmware.verilog.trace_quantizers import UnfitError, constant, nothing, plus, quantized

Variables = NDArray[Any]  # of alkaid's FVariable
_WIDTH = 52  # bits of a sum; alkaid's ranges are float64
# Of a matrix' decompositions the one without is taken: measured on an 18x14 student, 5 % less logic
# than alkaid's own choice among all of them, in an eighth of the time.
SOLVER = {"decompose_dc": 0, "search_all_decompose_dc": False}


@dataclass
class Drawn:
    """A network's logic before it is optimised."""

    inputs: Variables  # one variable per value, flattened
    outputs: Variables
    # LUTs per layer by alkaid's cost model, before what layers share is merged
    costs: dict[str, float] = field(default_factory=dict)


def draw(network: Network, advance: Callable[[int], None] = lambda steps: None) -> Drawn:
    """Trace a network, layer by layer."""
    from alkaid.trace import FVArrayInput

    pen = _Pen(network)
    held: dict[str, Variables] = {}
    port = network.port
    sign = int(port.signed)
    raw = FVArrayInput(network.shape)
    for node in network.nodes:
        if network.bounds[node.name].bits > _WIDTH:
            raise UnfitError(
                f"layer {node.name!r} has sums of {network.bounds[node.name].bits} bits; "
                f"logic is traced up to {_WIDTH}"
            )
        if isinstance(node, Input):
            held[node.name] = _plain(raw.quantize(sign, port.integer - sign, port.fraction))
        else:
            held[node.name] = pen.step(node, [held[name] for name in node.sources])
        pen.count(node, held[node.name])
        advance(1)
    outputs = np.concatenate([held[name].reshape(-1) for name in network.outputs])
    return Drawn(_plain(raw).reshape(-1), outputs, pen.costs)


def expected_lut(network: Network) -> float:
    """About how many LUTs a network's logic takes, from its weights alone, in no time.

    Every non-zero signed digit of a weight is an adder as wide as what it multiplies; sharing
    leaves about two in five, and Yosys needs one and a half LUTs for a bit of what is left. It
    decides whether a network is drawn at all.
    """
    total = 0.0
    for node in network.nodes:
        if isinstance(node, Affine):
            digits = int(signed_digits(node.kernel).sum()) * (node.size // node.kernel.shape[-1])
            source = network.bounds[node.sources[0]].type
            total += digits * (source.word + 2) * 0.6
    return total


def _plain(array: Any) -> Variables:
    """The variables themselves, without alkaid's array around them."""
    return np.asarray(array, dtype=object)


@dataclass
class _Pen:
    """Draws layers; remembers matrices that were solved before, and what was counted."""

    network: Network
    costs: dict[str, float] = field(default_factory=dict)
    solved: dict[Any, Any] = field(default_factory=dict)
    seen: set[Any] = field(default_factory=set)

    def step(self, node: Node, parts: list[Variables]) -> Variables:
        """One layer on variables of the layers that it reads."""
        (source, *_) = parts
        if isinstance(node, Quantize):
            return _each(source, lambda value: self._quantize(node, value))
        if isinstance(node, Dense):
            return self._affine(node, source.reshape(-1, node.kernel.shape[0]))
        if isinstance(node, Conv):
            return self._convolution(node, source)
        if isinstance(node, Pool):
            return self._pool(node, source)
        if isinstance(node, Pad):
            return _padded(source, node.padding).reshape(node.shape)
        if isinstance(node, Reshape):
            return source.reshape(node.shape)
        if isinstance(node, Permute):
            return source.transpose(node.axes)
        if isinstance(node, Rectify):
            shift = node.shift
            return _each(
                source,
                lambda value: value.relu() if shift is None else value.max_of(value * 2.0**-shift),
            )
        assert isinstance(node, Merge)
        return _merged(node, parts)

    def count(self, node: Node, values: Variables) -> None:
        """Add up what a layer's new variables cost."""
        waiting = [value for value in values.reshape(-1).tolist() if value.id not in self.seen]
        total = 0.0
        while waiting:
            value = waiting.pop()
            if value.id in self.seen:
                continue
            self.seen.add(value.id)
            total += _cost(value)
            waiting.extend(each for each in value._from if each.id not in self.seen)
        if total:
            name = node.name.removesuffix(":sums")
            self.costs[name] = self.costs.get(name, 0.0) + total

    def _quantize(self, node: Quantize, value: Any) -> Any:
        return quantized(plus(value * 0.5, 0.5) if node.halved else value, node.type)

    def _convolution(self, node: Conv, source: Variables) -> Variables:
        images = _padded(source, node.padding)
        height, width, channels, filters = node.kernel.shape
        seen = arithmetic.windows(images, (height, width), node.strides, node.dilation)
        kernel = node.kernel.transpose(2, 0, 1, 3).reshape(-1, filters)
        return self._affine(node, seen.reshape(-1, channels * height * width), kernel)

    def _affine(
        self, node: Affine, rows: Variables, kernel: NDArray[np.int64] | None = None
    ) -> Variables:
        """Rows of variables (rows, inputs) times the layer's kernel, and its bias."""
        matrix = (node.kernel if kernel is None else kernel) * 2.0**-node.kernel_fraction
        bias = node.bias * 2.0**-node.bias_fraction
        sums = np.empty((len(rows), matrix.shape[1]), dtype=object)
        for index, row in enumerate(rows):
            given, known = self._product(row, matrix)
            sums[index] = [
                plus(value, float(number))
                for value, number in zip(given, known + bias, strict=True)
            ]
        return sums.reshape(node.shape)

    def _product(
        self, row: Variables, matrix: NDArray[np.float64]
    ) -> tuple[list[Any], NDArray[np.float64]]:
        """One row's products: variables, and the part of the inputs that are constants."""
        from alkaid.cmvm import cmvm_solve

        fixed = np.array([value.low == value.high for value in row])
        numbers = np.array(
            [value.low if same else 0.0 for value, same in zip(row, fixed, strict=True)]
        )
        live = ~fixed & matrix.any(axis=1)
        known = numbers @ matrix
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
        like = values[0]
        return [
            each if hasattr(each, "kif") else constant(float(each), like)
            for each in np.asarray(found, dtype=object).tolist()
        ], known

    def _pool(self, node: Pool, source: Variables) -> Variables:
        maximum = node.operation == "max"
        # Padded cells do not count for the highest value, and averages have none.
        images = arithmetic.pad(arithmetic.as_images(source[None]), node.padding, None)
        seen = arithmetic.windows(images, node.window, node.strides)
        cells = seen.reshape(node.size, -1)
        found = np.empty(node.size, dtype=object)
        share = 1.0 / (node.window[0] * node.window[1])
        for index, window in enumerate(cells):
            values = [value for value in window if value is not None]
            found[index] = _tree(values, _higher if maximum else _sum)
            if not maximum:
                found[index] = found[index] * share
        return found.reshape(node.shape)


def _padded(source: Variables, padding: arithmetic.Pads) -> Variables:
    """An event as one image, with variables that are 0 around it."""
    zero = nothing(source.reshape(-1)[0].hwconf)
    return arithmetic.pad(arithmetic.as_images(source[None]), padding, zero)


def _each(values: Variables, function: Callable[[Any], Any]) -> Variables:
    found = np.empty(values.size, dtype=object)
    found[:] = [function(value) for value in values.reshape(-1)]
    return found.reshape(values.shape)


def _sum(one: Any, other: Any) -> Any:
    return one + other


def _higher(one: Any, other: Any) -> Any:
    return one.max_of(other)


def _lower(one: Any, other: Any) -> Any:
    return one.min_of(other)


def _tree(values: list[Any], function: Callable[[Any, Any], Any]) -> Any:
    while len(values) > 1:
        ends = [values[-1]] if len(values) % 2 else []
        pairs = zip(values[:-1:2], values[1::2], strict=False)
        values = [function(one, other) for one, other in pairs] + ends
    return values[0]


def _merged(node: Merge, parts: list[Variables]) -> Variables:
    if node.operation == "concatenate":
        return np.concatenate(parts, axis=node.axis)
    one, other = np.broadcast_arrays(*parts)
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "add": _sum,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "average": lambda a, b: (a + b) * 0.5,
        "maximum": _higher,
        "minimum": _lower,
    }
    function = functions[node.operation]
    found = np.empty(one.size, dtype=object)
    found[:] = [function(a, b) for a, b in zip(one.reshape(-1), other.reshape(-1), strict=True)]
    return found.reshape(node.shape)


def _cost(value: Any) -> float:
    """LUTs of one variable, as alkaid counts them."""
    from alkaid.trace.passes import surrogate

    config = value.hwconf
    ranges = [each.qint for each in value._from]
    if value.opr == "vadd":
        cost = surrogate.cost_lat_add(*ranges, 0, config.adder_size, config.carry_size)[0]
    elif value.opr == "vmul":
        cost = surrogate.cost_lat_mul(*ranges, config.adder_size, config.carry_size)[0]
    elif value.opr == "relu":
        cost = surrogate.cost_relu(value.qint)[0] if ranges[0].min < 0 else 0.0
    elif value.opr == "msb_mux":
        cost = 0.5 * sum(value.kif)
    elif value.opr == "bit_binary":
        cost = surrogate.cost_lat_bin_bitops(*ranges, 0, 6, 5)[0]
    else:
        cost = 0.0
    return float(cost)
