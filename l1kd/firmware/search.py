"""The search for corner inputs: events that are hard on a network's inner quantizers.

A quantizer is given what the layer before it computes. For single values of that layer the search
looks for events that make them as high and as low as they can be, put them exactly half way between
two steps of the quantizer (where rounding modes part) or one count beside that, and next to the
ends of its range and to 0. It follows derivatives (`l1kd.exact.gradient`); for the first layer of
sums one step along their signs is the best there is, further back it is a start.

Events are counts of the port's LSB here, (N, inputs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.gradient import ancestors, backward, record
from l1kd.exact.graph import Affine, Network, Node, Quantize

__all__ = ["Search", "inner"]

Counts = NDArray[np.int64]
Array = NDArray[Any]

_WORK = 1e9  # multiplications that a search may cost, about
_FEWEST, _MOST = 4_000, 200_000  # evaluations of an event, at least and at most
_LEAK = 0.05
_INPUT_VALUES = 1 << 21  # of the events that searches start from
_CELLS = 1 << 22  # of the largest layer in memory at a time


def inner(network: Network) -> list[Quantize]:
    """The quantizers behind sums, pools and merges: not those that see the port's own values."""
    plain = {network.nodes[0].name}
    found = []
    for node in network.nodes[1:]:
        if isinstance(node, Quantize) and node.sources[0] in plain:
            held = node.type.requantize(_ends(network), network.port.fraction)
            back = held * 2.0 ** (network.port.fraction - node.type.fraction)
            if not node.halved and (back == _ends(network)).all():
                plain.add(node.name)
                continue
        if isinstance(node, Quantize):
            found.append(node)
        elif type(node).__name__ in ("Reshape", "Pad") and node.sources[0] in plain:
            plain.add(node.name)
    return found


def _ends(network: Network) -> Counts:
    low, high = network.port.bounds
    return np.array([low, high, 1 if high else 0])


class Search:
    """A network and how many evaluations its search may take.

    Parameters
    ----------
    network
        Behind the port that events come on: see `Network.at_port`.
    random
        Where chance comes from; everything else is determined.
    """

    def __init__(self, network: Network, random: np.random.Generator) -> None:
        self.network, self.random = network, random
        self.low, self.high = network.port.bounds
        self.size = network.nodes[0].size
        self.quantizers = inner(network)
        cost = max(1, sum(_cost(node) for node in network.nodes))
        self.effort = int(np.clip(_WORK / cost, _FEWEST, _MOST))
        # Events to start from: as many as memory and time allow.
        self.pool = max(256, min(self.effort // 16, _INPUT_VALUES // self.size))

    def values(self, counts: Counts, names: list[str]) -> dict[str, Array]:
        """What layers give for events, (N, size), as counts."""
        parts: dict[str, list[Array]] = {name: [] for name in names}
        for chunk in self._chunks(counts, names):
            found = record(self.network, chunk.reshape(-1, *self.network.shape), names)
            for name in parts:  # two quantizers may read one layer
                parts[name].append(found[name].reshape(len(chunk), -1))
        return {name: np.concatenate(each) for name, each in parts.items()}

    def at(self, counts: Counts, name: str, units: NDArray[np.int64]) -> Array:
        """One value of a layer per event, (N,)."""
        parts = [
            found[name].reshape(len(chunk), -1)[np.arange(len(chunk)), mine]
            for chunk, mine, found in self._recorded(counts, name, units)
        ]
        return np.concatenate(parts)

    def slopes(
        self, counts: Counts, name: str, units: NDArray[np.int64]
    ) -> tuple[Array, NDArray[np.float64]]:
        """One value of a layer per event, and how many of its counts a count of an input makes."""
        scale = 2.0 ** (self.network.bounds[name].fraction - self.network.port.fraction)
        values, slopes = [], []
        for chunk, mine, found in self._recorded(counts, name, units):
            rows = np.arange(len(chunk))
            upstream = np.zeros((len(chunk), self.network[name].size))
            upstream[rows, mine] = scale
            shaped = {name: upstream.reshape(found[name].shape)}
            slope = backward(self.network, found, shaped, leak=_LEAK)[self.network.nodes[0].name]
            values.append(found[name].reshape(len(chunk), -1)[rows, mine])
            slopes.append(slope.reshape(len(chunk), -1))
        return np.concatenate(values), np.concatenate(slopes)

    def _recorded(
        self, counts: Counts, name: str, units: NDArray[np.int64]
    ) -> Iterator[tuple[Counts, NDArray[np.int64], dict[str, Array]]]:
        place = 0
        for chunk in self._chunks(counts, [name]):
            shaped = chunk.reshape(-1, *self.network.shape)
            yield (
                chunk,
                units[place : place + len(chunk)],
                record(self.network, shaped, [name]),
            )
            place += len(chunk)

    def _chunks(self, counts: Counts, names: list[str]) -> Iterator[Counts]:
        largest = max(_cells(node) for node in ancestors(self.network, names))
        size = max(1, _CELLS // largest)
        for start in range(0, max(1, len(counts)), size):
            yield counts[start : start + size]

    def units(self, node: Node, most: int) -> NDArray[np.int64]:
        """Some values of a layer, all of them if they are few: as many of each channel."""
        if node.size <= most:
            return np.arange(node.size)
        channels = node.shape[-1]
        positions = node.size // channels
        each = max(1, most // channels)
        chosen = self.random.permutation(channels)[:most]
        picked = [
            self.random.choice(positions, min(each, positions), False) * channels + channel
            for channel in chosen
        ]
        return np.sort(np.concatenate(picked))


def _cells(node: Node) -> int:
    if isinstance(node, Affine) and node.kernel.ndim == 4:
        return node.size // node.shape[-1] * int(np.prod(node.kernel.shape[:3]))
    return node.size


def _cost(node: Node) -> int:
    if isinstance(node, Affine):
        return node.size * int(np.prod(node.kernel.shape[:-1])) + _cells(node)
    return node.size
