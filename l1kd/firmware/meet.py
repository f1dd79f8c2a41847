"""Events in which a value that enters a quantizer is exactly what is hard on it.

Half way between two of its steps, a count beside that, next to the ends of its range, next to 0.
Derivatives say what a step of an input makes of the value, so one or two inputs can be changed by
what is missing: exact for the first layer of sums, a try further back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.gradient import seen
from l1kd.exact.graph import Quantize
from l1kd.firmware.search import Search

__all__ = ["STEPS", "met"]

Counts = NDArray[np.int64]
Array = NDArray[Any]

STEPS = 6  # towards a value that is aimed at
_STARTS = 400  # events to choose a start from
_INPUTS = 48  # that may move
_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


def met(
    search: Search, node: Quantize, pool: Counts, reached: Array, most: int
) -> tuple[Counts, Counts]:
    """Events with ties and their neighbours, and with values at the ends of the range.

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
    most
        Tries for each value that is aimed at.
    """
    offset, fraction = seen(search.network, node)
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
    edges = _reached(search, node, pool, reached, most, sorted(around), None, offset)
    tied = _reached(search, node, pool, reached, 3 * most, ties, 2 * step, offset)
    return tied, edges


def _reached(
    search: Search,
    node: Quantize,
    pool: Counts,
    reached: Array,
    most: int,
    targets: list[int],
    modulus: int | None,
    offset: float,
) -> Counts:
    """Events in which values equal targets, modulo `modulus` if there is one."""
    name = node.sources[0]
    if not targets:
        return np.empty((0, search.size), np.int64)
    units = search.units(search.network[name], min(most, 48))
    units = np.tile(units, max(1, min(most, 24) // len(units)))  # from several starts each
    aims = np.repeat(np.array(targets, np.float64) - offset, len(units))
    units = np.tile(units, len(targets))
    some = search.random.permutation(len(pool))[:_STARTS]
    start = reached[some][:, units].astype(np.float64)
    if modulus is None:
        # From one that is near, and another one for each try.
        best = np.argmin(abs(start - aims) * search.random.uniform(1, 2, start.shape), axis=0)
    else:
        # Inside of the range, where rounding shows, and from another event for each.
        low, high = (e * modulus / 2 - offset for e in node.type.bounds)
        order = search.random.random(start.shape) + 2.0 * ((start < low) | (start > high))
        best = np.argmin(order, axis=0)
    events = pool[some[best]].copy()
    # Every unit in turn, with all of its targets.
    turns = np.arange(len(units)).reshape(len(targets), -1).T.reshape(-1).argsort()
    hits, places = [], []
    for _ in range(STEPS):
        value, slope = search.slopes(events, name, units)
        missing = _missing(aims - value.astype(np.float64), modulus)
        there = missing == 0
        hits.append(events[there])
        places.append(turns[there])
        if there.all():
            break
        events, units, aims, turns = (each[~there] for each in (events, units, aims, turns))
        events = _stepped(search, events, missing[~there], slope[~there], modulus)
    return np.concatenate(hits)[np.argsort(np.concatenate(places))]


def _stepped(
    search: Search,
    events: Counts,
    missing: NDArray[np.float64],
    slope: NDArray[np.float64],
    modulus: int | None,
) -> Counts:
    """Events with an input or two changed so that least is missing."""
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
