"""Layer kinds of an exact network, each with its shape, bounds, values and JSON.

Values are counts: integers in units of 2^-fraction. Layers of one dimension have the height 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, reduce
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, TypeAdapter
from pydantic_core import to_json

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import arithmetic
from l1kd.exact.arithmetic import NO_PADS, Counts, Pads, as_images, carried, carrier, pad, shifted


def _array(stored: Any) -> NDArray[np.int64]:
    """Weights from JSON."""
    if not all(type(each) is int for each in (*stored["shape"], *stored["values"])):
        raise ValueError("weights and their shape are integers")
    return np.array(stored["values"], np.int64).reshape(stored["shape"])


def _stored(array: NDArray[np.int64]) -> dict[str, list[int]]:
    """Weights as a JSON value."""
    return {"shape": list(array.shape), "values": array.reshape(-1).tolist()}


@cache
def _adapter(kind: type[Node]) -> TypeAdapter[Any]:
    """Reader and writer of a layer kind's JSON: making one takes longer than to use it."""
    return TypeAdapter(kind)


Weights = Annotated[NDArray[np.int64], PlainValidator(_array), PlainSerializer(_stored)]
Type = Annotated[
    FixedPoint, PlainValidator(FixedPoint.parse), PlainSerializer(lambda kind: kind.text)
]


