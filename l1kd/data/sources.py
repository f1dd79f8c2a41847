"""The sources of events, in the order of `l1kd data list`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from l1kd.core.config import SOURCES as SOURCES
from l1kd.core.config import DataSection
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import adc2021, calorimeter, cms_l1, mnist, user_arrays
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import Table

SOURCES.update(
    (source.name, source)
    for source in (
        calorimeter.TOY,
        *mnist.SOURCES,
        calorimeter.CALO,
        cms_l1.SOURCE,
        adc2021.SOURCE,
        user_arrays.SOURCE,
    )
)


def open_dataset(data: DataSection, seed: int) -> Dataset:
    """Open the events that a configuration names: all are read once and checked."""
    source = SOURCES[data.source]
    dataset: Dataset = source.open(data, seed)
    return replace(dataset, port=source.port)


def open_table(data: DataSection, argument: str, port: FixedPoint) -> Table:
    """Events without a label, in a file of the source's or as an array `path` or `path:key`."""
    path, source = Path(argument), SOURCES[data.source]
    own, with_key = source.table, ":" in argument and not path.exists()
    if own is None or (with_key and not source.keyed) or path.suffix.lower() == ".npz":
        return user_arrays.array_table(argument, port)
    table: Table = own(data, path, port)
    return table
