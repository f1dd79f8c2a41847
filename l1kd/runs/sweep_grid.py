"""From a sweep's grid to runs: every configuration checked, every run named and made.

A Dask worker starts a run in a process of its own, and waits for it. Workers never import
TensorFlow: its threads are settled when it is imported, and what it holds goes with the process.

A sweep's directory holds `config.yaml` (resolved), `sweep.json` (the runs of the grid), `configs/`
(one configuration a run), `runs/` (ordinary runs), `logs/` (what their processes said), `.working/`
(a file for every run that a worker is at), and the tables: `runs.parquet`, `summary.parquet`,
`summary.md`, figures.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from distributed import get_worker

import l1kd.data.sources  # noqa: F401 - configurations know the sources by it
from l1kd import __version__
from l1kd.core import config_file, files, processes
from l1kd.core.config import Config, Point, Sweep
from l1kd.core.errors import UserError

_LONGEST = 64  # of a name
_LONGEST_PART = 24
_SECONDS = 0.5  # between two looks
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_ENVIRONMENT = ("L1KD_DATA", "XDG_CACHE_HOME")  # where events are, unless a worker has its own
_TAIL = 8192  # bytes of a file
SWEEP = files.DirectoryKind("sweep", "sweep.json", damaged="delete that file")


@dataclass(frozen=True)
class Job:
    """A run of a sweep; its name is unique, also where case makes no difference."""

    name: str
    group: str
    varied: dict[str, Any]
    config: Config


def expand(path: Path, overrides: Sequence[str]) -> tuple[Config, Sweep, list[Job]]:
    """The file's configuration, its sweep, and the runs in the grid's order.

    Overrides go over every run's values. UserError names group and key of a wrong point.
    """
    config = config_file.load(path, overrides)
    if config.sweep is None:
        raise UserError(
            f"{path} has no section `sweep`: it says `groups`, each with a `grid` of lists "
            "(docs/sweep.md)"
        )
    points = config.sweep.points()
    _check_overrides(points, overrides)
    configs = config_file.load_each(path, overrides, [point.settings for point in points])
    jobs: list[Job] = []
    for point, name in zip(points, _names(points), strict=True):
        try:
            found = next(configs)
        except UserError as error:
            raise UserError(f"{error} (group {point.group!r}, run {name})") from error
        if found.imported:
            raise UserError(f"{path}: an imported network is not trained; a sweep trains")
        own = {"name": name, "threads": found.threads or 1, "search": None, "sweep": None}
        jobs.append(Job(name, point.group, point.varied, found.model_copy(update=own)))
    return config, config.sweep, jobs


def _check_overrides(points: Sequence[Point], overrides: Sequence[str]) -> None:
    for text in overrides:
        key = text.partition("=")[0]
        for point in points:
            for varied in point.varied:
                if varied == key or varied.startswith(f"{key}."):
                    raise UserError(
                        f"--set {text}: the group {point.group!r} varies {varied}; set "
                        f"sweep.groups.{point.group}.grid.{varied} to a list instead"
                    )


def chosen(jobs: Sequence[Job], patterns: Sequence[str]) -> list[Job]:
    """The runs whose name fits a pattern; all if there is none."""
    patterns = patterns or ("*",)
    fitting = [j for j in jobs if any(fnmatch.fnmatchcase(j.name, each) for each in patterns)]
    if not fitting:
        some = ", ".join(job.name for job in jobs[:6])
        raise UserError(
            f"--only {' '.join(patterns)}: none of {len(jobs)} runs is named so; there are "
            f"{some}{', ...' if len(jobs) > 6 else ''}"
        )
    return fitting


def _names(points: Sequence[Point]) -> list[str]:
    names: dict[str, str] = {}
    for point in points:
        parts = [point.group, *(label(key, value) for key, value in point.varied.items())]
        name, digest = "-".join(parts), files.content_hash([point.group, point.varied])[:6]
        if len(name) > _LONGEST or name.lower() in names:
            name = f"{name[: _LONGEST - 7]}-{digest}"
        names[name.lower()] = name
    return list(names.values())


def label(key: str, value: Any) -> str:
    """A value as a part of a run's name: words as they are, numbers behind their key's last part.

    What cannot be read in a name is cut, and told from its like by a hash.
    """
    if isinstance(value, str):
        text, faithful = value, True
    elif isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        text = "_".join(map(str, value)) or "none"
        faithful = all(isinstance(item, str) and "_" not in item for item in value)
    elif isinstance(value, (bool, int, float)) or value is None:
        last = key.rsplit(".", 1)[-1]
        text, faithful = f"{last}{'default' if value is None else str(value).lower()}", True
    else:
        text, faithful = key.rsplit(".", 1)[-1], False
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:_LONGEST_PART]
    return plain if faithful and plain == text else f"{plain}-{files.content_hash(value)[:6]}"


@dataclass(frozen=True)
class GridDirectory:
    """A sweep's directory, by its absolute path; and this call's token."""

    directory: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def run(self, name: str) -> Path:
        """The directory of a run."""
        return self.directory / "runs" / name

    def log(self, name: str) -> Path:
        """Log of the run's process."""
        return self.directory / "logs" / f"{name}.log"

    def marker(self, name: str) -> Path:
        """There while a worker is at the run."""
        return self.directory / ".working" / name

    def config(self, name: str) -> Path:
        """The run's configuration."""
        return self.directory / "configs" / f"{name}.yaml"

    @property
    def stop(self) -> Path:
        """A file that tells this call's workers to give up."""
        return self.directory / f".stop-{self.token}"

    def claim(self, config: Config, jobs: Sequence[Job]) -> None:
        """Write down what is going to be run."""
        for name in ("runs", "logs", "configs", ".working"):
            (self.directory / name).mkdir(exist_ok=True)
        for left in [*self.directory.glob(".stop-*"), *(self.directory / ".working").iterdir()]:
            left.unlink(missing_ok=True)
        config_file.save(config, self.directory / "config.yaml")
        runs = {job.name: {"group": job.group, "grid": job.varied} for job in jobs}
        SWEEP.write_record(self.directory, runs=runs)


