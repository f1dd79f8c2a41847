"""Corner inputs: on the port's grid and in its range, hard on the network behind it.

Zeros, extremes, single hot inputs, checkerboards, random events; and, by a search along
derivatives, events at which an inner quantizer reads its extremes or exactly a tie or a range end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.gradient import backward
from l1kd.exact.layers import Node, Pad, Permute, Quantize, Reshape
from l1kd.exact.network import Network

Events = NDArray[np.float64]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Array = NDArray[Any]
Units = NDArray[np.int64]  # indices of a layer's values
Recorded = dict[str, Array]

_WORK = 1e9  # multiplications that a search may cost, about
_FEWEST, _MOST = 4_000, 200_000  # evaluations of an event, at least and at most
_LEAK = 0.05
_INPUT_VALUES = 1 << 21  # of the events that searches start from
_CELLS = 1 << 22  # of the largest layer in memory at a time

_UNITS = 48  # values of a layer that are driven to their ends, at most
_STARTS = 16  # of one value, where there are few
_SIGNS = 4  # steps along the derivatives' signs before parts are tried again
_SIZES = (2, 3, 4)  # of parts that are tried on their own
_ROUNDS = 16  # tries of every part, about
_PARTS = 60  # of an event, about

STEPS = 6  # towards a target value
_TARGET_STARTS = 400  # events to choose a start from
_INPUTS = 48  # that may move
_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


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
    """Corner inputs (N, *shape), values of `port`, without repetitions; and a report."""
    random = np.random.default_rng([seed, 0xC0])
    first = plain(port, shape, random, limit // 2 if network else limit)
    search, kinds = None, []
    if network is not None:
        search = Search(network.at_port(port), random)
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


def inner(network: Network) -> list[Quantize]:
    """The quantizers that change some value: not those that see the port's own and keep them."""
    low, high = network.port.bounds
    ends, fraction = np.array([low, high, 1 if high else 0]), network.port.fraction
    plain = {network.nodes[0].name}
    found = []
    for node in network.nodes[1:]:
        keeps = isinstance(node, (Reshape, Pad, Permute))
        if isinstance(node, Quantize):
            keeps = node.sources[0] in plain and not node.halved
            if keeps:
                held = node.type.requantize(ends, fraction)
                keeps = bool((held * 2.0 ** (fraction - node.type.fraction) == ends).all())
            if not keeps:
                found.append(node)
        if keeps and node.sources[0] in plain:
            plain.add(node.name)
    return found


