"""`l1kd sweep`: a grid of runs on Dask, which is quiet: no dashboard, no memory limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, LocalCluster
from distributed.versions import VersionMismatchWarning
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from l1kd import __version__
from l1kd.core import config_file, files
from l1kd.core.config import Config
from l1kd.core.context import cores, plain_console
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import signals
from l1kd.core.stages import STAGES, Stage
from l1kd.data.sources import open_dataset
from l1kd.report.number_format import duration
from l1kd.report.sweep_tables import write_tables
from l1kd.runs.run import is_done, locked
from l1kd.runs.sweep_grid import (
    SWEEP,
    GridDirectory,
    Job,
    Outcome,
    chosen,
    environment,
    expand,
    last_line,
    perform,
)

_SECONDS = 0.5  # between two looks
_WORKER_SECONDS = 2.0  # between two looks at who works
_PATIENCE = 30  # seconds that an answer may take
_CHECK = 1  # exit code of a run in which a gate failed
_SILENT = logging.CRITICAL + 1
_CONNECT_SECONDS = 10
_TRAINING = 0.9  # of a run's time, where it is not all of it
_LINE_SECONDS = 60.0  # between two lines about the runs in flight, without a terminal
_CONFIG = {
    # A run that waits at a busy worker would wait there while another is idle.
    "distributed.scheduler.worker-saturation": 1.0,
    # Cores are for the runs: as Dask comes, each of its processes takes 4 % of one to watch itself.
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    **{
        f"distributed.worker.memory.{at}": False for at in ("target", "spill", "pause", "terminate")
    },
    **{f"distributed.{name}.http.routes": [] for name in ("scheduler", "worker", "nanny")},
}


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of a scheduler, or of a cluster of `workers` processes here."""
    if scheduler is not None and not re.fullmatch(r"[a-z]+://[^/\s]+:\d+", scheduler):
        raise UserError(f"--scheduler {scheduler}: an address is like tcp://host:8786")
    for name in ("distributed", "distributed.client", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(_SILENT)
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    with dask.config.set(_CONFIG), contextlib.ExitStack() as stack:
        address = scheduler or stack.enter_context(_cluster(workers))
        try:
            client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error}); "
                "`dask scheduler` says its address when it starts"
            ) from error
        yield stack.enter_context(client)


def _cluster(workers: int) -> contextlib.AbstractContextManager[Any]:
    # Its processes are not to hear Ctrl-C, which a terminal sends to all: we stop them.
    with signals(signal.SIG_IGN, signal.SIGINT):
        cluster: contextlib.AbstractContextManager[Any] = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=_SILENT,
            # Its server listens all the same, and two of them on one port warn.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        )
    return cluster


