"""The co-distillation step: who learns from whom."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from l1kd.core.config import Config
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Sample
from l1kd.training.epochs import Arrays
from l1kd.training.target_transform import TARGETS
from l1kd.training.train import Distiller, build

EVENTS = np.random.default_rng(0).poisson(3, (64, 6, 4, 1)).astype(np.float32)


def build_distiller() -> Distiller:
    config = Config.model_validate(
        {
            "name": "x",
            "data": {"source": "arrays", "background": ["unused"]},
            "teacher": {"architecture": "dense", "hidden": [8], "latent": 2, "standardise": True},
            "students": [
                {"name": "a", "architecture": "dense", "hidden": [4]},
                {"name": "b", "architecture": "cicada_v2"},
            ],
            "distillation": {"exposure": ["shuffle"]},
        }
    )
    sample = Sample.of("train", EVENTS)
    return build(config, Dataset(sample, sample, sample, {}, FixedPoint(11, 11)))


@pytest.fixture(scope="module")
def shared() -> tuple[Distiller, Arrays]:
    distiller = build_distiller()
    return distiller, distiller.arrays()


@pytest.fixture
def distiller(shared: tuple[Distiller, Arrays]) -> Iterator[Distiller]:
    """Untrained; its steps stay traced, so nothing but what training changes may be changed."""
    distiller, start = shared
    distiller.restore(start)
    transform = distiller.transform
    yield distiller
    distiller.transform = transform


def students(distiller: Distiller) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {name: distiller.trainer.part(name)[0] for name in distiller.trainer.names}


def copies(model: tf.keras.Model) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [weight.copy() for weight in model.get_weights()]


def same(model: tf.keras.Model, before: list[np.ndarray]) -> bool:  # type: ignore[type-arg]
    return all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


def test_one_step_moves_everyone(distiller: Distiller) -> None:
    before, teacher = students(distiller), copies(distiller.teacher)
    losses = distiller.step(tf.constant(EVENTS), tf.constant(EVENTS[:8] + 20))
    assert losses.shape == (3,)
    assert not same(distiller.teacher, teacher)
    assert all((part != before[name]).any() for name, part in students(distiller).items())


def test_the_teacher_does_not_feel_its_students(distiller: Distiller) -> None:
    start = distiller.arrays()
    batch = (tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    distiller.step(*batch)
    together = copies(distiller.teacher)
    distiller.restore(start)
    before = students(distiller)
    distiller.step(*batch, students=False)
    assert same(distiller.teacher, together)
    assert all((part == before[name]).all() for name, part in students(distiller).items())


def test_the_teacher_does_not_learn_from_exposure(distiller: Distiller) -> None:
    start = distiller.arrays()
    distiller.step(tf.constant(EVENTS), tf.constant(EVENTS[:8] + 50))
    with_exposure = copies(distiller.teacher)
    distiller.restore(start)
    distiller.step(tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    assert same(distiller.teacher, with_exposure)


def test_students_do_not_feel_each_other(distiller: Distiller) -> None:
    events = tf.constant(EVENTS)
    targets = distiller.target(distiller.teacher(events))
    trainer = distiller.trainer
    with tf.GradientTape() as tape:
        loss = trainer.losses(events, targets, training=True)[trainer.names.index("a")]
    gradient = tape.gradient(loss, trainer.vector).numpy()
    own = trainer.stack.slice_of("a")
    assert (gradient[own] != 0).any()
    gradient[own] = 0
    assert (gradient == 0).all()


def test_a_frozen_teacher_stays_and_its_transform_too(distiller: Distiller) -> None:
    teacher, affine = copies(distiller.teacher), distiller.affine.numpy()
    distiller.step(tf.constant(EVENTS), tf.constant(EVENTS[:8]), teacher=False)
    assert same(distiller.teacher, teacher)
    assert (distiller.affine.numpy() == affine).all()


def test_students_are_told_how_steep_their_targets_are() -> None:
    distiller = build_distiller()
    own = distiller.trainer
    own.config = own.config.model_copy(update={"raw_weight": 1.0})
    distiller.set_transform(distiller.transform.fitted(0.3, 0.7))
    batch = (tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    shown = tf.concat(batch, 0)
    target, gain = distiller.target(distiller.teacher(shown)), distiller.transform.gain
    assert gain != 1
    expected = own.losses(shown, target, gain=gain, training=True)
    assert np.allclose(distiller.step(*batch, teacher=False), expected, rtol=1e-5)


def test_the_fitted_transform_follows_the_teacher(distiller: Distiller) -> None:
    for _ in range(3):
        distiller.step(tf.constant(EVENTS), tf.constant(EVENTS[:8]))
    raw = distiller.teacher(EVENTS)
    targets = distiller.target(raw).numpy()
    assert 40 < np.median(targets) < 90
    assert 8 < targets.std() < 40


@pytest.mark.parametrize("kind", TARGETS)
def test_the_graph_s_target_is_the_stored_transform(distiller: Distiller, kind: str) -> None:
    raw = np.geomspace(1e-3, 1e3, 200).astype(np.float32)
    transform = TARGETS[kind](distiller.transform.score)
    if kind == "fitted":
        transform = transform.fitted(0.3, 0.7)
    distiller.set_transform(transform)
    seen = distiller.target(tf.constant(raw)).numpy()
    # float32 in the graph, float64 and the grid in the transform: half a step and rounding
    assert np.abs(seen - transform.forward(raw)).max() <= transform.score.lsb
