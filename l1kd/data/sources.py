"""The sources of events, in the order of `l1kd data list`."""

from __future__ import annotations

from dataclasses import replace

from l1kd.core.config import SOURCES as SOURCES
from l1kd.core.config import DataSection
from l1kd.data import calorimeter, mnist, user_arrays
from l1kd.data.dataset import Dataset

SOURCES.update(
    (source.name, source)
    for source in (calorimeter.TOY, *mnist.SOURCES, calorimeter.CALO, user_arrays.SOURCE)
)


def open_dataset(data: DataSection, seed: int) -> Dataset:
    """Open the events that a configuration names: all are read once and checked."""
    source = SOURCES[data.source]
    dataset: Dataset = source.open(data, seed)
    return replace(dataset, port=source.port)
