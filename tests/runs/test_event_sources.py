"""From files of a published schema to verified firmware and scores of new ones, by source."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from l1kd.core.files import file_hash
from l1kd.runs.event_files import event_hash
from l1kd.runs.open_run import open_run
from tests.data.event_files import (
    cms_events,
    cms_features,
    particles,
    write_h5,
    write_hugging_face,
    write_zenodo,
)

Call = Callable[..., subprocess.CompletedProcess[str]]
SHORT = (
    *("--set", "students=[{architecture: dense, hidden: [8]}]", "--set", "distillation.epochs=2"),
    *("--set", "distillation.final_epochs=2", "--set", "firmware.io_type=io_parallel"),
    *("--set", "rtl={students: none, simulate: none, synthesize: none}"),
    *("--set", "verify.max_auc_loss=1"),
)


def verified(l1kd: Call, source: str, background: Path, signal: Path, *more: str) -> None:
    """`init`, then a run until `verify`, in which every bit agrees."""
    files = ("--background", background.name, "--signal", f"hot={signal.name}")
    made = l1kd("init", "mine", "--source", source, *files)
    assert made.returncode == 0, made.stderr
    run = l1kd("run", "mine/l1kd.yaml", "--run", "run", "--until", "verify", *SHORT, *more)
    assert run.returncode == 0, run.stderr
    directory = background.parent / "run"
    pairs = json.loads((directory / "agreement.json").read_text())[0]["pairs"]
    compared = {(pair["candidate"], pair["inputs"]): pair["mismatches"] for pair in pairs}
    assert {("csim", "test"), ("csim", "corner")} <= compared.keys()
    assert set(compared.values()) == {0}


def scores(l1kd: Call, directory: Path, file: str) -> Any:
    answer = l1kd("score", "run", file, "--out", "new.parquet")
    assert answer.returncode == 0, answer.stderr
    return parquet.read_table(directory / "new.parquet")["score_lsb"].to_numpy()


def test_every_source_s_files_are_known_by_their_content(tmp_path: Path) -> None:
    """Else a run would not notice that its events are others."""
    files = [
        write_hugging_face(tmp_path / "a.parquet", cms_events(5)),
        Path(write_h5(tmp_path / "a.h5", Particles=particles(5))),
    ]
    for file in files:
        assert event_hash(file) == file_hash(file)


@pytest.mark.full
@pytest.mark.csim
def test_the_cms_level_1_set(l1kd: Call, tmp_path: Path) -> None:
    normal = write_hugging_face(tmp_path / "zb.parquet", cms_events(1200, 1))
    hot = write_hugging_face(tmp_path / "hot.parquet", cms_events(200, 2, scale=200))
    verified(l1kd, "cmsl1", normal, hot)
    new = cms_events(50, 3)
    new[4]["ET"] = 4095  # is scored like any other
    write_zenodo(tmp_path / "new", [new])
    numbers = {"met": 1, "muons": 4, "jets": 10, "egammas": 12}
    expected = open_run(tmp_path / "run").score(cms_features(new, numbers) / 16)
    np.testing.assert_array_equal(scores(l1kd, tmp_path, "new"), expected)


@pytest.mark.full
@pytest.mark.csim
def test_the_challenge_of_2021(l1kd: Call, tmp_path: Path) -> None:
    normal, hot = tmp_path / "background_for_training.h5", tmp_path / "hot.h5"
    write_h5(normal, Particles=particles(1200, 1))
    write_h5(hot, Particles=particles(200, 2, scale=200))
    verified(l1kd, "adc2021", normal, hot)
    new = particles(50, 3)
    write_h5(tmp_path / "new.h5", X_test=new[:, :, :3].reshape(50, 57))
    expected = open_run(tmp_path / "run").score(np.rint(new[:, :, :3] * 32) / 32)
    np.testing.assert_array_equal(scores(l1kd, tmp_path, "new.h5:X_test"), expected)


@pytest.mark.full
@pytest.mark.csim
def test_regions_with_their_bits(l1kd: Call, tmp_path: Path) -> None:
    random = np.random.default_rng(1)

    def write(name: str, events: int, scale: float) -> Path:
        counts = random.exponential(scale, (events, 18, 14)).astype(np.int16)
        bits = {f"CaloRegions__{kind}": counts > 5 * scale for kind in ("taubit", "egbit")}
        zero = np.zeros(0, bool)
        write_h5(tmp_path / name, CaloRegions__et=counts, **bits, AcceptanceFlag=zero)
        return tmp_path / name

    channels = ("--set", "data.channels=[et, taubit, egbit]")
    teacher = ("--set", "teacher.architecture=cicada")
    verified(l1kd, "calo", write("zb.h5", 600, 6), write("hot.h5", 100, 12), *channels, *teacher)
    assert len(scores(l1kd, tmp_path, write("new.h5", 40, 6).name)) == 40
