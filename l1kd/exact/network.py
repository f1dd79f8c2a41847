"""A quantized network in exact arithmetic: what QKeras, C++ and Verilog are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.files import read_json, reading, write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.arithmetic import NO_PADS, Counts
from l1kd.exact.layers import Affine, Bound, Input, Node, Quantize, Sum

FORMAT_VERSION = 1  # of its JSON
_CELLS = 1 << 22  # values of the largest layer that are in memory at a time
_SIGNIFICAND = 24  # bits of a float32
# A file may ask for no more memory or time than a network for a trigger can need.
MAX_VALUES = 1 << 24  # of a layer, padding included
_BITS = 1 << 10  # of a type, a fraction or a shift


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

    Raises
    ------
    ValueError
        If two layers have one name, a layer reads one that is not before it, or there is not
        exactly one input.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        before: set[str] = set()
        for node in self.nodes:
            if node.name in before:
                raise ValueError(f"two layers are named {node.name!r}")
            for name in {*node.sources} - before:
                raise ValueError(f"layer {node.name!r} reads {name!r}, which is not before it")
            if isinstance(node, Input) != (not before):
                raise ValueError("the first layer, and no other, is the input")
            before.add(node.name)
        if not self.outputs or not before.issuperset(self.outputs):
            raise ValueError("a network has outputs, and they are layers of it")

    def __getitem__(self, name: str) -> Node:
        return self._index[name]

    @cached_property
    def _index(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def port(self) -> FixedPoint:
        """Fixed-point type of the input."""
        first = self.nodes[0]
        assert isinstance(first, Input)
        return first.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return self.nodes[0].shape

    @property
    def matrices(self) -> list[Affine]:
        """Layers that add up products with constants; a sum is the convolution that it equals."""
        nodes = (
            node.convolution(self[node.sources[0]].shape) if isinstance(node, Sum) else node
            for node in self.nodes
        )
        return [node for node in nodes if isinstance(node, Affine)]

    @property
    def output_types(self) -> tuple[FixedPoint, ...]:
        """Types of the output layers: their quantizers', or the narrowest that hold their sums."""
        ends = ((self[name], self.bounds[name]) for name in self.outputs)
        return tuple(end.type if isinstance(end, Quantize) else bound.type for end, bound in ends)

    def at_port(self, port: FixedPoint | None) -> Network:
        """The same network behind a port whose values are some of its own port's; None: its own."""
        first, *others = self.nodes
        assert isinstance(first, Input)
        return Network(self.name, (replace(first, type=port or first.type), *others), self.outputs)

    @cached_property
    def bounds(self) -> dict[str, Bound]:
        """Bounds of every layer's values, by name, for any event on the port."""
        found: dict[str, Bound] = {}
        for node in self.nodes:
            found[node.name] = node.bound([found[name] for name in node.sources])
            if (shape := found[node.name].low.shape) != node.shape:
                raise ValueError(f"layer {node.name!r} gives the shape {shape}, not {node.shape}")
        return found

    def predict(self, events: ArrayLike) -> NDArray[np.float64]:
        """Exact outputs of events.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), every value one of the port's type.

        Returns
        -------
        ndarray
            (N, outputs) float64, values of the output types: all output layers flattened, one
            after the other.

        Raises
        ------
        ValueError
            If the events have another shape, or a value is not on the port's grid or range.
        """
        return self._joined(self.values(events, self.outputs), np.float64)

    def counts(self, events: ArrayLike) -> NDArray[np.int64]:
        """Exact outputs of events as integers, in LSBs of the output types.

        Thresholds of a trigger are compared with these.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), every value one of the port's type.

        Returns
        -------
        ndarray
            (N, outputs) int64: `predict(events)` divided by each output layer's LSB.

        Raises
        ------
        ValueError
            As `predict`; or if an output layer has more than 63 bits, which int64 does not hold.
        """
        for name in self.outputs:
            if (bits := self.bounds[name].furthest.bit_length()) > 63:
                raise ValueError(f"outputs of layer {name!r} have {bits} bits, int64 holds 63")
        found = self.layer_counts(self.port_counts(events), self.outputs)
        return self._joined(found, np.int64)

    def save(self, path: str | Path) -> None:
        """Write the network as JSON; `l1kd.load_network` reads it.

        Parameters
        ----------
        path
            The file, replaced as a whole if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        write_json(Path(path), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The network as a JSON value."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "outputs": list(self.outputs),
            "nodes": [node.to_json() for node in self.nodes],
        }

    def values(self, events: ArrayLike, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Values (N, *shape of the layer) of named layers; raises as `predict`."""
        found = self.layer_counts(self.port_counts(events), tuple(names))
        return {
            name: np.asarray(counts, np.float64) * 2.0 ** -self.bounds[name].fraction
            for name, counts in found.items()
        }

    def port_counts(self, events: ArrayLike) -> NDArray[np.int64]:
        """Events as counts of the port's LSB, (N, *shape); raises as `predict`."""
        array: NDArray[Any] = np.asarray(events)
        shape, port = self.shape, self.port
        given = array.shape[1:]
        if array.ndim < 1 or given not in (shape, (self.nodes[0].size,)):
            raise ValueError(f"{self.name} reads events of the shape {shape}, not {given}")
        steps = np.multiply(array, 2.0**port.fraction, dtype=np.float64)
        low, high = port.bounds
        with np.errstate(invalid="ignore"):
            counts = steps.astype(np.int64)
        held = (counts == steps) & (counts >= low) & (counts <= high)
        if not held.all():
            event, *place = np.argwhere(~held)[0]
            raise ValueError(
                f"event {event}, input {tuple(map(int, place))}: {array[(event, *place)]} is no "
                f"value of the port {port.text}"
            )
        return counts.reshape(len(counts), *shape)

    def ancestors(self, names: Iterable[str]) -> list[Node]:
        """The input, the named layers and all that they read, in the network's order."""
        needed = {self.nodes[0].name, *names}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.sources)
        return [node for node in self.nodes if node.name in needed]

    def step(self, node: Node, parts: Sequence[Counts]) -> Counts:
        """One layer on counts of its sources; it may differ from its namesake in the network."""
        before = [self.bounds[name] for name in node.sources]
        return node.values(parts, before, self.bounds[node.name].bits)

    def record(self, counts: Counts, names: Iterable[str]) -> dict[str, Counts]:
        """Counts of the named layers, and of all that they read, for events (N, *shape)."""
        return self._forward(counts, self.ancestors(names), {node.name for node in self.nodes})

    def layer_counts(self, counts: Counts, names: Sequence[str]) -> dict[str, Counts]:
        """Counts (N, *shape of the layer) of named layers; events go in pieces through memory."""
        nodes = self.ancestors(names)
        chunk = max(1, _CELLS // max(node.cells for node in nodes))
        parts = [
            self._forward(counts[start : start + chunk], nodes, set(names))
            for start in range(0, max(len(counts), 1), chunk)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _forward(self, counts: Counts, nodes: list[Node], kept: set[str]) -> dict[str, Counts]:
        """Counts of layers in their order; what nobody reads any more is kept by name only."""
        last = {source: node.name for node in nodes for source in node.sources}
        found: dict[str, Counts] = {}
        for node in nodes:
            parts = [found[name] for name in node.sources]
            found[node.name] = self.step(node, parts or [counts])
            for source in {*node.sources} - kept:
                if last[source] == node.name:
                    del found[source]
        return found

    def _joined(self, found: dict[str, Any], kind: Any) -> NDArray[Any]:
        """(N, outputs) of a number type from arrays of the output layers."""
        parts = [found[name].reshape(-1, self[name].size).astype(kind) for name in self.outputs]
        return np.concatenate(parts, axis=1)


def load_network(path: str | Path) -> Network:
    """Read a network that `Network.save` wrote, or a run's `network.json`.

    No code from the file runs, and memory is bounded.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Network
        The same network, bit for bit.

    Raises
    ------
    UserError
        If the file cannot be read, is too large, or is no network.
    """
    with reading(Path(path), "give a network.json that l1kd wrote"):
        return from_json(read_json(Path(path)))


def from_json(value: Any) -> Network:
    """A network from what `Network.to_json` gave; ValueError if it is no such value."""
    try:
        if value["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {value['format_version']} is not read, {FORMAT_VERSION} is")
        nodes = tuple(Node.from_json(each) for each in value["nodes"])
        network = Network(str(value["name"]), nodes, tuple(map(str, value["outputs"])))
        for node in nodes:
            _check_size(network, node)
        _ = network.bounds  # shapes that do not fit each other show here
    except (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError) as error:
        raise ValueError(f"no network: {type(error).__name__}: {error}") from error
    return network


def _check_size(network: Network, node: Node) -> None:
    """Refuse a layer that is empty, or that would take memory out of all proportion."""
    if any(side < 1 for side in node.shape) or node.size > MAX_VALUES:
        raise ValueError(f"layer {node.name!r} has the shape {node.shape}")
    given = vars(node)
    numbers = [given.get(name) or 0 for name in ("kernel_fraction", "bias_fraction", "shift")]
    if kind := given.get("type"):
        numbers += [kind.word, kind.integer]
    if any(abs(number) > _BITS for number in numbers):
        raise ValueError(f"layer {node.name!r} has more than {_BITS} bits")
    if (padding := given.get("padding", NO_PADS)) != NO_PADS:
        shape = network[node.sources[0]].shape
        image = (1, shape[0]) if len(shape) == 2 else shape[:2]
        sides = [side + sum(pads) for side, pads in zip(image, padding, strict=True)]
        if min(map(min, padding)) < 0 or int(np.prod(sides)) > MAX_VALUES:
            raise ValueError(f"layer {node.name!r} has the padding {padding}")


def beyond_float32(network: Network) -> dict[str, str]:
    """Layers whose values QKeras' float32 arithmetic may not have exactly, each with the reason."""
    found = {}
    for node in network.nodes:
        reason, bits = "its sums need", network.bounds[node.name].bits
        if bits <= _SIGNIFICAND and isinstance(node, Quantize):
            # QKeras writes `x + (q(x) - x)`, which is `q(x)` only if the difference is exact too.
            reason = "the difference of its value and its quantized value needs"
            bits = _difference_bits(node, network.bounds[node.sources[0]])
        if bits > _SIGNIFICAND:
            found[node.name] = f"{reason} {bits} bits, a float32 holds {_SIGNIFICAND}"
    return found


def _difference_bits(node: Quantize, source: Bound) -> int:
    """Bits of `q(x) - x`, and of `x / 2 + 1 / 2` in a hard sigmoid."""
    if node.halved:
        return source.bits + 2
    if not node.type.signed:
        return 0  # a quantized ReLU is given its range's part of x: the rest is less than one step
    fraction = max(source.fraction, node.type.fraction)
    below, above = (count << (fraction - node.type.fraction) for count in node.type.bounds)
    left = fraction - source.fraction
    furthest = max(0, below - (source.lowest << left), (source.highest << left) - above)
    return furthest.bit_length()
