"""What a Dask worker does for a sweep: it starts a run in a process of its own, and waits for it.

Workers never import TensorFlow: its threads are settled when it is imported, and what it holds goes
with the run's process.

The process of one run of a sweep: it ends with the worker that started it.

`python -m l1kd.runs.sweep_worker PARENT LOCK COMMAND...` runs the command line in a child of its
own and watches over both ends. It never imports TensorFlow; its child does.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn
import contextlib
import json
import socket
import subprocess
from dataclasses import dataclass, field
from l1kd import __version__

_SET_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}
_PARENT_SECONDS = 1.0  # between two looks at the parent


def main(parent: int, lock: Path, command: list[str]) -> NoReturn:
    """Run a command as long as the process `parent` lives; leads a process group of its own."""
    _die_with_parent(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        _die_with_parent(signal.SIGKILL)
        if os.getppid() == own:
            _run(lock, command)
        os._exit(1)
    while os.getppid() == parent:
        found = signal.sigtimedwait(_WATCHED, _PARENT_SECONDS)
        if found is not None and found.si_signo == signal.SIGTERM:
            break
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            sys.exit(code if code >= 0 else 128 - code)
    os.killpg(own, signal.SIGKILL)  # compilers and simulators too
    raise AssertionError


def _die_with_parent(how: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, how, 0, 0, 0)


def _run(lock: Path, command: list[str]) -> NoReturn:
    if lock.exists():
        _wait(lock)
    sys.argv = ["l1kd", *command]
    runpy.run_module("l1kd", run_name="__main__")
    raise AssertionError


def _wait(lock: Path) -> None:
    """Let a process end that holds the run: of a worker that was given up, or a lost client."""
    with lock.open("a") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not told:
                    sys.stderr.write("waiting for the process that holds this run\n")
                told = True
                time.sleep(_PARENT_SECONDS / 2)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])


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
    """A run to be made. All paths are absolute: the worker may be elsewhere.

    Parameters
    ----------
    name
        The run's.
    directory, config, log, marker
        Where the run goes, its configuration, what it says, and a file that is there while a
        worker is at it.
    until
        Its last stage.
    threads
        For its process.
    stop
        A file; the run is given up when there is one.
    environment
        Variables, unless the worker has its own.
    version
        Of the l1kd that ordered it.
    """

    name: str
    directory: str
    config: str
    log: str
    marker: str
    until: str
    threads: int
    stop: str
    environment: dict[str, str] = field(default_factory=dict)
    version: str = __version__


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    code
        Its exit code; that of a process ended by signal n is 128 + n.
    reason
        The last line that it wrote, if it is not 0.
    seconds
        Its wall-clock time.
    host
        Where.
    """

    code: int
    reason: str
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
        return outcome(
            2,
            f"{host} does not see {order.config}: a sweep's directory has to be on a file system "
            "that all workers share, under the same path",
        )
    marker = Path(order.marker)
    marker.write_text(json.dumps({"host": host, "worker": _address(), "since": time.time()}))
    try:
        with Path(order.log).open("ab") as log:
            code = _supervise(order, log.fileno())
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


def _supervise(order: Order, log: int) -> int:
    environment = {**order.environment, **os.environ}
    environment |= dict.fromkeys(_THREADS, str(order.threads))
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers; it costs time
    lock = Path(order.directory) / ".lock"
    command = ["run", order.config, "--run", order.directory, "--until", order.until]
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.child", str(os.getpid()), str(lock), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        cwd=Path(order.config).parent,
        start_new_session=True,
    )
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_SECONDS)
                return code if code >= 0 else 128 - code
            if Path(order.stop).exists():
                return 130
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
