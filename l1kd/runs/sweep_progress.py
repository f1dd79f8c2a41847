"""How far the runs of a sweep are: read from their files, shown as bars or as lines."""

from __future__ import annotations

import contextlib
import json
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
    wanted = STAGES[: STAGES.index(until) + 1]
    trained = min(epoch / epochs, 1.0) if stage == "train" else float(done > 0)
    if len(wanted) == 1:
        return Look(stage, epoch, epochs, trained)
    after = max(done - 1, 0) / (len(wanted) - 1)
    return Look(stage, epoch, epochs, min(_TRAINING * trained + (1 - _TRAINING) * after, 1.0))


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
        self._started = time.monotonic()
        self._at: dict[str, tuple[str, float]] = {}  # in flight: marker, when it was first seen
        self._before: dict[str, float] = {}  # share that was done before this call
        self._said = self._started
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
            refresh_per_second=2,
            disable=not console.is_terminal,  # a log wants lines, not bars
        )

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Bars, where there is a terminal."""
        with self._progress:
            self._overall = self._progress.add_task("sweep", total=self.total, said="")
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
        count = self.skipped + len(self.ended)
        self.say(f"{name}: {said} ({count} of {self.total}{self._left({})})")

    def refresh(self) -> None:
        """Look at the runs in flight."""
        now = time.monotonic()
        looks = dict(self._looks(now))
        said = f"{self.skipped + len(self.ended)} of {self.total}{self._left(looks)}"
        if bad := list(self.ended.values()).count(False):
            said += f", {bad} failed"
        if self.console.is_terminal:
            done = self.skipped + len(self.ended) + sum(own.share for own in looks.values())
            self._progress.update(self._overall, completed=done, said=said)
            for name in self._bars.keys() - looks.keys():
                self._progress.remove_task(self._bars.pop(name))
            for name, own in looks.items():
                if name not in self._bars:
                    self._bars[name] = self._progress.add_task(f"  {name}", total=1.0, said="")
                text = f"{own}, {duration(now - self._at[name][1])}"
                self._progress.update(self._bars[name], completed=own.share, said=text)
        elif looks and now - self._said > _LINE_SECONDS:
            self._said = now
            told = (f"{n}: {own}, {duration(now - self._at[n][1])}" for n, own in looks.items())
            self.say(f"{said}; {'; '.join(told)}")

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
                own = look(self.place.run(name), self.jobs[name].config, self.until)
                self._before.setdefault(name, own.share)
                yield name, own

    def _left(self, looks: Mapping[str, Look]) -> str:
        """How long it may still take, if that can be told."""
        within = sum(own.share for own in looks.values())
        done = sum(1 - self._before.get(name, 0.0) for name in self.ended)
        done += within - sum(self._before[name] for name in looks)
        left = len(self.jobs) - len(self.ended) - within
        passed = time.monotonic() - self._started
        if done < 0.05 or left <= 0:
            return ""
        return f", about {duration(passed / done * left)} left"
