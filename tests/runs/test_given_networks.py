"""Runs of a user's own teacher and students: copied into the run, trained, resumed, moved."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tensorflow import keras

import l1kd as package
from l1kd.core import config_file
from l1kd.runs.run import context_of
from l1kd.training.train import Distiller, build
from tests.conftest import TINY, tiny_arrays
from tests.training.test_distill import user_student

Call = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A configuration with networks beside it, named relative to it."""
    place = tmp_path / "mine"
    place.mkdir()
    (place / "mine.yaml").write_text(
        yaml.safe_dump(
            {
                **TINY,
                "data": tiny_arrays(tmp_path / "data"),
                "teacher": {"file": "teacher.keras"},
                "students": [
                    {"name": "own", "file": "untrained.keras"},
                    {"name": "flat", "architecture": "dense", "hidden": [4]},
                ],
                "distillation": {
                    **TINY["distillation"],  # type: ignore[dict-item]
                    "score": {"word": 14, "integer": 8},
                },
            }
        )
    )
    keras.utils.set_random_seed(1)
    inner = [keras.layers.Dense(2), keras.layers.Dense(24, bias_initializer="ones")]
    teacher = keras.Sequential([keras.Input((24,)), *inner])
    with np.load(tmp_path / "data" / "normal.npz") as file:
        events = file["events"].reshape(-1, 24).astype(np.float32)
    teacher.compile(keras.optimizers.Adam(0.03), "mse")
    teacher.fit(events, events, epochs=3, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # QKeras' doubts
        teacher.save(place / "teacher.keras")
        user_student(inputs=24).save(place / "untrained.keras")
    return place


def test_a_run_of_a_user_s_networks_travels(l1kd: Call, mine: Path, tmp_path: Path) -> None:
    theirs = package.load_model(mine / "teacher.keras")
    start = package.load_model(mine / "untrained.keras")
    done = l1kd("run", "mine/mine.yaml", "--until", "train")
    assert done.returncode == 0, done.stderr
    assert "the teacher 'file' comes trained: students learn 4 epochs" in done.stderr
    run = tmp_path / "runs" / "mine"
    stored = yaml.safe_load((run / "config.yaml").read_text())
    for network in (stored["teacher"], stored["students"][0]):
        assert (run / network["file"]).is_file() and network["file"].startswith("given/")
    events = np.random.default_rng(0).integers(0, 16, (50, 6, 4, 1)).astype(np.float32)
    flat = events.reshape(-1, 24)
    residual = np.square(theirs(flat).numpy() - flat).mean(1)
    teacher = package.load_model(run / "teacher.keras")
    np.testing.assert_allclose(teacher(events), residual, rtol=1e-5)
    trained = package.load_model(run / "students" / "own.keras")
    assert package.check(trained) == []
    assert not np.array_equal(trained(events), start(flat))

    # elsewhere, without the files that it was made of, all stages go on
    (mine / "untrained.keras").rename(mine / "renamed.keras")
    settings = ("--run", "runs/mine", "--until", "train")
    again = l1kd("run", "mine/mine.yaml", *settings, "--set", "students.0.file=renamed.keras")
    assert again.returncode == 0 and "train: done already" in again.stderr, again.stderr
    shutil.rmtree(mine)
    moved = run.rename(tmp_path / "moved")
    for stage in ("evaluate", "report"):
        done = l1kd(stage, moved)
        assert done.returncode == 0, done.stderr
    assert package.open_run(moved).students == ("own", "flat")
    page = (moved / "report.html").read_text()
    assert str(run) not in page and str(mine) not in page


def test_training_goes_on_where_a_checkpoint_was_made(mine: Path) -> None:
    config = config_file.load(mine / "mine.yaml")
    dataset = context_of(mine, config).dataset
    parts = next(iter(dataset.train.chunks(30))), next(iter(dataset.val.chunks(30)))

    def step(distiller: Distiller) -> Any:
        return distiller.step(*parts, teacher=False).numpy()

    one, other = build(config, dataset), build(config, dataset)
    first = step(one)
    kept = one.arrays()
    second = step(one)
    assert not np.array_equal(first, second)
    other.restore(kept)
    assert np.array_equal(step(other), second)
    after = zip(one.arrays().values(), other.arrays().values(), strict=True)
    assert all(np.array_equal(a, b) for a, b in after)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["teacher.latent=3"], "'latent' is of an architecture"),
        (["teacher.architecture=pca"], "give one of them"),
        (["teacher.file=mine.yaml"], "teacher.file"),
        (["teacher.file=nobody.keras"], "no model file at"),
        (["students.0.hidden=[3]"], "'hidden' is of an architecture"),
        (["students.1.sparsity=0.5"], "students.1.sparsity is not for a run with students from"),
        (["distillation.raw_weight=1"], "distillation.raw_weight is not for a run with students"),
        (["distillation.score.word=16"], "set distillation.score to {word: 14, integer: 8}"),
    ],
)
def test_what_does_not_fit_is_one_line_and_no_run(
    l1kd: Call, mine: Path, tmp_path: Path, settings: list[str], words: str
) -> None:
    given = [part for each in settings for part in ("--set", each)]
    done = l1kd("run", "mine/mine.yaml", *given)
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1], done.stderr
    assert not (tmp_path / "runs").exists()


def test_features_are_of_a_layer_that_is_named(l1kd: Call, mine: Path) -> None:
    students = "students=[{architecture: dense}]"
    settings = ("--set", students, "--set", "distillation.feature_weight=1")
    done = l1kd("run", "mine/mine.yaml", *settings)
    assert done.returncode == 2 and "name that layer 'latent'" in done.stderr, done.stderr


def test_a_file_takes_the_place_of_the_source_s_teacher(mine: Path, tmp_path: Path) -> None:
    text = f"data: {{source: calo, background: [{tmp_path}/none.h5]}}\n"
    (mine / "calo.yaml").write_text(text + "teacher: {file: teacher.keras}\n")
    own = config_file.load(mine / "calo.yaml").teacher
    assert (own.residual_power, own.latent, own.file) == (2, 20, str(mine / "teacher.keras"))
    (mine / "plain.yaml").write_text(text)
    laid = config_file.load(mine / "plain.yaml", ["teacher.file=teacher.keras"]).teacher
    assert laid == own
