"""A run directory as a stage sees it: where it reads and writes, configuration, events, console."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.table import Table
from rich.text import Text

from l1kd.core.config import Config

logger = logging.getLogger("l1kd")
TELL_S = 30  # between two lines of a log about a step that goes on


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_console(*, stderr: bool = True) -> Console:
    """A console that prints texts as they are, also `[da]` and `a:x:b`, a text a line."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str | Text]], on: Console) -> None:
    """Print texts as they are: rich would take `[da]` for markup and cut long words."""
    table = Table()
    for title in titles:
        table.add_column(Text(title), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    on.print(table)


@dataclass(frozen=True)
class Context:
    """A run directory as its stages see it. Stages talk to each other only through its files."""

    directory: Path
    config: Config  # resolved
    console: Console = field(default_factory=lambda: Console(stderr=True))  # shows progress
    open_events: Callable[[], Any] | None = None  # given by `runs`, which knows the sources
    # work that was begun beside earlier stages, by student: `synth` takes its results
    begun: dict[str, Future[Any]] = field(default_factory=dict, repr=False, compare=False)
    aside: Path | None = None  # for results, where the run itself cannot be written
    # when something was told last
    _told: list[float] = field(default_factory=lambda: [0.0], repr=False, compare=False)

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
    def results(self) -> Path:
        """Where a gate writes: the run, unless it is judged read-only."""
        return self.aside or self.directory

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
        self._told[0] = time.monotonic()
        logger.info(message)
        self.console.print(message, highlight=False, markup=False, emoji=False)

    @contextlib.contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Tell that a step goes on, every half a minute in which nothing else is told."""
        ended, started = threading.Event(), time.monotonic()

        def tell() -> None:
            while not ended.wait(TELL_S / 4):
                if time.monotonic() - max(self._told[0], started) >= TELL_S:
                    self.say(f"{what}: {time.monotonic() - started:.0f} s so far")

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """A bar and a clock for `total` steps, in a log a line every half a minute.

        Yields the function that advances it: by a number of steps, and a text to show from now on.
        """
        text = bars.TextColumn("{task.description}", markup=False)
        columns = (text, bars.BarColumn(), bars.MofNCompleteColumn())
        clock = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        quiet = not self.console.is_terminal  # a log wants lines, not bars
        started = self._told[0] = time.monotonic()
        options: dict[str, Any] = {"console": self.console, "transient": True, "disable": quiet}
        with bars.Progress(*columns, *clock, **options) as bar:
            task = bar.add_task(what, total=total)

            def advance(steps: int, said: str = "") -> None:
                bar.update(task, advance=steps, description=f"{what}: {said}" if said else None)
                now, at = time.monotonic(), bar.tasks[0]
                if not quiet:
                    self._told[0] = now
                elif now - self._told[0] >= TELL_S:
                    done = f"{at.completed:.0f} of {total}, {now - started:.0f} s"
                    self.say(f"{at.description}: {done}")

            yield advance
