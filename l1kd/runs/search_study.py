"""A study: a directory in which several processes and machines search together.

`config.yaml` (resolved), `study.json`, `teacher/` (a run), `targets.npz` (what the frozen teacher
says of the events), `references.json` (the run's students, judged like candidates), `journal.log`
(Optuna's, appended under a lock), `students/` (one network per trial), and the front: `front.json`,
`front.md`, `front.png`, `front.svg`, `front/*.yaml`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l1kd import __version__
from l1kd.core import config_file
from l1kd.core.config import Config, Search, Space, Student
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.files import read_json, write_json
from l1kd.core.processes import held
from l1kd.runs.run import context_of

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

NAME = "found"
COSTS = ("lut", "latency")  # objectives of which less is better
_STEP = 0.05  # of sparsities
_FORMAT = 1
# What has no influence on a trial may differ between two commands on one study.
_FREE = ("name", "threads", "verify", "choose", "rtl")
_STARTUP = 16  # trials at random before the sampler follows what it has seen
_UNSIGNED = timedelta(minutes=1)  # after which a trial that no worker has signed is given up
_FAILED = "failed"


def propose(trial: optuna.trial.BaseTrial, space: Space) -> Student:
    """Draw a student; what is drawn for its layers depends on their numbers, drawn before."""
    architecture = trial.suggest_categorical("architecture", space.architectures)
    options: dict[str, Any] = {"name": NAME, "architecture": architecture}
    layers = []
    if architecture == "conv":
        options["filters"] = trial.suggest_int("filters", *space.filters)
        chosen = trial.suggest_categorical("kernel", [_text(sides) for sides in space.kernels])
        options["kernel"] = tuple(int(side) for side in chosen.split("x"))
        layers.append("conv1")
    count = trial.suggest_int("hidden_layers", *space.hidden_layers)
    names = [f"dense{number}" for number in range(1, count + 1)]
    options["hidden"] = [trial.suggest_int(f"{name}.units", *space.hidden) for name in names]
    own: dict[str, dict[str, Any]] = {}
    for layer in (*layers, *names, "output"):
        bits = trial.suggest_int(f"{layer}.weight_bits", *space.weight_bits)
        integer = trial.suggest_int(f"{layer}.weight_integer", *space.weight_integer)
        own[layer] = {"weight_bits": bits, "weight_integer": integer}
        if layer != "output":
            bits = trial.suggest_int(f"{layer}.activation_bits", *space.activation_bits)
            own[layer]["activation_bits"] = bits
    steps = trial.suggest_int("pruned", 0, _steps(space))
    own[[*names, "output"][0]]["sparsity"] = round(space.sparsity[0] + steps * _STEP, 6)
    options["layers"] = own
    options["logic_penalty"] = trial.suggest_float("logic_penalty", *space.logic_penalty, log=True)
    return Student.model_validate(options)


def beginnings(space: Space) -> list[dict[str, Any]]:
    """Parameters of the first trials: the largest student of the space, and one in its middle."""
    found = []
    for size in (1.0, 0.5):
        trial = _TrialOfSize(size)
        propose(trial, space)  # type: ignore[arg-type]
        found.append(trial.parameters)
    return found


@dataclass(frozen=True)
class _TrialOfSize:
    """Stands for a trial that draws sizes and widths at a share of their ranges."""

    size: float
    parameters: dict[str, Any] = field(default_factory=dict)

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        return self.parameters.setdefault(name, choices[0])  # type: ignore[no-any-return]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        share = {"hidden_layers": 1.0, "pruned": 1 - self.size}.get(name, self.size)
        value = low + round(share * (high - low))
        return self.parameters.setdefault(name, value)  # type: ignore[no-any-return]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        value = low * (high / low) ** (1 - self.size)
        return self.parameters.setdefault(name, value)  # type: ignore[no-any-return]


def _steps(space: Space) -> int:
    return int((space.sparsity[1] - space.sparsity[0]) / _STEP + 1e-9)


def describe(student: Student) -> str:
    """A student's topology in a few words: `conv 3@2x2 (6b) - 8 (5b) - 1 (4b)`."""

    def bits(layer: str) -> str:
        own = student.layers.get(layer)
        width = (own.weight_bits if own else None) or student.weight_bits
        return f" ({width}b)" if width else ""

    parts = []
    if student.architecture == "conv":
        parts.append(f"{student.filters or 4}@{_text(student.kernel or (2, 2))}{bits('conv1')}")
    if student.architecture in ("conv", "dense"):
        parts += [f"{u}{bits(f'dense{n}')}" for n, u in enumerate(student.hidden, 1)]
        return " - ".join([*parts, f"1{bits('output')}"])
    return student.architecture


