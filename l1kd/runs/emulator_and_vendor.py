"""Verbs of a run beside its stages: build an emulator, run and read vendors' tools."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from l1kd.core import run_files
from l1kd.core.config_types import VendorTool
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.runs.run import open_context
from l1kd.runs.stage_runner import execute, locked, logged


def deliver_emulator(
    directory: Path,
    student: str | None = None,
    out: Path | None = None,
    *,
    console: Console | None = None,
) -> Path:
    """Build a student's emulator in `out` (the run), and compare it with the exact network.

    Its directory. CheckFailed if one bit differs: the report says so, too. A read-only run, with
    `out`, stays as it is.
    """
    from l1kd.firmware.hls.emulator import deliver
    from l1kd.firmware.verify.comparison import compare_emulator

    context = open_context(directory, console=console)
    writable = out is None or os.access(directory, os.W_OK)
    with contextlib.ExitStack() as stack:
        if writable:
            stack.enter_context(locked(directory))
            stack.enter_context(logged(directory))
        manifest: run_files.Manifest = run_files.read(directory, "manifest.json")
        name, emulator = deliver(directory, student, out)
        try:
            compare_emulator(context, name, emulator)
        finally:
            if writable and "report" in manifest.stages:
                execute(context, manifest, "report", always=True)
    return emulator.directory


def run_vendor_tool(
    directory: Path,
    tool: VendorTool,
    steps: str,
    *,
    student: str | None = None,
    io_type: Literal["io_parallel", "io_stream"] | None = None,
    limit: float,
    console: Console | None = None,
) -> None:
    """Run a vendor's tool on a student's HLS projects, and put its numbers into the run's files.

    `steps`: of csim, csynth, cosim and vsynth, joined by commas; those done are left alone.
    `student`: the best one; `io_type`: all of its projects; `limit`: seconds for one step.
    """
    from l1kd.firmware.hls.backends import BACKENDS, backend_named, parse_steps
    from l1kd.firmware.run_firmware import certificates_stand, projects_of
    from l1kd.firmware.vendor_tools.run_tool import instructions, run_steps

    wanted = parse_steps(steps)
    (backend,) = (each for each in BACKENDS.values() if each.tool == tool)
    context = open_context(directory, console=console)
    with locked(directory), logged(directory):
        name = student or run_files.read(directory, "metrics.json").best
        own = projects_of(directory).get(name, [])
        projects = [each for each in own if io_type in (None, each.record.io_type)]
        if not projects:
            have = [each.label for each in own]
            raise UserError(
                f"{directory}: there is no {io_type or 'HLS'} project of the student {name!r}"
                + (f", there is {', '.join(have)}" if have else "; see its firmware.json")
            )
        if other := [each for each in projects if each.record.backend != backend.name]:
            kind = backend_named(other[0].record.backend)
            raise UserError(
                f"{other[0].label} is written for {kind.name}: use --tool {kind.tool}, or "
                f"convert anew: l1kd run CONFIG --set firmware.backend={backend.name}"
            )
        for each in projects:
            certificates_stand(directory, each)
        program = backend.find(wanted)
        if program is None:
            for line in instructions(directory, projects, wanted):
                context.say(line)
            names = " nor ".join(each.name for each in backend.programs)
            raise UserError(
                f"neither {names} is on the PATH; source the tool's "
                "settings64.sh, or run the commands above where it is and bring the results back: "
                f"l1kd synth {directory} --collect DIR"
            )
        with _results_kept(context):
            for project in projects:
                run_steps(context, project, program, wanted, limit)


def collect_results(
    directory: Path, results: Path, *, console: Console | None = None
) -> Sequence[str]:
    """Read results of vendors' tools that were brought back, and put them into the run's files.

    `results` is a project's directory, or one that holds several. Names of the projects they are
    of; UserError if there are none, or some are not of the run's projects as they are.
    """
    from l1kd.firmware.run_firmware import projects_of
    from l1kd.firmware.vendor_tools.tool_results import collect

    context = open_context(directory, console=console)
    with locked(directory), logged(directory):
        projects = [each for group in projects_of(directory).values() for each in group]
        with _results_kept(context):
            found = collect(context, projects, results)
    return found


@contextlib.contextmanager
def _results_kept(context: Context) -> Iterator[None]:
    """Refresh the run's files after a tool's work, also if it failed."""
    try:
        yield
    except (UserError, CheckFailed):
        with contextlib.suppress(UserError, CheckFailed):  # the first is what has to be known
            _refresh(context)
        raise
    _refresh(context)


def _refresh(context: Context) -> None:
    """Put the tools' results into `resources.json`, and into the report where there is one."""
    manifest: run_files.Manifest = run_files.read(context.directory, "manifest.json")
    try:
        execute(context, manifest, "synth", always=True)
    finally:  # also if a budget is missed
        if "report" in manifest.stages:
            execute(context, manifest, "report", always=True)
