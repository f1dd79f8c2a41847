"""A run: a directory that holds everything one configuration produced, stage by stage.

Where a run comes from: versions and the checkout's commit.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from pathlib import Path
from l1kd import __version__
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any
from rich.console import Console
from l1kd.core import config_file, run_files
from l1kd.core.config import Config
from l1kd.core.config_types import STAGES, Stage
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import call
from l1kd.runs.stage_runner import execute, finished, locked, logged, written
from l1kd.core.files import file_hash
from l1kd.core.stages import AnyStage, order

def versions() -> dict[str, str]:
    """Of this package, Python and what decides numbers; absent packages are left out."""
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


# A change of these is another experiment: its run is not overwritten by accident.
_IDENTITY = ("seed", "threads", "data", "teacher", "students", "distillation")
# Teacher and training are not used; the output type is the network's own.
_IDENTITY_IMPORTED = ("seed", "threads", "data", "students")


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
    config = config_file.load(config_file.find(argument), overrides)
    if config.imported:
        raise UserError(
            f"{argument}: students of the architecture 'imported' come with a model file: "
            "`l1kd import MODEL CONFIG`"
        )
    directory = Path("runs") / config.name if directory is None else directory
    context = _context(directory, config, console)
    if not (directory / "manifest.json").exists():
        _check_free(directory)
        _preflight(context)
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
    """Create or resume a run from a trained network: all stages, with no training and no teacher.

    Parameters
    ----------
    model
        A `.keras` or `.h5` file.
    argument
        The configuration that gives data and firmware; what it says of teacher, students and
        training is not used.
    directory
        The run; by default `runs/<name>`, as the configuration is named.
    lossy
        Also make repairs that change the network's values.
    until
        The last stage; `train` stands for the import alone.
    overrides
        `KEY=VALUE` texts.

    Returns
    -------
    Path
        The run's directory.

    Raises
    ------
    UserError
        If something is wrong that the user can mend: no such model, events it cannot read, a run
        of something else in the directory.
    CheckFailed
        If the lint refuses the network, or a later gate failed; the report is written all the same.
    """
    from l1kd.evaluation import import_network as importing

    config = config_file.load(config_file.find(argument), overrides)
    directory = Path("runs") / config.name if directory is None else directory
    digest = importing.digest(model)
    if (directory / "manifest.json").exists():
        _check_version(directory)
        stored: run_files.Manifest = run_files.read(directory, "manifest.json")
        if stored.imported is None or stored.imported.sha256 != digest:
            held = (
                "a network that was trained in it"
                if stored.imported is None
                else (f"the network of another file, {stored.imported.file}")
            )
            raise UserError(
                f"{directory} holds {held}; give this one a directory of its own with --run"
            )
    else:
        _check_free(directory)
    context = _context(directory, config, console)
    network = importing.prepare(model, digest, context, lossy=lossy)
    context = context.configured(importing.configuration(config, network))
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory), logged(directory):
        manifest = _prepare(context, network.record)

        def stage(context: Context) -> None:
            manifest.imported = network.record
            manifest.imported = importing.import_(context, network)

        try:
            execute(context, manifest, "import", always=False, function=stage)
        except CheckFailed:
            execute(context, manifest, "report", always=True)
            raise
        _every_stage(context, manifest, order(context.config)[1 : STAGES.index(until) + 1])
    return directory


def _every_stage(context: Context, manifest: run_files.Manifest, stages: Sequence[AnyStage]) -> None:
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
    with locked(directory), logged(directory):
        manifest: run_files.Manifest = run_files.read(directory, "manifest.json")
        sequence = order(context.config)
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
    """Whether a run has come to its end: `run_configuration` would find nothing to do.

    Loads no TensorFlow.

    Raises
    ------
    UserError
        If the directory holds something else.
    """
    if not (directory / "manifest.json").exists():
        _check_free(directory)
        return False
    if _is_new(directory):
        return False
    _check_version(directory)
    _changes(directory, config, _IDENTITY)
    context = _context(directory, config, None)
    manifest: run_files.Manifest = run_files.read(directory, "manifest.json")
    return all(finished(context, manifest, stage) for stage in STAGES[: STAGES.index(until) + 1])


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
    return _context(directory, config_file.load_resolved(directory / "config.yaml"), console)


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
    from l1kd.training.train import check

    check(context)


def _check_free(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(_contents(directory))):
        raise UserError(
            f"{directory} exists and is not a run; name another directory with --run, or empty it"
        )


def _contents(directory: Path) -> Iterator[Path]:
    """What is in a directory, but for what a run that was killed as it began may have left."""
    return (
        path
        for path in directory.iterdir()
        if path.name not in (".lock", "l1kd.log") and not re.match(r"\..*\.part\.", path.name)
    )


def _is_new(directory: Path) -> bool:
    """Whether nothing has run yet. The manifest is written before the configuration."""
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
    """What differs from the configuration that the run was made with.

    Raises
    ------
    UserError
        If that makes it another experiment.
    """
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
    from l1kd.core.files import read_json

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
