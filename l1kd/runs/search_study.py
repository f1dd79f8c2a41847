"""A study: a directory in which several processes and machines search together.

`config.yaml`, `study.json`, `teacher/` (a run), `targets.npz` (labelled events), `references.json`
(its students, judged), `journal.log` (Optuna's), `students/` (one a trial), `front*`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState
from pydantic import BaseModel

from l1kd.core import config_file, files
from l1kd.core.config import Config, Student
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.processes import held
from l1kd.core.sweep_config import Objective, Search, Space
from l1kd.runs.run import context_of

STUDY = files.DirectoryKind("study", "study.json", damaged="make a new study")
NAME = "found"
_COSTS = ("lut", "latency")  # objectives to minimise
_STEP = 0.05  # of sparsities
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
    if architecture in ("conv", "set"):
        options["filters"] = trial.suggest_int("filters", *space.filters)
        chosen = trial.suggest_categorical("kernel", [_text(sides) for sides in space.kernels])
        options["kernel"] = tuple(int(side) for side in chosen.split("x"))
        layers.append("conv1")
    if architecture == "set" and (own := trial.suggest_int("pointwise", *space.pointwise)):
        options["pointwise"] = own
        layers.append("conv2")
    count = trial.suggest_int("hidden_layers", *space.hidden_layers)
    names = [f"dense{number}" for number in range(1, count + 1)]
    options["hidden"] = [trial.suggest_int(f"{name}.units", *space.hidden) for name in names]
    widths: dict[str, dict[str, Any]] = {}
    for layer in (*layers, *names, "output"):
        bits = trial.suggest_int(f"{layer}.weight_bits", *space.weight_bits)
        integer = trial.suggest_int(f"{layer}.weight_integer", *space.weight_integer)
        widths[layer] = {"weight_bits": bits, "weight_integer": integer}
        if layer != "output":
            bits = trial.suggest_int(f"{layer}.activation_bits", *space.activation_bits)
            widths[layer]["activation_bits"] = bits
    lowest, highest = space.sparsity
    steps = trial.suggest_int("pruned", 0, int((highest - lowest) / _STEP + 1e-9))
    widths[[*names, "output"][0]]["sparsity"] = round(lowest + steps * _STEP, 6)
    options["layers"] = widths
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


class _TrialOfSize:
    """Stands for a trial that draws sizes and widths at a share of their ranges."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.parameters: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        return self.parameters.setdefault(name, choices[0])

    def suggest_int(self, name: str, low: int, high: int) -> Any:
        share = {"hidden_layers": 1.0, "pruned": 1 - self.size}.get(name, self.size)
        return self.parameters.setdefault(name, low + round(share * (high - low)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> Any:
        return self.parameters.setdefault(name, low * (high / low) ** (1 - self.size))


class Judged(BaseModel, frozen=True):
    """A student's quality (means over the signals' validation halves) and estimated cost."""

    auc: float
    efficiency: float  # at a false-positive rate of 1e-3
    band: float | None = None  # over false-positive rates from 3e-4 to 3e-3; older studies: none
    lut: float  # by the estimate of its adder-only logic
    ff: float
    latency_cycles: int
    latency_ns: float
    weights: int  # of its kernels
    zeros: int  # weights that are 0

    def objective(self, name: Objective) -> float:
        """Its value for a search."""
        return float(self.latency_cycles if name == "latency" else getattr(self, name))

    def __str__(self) -> str:
        return (
            f"AUC {self.auc:.4f}, efficiency {100 * self.efficiency:.1f} %, "
            f"{self.lut:,.0f} LUT, {self.ff:,.0f} FF, {self.latency_cycles} cycles"
        )


def describe(student: Student) -> str:
    """A student's topology in a few words: `conv 3@2x2 (6b) - 8 (5b) - 1 (4b)`."""

    def bits(layer: str) -> str:
        own = student.layers.get(layer)
        width = (own.weight_bits if own else None) or student.weight_bits
        return f" ({width}b)" if width else ""

    parts = []
    if student.architecture in ("conv", "set"):
        filters = student.filters or (6 if student.architecture == "set" else 4)
        parts.append(f"{filters}@{_text(student.kernel or (2, 2))}{bits('conv1')}")
    if student.pointwise:
        parts.append(f"{student.pointwise}@1x1{bits('conv2')}")
    if student.architecture == "set":
        parts.append(f"sum {student.sum or 'phi'}")
    if student.architecture in ("conv", "dense", "set"):
        parts += [f"{u}{bits(f'dense{n}')}" for n, u in enumerate(student.hidden, 1)]
        return " - ".join([*parts, f"1{bits('output')}"])
    return student.architecture


def _text(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"


class Place:
    """A study's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.teacher = directory / "teacher"  # the run of the teacher and the reference students
        self.targets = directory / "targets.npz"  # events with the teacher's targets
        self.references = directory / "references.json"  # those students' quality and cost

    @cached_property
    def config(self) -> Config:
        """The study's configuration."""
        if not (self.directory / "study.json").is_file():
            raise UserError(
                f"{self.directory} is no study (no study.json); `l1kd search CONFIG` makes one"
            )
        STUDY.check_version(self.directory)
        return config_file.load_resolved(self.directory / "config.yaml")

    @property
    def search(self) -> Search:
        """The section `search` of its configuration."""
        return self.config.search or Search()

    def context(self) -> Context:
        """The teacher's run as its stages see it."""
        return context_of(self.teacher, self.config)

    def claim(self, config: Config) -> None:
        """Make the directory this configuration's study, or find that it is."""
        if all((self.directory / name).exists() for name in ("study.json", "config.yaml")):
            given, held = _identity(config), _identity(self.config)
            if given != held:
                changed = sorted(key for key in given if given[key] != held.get(key))
                raise UserError(
                    f"{self.directory} holds a study of another configuration (differs in "
                    f"{', '.join(changed)}); name another directory with --study"
                )
            return
        STUDY.check(self.directory)
        STUDY.write_record(self.directory)  # first: it marks the directory as ours
        config_file.save(config, self.directory / "config.yaml")

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold one of the study's locks, waiting for it; it goes with the process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with held(self.directory / f".{name}"):
            yield

    def open(self) -> optuna.Study:
        """The study's trials, in a journal; held under the lock `ask` where it may be new."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        path, search = self.directory / "journal.log", self.search
        lock = JournalFileSymlinkLock(str(path))
        _mend(path, lock)
        try:
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path), lock)),
                study_name="search",
                directions=["minimize" if o in _COSTS else "maximize" for o in search.objectives],
                load_if_exists=True,
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
    files.check_regular(path, f"no journal at {path}")
    lock.acquire()
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as handle:
                handle.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


class Worker(contextlib.ExitStack):
    """A process that takes trials; it holds a lock file, by which others tell whether it lives."""

    def __init__(self, place: Place, trials: int) -> None:
        super().__init__()
        self.place, self.trials = place, trials
        with place.locked("ask"):
            self.study = place.open()
        self._name = uuid.uuid4().hex
        self._file = place.directory / "workers" / self._name
        self._file.parent.mkdir(exist_ok=True)
        self.enter_context(held(self._file))
        self.callback(self._file.unlink, missing_ok=True)
        self._file.write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")

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
            seed, number = self.place.search.seed, len(self.study.get_trials(deepcopy=False))
            seed = self.place.config.seed if seed is None else seed
            self.study.sampler = optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + number) % 2**32,
                n_startup_trials=_STARTUP,
                multivariate=True,
                group=True,
            )
            trial = self.study.ask()
            trial.set_user_attr("worker", self._name)
            return trial

    def give_up(self, trial: optuna.Trial, reason: str | None) -> None:
        """A trial without objectives; without a reason it is not counted as one."""
        if reason is not None:
            trial.set_user_attr(_FAILED, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def bury(self) -> None:
        """Mark trials as failed whose process has ended."""
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
        if not re.fullmatch(r"[0-9a-f]{32}", worker):
            return True  # not written by l1kd
        file = self._file.parent / worker
        with contextlib.suppress(UserError), held(file, "it works"):
            file.unlink()
            return True
        return False
