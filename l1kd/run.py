"""A run: a directory that holds everything one configuration produced, stage by stage."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from l1kd import __version__, configfile, schemas
from l1kd.config import STAGES, Config, Stage
from l1kd.context import Context
from l1kd.errors import CheckFailed, UserError
from l1kd.files import content_hash, file_hash
from l1kd.provenance import git_commit, versions
from l1kd.stages import SPECS

__all__ = ["open_run", "run_configuration", "run_stage"]

logger = logging.getLogger("l1kd")


# A change of these is another experiment: its run is not overwritten by accident.
_IDENTITY = ("seed", "threads", "data", "teacher", "students", "distillation")


def run_configuration(
    argument: str,
    directory: Path | None = None,
    *,
    until: Stage = "report",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Create or resume a run: every stage up to `until` whose result is not there already.

    Parameters
    ----------
    argument
        A shipped configuration's name, or a YAML file.
    directory
        The run; by default `runs/<name>`.
    until
        The last stage.
    overrides
        `KEY=VALUE` texts.

    Returns
    -------
    Path
        The run's directory.

    Raises
    ------
    UserError
        If something is wrong that the user can mend.
    CheckFailed
        If a gate failed; the stages after it have run all the same.
    """
    config = configfile.load(configfile.find(argument), overrides)
    directory = Path("runs") / config.name if directory is None else directory
    context = _context(directory, config, console)
    if not (directory / "manifest.json").exists():
        if directory.exists() and (not directory.is_dir() or any(_contents(directory))):
            raise UserError(
                f"{directory} exists and is not a run; name another directory with --run, "
                "or empty it"
            )
        _preflight(context)
        directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory), _logged(directory):
        manifest = _prepare(context)
        failure: CheckFailed | None = None
        for stage in STAGES[: STAGES.index(until) + 1]:
            try:
                _execute(context, manifest, stage, always=False)
            except CheckFailed as error:
                context.say(f"{stage}: FAILED: {error}")
                failure = failure or error
    if failure is not None:
        raise failure
    return directory


def run_stage(stage: Stage, directory: Path, *, console: Console | None = None) -> None:
    """Run one stage of an existing run, also if its result is there already.

    A finished training is left alone: delete the run, or name another, to train again.

    Raises
    ------
    UserError
        If the directory is no run, or an earlier stage is missing.
    CheckFailed
        If the stage is a gate and it failed; the report is written again all the same.
    """
    context = open_run(directory, console=console)
    with _locked(directory), _logged(directory):
        manifest: schemas.Manifest = schemas.read(directory, "manifest.json")
        for earlier in STAGES[: STAGES.index(stage)]:
            record = manifest.stages.get(earlier)
            if record is None or record.state == "running" or not _written(context, earlier):
                if stage == "report" and earlier not in ("train", "evaluate"):
                    continue  # the page says what has not run
                raise UserError(
                    f"{directory}: the stage '{earlier}' has not finished, and '{stage}' needs it; "
                    f"run `l1kd {earlier} {directory}` first"
                )
        try:
            _execute(context, manifest, stage, always=stage != "train")
        except CheckFailed:
            with contextlib.suppress(UserError):
                _execute(context, manifest, "report", always=True)
            raise


def open_run(directory: Path, *, console: Console | None = None) -> Context:
    """An existing run as its stages see it.

    Raises
    ------
    UserError
        If it is no run, or one of another version of the format.
    """
    if not (directory / "manifest.json").is_file() or not (directory / "config.yaml").is_file():
        raise UserError(
            f"{directory} is not a run (no manifest.json); runs are made by `l1kd run CONFIG`"
        )
    _check_version(directory)
    return _context(directory, configfile.load_resolved(directory / "config.yaml"), console)


def _context(directory: Path, config: Config, console: Console | None) -> Context:
    return Context(
        directory, config, _projects(directory), console or Console(stderr=True, soft_wrap=True)
    )


def _projects(directory: Path) -> Path:
    """Where a run's HLS projects go: beside the checkout's runs, or into the run itself."""
    absolute = directory.absolute()
    checkout = absolute.parent.parent
    if absolute.parent.name == "runs" and (checkout / "hls_projects" / "README.md").is_file():
        return checkout / "hls_projects" / absolute.name
    return absolute / "firmware"


def _preflight(context: Context) -> None:
    """Find what is wrong before anything is written."""
    _ = context.dataset  # first: TensorFlow's import takes seconds
    from l1kd.distill.train import check

    check(context)


def _contents(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if path.name != ".lock")


