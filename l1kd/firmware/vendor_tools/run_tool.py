"""Running a vendor's tool on a project: step by step, each kept as soon as it is done.

Every step is a call of its own: what an interrupted command had finished is not done again. A step
is done when the program ended with 0 and left the report of it; a simulation when the test bench
found every bit right, which it says itself.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import held, run
from l1kd.firmware.hls.project import Project
from l1kd.firmware.vendor_tools import tool_reports, tool_results
from l1kd.firmware.vendor_tools.tool_commands import OPTIONS, STEPS, Step, Tool, options_tcl
from l1kd.firmware.vendor_tools.tool_reports import Folder, Reports
from l1kd.firmware.vendor_tools.tool_results import check

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
    name = project.directory.name
    lock = context.directory / "vendor" / f".{name}.lock"
    lock.parent.mkdir(exist_ok=True)
    busy = (
        f"a tool that an earlier command started is still at work in {lock.parent}; wait for its "
        "end, or end it"
    )
    with held(lock, busy) as descriptor:
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
    name, top = project.directory.name, project.record.top
    log = build / f"l1kd_{step}.log"
    (build / OPTIONS).write_text(options_tcl([step]))
    for path in _leaves(step, top):
        with contextlib.suppress(FileNotFoundError):
            (build / path).unlink()  # an old report is not to be taken for a new one
    command = tool.command([step])
    context.say(f"{name}: {step}: {' '.join([tool.program, *command[1:]])}, log in {log}")
    heard = _Heard(context, top)
    with log.open("wb") as file:
        ended = run(command, build, line=heard.line, log=file, limit=limit, lock=lock)
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
