"""Corner inputs: on the port's grid and in its range, hard on the network behind it.

Zeros, extremes, single hot inputs, checkerboards and random events of every density; and events,
found by search, for which *inner* quantizers see rounding ties (where rounding modes differ),
saturate, and are given values as close to their interval bounds as the search can get. Ties and
saturation of the port itself are left out: events come on the port's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Quantize
from l1kd.exact.network import Network
from l1kd.firmware.stimuli.corner_search import STEPS, Counts, Search, extremes, hits

Events = NDArray[np.float64]


@dataclass(frozen=True)
class Reached:
    """Effect of the corner inputs on one quantizer: numbers of values, all events and units."""

    values: int  # all that enter it
    ties: int  # exactly half way between two of its steps, inside its range
    above: int  # beyond its highest value
    below: int  # below its lowest value (for a ReLU: below 0)
    lowest: float
    highest: float
    bound: tuple[float, float]  # by interval arithmetic; no event may reach it further back
    possible: tuple[str, ...]  # which of ties, above and below the types and the bound allow

    @property
    def fraction(self) -> float:
        """Share of the bound's span that is reached; 1 is all of it."""
        low, high = self.bound
        return (self.highest - self.lowest) / (high - low) if high > low else 1.0


@dataclass(frozen=True)
class CornerReport:
    """Number of corner inputs, and their effect on each inner quantizer."""

    events: int
    layers: Mapping[str, Reached]

    @property
    def fraction(self) -> float | None:
        """The smallest share of its bound that a layer reaches; None without inner quantizers."""
        return min((layer.fraction for layer in self.layers.values()), default=None)

    @property
    def summary(self) -> str:
        """One line for the user."""
        if not self.layers:
            return f"{self.events} corner inputs"
        parts = []
        for kind, verb in (("ties", "tie"), ("above", "saturate"), ("below", "underflow")):
            able = [layer for layer in self.layers.values() if kind in layer.possible]
            done = sum(getattr(layer, kind) > 0 for layer in able)
            parts.append(f"{done} of {len(able)} {verb}")
        shares = ((name, np.floor(100 * layer.fraction)) for name, layer in self.layers.items())
        return (
            f"{self.events} corner inputs; inner quantizers: {', '.join(parts)}; of their interval "
            f"bounds reached: {', '.join(f'{name} {share:.0f}%' for name, share in shares)}"
        )


