"""A run: a directory that holds all of one configuration's results, made stage by stage."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import pkgutil
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from l1kd import __version__
from l1kd.core import config_file, files, run_files
from l1kd.core.config import Config, IoType, Student, VendorTool
from l1kd.core.context import Context, plain_console
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import call, held, temporary_files_in
from l1kd.core.run_files import RUN
from l1kd.core.stages import GIVEN, SPECS, STAGES, AnyStage, Stage, order
from l1kd.core.sweep_config import differences
from l1kd.core.teacher_config import Teacher
from l1kd.networks.tensorflow_setup import check_memory, prepare_tensorflow
from l1kd.runs import event_files

# Firmware and evaluation are imported where they are used: a run says something before that.

logger = logging.getLogger("l1kd")

_Named = TypeVar("_Named", Student, Teacher)
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
) -> Path:
    """Create or resume a run, by default `runs/<name>`; CheckFailed, in the end, if a gate did."""
    config = _load(argument, overrides)
    if config.imported:
        raise UserError(
            f"{argument}: students of the architecture 'imported' come with a model file: "
            "`l1kd import MODEL CONFIG`"
        )
    directory = Path("runs") / config.name if directory is None else directory
    context = context_of(directory, config)
    RUN.check(directory)
    if not (directory / "manifest.json").exists():
        context.say(f"{config.name}: reading the events of {config.data.source}")
        _ = context.dataset  # before the import of TensorFlow, which takes seconds
        context.say("building the networks, once to find mistakes")
        check_memory()
        from l1kd.training.train import check

        check(context)
        directory.mkdir(parents=True, exist_ok=True)
    with at_work(directory):
        _prepare(context).execute_each(STAGES[: STAGES.index(until) + 1])
    return directory


def import_network(
    model: Path,
    argument: str,
    directory: Path | None = None,
    *,
    lossy: bool = False,
    cut: str | None = None,
    until: Stage = "report",
    overrides: Sequence[str] = (),
) -> Path:
    """Create or resume a run from a trained network: all stages but training, no teacher."""
    from l1kd.evaluation import import_network as importing

    config = _load(argument, overrides)
    directory = Path("runs") / config.name if directory is None else directory
    digest = importing.digest(model)
    RUN.check(directory)
    if (directory / "manifest.json").exists():
        own = run_files.read(directory, "manifest.json").imported
        if own is None or own.sha256 != digest:
            other = f"of another file, {own.file}" if own else "that was trained in it"
            raise UserError(
                f"{directory} holds a network {other}; give this one a directory of its own with "
                "--run"
            )
    context = context_of(directory, config)
    context.say(f"{config.name}: reading {model}")
    check_memory()
    network = importing.prepare(model, digest, context, lossy=lossy, cut=cut)
    context = context.configured(importing.configuration(config, network))
    directory.mkdir(parents=True, exist_ok=True)
    with at_work(directory):
        runner = _prepare(context, network.record)

        def stage(context: Context) -> None:
            runner.manifest.imported = network.record  # is there also if the lint refuses it
            runner.manifest.imported = importing.import_(context, network)

        runner.execute_gate("import", always=False, function=stage)
        runner.execute_each(order(imported=True)[1 : STAGES.index(until) + 1])
    return directory


def _load(argument: str, overrides: Sequence[str]) -> Config:
    """The configuration that a command names; of a run's, the events are where they are here."""
    file, known = config_file.find(argument), None
    if file.name == "config.yaml" and (file.parent / "manifest.json").is_file():
        stored, run = config_file.load_resolved(file), file.parent
        with contextlib.suppress(UserError):  # a `--set` may name them
            known = event_files.located(stored.data, run_files.read(run, "manifest.json").data, run)
    return config_file.load(file, overrides, known)


def run_stage(stage: Stage, directory: Path) -> None:
    """Run one stage of an existing run, also if its result is there, unless that is a training.

    The gate `verify` judges a run that cannot be written, too, and stores nothing.
    """
    aside = stage == "verify" and not writable(directory)
    with opened(directory, lock=not aside) as runner:
        imported, stages = runner.context.config.imported, runner.manifest.stages
        sequence = order(imported)
        if stage not in sequence:
            raise UserError(
                f"{directory} holds an imported network: there is no teacher and nothing to train"
            )
        first = stages.get(sequence[0])
        refused = imported and first is not None and first.state == "failed"
        for earlier in sequence[: sequence.index(stage)]:
            record = stages.get(earlier)
            if record is None or record.state == "running" or not runner.written(earlier):
                if stage == "report" and (refused or earlier not in (sequence[0], "evaluate")):
                    continue  # the page says what has not run
                remedy = f"l1kd {earlier} {directory}"
                if earlier == "import":
                    remedy = f"l1kd import MODEL CONFIG --run {directory}"
                raise UserError(
                    f"{directory}: the stage '{earlier}' has not finished, and '{stage}' needs it; "
                    f"run `{remedy}` first"
                )
        if aside:
            runner.judge(stage)
        else:
            runner.execute_gate(stage, always=stage != "train")