@dataclass(frozen=True)
class Order:
    """A run to be made. All paths are absolute: the worker may be elsewhere."""

    name: str
    place: GridDirectory
    until: str  # its last stage
    threads: int
    environment: dict[str, str]  # unless the worker has its own
    version: str = __version__  # of the l1kd that ordered it

    @classmethod
    def of(cls, job: Job, place: GridDirectory, until: str) -> Order:
        """Order to make a run; writes the run's configuration."""
        config_file.save(job.config, place.config(job.name))
        own = {k: str(Path(v).absolute()) for k in _ENVIRONMENT if (v := os.getenv(k))}
        return cls(job.name, place, until, job.config.threads or 1, own)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run."""

    code: int  # 128 + n if a signal n ended it
    reason: str  # its last line, if the code is not 0
    seconds: float
    host: str


def perform(order: Order) -> Outcome:
    """Make a run, or go on with it."""
    started, host = time.monotonic(), socket.gethostname()

    def outcome(code: int, reason: str) -> Outcome:
        return Outcome(code, reason, round(time.monotonic() - started, 3), host)

    if order.version != __version__:
        return outcome(2, f"{host} has l1kd {__version__}, and the sweep {order.version}")
    place, name = order.place, order.name
    if not place.config(name).is_file():
        where = "on a file system that all workers share, under the same path"
        return outcome(
            2, f"{host} does not see {place.config(name)}: a sweep's directory has to be {where}"
        )
    marker = place.marker(name)
    marker.write_text(json.dumps({"host": host, "worker": _address(), "since": time.time()}))
    try:
        with place.log(name).open("ab") as log:
            code = _supervise(order, log)
    finally:
        marker.unlink(missing_ok=True)
    return outcome(code, last_line(place.log(name)) if code else "")


def _address() -> str | None:
    """As the scheduler knows this worker."""
    try:
        return str(get_worker().address)
    except ValueError:  # called by hand
        return None


def _supervise(order: Order, log: IO[bytes]) -> int:
    """Exit code of the run; its process ends with this one, and when the sweep is given up."""
    environment = {**order.environment, **os.environ}
    environment |= dict.fromkeys(_THREADS, str(order.threads))
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers; it costs time
    place, run = order.place, order.place.run(order.name)
    config = place.config(order.name)
    _wait(run / ".lock", place.stop, log)
    command = ["run", str(config), "--run", str(run), "--until", order.until]
    ended = processes.run(
        [sys.executable, "-m", "l1kd", *command],
        config.parent,
        log=log,
        stop=place.stop.exists,
        grace=0.0,
        environment=environment,
    )
    return 130 if ended.code is None else ended.code


def _wait(lock: Path, stop: Path, log: IO[bytes]) -> None:
    """Let a process end that holds the run: of a worker that was given up, or a lost client."""
    told = False
    while lock.exists() and not stop.exists():
        try:
            with processes.held(lock, "in use"):
                return
        except UserError:
            if not told:
                log.write(b"waiting for the process that holds this run\n")
                log.flush()
            told = True
            time.sleep(_SECONDS)


def last_line(path: Path) -> str:
    """The last line of a file that may be long; empty if it has none."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
