"""A run: a directory that holds everything one configuration produced, stage by stage."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from l1kd import __version__
from l1kd.core import config_file, run_files
from l1kd.core.config import Config
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import file_hash, read_json
from l1kd.core.own_directories import LEFTOVER
from l1kd.core.processes import call
from l1kd.core.stages import STAGES, AnyStage, Stage, order
from l1kd.data.sources import open_dataset
from l1kd.runs.stage_runner import execute, finished, locked, logged, written

# A change of these is another experiment: its run is not overwritten by accident.
_IDENTITY = ("seed", "threads", "data", "teacher", "students", "distillation")
# Teacher and training are not used; the output type is the network's own.
_IDENTITY_IMPORTED = ("seed", "threads", "data", "students")


def versions() -> dict[str, str]:
    """Versions of this package, Python and what decides numbers; absent packages are left out."""
    found = {"l1kd": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "qkeras", "hls4ml", "da4ml", "alkaid", "numpy", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit() -> str | None:
    """The checkout's commit, if this package runs from one."""
    package = Path(__file__).parents[1]
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        answer = call(command, limit=10)
    except UserError:
        return None
    if answer.code:
        return None
    root, commit = answer.output.decode().splitlines()[:2]
    return commit if Path(root, "l1kd", "__init__.py").is_file() else None


def run_configuration(
    argument: str,
    directory: Path | None = None,
    *,
    until: Stage = "report",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Create or resume a run, by default `runs/<name>`: every stage up to `until` that is not done.

    CheckFailed if a gate failed: the stages after it have run all the same.
    """
    config = config_file.load(config_file.find(argument), overrides)
    if config.imported:
        raise UserError(
            f"{argument}: students of the architecture 'imported' come with a model file: "
            "`l1kd import MODEL CONFIG`"
        )
    directory = Path("runs") / config.name if directory is None else directory
    context = context_of(directory, config, console)
    if not (directory / "manifest.json").exists():
        _check_free(directory)
        _ = context.dataset  # before the import of TensorFlow, which takes seconds
        from l1kd.training.train import check

        check(context)
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory), logged(directory):
        manifest = _prepare(context)
        _every_stage(context, manifest, STAGES[: STAGES.index(until) + 1])
    return directory


def import_network(
    model: Path,
    argument: str,
    directory: Path | None = None,
    *,
    lossy: bool = False,
    until: Stage = "report",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Create or resume a run from a trained network: all stages but training, no teacher."""
    from l1kd.evaluation import import_network as importing

    config = config_file.load(config_file.find(argument), overrides)
    directory = Path("runs") / config.name if directory is None else directory
    digest = importing.digest(model)
    if (directory / "manifest.json").exists():
        _check_version(directory)
        stored: run_files.Manifest = run_files.read(directory, "manifest.json")
        if (own := stored.imported) is None or own.sha256 != digest:
            held = (
                f"the network of another file, {own.file}"
                if own
                else "a network that was trained in it"
            )
            raise UserError(
                f"{directory} holds {held}; give this one a directory of its own with --run"
            )
    else:
        _check_free(directory)
    context = context_of(directory, config, console)
    network = importing.prepare(model, digest, context, lossy=lossy)
    context = context.configured(importing.configuration(config, network))
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory), logged(directory):
        manifest = _prepare(context, network.record)

        def stage(context: Context) -> None:
            manifest.imported = network.record  # is there also if the lint refuses it
            manifest.imported = importing.import_(context, network)

        try:
            execute(context, manifest, "import", always=False, function=stage)
        except CheckFailed:
            execute(context, manifest, "report", always=True)
            raise
        _every_stage(context, manifest, order(imported=True)[1 : STAGES.index(until) + 1])
    return directory


def _every_stage(
    context: Context, manifest: run_files.Manifest, stages: Sequence[AnyStage]
) -> None:
    """Run stages whose result is not there; a gate that fails does not stop those after it."""
    failure: CheckFailed | None = None
    for stage in stages:
        try:
            execute(context, manifest, stage, always=False)
        except CheckFailed as error:
            context.say(f"{stage}: FAILED: {error}")
            failure = failure or error
    if failure is not None:
        raise failure


