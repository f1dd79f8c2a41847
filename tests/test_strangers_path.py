"""A stranger's way from files to checked firmware: the command line and public names alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from pyarrow import parquet

import l1kd

# Short, as who only wants to see whether it works at all would set it.
SHORT = (
    "distillation.epochs=3",
    "distillation.final_epochs=10",
    "distillation.batch=64",
    "verify.max_auc_loss=1",  # such a student is not good
    "students=[{name: tiny, architecture: dense, hidden: [16]}]",
    "firmware.io_type=io_parallel",
    "rtl.simulate=none",
    "rtl.synthesize=none",
)


def write_events(path: Path, events: int, seed: int, more: float = 0) -> None:
    """Regions as CICADA's files have them: `more` counts than usual; recorded data has no flags."""
    random = np.random.default_rng(seed)
    mean = random.gamma(4, 1, (events, 1, 1)) + random.exponential(2 * more, (events, 18, 14))
    regions = random.poisson(mean)
    with h5py.File(path, "w") as file:
        file["CaloRegions"] = regions.clip(0, 1023).astype(np.int16)
        file["AcceptanceFlag"] = np.zeros(0, bool)


@pytest.mark.full
@pytest.mark.csim
def test_from_files_to_checked_firmware(tmp_path: Path) -> None:
    write_events(tmp_path / "zerobias.h5", 12_000, 1)
    write_events(tmp_path / "ttbar.h5", 400, 2, more=8)
    write_events(tmp_path / "monday.h5", 1_000, 3, more=1)

    def call(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "l1kd", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, f"l1kd {arguments}: {done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    signal = ("--signal", "ttbar=ttbar.h5")
    config = call("init", "mine", "--source", "calo", "--background", "zerobias.h5", *signal)
    settings = [part for each in SHORT for part in ("--set", each)]
    page = call("run", config.strip(), *settings)
    assert (tmp_path / page.strip()).is_file()
    run = Path(page.strip()).parent
    told = call("rates", run, "--khz", 10)
    assert "68 % interval" in told
    scores = call("score", run, "monday.h5", "--rate-khz", 10).strip()
    table = parquet.read_table(tmp_path / scores).to_pydict()
    opened = l1kd.open_run(tmp_path / run)
    with h5py.File(tmp_path / "monday.h5") as file:
        own = opened.score(file["CaloRegions"][:])
    assert table["score_lsb"] == own.tolist()
    assert table["accept"] == (own >= opened.threshold(rate_khz=10)).tolist()
    archive = tmp_path / call("export", run).strip()
    assert "certified for all inputs" in call("check", archive)

    # the receiver has make and a compiler
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "g++", "as", "ld", "sh", "sha256sum", "cut", "cat", "test", "echo"):
        (tools / name).symlink_to(str(shutil.which(name)))
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "theirs", filter="data")
    (unpacked,) = (tmp_path / "theirs").iterdir()
    made = subprocess.run(
        [tools / "make", "check"],
        cwd=unpacked,
        env={"PATH": str(tools), "CXXFLAGS": "-O0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0 and "PASSED" in made.stdout, made.stderr
