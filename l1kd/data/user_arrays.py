"""The source `arrays`, the user's own: `.npz` or `.h5`, `path` or `path:key`, any event shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core.config import LHC_CROSSINGS_MHZ, Grid, Source
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables
from l1kd.data.array_files import hdf5_array, hdf5_names, npz_array, npz_names
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import RolesSection, Table, assemble

READERS: dict[str, tuple[Callable[[Path], list[str]], Callable[[Path, str], Table | None]]] = {
    ".npz": (npz_names, npz_array),
    ".h5": (hdf5_names, hdf5_array),
    ".hdf5": (hdf5_names, hdf5_array),
}
_MAX_WORD = 24  # float32 holds every value of such a type


class ArraysData(RolesSection):
    """Arrays by role, each as `path` or `path:key`."""

    source: Literal["arrays"]
    """Your own arrays, `path` or `path:key`."""
    grid: Grid | None = None
    """Fixed-point type of the input; null: the narrowest integer type, for arrays of integers."""


def open_arrays(data: ArraysData, seed: int) -> Dataset:
    """The data set of the arrays that a configuration names."""
    tables = {role: [_locate(path) for path in paths] for role, paths in data.paths().items()}
    raws = [table for row in tables.values() for table in row]
    check_kept(raws)
    grid = data.grid.type if data.grid else _narrowest(raws)
    description = {
        "source": "arrays",
        "about": f"arrays of shape {tables['background'][0].shape}",
        "files": {role: [table.name for table in row] for role, row in tables.items()},
        "acceptance": "does not apply: all events were used",
    }
    checked = {role: [_checked(table, grid) for table in row] for role, row in tables.items()}
    return assemble(checked, seed, grid, description, data.split)


def array_table(argument: str, grid: FixedPoint) -> Table:
    """The array that `path` or `path:key` means, every value on the grid."""
    return _checked(_locate(argument), grid)


def check_kept(tables: Iterable[Table]) -> None:
    """Refuse more than fits in memory of what cannot be read in parts."""
    kept = [table for table in tables if table.kept_because]
    if sum(table.size for table in kept) > event_tables.KEPT_LIMIT:
        raise UserError(
            f"{kept[0].file}: {kept[0].key} ({kept[0].size / 2**20:.0f} MiB) is "
            f"{kept[0].kept_because}: too much data in all to keep in memory, and this cannot be "
            "streamed; write it with numpy.savez in C order, or as HDF5"
        )


def path_and_key(argument: str) -> tuple[Path, str]:
    """The file that `path` or `path:key` means, and the key; empty if there is none."""
    path = Path(argument)
    if path.exists() or ":" not in argument:
        return path, ""
    file, _, key = argument.rpartition(":")
    return Path(file), key.strip("/")


def _locate(argument: str) -> Table:
    """The array that `path` or `path:key` means, its values not checked yet."""
    path, key = path_and_key(argument)
    if path.suffix.lower() not in READERS:
        raise UserError(f"{argument}: neither .npz nor .h5; save it as one of them")
    names, open_array = READERS[path.suffix.lower()]
    if not key:
        key, *others = names(path) or [""]
        if not key:
            raise UserError(f"{path}: no arrays in it")
        if others:
            raise UserError(
                f"{path}: {1 + len(others)} arrays in it ({', '.join([key, *others][:12])}); say "
                f"which one as {path.name}:KEY"
            )
    table = open_array(path, key)
    if table is None:
        there = ", ".join(names(path)[:12])
        raise UserError(f"{path}: no array {key!r} in it; there is {there or 'none'}")
    if math.prod(table.shape) == 0 or not table.shape:
        raise UserError(
            f"{argument}: an array of shape {(table.rows, *table.shape)}; events are (events, ...) "
            "with at least one value each"
        )
    if table.rows == 0:
        raise UserError(f"{argument}: no events in it")
    return replace(table, name=argument)


def _narrowest(raws: Sequence[Table]) -> FixedPoint:
    """The narrowest signed integer type for all values, of at least two bits."""
    low, high = 0, 0
    for raw in raws:
        if raw.dtype.kind == "f":
            raise UserError(
                f"{raw.name}: {raw.dtype} values need a fixed-point grid: set data.grid, for "
                "example {word: 10, integer: 2, signed: true} for steps of 1/256 from -2 up to 2"
            )
        for start, stop in raw.ranges():
            values = raw.read(start, stop)
            low, high = min(low, int(values.min())), max(high, int(values.max()))
    grid = FixedPoint.holding(min(low, -2), high, 0)
    if grid.word > _MAX_WORD:
        raise UserError(
            f"{raws[0].name} and its companions: values from {low} to {high} need {grid.word} "
            f"bits, {_MAX_WORD} are the most; scale them down"
        )
    return grid


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

    return replace(raw, dtype=dtype, read=read)


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
)
