"""The source `adc2021`: HDF5 files of the anomaly detection data challenge of 2021 (57 features).

docs/formats.md has their arrays, units and traps. Floats are put on a fixed-point grid.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd.core.config import LHC_CROSSINGS_MHZ, Grid, Source
from l1kd.core.config_types import Bits, Int
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.array_files import hdf5_array, hdf5_names
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import OBJECT_DEFAULTS, RolesSection, Table, assemble
from l1kd.data.user_arrays import path_and_key

logger = logging.getLogger("l1kd")
OBJECTS, FEATURES = 19, 3
# Class of each object: MET, 4 electrons, 4 muons, 10 jets; 0 where there is none.
CLASSES = np.repeat([1, 2, 3, 4], [1, 4, 4, 10])
# The published array, then those of derived files. They have no class, or the class as well.
_KEYS = ("Particles", "Data", "X_train", "X_val", "X_test")
_SHAPES = ((OBJECTS, 4), (OBJECTS, FEATURES), (OBJECTS * FEATURES,))


class ParticleGrid(Grid):
    """The fixed-point grid of pT (GeV), eta and phi."""

    word: Bits = 16
    """Bits in all, the sign included."""
    integer: Annotated[Int, Field(ge=0, le=48)] = 11
    """Bits left of the binary point, the sign included."""


class Adc2021Data(RolesSection):
    """Files of the ADC2021 challenge by role, each as `path` or `path:key`."""

    source: Literal["adc2021"]
    """Events of the anomaly detection challenge of 2021, HDF5."""
    grid: ParticleGrid = ParticleGrid()
    """Fixed-point type of pT (GeV), eta and phi; what lies beyond its range saturates."""


@dataclass
class Saturated:
    """Values beyond the range of a grid."""

    grid: FixedPoint
    tell: bool = False  # of the first one, at once
    number: int = 0
    values: int = 0  # of all objects that are there
    first: str = ""  # file, event and value of one of them
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def range(self) -> str:
        """In words."""
        return f"{self.grid.low:g} to {self.grid.high:g}"

    def add(self, given: NDArray[Any], off: NDArray[np.bool_], name: str, start: int) -> None:
        """Count those of some events (events, objects, 3)."""
        with self.lock:
            self.values += int(np.count_nonzero(given))
            if off.any() and not self.number:
                event = int(np.argmax(off.any(axis=(1, 2))))
                self.first = f"{name}: event {start + event} has {given[event][off[event]][0]:g}"
                if self.tell:
                    logger.warning(f"{self.first}, beyond {self.range}, and saturates")
            self.number += int(np.sum(off))


def particle_table(argument: str, saturated: Saturated) -> Table:
    """Objects (events, 19, 3) of `path` or `path:key` on the grid; absent ones are 0."""
    (path, key), grid = path_and_key(argument), saturated.grid
    raw = _located(path, key)
    shape = tuple(side for side in raw.shape if side != 1)
    if shape not in _SHAPES:
        raise UserError(
            f"{argument}: {raw.key} has the shape {(raw.rows, *raw.shape)}; (events, 19, 4), "
            "(events, 19, 3) or (events, 57) are expected"
        )

    def read(start: int, stop: int) -> NDArray[np.float32]:
        particles = np.asarray(raw.read(start, stop), np.float64)
        with_class = shape == _SHAPES[0]
        particles = particles.reshape(len(particles), OBJECTS, 4 if with_class else FEATURES)
        values = particles[:, :, :FEATURES]
        if with_class:
            kinds = particles[:, :, 3]
            if (bad := (kinds != 0) & (kinds != CLASSES)).any():
                event, place = np.argwhere(bad)[0]
                raise UserError(
                    f"{argument}: event {start + event} has the class {kinds[event, place]:g} in "
                    f"row {place}, {CLASSES[place]} or 0 is expected (0 MET, 1-4 electrons, 5-8 "
                    "muons, 9-18 jets); are the rows in another order?"
                )
            values = np.where(kinds[:, :, None] == 0, 0.0, values)
        if not (finite := np.isfinite(values)).all():
            event = int(np.argmin(finite.all(axis=(1, 2))))
            raise UserError(
                f"{argument}: event {start + event} has the value {values[~finite][0]}; every "
                "value must be a finite number: leave such events out"
            )
        rounded = grid.quantize(values)
        saturated.add(values, np.abs(rounded - values) > grid.lsb / 2, argument, start)
        return rounded.astype(np.float32)

    return replace(
        raw, name=argument, shape=(OBJECTS, FEATURES), dtype=np.dtype(np.float32), read=read
    )


def _located(path: Path, key: str) -> Table:
    """The array of a file that holds events."""
    if key:
        wanted = [key]
    else:
        wanted = [name for name in hdf5_names(path) if name in _KEYS]
        wanted = ["Particles"] if "Particles" in wanted else wanted
    if len(wanted) > 1:
        raise UserError(f"{path}: {', '.join(wanted)} are in it; say which as {path.name}:KEY")
    if not wanted or (table := hdf5_array(path, wanted[0])) is None:
        there = ", ".join(hdf5_names(path)[:12]) or "no arrays"
        raise UserError(
            f"{path}: no {key or 'Particles'} in it (there is: {there}); name the array of events "
            f"as {path.name}:KEY"
        )
    return table


def open_adc2021(data: Adc2021Data, seed: int) -> Dataset:
    """The data set of the files that a configuration names."""
    grid = data.grid.type
    saturated = Saturated(grid)
    tables = {
        role: [particle_table(path, saturated) for path in paths]
        for role, paths in data.paths().items()
    }
    description: dict[str, Any] = {
        "source": "adc2021",
        "about": "ADC2021: pT (GeV), eta, phi of MET, 4 electrons, 4 muons, 10 jets, in steps of "
        f"{grid.lsb:g}",
        "files": {role: [table.name for table in row] for role, row in tables.items()},
        "acceptance": "does not apply: all events were used",
        "exposure": "none in data.exposure",
    }
    dataset = assemble(tables, seed, grid, description, data.split)
    description["saturated"] = f"{saturated.number:,} of {saturated.values:,} values"
    if saturated.number:
        logger.warning(
            f"{description['saturated']} are beyond {saturated.range} and saturate "
            f"({saturated.first}); data.grid with more integer bits holds them"
        )
    return dataset


def _scored(data: Adc2021Data, path: Path, port: FixedPoint) -> Table:
    return particle_table(str(path), Saturated(port, tell=True))


SOURCE = Source(
    name="adc2021",
    about="the ADC2021 challenge's HDF5 files by role, 19 objects of pT, eta, phi",
    section=Adc2021Data,
    defaults=OBJECT_DEFAULTS,
    port=None,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_adc2021,
    table=_scored,
    keyed=True,
)
