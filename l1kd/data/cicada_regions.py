"""Calorimeter regions from CICADA's HDF5 files: 18 (phi) x 14 (eta) transverse energies, 10 bits.

Understood are `CaloRegions` as an array (N, 18, 14) of whole numbers of any type, `CaloRegions` as
a group with `et` in it, a flat `et`, and each of them as (N, 252).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.config import CaloData
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import hdf5_reader
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import Table, concatenate
from l1kd.data.train_test_roles import Roles, assemble, check_overlap, paths_by_role

SHAPE = (18, 14, 1)
# 10-bit counts; the sign bit makes it the type that a quantizer at the port has.
GRID = FixedPoint(11, 11, signed=True)
PHI_AXIS = 0
_MAX = 1023
_KEYS = ("CaloRegions", "CaloRegions/et", "et")
_FLAG = "AcceptanceFlag"
_FLAGS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class _Flags:
    """What the acceptance flags of some files say."""

    events: int = 0
    flagged: int = 0
    accepted: int = 0

    def __add__(self, other: _Flags) -> _Flags:
        return _Flags(
            self.events + other.events,
            self.flagged + other.flagged,
            self.accepted + other.accepted,
        )


def table(path: Path, require: bool = False) -> Table:
    """The regions of one file."""
    key, numbers = _regions(path)
    rows = numbers.shape[0]
    select = require and _flags(path, require).flagged > 0

    def read(start: int, stop: int) -> NDArray[Any]:
        counts = _counts(hdf5_reader.read_rows(path, key, start, stop), path, start)
        if select:
            counts = counts[hdf5_reader.read_rows(path, _FLAG, start, stop).astype(bool)]
        return counts

    return Table(str(path), (path,), rows, SHAPE, np.dtype(np.int16), read)


def open_calo(data: CaloData, seed: int) -> Dataset:
    """The data set of CICADA files that a configuration names."""
    required = data.acceptance == "require"
    paths = {role: [Path(path) for path in given] for role, given in paths_by_role(data).items()}
    check_overlap(
        {role: [(file.resolve(), str(file)) for file in files] for role, files in paths.items()}
    )
    flags: dict[str, _Flags] = {}
    for role, files in paths.items():
        counted = [_flags(file, required) for file in files]
        flags[role] = functools.reduce(operator.add, counted)
        # A signal without flags is a mistake; recorded background has none and stays whole.
        if required and role.startswith("signals."):
            for file, each in zip(files, counted, strict=True):
                _insist(file, each)
    tables = {
        role: concatenate([table(file, required) for file in files])
        for role, files in paths.items()
    }
    description: dict[str, Any] = {
        "source": "calo",
        "about": "CICADA calorimeter regions, 10-bit counts",
        "files": {role: [str(file) for file in files] for role, files in paths.items()},
        "acceptance": _in_words(flags, required),
    }
    if "exposure" not in tables:
        from l1kd.data.toy_sample import training_table

        # Another data set's events of the same shape, always at hand.
        try:
            tables["exposure"] = training_table()
            description["exposure"] = "the embedded Pythia 8 toy calorimeter's training events"
        except UserError as error:
            description["exposure"] = f"none: {error}"
    return assemble(Roles.of(tables), data.split, seed, GRID, (PHI_AXIS,), description)


def _regions(path: Path) -> tuple[str, hdf5_reader.Numbers]:
    """The key of the regions and what is there."""
    for key in _KEYS:
        numbers = hdf5_reader.inspect(path, key)
        if numbers is None:
            continue
        if numbers.shape[1:] in ((18, 14), (18, 14, 1), (252,)):
            return key, numbers
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


def _flags(path: Path, required: bool) -> _Flags:
    """Count a file's flags. Only where they are required they have to be one per event, or none."""
    rows = _regions(path)[1].shape[0]
    try:
        numbers = hdf5_reader.inspect(path, _FLAG)
    except UserError:
        if required:
            raise
        numbers = None
    if numbers is None or numbers.shape == (0,):
        return _Flags(rows)
    if numbers.shape != (rows,):
        if not required:
            return _Flags(rows)
        raise UserError(
            f"{path}: {_FLAG} has the shape {numbers.shape} for {rows} events; "
            "one flag per event is needed, or none at all"
        )
    accepted = 0
    for start in range(0, rows, _FLAGS_AT_ONCE):
        stop = min(start + _FLAGS_AT_ONCE, rows)
        accepted += int(np.count_nonzero(hdf5_reader.read_rows(path, _FLAG, start, stop)))
    return _Flags(rows, rows, accepted)


def _insist(file: Path, flags: _Flags) -> None:
    """Refuse a file of simulated events that cannot be selected from."""
    if flags.accepted == 0:
        found = "no acceptance flags" if flags.flagged == 0 else "no flag that is true"
        raise UserError(
            f"{file}: {found}, and data.acceptance is `require`; "
            "set it to `ignore` or leave the file out"
        )


def _in_words(flags: Mapping[str, _Flags], required: bool) -> str:
    counted = "; ".join(
        f"{role}: "
        + (f"{each.accepted} of {each.flagged} flags true" if each.flagged else "no flags")
        + f" ({each.events} events)"
        for role, each in flags.items()
    )
    applied = (
        "only events whose AcceptanceFlag is true were used, where a file has flags"
        if required
        else "the AcceptanceFlag was ignored: all events were used"
    )
    return (
        f"{applied}. In CICADA's files the flag of a simulated event is true if a generated jet "
        f"has pT > 30 GeV and |eta| < 2.4; recorded events have none. {counted}"
    )
