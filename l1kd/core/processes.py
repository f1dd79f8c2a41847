"""The one way to run another program: find, call, listen to, limit, lock and end it."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from filelock import FileLock, Timeout

from l1kd.core.errors import UserError
from l1kd.core.files import is_passing, passing_name

_GUARD = str(Path(__file__).with_name("process_guard.py"))
_LINE = 1 << 16  # bytes after which a line is passed on though it has not ended
_MOST = 1 << 30  # bytes of output after which a program is ended
_LOOK_SECONDS = 0.5  # between two looks at a program that says nothing
_GRACE = 10.0  # seconds that a program has to end by itself when it is told to
_SCRATCH = ".scratch"  # ends the names of temporary directories
_LEFT_SECONDS = 60.0  # after which one that nobody holds is deleted
_VERSION_SECONDS = 60.0  # that a program may take to say its version


@dataclass(frozen=True)
class Program:
    """A program that l1kd may call."""

    names: tuple[str, ...]  # on the PATH, the preferred one first
    remedy: str  # how to get it
    variable: str = ""  # of the environment: a command in place of the names

    @property
    def commands(self) -> list[tuple[str, ...]]:
        """The commands to look for."""
        stated = tuple(shlex.split(os.environ.get(self.variable, "")))
        return [stated] if stated else [(name,) for name in self.names]

    def find(self) -> tuple[str, ...] | None:
        """The first command that is there."""
        return next((each for each in self.commands if shutil.which(each[0])), None)


@dataclass(frozen=True)
class Ended:
    """Exit code of a long program, None if it was stopped, and its seconds."""

    code: int | None
    seconds: float


def call(
    command: Sequence[str],
    directory: Path | None = None,
    *,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a short program; UserError if it cannot start or takes over `limit` seconds."""
    own = dict(os.environ if environment is None else environment)
    if directory is not None:
        own["TMPDIR"] = str(Path(directory).absolute())
    try:
        return subprocess.run(
            list(command), cwd=directory, env=own, input=given, capture_output=True, check=False,
            timeout=limit,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} did not end within {limit:g} s") from error


def version_text(command: Sequence[str]) -> str:
    """A program's version, in its own words; empty if it does not answer."""
    with contextlib.suppress(UserError):
        answer = call(command, limit=_VERSION_SECONDS)
        return (answer.stdout + answer.stderr).decode(errors="replace")
    return ""


def run(
    command: Sequence[str],
    directory: Path,
    *,
    line: Callable[[str], None] = lambda text: None,
    log: IO[bytes] | None = None,
    limit: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    grace: float | None = None,
    environment: Mapping[str, str] | None = None,
    lock: int | None = None,
) -> Ended:
    """Run a long program to its end, to `limit` in seconds, or until `stop` says so.

    Whatever ends this function, also kill -9 of this process, ends the program and all that it has
    started; it is told first, and killed `grace` seconds later. It holds `lock` (see `held`), too.
    """
    started = time.monotonic()
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} cannot be run (it is not found)")
    with signals(_leave, signal.SIGTERM, signal.SIGHUP):
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), *command],
                cwd=directory, env=environment, pass_fds=() if lock is None else (lock,),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which can be ended as one
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run ({error.strerror})") from error
        code: int | None = None
        assert process.stdout is not None
        try:
            rest, size = b"", 0
            for data in _read(process, process.stdout.fileno(), started + limit, stop):
                if log is not None:
                    log.write(data)
                    log.flush()
                *whole, rest = (rest + data).split(b"\n")
                if len(rest) > _LINE:
                    whole, rest = [*whole, rest], b""
                for each in whole:
                    line(_printable(each))
                size += len(data)
                if size > _MOST:
                    raise UserError(f"{command[0]} was ended: it wrote more than {_MOST} bytes")
            if rest:
                line(_printable(rest))
            code = process.poll()
        finally:
            if code is None:
                _end(process, _GRACE if grace is None else grace)
            process.stdout.close()
    if code is not None and code < 0:
        code = 128 - code
    return Ended(code, time.monotonic() - started)


