"""Events in files as tables of rows: checked as they are read, in memory or streamed from disk."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.data.dataset import Block

# Above this much data in all, a data set is read block by block when events are asked for.
MEMORY_LIMIT = 1 << 30
# A block is at most so many events, and at most so many values (64 MiB as float32).
BLOCK_EVENTS = 1 << 16
BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class Table:
    """Rows of events in one or several files."""

    name: str  # the file, and the key where one was given, as messages show it
    files: tuple[Path, ...]  # what is read
    rows: int  # how many there are; a selection may leave fewer events
    shape: tuple[int, ...]  # of one event
    dtype: np.dtype[Any]  # of the events that `read` returns
    # Takes a range of rows and returns its events (events, *shape), checked. Raises UserError for
    # what is not as it should be.
    read: Callable[[int, int], NDArray[Any]]


def check_shapes(tables: Iterable[Table]) -> None:
    """Refuse tables of events that differ in shape."""
    first, *others = tables
    for table in others:
        if table.shape != first.shape:
            raise UserError(
                f"{table.name}: events of shape {table.shape}, but {first.name} has events of "
                f"shape {first.shape}; all events of a data set have one shape"
            )


def concatenate(tables: Sequence[Table]) -> Table:
    """One table of all the rows of several, in order."""
    first = tables[0]
    if len(tables) == 1:
        return first
    check_shapes(tables)
    edges = np.cumsum([0, *(table.rows for table in tables)]).tolist()
    dtype = np.result_type(*(table.dtype for table in tables))

    def read(start: int, stop: int) -> NDArray[Any]:
        parts = [
            table.read(max(start - low, 0), min(stop, high) - low)
            for table, low, high in zip(tables, edges[:-1], edges[1:], strict=True)
            if low < stop and start < high
        ]
        return np.concatenate([np.empty((0, *first.shape), dtype), *parts])

    files = tuple(dict.fromkeys(file for table in tables for file in table.files))
    name = f"{first.name} and {len(tables) - 1} more"
    return Table(name, files, edges[-1], first.shape, dtype, read)


def window(table: Table, start: int, stop: int) -> Table:
    """The rows from `start` up to `stop`, as a table."""

    def read(first: int, last: int) -> NDArray[Any]:
        return table.read(start + first, start + last)

    return Table(table.name, table.files, stop - start, table.shape, table.dtype, read)


def fits_in_memory(tables: Iterable[Table]) -> bool:
    """True if the tables together are small enough to be kept."""
    size = sum(table.rows * math.prod(table.shape) * table.dtype.itemsize for table in tables)
    return size <= MEMORY_LIMIT


def blocks(table: Table, in_memory: bool) -> Iterator[Block]:
    """Read a whole table once, block by block, so that bad data shows before hours of training.

    Blocks keep their events if `in_memory`, or read and check them again; both are equal.
    """
    size = min(BLOCK_EVENTS, max(1, BLOCK_VALUES // max(1, math.prod(table.shape))))
    for start in range(0, table.rows, size):
        stop = min(start + size, table.rows)
        block = Block.of(table.read(start, stop))
        if not in_memory:  # the events are freed before others work on the block
            block = Block(block.events, functools.partial(table.read, start, stop))
        yield block