def _prepare(context: Context) -> schemas.Manifest:
    """The run's manifest, new or as it was; the configuration stored with it."""
    directory, config = context.directory, context.config
    if not (directory / "manifest.json").exists():
        manifest = schemas.Manifest(
            name=config.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            git_commit=git_commit(),
            seed=config.seed,
            threads=context.threads,
            machine=f"{platform.system()} {platform.machine()}",
            data={file: file_hash(Path(file)) for file in context.dataset.files},
        )
        configfile.save(config, directory / "config.yaml")
        schemas.write(directory, "manifest.json", manifest)
        return manifest
    _check_version(directory)
    stored = configfile.load_resolved(directory / "config.yaml")
    changed = _differences(stored.model_dump(mode="json"), config.model_dump(mode="json"))
    another = [key for key in changed if key.split(".")[0] in _IDENTITY]
    if another:
        listed = "; ".join(changed[key] for key in another)
        raise UserError(
            f"{directory} holds a run of another configuration ({listed}); "
            "give this one a directory of its own with --run"
        )
    if changed:
        configfile.save(config, directory / "config.yaml")
        context.say(f"configuration changed: {'; '.join(changed.values())}")
    found: schemas.Manifest = schemas.read(directory, "manifest.json")
    return found


def _check_version(directory: Path) -> None:
    from l1kd.files import read_json

    try:
        version = read_json(directory / "manifest.json").get("format_version")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{directory}/manifest.json is damaged ({error}); make a new run"
        ) from error
    if version != schemas.FORMAT_VERSION:
        raise UserError(
            f"{directory} was made in format {version}; this is l1kd {__version__}, which reads "
            f"format {schemas.FORMAT_VERSION}: use the version that made it, or make a new run"
        )


def _differences(stored: Any, given: Any, key: str = "") -> dict[str, str]:
    """Dotted key -> `key: old -> new` of what differs between two configurations."""
    if isinstance(stored, dict) and isinstance(given, dict):
        found: dict[str, str] = {}
        for name in dict.fromkeys([*stored, *given]):
            dotted = f"{key}.{name}" if key else name
            found |= _differences(stored.get(name), given.get(name), dotted)
        return found
    return {} if stored == given else {key: f"{key}: {_short(stored)} -> {_short(given)}"}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _execute(context: Context, manifest: schemas.Manifest, stage: Stage, *, always: bool) -> None:
    directory = context.directory
    inputs = _inputs(context, manifest, stage)
    record = manifest.stages.get(stage)
    fresh = record is not None and record.state == "done" and record.inputs == inputs
    if fresh and not always and _written(context, stage):
        context.say(f"{stage}: done already")
        return
    module, _, name = SPECS[stage].function.partition(":")
    context.say(f"{stage} ...")
    started = time.monotonic()
    manifest.stages[stage] = schemas.StageRecord(state="running", inputs=inputs)
    schemas.write(directory, "manifest.json", manifest)
    if SPECS[stage].networks:
        from l1kd.models.runtime import prepare_tensorflow

        prepare_tensorflow(context.threads)
    function: Callable[[Context], None] = getattr(importlib.import_module(module), name)
    failure: CheckFailed | None = None
    try:
        function(context)
    except CheckFailed as error:
        failure = error
    duration = round(time.monotonic() - started, 3)
    if (directory / "firmware.json").exists():
        written = schemas.read(directory, "firmware.json")
        manifest.firmware = {
            f"{w.student}-{w.backend}-{w.io_type}-{w.strategy}": w.directory for w in written
        }
    manifest.stages[stage] = schemas.StageRecord(
        state="failed" if failure else "done",
        duration_s=duration,
        inputs=_inputs(context, manifest, stage),
        message=str(failure) if failure else None,
    )
    schemas.write(directory, "manifest.json", manifest)
    if failure:
        raise failure
    context.say(f"{stage}: done in {duration:.0f} s")


def _inputs(context: Context, manifest: schemas.Manifest, stage: Stage) -> str:
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
            file: file_hash(Path(file)) if Path(file).is_file() else "missing"
            for file in manifest.data
        }
    if spec.projects:
        relevant["projects"] = {
            name: _tree_hash(Path(path)) for name, path in manifest.firmware.items()
        }
    return content_hash(relevant)


def _tree_hash(directory: Path) -> str:
    """Hash of a project's text: its sources, weights and scripts, not what was compiled."""
    suffixes = {".h", ".cpp", ".tcl", ".json", ".txt"}
    return content_hash(
        {
            str(path.relative_to(directory)): file_hash(path)
            for path in sorted(directory.rglob("*"))
            if path.suffix in suffixes and path.is_file()
        }
    )


def _written(context: Context, stage: Stage) -> bool:
    directory = context.directory
    students = all(
        context.student_file(student.name).is_file() for student in context.config.students
    )
    return students and all(any(directory.glob(pattern)) for pattern in SPECS[stage].writes)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it ends."""
    with (directory / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{directory} is in use by another l1kd process; wait for it, or name another run"
            ) from error
        yield


class _Log(logging.FileHandler):
    """On a full disk the stage itself says what is wrong; a traceback of the log's says less."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without the line."""


@contextlib.contextmanager
def _logged(directory: Path) -> Iterator[None]:
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
