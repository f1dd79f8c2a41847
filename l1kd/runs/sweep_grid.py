"""From a sweep's grid to runs: every configuration checked, every run named.

A sweep's directory holds `config.yaml` (resolved), `sweep.json` (the runs of the grid), `configs/`
(one configuration a run), `runs/` (ordinary runs), `logs/` (what their processes said), `.working/`
(a file for every run that a worker is at), and the tables: `runs.parquet`, `summary.parquet`,
`summary.md`, figures.
"""

from __future__ import annotations

import fnmatch
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import l1kd.data.sources  # noqa: F401 - configurations know the sources by it
from l1kd import __version__
from l1kd.core import config_file, files
from l1kd.core.config import Config, Point, Sweep
from l1kd.core.errors import UserError

_LONGEST = 64  # of a name
_LONGEST_PART = 24
SWEEP = files.DirectoryKind(
    noun="sweep",
    record="sweep.json",
    version=1,
    begun=re.compile(r"config\.yaml|\..*"),  # and files that are hidden
    mend="delete that file",
)


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
        stored = {"format_version": SWEEP.version, "l1kd": __version__, "runs": runs}
        files.write_json(self.directory / "sweep.json", stored)
