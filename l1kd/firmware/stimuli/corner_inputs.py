"""Corner inputs: on the port's grid and in its range, chosen to be hard on what lies behind it.

Zeros, extremes, single hot inputs, checkerboards and random events of every density; and events,
found by search, for which *internal* quantizers tie (a value exactly half way between two steps:
where rounding modes part), meet the ends of their range, and are given values as close to the bound
of interval arithmetic as the search can get. Ties and saturation of the port itself are no corner
of the network: events come on the port's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.gradient import seen
from l1kd.exact.network import Network, Quantize
from l1kd.firmware.stimuli.corner_search import STEPS, Search, extremes, met

Events = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Reached:
    """What the corner events do to one quantizer; counts of values, all events and units."""

    values: int  # how many reach it
    ties: int  # exactly half way between two of its steps, inside its range
    above: int  # beyond its highest value, below its lowest (for a ReLU: below 0)
    below: int
    lowest: float  # the extreme values that reach it
    highest: float
    # the lowest and the highest that interval arithmetic allows; further back in a network these
    # may be wider than what any event can reach
    bound: tuple[float, float]
    # which of `ties`, `above` and `below` the types and the bound allow at all
    possible: tuple[str, ...]

    @property
    def fraction(self) -> float:
        """How much of the span of the bound is reached; 1 is all of it."""
        low, high = self.bound
        return (self.highest - self.lowest) / (high - low) if high > low else 1.0


@dataclass(frozen=True)
class CornerReport:
    """How many corner events there are, and what they reach in each inner quantizer."""

    events: int
    layers: Mapping[str, Reached]

    @property
    def fraction(self) -> float | None:
        """The least part of its bound that a layer reaches; None if there are none."""
        return min((layer.fraction for layer in self.layers.values()), default=None)

    @property
    def summary(self) -> str:
        """One line for the user."""
        if not self.layers:
            return f"{self.events} corner inputs"
        parts = []
        for kind, what in (("ties", "tie"), ("above", "saturate"), ("below", "underflow")):
            able = [layer for layer in self.layers.values() if kind in layer.possible]
            done = sum(getattr(layer, kind) > 0 for layer in able)
            parts.append(f"{done} of {len(able)} {what}")
        reached = ", ".join(
            f"{name} {np.floor(100 * layer.fraction):.0f}%" for name, layer in self.layers.items()
        )
        return (
            f"{self.events} corner inputs; inner quantizers: {', '.join(parts)}; "
            f"of their interval bounds reached: {reached}"
        )


def corners(
    port: FixedPoint,
    shape: tuple[int, ...],
    network: Network | None = None,
    *,
    seed: int = 0,
    limit: int = 2048,
) -> tuple[Events, CornerReport]:
    """Corner inputs of a port, and of the network behind it if there is one.

    Returns events (N, *shape), each value one of `port`'s, without repetitions; and what they
    reach.
    """
    random = np.random.default_rng([seed, 0xC0])
    first = plain(port, shape, random, limit // 2 if network else limit)
    search, kinds = None, []
    if network is not None:
        search = Search(network if port == network.port else network.at_port(port), random)
        kinds = found(search, first)
    # Turn by turn, so that a limit cuts every layer's share alike; plain events come first.
    counts = np.concatenate([first, turns(kinds, first.shape[1])])
    _, place = np.unique(counts, axis=0, return_index=True)
    counts = counts[np.sort(place)][:limit]
    events = (counts * port.lsb).reshape(-1, *shape)
    return events, CornerReport(len(events), _reached(search, counts) if search else {})


def found(search: Search, first: Counts) -> list[Counts]:
    """What a search finds for the inner quantizers, `first` among its starts: kind by kind."""
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
        groups += met(search, node, pool, reached, max(3, share // (20 * 4 * STEPS)))
    return groups


def _reached(search: Search, counts: Counts) -> dict[str, Reached]:
    names = [node.sources[0] for node in search.quantizers]
    entering = search.values(counts, names)
    return {
        node.name: _one(search.network, node, entering[name])
        for node, name in zip(search.quantizers, names, strict=True)
    }


def _one(network: Network, node: Quantize, entering: NDArray[Any]) -> Reached:
    offset, fraction = seen(network, node)
    shift = fraction - node.type.fraction
    low, high = (end * 2.0**shift - offset for end in node.type.bounds)
    above, below = entering > high, entering < low
    bound = network.bounds[node.sources[0]]
    least, most = float(bound.low.min()), float(bound.high.max())
    possible = {"ties": shift > 0, "above": most > high, "below": least < low}
    tied = 0
    if possible["ties"]:
        rest = np.mod(entering + offset, 2**shift) == 2 ** (shift - 1)
        tied = int(np.sum(rest & ~above & ~below))
    lsb = 2.0**-bound.fraction
    return Reached(
        values=entering.size,
        ties=tied,
        above=int(np.sum(above)),
        below=int(np.sum(below)),
        lowest=float(entering.min()) * lsb,
        highest=float(entering.max()) * lsb,
        bound=(least * lsb, most * lsb),
        possible=tuple(kind for kind, can in possible.items() if can),
    )


def turns(groups: list[Counts], size: int) -> Counts:
    """Events of several groups: the first of each, the second of each, and so on."""
    longest = max((len(group) for group in groups), default=0)
    rows = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return np.array(rows, np.int64).reshape(-1, size)


def plain(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, limit: int
) -> Counts:
    """Events that need no network: constants, checkerboards, single inputs, random ones."""
    size = int(np.prod(shape))
    low, high = port.bounds
    levels = [level for level in dict.fromkeys((0, high, low, 1, -1)) if low <= level <= high]
    parity = np.indices(shape).sum(0).reshape(-1) % 2
    constant = [np.full(size, level) for level in levels]
    board = [np.where(parity == side, high, other) for side in (0, 1) for other in {0, low}]
    halves = [np.where(np.arange(size) < size // 2, a, b) for a, b in ((high, low), (low, high))]
    room = max(0, limit - len(constant) - len(board) - len(halves))
    inputs = np.arange(size)
    hot_levels = [level for level in levels if level]
    if len(inputs) * len(hot_levels) > room * 2 // 3:
        inputs = np.sort(
            random.choice(size, max(1, room * 2 // 3 // len(hot_levels)), replace=False)
        )
    hot = np.zeros((len(hot_levels), len(inputs), size), np.int64)
    for row, level in zip(hot, hot_levels, strict=True):
        row[np.arange(len(inputs)), inputs] = level
    first = np.array([*constant, *board, *halves], np.int64)
    counts = np.concatenate([first, hot.reshape(-1, size)])[:limit]
    return np.concatenate([counts, mixed(port, shape, random, limit - len(counts))])


def mixed(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, events: int
) -> Counts:
    """Random events of all densities and sizes: full range and log-uniform, full and sparse."""
    low, high = port.bounds
    draw = (events, *shape)
    full = random.integers(low, high, draw, endpoint=True)
    small = np.rint(np.exp(random.uniform(0, np.log(high + 1), draw))) * random.choice(
        [1, -1] if low < 0 else [1], draw
    )
    # The density is one per event: 1 for a third of them, anything below for the rest.
    row = (events, *(1 for _ in shape))
    density = np.where(random.random(row) < 1 / 3, 1.0, random.random(row) ** 3)
    values = np.where(random.random(row) < 0.5, full, small)
    scale = np.where(random.random(row) < 0.5, 1.0, random.random(row) ** 3)
    values = np.trunc(values * scale) * (random.random(draw) < density)
    return np.clip(values, low, high).astype(np.int64).reshape(events, int(np.prod(shape)))
