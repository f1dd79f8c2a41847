"""A quantized network as plain data: integers, fixed-point types, and which layer reads which.

This is what every other form of a network is held against: QKeras' float32 graph, the C++ of an HLS
project, an emulator. It knows no framework. Values are *counts*: integers in units of 2^-fraction,
where the fraction of every layer follows from the types and weights before it.

Networks of one-dimensional layers (Conv1D, pooling) are images of height 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.fixed_point import FixedPoint

if TYPE_CHECKING:
    from l1kd.exact.bounds import Bound

Weights = NDArray[np.int64]
Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """A layer: its name, the names of the layers it reads, the shape of its output per event."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Values per event."""
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The port; events are values of its type."""

    type: FixedPoint


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Node):
    """Every value onto the grid and into the range of a type.

    An unsigned type that saturates is a quantized ReLU. With `halved` it is x/2 + 1/2 that is
    quantized: QKeras' hard sigmoid.
    """

    type: FixedPoint
    halved: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Node):
    """What dense layers and convolutions share."""

    # weights as counts of 2^-kernel_fraction; (inputs, outputs), or (height, width, channels,
    # filters)
    kernel: Weights
    kernel_fraction: int
    bias: Weights  # counts of 2^-bias_fraction, (outputs,)
    bias_fraction: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Affine):
    """A matrix on the last axis."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Affine):
    """A convolution over (height, width, channels); padded cells are 0."""

    strides: tuple[int, int]
    padding: Pads = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Node):
    """The highest or the average value of windows.

    Padded cells do not count for the highest value; averages have none, and windows of a power of
    two of cells, so that no quotient needs more bits than a word has.
    """

    operation: Literal["max", "average"]
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Zeros around an image."""

    padding: Pads


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same values in another shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Node):
    """Axes of an event in another order: axis i of the output is axis `axes[i]` of the input."""

    axes: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rectify(Node):
    """max(x, 0), or x * 2^-shift where x is negative."""

    shift: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge(Node):
    """Two layers' values as one: element by element, or side by side along `axis`.

    The axis counts from the event's first one, without the batch. Where shapes differ, sides of
    length 1 are repeated, as in NumPy.
    """

    operation: Literal[
        "add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate"
    ]
    axis: int = -1


@dataclass(frozen=True)
class Network:
    """A network in exact arithmetic.

    Parameters
    ----------
    name
        Its name.
    nodes
        Layers, each behind those that it reads; the first is the one `Input`.
    outputs
        Names of the layers whose values are the outputs.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    _index: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, Node] = {}
        for node in self.nodes:
            if node.name in index:
                raise ValueError(f"two layers are named {node.name!r}")
            if missing := [name for name in node.sources if name not in index]:
                raise ValueError(
                    f"layer {node.name!r} reads {missing[0]!r}, which is not before it"
                )
            if isinstance(node, Input) != (not index):
                raise ValueError("the first layer, and no other, is the input")
            index[node.name] = node
        if not self.outputs or not all(name in index for name in self.outputs):
            raise ValueError("a network has outputs, and they are layers of it")
        object.__setattr__(self, "_index", index)

    def __getitem__(self, name: str) -> Node:
        return self._index[name]

    @property
    def port(self) -> FixedPoint:
        """The type of the input."""
        (port, *_) = self.nodes
        assert isinstance(port, Input)
        return port.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event."""
        return self.nodes[0].shape

    @property
    def output_types(self) -> tuple[FixedPoint, ...]:
        """The types of the outputs: their quantizers', or the narrowest that hold their sums."""
        ends = [self[name] for name in self.outputs]
        return tuple(
            end.type if isinstance(end, Quantize) else self.bounds[end.name].type for end in ends
        )

    def at_port(self, port: FixedPoint) -> Network:
        """The same network behind a port whose values are some of its own port's."""
        first, *others = self.nodes
        assert isinstance(first, Input)
        return Network(self.name, (replace(first, type=port), *others), self.outputs)

    @cached_property
    def bounds(self) -> dict[str, Bound]:
        """What every layer can give, for any event on the port: see `l1kd.exact.bounds`."""
        from l1kd.exact.bounds import bounds

        return bounds(self)

    def predict(self, events: ArrayLike) -> NDArray[np.float64]:
        """Outputs of events, exactly.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), every value one of the port's type.

        Returns
        -------
        ndarray
            (N, outputs): all output layers flattened, one after the other.

        Raises
        ------
        ValueError
            If the events have another shape, or a value is not on the port's grid or range.
        """
        from l1kd.exact.evaluate import predict

        return predict(self, events)

    def values(self, events: ArrayLike, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """What the named layers give for events, (N, *shape of the layer) as float64 values.

        Raises
        ------
        ValueError
            As `predict`.
        """
        from l1kd.exact.evaluate import values

        return values(self, events, names)
