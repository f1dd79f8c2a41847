"""The co-distillation step: who learns from whom."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from l1kd.config import Config
from l1kd.data.dataset import Dataset, Sample
from l1kd.distill.distiller import Distiller
from l1kd.distill.train import build
from l1kd.fixedpoint import FixedPoint

EVENTS = np.random.default_rng(0).poisson(3, (64, 6, 4, 1)).astype(np.float32)


@pytest.fixture
def distiller() -> Distiller:
    config = Config.model_validate(
        {
            "name": "x",
            "data": {"source": "arrays", "background": ["unused"]},
            "teacher": {"architecture": "dense", "hidden": [8], "latent": 2, "standardise": True},
            "students": [
                {"name": "a", "architecture": "dense", "hidden": [4]},
                {"name": "b", "architecture": "cicada_v2"},
            ],
        }
    )
    sample = Sample.of("train", EVENTS)
    return build(config, Dataset(sample, sample, sample, {}, FixedPoint(11, 11)))


def copies(model: tf.keras.Model) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [weight.copy() for weight in model.get_weights()]


def same(model: tf.keras.Model, before: list[np.ndarray]) -> bool:  # type: ignore[type-arg]
    return all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


def test_one_step_moves_everyone(distiller: Distiller) -> None:
    before = {name: copies(student) for name, student in distiller.students.items()}
    teacher = copies(distiller.teacher)
    logs = distiller.train_step((tf.constant(EVENTS), tf.constant(EVENTS[:8] + 20)))
    assert set(logs) == {"teacher_loss", "a_loss", "b_loss"}
    assert not same(distiller.teacher, teacher)
    assert not any(same(distiller.students[name], before[name]) for name in before)


def test_the_teacher_does_not_feel_its_students(distiller: Distiller) -> None:
    start = distiller.arrays()
    batch = (tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    distiller.train_step(batch)
    together = copies(distiller.teacher)
    distiller.restore(start)
    distiller.train_students = False
    distiller.train_step(batch)
    assert same(distiller.teacher, together)


def test_the_teacher_does_not_learn_from_exposure(distiller: Distiller) -> None:
    start = distiller.arrays()
    distiller.train_step((tf.constant(EVENTS), tf.constant(EVENTS[:8] + 50)))
    with_exposure = copies(distiller.teacher)
    distiller.restore(start)
    distiller.train_step((tf.constant(EVENTS), tf.constant(EVENTS[:0])))
    assert same(distiller.teacher, with_exposure)


def test_students_do_not_feel_each_other(distiller: Distiller) -> None:
    start = distiller.arrays()
    batch = (tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    distiller.train_step(batch)
    together = copies(distiller.students["a"])
    distiller.restore(start)
    heads = distiller.learners.heads
    variables = distiller.students["a"].trainable_variables
    with tf.GradientTape() as tape:
        raw = distiller.teacher(tf.concat(batch, 0))
        # the step's order: the transform follows first
        loss = tf.reduce_mean(tf.abs(heads["a"](tf.concat(batch, 0))[:, 0] - distiller.target(raw)))
    alone = tape.gradient(loss, variables)
    assert all(gradient is not None for gradient in alone)
    assert not same(distiller.students["a"], together)


def test_a_frozen_teacher_stays_and_its_transform_too(distiller: Distiller) -> None:
    distiller.train_teacher = False
    teacher, affine = copies(distiller.teacher), distiller.affine.numpy()
    distiller.train_step((tf.constant(EVENTS), tf.constant(EVENTS[:8])))
    assert same(distiller.teacher, teacher)
    assert (distiller.affine.numpy() == affine).all()


def test_the_fitted_transform_follows_the_teacher(distiller: Distiller) -> None:
    for _ in range(3):
        distiller.train_step((tf.constant(EVENTS), tf.constant(EVENTS[:8])))
    raw = distiller.teacher(EVENTS)
    targets = distiller.target(raw).numpy()
    assert 40 < np.median(targets) < 90
    assert 8 < targets.std() < 40


def test_the_graph_s_target_is_the_stored_transform(distiller: Distiller) -> None:
    raw = np.geomspace(1e-3, 1e3, 200).astype(np.float32)
    transform = distiller.transform.fitted(0.3, 0.7)
    distiller.set_transform(transform)
    seen = distiller.target(tf.constant(raw)).numpy()
    # float32 in the graph, float64 and the grid in the transform: half a step and rounding
    assert np.abs(seen - transform.forward(raw)).max() <= transform.score.lsb