@dataclass(frozen=True, eq=False)
class Bound:
    """Interval bound of a layer's values for *all* events on the port, as counts of 2^-fraction."""

    fraction: int
    low: NDArray[Any]  # of every output, (*shape), Python integers
    high: NDArray[Any]
    magnitude: int  # no sum on the way to any output, in any order, is further from 0

    @classmethod
    def of(cls, fraction: int, low: Any, high: Any, magnitude: int | None = None) -> Bound:
        """A bound; the magnitude is that of the ends unless given."""
        low, high = np.asarray(low).astype(object), np.asarray(high).astype(object)
        ends = max(abs(int(low.min())), abs(int(high.max())))
        return cls(fraction, low, high, ends if magnitude is None else magnitude)

    @property
    def bits(self) -> int:
        """Bits that hold every partial sum without its sign: a float32 has 24, a float64 53."""
        return self.magnitude.bit_length()

    @property
    def lowest(self) -> int:
        """The lowest count of any output."""
        return int(self.low.min())

    @property
    def highest(self) -> int:
        """The highest count of any output."""
        return int(self.high.max())

    @property
    def furthest(self) -> int:
        """The largest magnitude of any output, without the sums on the way to it."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def type(self) -> FixedPoint:
        """The narrowest type that holds every output of the layer."""
        return FixedPoint.holding(self.lowest, self.highest, self.fraction)


@dataclass(frozen=True, eq=False, kw_only=True)
class Node(ABC):
    """A layer: its name, the layers that it reads, the shape of its output per event."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Values per event."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def cells(self) -> int:
        """Values per event in memory while the layer is computed."""
        return self.size

    @property
    def operations(self) -> int:
        """Multiplications and copies per event, about."""
        return self.size

    @property
    def reach(self) -> tuple[int, int] | None:
        """Height and width of the inputs that one output sees; None: maybe all of them."""
        return None

    @property
    def finer(self) -> int:
        """Fraction bits that the layer adds to those of its source."""
        return 0

    @abstractmethod
    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        """Counts (N, *shape) from the sources' counts and bounds, in the carrier of `bits` bits."""

    def bound(self, before: Sequence[Bound]) -> Bound:
        """Bound of the layer from those of its sources; here of a layer that keeps the order."""
        (source,) = before
        low, high = (self.values([end[None]], before, 64)[0] for end in (source.low, source.high))
        return Bound.of(source.fraction + self.finer, low, high)

    def to_json(self) -> dict[str, Any]:
        """The layer as a JSON value."""
        written = _adapter(type(self)).dump_python(self, mode="json")
        return {"kind": type(self).__name__.lower(), **written}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Node:
        """A layer from what `to_json` gave; ValueError, KeyError or TypeError if it is not."""
        kind = KINDS[stored["kind"]]
        if set(stored) != {"kind", *(each.name for each in fields(kind))}:
            known = f"a layer of kind {stored['kind']}"
            raise ValueError(f"{known} has other keys than {sorted(stored)}")
        # As JSON: strictly read, integers are no floats or truth values, but lists are tuples.
        node: Node = _adapter(kind).validate_json(to_json(stored), strict=True)
        return node


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The port; events are values of its type."""

    type: Type

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        return carried(parts[0], carrier(bits))  # of the events themselves

    def bound(self, before: Sequence[Bound]) -> Bound:
        low, high = (np.full(self.shape, end, object) for end in self.type.bounds)
        return Bound.of(self.type.fraction, low, high)


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Node):
    """Every value onto the grid and into the range of a type: a ReLU, if that is unsigned."""

    type: Type
    halved: bool = False  # x/2 + 1/2 is quantized: QKeras' hard sigmoid

    def seen(self, fraction: int) -> tuple[float, int]:
        """Offset and fraction: counts c of 2^-`fraction` are rounded as (c + offset) 2^-result."""
        return (2.0**fraction, fraction + 1) if self.halved else (0, fraction)

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        (counts,), (source,) = parts, before
        fraction = source.fraction
        # The ends of a finer type need more bits than what enters.
        needed = max(bits, source.bits + (abs(fraction) + 2 if self.halved else 0))
        counts = carried(counts, carrier(needed))
        if self.halved:
            counts, fraction = arithmetic.halved(counts, fraction)
        return carried(self.type.requantize(counts, fraction), carrier(bits))

    def bound(self, before: Sequence[Bound]) -> Bound:
        """Rounding and saturation keep the order of values; an overflow that wraps may not."""
        (source,) = before
        low, high, fraction = source.low, source.high, source.fraction
        if self.halved:
            (low, fraction), (high, _) = (arithmetic.halved(end, fraction) for end in (low, high))
        lowest, highest = self.type.bounds
        ends = [self.type.requantize(each, fraction) for each in (low, high)]
        if self.type.overflow not in ("SAT", "SAT_SYM"):
            up = self.type.fraction - fraction
            below = [each << up if up >= 0 else -((-each) >> -up) for each in (low, high)]
            inside = (below[0] > lowest) & (below[1] < highest)
            ends = [np.where(inside, ends[0], lowest), np.where(inside, ends[1], highest)]
        return Bound.of(self.type.fraction, ends[0], ends[1])


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Node):
    """A matrix product and a bias: what dense layers and convolutions share."""

    kernel: Weights  # (inputs, outputs) or (height, width, channels, filters)
    kernel_fraction: int  # weights are counts of 2^-kernel_fraction
    bias: Weights  # (outputs,)
    bias_fraction: int

    @property
    def outputs(self) -> int:
        """Values at each position."""
        return int(self.kernel.shape[-1])

    @property
    def positions(self) -> int:
        """Places of an event at which the kernel is applied."""
        return self.size // self.outputs

    @property
    def operations(self) -> int:
        return self.size * int(np.prod(self.kernel.shape[:-1])) + self.cells

    @abstractmethod
    def product(self, counts: Counts, kernel: Counts) -> Counts:
        """Counts (N, *source's shape) times a kernel of this one's shape, (N, *shape)."""

    def aligned(self, fraction: int) -> tuple[int, int, int]:
        """Fraction of the sums, and the left shifts of the products and of the bias."""
        product = fraction + self.kernel_fraction
        common = max(product, self.bias_fraction) if self.bias.any() else product
        return common, common - product, common - self.bias_fraction

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        kind = carrier(bits)
        _, left, bias_left = self.aligned(before[0].fraction)
        sums = self.product(carried(parts[0], kind), shifted(self.kernel, left, kind))
        if self.bias.any():
            sums += shifted(self.bias, bias_left, kind)
        return sums

    def bound(self, before: Sequence[Bound]) -> Bound:
        (source,) = before
        fraction, left, bias_left = self.aligned(source.fraction)
        kernel = self.kernel.astype(object) * (1 << left)
        bias = self.bias.astype(object) * (1 << max(bias_left, 0))
        arrays = [
            *(np.maximum(kernel, 0), np.minimum(kernel, 0), source.low[None], source.high[None]),
            np.maximum(abs(source.low), abs(source.high))[None],
        ]
        sums = abs(kernel).reshape(-1, self.outputs).sum(axis=0)
        if source.furthest * int(sums.max()) < 2**62:  # Python's integers take 100 times as long
            arrays = [each.astype(np.int64) for each in arrays]
        up, down, low, high, furthest = arrays
        lowest = self.product(low, up) + self.product(high, down)
        highest = self.product(high, up) + self.product(low, down)
        reached = self.product(furthest, up - down).astype(object) + abs(bias)
        low, high = (each[0].astype(object) + bias for each in (lowest, highest))
        return Bound.of(fraction, low, high, int(reached.max()))


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Affine):
    """A matrix on the last axis."""

    def product(self, counts: Counts, kernel: Counts) -> Counts:
        found: Counts = counts.reshape(-1, kernel.shape[0]) @ kernel
        return found.reshape(len(counts), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Affine):
    """A convolution over (height, width, channels); padded cells are 0."""

    strides: tuple[int, int]
    padding: Pads = NO_PADS
    dilation: tuple[int, int] = (1, 1)

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return int(self.kernel.shape[0]), int(self.kernel.shape[1])

    @property
    def cells(self) -> int:
        return self.positions * int(np.prod(self.kernel.shape[:3]))

    @property
    def reach(self) -> tuple[int, int]:
        high, wide = ((n - 1) * gap + 1 for n, gap in zip(self.window, self.dilation, strict=True))
        return high, wide

    def seen(self, counts: Counts) -> Counts:
        """A view of the inputs of every window: (N, rows, columns, height, width, channels)."""
        images = pad(as_images(counts), self.padding)
        view = arithmetic.windows(images, self.window, self.strides, self.dilation)
        return view.transpose(0, 1, 2, 4, 5, 3)

    def product(self, counts: Counts, kernel: Counts) -> Counts:
        matrix, seen = kernel.reshape(-1, self.outputs), self.seen(counts)
        if seen.shape[-1] == 1:  # copied cell by cell: NumPy's innermost loop is then a row
            view, seen = seen, np.empty(seen.shape, seen.dtype)
            for row, column in np.ndindex(self.window):
                seen[..., row, column, :] = view[..., row, column, :]
        sums: Counts = seen.reshape(-1, len(matrix)) @ matrix
        return sums.reshape(len(counts), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Node):
    """The highest value of windows, or the average of 2^n cells, none of them padded."""

    operation: Literal["max", "average"]
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Pads = NO_PADS

    def __post_init__(self) -> None:
        size = int(np.prod(self.window))
        if self.operation == "average" and size & (size - 1):
            raise ValueError(f"layer {self.name!r} averages {size} values, not a power of two")

    @property
    def reach(self) -> tuple[int, int]:
        return self.window

    @property
    def finer(self) -> int:
        return int(np.prod(self.window)).bit_length() - 1 if self.operation == "average" else 0

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        """The highest count of every window, or the sum of a finer fraction."""
        counts = carried(parts[0], carrier(bits))
        join = np.maximum if self.operation == "max" else np.add
        images = pad(as_images(counts), self.padding, before[0].lowest if join is np.maximum else 0)
        seen = arithmetic.windows(images, self.window, self.strides)
        cells = [seen[..., row, column] for row, column in np.ndindex(self.window)]
        return reduce(join, cells).reshape(len(counts), *self.shape)

    def bound(self, before: Sequence[Bound]) -> Bound:
        return replace(super().bound(before), magnitude=before[0].furthest << self.finer)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Node):
    """Sums over axes of an event, which stay with the length 1."""

    axes: tuple[int, ...]  # without the batch

    def __post_init__(self) -> None:
        if not self.axes or len({*self.axes}) < len(self.axes) or min(self.axes) < 0:
            raise ValueError(f"layer {self.name!r} sums over the axes {self.axes}")

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        batch_axes = tuple(axis + 1 for axis in self.axes)
        found: Counts = carried(parts[0], carrier(bits)).sum(axis=batch_axes, keepdims=True)
        return found

    def bound(self, before: Sequence[Bound]) -> Bound:
        (source,) = before
        furthest = np.maximum(abs(source.low), abs(source.high)).sum(axis=self.axes)
        return replace(super().bound(before), magnitude=int(np.max(furthest)))

    def convolution(self, shape: tuple[int, ...]) -> Conv:
        """The convolution of ones that is this sum of an image or a sequence of a shape."""
        images = (1,) * (3 - len(shape)) + shape
        summed = [axis + 3 - len(shape) for axis in self.axes]
        window = [side if axis in summed else 1 for axis, side in enumerate(images[:2])]
        mixed = np.ones((images[2], 1)) if 2 in summed else np.eye(images[2])
        return Conv(
            name=self.name,
            sources=self.sources,
            shape=self.shape,
            kernel=np.tile(mixed.astype(np.int64), (*window, 1, 1)),
            kernel_fraction=0,
            bias=np.zeros(mixed.shape[1], np.int64),
            bias_fraction=0,
            strides=(1, 1),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Zeros around an image."""

    padding: Pads

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        return pad(as_images(parts[0]), self.padding).reshape(len(parts[0]), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same values in another shape."""

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        return parts[0].reshape(len(parts[0]), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Node):
    """Axes of an event in another order: axis i of the output is axis `axes[i]` of the input."""

    axes: tuple[int, ...]

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        return parts[0].transpose(0, *(axis + 1 for axis in self.axes))


@dataclass(frozen=True, eq=False, kw_only=True)
class Rectify(Node):
    """max(x, 0), or x * 2^-shift where x is negative; the shift may be below 0."""

    shift: int | None = None

    @property
    def finer(self) -> int:
        return max(self.shift or 0, 0)

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        counts = carried(parts[0], carrier(bits))
        if self.shift is None:
            return np.maximum(counts, 0)
        above, below = 1 << self.finer, 1 << self.finer - self.shift
        return np.where(counts >= 0, counts * above, counts * below)


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge(Node):
    """Two layers' values as one: element by element, as NumPy does it, or side by side."""

    operation: Literal[
        "add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate"
    ]
    axis: int = -1  # of an event, without the batch

    @property
    def batch_axis(self) -> int:
        """The axis of a concatenation in arrays (N, ...)."""
        return self.axis + 1 if self.axis >= 0 else self.axis

    def values(self, parts: Sequence[Counts], before: Sequence[Bound], bits: int) -> Counts:
        kind = carrier(bits)
        if self.operation == "multiply":
            return self._merged([carried(part, kind) for part in parts])
        common = max(bound.fraction for bound in before)
        pairs = zip(parts, before, strict=True)
        return self._merged([shifted(part, common - each.fraction, kind) for part, each in pairs])

    def _merged(self, parts: list[Counts]) -> Counts:
        """Parts of one fraction as one; of an average, the sum."""
        if self.operation == "concatenate":
            return np.concatenate(parts, axis=self.batch_axis)
        one, two = parts
        function = getattr(np, "add" if self.operation == "average" else self.operation)
        found: Counts = function(one, two)
        return found

    def bound(self, before: Sequence[Bound]) -> Bound:
        if self.operation == "multiply":
            one, two = before
            ends = [a[None] * b[None] for a in (one.low, one.high) for b in (two.low, two.high)]
            low, high = np.minimum.reduce(ends)[0], np.maximum.reduce(ends)[0]
            return Bound.of(one.fraction + two.fraction, low, high)
        fraction = max(each.fraction for each in before)
        scaled = [(each, 1 << (fraction - each.fraction)) for each in before]
        lows = [each.low[None] * scale for each, scale in scaled]
        highs = [each.high[None] * scale for each, scale in scaled]
        if self.operation == "subtract":
            low, high = lows[0] - highs[1], highs[0] - lows[1]
        else:
            low, high = self._merged(lows), self._merged(highs)
        furthest = [each.furthest * scale for each, scale in scaled]
        sums = self.operation in ("add", "subtract", "average")
        magnitude = sum(furthest) if sums else max(furthest)
        return Bound.of(fraction + (self.operation == "average"), low[0], high[0], magnitude)


KINDS: dict[str, type[Node]] = {
    kind.__name__.lower(): kind
    for kind in (Input, Quantize, Dense, Conv, Pool, Sum, Pad, Permute, Rectify, Reshape, Merge)
}
T = TypeVar("T")


def of_kind(
    table: Mapping[type[Node], Callable[..., T]],
    missing: Mapping[type[Node], str],
    node: Node,
    error: type[Exception] = ValueError,
) -> Callable[..., T]:
    """A consumer's function for a layer's kind; `error` with the reason where there is none."""
    kind = type(node)
    if kind not in table:
        reason = missing.get(kind, "nobody has written it")
        raise error(f"layer {node.name!r} ({kind.__name__.lower()}): {reason}")
    return table[kind]
