"""From a sweep's grid to runs: every configuration checked, every run named."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l1kd import configfile
from l1kd.config import Config
from l1kd.errors import UserError
from l1kd.files import content_hash
from l1kd.grids import Point, Sweep

__all__ = ["Job", "chosen", "expand", "label"]

_LONGEST = 64  # of a name
_LONGEST_PART = 24


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Parameters
    ----------
    name
        Unique in its sweep, also where case makes no difference.
    group
        Its group.
    varied
        The grid's values by dotted key.
    config
        Its whole configuration.
    """

    name: str
    group: str
    varied: dict[str, Any]
    config: Config


def expand(path: Path, overrides: Sequence[str]) -> tuple[Config, Sweep, list[Job]]:
    """All runs of a configuration's sweep.

    Parameters
    ----------
    path
        A YAML file.
    overrides
        `KEY=VALUE` texts; they go over the file's and over every run's values.

    Returns
    -------
    tuple
        The file's own configuration, its sweep, and the runs in the grid's order.

    Raises
    ------
    UserError
        If a point is no configuration: with group and key. Nothing was written.
    """
    config = configfile.load(path, overrides)
    if config.sweep is None:
        raise UserError(
            f"{path} has no section `sweep`: it says `groups`, each with a `grid` of lists "
            "(docs/sweep.md)"
        )
    points = config.sweep.points()
    _check_overrides(points, overrides)
    configs = configfile.load_each(path, overrides, [point.settings for point in points])
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
    """The runs whose name fits a pattern; all if there is none.

    Raises
    ------
    UserError
        If none fits.
    """
    fitting = [
        job
        for job in jobs
        if not patterns or any(fnmatch.fnmatchcase(job.name, pattern) for pattern in patterns)
    ]
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
