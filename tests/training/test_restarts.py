"""Several drawings of a student's first weights: the best is kept, and nobody sees the others."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import l1kd
from l1kd.core import config_file
from l1kd.core.config import Student
from l1kd.runs.run import context_of
from l1kd.training import frozen_teacher, student_losses, train
from l1kd.training.frozen_teacher import LabelledEvents, train_students
from l1kd.training.student_losses import all_starts, best_starts, only_best
from l1kd.training.target_transform import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")

THREE = "[{name: flat, architecture: dense, hidden: [4], starts: 3}, {architecture: cicada_v2}]"


def test_the_lowest_loss_is_kept_and_the_first_of_equal_ones() -> None:
    assert best_starts({"a": 3.0, "teacher": 1.0, "a/2": 2.0, "b": 5.0, "a/3": 2.0}) == {
        "a": "a/2",
        "teacher": "teacher",
        "b": "b",
    }


def test_a_row_has_one_start_under_the_student_s_name() -> None:
    row = {"epoch": 3, "phase": "frozen", "a_loss": 1.0, "a/2_loss": 2.0, "b_loss": 3.0}
    row |= {"a_val_loss": 4.0, "a/2_val_loss": 5.0, "b_val_loss": 6.0}
    expected = {"epoch": 3, "phase": "frozen", "a_loss": 2.0, "b_loss": 3.0}
    expected |= {"a_val_loss": 5.0, "b_val_loss": 6.0}
    assert only_best(row, {"a": 4.0, "a/2": 3.0, "b": 6.0}) == expected
    assert only_best(row, {})["a_val_loss"] == 4.0  # nobody was judged yet


def test_a_training_keeps_the_best_start(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def noted(row: Any, best: Any) -> dict[str, Any]:
        seen.setdefault("rows", {})[row["epoch"]] = row
        seen["best"] = best_starts(best)
        return only_best(row, best)

    monkeypatch.setattr(train, "only_best", noted)
    config = config_file.load(tiny, ["threads=1", f"students={THREE}"])
    context = context_of(tmp_path, config, Console(quiet=True))
    train.train(context)
    names = ["flat", "flat/2", "flat/3"]
    rows = [row for _, row in sorted(seen["rows"].items()) if row["phase"] == "frozen"]
    lowest = {name: min(row[f"{name}_val_loss"] for row in rows) for name in names}
    assert len(set(lowest.values())) == 3, "three different drawings"
    assert seen["best"]["flat"] == min(lowest, key=lambda name: lowest[name])
    with (tmp_path / "history.csv").open() as handle:
        history = list(csv.DictReader(handle))
    assert not [column for column in history[0] if "/" in column]
    best = min(float(r["flat_val_loss"]) for r in history if r["phase"] == "frozen")
    assert best == pytest.approx(min(lowest.values()))
    assert sorted(path.name for path in (tmp_path / "students").iterdir()) == [
        "cicada_v2.keras",
        "flat.keras",
    ]
    assert l1kd.load_model(context.student_file("flat")).name == "flat"


def test_candidates_start_as_often(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_file.load(tiny, ["threads=1"])
    context = context_of(tmp_path, config, Console(quiet=True))
    teacher = train.build(config, context.dataset).teacher
    transform = TARGETS["fitted"](config.distillation.score.type)
    labelled = LabelledEvents.label(
        config.distillation, config.seed, context.dataset, teacher, transform, draws=1, limit=200
    )
    found: dict[str, float] = {}

    def noted(losses: Any) -> dict[str, str]:
        found.update(losses)
        return best_starts(losses)

    monkeypatch.setattr(student_losses, "best_starts", noted)
    own = Student(name="x", architecture="dense", hidden=[3], starts=2)
    models = train_students([own], labelled, config, context.dataset.grid, epochs=2, seed=3)
    assert list(models) == ["x"] and set(found) == {"x", "x/2"}
    events = (labelled.val * context.dataset.grid.lsb).astype(np.float32)
    entering = frozen_teacher.keras.Model(models["x"].input, models["x"].layers[-2].output)
    missed = np.abs(np.ravel(entering(events)) - labelled.val_targets)
    assert missed.mean() == pytest.approx(min(found.values()), rel=1e-4)


def test_starts_are_students_of_their_own() -> None:
    own = [Student(name="a", architecture="dense", starts=2), Student(name="b", architecture="s7")]
    assert [each.name for each in all_starts(own)] == ["a", "a/2", "b"]
    with pytest.raises(ValueError, match="starts"):
        Student(name="a", architecture="dense", starts=0)
