"""From a sweep's grid to runs: every configuration checked, every run named.

A sweep's directory holds `config.yaml` (resolved), `sweep.json` (the runs of the grid), `configs/`
(one configuration a run), `runs/` (ordinary runs), `logs/` (what their processes said), `.working/`
(a file for every run that a worker is at), and the tables: `runs.parquet`, `summary.parquet`,
`summary.md`, figures.
"""

from __future__ import annotations

import fnmatch
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import l1kd.data.sources  # noqa: F401 - configurations know the sources by it
from l1kd import __version__
from l1kd.core import config_file
from l1kd.core.config import Config, Point, Sweep
from l1kd.core.errors import UserError
from l1kd.core.files import content_hash, read_json, write_json
from l1kd.runs.sweep_worker import Order

_LONGEST = 64  # of a name
_LONGEST_PART = 24
_FORMAT = 1
# Where a worker finds events, if nothing in its own environment says.
_ENVIRONMENT = ("L1KD_DATA", "XDG_CACHE_HOME")


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
        name, digest = "-".join(parts), content_hash([point.group, point.varied])[:6]
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
    return plain if faithful and plain == text else f"{plain}-{content_hash(value)[:6]}"


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

    def check(self) -> None:
        """Find whether this is a sweep's directory, or free to become one."""
        if self.directory.exists() and not self.directory.is_dir():
            raise UserError(f"{self.directory} is a file; name another directory with --sweep")
        record = self.directory / "sweep.json"
        if record.exists():
            try:
                version = read_json(record)["format_version"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{record} is damaged ({error}); delete that file") from error
            if version != _FORMAT:
                raise UserError(
                    f"{self.directory} was made in format {version}; this is l1kd {__version__}, "
                    f"which reads format {_FORMAT}: name another directory with --sweep"
                )
        elif self.directory.exists():
            names = [path.name for path in self.directory.iterdir()]
            # One that was stopped as it began has its configuration and hidden files.
            if strange := [n for n in names if n != "config.yaml" and not n.startswith(".")]:
                raise UserError(
                    f"{self.directory} exists and is not a sweep (it has {strange[0]}); name "
                    "another directory with --sweep, or empty it"
                )

    def claim(self, config: Config, jobs: Sequence[Job]) -> None:
        """Write down what is going to be run."""
        for name in ("runs", "logs", "configs", ".working"):
            (self.directory / name).mkdir(exist_ok=True)
        for left in [*self.directory.glob(".stop-*"), *(self.directory / ".working").iterdir()]:
            left.unlink(missing_ok=True)
        config_file.save(config, self.directory / "config.yaml")
        runs = {job.name: {"group": job.group, "grid": job.varied} for job in jobs}
        stored = {"format_version": _FORMAT, "l1kd": __version__, "runs": runs}
        write_json(self.directory / "sweep.json", stored)

    def order(self, job: Job, until: str) -> Order:
        """Order for a worker to make a run; writes the run's configuration."""
        config_file.save(job.config, self.config(job.name))
        return Order(
            job.name,
            directory=str(self.run(job.name)),
            config=str(self.config(job.name)),
            log=str(self.log(job.name)),
            marker=str(self.marker(job.name)),
            until=until,
            threads=job.config.threads or 1,
            stop=str(self.stop),
            environment={k: str(Path(v).absolute()) for k in _ENVIRONMENT if (v := os.getenv(k))},
        )
