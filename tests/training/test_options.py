"""What a recipe can ask for: head start, patience, averages, float epochs, raw scores, heads."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import l1kd
from l1kd.core import config_file
from l1kd.core.config import Distillation, Student
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.students import build_student
from l1kd.training import train
from l1kd.training.student_losses import FeatureHeads, StudentTrainer, standardise
from tests.training.conftest import SPARSE, context_of

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")

Trained = Callable[[str], Path]
EVENTS = np.random.default_rng(0).integers(0, 32, (64, 6)).astype(np.float32)


def trainer(latent: int = 0, **own: Any) -> StudentTrainer:
    config = Distillation.model_validate(own)
    student = Student(name="x", architecture="dense", hidden=[4])
    keras.utils.set_random_seed(1)
    model = build_student(student, (6,), FixedPoint(6, 6), config.score)
    return StudentTrainer({"x": model}, config, [student], latent=latent)


def stepped(own: StudentTrainer, steps: int = 20, **more: Any) -> list[float]:
    own.optimizer.learning_rate.assign(1e-2)
    target = tf.constant(EVENTS.sum(1))
    return [float(own.step(EVENTS, target, **more)[0]) for _ in range(steps)]


# Where one student shows it: every network that is built and traced takes time.
ONE = "students=[{name: flat, architecture: dense, hidden: [4]}]"


def run(tiny: Path, directory: Path, *overrides: str) -> tuple[Context, list[dict[str, str]]]:
    context = context_of(tiny, directory, *overrides)
    train.train(context)
    with (directory / "history.csv").open() as handle:
        return context, list(csv.DictReader(handle))


def teacher(directory: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    weights: list[np.ndarray] = l1kd.load_model(directory / "teacher.keras").get_weights()  # type: ignore[type-arg]
    return weights


def test_a_head_start_is_the_teacher_s_alone(tiny: Path, tmp_path: Path, trained: Trained) -> None:
    _, rows = run(tiny, tmp_path / "run", "distillation.head_start=1", ONE)
    assert [row["phase"] for row in rows] == ["teacher", "together"] + ["frozen"] * 2
    assert [bool(row["flat_loss"]) for row in rows] == [False, True, True, True]
    # The teacher learns the same whoever learns with it, and when they begin.
    own = teacher(tmp_path / "run")
    for mode in ("colearning", "sequential"):
        assert all((a == b).all() for a, b in zip(own, teacher(trained(mode)), strict=True))


def test_the_teacher_learns_the_same_whatever_its_students_are_told(
    tiny: Path, tmp_path: Path, trained: Trained
) -> None:
    run(tiny, tmp_path / "run", "distillation.exposure=[]", "distillation.raw_weight=1", ONE)
    both = zip(teacher(tmp_path / "run"), teacher(trained("colearning")), strict=True)
    assert all((a == b).all() for a, b in both)


def test_patience_ends_a_training_early(tiny: Path, tmp_path: Path) -> None:
    rate = "distillation.student_learning_rate=1e-9"  # nothing gets better
    more = ("distillation.final_epochs=9", "distillation.patience=2", rate)
    _, rows = run(tiny, tmp_path / "run", *more, ONE)
    assert 2 < len(rows) < 11
    frozen = [float(row["flat_val_loss"]) for row in rows if row["phase"] == "frozen"]
    assert min(frozen[-2:]) >= min(frozen[:-2])


def test_events_that_memory_does_not_hold_are_streamed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_MOST_KEPT", 1000)
    _, rows = run(tiny, tmp_path / "run", ONE)
    assert [row["phase"] for row in rows] == ["together"] * 2 + ["frozen"] * 2
    assert all(float(row["flat_val_loss"]) > 0 and not row["teacher_loss"] for row in rows[2:])


def test_the_average_follows_and_is_what_is_judged() -> None:
    own, plain = trainer(average=0.9), trainer()
    own.vector.assign(plain.vector)
    own.averaged.assign(plain.vector)
    expected = own.averaged.numpy().astype(np.float64)
    for _ in range(5):
        stepped(own, 1)
        expected = 0.9 * expected + 0.1 * own.vector.numpy()
    assert np.allclose(own.part("x")[0], expected, rtol=1e-5, atol=1e-6)
    assert (own.part("x")[0] != own.vector.numpy()).any()
    stepped(plain, 1)
    assert (plain.part("x")[0] == plain.vector.numpy()).all()
    # Validation looks at it.
    target = tf.constant(EVENTS.sum(1))
    seen = own.losses(EVENTS, target)
    own.vector.assign(own.averaged)
    assert float(seen[0]) == float(own.losses(EVENTS, target, training=True)[0])


def test_float_epochs_round_nothing() -> None:
    own = trainer()
    target = tf.constant(EVENTS.sum(1))
    exact = float(own.losses(EVENTS, target, training=True)[0])
    rough = float(own.losses(EVENTS, target, training=True, quantize=False)[0])
    assert exact != rough
    assert stepped(own, 1, quantize=False) == [rough]


def test_float_epochs_are_no_one_s_best(tiny: Path, tmp_path: Path) -> None:
    more = ("distillation.final_epochs=3", "distillation.float_epochs=4")
    context, rows = run(tiny, tmp_path / "run", *more, ONE)
    assert len(rows) == 5
    assert context.student_file("flat").is_file()


def test_raw_scores_are_learned_too() -> None:
    plain, own = trainer(), trainer(raw_weight=3.0)
    plain.stack.scatter(np.abs(plain.stack.gather()))  # large scores
    plain.load()
    own.vector.assign(plain.vector)
    random = np.random.default_rng(1)
    target = random.uniform(1, 3, 64).astype(np.float32)
    model = keras.Model(plain.students["x"].input, plain.students["x"].layers[-2].output)
    said = np.ravel(model(EVENTS)).astype(np.float64)
    gain, top = 1.2, float(target.max())
    assert said.max() > top + gain, "one that is counted as e times the largest"
    mean = np.exp(target.astype(np.float64) / gain).mean()
    raw = [gain / mean * np.exp(np.minimum(v, top + gain) / gain) for v in (said, target)]
    more = 3 * np.abs(raw[0] - raw[1]).mean()
    logarithm = float(plain.losses(EVENTS, target, training=True)[0])
    found = float(own.losses(EVENTS, target, gain=gain, training=True)[0])
    assert found == pytest.approx(logarithm + more, rel=1e-4)
    # It judges nobody.
    assert float(own.losses(EVENTS, target, gain=gain)[0]) == logarithm


@pytest.mark.parametrize("gain", [1e-3, 1e4])
def test_raw_scores_of_any_spread_are_finite(gain: float) -> None:
    own = trainer(raw_weight=1.0)
    assert np.isfinite(stepped(own, 3, gain=gain)).all()
    assert np.isfinite(own.vector.numpy()).all()


def test_feature_heads_learn_the_latent_and_are_left_behind() -> None:
    own = trainer(latent=2, feature_weight=0.5)
    latent = tf.constant(np.stack([EVENTS[:, 0] - 16, EVENTS[:, 1] - 16], 1) / 9)
    stack = own.stack

    def missed() -> float:
        seen = stack.forward(stack.weights(own.vector[: stack.size]), EVENTS)
        return float(own.heads.loss(own.vector[stack.size :], "x", seen.features["x"], latent))  # type: ignore[union-attr]

    before, student = missed(), own.part("x")[0]
    unit = 0.5 * 256 / 16  # one spread of the fitted target, times the weight
    assert before == pytest.approx(unit * float(tf.reduce_mean(tf.abs(latent))), rel=1e-6)
    stepped(own, 60, latent=latent)
    assert missed() < 0.9 * before
    assert len(own.part("x")[0]) == len(student) == own.students["x"].count_params()
    assert (own.part("x")[0] != student).any()


def test_a_head_is_a_linear_map_of_values() -> None:
    heads = FeatureHeads({"a": (3, 0.5), "b": (2, 0.25)}, 2, weight=4.0)
    vector = np.arange(heads.size, dtype=np.float32)
    assert heads.size == (3 + 1) * 2 + (2 + 1) * 2
    features, latent = np.array([[4.0, 8.0]], np.float32), np.array([[20.0, 30.0]], np.float32)
    # b's kernel is 8 to 11, its bias 12 and 13; the values are 1 and 2.
    told = np.array([1 * 8 + 2 * 10 + 12, 1 * 9 + 2 * 11 + 13])
    expected = 4 * np.abs(told - latent).mean()
    assert float(heads.loss(vector, "b", features, latent)) == pytest.approx(expected)


def test_latents_are_standardised_by_the_normals() -> None:
    latent = np.random.default_rng(1).normal(5, 3, (200, 4)).astype(np.float32)
    latent[:, 2] = 7
    latent[100:] += 50
    found = standardise(latent, 100).numpy()
    assert np.allclose(found[:100].mean(0), 0, atol=1e-4)
    assert np.allclose(found[:100, [0, 1, 3]].std(0), 1, atol=1e-3)
    assert (found[100:, 0] > 5).all()


@pytest.mark.parametrize("mode", ["colearning", pytest.param("sequential", marks=pytest.mark.full)])
def test_a_training_with_heads_an_average_and_pruning_resumes(
    tiny: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l1kd.training.epochs import TrainingLog

    weights = ("distillation.feature_weight=0.5", "distillation.average=0.5")
    own = (f"distillation.mode={mode}", *weights, f"students=[{SPARSE}]")
    whole, _ = run(tiny, tmp_path / "whole", *own)
    kept = TrainingLog.end_epoch

    def stop_after(number: int) -> Callable[..., None]:
        def stop(self: TrainingLog, epoch: int, *rest: Any) -> None:
            kept(self, epoch, *rest)
            if epoch + 1 == number:
                raise KeyboardInterrupt

        return stop

    for number in (2, 3):  # at the end of a phase and within one
        monkeypatch.setattr(TrainingLog, "end_epoch", stop_after(number))
        with pytest.raises(KeyboardInterrupt):
            run(tiny, tmp_path / "broken", *own)
    monkeypatch.setattr(TrainingLog, "end_epoch", kept)
    broken, _ = run(tiny, tmp_path / "broken", *own)
    first, second = (
        l1kd.load_model(c.student_file("sparse")).get_weights() for c in (whole, broken)
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert np.mean(first[2] == 0) >= 0.75, "the dense layer's sparsity"


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("{epochs: 4, final_epochs: 2, float_epochs: 6}", "'float_epochs' is 6 of the 6"),
        ("{average: 1}", "average"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Path, own: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_file.load(tiny, [f"distillation={own}"])


def test_tensorboard_gets_the_losses_of_every_epoch(tmp_path: Path) -> None:
    from l1kd.training.epochs import TrainingLog

    recipe = Distillation(tensorboard=True)
    for wanted in (recipe.tensorboard, False):
        log = TrainingLog(directory=tmp_path, tensorboard=wanted)
        log.end_epoch(0, "teacher", {"teacher": 0.5}, {"teacher": 0.25}, {})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"teacher_val_loss" in file.read_bytes()