def deliver_emulator(directory: Path, student: str | None = None, out: Path | None = None) -> Path:
    """Build a student's emulator, in `out` or the run, and compare it; its directory."""
    from l1kd.firmware.hls.emulator import deliver
    from l1kd.firmware.verify.comparison import compare_emulator

    lock = out is None or writable(directory)
    with opened(directory, lock=lock) as runner:
        for stage in order(runner.context.config.imported)[:-1]:  # all but the report
            record = runner.manifest.stages.get(stage)
            if record is None or record.state != "done":
                why = record.message if record else None
                state = f"FAILED: {why}" if why else "is not finished"
                runner.context.say(f"{directory}: {stage} {state}; its emulator is built")
        runner.context.say("building the emulator")
        with runner.context.clock("emulator"):
            name, emulator = deliver(directory, student, out)
        try:
            compare_emulator(runner.context, name, emulator)
        finally:
            if lock:
                runner.refresh_report()
    return emulator.directory


def run_vendor_tool(
    directory: Path,
    tool: VendorTool,
    steps: str,
    *,
    student: str | None = None,
    io_type: IoType | None = None,
    limit: float,
) -> None:
    """Run a vendor's tool on a student's projects: `steps`, by commas, `limit` seconds each."""
    from l1kd.firmware.hls.backends import BACKENDS, backend_named, parse_steps
    from l1kd.firmware.run_firmware import certificate_of, projects_of_student
    from l1kd.firmware.vendor_tools.run_tool import instructions, run_steps

    wanted = parse_steps(steps)
    (backend,) = (each for each in BACKENDS.values() if each.tool == tool)
    with opened(directory) as runner:
        name, own = projects_of_student(directory, student)
        projects = [each for each in own if io_type in (None, each.record.io_type)]
        if not projects:
            raise UserError(
                f"{directory}: there is no {io_type} project of the student {name!r}; it has "
                f"{', '.join(each.label for each in own)}"
            )
        if other := [each for each in projects if each.record.backend != backend.name]:
            kind = backend_named(other[0].record.backend)
            raise UserError(
                f"{other[0].label} is written for {kind.name}: use --tool {kind.tool}, or "
                f"convert anew: l1kd run CONFIG --set firmware.backend={backend.name}"
            )
        for project in projects:
            certificate_of(directory, project)
        program = backend.find(wanted)
        if program is None:
            for line in instructions(directory, projects, wanted):
                runner.context.say(line)
            names = " or ".join(each.name for each in backend.programs)
            raise UserError(
                f"no {names} is on the PATH; source the tool's "
                "settings64.sh, or run the commands above where it is and bring the results back: "
                f"l1kd synth {directory} --collect DIR"
            )
        with _results_kept(runner):
            for project in projects:
                run_steps(runner.context, project, program, wanted, limit)


def collect_results(directory: Path, results: Path) -> Sequence[str]:
    """Put vendors' results that were brought back into the run; names of their projects."""
    from l1kd.firmware.run_firmware import projects_of
    from l1kd.firmware.vendor_tools.tool_results import collect, folders

    folders(results)  # says what is wrong
    with opened(directory) as runner:
        projects = [each for group in projects_of(directory).values() for each in group]
        with _results_kept(runner):
            return collect(runner.context, projects, results)


@contextlib.contextmanager
def _results_kept(runner: Runner) -> Iterator[None]:
    """Refresh the run's files after a tool's work, also if it failed."""
    try:
        yield
    except (UserError, CheckFailed):
        with contextlib.suppress(UserError, CheckFailed):  # the first is what has to be known
            _refresh(runner)
        raise
    _refresh(runner)


def _refresh(runner: Runner) -> None:
    """Put the tools' results into `resources.json`, and into the report where there is one."""
    try:
        runner.execute("synth", always=True)
    finally:  # also if a budget is missed
        runner.refresh_report()


def is_done(directory: Path, config: Config, until: Stage) -> bool:
    """The run has come to its end: `run_configuration` would find nothing to do. No TensorFlow."""
    RUN.check(directory)
    if _is_new(directory):
        return False
    config, places = _as_stored(directory, _with_copies(config)[0])
    _changes(directory, config, _IDENTITY)
    runner = Runner(context_of(directory, config), places)
    return all(runner.finished(stage) for stage in STAGES[: STAGES.index(until) + 1])


