"""Events that make what enters a quantizer as high, and as low, as a search can.

One step along the signs of the derivatives is the best there is for the first layer of sums.
Further back it is a start, and small parts of the event are tried with other values: all parts at
once, each in an event of its own, so that what helps in one place is kept together with what helps
in another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.graph import Quantize
from l1kd.firmware.search import Search

__all__ = ["extremes"]

Counts = NDArray[np.int64]
Array = NDArray[Any]
Floats = NDArray[np.float64]

_UNITS = 48  # values of a layer that are driven to their ends, at most
_STARTS = 16  # of one value, where there are few
_SIGNS = 4  # steps along the derivatives' signs before parts are tried again
_SIZES = (2, 3, 4)  # of parts that are tried on their own
_ROUNDS = 16  # tries of every part, about
_PARTS = 60  # of an event, about


def extremes(search: Search, node: Quantize, pool: Counts, reached: Array, budget: int) -> Counts:
    """Events that drive values to their ends: each value's best first, high and low in turn.

    Parameters
    ----------
    search
        The network.
    node
        The quantizer.
    pool
        Events to start from, (N, inputs).
    reached
        What enters the quantizer for each of them, counts (N, size).
    budget
        Evaluations of an event that this may take, about.
    """
    name = node.sources[0]
    bound = search.network.bounds[name]
    most = max(3, budget // (2 * _PARTS * _ROUNDS))
    units = search.units(search.network[name], min(most, _UNITS))
    few, starts = len(units), max(1, min(most, _STARTS) // len(units))
    sign = np.repeat([1.0, -1.0], few * starts)
    units = np.tile(units, 2 * starts)
    ends = np.where(sign > 0, bound.high.reshape(-1)[units], bound.low.reshape(-1)[units])
    order = np.argsort(reached[:, units[:few]], axis=0, kind="stable")
    turn, column = np.repeat(np.arange(starts), few) % len(pool), np.tile(np.arange(few), starts)
    best = np.concatenate([order[-1 - turn, column], order[turn, column]])
    climb = _Climb(search, name, units, sign, pool[best], reached[best, units])
    climb.along(np.arange(len(units)), whole=True)
    if (climb.at != ends).any():
        for size in _SIZES:
            climb.compose(size, budget // (3 * len(_SIZES)))
    while climb.spent < budget:
        todo = np.flatnonzero(climb.at != ends)
        if not len(todo):
            break
        for _ in range(_SIGNS):
            climb.along(todo, whole=False)
        climb.parts(todo)
    ranks = (
        (-sign * climb.at).reshape(2, starts, few).argsort(axis=1, kind="stable").argsort(axis=1)
    )
    return climb.events[np.lexsort((sign < 0, np.tile(column, 2), ranks.reshape(-1)))]


class _Climb:
    """Events, each with the value that is to become higher (lower, where its sign is -1)."""

    def __init__(
        self,
        search: Search,
        name: str,
        units: NDArray[np.int64],
        sign: Floats,
        events: Counts,
        at: Array,
    ) -> None:
        self.search, self.name, self.units, self.sign = search, name, units, sign
        self.events, self.at = events.copy(), at.astype(np.float64)
        self.slopes: Floats = np.zeros(events.shape)
        self.spent = 0

    def along(self, rows: NDArray[np.int64], *, whole: bool) -> None:
        """All inputs, or some that chance picks, to the end that the derivative's sign says."""
        if not len(rows):
            return
        search = self.search
        _, slopes = search.slopes(self.events[rows], self.name, self.units[rows])
        self.spent += 3 * len(rows)
        self.slopes[rows] = slopes * self.sign[rows, None]
        moved = np.where(
            self.slopes[rows] > 0,
            search.high,
            np.where(self.slopes[rows] < 0, search.low, self.events[rows]),
        )
        if not whole:
            share = search.random.random((len(rows), 1)) ** 2
            moved = np.where(search.random.random(moved.shape) < share, moved, self.events[rows])
        self._keep(rows, moved)

    def compose(self, size: int, budget: int) -> None:
        """Events of parts, each the best of many that were tried alone: the same ones for all."""
        search = self.search
        tiles = _tiles(search, [size] * max(1, len(search.network.shape) - 1))
        each = budget // len(tiles)
        if each < 4:
            return
        base = np.clip(np.zeros((1, search.size), np.int64), search.low, search.high)
        start = search.values(base, [self.name])[self.name][0, self.units].astype(np.float64)
        self.spent += each * len(tiles)
        composed = np.repeat(base, len(self.units), axis=0)
        for inside in tiles:
            tried = np.where(inside, self._drawn((each, search.size)), base)
            values = search.values(tried, [self.name])[self.name][:, self.units]
            gain = (values.astype(np.float64) - start) * self.sign
            best = np.argmax(gain, axis=0)
            helps = gain[best, np.arange(len(best))] > 0
            composed[np.ix_(helps, inside)] = tried[best[helps]][:, inside]
        self._keep(np.arange(len(self.units)), composed)

    def _drawn(self, shape: tuple[int, int]) -> Counts:
        """Values of all sizes, or ends and zeros."""
        search = self.search
        random, low, high = search.random, search.low, search.high
        size = np.exp(random.uniform(0, np.log(high + 1), shape)).astype(np.int64)
        sizes = size * random.choice([1, 1, -1, -1, 0] if low else [1, 1, 0], shape)
        ends = random.choice([low, 0, high], shape)
        return np.clip(np.where(random.random((shape[0], 1)) < 0.25, ends, sizes), low, high)

    def parts(self, rows: NDArray[np.int64]) -> None:
        """Every part of every event tried with other values; what helps is kept together."""
        tiles = _tiles(self.search)
        # Inputs that the value does not hang on are no use.
        hanging = (self.slopes[rows] != 0).astype(np.float64) @ tiles.T.astype(np.float64) > 0
        row, tile = np.nonzero(hanging)
        if not len(row):
            self.spent += len(rows)
            return
        inside = tiles[tile]
        base = self.events[rows[row]]
        tried = np.where(inside, self._other(base, self.slopes[rows[row]]), base)
        gain = self.sign[rows[row]] * (self._value(tried, rows[row]) - self.at[rows[row]])
        together = self.events[rows].copy()
        helps = gain > 0
        for one in np.flatnonzero(helps):
            together[row[one], inside[one]] = tried[one, inside[one]]
        self._keep(rows, together)
        # Parts that do not add up: the best of them alone.
        best = np.full(len(rows), -1)
        order = np.argsort(gain, kind="stable")
        best[row[order]] = order
        some = np.flatnonzero(best >= 0)
        self._keep(rows[some], tried[best[some]])

    def _other(self, base: Counts, slopes: Floats) -> Counts:
        """Other values for all inputs of events, in one of several ways for each event."""
        random, low, high = self.search.random, self.search.low, self.search.high
        near = 1 << random.integers(0, max(1, (high - low).bit_length()), (len(base), 1))
        slope = np.sign(slopes).astype(np.int64)
        moved, way = base.copy(), random.integers(0, 5, (len(base), 1))
        moved = np.where(way == 0, np.where(slope > 0, high, np.where(slope < 0, low, base)), moved)
        moved = np.where(way == 1, base + slope * near, moved)
        moved = np.where(way == 2, base + random.integers(-1, 2, base.shape) * near, moved)
        new = np.flatnonzero(way >= 3)
        drawn = self._drawn((len(new), base.shape[1]))
        stay = (way[new] == 3) & (random.random(drawn.shape) < 0.5)
        moved[new] = np.where(stay, base[new], drawn)
        return np.clip(moved, low, high)

    def _value(self, events: Counts, rows: NDArray[np.int64]) -> Floats:
        self.spent += len(events)
        value: Floats = self.search.at(events, self.name, self.units[rows]).astype(np.float64)
        return value

    def _keep(self, rows: NDArray[np.int64], moved: Counts) -> None:
        if not len(rows):
            return
        after = self._value(moved, rows)
        better = self.sign[rows] * after > self.sign[rows] * self.at[rows]
        self.events[rows[better]], self.at[rows[better]] = moved[better], after[better]


def _tiles(search: Search, sizes: list[int] | None = None) -> NDArray[np.bool_]:
    """An event's inputs in parts, (parts, inputs): of given sizes, or as chance picks them."""
    random, shape = search.random, search.network.shape
    sides = shape[:-1] if len(shape) > 1 else shape
    number = np.zeros(shape, np.int64)
    least = int(np.ceil((np.prod(sides) / (2 * _PARTS)) ** (1 / len(sides))))
    for axis, side in enumerate(sides):
        # Windows that do not overlap begin at 0.
        offset = 0
        if sizes is not None:
            size = sizes[axis]
        else:
            size = int(random.integers(max(1, least), max(least, 2) + 3))
            offset = int(random.integers(size)) if random.random() < 0.3 else 0
        place = (np.arange(side) + offset) // size
        wide = [1] * len(shape)
        wide[axis] = side
        number = number * (place[-1] + 1) + place.reshape(wide)
    flat = number.reshape(-1)
    tiles: NDArray[np.bool_] = flat == np.unique(flat)[:, None]
    return tiles