def _printable(line: bytes) -> str:
    """A line of a log, which may hold anything: a terminal is not to obey it."""
    text = line.decode(errors="replace").rstrip().expandtabs()
    return "".join(c if c.isprintable() else " " for c in text)


def _read(
    process: subprocess.Popen[bytes], pipe: int, deadline: float, stop: Callable[[], bool]
) -> Iterator[bytes]:
    """Output of a program until it ends, the time is over, or it is to be stopped."""
    closed = False
    while (left := deadline - time.monotonic()) > 0 and not stop():
        wait = min(left, _LOOK_SECONDS)
        if closed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
                return
        elif select.select([pipe], [], [], wait)[0]:
            if data := os.read(pipe, 1 << 16):
                yield data
            else:
                closed = True
        elif process.poll() is not None:
            return  # what it has started may hold the pipe for ever


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a program's group: told first, then killed."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    finally:  # also if the user does not want to wait
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _leave(number: int, frame: FrameType | None) -> None:
    """End in order at a signal that would end us at once."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def signals(handler: Callable[..., None] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Handle signals in another way; in the main thread, where they arrive."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if here}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def run_side_by_side(commands: Sequence[Sequence[str]]) -> list[int]:
    """Exit codes of programs that run together and talk to our terminal; -n for a signal n."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += (subprocess.Popen(list(command)) for command in commands)
        return [process.wait() for process in started]
    except BaseException:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        raise


@contextlib.contextmanager
def held(path: Path, busy: str | None = None) -> Iterator[int]:
    """Hold a lock file; its descriptor. Waits for another holder, or UserError(`busy`)."""
    try:
        holding = FileLock(path, timeout=-1 if busy is None else 0).acquire()
    except Timeout as error:
        raise UserError(busy or "") from error
    with holding as lock:
        descriptor = lock._context.lock_file_fd  # the package has no public name for it
        assert descriptor is not None
        yield descriptor


@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A temporary directory beside a path; those that killed processes left there are deleted."""
    place = Path(beside).absolute().parent
    for left in [path for path in place.iterdir() if is_passing(path.name, _SCRATCH)]:
        with contextlib.suppress(OSError, UserError):
            if left.is_symlink() or time.time() - left.stat().st_mtime < _LEFT_SECONDS:
                continue  # somebody may be about to lock it
            with held(left / ".lock", "somebody works in it"):
                shutil.rmtree(left, ignore_errors=True)
    with _emptied(place / passing_name(_SCRATCH)) as made, held(made / ".lock"):
        yield made


@contextlib.contextmanager
def _emptied(directory: Path) -> Iterator[Path]:
    """A new private directory, deleted in the end."""
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def temporary_files_in(directory: Path) -> Iterator[None]:
    """Let this process and its children put temporary files there, where `files.sweep` looks."""
    before = tempfile.gettempdir()
    with _emptied(directory.absolute() / passing_name(".part")) as made:
        try:
            os.environ["TMPDIR"] = tempfile.tempdir = str(made)
            yield
        finally:
            os.environ["TMPDIR"] = tempfile.tempdir = before


@dataclass(frozen=True)
class Job:
    """A call to make in some process, and its share of the progress bar."""

    cost: float
    function: Callable[..., None]
    arguments: tuple[Any, ...]


def _die_with_parent() -> None:
    """Set a worker up to end at Ctrl-C, and when its parent is gone, even if that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_jobs(processes: int, jobs: Sequence[Job], advance: Callable[[float], None]) -> None:
    """Do all jobs, in any order, in fresh interpreters, or here if `processes` is 1."""
    if processes == 1:
        for job in jobs:
            job.function(*job.arguments)
            advance(job.cost)
        return
    before = set(multiprocessing.active_children())
    # Fresh ones: Pythia and the threads of numerical libraries do not survive a fork safely.
    fresh = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, fresh, initializer=_die_with_parent)
    try:
        costs = {pool.submit(job.function, *job.arguments): job.cost for job in jobs}
        for future in as_completed(costs):
            future.result()
            advance(costs[future])
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed (out of memory?): "
            "run the same command again to continue, with fewer processes if need be"
        ) from error
    except BaseException:
        # A job may take half a minute; whoever interrupts does not want to wait for that.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
