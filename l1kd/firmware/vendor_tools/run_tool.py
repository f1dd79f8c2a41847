"""Runs a vendor's tool on a project step by step, and keeps each result at once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import held, run
from l1kd.firmware.hls.backends import LEFT_BY, STEPS, Step, ToolProgram, backend_named
from l1kd.firmware.hls.project import Project
from l1kd.firmware.hls.testbench import read_vectors
from l1kd.firmware.vendor_tools import tool_results
from l1kd.firmware.vendor_tools.tool_reports import Folder, Reports

_SIMULATIONS: tuple[Step, ...] = ("csim", "cosim")
_ERROR = re.compile(r"^(ERROR|@E|FAILED|CRITICAL)\b|\bERROR:")


class _Heard:
    """The lines of a log that decide how a step ended."""

    def __init__(self, context: Context, top: str) -> None:
        self._console, self._passed = context.console, f"PASSED: {top} equals the network"
        self.error, self.last, self.passed, self.failed = "", "", False, False

    def line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, emoji=False)
        self.last = text.strip() or self.last
        self.passed |= self._passed in text
        self.failed |= text.strip().startswith("FAILED: ")
        if _ERROR.search(text.strip()):
            self.error = text.strip()

    @property
    def reason(self) -> str:
        """The last error, or the last line."""
        return (self.error or self.last)[:300] or "it said nothing"


def instructions(run: Path, projects: Sequence[Project], steps: Sequence[Step]) -> Iterator[str]:
    """Lines to type on a machine that has the tools, and then here."""
    yield "On a machine that has the vendor's tools:"
    for project in projects:
        yield f"  # copy the directory {project.directory} there, as {project.label}, then"
        for line in backend_named(project.record.backend).typed(project.label, steps):
            yield f"  {line}"
        yield "  cd .."
    yield "Copy the directories back, into one directory results for instance, and here:"
    yield f"  l1kd synth {shlex.quote(str(run))} --collect results"


def run_steps(
    context: Context, project: Project, program: ToolProgram, steps: Sequence[Step], limit: float
) -> None:
    """Run the steps of a project that are not done yet, each for `limit` seconds at most."""
    name, top, backend = project.label, project.record.top, backend_named(project.record.backend)
    lock = context.directory / "vendor" / f".{name}.lock"
    lock.parent.mkdir(exist_ok=True)
    busy = (
        f"a tool that an earlier command started is still at work in {lock.parent}; wait for its "
        "end, or end it"
    )
    with held(lock, busy) as descriptor:
        build = tool_results.prepare(context, project)
        record = tool_results.load(context, project)
        finished = {step for step, done in record.steps.items() if done.state == "done"}
        verilog = build / backend.rtl(top)
        reports = [build / path for path in backend.report_files(top)["csynth"]]
        has_rtl = any(map(Path.is_file, reports)) and verilog.is_dir() and any(verilog.iterdir())
        lacks_rtl = bool({"cosim", "vsynth"} & set(steps) - finished) and not has_rtl
        for step in STEPS:
            if step not in steps and not (step == "csynth" and lacks_rtl):
                continue
            # A C simulation need not leave a report.
            if step in finished and (step == "csim" or getattr(record.reports, step) is not None):
                if not (step == "csynth" and lacks_rtl):
                    done = record.steps[step]
                    by = "brought back" if done.origin == "brought back" else f"by {done.program}"
                    context.say(f"{name}: {step}: done already ({by})")
                    continue
                context.say(f"{name}: csynth once more: its RTL is not in {build}")
            _run(context, project, program, step, build, record, limit, descriptor)


def _run(
    context: Context,
    project: Project,
    program: ToolProgram,
    step: Step,
    build: Path,
    record: tool_results.Record,
    limit: float,
    lock: int,
) -> None:
    """Run one step and keep its results in the record and in the run."""
    name, top, backend = project.label, project.record.top, backend_named(project.record.backend)
    log = build / f"l1kd_{step}.log"
    if backend.options_file:
        (build / backend.options_file).write_text(backend.options([step]), encoding="utf-8")
    files = backend.report_files(top)
    for kind in LEFT_BY[step]:
        for path in files[kind]:
            (build / path).unlink(missing_ok=True)  # an old report must not pass for a new one
    command = [program.name, *backend.arguments(program, [step])]
    context.say(f"{name}: {step}: {' '.join(command)}, log in {log}")
    heard = _Heard(context, top)
    with log.open("wb") as file:
        ended = run(command, build, line=heard.line, log=file, limit=limit, lock=lock)
    if ended.code is None:
        raise UserError(
            f"{name}: {step} was stopped after its time limit of {limit:g} s; give it more with "
            f"--time-limit, its log is {log}"
        )
    found = Reports()
    if ended.code == 0 or step in _SIMULATIONS:
        found = backend.read(Folder(build), top, read_vectors(project.directory)[1])
    left = Reports.model_fields.keys() & set(LEFT_BY[step])
    found = found.model_copy(update=dict.fromkeys(Reports.model_fields.keys() - left))
    fault = _fault(step, ended.code, heard, found)
    message = f"{name}: {program.name}: {step} {fault}; its log is {log}"
    if fault and step not in _SIMULATIONS:
        raise UserError(message)
    tool_results.check(project, found, name)
    record.replace(found, left)
    record.steps[step] = tool_results.Done(
        state="failed" if fault else "done",
        origin="here",
        program=program.name,
        seconds=round(ended.seconds, 1),
    )
    tool_results.save(context, project, record)
    if fault:
        raise CheckFailed(message)
    context.say(f"{name}: {step}: done in {ended.seconds:.0f} s")


def _fault(step: Step, code: int, heard: _Heard, found: Reports) -> str | None:
    """The reason why a step failed; None if it did not."""
    if code:
        return f"ended with code {code} ({heard.reason})"
    if fault := found.fault(step):
        return fault
    if step == "csim" and heard.failed:
        return f"failed ({heard.reason})"
    if step == "csim" and found.csim_results is None and not heard.passed:
        return f"left no word of the test bench ({heard.reason})"
    if step != "csim" and getattr(found, step) is None:
        return f"ended without an error and left no report ({heard.reason})"
    return None
