"""A toy sample: its plan, its jobs for any process (batches of 2,000 events), its files."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import shutil
import zlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from rich import progress as bars
from rich.console import Console

import l1kd
from l1kd.core.context import cores
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.files import (
    atomic,
    check_replaceable,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from l1kd.core.processes import Job, held, run_jobs
from l1kd.data.pythia_toy import detector, pile_up, pythia, suep
from l1kd.data.pythia_toy.detector import Collisions, IntArray, RegionArray

BATCH_EVENTS = 2000
MULTIPARTON_TABLE = "multiparton.dat"
_PILEUP, _SOFT, _HARD, _SIGNAL, _OVERLAY = range(5)
# Costs in soft collisions, for the progress bar only.
HARD_COST, SIGNAL_COST, EVENT_COST, USUAL_FRACTION = 3.5, 6.0, 0.2, 0.0105


@dataclass(frozen=True)
class Plan:
    """All that decides the arrays of a sample, besides versions; by default, of what l1kd ships."""

    train: int = 36_000  # zero-bias events
    test: int = 52_000
    signal_events: int = 2_000
    signals: tuple[str, ...] = tuple(pythia.SIGNALS)
    pileup_mean: float = 50.0  # see `pile_up.draw_pileup`
    pileup_spread: float = 10.0
    seed: int = 1

    @property
    def roles(self) -> dict[str, int]:
        """Events by role, zero bias first; roles without events are left out."""
        events = {"train": self.train, "test": self.test}
        events.update(dict.fromkeys(self.signals, self.signal_events))
        return {role: n for role, n in events.items() if n}

    def batches(self, role: str) -> list[Batch]:
        """The batches of `role`, in the order of its events."""
        total = self.roles[role]
        return [
            Batch(self, role, index, min(BATCH_EVENTS, total - first))
            for index, first in enumerate(range(0, total, BATCH_EVENTS))
        ]

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the arrays of a sample, as JSON."""
        return {
            **asdict(self),
            "signals": list(self.signals),
            "l1kd": l1kd.__version__,
            "pythia8mc": version("pythia8mc"),
            "numpy": np.__version__,
        }


@dataclass(frozen=True)
class Batch:
    """One batch of one role: ``events`` events, number ``index`` of its row."""

    plan: Plan
    role: str
    index: int
    events: int

    def seed(self, purpose: int) -> np.random.SeedSequence:
        """A seed of its own for each plan seed, role, batch and purpose."""
        key = (zlib.crc32(self.role.encode()), self.index, purpose)
        return np.random.SeedSequence(self.plan.seed, spawn_key=key)

    def pileup(self) -> IntArray:
        """Number of collisions overlaid on each event, (events,)."""
        random = np.random.default_rng(self.seed(_PILEUP))
        return pile_up.draw_pileup(
            self.events, self.plan.pileup_mean, self.plan.pileup_spread, random
        )

    def soft_collisions(self) -> int:
        """Number of soft collisions to make, so that none is used too often."""
        return -(-int(self.pileup().sum()) // pile_up.SOFT_USES)

    def events_cost(self) -> float:
        """The cost of `make_events`."""
        hard = self.soft_collisions() * pile_up.SOFT_USES * USUAL_FRACTION
        per_event = EVENT_COST + SIGNAL_COST * (self.role in self.plan.signals)
        return HARD_COST * hard + per_event * self.events

    def soft_file(self, work: Path) -> Path:
        return work / f"soft-{self.role}-{self.index:05}.npz"

    def events_file(self, work: Path) -> Path:
        return work / f"events-{self.role}-{self.index:05}.npz"


def make_soft(batch: Batch, work: Path) -> None:
    """Make the batch's soft collisions and write them into `work`."""
    soft, vetoed = pythia.soft_collisions(
        batch.soft_collisions(), batch.seed(_SOFT), work / MULTIPARTON_TABLE
    )
    write_arrays(batch.soft_file(work), {**vars(soft), "vetoed": vetoed})


def hard_fraction(batches: list[Batch], work: Path) -> float:
    """The fraction of inelastic collisions that are hard, seen by all soft jobs together."""
    kept = vetoed = 0
    for batch in batches:
        stored = read_arrays(batch.soft_file(work))
        kept += len(stored["offsets"]) - 1
        vetoed += int(stored["vetoed"])
    return vetoed / (kept + vetoed) if vetoed else 0.0


def make_events(batch: Batch, work: Path, fraction: float) -> None:
    """Make the batch's hard and signal collisions, overlay all, write the events into `work`."""
    pileup = batch.pileup()
    random = np.random.default_rng(batch.seed(_OVERLAY))
    n_hard = random.binomial(pileup, fraction).astype(np.int64)
    hard = pythia.hard_collisions(int(n_hard.sum()), batch.seed(_HARD))
    signal = None
    if batch.role in batch.plan.signals:
        signal = pythia.signal_collisions(batch.role, batch.events, batch.seed(_SIGNAL))
    stored = read_arrays(batch.soft_file(work))
    soft = Collisions(stored["offsets"], stored["tower"], stored["et_gev"])
    events = pile_up.overlay(pileup - n_hard, n_hard, soft, hard, random, signal)
    # A batch has far fewer than 2^32 collisions: a multiple of that keeps batches apart.
    has_one = events.leading != pile_up.NO_COLLISION
    arrays = {
        "regions": events.regions,  # (n, 18, 14) int16
        "collisions": pileup + (signal is not None),  # (n,) int64: how many an event consists of
        "leading": events.leading + has_one * (batch.index << 33),  # (n,) int64
        "soft": len(soft),
        "hard": len(hard),
    }
    write_arrays(batch.events_file(work), arrays)


def generate(
    out: Path,
    plan: Plan,
    *,
    processes: int | None = None,
    command: str = "l1kd.data.pythia_toy.generate.generate()",
) -> list[Path]:
    """Make the sample `plan` in `out`, or finish making it: the arrays are the same."""
    _check(plan, processes)
    files = {role: out / f"{role}.h5" for role in plan.roles}
    work, identity = out / ".work", plan.identity
    check_replaceable(work, ("lock", "options.json"))
    if _is_done(files.values(), identity):
        # Only a process killed while it was tidying up leaves this behind.
        shutil.rmtree(work, ignore_errors=True)
        return list(files.values())
    busy = f"another process is generating into {out}: wait for it, or give another --out"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with held(work / "lock", busy):
            options = work / "options.json"
            found = read_json(options) if options.exists() else identity
            if found != identity:
                raise UserError(
                    f"{work} holds an unfinished sample that was begun otherwise "
                    f"({_differences(found, identity)}): "
                    f"finish it with its own options, or remove {work}"
                )
            write_json(options, identity)
            fraction = _make(plan, work, processes or cores())
            for role, path in files.items():
                _write(path, role, plan, work, fraction, command)
            shutil.rmtree(work)
    except OSError as error:  # of any process
        raise UserError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); make room "
            "and give the same command again, or choose another directory with --out"
        ) from error
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
            near = did_you_mean(name, pythia.SIGNALS)
            known = ", ".join(pythia.SIGNALS)
            raise UserError(f"--signal {name!r} is unknown{near}: choose from {known}")
        if plan.signals.count(name) > 1:
            raise UserError(f"--signal {name!r} is given twice: name each signal once")
    if not plan.roles:
        raise UserError("nothing to generate: give --train, --test or --signal-events above 0")
    pythia.import_pythia()


