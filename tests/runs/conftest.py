"""One Dask cluster for all sweeps of a test process, and processes held where they are wanted."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MINUTES = 10  # for what happens in seconds on a machine without other work


def until(condition: Callable[[], Any], over: Callable[[], bool] = bool) -> Any:
    """Wait for a state; its value. Fails at once when `over`: what would bring it has ended."""
    end = time.monotonic() + 60 * MINUTES
    while not (found := condition()):
        assert not over() or condition(), "what was to bring it about has ended"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def environment() -> dict[str, str]:
    """For processes that can be held (`held/sitecustomize.py`)."""
    own = str(Path(__file__).parent / "held")
    path = os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


class Hold:
    """Stops the processes of a sweep or study at a point, until it is released or left.

    Parameters
    ----------
    root
        The sweep or study; it may be new.
    point
        `tensorflow` (before its import), `checkpoint` (before a run's second one is kept) or
        `student` (before a trial's network is stored).
    """

    def __init__(self, root: Path, point: str) -> None:
        self.root, self._point, self._file = root, point, root / ".hold"

    def __enter__(self) -> Hold:
        self.root.mkdir(exist_ok=True)
        for left in self.root.glob(".held-*"):  # a copy of what was held before
            left.unlink()
        self._file.write_text(self._point)
        self._lock = self._file.open()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def there(self) -> list[int]:
        """The processes that came to the point."""
        return [int(path.name.split("-")[1]) for path in self.root.glob(".held-*")]

    def release(self) -> None:
        """Let them go on; who comes now is not held."""
        self._file.unlink(missing_ok=True)
        self._lock.close()


@dataclass
class Cluster:
    """A Dask scheduler and workers, in processes that know nothing of a sweep."""

    directory: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = self.directory / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(told))
        self.address: str = until(lambda: _address(told), lambda: self.scheduler.poll() is not None)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        own = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0")
        self.workers.append(self._start("worker", self.address, *own))
        return self.workers[-1]

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        place = ("--host", "127.0.0.1", "--no-dashboard")
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, *place],
            cwd=self.directory,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def _address(told: Path) -> str | None:
    """What a scheduler wrote, once it is whole."""
    with contextlib.suppress(OSError, ValueError):
        address: str = json.loads(told.read_text(encoding="utf-8"))["address"]
        return address
    return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For all sweeps whose test is not about a cluster: starting one takes seconds."""
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        started.worker()
        yield started
    finally:
        started.stop()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One that a test may break."""
    started = Cluster(tmp_path)
    try:
        started.worker()
        yield started
    finally:
        started.stop()
