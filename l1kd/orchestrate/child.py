"""The process of one run of a sweep: it ends with the worker that started it.

`python -m l1kd.orchestrate.child PARENT LOCK COMMAND...` runs the command line in a child of its
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

__all__ = ["main"]

_SET_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}
_SECONDS = 1.0  # between two looks at the parent


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
        found = signal.sigtimedwait(_WATCHED, _SECONDS)
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
                time.sleep(_SECONDS / 2)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
