"""The sources of events by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from l1kd.core.config import Data
from l1kd.core.errors import UserError
from l1kd.data import cicada_regions, mnist, mnist_files, toy_sample, user_arrays
from l1kd.data.dataset import Dataset

SOURCES: dict[str, Callable[[Any, int], Dataset]] = {
    "l1toy": toy_sample.open_toy,
    "calo": cicada_regions.open_calo,
    "mnist": mnist.open_images,
    "fashion_mnist": mnist.open_images,
    "arrays": user_arrays.open_arrays,
}


@dataclass(frozen=True)
class Listed:
    """A source as `l1kd data list` shows it."""

    name: str  # as `data.source` in a configuration
    about: str  # what it is
    # where its events are; None if they are nowhere, or wherever the configuration says
    found: str | None
    remedy: str  # what to do when they are nowhere; empty if there is nothing to do


def open_dataset(data: Data, seed: int) -> Dataset:
    """Open the events that a configuration names; everything is read once and checked."""
    return SOURCES[data.source](data, seed)


def listing() -> list[Listed]:
    """All sources and whether their events are at hand. Nothing is verified yet."""
    sample = toy_sample.embedded_directory()
    there = (sample / "train.h5").is_file()
    listed = [
        Listed(
            "l1toy",
            "Pythia 8 toy calorimeter, 18 x 14 regions: zero bias and signals",
            str(sample) if there else None,
            "" if there else "install l1kd again, or `l1kd data generate`",
        )
    ]
    for name, known in mnist_files.KNOWN.items():
        try:
            files = mnist_files.find(name)
            found, remedy = (
                (str(files[0].parent), "") if files else (None, mnist_files.not_found(name))
            )
        except UserError as error:
            found, remedy = None, str(error)
        listed.append(Listed(name, f"{known.title}, one class normal", found, remedy))
    listed.append(
        Listed("calo", "CICADA's HDF5 files by role (data.background, test, signals)", None, "")
    )
    listed.append(
        Listed("arrays", "your own .npz or .h5 arrays by role, any event shape", None, "")
    )
    return listed
