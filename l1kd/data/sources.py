"""The sources of events, in the order of `l1kd data list`."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

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


class Listed(NamedTuple):
    """A source as `l1kd data list` and `l1kd doctor` show it."""

    name: str
    about: str
    found: str | None  # where its events are; None: nowhere, or where the configuration says
    remedy: str  # empty if there is nothing to do


def listing() -> list[Listed]:
    """All sources and whether their events are at hand; nothing is verified yet."""
    return [Listed(source.name, source.about, *source.find()) for source in SOURCES.values()]