class Search:
    """A network, its inner quantizers, and how many evaluations its search may take."""

    def __init__(self, network: Network, random: np.random.Generator) -> None:
        self.network, self.random = network, random
        self.low, self.high = network.port.bounds
        self.size = network.nodes[0].size
        self.quantizers = inner(network)
        cost = max(1, sum(node.operations for node in network.nodes))
        self.effort = int(np.clip(_WORK / cost, _FEWEST, _MOST))
        # Events to start from: as many as memory and time allow.
        self.pool = max(256, min(self.effort // 16, _INPUT_VALUES // self.size))

    def values(self, counts: Counts, names: list[str]) -> Recorded:
        """Counts of layers for events, (N, size) each."""
        found = self.network.layer_counts(counts.reshape(-1, *self.network.shape), names)
        return {name: values.reshape(len(values), -1) for name, values in found.items()}

    def at(self, counts: Counts, name: str, units: Units) -> Array:
        """Count of value `units[i]` of a layer for event i, (N,)."""
        parts = [
            found[name].reshape(len(units[here]), -1)[np.arange(len(units[here])), units[here]]
            for here, found in self._recorded(counts, name)
        ]
        return np.concatenate(parts)

    def slopes(self, counts: Counts, name: str, units: Units) -> tuple[Array, Floats]:
        """As `at`, and by how many of its counts each input's LSB moves it, (N, inputs)."""
        scale = 2.0 ** (self.network.bounds[name].fraction - self.network.port.fraction)
        values, slopes = [], []
        for here, found in self._recorded(counts, name):
            mine, rows = units[here], np.arange(len(units[here]))
            upstream = np.zeros((len(mine), self.network[name].size))
            upstream[rows, mine] = scale
            shaped = {name: upstream.reshape(found[name].shape)}
            slope = backward(self.network, found, shaped, leak=_LEAK)[self.network.nodes[0].name]
            values.append(found[name].reshape(len(mine), -1)[rows, mine])
            slopes.append(slope.reshape(len(mine), -1))
        return np.concatenate(values), np.concatenate(slopes)

    def _recorded(self, counts: Counts, name: str) -> Iterator[tuple[slice, Recorded]]:
        """Events in pieces that fit into memory: which they are, and counts up to a layer."""
        size = max(1, _CELLS // max(node.cells for node in self.network.ancestors([name])))
        for start in range(0, max(1, len(counts)), size):
            here = slice(start, start + size)
            yield here, self.network.record(counts[here].reshape(-1, *self.network.shape), [name])

    def units(self, node: Node, most: int) -> Units:
        """Indices of some values of a layer, all of them if few: as many of each channel."""
        if node.size <= most:
            return np.arange(node.size)
        channels = node.shape[-1]
        positions = node.size // channels
        each = min(max(1, most // channels), positions)
        picked = [
            self.random.choice(positions, each, False) * channels + channel
            for channel in self.random.permutation(channels)[:most]
        ]
        return np.sort(np.concatenate(picked))


def extremes(search: Search, node: Quantize, pool: Counts, reached: Array, budget: int) -> Counts:
    """Events that drive values to their ends, high and low in turn; `budget` is in evaluations."""
    name, bound = node.sources[0], search.network.bounds[node.sources[0]]
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
    heights = (-sign * climb.at).reshape(2, starts, few)
    ranks = heights.argsort(axis=1, kind="stable").argsort(axis=1)
    return climb.events[np.lexsort((sign < 0, np.tile(column, 2), ranks.reshape(-1)))]


@dataclass
class _Climb:
    """Events, each with the value that is to become higher (lower, where its sign is -1)."""

    search: Search
    name: str
    units: Units
    sign: Floats
    events: Counts
    at: Array  # the values
    spent: int = 0  # evaluations

    def __post_init__(self) -> None:
        self.events, self.at = self.events.copy(), self.at.astype(np.float64)
        self.slopes: Floats = np.zeros(self.events.shape)

    def along(self, rows: Units, *, whole: bool) -> None:
        """Move all inputs, or a random share, to the end that raises the value by its slope."""
        if not len(rows):
            return
        search = self.search
        _, slopes = search.slopes(self.events[rows], self.name, self.units[rows])
        self.spent += 3 * len(rows)
        self.slopes[rows] = slopes * self.sign[rows, None]
        moved = self._ends(self.events[rows], self.slopes[rows])
        if not whole:
            share = search.random.random((len(rows), 1)) ** 2
            moved = np.where(search.random.random(moved.shape) < share, moved, self.events[rows])
        self._keep(rows, moved)

    def compose(self, size: int, budget: int) -> None:
        """Compose events of parts, each the best of many that were tried alone."""
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
        """Random counts of all sizes, or ends and zeros."""
        search = self.search
        random, low, high = search.random, search.low, search.high
        size = np.exp(random.uniform(0, np.log(high + 1), shape)).astype(np.int64)
        sizes = size * random.choice([1, 1, -1, -1, 0] if low else [1, 1, 0], shape)
        ends = random.choice([low, 0, high], shape)
        return np.clip(np.where(random.random((shape[0], 1)) < 0.25, ends, sizes), low, high)

    def parts(self, rows: Units) -> None:
        """Try other values in every part of every event; keep all that help together."""
        tiles = _tiles(self.search)
        # Inputs that the value does not depend on are of no use.
        depends = (self.slopes[rows] != 0).astype(np.float64) @ tiles.T.astype(np.float64) > 0
        row, tile = np.nonzero(depends)
        if not len(row):
            self.spent += len(rows)
            return
        inside, of = tiles[tile], rows[row]
        base = self.events[of]
        tried = np.where(inside, self._other(base, self.slopes[of]), base)
        gain = self.sign[of] * (self._value(tried, of) - self.at[of])
        together = self.events[rows].copy()
        for one in np.flatnonzero(gain > 0):
            together[row[one], inside[one]] = tried[one, inside[one]]
        self._keep(rows, together)
        # Parts that do not add up: the best of them alone.
        best = np.full(len(rows), -1)
        order = np.argsort(gain, kind="stable")
        best[row[order]] = order
        some = np.flatnonzero(best >= 0)
        self._keep(rows[some], tried[best[some]])

    def _other(self, base: Counts, slopes: Floats) -> Counts:
        """Other values for all inputs, in one of several ways for each event, (N, inputs)."""
        random, low, high = self.search.random, self.search.low, self.search.high
        near = 1 << random.integers(0, max(1, (high - low).bit_length()), (len(base), 1))
        slope = np.sign(slopes).astype(np.int64)
        way = random.integers(0, 5, (len(base), 1))
        moved = np.where(way == 0, self._ends(base, slopes), base)
        moved = np.where(way == 1, base + slope * near, moved)
        moved = np.where(way == 2, base + random.integers(-1, 2, base.shape) * near, moved)
        new = np.flatnonzero(way >= 3)
        drawn = self._drawn((len(new), base.shape[1]))
        stay = (way[new] == 3) & (random.random(drawn.shape) < 0.5)
        moved[new] = np.where(stay, base[new], drawn)
        return np.clip(moved, low, high)

    def _ends(self, events: Counts, slopes: Floats) -> Counts:
        """Inputs at the end that raises the value; those without a slope stay."""
        search = self.search
        return np.where(slopes > 0, search.high, np.where(slopes < 0, search.low, events))

    def _value(self, events: Counts, rows: Units) -> Floats:
        self.spent += len(events)
        value: Floats = self.search.at(events, self.name, self.units[rows]).astype(np.float64)
        return value

    def _keep(self, rows: Units, moved: Counts) -> None:
        if not len(rows):
            return
        after = self._value(moved, rows)
        better = self.sign[rows] * after > self.sign[rows] * self.at[rows]
        self.events[rows[better]], self.at[rows[better]] = moved[better], after[better]


def _tiles(search: Search, sizes: list[int] | None = None) -> NDArray[np.bool_]:
    """Masks (parts, inputs) of an event's tiles, of given or of random sizes."""
    random, shape = search.random, search.network.shape
    sides = shape[:-1] if len(shape) > 1 else shape
    number = np.zeros(shape, np.int64)
    least = int(np.ceil((np.prod(sides) / (2 * _PARTS)) ** (1 / len(sides))))
    for axis, side in enumerate(sides):
        if sizes is not None:
            size, offset = sizes[axis], 0  # windows that do not overlap begin at 0
        else:
            size = int(random.integers(max(1, least), max(least, 2) + 3))
            offset = int(random.integers(size)) if random.random() < 0.3 else 0
        place = (np.arange(side) + offset) // size
        wide = place.reshape(side, *[1] * (len(shape) - axis - 1))
        number = number * (place[-1] + 1) + wide
    tiles: NDArray[np.bool_] = number.reshape(-1) == np.unique(number)[:, None]
    return tiles


def hits(
    search: Search, node: Quantize, pool: Counts, reached: Array, most: int
) -> tuple[Counts, Counts]:
    """Events with values on rounding ties and beside them, and with values at ends of the range."""
    offset, fraction = node.seen(search.network.bounds[node.sources[0]].fraction)
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
    edges = _on_targets(search, node, pool, reached, most, sorted(around), None, offset)
    tied = _on_targets(search, node, pool, reached, 3 * most, ties, 2 * step, offset)
    return tied, edges


def _on_targets(
    search: Search,
    node: Quantize,
    pool: Counts,
    reached: Array,
    most: int,
    targets: list[int],
    modulus: int | None,
    offset: float,
) -> Counts:
    """Events (N, inputs) in which values equal targets, modulo `modulus` if there is one."""
    name = node.sources[0]
    if not targets:
        return np.empty((0, search.size), np.int64)
    units = search.units(search.network[name], min(most, 48))
    units = np.tile(units, max(1, min(most, 24) // len(units)))  # from several starts each
    aims = np.repeat(np.array(targets, np.float64) - offset, len(units))
    units = np.tile(units, len(targets))
    some = search.random.permutation(len(pool))[:_TARGET_STARTS]
    start = reached[some][:, units].astype(np.float64)
    if modulus is None:
        # From one that is near, and another one for each try.
        best = np.argmin(abs(start - aims) * search.random.uniform(1, 2, start.shape), axis=0)
    else:
        # Inside of the range, where rounding shows, and from another event for each.
        low, high = (e * modulus / 2 - offset for e in node.type.bounds)
        order = search.random.random(start.shape) + 2.0 * ((start < low) | (start > high))
        best = np.argmin(order, axis=0)
    events = pool[some[best]]
    # Every unit in turn, with all of its targets.
    turns = np.arange(len(units)).reshape(len(targets), -1).T.reshape(-1).argsort()
    found, places = [], []
    for _ in range(STEPS):
        value, slope = search.slopes(events, name, units)
        missing = _missing(aims - value.astype(np.float64), modulus)
        there = missing == 0
        found.append(events[there])
        places.append(turns[there])
        if there.all():
            break
        events, units, aims, turns = (each[~there] for each in (events, units, aims, turns))
        events = _stepped(search, events, missing[~there], slope[~there], modulus)
    return np.concatenate(found)[np.argsort(np.concatenate(places))]


def _stepped(
    search: Search, events: Counts, missing: Floats, slope: Floats, modulus: int | None
) -> Counts:
    """Events with an input or two changed so that the values come closest to their targets."""
    span = search.high - search.low
    multiples = [size for size in _MULTIPLES if size <= span] or [1]
    steps = np.array([sign * size for size in multiples for sign in (1, -1)], np.int64)
    moved = events.copy()
    for row in range(len(events)):
        useful = np.flatnonzero(slope[row])
        if not len(useful):
            useful = search.random.integers(0, search.size, 1)
        # Which inputs, chance decides, or the same ones would always move.
        useful = search.random.permutation(useful)[:_INPUTS]
        after = events[row, useful][:, None] + steps
        where, which = np.nonzero((after >= search.low) & (after <= search.high))
        made = slope[row, useful[where]] * steps[which]
        for choice in _least(missing[row], made, where, np.abs(steps)[which], modulus):
            moved[row, useful[where[choice]]] += steps[which[choice]]
    return moved


def _least(
    missing: float, made: Floats, where: Counts, size: Counts, modulus: int | None
) -> tuple[int, ...]:
    """Index of the change, or of two of different inputs, that come closest, by small steps."""
    if not len(made):
        return ()
    left = abs(_missing(missing - made, modulus))
    if left.min() == 0:
        exact = np.flatnonzero(left == 0)
        return (int(exact[np.argmin(size[exact])]),)
    turned = _missing(made, modulus)
    order = np.argsort(turned, kind="stable")
    ordered = turned[order]
    wanted = _missing(missing - made, modulus)
    place = np.minimum(np.searchsorted(ordered, wanted), len(made) - 1)
    other = order[place]
    exact = np.flatnonzero((ordered[place] == wanted) & (where[other] != where))
    if len(exact):
        best = int(exact[np.argmin((size + size[other])[exact])])
        return best, int(other[best])
    return (int(np.argmin(left)),)


def _missing(difference: Floats, modulus: int | None) -> Floats:
    if modulus is None:
        return difference
    return np.asarray(np.mod(difference + modulus / 2, modulus) - modulus / 2)
