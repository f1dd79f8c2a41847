"""Events in files as tables of rows, and the data set that is assembled of them by role.

Roles are `background` (split at random), `train`, `val`, `test`, `exposure` and `signals.<name>`.
"""

from __future__ import annotations

import math
import mmap
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd.core.config import DataSection
from l1kd.core.config_types import Name, Paths, Split
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Block, Dataset, Sample, Signal

# Above this much data in all, events wait in a temporary file and not in memory.
MEMORY_LIMIT = 1 << 27
KEPT_LIMIT = 1 << 30  # of what cannot be read in parts
# A block is at most so many events, and at most so many values (64 MiB as float32).
BLOCK_EVENTS = 1 << 16
BLOCK_VALUES = 1 << 24
# Different parts of a data set draw from different random streams of one seed.
_BACKGROUND, _SIGNAL = 0xB6, 0x51
_SIGNALS = "signals."
_RESERVED = ("train", "val", "test", "all")


# Of sources whose events are lists of objects: small dense networks, as AXOL1TL has them.
OBJECT_DEFAULTS: dict[str, Any] = {
    "teacher": {
        "architecture": "dense",
        "hidden": [64, 32],
        "latent": 8,
        "standardise": True,
    },
    "students": [
        {"architecture": "dense", "hidden": [32, 16]},
        {"name": "small", "architecture": "dense", "hidden": [16, 8]},
    ],
    "distillation": {
        "batch": 256,
        "student_learning_rate": 1e-2,
        "exposure": ["pieces", "shuffle"],
    },
    "choose": {"by": "efficiency"},
}


class RolesSection(DataSection):
    """The section `data` of a source whose files are given by role."""

    background: Annotated[Paths, Field(min_length=1)]
    """Files of normal events, split at random if no `test` is given."""
    test: Paths = Field([])
    """Files of normal events to test with; `background` then trains and validates."""
    signals: dict[Name, Annotated[Paths, Field(min_length=1)]] = Field({})
    """Files of abnormal events by the signal's name; only to judge with, never to train."""
    exposure: Paths = Field([])
    """Files with training events of another data set, for exposure `dataset`."""
    split: Split = (0.5, 0.1, 0.4)
    """Fractions of the background that train, validate and test."""

    def paths(self) -> dict[str, list[str]]:
        """Files by role; none is empty."""
        roles = {"background": self.background, "test": self.test, "exposure": self.exposure}
        roles |= {f"{_SIGNALS}{name}": paths for name, paths in self.signals.items()}
        _check_names(roles)  # before a file is opened
        return {role: paths for role, paths in roles.items() if paths}


