"""What all tests share: a tiny data set, a configuration of it, the command line in a process."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What is compiled is shared by all workers and later runs; the user's own cache is left alone.
os.environ.setdefault(
    "L1KD_CSIM_CACHE", str(Path(tempfile.gettempdir(), f"l1kd-tests-csim-{os.getuid()}"))
)

import numpy as np
import pytest
import yaml
from filelock import FileLock

TINY: dict[str, object] = {
    "teacher": {"architecture": "dense", "latent": 2, "hidden": [8]},
    "students": [
        {"name": "flat", "architecture": "dense", "hidden": [4]},
        {"name": "image", "architecture": "cicada_v2"},
    ],
    "distillation": {"epochs": 2, "final_epochs": 2, "batch": 32, "exposure": ["patch", "shuffle"]},
    # Simulation and synthesis take a minute of every run; tests that are about them ask for them.
    "rtl": {"simulate": "none", "synthesize": "none"},
}


RUNS = {
    "test_run.py",
    "test_import.py",
    "test_configs.py",
    "test_search.py",
    "test_sweep_runs.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: one of two minutes at the end leaves every other worker idle."""
    items.sort(key=lambda item: item.path.name not in RUNS)


def tiny_arrays(directory: Path) -> dict[str, object]:
    """Small integer images (6, 4, 1) in `directory` and the data section that names them."""
    random = np.random.default_rng(1)
    directory.mkdir(parents=True, exist_ok=True)
    normal = random.poisson(2, (600, 6, 4, 1)).clip(0, 31)
    hot = random.poisson(2, (80, 6, 4, 1))
    hot[:, 2, 1] += 20
    wide = random.poisson(6, (60, 6, 4, 1))
    np.savez(directory / "normal.npz", events=normal.astype(np.int16))
    np.savez(directory / "hot.npz", events=hot.clip(0, 31).astype(np.int16))
    np.savez(directory / "wide.npz", events=wide.clip(0, 31).astype(np.int16))
    return {
        "source": "arrays",
        "background": [str(directory / "normal.npz")],
        "signals": {"hot": [str(directory / "hot.npz")], "wide": [str(directory / "wide.npz")]},
        "split": [0.5, 0.2, 0.3],
        "grid": {"word": 6, "integer": 6},
    }


def heeds_interrupts() -> None:
    """In a child: SIGINT works, though tests in the background (`nohup`, `&`) may ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A configuration file of the tiny data set."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"data": tiny_arrays(tmp_path / "data"), **TINY}))
    return path


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A directory of the whole test run, filled by the first worker that asks for it. Read only."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the directory of all workers
    directory = root / name
    with FileLock(root / f"{name}.lock"):
        if not directory.is_dir():
            unfinished = root / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(directory)
    return directory


@pytest.fixture
def l1kd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command line in this process, in an empty directory."""
    from l1kd import cli

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        given = [*map(str, arguments)]
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("default")  # what is shown to a user is no error of a test
            patch.chdir(tmp_path)
            for key, value in environment.items():
                patch.setenv(key, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    cli.main(given)
                except SystemExit as end:
                    code = end.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def l1kd_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command line in a process of its own, in an empty directory.

    For what only a process shows: its exit status, signals, limits, what it imports.
    """

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "l1kd", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return call
