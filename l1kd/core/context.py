"""A run directory as a stage sees it: where it reads and writes, configuration, events, console."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from l1kd.core.config import Config

logger = logging.getLogger("l1kd")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Context:
    """A run directory as its stages see it. Stages talk to each other only through its files."""

    directory: Path
    config: Config  # resolved
    console: Console = field(default_factory=lambda: Console(stderr=True))  # shows progress
    open_events: Callable[[], Any] | None = None  # given by `runs`, which knows the sources

    @functools.cached_property
    def dataset(self) -> Any:
        """The run's events, a `l1kd.data.dataset.Dataset`; opened when a stage first asks."""
        if self.open_events is None:
            raise ValueError(f"{self.directory}: this context was made without events")
        return self.open_events()

    def configured(self, config: Config) -> Context:
        """The same run, its events opened already, with another configuration of the rest."""
        return replace(self, config=config, open_events=lambda: self.dataset)

    @property
    def threads(self) -> int:
        """Cores to use: the configuration's, or all."""
        return self.config.threads or cores()

    @property
    def teacher_file(self) -> Path:
        """The teacher, a Keras model."""
        return self.directory / "teacher.keras"

    def student_file(self, name: str) -> Path:
        """A student, a QKeras model."""
        return self.directory / "students" / f"{name}.keras"

    def firmware(self, name: str) -> Path:
        """The directory of a student's exact network and projects."""
        return self.directory / "firmware" / name

    def say(self, message: str) -> None:
        """Tell the user, and the run's log."""
        logger.info(message)
        self.console.print(message, highlight=False, markup=False)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar for `total` steps; yields the function that advances it."""
        text = TextColumn("{task.description}")
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        quiet = not self.console.is_terminal  # a log wants lines, not bars
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(task, steps)