def _text(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"


@dataclass(frozen=True)
class Place:
    """A study's directory."""

    directory: Path

    @property
    def teacher(self) -> Path:
        """The run of the teacher and the reference students."""
        return self.directory / "teacher"

    @property
    def targets(self) -> Path:
        """The candidates' training data: events with the teacher's targets."""
        return self.directory / "targets.npz"

    @property
    def references(self) -> Path:
        """The reference students' quality and cost."""
        return self.directory / "references.json"

    def student(self, number: int) -> Path:
        """The network of a trial."""
        return self.directory / "students" / f"{number:04d}.keras"

    @cached_property
    def config(self) -> Config:
        """The study's configuration."""
        try:
            version = read_json(self.directory / "study.json")["format_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.directory} is no study (study.json: {error}); `l1kd search CONFIG` makes "
                "one"
            ) from error
        if version != _FORMAT:
            raise UserError(
                f"{self.directory} was made in format {version}; this is l1kd {__version__}, which "
                f"reads format {_FORMAT}: use the version that made it, or make a new study"
            )
        return config_file.load_resolved(self.directory / "config.yaml")

    @property
    def search(self) -> Search:
        """The section `search` of its configuration."""
        return self.config.search or Search()

    def context(self, console: Console) -> Context:
        """The teacher's run as its stages see it."""
        return context_of(self.teacher, self.config, console)

    def claim(self, config: Config) -> None:
        """Make the directory this configuration's study, or find that it is."""
        if (self.directory / "study.json").exists():
            given, held = _identity(config), _identity(self.config)
            if given != held:
                changed = sorted(key for key in given if given[key] != held.get(key))
                raise UserError(
                    f"{self.directory} holds a study of another configuration (differs in "
                    f"{', '.join(changed)}); name another directory with --study"
                )
            return
        names = [path.name for path in self.directory.iterdir()]
        # A study that was stopped as it began has its configuration and hidden files.
        strange = [name for name in names if name != "config.yaml" and not name.startswith(".")]
        if strange:
            raise UserError(
                f"{self.directory} exists and is not a study (it has {strange[0]}); name another "
                "directory with --study, or empty it"
            )
        config_file.save(config, self.directory / "config.yaml")
        write_json(self.directory / "study.json", {"format_version": _FORMAT, "l1kd": __version__})

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold one of the study's locks, waiting for it; it goes with the process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with held(self.directory / f".{name}"):
            yield

    def open(self) -> optuna.Study:
        """The study's trials, in a journal; held under the lock `ask` where it may be new."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path, search = self.directory / "journal.log", self.search
        lock = JournalFileSymlinkLock(str(path))
        _mend(path, lock)
        best = optuna.study.StudyDirection
        directions = [best.MINIMIZE if n in COSTS else best.MAXIMIZE for n in search.objectives]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = JournalStorage(JournalFileBackend(str(path), lock))
                study = optuna.create_study(
                    storage=storage, study_name="search", directions=directions, load_if_exists=True
                )
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}: a damaged journal ({error}); make a new study") from error
        if not study.get_trials(deepcopy=False):
            for parameters in beginnings(search.space):
                study.enqueue_trial(parameters, skip_if_exists=True)
        return study


def _identity(config: Config) -> dict[str, Any]:
    given = config.model_dump(mode="json", exclude=set(_FREE))
    search = (config.search or Search()).model_dump(mode="json", exclude={"trials"})
    return {**given, "search": search}


def _mend(path: Path, lock: Any) -> None:
    """Take away a last line that was not written to its end: a machine stopped in its midst."""
    if not path.exists():
        return
    lock.acquire()
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as handle:
                handle.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


class Worker:
    """A process that takes trials from a study until everyone together finished `trials`.

    It holds a lock file as long as it lives: others tell by it whether its trial still runs.
    """

    def __init__(self, place: Place, trials: int) -> None:
        self.place, self.trials = place, trials
        with place.locked("ask"):
            self.study = place.open()
        self._name = uuid.uuid4().hex
        self._file = place.directory / "workers" / self._name
        self._file.parent.mkdir(exist_ok=True)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(held(self._file))
        self._file.write_text(f"{socket.gethostname()} {os.getpid()}\n")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.unlink(missing_ok=True)
        self._lock.close()

    def counts(self) -> tuple[int, int]:
        """Trials that are finished, and that run."""
        trials = self.study.get_trials(deepcopy=False)
        states = [trial.state.name for trial in trials]
        failed = sum(_FAILED in trial.user_attrs for trial in trials)
        return states.count("COMPLETE") + failed, states.count("RUNNING")

    def ask(self) -> optuna.Trial | None:
        """The next trial; None if enough are finished or running."""
        with self.place.locked("ask"):
            self.bury()
            done, running = self.counts()
            if done + running >= self.trials:
                return None
            # Proposals follow from what is known and from how many there were, not from how often
            # a process was started.
            self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            trial.set_user_attr("worker", self._name)
            return trial

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = self.place.search.seed
        seed = self.place.config.seed if seed is None else seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + number) % 2**32,
                n_startup_trials=_STARTUP,
                multivariate=True,
                group=True,
            )

    def finish(self, trial: optuna.Trial, values: list[float]) -> None:
        """A trial's objectives."""
        self.study.tell(trial, values)

    def give_up(self, trial: optuna.Trial, reason: str | None) -> None:
        """A trial without objectives; without a reason it is not counted as one."""
        from optuna.trial import TrialState

        if reason is not None:
            trial.set_user_attr(_FAILED, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def bury(self) -> None:
        """Mark trials as failed whose process has ended."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            if worker is None:
                started = trial.datetime_start or datetime.min
                gone = datetime.now() - started > _UNSIGNED
            else:
                gone = worker != self._name and self._gone(worker)
            if gone:
                with contextlib.suppress(ValueError, RuntimeError):
                    self.study.tell(trial.number, state=TrialState.FAIL)

    def _gone(self, worker: str) -> bool:
        file = self._file.parent / worker
        if not file.exists():
            return True
        try:
            with held(file, "it works"):
                file.unlink(missing_ok=True)
                return True
        except UserError:
            return False
