"""Running one stage of a run: what it depends on, its record in the manifest, lock and log."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import content_hash, file_hash
from l1kd.core.processes import held
from l1kd.core.stages import SPECS, AnyStage

logger = logging.getLogger("l1kd")


def execute(
    context: Context,
    manifest: run_files.Manifest,
    stage: AnyStage,
    *,
    always: bool,
    function: Callable[[Context], None] | None = None,
) -> None:
    """Run a stage, unless its result is there already and follows from the same inputs.

    Parameters
    ----------
    context, manifest
        The run.
    stage
        Its name.
    always
        Run it in any case.
    function
        What to run, in place of the stage's own.

    Raises
    ------
    CheckFailed
        If the stage is a gate and it failed; the manifest says so.
    """
    directory = context.directory
    if not always and finished(context, manifest, stage):
        context.say(f"{stage}: done already")
        return
    inputs = _inputs(context, manifest, stage)
    module, _, name = SPECS[stage].function.partition(":")
    context.say(f"{stage} ...")
    started = time.monotonic()
    manifest.stages[stage] = run_files.StageRecord(state="running", inputs=inputs)
    run_files.write(directory, "manifest.json", manifest)
    if SPECS[stage].networks:
        from l1kd.networks.tensorflow_setup import prepare_tensorflow

        prepare_tensorflow(context.threads)
    if function is None:
        function = getattr(importlib.import_module(module), name)
    assert function is not None
    failure: CheckFailed | None = None
    try:
        function(context)
    except CheckFailed as error:
        failure = error
    duration = round(time.monotonic() - started, 3)
    if (directory / "firmware.json").exists():
        projects = run_files.read(directory, "firmware.json")
        manifest.firmware = {
            f"{p.student}-{p.backend}-{p.io_type}-{p.strategy}": p.directory for p in projects
        }
        if (directory / "rtl.json").exists():
            manifest.firmware |= {
                f"{p.student}-rtl": p.directory
                for p in run_files.read(directory, "rtl.json")
                if p.directory is not None
            }
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


def finished(context: Context, manifest: run_files.Manifest, stage: AnyStage) -> bool:
    """Whether a stage's result is there and follows from what is there now."""
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
    files = {
        str(path.relative_to(directory)): file_hash(path)
        for pattern in spec.reads
        for path in sorted(directory.glob(pattern))
        if path.name != "manifest.json"  # it changes with every stage
    }
    relevant: dict[str, Any] = {
        "config": context.config.model_dump(mode="json", include=set(spec.sections)),
        "files": files,
    }
    if "data" in spec.sections:
        relevant["data"] = {
            file: _event_hash(file, *_stamp(file)) if Path(file).is_file() else "missing"
            for file in manifest.data
        }
    if spec.projects:
        relevant["projects"] = {
            name: _tree_hash(Path(path)) for name, path in manifest.firmware.items()
        }
    if stage == "import" and manifest.imported is not None:
        relevant["model"] = [manifest.imported.sha256, manifest.imported.lossy]
    return content_hash(relevant)


def _stamp(file: str) -> tuple[int, int]:
    status = Path(file).stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _event_hash(file: str, size: int, changed_ns: int) -> str:
    """Hash of a file of events: every stage asks for it, and the runs of a sweep share it."""
    return file_hash(Path(file))


def _tree_hash(directory: Path) -> str:
    """Hash of a project's text: its sources, weights and scripts, not what was compiled."""
    suffixes = {".h", ".cpp", ".tcl", ".json", ".txt", ".v", ".gz"}
    return content_hash(
        {
            str(path.relative_to(directory)): file_hash(path)
            for path in sorted(directory.rglob("*"))
            # what Yosys found is a result, not a source
            if path.suffix in suffixes and path.is_file() and path.name != "yosys.json"
        }
    )


def written(context: Context, stage: AnyStage) -> bool:
    """Whether the files that a stage leaves behind are there."""
    directory = context.directory
    students = all(
        context.student_file(student.name).is_file() for student in context.config.students
    )
    return students and all(any(directory.glob(pattern)) for pattern in SPECS[stage].writes)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it ends."""
    busy = f"{directory} is in use by another l1kd process; wait for it, or name another run"
    with held(directory / ".lock", busy):
        _sweep(directory)
        yield


def _sweep(directory: Path) -> None:
    """Delete what a process that was killed had begun to write into a run; the run is held."""
    for pattern in (".*.part*", "*/.*.part*"):
        for left in directory.glob(pattern):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


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