def sweep(
    argument: str,
    directory: Path | None = None,
    *,
    only: Sequence[str] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Make the runs of a grid that are not there, and the tables of all; the sweep's directory."""
    console = plain_console()
    config, grid, jobs = expand(config_file.find(argument), overrides)
    wanted = chosen(jobs, only)
    place = GridDirectory((directory or Path("runs") / f"{config.name}-sweep").absolute())
    SWEEP.check(place.directory)
    if scheduler is None:
        console.print(f"{config.name}: reading the events of {len(wanted)} runs")
        _check_events(jobs)
    place.directory.mkdir(parents=True, exist_ok=True)
    with locked(place.directory):
        open_jobs = _unfinished(place, wanted, grid.until)
        place.claim(config, jobs)
        outcomes: dict[str, Outcome] = {}
        if open_jobs:
            skipped = len(wanted) - len(open_jobs)
            watch = Watch(place, open_jobs, grid.until, skipped, console)
            if skipped:
                watch.say(f"{skipped} of {len(wanted)} runs are done already")
            workers = workers or max(cores() // max(j.config.threads or 1 for j in jobs), 1)
            with connected(scheduler, min(workers, len(open_jobs))) as client:
                outcomes = _make(place, open_jobs, grid.until, client, watch)
        else:
            console.print(f"all {len(wanted)} runs are done already")
        tables = write_tables(place.directory, [place.run(job.name) for job in jobs])
        console.print(tables)
    _judge(place, outcomes, len(wanted))
    return place.directory


def _check_events(jobs: Sequence[Job]) -> None:
    """Open the events once for every source, to find what is missing before anything runs."""
    seen = []
    for job in jobs:
        data = job.config.data.model_dump(exclude={"normal"})
        if data not in seen:
            seen.append(data)
            try:
                open_dataset(job.config.data, job.config.seed)
            except UserError as error:
                raise UserError(f"{error} (run {job.name})") from error


def _unfinished(place: GridDirectory, jobs: Sequence[Job], until: Stage) -> dict[str, Job]:
    """Runs that something is left to do of."""

    def done(job: Job) -> bool:
        try:
            return is_done(place.run(job.name), job.config, until)
        except FileNotFoundError:  # someone is at it: of an earlier call, on a cluster
            return False
        except UserError as error:
            said = str(error).replace("give this one", "give this sweep")
            raise UserError(said.replace("with --run", "with --sweep")) from error

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(done, jobs))
    return {job.name: job for job, ready in zip(jobs, found, strict=True) if not ready}


def _make(
    place: GridDirectory, jobs: dict[str, Job], until: Stage, client: Client, watch: Watch
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    pending: dict[str, Future] = {}
    asked, own = 0.0, environment()
    try:
        with watch.bars:
            for name, job in jobs.items():
                config_file.save(job.config, place.config(name))
                pending[name] = client.submit(
                    perform, place, name, until, job.config.threads or 1, own, __version__,
                    key=f"{name}-{place.token}", pure=False,
                )  # fmt: skip
            while pending:
                time.sleep(_SECONDS)
                for name, future in list(pending.items()):
                    if future.status in ("cancelled", "lost"):
                        raise UserError(
                            f"the Dask scheduler is gone, with {len(pending)} of {len(jobs)} runs "
                            f"not done; the same command goes on in {place.directory}"
                        )
                    if (outcome := _result(future)) is not None:
                        del pending[name]
                        outcomes[name] = outcome
                        watch.end(name, outcome.code == 0, _in_words(outcome))
                if pending and time.monotonic() - asked > _WORKER_SECONDS:
                    with contextlib.suppress(OSError, asyncio.TimeoutError):
                        # Without an answer: the futures tell whether the scheduler is gone.
                        ask = client.scheduler.processing
                        watch.see(client.sync(ask, workers=None, callback_timeout=_PATIENCE))
                    asked = time.monotonic()
                watch.refresh()
    except BaseException:  # the workers are to give up
        with contextlib.suppress(OSError):
            place.stop.touch()
            time.sleep(2 * _SECONDS)
        raise
    return outcomes


def _result(future: Future) -> Outcome | None:
    """Outcome of a run, None while it goes on."""
    if future.status == "error":
        return Outcome(2, plain_fault(future.exception(timeout=_PATIENCE)), 0.0, "")
    if future.status == "finished":
        # If its worker is gone, and the answer with it, it will be asked again.
        with contextlib.suppress(Exception):
            outcome: Outcome = future.result(timeout=_PATIENCE)
            return outcome
    return None


def plain_fault(error: BaseException) -> str:
    """A worker's error in words."""
    kind = type(error).__name__
    if kind == "KilledWorker":
        return "every worker that tried it died (too little memory?)"
    if kind in ("ModuleNotFoundError", "ImportError", "AttributeError"):
        return f"a worker lacks this version of l1kd ({error})"
    return f"{kind}: {error}"


def _in_words(outcome: Outcome) -> str:
    took = f"{duration(outcome.seconds)} on {outcome.host}"
    if outcome.code == 0:
        return f"done in {took}"
    if outcome.code == _CHECK:
        return f"a check failed after {took}: {outcome.reason}"
    return f"FAILED (exit {outcome.code}): {outcome.reason}"


def _judge(place: GridDirectory, outcomes: dict[str, Outcome], wanted: int) -> None:
    """End as the worst run did."""
    failed = [name for name, own in outcomes.items() if own.code not in (0, _CHECK)]
    checked = [name for name, own in outcomes.items() if own.code == _CHECK]
    for names, error, what, again in (
        (failed, UserError, "could not be made", "; the same command tries them again"),
        (checked, CheckFailed, "failed a check", ""),
    ):
        if names:
            shown = ", ".join(f"{place.run(n)} (log: {place.log(n)})" for n in names[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise error(f"{len(names)} of {wanted} runs {what}: {shown}{more}{again}")


def look(directory: Path, config: Config, until: Stage) -> tuple[str, float]:
    """A run's present stage, and its share of the whole, from files that others are writing."""
    states: dict[Stage, str] = {}
    with contextlib.suppress(Exception):
        stored = files.read_json(directory / "manifest.json")["stages"]
        states = {name: stored[name]["state"] for name in STAGES if name in stored}
    stage = next((name for name, state in states.items() if state == "running"), None)
    done = sum(state in ("done", "failed") for state in states.values())
    epoch, epochs = _epoch(directory / "history.csv"), config.phases[-1].last
    share = min(epoch / epochs, 1.0) if stage == "train" else float(done > 0)
    if after := STAGES.index(until):
        share = min(_TRAINING * share + (1 - _TRAINING) * max(done - 1, 0) / after, 1.0)
    return f"train, epoch {epoch} of {epochs}" if stage == "train" else stage or "starts", share


def _epoch(history: Path) -> int:
    """The last row's epoch; it is the first column."""
    try:
        return int(last_line(history).partition(",")[0])
    except Exception:
        return 0


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
        self._workers: set[str] | None = None  # their addresses, once they are known
        self._at_work: dict[str, tuple[str, float, TaskID]] = {}  # worker, first seen, bar
        self._said = time.monotonic()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=2,
            speed_estimate_period=math.inf,
            disable=not console.is_terminal,  # a log wants lines, not bars
        )
        self._whole = self.bars.add_task("sweep", total=self.total, said="", completed=skipped)

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(message, highlight=False, markup=False, emoji=False)

    def see(self, working: Mapping[str, Sequence[str]]) -> None:
        """Take notice of the workers, and of the keys of the runs that each of them is at."""
        for address in sorted((self._workers or set()) - set(working)):
            self.say(f"a worker is gone ({address}); its run goes on elsewhere from its checkpoint")
        if not working and self._workers != set():
            self.say("waiting: the scheduler has no workers" + (" left" if self._workers else ""))
        self._workers = set(working)
        at_work = {
            key.removesuffix(f"-{self.place.token}"): address
            for address, keys in working.items()
            for key in keys
        }
        for name in list(self._at_work):
            if self._at_work[name][0] != at_work.get(name):
                self._forget(name)
        for name in sorted((at_work.keys() & self.jobs.keys()) - self.ended.keys()):
            if name not in self._at_work:
                bar = self.bars.add_task(f"  {name}", total=1.0, said="")
                self._at_work[name] = at_work[name], time.monotonic(), bar

    def _forget(self, name: str) -> None:
        if name in self._at_work:
            self.bars.remove_task(self._at_work.pop(name)[2])

    def end(self, name: str, good: bool, said: str) -> None:
        """A run has ended."""
        self.ended[name] = good
        self._forget(name)
        self.say(f"{name}: {said} ({self._count()})")

    def refresh(self) -> None:
        """Look at the runs in flight."""
        now, told, done = time.monotonic(), [], float(self.skipped + len(self.ended))
        for name, (_, since, bar) in self._at_work.items():
            at, share = look(self.place.run(name), self.jobs[name].config, self.until)
            said = f"{at}, {duration(now - since)}"
            self.bars.update(bar, completed=share, said=said)
            told.append(f"{name}: {said}")
            done += share
        self.bars.update(self._whole, completed=done)
        said = self._count()
        if bad := list(self.ended.values()).count(False):
            said += f", {bad} failed"
        self.bars.update(self._whole, said=said)
        if not self.console.is_terminal and told and now - self._said > _LINE_SECONDS:
            self._said = now
            self.say("; ".join([said, *told]))

    def _count(self) -> str:
        """Runs that are done, and the time that the others may take, if that can be told."""
        left = self.bars.tasks[0].time_remaining
        told = f", about {duration(left)} left" if left else ""
        return f"{self.skipped + len(self.ended)} of {self.total}{told}"
