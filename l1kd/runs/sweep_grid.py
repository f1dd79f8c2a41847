"""From a sweep's grid to runs: configurations checked, runs named and made, a process each."""

from __future__ import annotations

import fnmatch
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

import l1kd.data.sources  # noqa: F401 - configurations know the sources by it
from l1kd import __version__
from l1kd.core import config_file, files, processes
from l1kd.core.config import Config
from l1kd.core.errors import UserError
from l1kd.core.sweep_config import Point, Sweep

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
_ENVIRONMENT = ("L1KD_DATA", "XDG_CACHE_HOME")  # where events are
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
    """The configuration, its sweep, and the runs in order; errors name a point's group and key."""
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
    """A value as a part of a run's name; what cannot be read in one is cut, and gets a hash."""
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

    def config(self, name: str) -> Path:
        """The run's configuration."""
        return self.directory / "configs" / f"{name}.yaml"

    @property
    def stop(self) -> Path:
        """A file that tells this call's workers to give up."""
        return self.directory / files.passing_name(".stop", self.token)

    def claim(self, config: Config, jobs: Sequence[Job]) -> None:
        """Write down what is going to be run."""
        for name in ("runs", "logs", "configs"):
            (self.directory / name).mkdir(exist_ok=True)
        for left in self.directory.iterdir():
            if files.is_passing(left.name, ".stop"):
                left.unlink(missing_ok=True)
        runs = {job.name: {"group": job.group, "grid": job.varied} for job in jobs}
        SWEEP.write_record(self.directory, runs=runs)  # first: it marks the directory as ours
        config_file.save(config, self.directory / "config.yaml")


def environment() -> dict[str, str]:
    """Where this process finds events; paths are absolute, as a worker may be elsewhere."""
    return {k: str(Path(v).absolute()) for k in _ENVIRONMENT if (v := os.getenv(k))}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run."""

    code: int  # 128 + n if a signal n ended it
    reason: str  # its last line, if the code is not 0
    seconds: float
    host: str


def perform(
    place: GridDirectory,
    name: str,
    until: str,
    threads: int,
    environment: dict[str, str],
    version: str,
) -> Outcome:
    """Make a run, or go on with it, for l1kd's `version`; its process ends with this one."""
    started, host, config = time.monotonic(), socket.gethostname(), place.config(name)
    code = 2
    if version != __version__:
        reason = f"{host} has l1kd {__version__}, and the sweep {version}"
    elif not config.is_file():
        where = "on a file system that all workers share, under the same path"
        reason = f"{host} does not see {config}: a sweep's directory has to be {where}"
    else:
        own = {**environment, **os.environ, **dict.fromkeys(_THREADS, str(threads))}
        own.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers; it costs time
        run = ["run", str(config), "--run", str(place.run(name)), "--until", until]
        with place.log(name).open("ab") as log:
            _wait(place.run(name) / ".lock", place.stop, log)
            ended = processes.run(
                [sys.executable, "-m", "l1kd", *run],
                config.parent,
                log=log,
                stop=place.stop.exists,
                grace=0.0,
                environment=own,
            )
        code = 130 if ended.code is None else ended.code
        reason = last_line(place.log(name)) if code else ""
    return Outcome(code, reason, round(time.monotonic() - started, 3), host)


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
    with files.regular(path) as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
