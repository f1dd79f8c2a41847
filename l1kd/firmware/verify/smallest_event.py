"""The smallest event that still shows a difference: what one looks at, and runs again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]  # of the port's LSB
Differs = Callable[[Counts], NDArray[Any]]

_ROUNDS = 64


def shrink(event: Counts, differs: Differs) -> Counts:
    """Make an event (inputs,) as empty and as small as it can be and still differ.

    Blocks of inputs are set to zero, from halves down to single ones; then values move towards
    zero. Every step asks `differs`, events (N, inputs) to (N,), about all its candidates at once.
    """
    size = len(event)
    while size >= 1:
        event = _emptied(event, size, differs)
        size = 0 if size == 1 else (size + 1) // 2
    for _ in range(_ROUNDS):
        if (smaller := _smaller(event, differs)) is None:
            break
        event = smaller
    return event


def _emptied(event: Counts, size: int, differs: Differs) -> Counts:
    """With every block of `size` inputs set to zero that is not needed."""
    starts = [start for start in range(0, len(event), size) if event[start : start + size].any()]
    while starts:
        candidates = np.repeat(event[None], len(starts), axis=0)
        for row, start in zip(candidates, starts, strict=True):
            row[start : start + size] = 0
        kept = np.flatnonzero(differs(candidates))
        if not len(kept):
            return event
        chosen = int(kept[0])
        event = candidates[chosen]
        # Blocks before it are needed: to leave one out did not differ, and seldom will now.
        starts = starts[chosen + 1 :]
    return event


def _smaller(event: Counts, differs: Differs) -> Counts | None:
    """With some value nearer to zero; None if no single step keeps the difference."""
    candidates, places = [], []
    for place in np.flatnonzero(event):
        size = abs(int(event[place]))
        # By half of it, a quarter, ... and by one: the largest step that can be taken comes first.
        for step in dict.fromkeys([size >> shift for shift in range(1, size.bit_length())] + [1]):
            candidate = event.copy()
            candidate[place] -= step * np.sign(event[place])
            candidates.append(candidate)
            places.append(int(place))
    if not candidates:
        return None
    kept = np.flatnonzero(differs(np.array(candidates)))
    if not len(kept):
        return None
    # All that can shrink alone, together; if that is too much, the first of them.
    together = event.copy()
    for index in kept[::-1]:
        together[places[index]] = candidates[index][places[index]]
    return together if differs(together[None])[0] else candidates[int(kept[0])]
