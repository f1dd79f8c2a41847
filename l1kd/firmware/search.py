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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.gradient import ancestors, backward, record, seen
from l1kd.exact.graph import Affine, Network, Node, Quantize

__all__ = ["Aim", "Search", "inner"]

Counts = NDArray[np.int64]
Array = NDArray[Any]

_WORK = 4e9  # multiplications that a search may cost, about
_FEWEST, _MOST = 1_500, 200_000  # evaluations of an event, at least and at most
_ROUNDS = 60  # steps towards a higher (lower) value
_STEPS = 6  # steps towards a value that is aimed at
_LEAK = 0.05
_STARTS = 400  # events to choose a start from
_INPUTS = 48  # that may move towards a value that is aimed at
_INPUT_VALUES = 1 << 21  # of the events that searches start from
_CELLS = 1 << 22  # of the largest layer in memory at a time
_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


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


@dataclass(frozen=True)
class Aim:
    """What was found for one quantizer: events (N, inputs), kind by kind."""

    extremes: Counts
    ties: Counts
    edges: Counts

    def groups(self) -> list[Counts]:
        """All kinds."""
        return [self.extremes, self.ties, self.edges]


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
            for name in names:
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

    def aim(self, node: Quantize, pool: Counts, reached: Array) -> Aim:
        """Events for one quantizer.

        Parameters
        ----------
        node
            The quantizer.
        pool
            Events to start from.
        reached
            What enters the quantizer for each of them, counts (len(pool), size).
        """
        share = self.effort // len(self.quantizers)
        # A step with its derivative is about four evaluations.
        extremes = self.extremes(node, pool, reached, max(4, share // (2 * 4 * _ROUNDS)))
        ties, edges = self.values_aimed_at(node, pool, reached, max(3, share // (20 * 4 * _STEPS)))
        return Aim(extremes, ties, edges)

    def extremes(self, node: Quantize, pool: Counts, reached: Array, most: int) -> Counts:
        """Events that drive values as high, and as low, as following derivatives can."""
        name = node.sources[0]
        bound = self.network.bounds[name]
        units = self.units(self.network[name], min(most, 64))
        # Few values are worth several starts each.
        starts = max(1, min(most, 32) // len(units))
        sign = np.repeat([1.0, -1.0], len(units) * starts)
        units = np.tile(units, 2 * starts)
        ends = np.where(sign > 0, bound.high.reshape(-1)[units], bound.low.reshape(-1)[units])
        few = len(units) // 2 // starts
        order = np.argsort(reached[:, units[:few]], axis=0, kind="stable")
        turn = np.repeat(np.arange(starts), few) % len(pool)
        best = np.concatenate(
            [
                order[-1 - turn, np.tile(np.arange(few), starts)],
                order[turn, np.tile(np.arange(few), starts)],
            ]
        )
        events, at = pool[best].copy(), reached[best, units].astype(np.float64)
        for round_ in range(_ROUNDS):
            todo = np.flatnonzero(at != ends)
            if not len(todo):
                break
            _, slope = self.slopes(events[todo], name, units[todo])
            slope *= sign[todo, None]
            moved = np.where(slope > 0, self.high, np.where(slope < 0, self.low, events[todo]))
            if round_:
                # A derivative holds for one piece of the function only: some of the inputs stay.
                moved = np.where(self._some(len(todo), patch=round_ % 2 == 1), moved, events[todo])
            after = self.at(moved, name, units[todo]).astype(np.float64)
            better = sign[todo] * after > sign[todo] * at[todo]
            events[todo[better]], at[todo[better]] = moved[better], after[better]
        # The best of the starts first, then the next best; each time high and low in turn.
        ranks = (-sign * at).reshape(2, starts, -1).argsort(axis=1, kind="stable").argsort(axis=1)
        both = np.arange(len(units)).reshape(2, starts, -1) % (len(units) // starts // 2)
        order = np.lexsort((sign < 0, both.reshape(-1), ranks.reshape(-1)))
        return events[order]

    def _some(self, events: int, *, patch: bool) -> NDArray[np.bool_]:
        """A choice of inputs for each event: scattered ones, or those of a part of the image."""
        shape = self.network.shape
        if not patch:
            share = self.random.random((events, 1)) ** 2
            return np.asarray(self.random.random((events, self.size)) < share)
        chosen = np.ones((events, *shape), np.bool_)
        for axis, side in enumerate(shape[:-1] if len(shape) > 1 else shape):
            length = np.ceil(side * self.random.random(events) ** 2).astype(int)
            start = np.floor((side - length + 1) * self.random.random(events)).astype(int)
            place = np.arange(side)
            inside = (place >= start[:, None]) & (place < (start + length)[:, None])
            wide = [1] * len(shape)
            wide[axis] = side
            chosen &= inside.reshape(events, *wide)
        return chosen.reshape(events, self.size)

    def values_aimed_at(
        self, node: Quantize, pool: Counts, reached: Array, most: int
    ) -> tuple[Counts, Counts]:
        """Events with ties and their neighbours, and with values at the ends of the range."""
        offset, fraction = seen(self.network, node)
        shift = fraction - node.type.fraction
        step = 1 << max(shift, 0)
        half = step // 2
        low, high = (end * step if shift > 0 else end for end in node.type.bounds)
        around = {base + beside for base in (low, 0, high) for beside in (-1, 0, 1)}
        around |= {low - half, low - half - 1, -half, half, high + half - 1, high + half}
        # Of two steps: half to even goes down from one tie and up from the next.
        ties = [half, step + half, half + 1, step + half - 1] if half else []
        if shift < 0:
            around = set()  # nothing is rounded, and an end lies between two values
        edges = self._reached(node, pool, reached, most, sorted(around), None, offset)
        tied = self._reached(node, pool, reached, 3 * most, ties, 2 * step, offset)
        return tied, edges

    def _reached(
        self,
        node: Quantize,
        pool: Counts,
        reached: Array,
        most: int,
        targets: list[int],
        modulus: int | None,
        offset: int,
    ) -> Counts:
        """Events in which values equal targets, modulo `modulus` if there is one."""
        name = node.sources[0]
        if not targets:
            return np.empty((0, self.size), np.int64)
        units = self.units(self.network[name], min(most, 48))
        units = np.tile(units, max(1, min(most, 24) // len(units)))  # from several starts each
        aims = np.repeat(np.array(targets, np.float64) - offset, len(units))
        units = np.tile(units, len(targets))
        some = self.random.permutation(len(pool))[:_STARTS]
        start = reached[some][:, units].astype(np.float64)
        if modulus is None:
            # From one that is near, and another one for each try.
            best = np.argmin(abs(start - aims) * self.random.uniform(1, 2, start.shape), axis=0)
        else:
            # Inside of the range, where rounding shows, and from another event for each.
            low, high = (e * modulus / 2 - offset for e in node.type.bounds)
            order = self.random.random(start.shape) + 2.0 * ((start < low) | (start > high))
            best = np.argmin(order, axis=0)
        events = pool[some[best]].copy()
        # Every unit in turn, with all of its targets.
        turns = np.arange(len(units)).reshape(len(targets), -1).T.reshape(-1).argsort()
        hits, places = [], []
        for _ in range(_STEPS):
            value, slope = self.slopes(events, name, units)
            missing = _missing(aims - value.astype(np.float64), modulus)
            there = missing == 0
            hits.append(events[there])
            places.append(turns[there])
            if there.all():
                break
            events, units, aims, turns = (each[~there] for each in (events, units, aims, turns))
            events = self._stepped(events, missing[~there], slope[~there], modulus)
        return np.concatenate(hits)[np.argsort(np.concatenate(places))]

    def _stepped(
        self,
        events: Counts,
        missing: NDArray[np.float64],
        slope: NDArray[np.float64],
        modulus: int | None,
    ) -> Counts:
        """Events with an input or two changed so that least is missing."""
        span = self.high - self.low
        multiples = [size for size in _MULTIPLES if size <= span] or [1]
        steps = np.array([sign * size for size in multiples for sign in (1, -1)], np.int64)
        moved = events.copy()
        for row in range(len(events)):
            useful = np.flatnonzero(slope[row])
            if not len(useful):
                useful = self.random.integers(0, self.size, 1)
            # Which inputs, chance decides, or the same ones would always move.
            useful = self.random.permutation(useful)[:_INPUTS]
            after = events[row, useful][:, None] + steps
            where, which = np.nonzero((after >= self.low) & (after <= self.high))
            made = slope[row, useful[where]] * steps[which]
            for choice in _least(missing[row], made, where, np.abs(steps)[which], modulus):
                moved[row, useful[where[choice]]] += steps[which[choice]]
        return moved


def _least(
    missing: float,
    made: NDArray[np.float64],
    where: NDArray[np.int64],
    size: NDArray[np.int64],
    modulus: int | None,
) -> tuple[int, ...]:
    """The change, or the two of different inputs, that leave least missing, by small steps."""
    if not len(made):
        return ()
    left = abs(_missing(missing - made, modulus))
    if left.min() == 0:
        exact = np.flatnonzero(left == 0)
        return (int(exact[np.argmin(size[exact])]),)
    order = np.argsort(_missing(made, modulus), kind="stable")
    ordered = _missing(made, modulus)[order]
    wanted = _missing(missing - made, modulus)
    place = np.minimum(np.searchsorted(ordered, wanted), len(made) - 1)
    other = order[place]
    exact = np.flatnonzero((ordered[place] == wanted) & (where[other] != where))
    if len(exact):
        best = int(exact[np.argmin((size + size[other])[exact])])
        return best, int(other[best])
    return (int(np.argmin(left)),)


def _missing(difference: NDArray[np.float64], modulus: int | None) -> NDArray[np.float64]:
    if modulus is None:
        return difference
    turned: NDArray[np.float64] = np.mod(difference + modulus / 2, modulus) - modulus / 2
    return turned


def _cells(node: Node) -> int:
    if isinstance(node, Affine) and node.kernel.ndim == 4:
        return node.size // node.shape[-1] * int(np.prod(node.kernel.shape[:3]))
    return node.size


def _cost(node: Node) -> int:
    if isinstance(node, Affine):
        return node.size * int(np.prod(node.kernel.shape[:-1])) + _cells(node)
    return node.size
