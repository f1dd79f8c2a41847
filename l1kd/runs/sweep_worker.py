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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from l1kd import __version__
from l1kd.core import processes
from l1kd.core.errors import UserError
from l1kd.core.processes import held

_SECONDS = 0.5  # between two looks
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_TAIL = 4000  # bytes of a log


@dataclass(frozen=True)
class Order:
    """A run to be made. All paths are absolute: the worker may be elsewhere."""

    name: str
    directory: str
    config: str
    log: str  # its process's output
    marker: str  # a file that is there while a worker is at it
    until: str  # its last stage
    threads: int
    stop: str  # a file; the run is given up when there is one
    environment: dict[str, str] = field(default_factory=dict)  # unless the worker has its own
    version: str = __version__  # of the l1kd that ordered it


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
    if not Path(order.config).is_file():
        where = "on a file system that all workers share, under the same path"
        return outcome(
            2, f"{host} does not see {order.config}: a sweep's directory has to be {where}"
        )
    marker = Path(order.marker)
    marker.write_text(json.dumps({"host": host, "worker": _address(), "since": time.time()}))
    try:
        with Path(order.log).open("ab") as log:
            code = _supervise(order, log)
    finally:
        marker.unlink(missing_ok=True)
    return outcome(code, _last_line(Path(order.log)) if code else "")


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
    stop = Path(order.stop)
    _wait(Path(order.directory) / ".lock", stop, log)
    command = ["run", order.config, "--run", order.directory, "--until", order.until]
    ended = processes.run(
        [sys.executable, "-m", "l1kd", *command],
        Path(order.config).parent,
        log=log,
        stop=stop.exists,
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


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
