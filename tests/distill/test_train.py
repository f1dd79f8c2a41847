"""The stage `train`: phases, what it leaves, and that a killed one ends with the same arrays."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import l1kd
from l1kd import configfile
from l1kd.config import Distillation
from l1kd.context import Context
from l1kd.distill import train
from l1kd.distill.books import Books
from l1kd.distill.targets import load_target

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


def context(tiny: Path, directory: Path, *overrides: str) -> Context:
    directory.mkdir()
    config = configfile.load(tiny, ["threads=1", *overrides])
    return Context(directory, config, directory / "firmware", Console(quiet=True))


def weights(directory: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    files = [directory / "teacher.keras", *sorted(directory.glob("students/*.keras"))]
    return [weight for file in files for weight in l1kd.load_model(file).get_weights()]


@pytest.mark.parametrize("mode", ["colearning", "sequential"])
@pytest.mark.parametrize("target", ["fitted", "paper", "cicada"])
def test_it_leaves_networks_transform_and_history(
    tiny: Path, tmp_path: Path, mode: str, target: str
) -> None:
    here = context(
        tiny, tmp_path / "run", f"distillation.mode={mode}", f"distillation.target={target}"
    )
    train.train(here)
    assert {file.name for file in here.directory.iterdir()} == {
        "teacher.keras",
        "students",
        "target.json",
        "history.csv",
    }
    with (here.directory / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    phases = {"colearning": ["together"] * 2 + ["frozen"] * 2}.get(
        mode, ["teacher"] * 2 + ["students"] * 2
    )
    assert [row["phase"] for row in rows] == phases
    assert all(float(row["flat_val_loss"]) > 0 for row in rows if row["phase"] != "teacher")
    raw = l1kd.load_model(here.teacher_file)(here.dataset.train.events()).numpy()
    targets = load_target(here.directory).forward(raw)
    if target == "fitted":
        assert abs(np.median(targets) - 64) < 0.1


def test_the_teacher_is_the_best_epoch_s_and_frozen_afterwards(tiny: Path, tmp_path: Path) -> None:
    here = context(tiny, tmp_path / "run")
    train.train(here)
    with (here.directory / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    learning = [float(row["teacher_val_loss"]) for row in rows if row["phase"] == "together"]
    assert all(row["teacher_val_loss"] == "" for row in rows if row["phase"] == "frozen")
    # The stored teacher's own loss on validation events is the lowest of the history.
    teacher = l1kd.load_model(here.teacher_file)
    names = ("standardised", "reconstruction")
    pair = tf.keras.Model(teacher.input, [teacher.get_layer(name).output for name in names])
    standardised, reconstruction = pair(here.dataset.val.events())
    loss = float(tf.reduce_mean(tf.square(standardised - reconstruction)))
    assert loss == pytest.approx(min(learning), rel=1e-5)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("mode", ["colearning", "sequential"])
def test_a_training_stopped_after_any_epoch_ends_with_the_same_arrays(
    tiny: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = context(tiny, tmp_path / "whole", f"distillation.mode={mode}")
    train.train(whole)
    kept = Books.close

    def stop_after(number: int) -> Callable[..., None]:
        def end(self: Books, epoch: int, *rest: Any) -> None:
            kept(self, epoch, *rest)
            if epoch + 1 == number:
                raise Killed

        return end

    broken = context(tiny, tmp_path / "broken", f"distillation.mode={mode}")
    for number in (1, 2, 3):
        monkeypatch.setattr(Books, "close", stop_after(number))
        with pytest.raises(Killed):
            train.train(broken)
    monkeypatch.setattr(Books, "close", kept)
    train.train(broken)
    for a, b in zip(weights(whole.directory), weights(broken.directory), strict=True):
        assert (a == b).all()
    for name in ("history.csv", "target.json"):
        assert (whole.directory / name).read_text() == (broken.directory / name).read_text()


def test_a_checkpoint_of_another_configuration_is_not_resumed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = context(tiny, tmp_path / "one")
    other = context(tiny, tmp_path / "other", "seed=8")
    kept = Books.close

    def end(self: Books, epoch: int, *rest: Any) -> None:
        kept(self, epoch, *rest)
        raise Killed

    monkeypatch.setattr(Books, "close", end)
    with pytest.raises(Killed):
        train.train(one)
    monkeypatch.setattr(Books, "close", kept)
    (one.directory / "checkpoint.npz").rename(other.directory / "checkpoint.npz")
    train.train(other)
    with (other.directory / "history.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 4


def test_phases_end_with_a_frozen_teacher() -> None:
    for mode in ("sequential", "colearning"):
        for final in (0, 3):
            last = Distillation(mode=mode, epochs=5, final_epochs=final).phases[-1]  # type: ignore[arg-type]
            assert (last.teacher, last.students) == (False, True)
            assert last.last > last.first


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(
    tiny: Path, tmp_path: Path
) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        here = context(tiny, tmp_path / name, f"seed={seed}")
        train.train(here)
        runs.append(weights(here.directory))
    assert all((a == b).all() for a, b in zip(runs[0], runs[1], strict=True))
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))
