"""What all tests share: a tiny data set, a configuration of it, the command line in a process."""

from __future__ import annotations

import atexit
import contextlib
import functools
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
# da4ml's numba functions compile for two minutes where their cache is empty, as in a fresh clone;
# the networks of the tests are small enough for Python. Certificates prove what comes of either.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import numpy as np
import pytest
import yaml
from filelock import FileLock

import l1kd.data.sources

# Where event files are; of those of the tests no later run needs to know.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have one: it knows where events of runs lie
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="l1kd-tests-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Only a power cut would show the difference, and it takes half of the time of writing a project.
os.fsync = lambda descriptor: None  # type: ignore[assignment]

TINY: dict[str, object] = {
    "teacher": {"architecture": "dense", "latent": 2, "hidden": [8]},
    "students": [
        {"name": "flat", "architecture": "dense", "hidden": [4]},
        {"name": "image", "architecture": "cicada_v2"},
    ],
    "distillation": {"epochs": 2, "final_epochs": 2, "batch": 30, "exposure": ["patch", "shuffle"]},
    # Simulation and synthesis take a minute of every run; tests that are about them ask for them.
    "rtl": {"simulate": "none", "synthesize": "none"},
}


RUNS = {
    "test_bad_input.py",
    "test_run.py",
    "test_import_network.py",
    "test_configs.py",
    "test_search.py",
    "test_sweep_runs.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: a long one at the end would leave every other worker idle.

    `--dist worksteal` deals equal shares of this list and takes from the end of the longest queue:
    of two workers the first begins with the runs, which share what is made once, and the second
    takes over what stands behind them.
    """
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
    """A directory of the whole test run, filled by the first worker that asks for it. Read only.

    It is filled in its final place: runs hold absolute paths into themselves.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the directory of all workers
    directory, whole = root / name, root / f"{name}.whole"
    with FileLock(root / f"{name}.lock"):
        if not whole.is_file():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            make(directory)
            whole.touch()
    return directory


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all its stages done, made by a process; `../tiny.yaml` is its configuration.

    Read only: take a `copy_of_run`.
    """

    def make(directory: Path) -> None:
        config = {
            "data": tiny_arrays(directory / "data"),
            **TINY,
            "firmware": {"students": "best"},  # in both kinds of project
            "verify": {"max_auc_loss": 1},  # two epochs make no good student
        }
        (directory / "tiny.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "l1kd", "run", "tiny.yaml", "--run", "run"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "finished", make) / "run"


def copy_of_run(run: Path, directory: Path) -> Path:
    """A copy of a run, to be changed, with its projects and what was compiled of them."""
    return Path(shutil.copytree(run, directory))


def call_l1kd(
    directory: Path, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call the command line in this process, in a directory."""
    from l1kd import cli

    given = [*map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")  # what is shown to a user is no error of a test
        patch.chdir(directory)
        for key, value in environment.items():
            patch.setenv(key, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(given)
            except SystemExit as end:
                code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())


@pytest.fixture
def l1kd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command line in this process, in an empty directory."""
    return functools.partial(call_l1kd, tmp_path)


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


_KILLED = """
import os, signal, sys

file, number, *arguments = sys.argv[1:]
left = int(number)

def watch(event, details):
    global left
    if event == "os.rename" and os.fspath(details[1]).endswith(file):
        left -= 1
        if not left:
            os.killpg(0, signal.SIGKILL)

sys.addaudithook(watch)
from l1kd.cli import main
main(arguments)
"""


def killed_before(file: str, number: int, directory: Path, *arguments: object) -> None:
    """Call the command line in a process that is killed when a file is whole and not in place.

    Files are renamed into place: the process and its children get SIGKILL when the name `file` is
    about to be given for the `number`-th time. The moment is the same on every machine.
    """
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, file, str(number), *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
        start_new_session=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
