"""Students against a frozen teacher: its targets, and what a candidate ends as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from l1kd.core.config import Student
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.training import train
from l1kd.training.frozen_teacher import LabelledEvents, train_students
from l1kd.training.target_transform import TARGETS
from tests.conftest import TINY, tiny_arrays
from tests.training.conftest import context_of

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    place = tmp_path_factory.mktemp("frozen")
    tiny = place / "tiny.yaml"
    tiny.write_text(yaml.safe_dump({"data": tiny_arrays(place / "data"), **TINY}))
    return context_of(tiny, place)


@pytest.fixture(scope="module")
def labelled(context: Context) -> LabelledEvents:
    teacher = train.build(context.config, context.dataset).teacher
    transform = TARGETS["fitted"](context.config.distillation.score.type)
    return LabelledEvents.label(
        context.config.distillation,
        context.config.seed,
        context.dataset,
        teacher,
        transform,
        draws=2,
        limit=200,
    )


def test_targets_are_the_frozen_teacher_s(context: Context, labelled: LabelledEvents) -> None:
    teacher = train.build(context.config, context.dataset).teacher
    transform = TARGETS["fitted"](context.config.distillation.score.type)
    assert labelled.normal.dtype == np.int16
    assert (labelled.normal == context.dataset.train.events(200)).all()
    assert len(labelled.exposure) == 2 * 200
    assert labelled.gain == np.float32(transform.gain)
    assert not (labelled.exposure[:200] == labelled.exposure[200:]).all()
    for events, targets in (
        (labelled.normal, labelled.normal_targets),
        (labelled.exposure, labelled.exposure_targets),
        (labelled.val, labelled.val_targets),
    ):
        raw = teacher(events.astype(np.float32)).numpy()
        assert (targets == transform.forward(raw)).mean() > 0.99  # but for float32 in chunks


def test_an_epoch_shows_every_normal_event_once_and_one_draw(labelled: LabelledEvents) -> None:
    for number in (0, 1):
        batches = list(labelled.epoch(number, seed=1, batch=64))
        assert len(batches) == labelled.steps(64) == 4
        shown = np.concatenate([events for events, *_ in batches])
        draw = labelled.exposure[number * 200 : (number + 1) * 200]
        expected = np.concatenate([labelled.normal, draw])

        def ordered(events: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return np.unique(events.reshape(len(events), -1), axis=0)

        assert len(shown) == len(expected)
        assert (ordered(shown) == ordered(expected)).all()


def test_a_candidate_follows_from_its_seed_alone(
    context: Context, labelled: LabelledEvents
) -> None:
    own = Student(name="x", architecture="conv", hidden=[3], sparsity=0.5)
    other = Student(name="x", architecture="dense", hidden=[2])

    def trained(student: Student) -> list[np.ndarray]:  # type: ignore[type-arg]
        grid = context.dataset.grid
        models = train_students([student], labelled, context.config, grid, epochs=2, seed=3)
        return models["x"].get_weights()

    first = trained(own)
    trained(other)
    assert all((a == b).all() for a, b in zip(first, trained(own), strict=True))
    assert [np.mean(w == 0) for w in first if w.ndim > 1] == [
        0.5,
        pytest.approx(0.5, abs=0.03),
        pytest.approx(1 / 3),
    ]


def test_lessons_are_stored_whole_or_refused(labelled: LabelledEvents, tmp_path: Path) -> None:
    file = tmp_path / "targets.npz"
    labelled.save(file)
    again = LabelledEvents.load(file)
    assert all((getattr(again, key) == value).all() for key, value in vars(labelled).items())
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="delete it"):
        LabelledEvents.load(file)
