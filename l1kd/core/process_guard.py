"""Runs a program, and ends it with all that it started when a given process is gone.

`python process_guard.py PARENT COMMAND...`, the leader of a group; it imports nothing of l1kd.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_SET_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
_PARENT_SECONDS = 1.0  # between two looks at the parent, where the kernel does not tell


def main(parent: int, command: list[str]) -> int:
    """Exit code of the command; 128 + n if a signal n ended it."""
    signal.signal(signal.SIGUSR1, _end_group)
    # Told to the whole group: the program ends by itself, and the guard after it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    _tell_of_parent(signal.SIGUSR1)
    try:
        process = subprocess.Popen(
            command, close_fds=False, preexec_fn=lambda: _tell_of_parent(signal.SIGKILL)
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be run ({error.strerror})\n")
        return 127
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _tell_of_parent(how: signal.Signals) -> None:
    """Ask the kernel for a signal when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, how, 0, 0, 0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    _end_group()


def _end_group(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
