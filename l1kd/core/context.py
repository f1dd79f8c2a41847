"""What a stage is given: where it reads and writes, its configuration, its events, its voice."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from l1kd.core.config import Config

if TYPE_CHECKING:
    from l1kd.data.dataset import Dataset

logger = logging.getLogger("l1kd")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Context:
    """A run directory as its stages see it. Stages talk to each other only through its files."""

    directory: Path  # the run
    config: Config  # its resolved configuration
    projects: Path  # where HLS projects of this run are written
    console: Console = field(default_factory=lambda: Console(stderr=True))

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The run's events; opened once."""
        from l1kd.data.sources import open_dataset

        return open_dataset(self.config.data, self.config.seed)

    def configured(self, config: Config) -> Context:
        """The same run, its events opened already, with another configuration of the rest."""
        other = replace(self, config=config)
        if "dataset" in self.__dict__:
            other.__dict__["dataset"] = self.dataset
        return other

    @property
    def threads(self) -> int:
        """Cores to use: the configuration's, or all."""
        return self.config.threads or cores()

    def student_file(self, name: str) -> Path:
        """Where the student `name` is kept."""
        return self.directory / "students" / f"{name}.keras"

    @property
    def teacher_file(self) -> Path:
        """Where the teacher is kept."""
        return self.directory / "teacher.keras"

    def say(self, message: str) -> None:
        """Tell the user, and the run's log."""
        logger.info(message)
        self.console.print(message, highlight=False, markup=False)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar for `total` steps; yields the function that advances it."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        quiet = not self.console.is_terminal  # a log wants lines, not bars
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(task, steps)