def open_context(directory: Path) -> Context:
    """An existing run as its stages see it; UserError if it is none, or of another version."""
    run_files.check_run(directory)
    context = context_of(directory, config_file.load_resolved(directory / "config.yaml"))

    def events() -> Any:
        hashes = run_files.read(directory, "manifest.json").data
        places = event_files.located(context.config.data, hashes, directory)
        data = event_files.section(context.config.data, places)
        try:
            return event_files.opened(data, context.config.seed)
        except UserError as error:
            raise UserError(
                f"{error} ({directory / 'config.yaml'} names its events in the section `data`)"
            ) from error

    return dataclasses.replace(context, open_events=events)


def context_of(directory: Path, config: Config, console: Console | None = None) -> Context:
    """A run as its stages see it; its events are opened when one first asks."""
    open_events = functools.partial(event_files.opened, config.data, config.seed)
    return Context(directory, config, console or plain_console(), open_events)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it ends."""
    busy = f"{directory} is in use by another l1kd process; wait for it, or name another run"
    files.check_own_files(directory)
    with held(directory / ".lock", busy):
        files.sweep(directory)
        with temporary_files_in(directory):
            yield


def writable(directory: Path) -> bool:
    """True if this user may write into a run."""
    read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    return os.access(directory, os.W_OK) and not read_only


class _Log(logging.FileHandler):
    """On a full disk the stage itself says what is wrong; a traceback of the log's says less."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without the line."""


def _without_place(text: str, directory: Path) -> str:
    """A text that is kept in a run, which may be moved with it: the run is `RUN` in it."""
    places = {str(each) for each in (directory, directory.absolute(), directory.resolve())}
    names = "|".join(re.escape(each) for each in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])(?:{names})(?![\w.-])", "RUN", text)


class _WithoutPlace(logging.Formatter):
    """Writes lines of a run's log."""

    def __init__(self, directory: Path) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._directory = directory

    def format(self, record: logging.LogRecord) -> str:
        """The line, with `RUN` for the run's directory."""
        return _without_place(super().format(record), self._directory)


@contextlib.contextmanager
def at_work(directory: Path) -> Iterator[None]:
    """Hold the run and write its `l1kd.log`."""
    with locked(directory):
        handler = _Log(directory / "l1kd.log", encoding="utf-8")
        handler.setFormatter(_WithoutPlace(directory))
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


@contextlib.contextmanager
def opened(directory: Path, *, lock: bool = True) -> Iterator[Runner]:
    """An existing run to work in, which is held and logged, or only read."""
    context = open_context(directory)
    if lock and not writable(directory):
        raise UserError(
            f"{directory} cannot be written; copy the run (cp -r {directory} COPY) and use the "
            "copy. A run that stays as it is can be scored, compared, checked, verified; `emulator "
            "--out DIR` and `export RUN ARCHIVE` write elsewhere"
        )
    with at_work(directory) if lock else contextlib.nullcontext():
        yield Runner(context)


