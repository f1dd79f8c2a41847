"""A sweep's directory.

`config.yaml` (resolved), `sweep.json` (the runs of the grid), `configs/` (one configuration a run),
`runs/` (ordinary runs), `logs/` (what their processes said), `.working/` (a file for every run that
a worker is at), and the tables: `runs.parquet`, `summary.parquet`, `summary.md`, figures.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from l1kd import __version__, configfile
from l1kd.config import Config
from l1kd.errors import UserError
from l1kd.files import read_json, write_json
from l1kd.orchestrate.jobs import Job
from l1kd.orchestrate.task import Order

__all__ = ["GridDirectory"]

_FORMAT = 1
# Where a worker finds events, if nothing in its own environment says.
_ENVIRONMENT = ("L1KD_DATA", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class GridDirectory:
    """A sweep's directory, by its absolute path; and this call's token."""

    directory: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def run(self, name: str) -> Path:
        """The directory of a run."""
        return self.directory / "runs" / name

    def log(self, name: str) -> Path:
        """What the run's process said."""
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
        """Find whether this is a sweep's directory, or free to become one.

        Raises
        ------
        UserError
            If something else is in it.
        """
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
        configfile.save(config, self.directory / "config.yaml")
        write_json(
            self.directory / "sweep.json",
            {
                "format_version": _FORMAT,
                "l1kd": __version__,
                "runs": {job.name: {"group": job.group, "grid": job.varied} for job in jobs},
            },
        )

    def order(self, job: Job, until: str) -> Order:
        """What a worker is told of a run; its configuration is written."""
        configfile.save(job.config, self.config(job.name))
        return Order(
            job.name,
            directory=str(self.run(job.name)),
            config=str(self.config(job.name)),
            log=str(self.log(job.name)),
            marker=str(self.marker(job.name)),
            until=until,
            threads=job.config.threads or 1,
            stop=str(self.stop),
            environment={
                key: str(Path(os.environ[key]).absolute())
                for key in _ENVIRONMENT
                if os.environ.get(key)
            },
        )
