"""The stage `train`: phases, what it leaves, and that a killed one ends with the same arrays."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import l1kd
from l1kd.core.config import Distillation, Phase
from l1kd.networks.teachers import build_teacher
from l1kd.training import train
from l1kd.training.epochs import TrainingLog
from l1kd.training.target_transform import load_target
from tests.training.conftest import context_of

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


full = pytest.mark.full
Trained = Callable[[str], Path]


def weights(directory: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    files = [directory / "teacher.keras", *sorted(directory.glob("students/*.keras"))]
    return [weight for file in files for weight in l1kd.load_model(file).get_weights()]


def history(directory: Path) -> list[dict[str, str]]:
    with (directory / "history.csv").open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("mode", "target"),
    [
        ("colearning", "fitted"),
        ("sequential", "fitted"),
        ("colearning", "paper"),
        pytest.param("colearning", "cicada", marks=full),
        pytest.param("sequential", "paper", marks=full),
        pytest.param("sequential", "cicada", marks=full),
    ],
)
def test_it_leaves_networks_transform_and_history(
    tiny: Path, tmp_path: Path, trained: Trained, mode: str, target: str
) -> None:
    place = trained(mode) if target == "fitted" else tmp_path / "run"
    own = f"distillation.mode={mode}", f"distillation.target={target}"
    here = context_of(tiny, place, *own)
    if target != "fitted":
        train.train(here)
    assert {file.name for file in here.directory.iterdir()} == {
        "teacher.keras",
        "students",
        "target.json",
        "history.csv",
    }
    rows = history(here.directory)
    phases = {"colearning": ["together"] * 2 + ["frozen"] * 2}.get(
        mode, ["teacher"] * 2 + ["students"] * 2
    )
    assert [row["phase"] for row in rows] == phases
    assert all(float(row["flat_val_loss"]) > 0 for row in rows if row["phase"] != "teacher")
    raw = l1kd.load_model(here.teacher_file)(here.dataset.train.events()).numpy()
    targets = load_target(here.directory).forward(raw)
    if target == "fitted":
        assert abs(np.median(targets) - 64) < 0.1


def test_the_teacher_is_the_best_epoch_s_and_frozen_afterwards(
    tiny: Path, trained: Trained
) -> None:
    here = context_of(tiny, trained("colearning"))
    rows = history(here.directory)
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


@pytest.mark.parametrize(
    ("mode", "ends"),
    [
        ("colearning", (1,)),
        ("sequential", (3,)),
        pytest.param("colearning", (1, 2, 3), marks=full),
        pytest.param("sequential", (1, 2, 3), marks=full),
    ],
)
def test_a_training_stopped_after_any_epoch_ends_with_the_same_arrays(
    tiny: Path,
    tmp_path: Path,
    trained: Trained,
    mode: str,
    ends: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = trained(mode)
    kept = TrainingLog.end_epoch

    def stop_after(number: int) -> Callable[..., None]:
        def end(self: TrainingLog, epoch: int, *rest: Any) -> None:
            kept(self, epoch, *rest)
            if epoch + 1 == number:
                raise Killed

        return end

    broken = context_of(tiny, tmp_path / "broken", f"distillation.mode={mode}")
    for number in ends:
        monkeypatch.setattr(TrainingLog, "end_epoch", stop_after(number))
        with pytest.raises(Killed):
            train.train(broken)
    monkeypatch.setattr(TrainingLog, "end_epoch", kept)
    train.train(broken)
    for a, b in zip(weights(whole), weights(broken.directory), strict=True):
        assert (a == b).all()
    for name in ("history.csv", "target.json"):
        assert (whole / name).read_text() == (broken.directory / name).read_text()


def test_a_checkpoint_of_another_configuration_is_not_resumed(
    tiny: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = context_of(tiny, tmp_path / "one", "seed=8")
    other = context_of(tiny, tmp_path / "other")
    kept, first = TrainingLog.end_epoch, {}

    def end(
        self: TrainingLog, epoch: int, phase: str, losses: dict[str, float], *rest: Any
    ) -> None:
        kept(self, epoch, phase, losses, *rest)
        first.update(losses)
        raise Killed

    monkeypatch.setattr(TrainingLog, "end_epoch", end)
    with pytest.raises(Killed):
        train.train(one)
    monkeypatch.setattr(TrainingLog, "end_epoch", kept)
    (one.directory / "checkpoint.npz").rename(other.directory / "checkpoint.npz")
    train.train(other)
    # As if it had never been there: two trainings of one seed are equal.
    whole = trained("colearning")
    for a, b in zip(weights(whole), weights(other.directory), strict=True):
        assert (a == b).all()
    assert history(other.directory) == history(whole)
    # And those of another seed are not.
    row = history(whole)[0]
    assert all(float(row[f"{name}_loss"]) != loss for name, loss in first.items())


def test_a_head_start_leaves_the_last_epoch_and_is_for_co_learning() -> None:
    for epochs, start in ((8, 7), (3, 2), (1, 0)):
        phases = Distillation(epochs=epochs, head_start=7).phases
        assert phases[-2] == Phase("together", start, epochs, teacher=True, students=True)
    alone = [Distillation(mode="sequential", head_start=start).phases for start in (0, 7)]
    assert alone[0] == alone[1]


def test_phases_end_with_a_frozen_teacher() -> None:
    for mode in ("sequential", "colearning"):
        for final in (0, 3):
            last = Distillation(mode=mode, epochs=5, final_epochs=final).phases[-1]  # type: ignore[arg-type]
            assert (last.teacher, last.students) == (False, True)
            assert last.last > last.first


@pytest.mark.parametrize(
    ("architecture", "mode"),
    [
        ("pca", "colearning"),
        pytest.param("pca", "sequential", marks=full),
        pytest.param("mahalanobis", "colearning", marks=full),
    ],
)
def test_a_teacher_in_closed_form_is_distilled_from_the_first_epoch(
    tiny: Path, tmp_path: Path, architecture: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"teacher.architecture={architecture}", f"distillation.mode={mode}"
    here = context_of(tiny, tmp_path / "run", *own)
    # As many epochs as students have with a teacher that learns.
    epochs = {"colearning": 4, "sequential": 2}[mode]
    assert here.config.phases == [Phase("students", 0, epochs, teacher=False, students=True)]
    said: list[str] = []
    monkeypatch.setattr(type(here), "say", lambda self, text: said.append(text))
    kept = TrainingLog.end_epoch

    def killed(self: TrainingLog, *rest: Any) -> None:
        kept(self, *rest)
        raise Killed

    monkeypatch.setattr(TrainingLog, "end_epoch", killed)
    with pytest.raises(Killed):
        train.train(here)
    monkeypatch.setattr(TrainingLog, "end_epoch", kept)
    train.train(here)
    assert f"{architecture!r} is fitted, not trained: students learn {epochs} epochs" in said[0]
    rows = history(here.directory)
    assert [row["phase"] for row in rows] == ["students"] * epochs
    assert "teacher_loss" not in rows[0] and float(rows[-1]["flat_val_loss"]) > 0
    # The teacher is the fit, and the target has its middle where a trained one's has it.
    events = here.dataset.train.events()
    raw = l1kd.load_model(here.teacher_file)(events).numpy()
    fitted = build_teacher(here.config.teacher, here.dataset)(events).numpy()
    np.testing.assert_array_equal(raw, fitted)
    assert abs(np.median(load_target(here.directory).forward(raw)) - 64) < 0.1


_CONTRAST = "{architecture: contrast, hidden: [4], filters: [2], standardise: true}"
_ONE = "students=[{name: flat, architecture: dense, hidden: [4]}]"
_DENSE = "{architecture: dense, latent: 2, hidden: [8]}"
_BOTH = f"{{architecture: ensemble, of: [{_DENSE}, {_CONTRAST}]}}"
_FITTED = f"{{architecture: ensemble, of: [{{architecture: pca}}, {_CONTRAST}], combine: mean}}"


@pytest.mark.parametrize(
    ("teacher", "mode", "target"),
    [
        (_BOTH, "colearning", "fitted"),
        pytest.param(_CONTRAST, "sequential", "fitted", marks=full),
        pytest.param(_FITTED, "colearning", "paper", marks=full),
    ],
)
def test_a_classifier_and_an_ensemble_learn_stop_and_go_on(
    tiny: Path,
    tmp_path: Path,
    teacher: str,
    mode: str,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = f"teacher={teacher}", f"distillation.mode={mode}", f"distillation.target={target}"
    own += ("distillation.learning_rate=1e-2",)
    whole, broken = (context_of(tiny, tmp_path / name, *own) for name in ("whole", "broken"))
    train.train(whole)
    kept = TrainingLog.end_epoch

    def killed(self: TrainingLog, epoch: int, *rest: Any) -> None:
        kept(self, epoch, *rest)
        raise Killed

    monkeypatch.setattr(TrainingLog, "end_epoch", killed)
    with pytest.raises(Killed):
        train.train(broken)
    monkeypatch.setattr(TrainingLog, "end_epoch", kept)
    train.train(broken)
    for a, b in zip(weights(whole.directory), weights(broken.directory), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (whole.directory / "history.csv").read_text() == (
        broken.directory / "history.csv"
    ).read_text()
    losses = [row["teacher_val_loss"] for row in history(whole.directory)]
    assert float(losses[1]) < float(losses[0])

    model, events = l1kd.load_model(whole.teacher_file), whole.dataset.train.events()
    raw = model(events).numpy()
    if target == "fitted":
        assert abs(np.median(load_target(whole.directory).forward(raw)) - 64) < 0.1
    if "ensemble" in teacher:
        last = model.get_layer("raw_score")
        logs = last.logs(tf.keras.Model(model.input, last.input)(events)).numpy()
        median, tail = np.quantile(logs, (0.5, 0.99), axis=0)
        found = last.get_weights()
        np.testing.assert_allclose(found, [median, (tail - median) / 2.326], rtol=1e-4, atol=1e-4)


def test_a_classifier_learns_from_made_events_not_from_exposure(tiny: Path, tmp_path: Path) -> None:
    own = f"teacher={_CONTRAST}", "distillation.epochs=1", "distillation.final_epochs=1", _ONE
    kinds = {"a": ("jets", "patch"), "b": ("jets", "shuffle"), "c": ("soft", "patch")}
    found = {}
    for name, (against, exposure) in kinds.items():
        more = f"teacher.against=[{against}]", f"distillation.exposure=[{exposure}]"
        here = context_of(tiny, tmp_path / name, *own, *more)
        train.train(here)
        found[name] = l1kd.load_model(here.teacher_file).get_weights()
    assert all((a == b).all() for a, b in zip(found["a"], found["b"], strict=True))
    assert any((a != c).any() for a, c in zip(found["a"], found["c"], strict=True))


@full
def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(
    tiny: Path, tmp_path: Path
) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        here = context_of(tiny, tmp_path / name, f"seed={seed}")
        train.train(here)
        runs.append(weights(here.directory))
    assert all((a == b).all() for a, b in zip(runs[0], runs[1], strict=True))
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))
