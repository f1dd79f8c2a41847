"""The source `arrays`, the user's own: `.npz` or `.h5`, `path` or `path:key`, any event shape."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core.config import LHC_CROSSINGS_MHZ, Grid, Source
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables, hdf5_reader, npz_reader
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import Table
from l1kd.data.train_test_roles import RolesSection, assemble, check_overlap

_HDF5, _NPZ = (".h5", ".hdf5"), (".npz",)
_MAX_WORD = 24  # float32 holds every value of such a type


class ArraysData(RolesSection):
    """Arrays by role, each as `path` or `path:key`."""

    source: Literal["arrays"]
    grid: Grid | None = None  # null: the narrowest integer type, for arrays of integers


@dataclass(frozen=True)
class _Place:
    """An array in a file: where, and what its header says. `member` is None in an HDF5 file."""

    name: str
    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    member: npz_reader.Member | None

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for two ways of writing one array."""
        return str(self.file.resolve()), self.key


def open_arrays(data: ArraysData, seed: int) -> Dataset:
    """The data set of the arrays that a configuration names."""
    places = {role: [_locate(path) for path in paths] for role, paths in data.paths().items()}
    check_overlap(
        {role: [(each.identity, each.name) for each in row] for role, row in places.items()}
    )
    # A compressed array has no rows to read one by one: it is kept whole while it is checked.
    zipped = [each.member.size for row in places.values() for each in row if each.member]
    stream = sum(zipped) > event_tables.MEMORY_LIMIT
    raw = {role: [_raw(each, stream) for each in row] for role, row in places.items()}
    grid = data.grid.type if data.grid else _narrowest([t for row in raw.values() for t in row])
    checked = {
        role: event_tables.concatenate([_checked(each, grid) for each in row])
        for role, row in raw.items()
    }
    description = {
        "source": "arrays",
        "about": f"arrays of shape {checked['background'].shape}",
        "files": {role: [each.name for each in row] for role, row in places.items()},
        "acceptance": "does not apply: all events were used",
    }
    return assemble(checked, data.split, seed, grid, (), description)


def _locate(argument: str) -> _Place:
    """The array that `path` or `path:key` means."""
    path, key = Path(argument), ""
    if not path.exists() and ":" in argument:
        file, _, key = argument.rpartition(":")
        path = Path(file)
    if path.suffix.lower() not in (*_HDF5, *_NPZ):
        raise UserError(f"{argument}: neither .npz nor .h5; save it as one of them")
    reader: Any = npz_reader if path.suffix.lower() in _NPZ else hdf5_reader
    key = (key or _only(path, reader.names(path))).strip("/")
    found: npz_reader.Member | hdf5_reader.Numbers | None = reader.inspect(path, key)
    if found is None:
        there = ", ".join(reader.names(path)[:12])
        raise UserError(f"{path}: no array {key!r} in it; there is {there or 'none'}")
    member = found if isinstance(found, npz_reader.Member) else None
    shape = found.shape
    if len(shape) < 2 or math.prod(shape[1:]) == 0:
        raise UserError(
            f"{argument}: an array of shape {shape}; events are (events, ...) with at least one "
            "value each"
        )
    if shape[0] == 0:
        raise UserError(f"{argument}: no events in it")
    return _Place(argument, path, key, shape, found.dtype, member)


def _only(path: Path, names: Sequence[str]) -> str:
    """The only array there is."""
    if not names:
        raise UserError(f"{path}: no arrays in it")
    if len(names) > 1:
        raise UserError(
            f"{path}: {len(names)} arrays in it ({', '.join(names[:12])}); say which one as "
            f"{path.name}:KEY"
        )
    return names[0]


def _raw(place: _Place, stream: bool) -> Table:
    """The rows as they are, unchecked."""
    if place.member is not None:
        read = npz_reader.reader(place.file, place.member, stream)
    else:
        read = functools.partial(hdf5_reader.read_rows, place.file, place.key)
    rows, *shape = place.shape
    return Table(place.name, (place.file,), rows, tuple(shape), place.dtype, read)


def _narrowest(raws: Sequence[Table]) -> FixedPoint:
    """The narrowest signed integer type for all values."""
    low, high = 0, 0
    for raw in raws:
        if raw.dtype.kind == "f":
            raise UserError(
                f"{raw.name}: {raw.dtype} values need a fixed-point grid: set data.grid, for "
                "example {word: 10, integer: 2, signed: true} for steps of 1/256 from -2 up to 2"
            )
        for start, stop in _ranges(raw):
            values = raw.read(start, stop)
            low, high = min(low, int(values.min())), max(high, int(values.max()))
    word = 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
    if word > _MAX_WORD:
        raise UserError(
            f"{raws[0].name} and its companions: values from {low} to {high} need {word} bits, "
            f"{_MAX_WORD} are the most; scale them down"
        )
    return FixedPoint(word, word, signed=True)


def _ranges(raw: Table) -> list[tuple[int, int]]:
    step = max(1, (1 << 22) // math.prod(raw.shape))
    return [(start, min(start + step, raw.rows)) for start in range(0, raw.rows, step)]


def _checked(raw: Table, grid: FixedPoint) -> Table:
    """The rows, every value on the grid."""
    # 64-bit numbers on a grid of at most 24 bits fit in float32, and so in half the memory.
    dtype = (raw.dtype if raw.dtype.itemsize <= 4 else np.dtype(np.float32)).newbyteorder("=")

    def read(start: int, stop: int) -> NDArray[Any]:
        values = raw.read(start, stop)
        good = grid.holds(values)
        if not good.all():
            row = int(np.argmin(good.reshape(len(values), -1).all(axis=1)))
            raise _off_grid(raw.name, start + row, values[row][~good[row]].flat[0], grid)
        return values.astype(dtype)

    return Table(raw.name, raw.files, raw.rows, raw.shape, dtype, read)


def _off_grid(name: str, event: int, value: Any, grid: FixedPoint) -> UserError:
    kind = "fixed" if grid.signed else "ufixed"
    found = f"{name}: event {event} has the value {value!s}"
    if not np.isfinite(value):
        return UserError(f"{found}; every value must be a finite number: leave such events out")
    where = f"the grid {kind}<{grid.word},{grid.integer}>"
    if not grid.low <= value <= grid.high:
        return UserError(
            f"{found}, out of the range {grid.low:g} to {grid.high:g} of {where}; "
            "clip or scale the values, or give data.grid more integer bits"
        )
    return UserError(
        f"{found}, which is not on {where} with steps of {grid.lsb:g}; round the values "
        f"(numpy.rint(x / {grid.lsb!r}) * {grid.lsb!r}), or give data.grid a finer step"
    )


SOURCE = Source(
    name="arrays",
    about="your own .npz or .h5 arrays by role, any event shape",
    section=ArraysData,
    defaults={
        "teacher": {"architecture": "dense", "latent": 8, "standardise": True},
        "students": [{"architecture": "dense"}],
        "distillation": {"exposure": ["shuffle"]},
    },
    port=None,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_arrays,
    find=lambda: (None, ""),
)
