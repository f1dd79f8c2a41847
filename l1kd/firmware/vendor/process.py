"""A vendor's program as a process: its log passed on line by line, a limit, an end in any case."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from l1kd.errors import UserError

__all__ = ["Ended", "held", "run"]

_LINE = 1 << 16  # bytes after which a line is passed on though it has not ended
_GRACE = 10.0  # seconds that a program has to end by itself when it is told to


@dataclass(frozen=True)
class Ended:
    """How a program ended: its code, None if it was stopped at the limit, and the seconds."""

    code: int | None
    seconds: float


def run(
    command: Sequence[str],
    directory: Path,
    log: Path,
    *,
    limit: float,
    line: Callable[[str], None],
    lock: int | None = None,
) -> Ended:
    """Run a program to its end, or to the limit.

    Whatever ends this function ends the program and all that it has started: an interrupt, a
    signal that ends us, an error.

    Parameters
    ----------
    command
        What to run.
    directory
        Where.
    log
        The file that gets everything it says.
    limit
        In seconds.
    line
        Called with each line.
    lock
        A descriptor that the program inherits: a lock on it is held as long as it runs.

    Raises
    ------
    UserError
        If it cannot be started.
    """
    started = time.monotonic()
    with log.open("wb") as file, _signals():
        try:
            process = subprocess.Popen(
                list(command),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which can be ended as one
                pass_fds=() if lock is None else (lock,),
            )
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run: {error.strerror}") from error
        code: int | None = None
        ended = False
        try:
            deadline = started + limit
            lines = _Lines(line)
            assert process.stdout is not None
            for data in _read(process, process.stdout.fileno(), deadline):
                file.write(data)
                file.flush()
                lines.add(data)
            lines.end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(max(0.0, deadline - time.monotonic()))
                ended = True
        finally:
            if not ended:
                _end(process)
            if process.stdout is not None:
                process.stdout.close()
    return Ended(code, time.monotonic() - started)


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a lock file; a program that inherits its descriptor holds it too.

    Raises
    ------
    UserError
        If a program that was started earlier holds it: two in one directory damage their work.
    """
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"a tool that an earlier command started is still at work in {path.parent}; wait "
                "for its end, or end it"
            ) from error
        yield handle.fileno()


class _Lines:
    """Bytes to lines of printable text."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line, self._rest = line, b""

    def add(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for each in whole:
            self._pass(each)
        if len(self._rest) > _LINE:
            self.end()

    def end(self) -> None:
        if self._rest:
            self._pass(self._rest)
        self._rest = b""

    def _pass(self, data: bytes) -> None:
        text = data.decode(errors="replace").rstrip().expandtabs()
        # A log may hold anything; a terminal is not to obey it.
        self._line("".join(c if c.isprintable() else " " for c in text))


def _read(process: subprocess.Popen[bytes], pipe: int, deadline: float) -> Iterator[bytes]:
    """What a program says until it ends or the time is over."""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([pipe], [], [], min(left, 0.5))[0]:
            if not (data := os.read(pipe, 1 << 16)):
                return
            yield data
        elif process.poll() is not None:
            return  # what it has started may hold the pipe for ever


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program's group: asked first, then killed."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    finally:  # also if the user does not want to wait
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let the signals that would end us at once raise instead, so that the program ends too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