def _is_done(files: Collection[Path], wanted: dict[str, Any]) -> bool:
    """True if all files are there; files made with other options are refused."""
    there = [path for path in files if path.exists()]
    for path in there:
        found: object = None
        if h5py.is_hdf5(path):
            with h5py.File(path) as file, contextlib.suppress(KeyError, TypeError, ValueError):
                found = json.loads(file.attrs["options"])
        if found != wanted:
            raise UserError(
                f"{path} was made otherwise ({_differences(found, wanted)}): "
                "give another --out, or remove the old files first"
            )
    return len(there) == len(files)


def _differences(found: object, wanted: dict[str, Any]) -> str:
    """In what the options that were `found` differ from the `wanted` ones, for a message."""
    if not isinstance(found, dict):
        return "its options cannot be read"
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    return ", ".join(f"{key} was {found.get(key)}, now {wanted[key]}" for key in changed)


def _make(plan: Plan, work: Path, processes: int) -> float:
    """Do all jobs whose files are not in `work` yet; the fraction of hard collisions."""
    batches = [batch for role in plan.roles for batch in plan.batches(role)]
    table = work / MULTIPARTON_TABLE
    tables = [] if table.exists() else [Job(0.0, pythia.write_multiparton_table, (table,))]
    soft = [
        Job(float(batch.soft_collisions()), make_soft, (batch, work))
        for batch in batches
        if not batch.soft_file(work).exists()
    ]
    todo = {b: b.events_cost() for b in batches if not b.events_file(work).exists()}
    console = Console(stderr=True)
    progress = bars.Progress(
        *bars.Progress.get_default_columns(),
        *(bars.TextColumn("left, passed:"), bars.TimeElapsedColumn()),
        console=console,
        # Jobs end seldom; it is the speed of the last minutes that predicts.
        speed_estimate_period=300,
        disable=not console.is_terminal,  # a log wants lines, not bars
    )
    with progress:
        total = sum(job.cost for job in soft) + sum(todo.values())
        task = progress.add_task("soft collisions", total=total)
        advance = functools.partial(progress.advance, task)
        run_jobs(processes, tables, advance)
        run_jobs(processes, soft, advance)
        progress.update(task, description="events")
        fraction = hard_fraction(batches, work)
        jobs = [Job(cost, make_events, (batch, work, fraction)) for batch, cost in todo.items()]
        run_jobs(processes, jobs, advance)
    return fraction