@dataclass(frozen=True)
class Runner:
    """Runs the stages of a run, and records them in its manifest."""

    context: Context
    # where files of the manifest's `data` are, as far as the command named them; others are found
    places: dict[str, Path] = field(default_factory=dict)

    @functools.cached_property
    def manifest(self) -> run_files.Manifest:
        """Contents of `manifest.json`, read once."""
        manifest: run_files.Manifest = run_files.read(self.context.directory, "manifest.json")
        return manifest

    def execute_each(self, stages: Sequence[AnyStage]) -> None:
        """Run stages whose result is not there; a gate that fails does not stop those after it."""
        failure: CheckFailed | None = None
        with contextlib.ExitStack() as beside:
            for stage in stages:
                if stage == "verify" and "synth" in stages and not self.finished("synth"):
                    from l1kd.firmware import synth

                    beside.enter_context(synth.beside(self.context))
                try:
                    self.execute(stage, always=False)
                except CheckFailed as error:
                    self.context.say(f"{stage}: FAILED: {error}")
                    failure = failure or error
        if failure is not None:
            raise failure

    def execute_gate(self, stage: AnyStage, **options: Any) -> None:
        """As `execute`; a gate that fails is in the report."""
        try:
            self.execute(stage, **options)
        except CheckFailed:
            with contextlib.suppress(UserError):
                self.execute("report", always=True)
            raise

    def execute(
        self, stage: AnyStage, *, always: bool, function: Callable[[Context], None] | None = None
    ) -> None:
        """Run a stage, or `function` in its place, if it is not finished or `always`."""
        context, manifest = self.context, self.manifest
        stages = order(context.config.imported)
        if not always and self.finished(stage):
            context.say(f"{stage}: done already")
            return
        context.say(f"{stage} (stage {stages.index(stage) + 1} of {len(stages)}) ...")
        started = time.monotonic()
        manifest.stages[stage] = run_files.StageRecord(state="running", inputs=self._inputs(stage))
        run_files.write(context.directory, "manifest.json", manifest)
        if SPECS[stage].tensorflow:
            prepare_tensorflow(context.threads)
        failure: CheckFailed | None = None
        try:
            with context.clock(stage):
                (function or pkgutil.resolve_name(SPECS[stage].function))(context)
        except CheckFailed as error:
            failure = error
        duration = round(time.monotonic() - started, 3)
        manifest.firmware = _projects(context.directory)
        link_projects(context)
        manifest.stages[stage] = run_files.StageRecord(
            state="failed" if failure else "done",
            duration_s=duration,
            inputs=self._inputs(stage),
            message=_without_place(str(failure), context.directory) if failure else None,
        )
        run_files.write(context.directory, "manifest.json", manifest)
        if failure:
            raise failure
        context.say(f"{stage}: done in {duration:.0f} s")

    def judge(self, stage: AnyStage) -> None:
        """Run a gate whose results are told and not stored."""
        context, started = self.context, time.monotonic()
        prepare_tensorflow(context.threads)
        context.say(f"{stage}: {context.directory} cannot be written; nothing will be stored")
        with tempfile.TemporaryDirectory(prefix="l1kd-aside-") as aside, context.clock(stage):
            function = pkgutil.resolve_name(SPECS[stage].function)
            function(dataclasses.replace(context, aside=Path(aside)))
        context.say(f"{stage}: passed in {time.monotonic() - started:.0f} s; nothing was stored")

    def refresh_report(self) -> None:
        """Write the report anew, where there is one."""
        if "report" in self.manifest.stages:
            self.execute("report", always=True)

    def finished(self, stage: AnyStage) -> bool:
        """A stage's result is there and follows from what is there now."""
        record = self.manifest.stages.get(stage)
        return (
            record is not None
            and record.state == "done"
            and self.written(stage)
            and record.inputs == self._inputs(stage)
        )

    def written(self, stage: AnyStage) -> bool:
        """The files that a stage leaves behind are there."""
        context = self.context
        students = (context.student_file(student.name) for student in context.config.students)
        return all(file.is_file() for file in students) and all(
            any(context.directory.glob(pattern)) for pattern in SPECS[stage].writes
        )

    def _inputs(self, stage: AnyStage) -> str:
        """Hash of everything a stage's result follows from."""
        spec, directory = SPECS[stage], self.context.directory
        found = {path for pattern in spec.reads for path in directory.glob(pattern)}
        relevant: dict[str, Any] = {
            "config": self.context.config.model_dump(mode="json", include=set(spec.sections)),
            "files": {
                path.relative_to(directory).as_posix(): files.file_hash(path)
                for path in sorted(found)
                if path.is_file() and path.name != "manifest.json"  # it changes with every stage
            },
        }
        if "data" in spec.sections:
            # What is not here cannot have changed; a stage that reads it says that it is not.
            relevant["data"] = {
                name: event_files.event_hash(path) if (path := self._place(name)) else digest
                for name, digest in self.manifest.data.items()
            }
        if stage == "import" and (imported := self.manifest.imported) is not None:
            relevant["model"] = [imported.sha256, imported.lossy, *filter(None, [imported.cut])]
        return files.content_hash(relevant)

    def _place(self, name: str) -> Path | None:
        """Place of a file of events on this machine."""
        if name not in self.places:
            found = event_files.find(name, self.manifest.data[name], self.context.directory)
            if found is None:
                return None
            self.places[name] = found
        return self.places[name]


def evaluate_within_budgets(context: Context) -> None:
    """The stage `evaluate`, with costs; CheckFailed if no student is within the budgets."""
    from l1kd.evaluation.evaluate import evaluate
    from l1kd.firmware import budgets

    budgets.check_choice(evaluate(context, budgets.estimates(context)))


def _projects(run: Path) -> dict[str, str]:
    """The projects of a run: name to directory, relative to the run."""
    hls, rtl = (
        run_files.read(run, name) if (run / name).exists() else []
        for name in ("firmware.json", "rtl.json")
    )
    found = {f"{p.student}-{p.backend}-{p.io_type}-{p.strategy}": p.directory for p in hls}
    if found:
        found |= {f"{p.student}-rtl": p.directory for p in rtl if p.directory is not None}
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


