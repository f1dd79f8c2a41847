"""Corner inputs: on the port's grid and in its range, chosen to be hard on what lies behind it.

Zeros, extremes, single hot inputs, checkerboards and random events of every density; and events,
found by search, for which *internal* quantizers tie (a value exactly half way between two steps:
where rounding modes part) and saturate. Ties and saturation of the port itself are no corner of the
network: events come on the port's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from l1kd.fixedpoint import FixedPoint

__all__ = ["CornerReport", "Network", "Reached", "corners"]

Events = NDArray[np.float64]

_CANDIDATES = 512  # random events that the search starts from
_ROUNDS = 6  # steps towards higher (lower) values of a unit
_NUDGES = 8  # attempts to move a value onto a tie
_PER_KIND = 48  # events kept of each layer's ties, and of each of its ends


class Network(Protocol):
    """What the search needs of a network; `l1kd.firmware.network.Probe` is one."""

    @property
    def types(self) -> Mapping[str, FixedPoint]:
        """The inner quantizers by layer."""

    def values(self, events: Events) -> dict[str, NDArray[np.float64]]:
        """What reaches each quantizer, (N, size)."""

    def gradient(self, events: Events, layer: str, units: NDArray[np.int64]) -> Events:
        """Derivative of what reaches one unit per event, to the inputs."""


@dataclass(frozen=True)
class Reached:
    """What the corner events do to one quantizer; counts of values, all events and units.

    Parameters
    ----------
    values
        How many reach it.
    ties
        Exactly half way between two of its steps, inside its range.
    above, below
        Beyond its highest value, below its lowest (for a ReLU: below 0).
    lowest, highest
        The extreme values that reach it.
    """

    values: int
    ties: int
    above: int
    below: int
    lowest: float
    highest: float


@dataclass(frozen=True)
class CornerReport:
    """How many corner events there are, and what they reach in each inner quantizer."""

    events: int
    layers: Mapping[str, Reached]

    @property
    def summary(self) -> str:
        """One line for the user."""
        layers = self.layers.values()
        parts = (
            f"{sum(getattr(layer, kind) > 0 for layer in layers)} of {len(self.layers)} {what}"
            for kind, what in (("ties", "tie"), ("above", "saturate"), ("below", "underflow"))
        )
        return f"{self.events} corner inputs; inner quantizers: {', '.join(parts)}"


def corners(
    port: FixedPoint,
    shape: tuple[int, ...],
    network: Network | None = None,
    *,
    seed: int = 0,
    limit: int = 2048,
) -> tuple[Events, CornerReport]:
    """Corner inputs of a port, and of the network behind it if there is one.

    Parameters
    ----------
    port
        The input's type.
    shape
        Of one event.
    network
        Whose inner quantizers are to tie and to saturate.
    seed
        Two calls with one seed give the same events.
    limit
        How many events at most; half of them are left to the search.

    Returns
    -------
    tuple
        Events (N, *shape), each value one of `port`'s, without repetitions; and what they reach.
    """
    random = np.random.default_rng([seed, 0xC0])
    plain = _plain(port, shape, random, limit // 2 if network else limit)
    found = [plain]
    if network is not None:
        start = np.concatenate([plain, _mixed(port, shape, random, _CANDIDATES)])
        values = network.values(start)
        for layer, kind in network.types.items():
            found += [
                _ties(network, layer, kind, port, start, values[layer], random),
                _extremes(network, layer, port, start, values[layer], random, up=True),
                _extremes(network, layer, port, start, values[layer], random, up=False),
            ]
    # Turn by turn, so that a limit cuts every layer's share alike; plain events come first.
    rest = [event for turn in _turns(found[1:]) for event in turn]
    events = np.concatenate([plain, np.array(rest).reshape(-1, *shape)])
    _, first = np.unique(events.reshape(len(events), -1), axis=0, return_index=True)
    events = events[np.sort(first)][:limit]
    return events, CornerReport(len(events), _reached(network, events) if network else {})


def _reached(network: Network, events: Events) -> dict[str, Reached]:
    values = network.values(events)
    return {
        layer: Reached(
            values=values[layer].size,
            ties=int(np.sum(_tied(kind, values[layer]))),
            above=int(np.sum(values[layer] > kind.high)),
            below=int(np.sum(values[layer] < kind.low)),
            lowest=float(values[layer].min()),
            highest=float(values[layer].max()),
        )
        for layer, kind in network.types.items()
    }


def _tied(kind: FixedPoint, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return kind.ties(values) & (values > kind.low) & (values < kind.high)


def _turns(groups: list[Events]) -> list[list[Events]]:
    return [
        [group[turn] for group in groups if turn < len(group)]
        for turn in range(max((len(group) for group in groups), default=0))
    ]


def _plain(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, limit: int
) -> Events:
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
    hot = np.zeros((len(hot_levels), len(inputs), size))
    for row, level in zip(hot, hot_levels, strict=True):
        row[np.arange(len(inputs)), inputs] = level
    first = np.array([*constant, *board, *halves], np.float64)
    counts = np.concatenate([first, hot.reshape(-1, size)])[:limit]
    events = (counts * port.lsb).reshape(-1, *shape)
    return np.concatenate([events, _mixed(port, shape, random, limit - len(events))])


def _mixed(
    port: FixedPoint, shape: tuple[int, ...], random: np.random.Generator, events: int
) -> Events:
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
    return np.clip(values, low, high) * port.lsb


def _ties(
    network: Network,
    layer: str,
    kind: FixedPoint,
    port: FixedPoint,
    start: Events,
    values: NDArray[np.float64],
    random: np.random.Generator,
) -> Events:
    """Events with a tie in `layer`: those that have one already, then some nudged onto one."""
    tied = _tied(kind, values)
    # One event per unit that ties, before more of the same unit.
    _, by_unit = np.unique(
        np.argmax(tied, axis=1) + tied.shape[1] * ~tied.any(1), return_index=True
    )
    order = [*by_unit, *np.flatnonzero(tied.any(1))]
    chosen = [index for index in dict.fromkeys(order) if tied[index].any()][:_PER_KIND]
    found = start[chosen]
    if len(found) >= _PER_KIND // 2:
        return found
    inside = (values > kind.low) & (values < kind.high)
    usable = np.flatnonzero(inside.any(1))
    if not len(usable):
        return found
    low, high = port.bounds
    for _ in range(_NUDGES):
        events = (
            start[random.choice(usable, min(256, len(usable)))].copy().reshape(-1, start[0].size)
        )
        # A few inputs move by a few steps: values wander over the fine grid of the accumulator.
        for _ in range(3):
            place = random.integers(0, events.shape[1], len(events))
            rows = np.arange(len(events))
            step = random.integers(-4, 5, len(events)) * port.lsb
            events[rows, place] = np.clip(
                events[rows, place] + step, low * port.lsb, high * port.lsb
            )
        events = events.reshape(-1, *start.shape[1:])
        hits = _tied(kind, network.values(events)[layer]).any(1)
        found = np.concatenate([found, events[hits]])[:_PER_KIND]
        if len(found) == _PER_KIND:
            break
    return found


def _extremes(
    network: Network,
    layer: str,
    port: FixedPoint,
    start: Events,
    values: NDArray[np.float64],
    random: np.random.Generator,
    *,
    up: bool,
) -> Events:
    """Events that drive units of `layer` as high (low) as following the gradient's sign can."""
    sign = 1 if up else -1
    units = random.integers(0, values.shape[1], _PER_KIND)
    # From the best start of each unit.
    best = np.argmax(sign * values[:, units], axis=0)
    events, reached = start[best].copy(), values[best, units]
    for _ in range(_ROUNDS):
        slope = sign * network.gradient(events, layer, units)
        moved = np.where(slope > 0, port.high, np.where(slope < 0, port.low, events))
        # Half of the inputs of half of the events stay: the gradient is that of one piece only.
        stay = (random.random(moved.shape) < 0.5) & (
            random.random((len(moved), *(1 for _ in moved.shape[1:]))) < 0.5
        )
        moved = np.where(stay, events, moved)
        after = network.values(moved)[layer][np.arange(len(units)), units]
        better = sign * after > sign * reached
        events[better], reached = moved[better], np.where(better, after, reached)
    return events
