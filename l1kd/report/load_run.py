"""A run's files, as far as they are there: all that a report knows."""

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
    Fidelity,
    FirmwareRecord,
    Manifest,
    Metrics,
    Quality,
    Resources,
    RtlRecord,
)
from l1kd.core.stages import SPECS, AnyStage
from l1kd.data.sources import SOURCES
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.scores import Scores

_STAGE_OF = {name: stage for stage, spec in SPECS.items() for name in spec.writes}


@dataclass(frozen=True)
class History:
    """`history.csv`: the training, a row per epoch."""

    epochs: list[float]  # their numbers, (E,)
    phases: list[str]  # the phase each belongs to, (E,)
    # by column, `<network>_loss` and `<network>_val_loss`, (E,) each; NaN where there is none
    losses: dict[str, list[float]]

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
    """What a run holds; None for what its stage has not written yet."""

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
    def students(self) -> list[str]:
        """Names, the chosen one first, the rest as configured."""
        names = [student.name for student in self.config.students]
        best = self.metrics.best if self.metrics else None
        return sorted(names, key=lambda name: name != best)

    @property
    def signals(self) -> list[str]:
        """Names of the signals."""
        return list(self.metrics.students[self.metrics.best].efficiency) if self.metrics else []

    @property
    def taught(self) -> bool:
        """Whether there is a teacher: there is none in the run of an imported network."""
        return not self.config.imported

    @property
    def of_crossings(self) -> bool:
        """Whether normal events are bunch crossings, so that their share is a trigger rate."""
        return SOURCES[self.config.data.source].crossings_mhz is not None

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


def mean_quality(quality: Quality) -> tuple[float | None, float | None]:
    """Mean AUC and mean efficiency over the signals."""
    return mean_over_signals(quality.auc), mean_over_signals(quality.efficiency)


def read_run(directory: Path, *, scores: bool = True) -> RunFiles:
    """Read everything that a run's finished stages wrote.

    A file whose stage has not come to its end is left from an earlier attempt, and is not read.
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
        agreement=optional("agreement.json"),
        fidelity=optional("fidelity.json"),
        resources=optional("resources.json"),
        rtl=optional("rtl.json"),
        history=read_history(directory / "history.csv") if there("history.csv") else None,
    )


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


def _number(text: Any) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan
