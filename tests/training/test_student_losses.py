"""Pruning and the logic penalty: what they reach."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import l1kd
from l1kd.core import config_file
from l1kd.core.config import Distillation, Student
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint, signed_digits
from l1kd.exact.layers import Affine
from l1kd.networks.to_exact import read
from l1kd.training import train
from l1kd.training.epochs import StudentSchedule, TrainingLog
from l1kd.training.student_losses import StudentTrainer
from tests.training.conftest import SPARSE, context_of

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


def trained_with(tiny: Path, directory: Path, student: str, *overrides: str) -> Context:
    context = context_of(tiny, directory, f"students=[{student}]", *overrides)
    train.train(context)
    return context


def zeros(context: Context, name: str) -> dict[str, float]:
    network = read(l1kd.load_model(context.student_file(name)))
    layers = [node for node in network.nodes if isinstance(node, Affine)]
    return {layer.name: float(np.mean(layer.kernel == 0)) for layer in layers}


@pytest.mark.parametrize("mode", ["colearning", pytest.param("sequential", marks=pytest.mark.full)])
def test_a_stored_student_has_the_zeros_that_were_asked_for(
    tiny: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []
    kept = TrainingLog.end_epoch

    def note(self: TrainingLog, epoch: int, *rest: Any) -> None:
        asked.append((epoch, "sparse" in rest[-1]))
        kept(self, epoch, *rest)

    monkeypatch.setattr(TrainingLog, "end_epoch", note)
    run = trained_with(tiny, tmp_path / "run", SPARSE, f"distillation.mode={mode}")
    settled = 2 if mode == "colearning" else 3  # students learn in epochs 0 to 4, or 2 to 4
    # An epoch in which weights were still to be pruned is nobody's best.
    assert asked == [(epoch, epoch >= settled) for epoch in range(4)]
    model = l1kd.load_model(run.student_file("sparse"))
    exact = {
        layer.name: np.mean(layer.kernel.numpy() == 0)
        for layer in model.layers[1:]
        if hasattr(layer, "kernel")
    }
    assert exact == {"conv1": 0.25, "dense1": 0.75, "output": 0.0}
    found = zeros(run, "sparse")
    assert all(found[name] >= share for name, share in exact.items())


def test_an_epoch_that_does_not_count_is_no_one_s_best(tmp_path: Path) -> None:
    log = TrainingLog(directory=tmp_path)
    for epoch, loss in enumerate((1.0, 3.0, 2.0)):
        weights = {"flat": lambda epoch=epoch: [np.array([epoch])]} if epoch else {}
        log.end_epoch(epoch, "x", {"flat": loss}, {"flat": loss}, weights)
        assert log.progress.best == ({} if epoch == 0 else {"flat": 3.0 if epoch == 1 else 2.0})
    assert log.best["flat"] == [[2]]
    assert log.progress.improved == {"flat": 3}


def test_a_training_that_no_longer_gets_better_is_stale(tmp_path: Path) -> None:
    log = TrainingLog(directory=tmp_path)
    for epoch, losses in enumerate(((2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (3.0, 3.0))):
        validation = dict(zip("ab", losses, strict=True))
        assert not log.out_of_patience(["a", "b"], 2)
        log.end_epoch(epoch, "x", {}, validation, dict.fromkeys("ab", list))
    assert log.out_of_patience(["a", "b"], 2)
    assert not log.out_of_patience(["a", "b"], 3)
    assert not log.out_of_patience(["a", "b"], None)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    log = TrainingLog(directory=tmp_path)
    with pytest.raises(FloatingPointError, match="a_val_loss is nan in epoch 1"):
        log.end_epoch(0, "x", {"a": 1.0}, {"a": float("nan")}, {})
    assert not (tmp_path / "checkpoint.npz").exists()


def test_sparsity_rises_by_the_cubic_law() -> None:
    reached: list[float] = []
    trainer = SimpleNamespace(
        names=["a"], sparsities={("a", "b"): 0.5}, prune=reached.append, part=list, optimizer=None
    )
    schedule = StudentSchedule(trainer, Distillation(pruning=(0.2, 0.7)), 10, 20)
    for epoch in range(10, 20):
        for step in range(4):
            schedule.prune(epoch, step, 4)
    assert len(reached) == 32  # the first two epochs prune nothing
    assert reached == sorted(reached)
    assert reached[9] == pytest.approx(1 - 0.5**3)  # half way between the two points
    assert reached[19:] == [1.0] * 13
    assert [epoch for epoch in range(10, 20) if schedule.candidates(epoch)] == [16, 17, 18, 19]


def test_a_student_takes_steps_of_its_own_rate() -> None:
    from l1kd.networks.students import build_student

    recipe = Distillation(student_learning_rate=1e-2)
    rates = {"usual": None, "slow": 2.5e-3}
    settings = [
        Student(name=name, architecture="dense", hidden=[4], learning_rate=rate)
        for name, rate in rates.items()
    ]
    models = {
        own.name: build_student(own, (6,), FixedPoint(6, 6), recipe.score) for own in settings
    }
    models["slow"].set_weights(models["usual"].get_weights())
    trainer = StudentTrainer(models, recipe, settings)
    before = trainer.vector.numpy()
    random = np.random.default_rng(0)
    trainer.step(random.integers(0, 20, (50, 6)).astype(np.float32), np.full(50, 40, np.float32))
    moved = trainer.vector.numpy() - before
    usual, slow = (moved[trainer.stack.slice_of(name)] for name in rates)
    assert abs(usual).max() > 5e-3
    assert slow == pytest.approx(usual / 4, abs=1e-6)


def test_the_smallest_weights_go_and_stay() -> None:
    from l1kd.networks.students import build_student

    own = Distillation()
    config = Student(name="x", architecture="dense", hidden=[4], sparsity=0.5)
    model = build_student(config, (6,), FixedPoint(6, 6), own.score)
    kernel = model.get_layer("dense1").kernel
    values = np.arange(1, 25).reshape(6, 4) / 32
    kernel.assign(values)
    trainer = StudentTrainer({"x": model}, own, [config])

    def now() -> np.ndarray:  # type: ignore[type-arg]
        trainer.store({})
        found: np.ndarray = kernel.numpy()  # type: ignore[type-arg]
        return found

    trainer.prune(0.5)
    assert (now() == np.where(values > 6 / 32, values, 0)).all()
    trainer.vector.assign_add(np.full(trainer.vector.shape, 1 / 8))
    trainer.hold()
    assert np.sum(now() == 0) == 6
    trainer.prune(0.25)  # never back
    assert np.sum(now() == 0) == 6


def test_the_penalty_lowers_digits_and_the_estimate_of_logic(tiny: Path, tmp_path: Path) -> None:
    from l1kd.firmware.verilog import alkaid_convert

    students = ", ".join(
        f"{{name: {name}, architecture: conv, hidden: [8], logic_penalty: {penalty}}}"
        for name, penalty in (("free", 0), ("frugal", 0.3))
    )
    epochs = ("distillation.epochs=4", "distillation.final_epochs=2")
    rate = "distillation.student_learning_rate=0.01"
    run = trained_with(tiny, tmp_path / "run", students, *epochs, rate)
    counted, logic = {}, {}
    for name in ("free", "frugal"):
        network = read(l1kd.load_model(run.student_file(name)))
        layers = [node for node in network.nodes if isinstance(node, Affine)]
        counted[name] = sum(signed_digits(layer.kernel).sum() for layer in layers)
        logic[name] = alkaid_convert.estimate(network).lut
    assert counted["frugal"] < 0.8 * counted["free"]
    assert logic["frugal"] < 0.8 * logic["free"]


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ("{architecture: conv, sparsity: 1}", "students.0.sparsity"),
        ("{architecture: conv, logic_penalty: -1}", "students.0.logic_penalty"),
        ("{architecture: dense, kernel: 3}", "'conv'"),
        ("{architecture: conv, kernel: [1, 2, 3]}", "students.0.kernel"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Path, student: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_file.load(tiny, [f"students=[{student}]"])
