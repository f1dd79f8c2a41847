"""A Dask worker's part of a sweep: it starts a run in a process of its own, and waits for it.

Workers never import TensorFlow: its threads are settled when it is imported, and what it holds goes
with the run's process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from l1kd import __version__
from l1kd.core import config_file, processes
from l1kd.core.errors import UserError
from l1kd.core.processes import held
from l1kd.runs.sweep_grid import GridDirectory, Job

_SECONDS = 0.5  # between two looks
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# Where a worker finds events, if nothing in its own environment says.
_ENVIRONMENT = ("L1KD_DATA", "XDG_CACHE_HOME")
_TAIL = 8192  # bytes of a file


@dataclass(frozen=True)
class Order:
    """A run to be made. All paths are absolute: the worker may be elsewhere."""

    name: str
    place: GridDirectory
    until: str  # its last stage
    threads: int
    environment: dict[str, str]  # unless the worker has its own
    version: str = __version__  # of the l1kd that ordered it

    @classmethod
    def of(cls, job: Job, place: GridDirectory, until: str) -> Order:
        """Order to make a run; writes the run's configuration."""
        config_file.save(job.config, place.config(job.name))
        own = {k: str(Path(v).absolute()) for k in _ENVIRONMENT if (v := os.getenv(k))}
        return cls(job.name, place, until, job.config.threads or 1, own)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run."""

    code: int  # 128 + n if a signal n ended it
    reason: str  # its last line, if the code is not 0
    seconds: float
    host: str


def perform(order: Order) -> Outcome:
    """Make a run, or go on with it."""
    started, host = time.monotonic(), socket.gethostname()

    def outcome(code: int, reason: str) -> Outcome:
        return Outcome(code, reason, round(time.monotonic() - started, 3), host)

    if order.version != __version__:
        return outcome(2, f"{host} has l1kd {__version__}, and the sweep {order.version}")
    place, name = order.place, order.name
    if not place.config(name).is_file():
        where = "on a file system that all workers share, under the same path"
        return outcome(
            2, f"{host} does not see {place.config(name)}: a sweep's directory has to be {where}"
        )
    marker = place.marker(name)
    marker.write_text(json.dumps({"host": host, "worker": _address(), "since": time.time()}))
    try:
        with place.log(name).open("ab") as log:
            code = _supervise(order, log)
    finally:
        marker.unlink(missing_ok=True)
    return outcome(code, last_line(place.log(name)) if code else "")


def _address() -> str | None:
    """As the scheduler knows this worker."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # called by hand
        return None


def _supervise(order: Order, log: IO[bytes]) -> int:
    """Exit code of the run; its process ends with this one, and when the sweep is given up."""
    environment = {**order.environment, **os.environ}
    environment |= dict.fromkeys(_THREADS, str(order.threads))
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers; it costs time
    place, run = order.place, order.place.run(order.name)
    config = place.config(order.name)
    _wait(run / ".lock", place.stop, log)
    ended = processes.run(
        [
            sys.executable,
            "-m",
            "l1kd",
            "run",
            str(config),
            "--run",
            str(run),
            "--until",
            order.until,
        ],
        config.parent,
        log=log,
        stop=place.stop.exists,
        grace=0.0,
        environment=environment,
    )
    return 130 if ended.code is None else ended.code


def _wait(lock: Path, stop: Path, log: IO[bytes]) -> None:
    """Let a process end that holds the run: of a worker that was given up, or a lost client."""
    told = False
    while lock.exists() and not stop.exists():
        try:
            with held(lock, "in use"):
                return
        except UserError:
            if not told:
                log.write(b"waiting for the process that holds this run\n")
                log.flush()
            told = True
            time.sleep(_SECONDS)


def last_line(path: Path) -> str:
    """The last line of a file that may be long; empty if it has none."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
