"""scores.npz: names that cannot be mistaken, chunks that do not show, files that are checked."""

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data.dataset import Block, Sample
from l1kd.evaluation import scores as module
from l1kd.evaluation.scores import Scores, check_names, score_samples


def _sum(events):
    return events.sum(1, dtype=np.float64)


def test_chunks_do_not_show(monkeypatch):
    events = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    blocks = tuple(Block(len(part), lambda part=part: part) for part in np.split(events, [4, 5]))
    advanced = []
    monkeypatch.setattr(module, "CHUNK", 6)
    arrays = score_samples(
        {"teacher": _sum, "student_a": lambda e: -_sum(e)[:, None]},
        {"test": Sample("test", (3,), blocks)},
        advanced.append,
    )
    np.testing.assert_array_equal(arrays["teacher_test"], _sum(events))
    np.testing.assert_array_equal(arrays["student_a_test"], -_sum(events))
    assert sum(advanced) == 23


def test_a_score_that_is_no_number_names_its_model_and_sample():
    sample = Sample.of("test", np.ones((4, 2), np.float32))
    with pytest.raises(UserError, match=r"student_a: 4 of 4 scores on 'ttbar' are NaN"):
        score_samples({"student_a": lambda events: _sum(events) * np.nan}, {"ttbar": sample})


def test_a_model_of_two_outputs_is_refused():
    sample = Sample.of("test", np.ones((4, 2), np.float32))
    with pytest.raises(UserError, match="one output per event"):
        score_samples({"student_a": lambda events: events}, {"test": sample})


@pytest.mark.parametrize("signals", [["test"], ["all"], ["a", "val_a"]])
def test_signals_named_like_samples_are_refused(signals):
    with pytest.raises(UserError, match=r"data\.signals"):
        check_names(signals, ["s1"])


def test_students_and_signals_that_read_alike_are_refused():
    with pytest.raises(UserError, match="rename one"):
        check_names(["ttbar", "b_ttbar"], ["a", "a_b"])
    check_names(["ttbar", "qcd20"], ["v1", "v2"])


def test_there_and_back(tmp_path):
    path = tmp_path / "scores.npz"
    Scores({"teacher_test": np.array([0.1, 2.0]), "student_a_test": np.array([1.5])}).save(path)
    loaded = Scores.load(path)
    np.testing.assert_array_equal(loaded.teacher("test"), [0.1, 2.0])
    assert loaded.student("a", "test").dtype == np.float64
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first
    with pytest.raises(UserError, match="target_test"):
        loaded.target("test")


def _pickled(path):
    np.savez(path, teacher_test=np.array([{"no": "number"}], dtype=object))


def _truncated(path):
    np.savez(path, teacher_test=np.zeros(1_000))
    path.write_bytes(path.read_bytes()[:500])


def _text(path):
    np.savez(path, teacher_test=np.array(["a"]))


@pytest.mark.parametrize("damage", [_pickled, _truncated, _text, lambda path: path.touch()])
def test_a_damaged_file_is_the_users_to_mend(tmp_path, damage):
    path = tmp_path / "scores.npz"
    damage(path)
    with pytest.raises(UserError, match=r"scores\.npz"):
        Scores.load(path)


def test_a_missing_file_says_which_stage(tmp_path):
    with pytest.raises(UserError, match="evaluate stage has not run"):
        Scores.load(tmp_path / "scores.npz")