@dataclass(frozen=True)
class Table:
    """Rows of events in a file, or in several after one another."""

    name: str  # the file, and the key where one was given, as messages show it
    file: Path  # of several, the first
    key: str  # of the array in it
    rows: int  # how many there are; a selection may leave fewer events
    shape: tuple[int, ...]  # of one event
    dtype: np.dtype[Any]  # of the events that `read` returns
    # Takes a range of rows and returns its events (events, *shape), checked. Raises UserError for
    # what is not as it should be.
    read: Callable[[int, int], NDArray[Any]]
    kept_because: str = ""  # why rows cannot be read by themselves: all are kept with `read`

    @classmethod
    def of(cls, name: str, events: NDArray[Any], file: Path = Path()) -> Table:
        """Rows of an array (events, *shape) in memory, or mapped from a file."""
        rows, *shape = events.shape
        read = lambda start, stop: events[start:stop]  # noqa: E731
        return cls(name, file, "", rows, tuple(shape), events.dtype, read)

    @property
    def size(self) -> int:
        """Bytes of all events."""
        return self.rows * math.prod(self.shape) * self.dtype.itemsize

    def ranges(self, events: int | None = None) -> Iterator[tuple[int, int]]:
        """Consecutive ranges of rows, at most `events`, that are small enough for memory."""
        step = min(events or BLOCK_EVENTS, max(1, BLOCK_VALUES // max(1, math.prod(self.shape))))
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)


def concatenate(tables: Sequence[Table]) -> Table:
    """One table of all the rows of several, in order."""
    first = tables[0]
    if len(tables) == 1:
        return first
    _check_shapes(tables)
    edges = np.cumsum([0, *(table.rows for table in tables)]).tolist()
    dtype = np.result_type(*(table.dtype for table in tables))

    def read(start: int, stop: int) -> NDArray[Any]:
        parts = [
            table.read(max(start - low, 0), min(stop, high) - low)
            for table, low, high in zip(tables, edges[:-1], edges[1:], strict=True)
            if low < stop and start < high
        ]
        return np.concatenate([np.empty((0, *first.shape), dtype), *parts])

    name = f"{first.name} and {len(tables) - 1} more"
    return replace(first, name=name, rows=edges[-1], dtype=dtype, read=read)


def window(table: Table, start: int, stop: int) -> Table:
    """The rows from `start` up to `stop`, as a table."""

    def read(first: int, last: int) -> NDArray[Any]:
        return table.read(start + first, start + last)

    return replace(table, key=f"{table.key}[{start}:{stop}]", rows=stop - start, read=read)


class TemporaryEvents:
    """Events in a temporary file under `$TMPDIR`, which nobody else sees and which leaves nothing.

    They are read at the speed of a disk however slowly their own files are read: compressed, in
    another order, with conversion and checks.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._size = 0

    def keep(self, events: NDArray[Any]) -> Block:
        """Write events (events, *shape), to be read whenever they are needed."""
        start, self._size = self._size, self._size + events.nbytes
        self._file.write(np.ascontiguousarray(events).data)
        self._file.flush()
        shape, dtype, size = events.shape, events.dtype, events.nbytes

        def load() -> NDArray[Any]:
            # Mapped, as copying what the disk's cache holds would double the time of an event.
            page = start - start % mmap.ALLOCATIONGRANULARITY
            content = mmap.mmap(
                self._file.fileno(), start + size - page, access=mmap.ACCESS_READ, offset=page
            )
            content.madvise(mmap.MADV_WILLNEED)  # events are read in any order
            values = np.frombuffer(content, dtype, size // dtype.itemsize, start - page)
            return values.reshape(shape)

        return Block(len(events), load)


Keep = Callable[[NDArray[Any]], Block]


def pieces(table: Table) -> Iterator[NDArray[Any]]:
    """All events, some at a time, so that bad data shows before hours of training."""
    for start, stop in table.ranges():
        yield table.read(start, stop)


def part_sizes(fractions: Sequence[float], start: int, stop: int) -> list[int]:
    """Number of the events `start` up to `stop` that each part gets."""
    # Cumulative, so that over consecutive ranges the sizes add up to what the whole would get, and
    # a part of n events in all has its fraction of n to within one event.
    sizes, left = [], 1.0
    for fraction in fractions[:-1]:
        share = fraction / left
        before, after = math.floor(start * share + 0.5), math.floor(stop * share + 0.5)
        sizes.append(after - before)
        # What follows divides what is left by the fractions that are left.
        start, stop, left = start - before, stop - after, left - fraction
    return [*sizes, stop - start]


def split(
    whole: Iterable[NDArray[Any]], fractions: Sequence[float], key: tuple[int, ...], keep: Keep
) -> list[tuple[Block, ...]]:
    """Assign every event to one part, at random inside its piece, by `key`; each part's blocks."""
    fractions = [fraction / sum(fractions) for fraction in fractions]
    parts: list[list[Block]] = [[] for _ in fractions]
    start = 0
    for number, events in enumerate(whole):
        sizes = part_sizes(fractions, start, start + len(events))
        start += len(events)
        order = np.random.default_rng((*key, number)).permutation(len(events))
        for part, chosen in zip(parts, np.split(order, np.cumsum(sizes)[:-1]), strict=True):
            if len(chosen):
                part.append(keep(events[np.sort(chosen)]))
    return [tuple(part) for part in parts]


def assemble(
    tables: Mapping[str, Sequence[Table]],
    seed: int,
    grid: FixedPoint,
    description: Mapping[str, Any],
    fractions: Sequence[float] = (),
    standardise_axes: tuple[int, ...] = (),
) -> Dataset:
    """Read and check the tables of every role, split `background` by `fractions`."""
    _check_roles(tables)
    # Blocks are read in this order, whatever the order of the files.
    signals_given = (role for role in tables if role.startswith(_SIGNALS))
    roles = ("background", "train", "val", "test", "exposure", *signals_given)
    whole = {role: concatenate(tables[role]) for role in roles if role in tables}
    _check_shapes(whole.values())
    size = sum(table.size for table in whole.values())
    keep = Block.of if size <= MEMORY_LIMIT else TemporaryEvents().keep
    samples, signals = {}, {}
    for role, table in whole.items():
        if (name := role.removeprefix(_SIGNALS)) != role:
            signals[name] = _halves(name, table, seed, keep)
            continue
        if role == "background":
            given = fractions[:2] if "test" in whole else fractions
            parts = split(pieces(table), given, (seed, _BACKGROUND), keep)
            found = dict(zip(("train", "val", "test"), parts, strict=False))
        else:
            found = {role: tuple(keep(part) for part in pieces(table) if len(part))}
        for name, part in found.items():
            samples[name] = sample = Sample(name, table.shape, part)
            if name == "exposure" and not len(sample):
                raise UserError(f"{table.name}: no event is left for the exposure")
            if name != "exposure" and len(sample) < 2:
                raise UserError(
                    f"{table.name}: {'one' if len(sample) else 'no'} event left for {name!r}, "
                    "at least 2 are needed; give more events or change data.split"
                )
    return Dataset(
        train=samples["train"],
        val=samples["val"],
        test=samples["test"],
        signals=signals,
        grid=grid,
        exposure=samples.get("exposure"),
        standardise_axes=standardise_axes,
        description=description,
        files=tuple(dict.fromkeys(str(table.file) for role in whole for table in tables[role])),
    )


def _halves(name: str, table: Table, seed: int, keep: Keep) -> Signal:
    """A signal's events, one random half to choose with and one to judge with."""
    parts = split(pieces(table), [0.5, 0.5], (seed, _SIGNAL), keep)
    val, test = (Sample(name, table.shape, part) for part in parts)
    if min(len(val), len(test)) < 1:
        raise UserError(
            f"{table.name}: {len(val) + len(test)} events of the signal {name!r}, "
            "at least 2 are needed: one to choose a student with, one to judge it"
        )
    return Signal(val, test)


def _check_shapes(tables: Iterable[Table]) -> None:
    """Refuse tables of events that differ in shape."""
    first, *others = tables
    for table in others:
        if table.shape != first.shape:
            raise UserError(
                f"{table.name}: events of shape {table.shape}, but {first.name} has events of "
                f"shape {first.shape}; all events of a data set have one shape"
            )


def _check_names(roles: Iterable[str]) -> None:
    """Refuse signals that are named like another sample."""
    for role in roles:
        if (signal := role.removeprefix(_SIGNALS)) != role and signal.lower() in _RESERVED:
            raise UserError(
                f"data.signals: no signal can be named {signal!r}, a sample of every run is; "
                "choose another name"
            )


def _check_roles(tables: Mapping[str, Sequence[Table]]) -> None:
    """Refuse events in two roles, but of two signals: who trains on an event cannot be judged."""
    _check_names(tables)
    seen: dict[tuple[Path, str], str] = {}
    for role, parts in tables.items():
        for table in parts:
            identity = table.file.resolve(), table.key
            before = seen.get(identity)
            seen[identity] = role
            if before == role:
                raise UserError(f"{table.name} stands twice in data.{role}; name it once")
            if before and not (before.startswith(_SIGNALS) and role.startswith(_SIGNALS)):
                raise UserError(
                    f"{table.name} stands in data.{before} and in data.{role}; events that are "
                    "trained on cannot judge: give it one role"
                )