# A false-positive rate measured on events that share their hard core is measured on fewer events
# than it seems: a file states the effective number of distinct collisions behind the events that
# pass at these rates.
RATES = (1e-2, 1e-3, 1e-4)
# The reference scores by which tails are judged: (n, 18, 14) events to (n,) scores.
SCORES: dict[str, Callable[[RegionArray], IntArray]] = {
    "sum": lambda events: events.sum(axis=(1, 2), dtype=np.int64),
    "max": lambda events: events.max(axis=(1, 2)).astype(np.int64),
    "top4": lambda events: np.sort(events.reshape(len(events), -1))[:, -4:].sum(axis=1, dtype=int),
    # Ranks like the mean square, and is an integer.
    "mean_square": lambda events: (events.astype(np.int64) ** 2).sum(axis=(1, 2)),
}


def effective_number(names: IntArray) -> float:
    """Effective number of distinct names: ``(sum n_i)^2 / sum n_i^2``; 0 for none at all."""
    counts = np.unique(names, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def accepted(scores: IntArray, rate: float) -> NDArray[np.bool_]:
    """The events above the lowest threshold that accepts at most a share `rate`, (n,)."""
    # The rule of every rate l1kd quotes: a tie at the edge is left out as a whole.
    # The tiny amount keeps products like 0.001 * 52000 from being rounded down for nothing.
    allowed = math.floor(rate * len(scores) + 1e-9)
    if allowed >= len(scores):
        return np.ones(len(scores), bool)
    return np.asarray(scores > np.sort(scores)[-1 - allowed])


def effective_numbers(events: RegionArray, leading: IntArray) -> dict[str, list[float]]:
    """Effective number of leading collisions behind each reference score's accepted events."""
    return {
        name: [effective_number(leading[accepted(score(events), rate)]) for rate in RATES]
        for name, score in SCORES.items()
    }


def _write(path: Path, role: str, plan: Plan, work: Path, fraction: float, command: str) -> None:
    """Gather one role's batches into one file: arrays of CICADA's schema, the rest attributes."""
    parts = [read_arrays(batch.events_file(work)) for batch in plan.batches(role)]
    events = np.concatenate([part["regions"] for part in parts])
    collisions = np.concatenate([part["collisions"] for part in parts])
    identity = plan.identity
    process = ", ".join(pythia.SIGNALS.get(role, ("zero bias: inelastic collisions only",)))
    if role == "suep":
        process += f"; decayed to pions at T = {suep.TEMPERATURE_GEV} GeV (arXiv 1612.00850)"
    attributes: dict[str, Any] = {
        "description": "Pythia 8 toy calorimeter, not calibrated to CMS",
        "licence": (
            "The arrays are l1kd's own and free for any use (CC0-1.0, or Apache-2.0 like l1kd); "
            "they were generated with Pythia 8 (GPL-2.0-or-later), which is not part of them."
        ),
        "command": command,
        "options": json.dumps(identity),
        "role": role,
        "process": process,
        "tune": "Monash 2013 (Pythia's default)",
        "collision_energy_gev": pythia.ENERGY_GEV,
        "region_lsb_gev": detector.TOWER_LSB_GEV,
        "l1kd_version": identity["l1kd"],
        "pythia8mc_version": identity["pythia8mc"],
        "seed": plan.seed,
        "pileup_mean": plan.pileup_mean,
        "pileup_spread": plan.pileup_spread,
        "hard_pt_gev": pythia.HARD_PT_GEV,
        "hard_fraction": fraction,
        "hard_collisions": sum(int(part["hard"]) for part in parts),
        "soft_collisions": sum(int(part["soft"]) for part in parts),
        "soft_uses": pile_up.SOFT_USES,
        "hot_gev": pile_up.HOT_GEV,
        # Only events in the same block of this many rows share soft collisions.
        "block_events": BATCH_EVENTS,
    }
    if role not in plan.signals:
        leading = np.concatenate([part["leading"] for part in parts])
        numbers = effective_numbers(events, leading)
        attributes["effective_collisions_rates"] = RATES
        attributes["effective_collisions"] = np.min(list(numbers.values()), axis=0)
        attributes["effective_collisions_by_score"] = json.dumps(numbers)
    # By way of memory: a full disk then fails one write, not HDF5 once more when it closes.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(attributes)
        rows = min(len(events), BATCH_EVENTS)
        # Whoever pushes pile-up beyond what a byte holds gets two.
        counts = collisions.astype(np.min_scalar_type(int(collisions.max())))
        # (n, 18, 14), and the number of collisions in each event, the signal's included
        for name, array in {"CaloRegions": events, "nPV": counts}.items():
            file.create_dataset(
                name, data=array, chunks=(rows, *array.shape[1:]),
                compression="gzip", compression_opts=9, shuffle=True,
            )  # fmt: skip
        file["AcceptanceFlag"] = np.zeros(0, bool)  # as in real data without one
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())
