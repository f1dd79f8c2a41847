"""Agreement of two implementations of one network: bit for bit, in LSBs of the output type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

KEPT = 10  # offenders that are shown
_NOT_FINITE = 2**63 - 1  # `max_lsb` where a value is NaN or infinite


@dataclass(frozen=True)
class Offender:
    """An output that differs: which event, which output (flat index), and both values."""

    event: int
    output: int
    reference: float
    candidate: float


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison.

    Parameters
    ----------
    events
        How many were compared.
    mismatches
        Events of which at least one output differs.
    max_lsb
        The largest difference in LSBs, rounded up; 2^63 - 1 where a value is NaN or infinite.
    first
        The first outputs that differ, at most 10.
    """

    events: int
    mismatches: int
    max_lsb: int
    first: tuple[Offender, ...] = ()

    def then(self, later: Agreement) -> Agreement:
        """Both comparisons as one, `later`'s events counted on after these."""
        moved = (
            Offender(self.events + o.event, o.output, o.reference, o.candidate) for o in later.first
        )
        return Agreement(
            self.events + later.events,
            self.mismatches + later.mismatches,
            max(self.max_lsb, later.max_lsb),
            (*self.first, *moved)[:KEPT],
        )


def compare(reference: ArrayLike, candidate: ArrayLike, lsb: float) -> Agreement:
    """Compare two implementations' outputs on the same events: exact equality, no tolerance.

    Parameters
    ----------
    reference, candidate
        Values, (N,) or (N, ...), of one shape.
    lsb
        The step of the output type, which differences are counted in.

    Returns
    -------
    Agreement
        Events compared, events that differ, and the largest difference.

    Raises
    ------
    ValueError
        If the shapes differ, or the step is no positive number.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    if a.shape != b.shape or a.ndim < 1:
        raise ValueError(f"outputs of the same events have one shape, not {a.shape} and {b.shape}")
    if not 0 < lsb < np.inf:
        raise ValueError(f"the step of a type is a positive number, not {lsb}")
    shape = len(a), int(np.prod(a.shape[1:]))  # -1 does not work without events
    a, b = a.reshape(shape), b.reshape(shape)
    differs = ~(a == b)  # NaN equals nothing, itself neither
    first = tuple(
        Offender(int(event), int(output), float(a[event, output]), float(b[event, output]))
        for event, output in np.argwhere(differs)[:KEPT]
    )
    a, b, largest = a[differs], b[differs], 0
    if len(a):
        finite = np.isfinite(a).all() and np.isfinite(b).all()
        largest = int(np.ceil(np.abs(a - b).max() / lsb)) if finite else _NOT_FINITE
    return Agreement(len(differs), int(np.sum(differs.any(axis=1))), largest, first)
