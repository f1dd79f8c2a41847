"""Rows of Parquet files, also of several side by side, read in order and in bounded memory."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.data.array_files import opened, replaced

Columns = dict[str, Any]  # Arrow arrays

# Rows that are decoded at a time, and how many such pieces are kept, of all files together: as
# many threads as there are cores ask for neighbouring ranges of a few pieces in any order.
PIECE = 1 << 13
_KEPT = 4 * (cores() + 1)
_recent: OrderedDict[tuple[int, int], Columns] = OrderedDict()  # by rows' and piece's number
_lock, _number = threading.Lock(), itertools.count()
# Numbers in a column per row, on average: events have fewer.
_MAX_PER_ROW = 1000
_BUFFER = 1 << 18


def parquet(path: Path) -> contextlib.AbstractContextManager[Any]:
    """Open a Parquet file for reading; errors are UserErrors."""
    from pyarrow import parquet

    # Without these two a row group, which may be the whole file, is read before its first row.
    return opened(
        path,
        "a Parquet",
        lambda path: parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False),
    )


@dataclass(frozen=True)
class ParquetFile:
    """A file by its footer."""

    path: Path
    edges: tuple[int, ...]  # first rows of its row groups, and its number of rows
    names: tuple[str, ...]  # of its columns

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.edges[-1]

    @classmethod
    def of(cls, path: Path) -> ParquetFile:
        """Read the footer, which is checked before anything is decoded."""
        with parquet(path) as file:
            about = file.metadata
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            for group in groups:
                for number in range(group.num_columns):
                    column = group.column(number)
                    if not 0 <= column.num_values <= _MAX_PER_ROW * max(group.num_rows, 1):
                        raise UserError(
                            f"{path}: {column.path_in_schema} has {column.num_values} values in "
                            f"{group.num_rows} rows: damaged; fetch or write the file again"
                        )
            edges = itertools.accumulate((group.num_rows for group in groups), initial=0)
            return cls(path, tuple(edges), tuple(file.schema_arrow.names))

    def batches(self, columns: Sequence[str], start: int) -> Iterator[Any]:
        """Record batches of these columns from a row on."""
        first = max(bisect.bisect_right(self.edges, start) - 1, 0)
        skipped = start - self.edges[first]
        groups = range(first, len(self.edges) - 1)
        with parquet(self.path) as file:
            options = {"row_groups": list(groups), "columns": list(columns), "use_threads": False}
            for batch in file.iter_batches(PIECE, **options):
                if skipped < len(batch):
                    yield batch.slice(skipped)
                skipped = max(skipped - len(batch), 0)


@dataclass(frozen=True)
class Chain:
    """Files one after another, and the columns that are wanted of them, by what we call them."""

    files: tuple[ParquetFile, ...]
    columns: Mapping[str, str]  # names in the files by ours

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)

    def batches(self, start: int) -> Iterator[Columns]:
        """Arrays from a row on, under our names."""
        for file in self.files:
            if start < file.rows:
                for batch in file.batches(list(self.columns.values()), start):
                    order = [batch.column(name) for name in self.columns.values()]
                    yield dict(zip(self.columns, order, strict=True))
            start = max(start - file.rows, 0)


class ParquetRows:
    """Rows of chains side by side, as Arrow arrays; whoever reads on gets the next ones cheaply."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self.rows, self._chains = chains[0].rows, chains
        self._number = next(_number)
        self._streams: list[_Stream] = []
        self._next = -_KEPT  # the piece that comes next of the streams

    def read(self, start: int, stop: int) -> Columns:
        """The columns of a range of rows, by our names."""
        import pyarrow

        parts = []
        with _lock:
            for number in range(start // PIECE, -(-stop // PIECE)):
                piece, low = self._piece(number), max(start - number * PIECE, 0)
                length = min(stop - number * PIECE, PIECE) - low
                parts.append({name: own.slice(low, length) for name, own in piece.items()})
        if len(parts) == 1:
            return parts[0]
        return {name: pyarrow.concat_arrays([each[name] for each in parts]) for name in parts[0]}

    def _piece(self, number: int) -> Columns:
        if (found := _recent.get((self._number, number))) is not None:
            return found
        if not 0 <= number - self._next < _KEPT:
            self._streams = [_Stream(chain, number * PIECE) for chain in self._chains]
            self._next = number
        upcoming, self._next = self._next, -_KEPT  # the streams are of no use after an error
        for each in range(upcoming, number + 1):  # other threads are about to ask for the others
            rows = min(PIECE, self.rows - each * PIECE)
            found = {}
            for stream in self._streams:
                found |= stream.take(rows)
            _recent[self._number, each] = found
            while len(_recent) > _KEPT:
                _recent.popitem(last=False)
        self._next = number + 1
        if self._next * PIECE >= self.rows:  # files are closed
            self._streams, self._next = [], -_KEPT
        assert found is not None
        return found


class _Stream:
    """The rows of a chain in order, as many at a time as are asked for."""

    def __init__(self, chain: Chain, start: int) -> None:
        self._chain, self._batches = chain, chain.batches(start)
        self._left: Columns | None = None

    def take(self, rows: int) -> Columns:
        """The next rows, an array for each column."""
        import pyarrow

        parts: list[Columns] = []
        while rows > 0:
            batch = self._left or next(self._batches, None)
            if batch is None:
                raise replaced(self._chain.files[-1].path)
            have = len(next(iter(batch.values())))
            parts.append({name: own.slice(0, rows) for name, own in batch.items()})
            rest = {name: own.slice(rows) for name, own in batch.items()}
            self._left = rest if have > rows else None
            rows -= min(have, rows)
        if len(parts) == 1:
            return parts[0]
        return {name: pyarrow.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def numbers(array: Any, path: Path, name: str) -> NDArray[Any]:
    """Numbers of an Arrow array without gaps."""
    import pyarrow

    if not (
        pyarrow.types.is_integer(array.type)
        or pyarrow.types.is_floating(array.type)
        or pyarrow.types.is_boolean(array.type)
    ):
        raise UserError(f"{path}: {name} holds {array.type}, real numbers are expected")
    if array.null_count:
        raise UserError(f"{path}: {name} has {array.null_count} missing values; fetch it again")
    return np.asarray(array.to_numpy(zero_copy_only=False))


def lists(array: Any, path: Path, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Lengths (rows,) and values (all,) of an Arrow array of lists; of plain numbers 1 each."""
    import pyarrow

    kind = array.type
    if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)):
        if pyarrow.types.is_fixed_size_list(kind):
            array = array.cast(pyarrow.list_(kind.value_type))
        else:
            values = numbers(array, path, name)
            return np.ones(len(values), np.int64), values
    if array.null_count:
        raise UserError(f"{path}: {name} has {array.null_count} missing lists; fetch it again")
    return np.diff(array.offsets.to_numpy()).astype(np.int64), numbers(array.flatten(), path, name)
