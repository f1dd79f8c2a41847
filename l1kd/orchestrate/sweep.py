"""`l1kd sweep`: a grid of runs on Dask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from l1kd import configfile
from l1kd.config import Stage
from l1kd.context import cores
from l1kd.errors import CheckFailed, UserError
from l1kd.execution import locked
from l1kd.orchestrate.cluster import connected
from l1kd.orchestrate.grid_directory import GridDirectory
from l1kd.orchestrate.jobs import Job, chosen, expand
from l1kd.orchestrate.task import Outcome, perform
from l1kd.orchestrate.watch import Watch, duration
from l1kd.run import is_done

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["sweep"]

_SECONDS = 0.5  # between two looks
_WORKER_SECONDS = 5.0  # between two looks at who works
_PATIENCE = 30  # seconds that an answer may take
_CHECK, _STOPPED = 1, 130  # exit codes


def sweep(
    argument: str,
    directory: Path | None = None,
    *,
    only: Sequence[str] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Make every run of a grid that is not there yet, and the tables of all that are.

    This process and the workers never import TensorFlow: every run has a process of its own.

    Parameters
    ----------
    argument
        A shipped configuration's name, or a YAML file.
    directory
        The sweep; by default `runs/<name>-sweep`.
    only
        Patterns of runs' names, to make some of them.
    scheduler
        Address of a Dask scheduler; by default workers are started on this machine.
    workers
        How many; by default one per core.
    overrides
        `KEY=VALUE` texts.

    Returns
    -------
    Path
        The sweep's directory.

    Raises
    ------
    UserError
        If something is wrong that the user can mend; or a run could not be made, after all others
        were.
    CheckFailed
        If a gate failed in one of the runs; the tables are written all the same.
    """
    console = console or Console(stderr=True, soft_wrap=True)
    config, grid, jobs = expand(configfile.find(argument), overrides)
    wanted = chosen(jobs, only)
    place = GridDirectory((directory or Path("runs") / f"{config.name}-sweep").absolute())
    place.check()
    if scheduler is None:
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
            console.print(f"all {len(wanted)} runs are done already", highlight=False)
        _tell(place, jobs, console)
    _judge(place, outcomes, len(wanted))
    return place.directory


def _check_events(jobs: Sequence[Job]) -> None:
    """Open the events once for every source, to find what is missing before anything runs."""
    from l1kd.data.sources import open_dataset

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
    asked = 0.0
    with _stopping(place), watch.shown():
        for name, job in jobs.items():
            key, order = f"{name}-{place.token}", place.order(job, until)
            pending[name] = client.submit(perform, order, key=key, pure=False)
        while pending:
            time.sleep(_SECONDS)
            for name, future in list(pending.items()):
                if future.status in ("cancelled", "lost"):
                    raise UserError(
                        f"the Dask scheduler is gone, with {len(pending)} of {len(jobs)} runs not "
                        f"done; the same command goes on in {place.directory}"
                    )
                outcome = _result(future)
                if outcome is not None:
                    del pending[name]
                    outcomes[name] = outcome
                    watch.end(name, outcome.code == 0, _in_words(outcome))
            if pending and time.monotonic() - asked > _WORKER_SECONDS:
                _workers(client, watch)
                asked = time.monotonic()
            watch.refresh()
    return outcomes


@contextlib.contextmanager
def _stopping(place: GridDirectory) -> Iterator[None]:
    """Tell the workers to give up, if this is left before its end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            place.stop.touch()
            time.sleep(2 * _SECONDS)
        raise


def _result(future: Future) -> Outcome | None:
    """How a run ended, None as long as it has not."""
    if future.status == "error":
        error: Any = future.exception(timeout=_PATIENCE)
        return Outcome(2, _plain(error), 0.0, "")
    if future.status != "finished":
        return None
    try:
        outcome: Outcome = future.result(timeout=_PATIENCE)
    except Exception:  # its worker is gone, and the answer with it: it will be asked again
        return None
    return outcome


def _plain(error: BaseException) -> str:
    kind = type(error).__name__
    if kind == "KilledWorker":
        return "every worker that tried it died (too little memory?)"
    if kind in ("ModuleNotFoundError", "ImportError", "AttributeError"):
        return f"a worker lacks this version of l1kd ({error})"
    return f"{kind}: {error}"


def _workers(client: Client, watch: Watch) -> None:
    """Say who has come and gone."""
    try:
        now = set(client.sync(client.scheduler.ncores, workers=None, callback_timeout=_PATIENCE))
    except (OSError, asyncio.TimeoutError):
        return  # the futures tell whether the scheduler is gone
    for address in sorted((watch.workers or set()) - now):
        watch.say(f"a worker is gone ({address}); its run goes on elsewhere from its checkpoint")
    if not now and watch.workers != now:
        watch.say("waiting: the scheduler has no workers" + (" left" if watch.workers else ""))
    watch.workers = now


def _in_words(outcome: Outcome) -> str:
    took = f"{duration(outcome.seconds)} on {outcome.host}"
    if outcome.code == 0:
        return f"done in {took}"
    if outcome.code == _CHECK:
        return f"a check failed after {took}: {outcome.reason}"
    return f"FAILED (exit {outcome.code}): {outcome.reason}"


def _tell(place: GridDirectory, jobs: Sequence[Job], console: Console) -> None:
    from l1kd.report.sweep import write_tables

    text = write_tables(place.directory, [place.run(job.name) for job in jobs])
    console.print(text, highlight=False, markup=False)


def _judge(place: GridDirectory, outcomes: dict[str, Outcome], wanted: int) -> None:
    """End as the worst run did."""
    kinds = Counter(
        "" if o.code == 0 else "check" if o.code == _CHECK else "failed" for o in outcomes.values()
    )
    for kind, error in (("failed", UserError), ("check", CheckFailed)):
        if not kinds[kind]:
            continue
        names = [
            n for n, o in outcomes.items() if o.code and (o.code == _CHECK) == (kind == "check")
        ]
        shown = ", ".join(f"{place.run(n)} (log: {place.log(n)})" for n in names[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        what = "could not be made" if kind == "failed" else "failed a check"
        again = "; the same command tries them again" if kind == "failed" else ""
        raise error(f"{len(names)} of {wanted} runs {what}: {shown}{more}{again}")
