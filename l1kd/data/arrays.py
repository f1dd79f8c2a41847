"""The user's own arrays: `.npz` or `.h5`, `path` or `path:key`, any event shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.config import ArraysData
from l1kd.data import hdf5, npz
from l1kd.data.dataset import Dataset
from l1kd.data.roles import Roles, assemble
from l1kd.data.tables import Table, concatenate
from l1kd.errors import UserError
from l1kd.fixedpoint import FixedPoint

__all__ = ["open_arrays"]

_HDF5, _NPZ = (".h5", ".hdf5"), (".npz",)
_MAX_WORD = 24  # float32 holds every value of such a type


@dataclass(frozen=True)
class _Raw:
    """An array in a file, not yet checked."""

    name: str
    file: Path
    rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]


def open_arrays(data: ArraysData, seed: int) -> Dataset:
    """The data set of the arrays that a configuration names.

    Raises
    ------
    UserError
        For files that are not there or no arrays of numbers, values off the grid, and roles that
        share an array.
    """
    raw = {
        role: [_raw(path) for path in paths]
        for role, paths in {
            "background": data.background,
            "test": data.test,
            "exposure": data.exposure,
            **{f"signals.{name}": paths for name, paths in data.signals.items()},
        }.items()
        if paths
    }
    grid = (
        data.grid.type if data.grid else _narrowest([each for row in raw.values() for each in row])
    )
    tables = {role: concatenate([_table(each, grid) for each in row]) for role, row in raw.items()}
    roles = Roles(
        background=tables["background"],
        test=tables.get("test"),
        signals={name: tables[f"signals.{name}"] for name in data.signals},
        exposure=tables.get("exposure"),
    )
    description = {
        "source": "arrays",
        "about": f"arrays of shape {roles.background.shape}",
        "files": {role: [each.name for each in row] for role, row in raw.items()},
        "acceptance": "does not apply: all events were used",
    }
    return assemble(roles, data.split, seed, grid, (), description)


def _raw(argument: str) -> _Raw:
    """The array that `path` or `path:key` means."""
    path, key = Path(argument), ""
    if not path.exists() and ":" in argument:
        file, _, key = argument.rpartition(":")
        path = Path(file)
    if path.suffix.lower() not in _HDF5 + _NPZ:
        raise UserError(f"{argument}: neither .npz nor .h5; save it as one of them")
    if path.suffix.lower() in _NPZ:
        member = npz.inspect(path, key := _only(path, key, npz.names))
        if member is None:
            raise _no_key(path, key, npz.names(path))
        shape, dtype = member.shape, member.dtype
        read = npz.reader(path, member) if shape else None
    else:
        numbers = hdf5.inspect(path, key := _only(path, key, hdf5.names))
        if numbers is None:
            raise _no_key(path, key, hdf5.names(path))
        shape, dtype = numbers.shape, numbers.dtype

        def read(start: int, stop: int) -> NDArray[Any]:
            return hdf5.read_rows(path, key, start, stop)

    if len(shape) < 2 or math.prod(shape[1:]) == 0 or read is None:
        raise UserError(
            f"{argument}: an array of shape {shape}; events are (events, ...) with at least one "
            "value each"
        )
    if shape[0] == 0:
        raise UserError(f"{argument}: no events in it")
    return _Raw(argument, path, shape[0], tuple(shape[1:]), dtype, read)


def _only(path: Path, key: str, names: Callable[[Path], list[str]]) -> str:
    """The key, or the only array there is."""
    if key:
        return key
    there = names(path)
    if len(there) != 1:
        raise UserError(
            f"{path}: {len(there)} arrays in it ({', '.join(there[:12])}); "
            f"say which one as {path.name}:KEY"
            if there
            else f"{path}: no arrays in it"
        )
    return there[0]


def _no_key(path: Path, key: str, there: Sequence[str]) -> UserError:
    return UserError(f"{path}: no array {key!r} in it; there is {', '.join(there[:12]) or 'none'}")


def _narrowest(raws: Sequence[_Raw]) -> FixedPoint:
    """The narrowest signed integer type for all values.

    Raises
    ------
    UserError
        If the arrays are not of integers.
    """
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


def _ranges(raw: _Raw) -> list[tuple[int, int]]:
    step = max(1, (1 << 22) // math.prod(raw.shape))
    return [(start, min(start + step, raw.rows)) for start in range(0, raw.rows, step)]


def _table(raw: _Raw, grid: FixedPoint) -> Table:
    # 64-bit numbers on a grid of at most 24 bits fit in float32, and so in half the memory.
    dtype = raw.dtype if raw.dtype.itemsize <= 4 else np.dtype(np.float32)
    dtype = dtype.newbyteorder("=")

    def read(start: int, stop: int) -> NDArray[Any]:
        values = raw.read(start, stop)
        good = grid.holds(values)
        if not good.all():
            row = int(np.argmin(good.reshape(len(values), -1).all(axis=1)))
            raise _off_grid(raw.name, start + row, values[row][~good[row]].flat[0], grid)
        return values.astype(dtype)

    return Table(raw.name, (raw.file,), raw.rows, raw.shape, dtype, read)


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
