"""Running a vendor's tool on a project: step by step, each kept as soon as it is done.

Every step is a call of its own: what an interrupted command had finished is not done again. A step
is done when the program ended with 0 and left the report of it; a simulation when the test bench
found every bit right, which it says itself.

A vendor's program as a process: its log passed on line by line, a limit, an end in any case.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.firmware.hls.project import Project
from l1kd.firmware.vendor_tools import tool_reports, tool_results
from l1kd.firmware.vendor_tools.tool_commands import OPTIONS, STEPS, Step, Tool, options_tcl
from l1kd.firmware.vendor_tools.tool_reports import Folder, Reports
from l1kd.firmware.vendor_tools.tool_results import check

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

    `limit`: in seconds.
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
    """Hold a lock file; a program that inherits its descriptor holds it too."""
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


# The sections that a step leaves.
_SECTIONS: dict[Step, tuple[str, ...]] = {
    "csim": ("csim_results",),
    "csynth": ("csynth",),
    "cosim": ("cosim", "cosim_results"),
    "vsynth": ("vsynth",),
}
_SIMULATIONS: tuple[Step, ...] = ("csim", "cosim")
_ERROR = re.compile(r"^(ERROR|@E|FAILED|CRITICAL)\b|\bERROR:")


class _Heard:
    """What of a log is remembered."""

    def __init__(self, context: Context, top: str) -> None:
        self._console, self._passed = context.console, f"PASSED: {top} equals the network"
        self.errors: deque[str] = deque(maxlen=1)
        self.last, self.passed, self.failed = "", False, False

    def line(self, text: str) -> None:
        """Show a line, and remember what it says."""
        self._console.print(text, highlight=False, markup=False)
        self.last = text.strip() or self.last
        self.passed |= self._passed in text
        self.failed |= text.strip().startswith("FAILED: ")
        if _ERROR.search(text.strip()):
            self.errors.append(text.strip())

    @property
    def reason(self) -> str:
        """The last error, or the last line."""
        return (self.errors[-1] if self.errors else self.last)[:300] or "it said nothing"


def run_steps(
    context: Context, project: Project, tool: Tool, steps: Sequence[Step], limit: float
) -> None:
    """Run steps of a project that are not done yet; keep the results of each in the run.

    `limit`: of one step, in seconds.
    """
    name = project.label
    lock = context.directory / "vendor" / f".{name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with held(lock) as descriptor:
        build = tool_results.prepare(context, project)
        record = tool_results.load(context, project)
        for step in _needed(project, build, record, steps):
            done = record.steps.get(step)
            if done and done.state == "done" and _there(record, step):
                if step != "csynth" or _has_rtl(project, build) or not _rtl_wanted(record, steps):
                    context.say(f"{name}: {step}: done already ({_origin(done)})")
                    continue
                context.say(f"{name}: csynth once more: its RTL is not in {build}")
            record = _run(context, project, tool, step, build, record, limit, descriptor)


def _origin(done: tool_results.Done) -> str:
    return "brought back" if done.origin == "brought back" else f"by {done.program}"


def _there(record: tool_results.Record, step: Step) -> bool:
    """Whether the reports of a step that was done are kept; a C simulation need not leave one."""
    return step == "csim" or getattr(record.reports, step) is not None


def _needed(
    project: Project, build: Path, record: tool_results.Record, steps: Sequence[Step]
) -> list[Step]:
    """The steps to look at: those asked for, and the C synthesis where its RTL is missing."""
    needed = set(steps)
    if _rtl_wanted(record, steps) and not _has_rtl(project, build):
        needed.add("csynth")
    return [step for step in STEPS if step in needed]


def _rtl_wanted(record: tool_results.Record, steps: Sequence[Step]) -> bool:
    return any(
        step in steps and not ((done := record.steps.get(step)) and done.state == "done")
        for step in ("cosim", "vsynth")
    )


def _has_rtl(project: Project, build: Path) -> bool:
    verilog = build / f"{project.record.top}_prj" / "solution1" / "syn" / "verilog"
    report = build / tool_reports.files(project.record.top)["csynth"]
    return report.is_file() and verilog.is_dir() and any(verilog.iterdir())


def _run(
    context: Context,
    project: Project,
    tool: Tool,
    step: Step,
    build: Path,
    record: tool_results.Record,
    limit: float,
    lock: int,
) -> tool_results.Record:
    """Run one step and keep what it gave."""
    name, top = project.label, project.record.top
    log = build / f"l1kd_{step}.log"
    (build / OPTIONS).write_text(options_tcl([step]))
    for path in _leaves(step, top):
        with contextlib.suppress(FileNotFoundError):
            (build / path).unlink()  # an old report is not to be taken for a new one
    command = tool.command([step])
    context.say(f"{name}: {step}: {' '.join([tool.program, *command[1:]])}, log in {log}")
    heard = _Heard(context, top)
    ended = run(command, build, log, limit=limit, line=heard.line, lock=lock)
    if ended.code is None:
        raise UserError(
            f"{name}: {step} was stopped after its time limit of {limit:g} s; give it more with "
            f"--time-limit, its log is {log}"
        )
    folder = Folder(build)
    vectors = tool_results.expected(project)
    found = Reports()
    if ended.code == 0 or step in _SIMULATIONS:
        found = tool_reports.read(folder, top, vectors)
    found = found.model_copy(
        update={key: None for key in Reports.model_fields if key not in _SECTIONS[step]}
    )
    fault = _fault(step, ended.code, heard, found)
    done = tool_results.Done(
        state="failed" if fault else "done",
        origin="here",
        program=tool.program,
        seconds=round(ended.seconds, 1),
    )
    if fault and step not in _SIMULATIONS:
        raise UserError(f"{name}: {tool.program}: {step} {fault}; its log is {log}")
    check(project, found, name)
    record = tool_results.add(record.without(*_SECTIONS[step]), found).with_step(step, done)
    tool_results.save(context, project, record)
    if fault:
        raise CheckFailed(f"{name}: {tool.program}: {step} {fault}; its log is {log}")
    context.say(f"{name}: {step}: done in {ended.seconds:.0f} s")
    return record


def _leaves(step: Step, top: str) -> list[str]:
    """Files that a step writes and that are read."""
    where, logs = tool_reports.files(top), tool_reports.results(top)
    return {
        "csim": [*logs["csim_results"]],
        "csynth": [where["csynth"], where["layers"]],
        "cosim": [where["cosim"], *logs["cosim_results"]],
        "vsynth": [where["vsynth"]],
    }[step]


def _fault(step: Step, code: int, heard: _Heard, found: Reports) -> str | None:
    """What is wrong with a step; None if nothing is."""
    if code:
        return f"ended with code {code} ({heard.reason})"
    result = getattr(found, f"{step}_results", None)
    if result is not None and result.mismatches:
        return f"differs from the network in {result.mismatches} of {result.events} events"
    if step == "csim" and heard.failed:
        return f"failed ({heard.reason})"
    if step == "csim" and result is None and not heard.passed:
        return f"left no word of the test bench ({heard.reason})"
    if step == "cosim" and found.cosim is not None and not found.cosim.passed:
        return f"failed: its report says {found.cosim.status!r}"
    if step != "csim" and getattr(found, step) is None:
        return f"ended without an error and left no report ({heard.reason})"
    return None
