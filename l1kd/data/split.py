"""Every event to one part: seeded, the same everywhere, without a list that grows with the data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.data.dataset import Block

__all__ = ["part_sizes", "split"]


def part_sizes(fractions: Sequence[float], start: int, stop: int) -> list[int]:
    """How many of the events number `start` up to `stop` each part gets.

    Cumulative, so that over consecutive ranges the sizes add up to what the whole would get, and a
    part of n events in all has its fraction of n to within one event.
    """
    sizes = []
    left = 1.0
    for fraction in fractions[:-1]:
        share = fraction / left
        before, after = math.floor(start * share + 0.5), math.floor(stop * share + 0.5)
        sizes.append(after - before)
        # What follows divides what is left by the fractions that are left.
        start, stop, left = start - before, stop - after, left - fraction
    return [*sizes, stop - start]


def split(
    whole: Iterable[Block], fractions: Sequence[float], key: tuple[int, ...], in_memory: bool
) -> list[tuple[Block, ...]]:
    """Assign every event to one part, at random inside its block.

    Parameters
    ----------
    whole
        The blocks; each is let go before the next one comes.
    fractions
        Of the parts; normalised here.
    key
        Of the random stream. The assignment depends on it, the block's number and the number of
        events alone; a part keeps the order of the events.
    in_memory
        Whether the parts keep their events or select them anew from the block at every load.

    Returns
    -------
    The blocks of each part, in the order of `fractions`.
    """
    fractions = [fraction / sum(fractions) for fraction in fractions]
    parts: list[list[Block]] = [[] for _ in fractions]
    start = 0
    for number, block in enumerate(whole):
        sizes = part_sizes(fractions, start, start + block.events)
        start += block.events
        edges = np.cumsum([0, *sizes]).tolist()
        for part, low, high in zip(parts, edges[:-1], edges[1:], strict=True):
            if high == low:
                continue
            load: Callable[[], NDArray[Any]]
            load = functools.partial(_select, block, (*key, number), low, high)
            if in_memory:
                load = functools.partial(_kept, load())
            part.append(Block(high - low, load))
    return [tuple(part) for part in parts]


def _select(block: Block, key: tuple[int, ...], low: int, high: int) -> NDArray[Any]:
    # Drawn again at every load: kept, the choices would grow with the data.
    order = np.random.default_rng(key).permutation(block.events)
    events = block.load()[np.sort(order[low:high])]
    events.flags.writeable = False  # chunks may be views of it
    return events


def _kept(events: NDArray[Any]) -> NDArray[Any]:
    return events
