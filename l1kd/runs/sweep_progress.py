"""Progress of a sweep's runs: read from their files, shown as bars or as lines."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from l1kd.core.config import Config
from l1kd.core.stages import STAGES, Stage
from l1kd.runs.sweep_grid import GridDirectory, Job

_TRAINING = 0.9  # of a run's time, where it is not all of it
_LINE_SECONDS = 60.0  # between two lines about the runs in flight, without a terminal
_TAIL = 8192


@dataclass(frozen=True)
class Look:
    """Progress of a run: its stage, epochs done and in all, and the share of the whole."""

    stage: Stage | None
    epoch: int
    epochs: int
    share: float  # of the whole run, from 0 to 1

    def __str__(self) -> str:
        if self.stage is None:
            return "starts"
        return (
            f"train, epoch {self.epoch} of {self.epochs}" if self.stage == "train" else self.stage
        )


def epochs_of(config: Config) -> int:
    """Epochs of a whole training."""
    return config.distillation.phases[-1].last


def look(directory: Path, config: Config, until: Stage) -> Look:
    """Look at a run's files; another process is writing them."""
    stage: Stage | None = None
    done = 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        states = json.loads((directory / "manifest.json").read_text())["stages"]
        stage = next(
            (name for name in STAGES if states.get(name, {}).get("state") == "running"), None
        )
        done = sum(states.get(name, {}).get("state") in ("done", "failed") for name in STAGES)
    epoch, epochs = _epoch(directory / "history.csv"), epochs_of(config)
    share = min(epoch / epochs, 1.0) if stage == "train" else float(done > 0)
    if after := STAGES.index(until):
        share = min(_TRAINING * share + (1 - _TRAINING) * max(done - 1, 0) / after, 1.0)
    return Look(stage, epoch, epochs, share)


def _epoch(history: Path) -> int:
    """The last row's epoch; it is the first column."""
    try:
        with history.open("rb") as file:
            file.seek(max(history.stat().st_size - _TAIL, 0))
            return int(file.read().decode().strip().splitlines()[-1].partition(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


def duration(seconds: float) -> str:
    """`3:07` or `1:03:07`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class Watch:
    """Shows the progress of a sweep's runs: bars on a terminal, lines in a log."""

    def __init__(
        self,
        place: GridDirectory,
        jobs: Mapping[str, Job],
        until: Stage,
        skipped: int,
        console: Console,
    ) -> None:
        self.place, self.jobs, self.until = place, jobs, until
        self.console, self.skipped, self.total = console, skipped, skipped + len(jobs)
        self.ended: dict[str, bool] = {}  # by name, whether all went well
        self.workers: set[str] | None = None  # their addresses, once they are known
        self._at: dict[str, tuple[str, float]] = {}  # in flight: marker, when it was first seen
        self._said = time.monotonic()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
            refresh_per_second=2,
            speed_estimate_period=math.inf,
            disable=not console.is_terminal,  # a log wants lines, not bars
        )
        self._whole = self._progress.add_task("sweep", total=self.total, said="", completed=skipped)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Bars, where there is a terminal."""
        with self._progress:
            yield

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(message, highlight=False, markup=False)

    def end(self, name: str, good: bool, said: str) -> None:
        """A run has ended."""
        self.ended[name] = good
        self._at.pop(name, None)
        if (bar := self._bars.pop(name, None)) is not None:
            self._progress.remove_task(bar)
        self.say(f"{name}: {said} ({self._count()})")

    def refresh(self) -> None:
        """Look at the runs in flight."""
        now = time.monotonic()
        looks = dict(self._looks(now))
        done = self.skipped + len(self.ended) + sum(own.share for own in looks.values())
        self._progress.update(self._whole, completed=done)
        said = self._count()
        if bad := list(self.ended.values()).count(False):
            said += f", {bad} failed"
        told = {name: f"{own}, {duration(now - self._at[name][1])}" for name, own in looks.items()}
        if self.console.is_terminal:
            self._progress.update(self._whole, said=said)
            for name in self._bars.keys() - looks.keys():
                self._progress.remove_task(self._bars.pop(name))
            for name, own in looks.items():
                if name not in self._bars:
                    self._bars[name] = self._progress.add_task(f"  {name}", total=1.0, said="")
                self._progress.update(self._bars[name], completed=own.share, said=told[name])
        elif looks and now - self._said > _LINE_SECONDS:
            self._said = now
            self.say("; ".join([said, *(f"{name}: {text}" for name, text in told.items())]))

    def _looks(self, now: float) -> Iterator[tuple[str, Look]]:
        for marker in sorted((self.place.directory / ".working").glob("*")):
            name = marker.name
            if name not in self.jobs or name in self.ended:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = marker.read_text()
                if self.workers is not None and json.loads(content)["worker"] not in self.workers:
                    continue  # it is gone
                if self._at.get(name, ("", 0.0))[0] != content:
                    self._at[name] = (content, now)
                yield name, look(self.place.run(name), self.jobs[name].config, self.until)

    def _count(self) -> str:
        """Runs that are done, and the time that the others may take, if that can be told."""
        left = self._progress.tasks[0].time_remaining
        told = f", about {duration(left)} left" if left else ""
        return f"{self.skipped + len(self.ended)} of {self.total}{told}"
