"""Make a toy sample: all cores, resumable, the same arrays whatever happens on the way.

`generate` is what ``l1kd data generate`` calls. One CICADA-schema HDF5 file per role appears in the
output directory when everything is done; until then the pieces live in its ``.work``.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console

from l1kd.core.errors import UserError
from l1kd.core.files import read_json, write_json
from l1kd.core.processes import Job, held, run_jobs, workers
from l1kd.data.pythia_toy import pile_up, pythia, sample_file
from l1kd.data.pythia_toy.plan import (
    MULTIPARTON_TABLE,
    Batch,
    Plan,
    hard_fraction,
    make_events,
    make_soft,
    make_table,
)

SHIPPED = Plan(
    train=36_000,
    test=52_000,
    signal_events=2_000,
    signals=tuple(pythia.SIGNALS),
    pileup_mean=50.0,
    pileup_spread=10.0,
    seed=1,
)
"""The sample that l1kd ships."""

# Costs in soft collisions, for the progress bar only.
HARD_COST, SIGNAL_COST, EVENT_COST, USUAL_FRACTION = 3.5, 6.0, 0.2, 0.0105


def generate(
    out: Path,
    plan: Plan = SHIPPED,
    *,
    processes: int | None = None,
    command: str = "l1kd.data.pythia_toy.generate.generate()",
    console: Console | None = None,
) -> list[Path]:
    """Make the sample `plan` in the directory `out`, or finish making it.

    The same plan and versions give the same arrays, whatever the number of processes and however
    often the work was killed and started again. A finished sample is left alone.
    """
    _check(plan, processes)
    files = {role: out / f"{role}.h5" for role in plan.roles}
    work = out / ".work"
    if _is_done(list(files.values()), sample_file.identity(plan)):
        # Only a process killed while it was tidying up leaves this behind.
        shutil.rmtree(work, ignore_errors=True)
        return list(files.values())
    with _writing(out), _work_directory(work, sample_file.identity(plan)):
        fraction = _make(plan, work, processes or len(os.sched_getaffinity(0)), console)
        for role, path in files.items():
            batches = [batch.events_file(work) for batch in plan.batches(role)]
            sample_file.write(path, role, plan, batches, fraction, command)
        shutil.rmtree(work)
    return list(files.values())


def _check(plan: Plan, processes: int | None) -> None:
    """Refuse what cannot be made."""
    for name in ("train", "test", "signal_events", "seed"):
        if (value := getattr(plan, name)) < 0:
            raise UserError(f"--{name.replace('_', '-')} is {value}: give 0 or more")
    for name in ("pileup_mean", "pileup_spread"):
        if not 0 <= (number := getattr(plan, name)) <= 1000:  # NaN is refused, too
            raise UserError(f"--{name.replace('_', '-')} is {number}: give a number from 0 to 1000")
    if processes is not None and processes < 1:
        raise UserError(f"--processes is {processes}: give 1 or more")
    for name in plan.signals:
        if name not in pythia.SIGNALS:
            near = difflib.get_close_matches(name, pythia.SIGNALS, 1)
            choices = ", ".join(pythia.SIGNALS)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {choices}"
            raise UserError(f"--signal {name!r} is unknown: {hint}")
        if plan.signals.count(name) > 1:
            raise UserError(f"--signal {name!r} is given twice: name each signal once")
    if not plan.roles:
        raise UserError("nothing to generate: give --train, --test or --signal-events above 0")
    pythia.import_pythia()


def _is_done(files: list[Path], wanted: dict[str, Any]) -> bool:
    """True if all files are there; files made with other options are refused."""
    there = [path for path in files if path.exists()]
    for path in there:
        found = sample_file.read_identity(path)
        if found != wanted:
            raise UserError(
                f"{path} was made otherwise ({sample_file.differences(found, wanted)}): "
                "give another --out, or remove the old files first"
            )
    return len(there) == len(files)


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turns an OSError of any process into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); make room "
            "and give the same command again, or choose another directory with --out"
        ) from error


@contextlib.contextmanager
def _work_directory(work: Path, wanted: dict[str, Any]) -> Iterator[None]:
    """Hold the work directory; refuse one that is in use or belongs to other options."""
    work.mkdir(parents=True, exist_ok=True)
    busy = f"another process is generating into {work.parent}: wait for it, or give another --out"
    with held(work / "lock", busy):
        options = work / "options.json"
        found = read_json(options) if options.exists() else wanted
        if found != wanted:
            raise UserError(
                f"{work} holds an unfinished sample that was begun otherwise "
                f"({sample_file.differences(found, wanted)}): "
                f"finish it with its own options, or remove {work}"
            )
        write_json(options, wanted)
        yield


def _make(plan: Plan, work: Path, processes: int, console: Console | None) -> float:
    """Do all jobs whose files are not in `work` yet; the fraction of hard collisions."""
    batches = [batch for role in plan.roles for batch in plan.batches(role)]
    soft_cost = {batch: float(batch.soft_collisions()) for batch in batches}

    def events_cost(batch: Batch) -> float:
        hard = soft_cost[batch] * pile_up.SOFT_USES * USUAL_FRACTION
        per_event = EVENT_COST + SIGNAL_COST * (batch.role in plan.signals)
        return HARD_COST * hard + per_event * batch.events

    table = work / MULTIPARTON_TABLE
    soft_jobs = [
        Job(soft_cost[batch], make_soft, (batch, work))
        for batch in batches
        if not batch.soft_file(work).exists()
    ]
    todo = [batch for batch in batches if not batch.events_file(work).exists()]
    total = sum(job.cost for job in soft_jobs) + sum(map(events_cost, todo))
    progress = bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("passed:"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left:"),
        bars.TimeRemainingColumn(),
        console=console or Console(stderr=True),
        # Jobs end seldom; it is the speed of the last minutes that predicts.
        speed_estimate_period=300,
        disable=not (console or Console(stderr=True)).is_terminal,  # a log wants lines, not bars
    )
    with progress, workers(processes) as pool:
        task = progress.add_task("soft collisions", total=total)

        def advance(cost: float) -> None:
            progress.advance(task, cost)

        if not table.exists():
            run_jobs(pool, [Job(0.0, make_table, (table,))], advance)
        run_jobs(pool, soft_jobs, advance)
        progress.update(task, description="events")
        fraction = hard_fraction(batches, work)
        jobs = [Job(events_cost(batch), make_events, (batch, work, fraction)) for batch in todo]
        run_jobs(pool, jobs, advance)
    return fraction