def run_stage(stage: Stage, directory: Path, *, console: Console | None = None) -> None:
    """Run one stage of an existing run, also if its result is there, unless that is a training.

    UserError if an earlier stage is missing; CheckFailed if a gate failed: the report says so.
    """
    context = open_context(directory, console=console)
    with locked(directory), logged(directory):
        manifest: run_files.Manifest = run_files.read(directory, "manifest.json")
        sequence = order(context.config.imported)
        if stage not in sequence:
            raise UserError(
                f"{directory} holds an imported network: there is no teacher and nothing to train"
            )
        first = manifest.stages.get(sequence[0])
        refused = context.config.imported and first is not None and first.state == "failed"
        for earlier in sequence[: sequence.index(stage)]:
            record = manifest.stages.get(earlier)
            if record is None or record.state == "running" or not written(context, earlier):
                if stage == "report" and (refused or earlier not in (sequence[0], "evaluate")):
                    continue  # the page says what has not run
                remedy = f"l1kd {earlier} {directory}"
                if earlier == "import":
                    remedy = f"l1kd import MODEL CONFIG --run {directory}"
                raise UserError(
                    f"{directory}: the stage '{earlier}' has not finished, and '{stage}' needs it; "
                    f"run `{remedy}` first"
                )
        try:
            execute(context, manifest, stage, always=stage != "train")
        except CheckFailed:
            with contextlib.suppress(UserError):
                execute(context, manifest, "report", always=True)
            raise


def is_done(directory: Path, config: Config, until: Stage) -> bool:
    """The run has come to its end: `run_configuration` would find nothing to do. No TensorFlow."""
    if not (directory / "manifest.json").exists():
        _check_free(directory)
        return False
    if _is_new(directory):
        return False
    _check_version(directory)
    _changes(directory, config, _IDENTITY)
    context = context_of(directory, config, None)
    manifest: run_files.Manifest = run_files.read(directory, "manifest.json")
    return all(finished(context, manifest, stage) for stage in STAGES[: STAGES.index(until) + 1])


def open_context(directory: Path, *, console: Console | None = None) -> Context:
    """An existing run as its stages see it; UserError if it is none, or of another version."""
    if not (directory / "manifest.json").is_file() or not (directory / "config.yaml").is_file():
        raise UserError(
            f"{directory} is not a run (no manifest.json); runs are made by `l1kd run CONFIG`"
        )
    _check_version(directory)
    return context_of(directory, config_file.load_resolved(directory / "config.yaml"), console)


def context_of(directory: Path, config: Config, console: Console | None = None) -> Context:
    """A run as its stages see it; its events are opened when one first asks."""
    open_events = partial(open_dataset, config.data, config.seed)
    return Context(directory, config, console or Console(stderr=True, soft_wrap=True), open_events)


def _check_free(directory: Path) -> None:
    """Refuse a directory that holds more than a run that was killed as it began leaves there."""
    begun = (".lock", "l1kd.log")
    if directory.exists() and (
        not directory.is_dir()
        or any(not (p.name in begun or LEFTOVER.fullmatch(p.name)) for p in directory.iterdir())
    ):
        raise UserError(
            f"{directory} exists and is not a run; name another directory with --run, or empty it"
        )


def _is_new(directory: Path) -> bool:
    """Nothing has run yet. The manifest is written before the configuration."""
    if not (directory / "manifest.json").exists():
        return True
    if (directory / "config.yaml").exists():
        return False
    _check_version(directory)
    if run_files.read(directory, "manifest.json").stages:
        raise UserError(f"{directory} has lost its config.yaml; make a new run")
    return True


def _prepare(context: Context, imported: run_files.Imported | None = None) -> run_files.Manifest:
    """The run's manifest, new or as it was; the configuration stored with it."""
    directory, config = context.directory, context.config
    if _is_new(directory):
        manifest = run_files.Manifest(
            name=config.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            git_commit=git_commit(),
            seed=config.seed,
            threads=context.threads,
            machine=f"{platform.system()} {platform.machine()}",
            data={file: file_hash(Path(file)) for file in context.dataset.files},
            imported=imported,
        )
        run_files.write(directory, "manifest.json", manifest)
        config_file.save(config, directory / "config.yaml")
        return manifest
    _check_version(directory)
    if changed := _changes(directory, config, _IDENTITY_IMPORTED if imported else _IDENTITY):
        config_file.save(config, directory / "config.yaml")
        context.say(f"configuration changed: {'; '.join(changed.values())}")
    found: run_files.Manifest = run_files.read(directory, "manifest.json")
    return found


def _changes(directory: Path, config: Config, identity: tuple[str, ...]) -> dict[str, str]:
    """Differences from the run's configuration; UserError if they make it another experiment."""
    stored = config_file.load_resolved(directory / "config.yaml")
    changed = _differences(stored.model_dump(mode="json"), config.model_dump(mode="json"))
    another = [key for key in changed if key.split(".")[0] in identity]
    if another:
        listed = "; ".join(changed[key] for key in another)
        raise UserError(
            f"{directory} holds a run of another configuration ({listed}); "
            "give this one a directory of its own with --run"
        )
    return changed


def _check_version(directory: Path) -> None:
    try:
        version = read_json(directory / "manifest.json").get("format_version")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{directory}/manifest.json is damaged ({error}); make a new run"
        ) from error
    if version != run_files.FORMAT_VERSION:
        raise UserError(
            f"{directory} was made in format {version}; this is l1kd {__version__}, which reads "
            f"format {run_files.FORMAT_VERSION}: use the version that made it, or make a new run"
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