def corners(
    port: FixedPoint,
    shape: tuple[int, ...],
    network: Network | None = None,
    *,
    seed: int = 0,
    limit: int = 2048,
) -> tuple[Events, CornerReport]:
    """Corner inputs (N, *shape), each value one of `port`'s, without repetitions; and a report.

    With a network, whose own port may be wider than `port`, half of the events are left to the
    search of its inner quantizers' corners.
    """
    random = np.random.default_rng([seed, 0xC0])
    first = plain(port, shape, random, limit // 2 if network else limit)
    search, kinds = None, []
    if network is not None:
        search = Search(network if port == network.port else network.at_port(port), random)
        kinds = searched(search, first)
    # Turn by turn, so that a limit cuts every layer's share alike; plain events come first.
    counts = distinct(np.concatenate([first, turns(kinds, first.shape[1])]))[:limit]
    reached = {}
    if search:
        entering = search.values(counts, [node.sources[0] for node in search.quantizers])
        for node in search.quantizers:
            reached[node.name] = _reached(search.network, node, entering[node.sources[0]])
    return (counts * port.lsb).reshape(-1, *shape), CornerReport(len(counts), reached)


def distinct(counts: Counts) -> Counts:
    """Events without repetitions, in their order."""
    _, place = np.unique(counts, axis=0, return_index=True)
    return counts[np.sort(place)]


def searched(search: Search, first: Counts) -> list[Counts]:
    """Events found for each inner quantizer: extremes, ties, ends; `first` are among the starts."""
    port, shape = search.network.port, search.network.shape
    pool = np.concatenate([first, mixed(port, shape, search.random, search.pool)])
    pool = pool[search.random.permutation(len(pool))[: 2 * search.pool]]
    entering = search.values(pool, [node.sources[0] for node in search.quantizers])
    share = search.effort // max(1, len(search.quantizers))
    groups = []
    for node in search.quantizers:
        reached = entering[node.sources[0]]
        groups.append(extremes(search, node, pool, reached, share))
        # A step with its derivative is about four evaluations, of about twenty values each.
        groups += hits(search, node, pool, reached, max(3, share // (20 * 4 * STEPS)))
    return groups


def _reached(network: Network, node: Quantize, entering: NDArray[Any]) -> Reached:
    """Effect on one quantizer of the counts that enter it, (N, size)."""
    bound = network.bounds[node.sources[0]]
    offset, fraction = node.seen(bound.fraction)
    shift = fraction - node.type.fraction
    low, high = (end * 2.0**shift - offset for end in node.type.bounds)
    above, below, tied = entering > high, entering < low, np.zeros(entering.shape, np.bool_)
    least, most = float(bound.lowest), float(bound.highest)
    possible = {"ties": shift > 0, "above": most > high, "below": least < low}
    if possible["ties"]:
        tied = np.mod(entering + offset, 2**shift) == 2 ** (shift - 1)
    ties, higher, lower = (int(np.sum(each)) for each in (tied & ~above & ~below, above, below))
    lsb = 2.0**-bound.fraction
    ends = float(entering.min()) * lsb, float(entering.max()) * lsb
    able = tuple(kind for kind, can in possible.items() if can)
    return Reached(entering.size, ties, higher, lower, *ends, (least * lsb, most * lsb), able)


def turns(groups: list[Counts], size: int) -> Counts:
    """Events of several groups: the first of each, the second of each, and so on."""
    longest = max((len(group) for group in groups), default=0)
    rows = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return np.array(rows, np.int64).reshape(-1, size)


def plain(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, limit: int
) -> Counts:
    """Events without a search: constants, checkerboards, single inputs, random ones."""
    size, (low, high) = int(np.prod(shape)), port.bounds
    levels = [level for level in dict.fromkeys((0, high, low, 1, -1)) if low <= level <= high]
    parity = np.indices(shape).sum(0).reshape(-1) % 2
    first = [np.full(size, level) for level in levels]
    first += [np.where(parity == side, high, other) for side in (0, 1) for other in {0, low}]
    first += [np.where(np.arange(size) < size // 2, a, b) for a, b in ((high, low), (low, high))]
    room = max(0, limit - len(first)) * 2 // 3
    inputs, hot_levels = np.arange(size), [level for level in levels if level]
    if size * len(hot_levels) > room:
        inputs = np.sort(random.choice(size, max(1, room // len(hot_levels)), replace=False))
    hot = np.zeros((len(hot_levels), len(inputs), size), np.int64)
    for row, level in zip(hot, hot_levels, strict=True):
        row[np.arange(len(inputs)), inputs] = level
    counts = np.concatenate([np.array(first, np.int64), hot.reshape(-1, size)])[:limit]
    return np.concatenate([counts, mixed(port, shape, random, limit - len(counts))])


def mixed(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, events: int
) -> Counts:
    """Random events of all densities and sizes: full range and log-uniform, full and sparse."""
    low, high = port.bounds
    draw = (events, *shape)
    full = random.integers(low, high, draw, endpoint=True)
    small = np.rint(np.exp(random.uniform(0, np.log(high + 1), draw)))
    small *= random.choice([1, -1] if low < 0 else [1], draw)
    # The density is one per event: 1 for a third of them, anything below for the rest.
    row = (events, *(1 for _ in shape))
    density = np.where(random.random(row) < 1 / 3, 1.0, random.random(row) ** 3)
    values = np.where(random.random(row) < 0.5, full, small)
    scale = np.where(random.random(row) < 0.5, 1.0, random.random(row) ** 3)
    values = np.trunc(values * scale) * (random.random(draw) < density)
    return np.clip(values, low, high).astype(np.int64).reshape(events, int(np.prod(shape)))
