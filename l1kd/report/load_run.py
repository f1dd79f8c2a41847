"""Loads whatever files a run has; all that a report knows comes from here."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l1kd.core import config_file, run_files
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.run_files import (
    AgreementRecord,
    CertificateRecord,
    Fidelity,
    FirmwareRecord,
    Manifest,
    Metrics,
    Pair,
    Quality,
    Resources,
    RtlRecord,
)
from l1kd.core.stages import SPECS, AnyStage
from l1kd.data.sources import SOURCES
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.scores import Scores
from l1kd.firmware import fpga_parts
from l1kd.firmware.run_firmware import as_it_stands

_STAGE_OF = {name: stage for stage, spec in SPECS.items() for name in spec.writes}


@dataclass(frozen=True)
class History:
    """`history.csv`: the training, an entry per epoch."""

    epochs: list[float]
    phases: list[str]
    losses: dict[str, list[float]]  # by column, `<network>_loss` and `<network>_val_loss`; or NaN

    def curve(self, network: str) -> tuple[list[float], list[float]] | None:
        """Training and validation loss of a network, None if the file does not have them."""
        nothing = [math.nan] * len(self.epochs)
        training = self.losses.get(f"{network}_loss")
        validation = self.losses.get(f"{network}_val_loss")
        if training is None and validation is None:
            return None
        return training or nothing, validation or nothing


@dataclass(frozen=True)
class RunFiles:
    """Contents of a run; None for what its stage has not written yet."""

    directory: Path
    manifest: Manifest
    config: Config
    metrics: Metrics | None = None
    scores: Scores | None = None
    firmware: list[FirmwareRecord] | None = None
    agreement: list[AgreementRecord] | None = None
    fidelity: Fidelity | None = None
    resources: list[Resources] | None = None
    rtl: list[RtlRecord] | None = None
    history: History | None = None

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
        return SOURCES[self.config.data.source].crossings_mhz is not None

    @property
    def costs(self) -> list[Resources]:
        """Costs with the share of the part: best student first, by design, the estimate first."""
        place = {name: index for index, name in enumerate(self.students)}
        return sorted(
            map(_with_share, self.resources or []),
            key=lambda cost: (place.get(cost.student, len(place)), cost.design, cost.trust),
        )

    def pairs(self, student: str | None = None) -> list[Pair]:
        """Comparisons of implementations, of one student or of all."""
        return [pair for each in self._verified(student) for pair in each.pairs]

    def certificates(self, student: str | None = None) -> list[CertificateRecord]:
        """Certificates of one student or of all."""
        return [found for each in self._verified(student) for found in each.certificates]

    def _verified(self, student: str | None) -> list[AgreementRecord]:
        return [each for each in self.agreement or [] if student in (None, each.student)]

    def absent(self, stage: AnyStage) -> str:
        """Why there is nothing from a stage, in words."""
        record = self.manifest.stages.get(stage)
        if record is None:
            return f"The stage “{stage}” has not run."
        if record.state == "failed":
            return f"The stage “{stage}” failed: {record.message or 'no message'}."
        if record.state == "running":
            return f"The stage “{stage}” was started and did not finish."
        return f"The stage “{stage}” wrote nothing for this section."


def _with_share(cost: Resources) -> Resources:
    if cost.share or cost.part is None:
        return cost
    return cost.model_copy(update={"share": fpga_parts.share(cost.part, **cost.counts)})


def mean_quality(quality: Quality) -> tuple[float | None, float | None]:
    """Mean AUC and mean efficiency over the signals."""
    return mean_over_signals(quality.auc), mean_over_signals(quality.efficiency)


def read_run(directory: Path, *, scores: bool = True) -> RunFiles:
    """Read everything that a run's finished stages wrote; `scores`: with `scores.npz`.

    A file whose stage has not come to its end is left from an earlier attempt, and is not read.
    UserError if the directory is no run, or one of its files is damaged.
    """
    if not (directory / "manifest.json").is_file() or not (directory / "config.yaml").is_file():
        raise UserError(
            f"{directory} is not a run (it lacks manifest.json or config.yaml); "
            "runs are made by `l1kd run CONFIG`"
        )
    manifest: Manifest = run_files.read(directory, "manifest.json")

    def there(name: str) -> bool:
        record = manifest.stages.get(_STAGE_OF[name])
        ended = record is not None and record.state != "running"
        return ended and (directory / name).is_file()

    def optional(name: str) -> Any:
        return run_files.read(directory, name) if there(name) else None

    return RunFiles(
        directory,
        manifest,
        config_file.load_resolved(directory / "config.yaml"),
        metrics=optional("metrics.json"),
        scores=Scores.load(directory / "scores.npz") if scores and there("scores.npz") else None,
        firmware=optional("firmware.json"),
        agreement=_as_they_stand(directory, optional("agreement.json"), optional("firmware.json")),
        fidelity=optional("fidelity.json"),
        resources=optional("resources.json"),
        rtl=optional("rtl.json"),
        history=read_history(directory / "history.csv") if there("history.csv") else None,
    )


def _as_they_stand(
    run: Path, agreement: list[AgreementRecord] | None, firmware: list[FirmwareRecord] | None
) -> list[AgreementRecord] | None:
    """Agreement with the certificates void whose projects were changed since."""
    places = {
        (each.student, each.backend, each.io_type, each.strategy): run / each.directory
        for each in firmware or []
    }

    def now(student: str, each: CertificateRecord) -> CertificateRecord:
        key = (student, each.backend, each.io_type, each.strategy)
        return as_it_stands(each, places.get(key, run / "nowhere"))

    return agreement and [
        each.model_copy(
            update={"certificates": [now(each.student, one) for one in each.certificates]}
        )
        for each in agreement
    ]


def read_history(path: Path) -> History:
    """Read `history.csv`; cells that hold no number count as missing."""
    try:
        with path.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it, or train again") from error
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
