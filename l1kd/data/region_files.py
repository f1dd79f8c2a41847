"""Calorimeter regions in HDF5 files: 18 (phi) x 14 (eta) transverse energies, 10-bit counts.

Understood are `CaloRegions` as an array (N, 18, 14) of whole numbers of any type, `CaloRegions` as
a group with `et` in it, a flat `et`, and each of them as (N, 252).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import hdf5_reader
from l1kd.data.event_tables import Table

SHAPE = (18, 14, 1)
PORT = FixedPoint(10, 10, signed=False)
GRID = FixedPoint(11, 11)  # the same counts in the signed type of a quantizer at the port
PHI_AXIS = 0
# Chosen for the efficiency at a trigger's rate, measured on the toy calorimeter (docs/training.md).
DEFAULTS: dict[str, Any] = {
    "teacher": {
        "architecture": "dense",
        "hidden": [128, 64],
        "latent": 8,
        "square_root": 1.0,
        "standardise": True,
        "residual_power": 2.25,
    },
    "students": [
        {"architecture": "cicada_v1"},
        {"architecture": "cicada_v2"},
        {"architecture": "conv", "hidden": [16]},
    ],
    "distillation": {
        "epochs": 16,
        "final_epochs": 8,
        "batch": 256,
        "student_learning_rate": 3e-3,
        "exposure": ["patch", "shuffle"],
    },
    "choose": {"by": "efficiency"},
}
_MAX = 1023
_KEYS = ("CaloRegions", "CaloRegions/et", "et")
_FLAG = "AcceptanceFlag"
_FLAGS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Flags:
    """Counts of the acceptance flags of some files."""

    events: int = 0
    flagged: int = 0
    accepted: int = 0

    def __add__(self, other: Flags) -> Flags:
        counts = zip(astuple(self), astuple(other), strict=True)
        return Flags(*(mine + theirs for mine, theirs in counts))


def table(path: Path, require: bool = False) -> Table:
    """The regions of one file; `require`: only events whose acceptance flag, if any, is true."""
    key, rows = _regions(path)
    select = require and read_flags(path, require).flagged > 0

    def read(start: int, stop: int) -> NDArray[Any]:
        counts = _counts(hdf5_reader.read_rows(path, key, start, stop), path, start)
        if select:
            counts = counts[hdf5_reader.read_rows(path, _FLAG, start, stop).astype(bool)]
        return counts

    return Table(str(path), (path,), rows, SHAPE, np.dtype(np.int16), read)


def _regions(path: Path) -> tuple[str, int]:
    """The key of the regions and their number of events."""
    for key in _KEYS:
        numbers = hdf5_reader.inspect(path, key)
        if numbers is None:
            continue
        if numbers.shape[1:] in ((18, 14), (18, 14, 1), (252,)):
            return key, numbers.shape[0]
        raise UserError(
            f"{path}: {key} has the shape {numbers.shape}; calorimeter regions are (events, 18, 14)"
        )
    there = ", ".join(hdf5_reader.names(path)[:12]) or "no arrays"
    raise UserError(
        f"{path}: neither CaloRegions nor et is in it (there is: {there}); "
        "for other arrays use the source `arrays`"
    )


def _counts(raw: NDArray[Any], path: Path, start: int) -> NDArray[np.int16]:
    with np.errstate(invalid="ignore"):  # what NaN becomes differs from it, which is all we need
        counts = raw.astype(np.int16)
    good = (counts == raw) & (counts >= 0) & (counts <= _MAX)
    if not good.all():
        row, value = int(np.argmin(good.reshape(len(raw), -1).all(axis=1))), raw[~good][0]
        raise UserError(
            f"{path}: event {start + row} has a region of {value:g}; regions are whole numbers "
            f"from 0 to {_MAX}: round and clip the file's values, or leave the event out"
        )
    return counts.reshape(-1, *SHAPE)


def read_flags(path: Path, required: bool) -> Flags:
    """Count a file's flags. Only where they are required they have to be one per event, or none."""
    rows = _regions(path)[1]
    try:
        numbers = hdf5_reader.inspect(path, _FLAG)
    except UserError:
        if required:
            raise
        numbers = None
    if numbers is None or numbers.shape == (0,) or (numbers.shape != (rows,) and not required):
        return Flags(rows)
    if numbers.shape != (rows,):
        raise UserError(
            f"{path}: {_FLAG} has the shape {numbers.shape} for {rows} events; "
            "one flag per event is needed, or none at all"
        )
    accepted = 0
    for start in range(0, rows, _FLAGS_AT_ONCE):
        stop = min(start + _FLAGS_AT_ONCE, rows)
        accepted += int(np.count_nonzero(hdf5_reader.read_rows(path, _FLAG, start, stop)))
    return Flags(rows, rows, accepted)
