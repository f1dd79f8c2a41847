"""An implementation of a student against the exact network, event by event, and why they differ."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.graph import Network
from l1kd.files import write_arrays
from l1kd.firmware.agreement import Agreement, compare
from l1kd.firmware.minimal import shrink
from l1kd.firmware.trace import Shown, first_difference
from l1kd.schemas import FirmwareRecord, Implementation, Pair

__all__ = ["DIRECTORY", "Comparison", "Inputs"]

DIRECTORY = "mismatches"  # of a run: where reproducers are kept
_SUSPECTS = 32  # events that differ and are traced
Values = NDArray[np.float64]
Inputs = Literal["test", "corner"]


@dataclass
class Comparison:
    """An implementation against the exact network, on one kind of inputs, as far as it got.

    Parameters
    ----------
    candidate
        The implementation.
    inputs
        What it is tried on.
    predict
        Events (N, *shape) to its outputs (N, outputs).
    show
        Events to what it gives layer by layer; None if it does not show its layers.
    project
        The HLS project that it is made of, if it is.
    excused
        Why it may differ.
    limit
        Events that it is tried on at most, in each sample its share of them; None: all.
    """

    candidate: Implementation
    inputs: Inputs
    predict: Callable[[NDArray[Any]], Values]
    show: Callable[[NDArray[Any]], Mapping[str, Shown]] | None = None
    project: FirmwareRecord | None = None
    excused: str | None = None
    limit: int | None = None
    left: int | None = None
    result: Agreement = field(default_factory=lambda: Agreement(0, 0, 0))
    suspects: list[NDArray[Any]] = field(default_factory=list)
    first_layer: str | None = None
    where: str = ""
    reproducer: str | None = None

    def share(self, fraction: float) -> None:
        """Begin another sample, which has this share of all events."""
        self.left = None if self.limit is None else math.ceil(self.limit * fraction)

    def add(self, events: NDArray[Any], expected: Values, lsb: float) -> Values:
        """Compare on one more chunk, as far as the limit goes; returns what was given."""
        if self.left is not None:
            events, expected = events[: self.left], expected[: self.left]
            self.left -= len(events)
        found = self.predict(events)
        self.result = self.result.then(compare(expected, found, lsb))
        if len(self.suspects) < _SUSPECTS:
            differs = ~(expected == found).all(axis=1)
            self.suspects.extend(events[differs][: _SUSPECTS - len(self.suspects)])
        return found

    def explain(self, network: Network, directory: Path, student: str) -> None:
        """Find the first layer that differs, and keep the smallest event that shows it.

        Parameters
        ----------
        network
            The exact network.
        directory
            The run.
        student
            For the file's name.
        """
        if not self.suspects:
            return
        events = np.stack(self.suspects)
        if self.show is not None:
            difference = first_difference(network, self.show(events), events)
            if difference is not None:
                self.first_layer, self.where = difference.layer, difference.summary
        if not self.excused:
            self._reproduce(network, events[0], directory, student)

    def _reproduce(
        self, network: Network, event: NDArray[Any], directory: Path, student: str
    ) -> None:
        shape, port = network.shape, network.port

        def differs(counts: NDArray[np.int64]) -> NDArray[Any]:
            tried = (counts * port.lsb).reshape(-1, *shape)
            return ~(network.predict(tried) == self.predict(tried)).all(axis=1)

        counts = shrink(port.integers(event).reshape(-1), differs)
        smallest = (counts * port.lsb).reshape(1, *shape)
        arrays = {
            "events": smallest,
            "counts": counts.reshape(1, -1),
            "expected": network.predict(smallest),
            "found": self.predict(smallest),
        }
        parts = (student, self.candidate, self.inputs, *self.kind.split())
        name = "-".join(re.sub(r"[^\w.]", "_", part) for part in parts)
        self.reproducer = f"{DIRECTORY}/{name}.npz"
        write_arrays(directory / self.reproducer, arrays)

    @property
    def kind(self) -> str:
        """The HLS project in words: `Vitis io_stream latency`, or nothing."""
        record = self.project
        return f"{record.backend} {record.io_type} {record.strategy}" if record else ""

    @property
    def label(self) -> str:
        """What was compared, for messages."""
        return f"{self.candidate} {self.kind}".strip()

    @property
    def told(self) -> str:
        """What came of it, in one line."""
        result, excuse = self.result, self.pair.excused
        return (
            f"{self.label}: {result.mismatches} mismatches in {result.events} {self.inputs} events"
            + (f" (QKeras is inexact: {excuse})" if excuse else "")
        )

    @property
    def fault(self) -> str | None:
        """What is wrong, in one line; None if nothing is."""
        result = self.result
        if not result.mismatches or self.excused:
            return None
        unseen = "its layers are not shown" if self.show is None else ""
        where = self.where or unseen or "no inner layer differs on these events"
        saved = f"; {self.reproducer} holds the smallest event that shows it"
        return (
            f"{self.label}: {result.mismatches} of {result.events} {self.inputs} events, up to "
            f"{result.max_lsb} LSB; {where}{saved if self.reproducer else ''}"
        )

    @property
    def pair(self) -> Pair:
        """As `agreement.json` has it."""
        record = self.project
        return Pair(
            reference="exact",
            candidate=self.candidate,
            backend=record.backend if record else None,
            io_type=record.io_type if record else None,
            strategy=record.strategy if record else None,
            inputs=self.inputs,
            events=self.result.events,
            mismatches=self.result.mismatches,
            max_lsb=self.result.max_lsb,
            first_layer=self.first_layer,
            excused=self.excused if self.result.mismatches else None,
            reproducer=self.reproducer,
        )