def _versions() -> dict[str, str]:
    """Versions of this package, Python and what decides numbers; absent packages are left out."""
    found = {"l1kd": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "qkeras", "hls4ml", "da4ml", "alkaid", "numpy", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _git_commit() -> str | None:
    """The checkout's commit, if this package runs from one."""
    package = str(Path(__file__).parents[1])
    with contextlib.suppress(UserError):
        answer = call(["git", "-C", package, "rev-parse", "--show-toplevel", "HEAD"], limit=10)
        root, _, commit = answer.stdout.decode().strip().partition("\n")
        if not answer.returncode and Path(root, "l1kd", "__init__.py").is_file():
            return commit
    return None


def _is_new(directory: Path) -> bool:
    """Nothing has run yet. The manifest is written before the configuration."""
    if not (directory / "manifest.json").exists():
        return True
    RUN.check_version(directory)
    if (directory / "config.yaml").exists():
        return False
    if run_files.read(directory, "manifest.json").stages:
        raise UserError(f"{directory} has lost its config.yaml; make a new run")
    return True


def _prepare(context: Context, imported: run_files.Imported | None = None) -> Runner:
    """The run with its manifest, new or as it was; configuration and networks stored with it."""
    directory, config = context.directory, context.config
    if imported is None:
        config, networks = _with_copies(config)
        context = context.configured(config)
        for name, path in networks.items():
            if not (directory / name).is_file():
                with files.atomic(directory / name) as temporary:
                    shutil.copyfile(path, temporary)
    if _is_new(directory):
        read = context.dataset.files
        names = event_files.names(config.data, read, directory)
        places = {names[file]: Path(file) for file in read}
        config = config.model_copy(update={"data": event_files.section(config.data, names)})
        manifest = run_files.Manifest(
            name=config.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=_versions(),
            git_commit=_git_commit(),
            seed=config.seed,
            threads=context.threads,
            machine=f"{platform.system()} {platform.machine()}",
            data={name: files.file_hash(path) for name, path in places.items()},
            imported=imported,
        )
        run_files.write(directory, "manifest.json", manifest)
        config_file.save(config, directory / "config.yaml")
    else:
        config, places = _as_stored(directory, config)
        manifest = run_files.read(directory, "manifest.json")
        if changed := _changes(directory, config, _IDENTITY_IMPORTED if imported else _IDENTITY):
            config_file.save(config, directory / "config.yaml")
            context.say(f"configuration changed: {'; '.join(changed)}")
    event_files.remember(manifest.data, places)
    return Runner(context.configured(config), places)


def _as_stored(directory: Path, config: Config) -> tuple[Config, dict[str, Path]]:
    """A configuration with its events named as an existing run does, and where they are here."""
    stored = config_file.load_resolved(directory / "config.yaml")
    hashes = run_files.read(directory, "manifest.json").data
    names, places = event_files.matched(config.data, stored.data, hashes, directory)
    data = event_files.section(config.data, names)
    return config.model_copy(update={"data": data}), places


def _with_copies(config: Config) -> tuple[Config, dict[str, Path]]:
    """The configuration with its networks' files as the run names its copies; these, by name.

    A copy is named by its content, so that the same network under another path is the same run.
    """
    found: dict[str, Path] = {}

    def stored(network: _Named) -> _Named:
        if network.file is None:
            return network
        if not (path := Path(network.file)).is_file():
            raise UserError(f"no model file at {path}")
        name = f"{GIVEN}/{files.file_hash(path)[:16]}{path.suffix.lower()}"
        found[name] = path
        return network.model_copy(update={"file": name})

    students = [stored(each) for each in config.students]
    named = {"teacher": stored(config.teacher), "students": students}
    return config.model_copy(update=named), found


def _changes(directory: Path, config: Config, identity: tuple[str, ...]) -> list[str]:
    """Differences from the run's configuration; UserError if they make it another experiment."""
    stored = config_file.load_resolved(directory / "config.yaml")
    changed = _differences(stored.model_dump(mode="json"), config.model_dump(mode="json"))
    another = [text for key, text in changed.items() if key.split(".")[0] in identity]
    if another:
        raise UserError(
            f"{directory} holds a run of another configuration ({'; '.join(another)}); "
            "give this one a directory of its own with --run"
        )
    return list(changed.values())


def _differences(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
    """Dotted key -> `key: old -> new` of what differs between two configurations."""
    differ = differences(stored, given).items()
    return {key: f"{key}: {_short(old)} -> {_short(new)}" for key, (old, new) in differ}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
