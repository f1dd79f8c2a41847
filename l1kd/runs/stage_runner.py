"""Running one stage of a run: what it depends on, its record in the manifest, lock and log."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed
from l1kd.core.files import content_hash, file_hash
from l1kd.core.own_directories import sweep
from l1kd.core.processes import held
from l1kd.core.stages import SPECS, AnyStage
from l1kd.firmware import budgets

logger = logging.getLogger("l1kd")


def execute(
    context: Context,
    manifest: run_files.Manifest,
    stage: AnyStage,
    *,
    always: bool,
    function: Callable[[Context], None] | None = None,
) -> None:
    """Run a stage, or `function` in its place, unless (`always`) it is finished.

    CheckFailed if the stage is a gate and it failed; the manifest says so.
    """
    if not always and finished(context, manifest, stage):
        context.say(f"{stage}: done already")
        return
    directory, inputs = context.directory, _inputs(context, manifest, stage)
    context.say(f"{stage} ...")
    started = time.monotonic()
    manifest.stages[stage] = run_files.StageRecord(state="running", inputs=inputs)
    run_files.write(directory, "manifest.json", manifest)
    if SPECS[stage].tensorflow:
        from l1kd.networks.tensorflow_setup import prepare_tensorflow

        prepare_tensorflow(context.threads)
    failure: CheckFailed | None = None
    try:
        (function or _function(stage))(context)
    except CheckFailed as error:
        failure = error
    duration = round(time.monotonic() - started, 3)
    manifest.firmware = _projects(directory)
    link_projects(context)
    manifest.stages[stage] = run_files.StageRecord(
        state="failed" if failure else "done",
        duration_s=duration,
        inputs=_inputs(context, manifest, stage),
        message=str(failure) if failure else None,
    )
    run_files.write(directory, "manifest.json", manifest)
    if failure:
        raise failure
    context.say(f"{stage}: done in {duration:.0f} s")


def _function(stage: AnyStage) -> Callable[[Context], None]:
    if stage == "evaluate":
        return evaluate_within_budgets
    module, _, name = SPECS[stage].function.partition(":")
    function: Callable[[Context], None] = getattr(importlib.import_module(module), name)
    return function


def evaluate_within_budgets(context: Context) -> None:
    """The stage `evaluate`, with the students' estimated costs where there are budgets.

    CheckFailed if no student is within the budgets: the nearest miss is written as the best one.
    """
    costs = budgets.estimates(context)
    from l1kd.evaluation.evaluate import evaluate

    budgets.check_choice(evaluate(context, costs))


def _projects(run: Path) -> dict[str, str]:
    """The projects of a run: name to directory, relative to the run."""
    found: dict[str, str] = {}
    if (run / "firmware.json").exists():
        for p in run_files.read(run, "firmware.json"):
            found[f"{p.student}-{p.backend}-{p.io_type}-{p.strategy}"] = p.directory
    if found and (run / "rtl.json").exists():
        for p in run_files.read(run, "rtl.json"):
            if p.directory is not None:
                found[f"{p.student}-rtl"] = p.directory
    return found


def link_projects(context: Context) -> None:
    """In a checkout, let `hls_projects/<run>` point to the firmware of `runs/<run>`."""
    run = context.directory.absolute()
    place = run.parent.parent / "hls_projects"
    if run.parent.name != "runs" or not (place / "README.md").is_file():
        return
    link, target = place / run.name, Path("..", "runs", run.name, "firmware")
    if not (run / "firmware").is_dir() or (link.is_symlink() and link.readlink() == target):
        return
    if link.is_symlink() or link.exists():
        context.say(f"{link} is not l1kd's link to {run / 'firmware'}; delete it to have one")
        return
    with contextlib.suppress(OSError):  # a convenience: the checkout may be read-only
        link.symlink_to(target)


def finished(context: Context, manifest: run_files.Manifest, stage: AnyStage) -> bool:
    """A stage's result is there and follows from what is there now."""
    record = manifest.stages.get(stage)
    return (
        record is not None
        and record.state == "done"
        and written(context, stage)
        and record.inputs == _inputs(context, manifest, stage)
    )


def _inputs(context: Context, manifest: run_files.Manifest, stage: AnyStage) -> str:
    """Hash of everything a stage's result follows from."""
    spec, directory = SPECS[stage], context.directory
    found = {path for pattern in spec.reads for path in directory.glob(pattern)}
    relevant: dict[str, Any] = {
        "config": context.config.model_dump(mode="json", include=set(spec.sections)),
        "files": {
            path.relative_to(directory).as_posix(): file_hash(path)
            for path in sorted(found)
            if path.is_file() and path.name != "manifest.json"  # it changes with every stage
        },
    }
    if "data" in spec.sections:
        relevant["data"] = {
            file: _event_hash(file, status.st_size, status.st_mtime_ns)
            if Path(file).is_file() and (status := Path(file).stat())
            else "missing"
            for file in manifest.data
        }
    if stage == "import" and manifest.imported is not None:
        relevant["model"] = [manifest.imported.sha256, manifest.imported.lossy]
    return content_hash(relevant)


@functools.lru_cache(maxsize=256)
def _event_hash(file: str, size: int, changed_ns: int) -> str:
    """Hash of a file of events: every stage asks for it, and the runs of a sweep share it."""
    return file_hash(Path(file))


def written(context: Context, stage: AnyStage) -> bool:
    """The files that a stage leaves behind are there."""
    students = (context.student_file(student.name) for student in context.config.students)
    return all(file.is_file() for file in students) and all(
        any(context.directory.glob(pattern)) for pattern in SPECS[stage].writes
    )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it ends."""
    busy = f"{directory} is in use by another l1kd process; wait for it, or name another run"
    with held(directory / ".lock", busy):
        sweep(directory)
        yield


class _Log(logging.FileHandler):
    """On a full disk the stage itself says what is wrong; a traceback of the log's says less."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without the line."""


@contextlib.contextmanager
def logged(directory: Path) -> Iterator[None]:
    """Write `l1kd.log` of the run."""
    handler = _Log(directory / "l1kd.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # absl, TensorFlow's logging, would print everything once more
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        with contextlib.suppress(OSError):
            handler.close()
