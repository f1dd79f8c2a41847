"""The source `l1toy`, a Pythia 8 toy calorimeter: the embedded sample or a generated one."""

from __future__ import annotations

import contextlib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from l1kd.core.config import LHC_CROSSINGS_MHZ, NAME_PATTERN, DataSection, EventPath, Int, Source
from l1kd.core.errors import UserError
from l1kd.data import hdf5_reader
from l1kd.data.dataset import Dataset, Sample
from l1kd.data.event_tables import Table, blocks, fits_in_memory, window
from l1kd.data.region_files import DEFAULTS, GRID, PHI_AXIS, PORT, SHAPE, table
from l1kd.data.train_test_roles import check_sizes, halves

# Of the file with the training events, so much trains and the rest validates.
_TRAINING_SHARE = 5 / 6


class ToyData(DataSection):
    """The embedded sample, or a directory that `l1kd data generate` wrote."""

    source: Literal["l1toy"]
    directory: EventPath | None = None  # null: the embedded sample
    train_events: Annotated[Int, Field(ge=1)] | None = None  # null: all of them
    test_events: Annotated[Int, Field(ge=1)] | None = None


def embedded_directory() -> Path:
    """Where the embedded sample is, in a checkout as in an installed wheel."""
    return Path(str(resources.files("l1kd.data"))) / "samples" / "l1toy"


def training_table(directory: Path | None = None) -> Table:
    """The training events of the embedded sample, or of another one."""
    whole, training = _train_file(directory or embedded_directory())
    return window(whole, 0, training)


def open_toy(data: ToyData, seed: int) -> Dataset:
    """The data set of a toy sample.

    Training, validation and test events are the same ones whatever the seed: they stem from
    collisions that no two of them share. The signals' halves depend on it.
    """
    directory = Path(data.directory) if data.directory else embedded_directory()
    if (directory / ".work").exists():
        raise UserError(
            f"{directory}: the sample is not finished; give the same `l1kd data generate` again, "
            "it goes on where it stopped"
        )
    whole, training = _train_file(directory)
    test = table(_required(directory, "test"))
    train_events = _limit("train_events", data.train_events, training, whole)
    test_events = _limit("test_events", data.test_events, test.rows, test)
    names = sorted({path.stem for path in directory.glob("*.h5")} - {"train", "test"})
    signal_tables = {name: table(directory / f"{name}.h5") for name in names}
    for name, rows in signal_tables.items():
        if not re.fullmatch(NAME_PATTERN, name):
            raise UserError(
                f"{rows.name}: a file's name is its signal's: letters, digits, '_', '.', '-'; "
                "rename it or move it elsewhere"
            )
    in_memory = fits_in_memory((whole, test, *signal_tables.values()))
    samples = {
        name: Sample(name, SHAPE, tuple(blocks(rows, in_memory)))
        for name, rows in {
            "train": window(whole, 0, train_events),
            "val": window(whole, training, whole.rows),
            "test": window(test, 0, test_events),
        }.items()
    }
    check_sizes(samples, {"train": whole.name, "val": whole.name, "test": test.name})
    signals = {name: halves(name, rows, seed, in_memory) for name, rows in signal_tables.items()}
    train_attributes, test_attributes = _attributes(whole.files[0]), _attributes(test.files[0])
    tables = (whole, test, *signal_tables.values())
    description = {
        "source": "l1toy",
        "about": "Pythia 8 toy calorimeter, not calibrated to any detector; counts of 0.5 GeV",
        "directory": "embedded" if data.directory is None else str(directory),
        "command": test_attributes.get("command"),
        "pile_up": {key: test_attributes.get(f"pileup_{key}") for key in ("mean", "spread")},
        "distinct_collisions": {
            "train": _distinct(train_attributes, 1.0),
            "test": _distinct(test_attributes, test_events / test.rows),
        },
        "acceptance": "does not apply: every generated event is used",
        "exposure": "the toy has no other data set beside it; noise, shuffle and patch need none",
    }
    return Dataset(
        train=samples["train"],
        val=samples["val"],
        test=samples["test"],
        signals=signals,
        grid=GRID,
        standardise_axes=(PHI_AXIS,),
        description=description,
        files=tuple(str(file) for rows in tables for file in rows.files),
    )


def _required(directory: Path, role: str) -> Path:
    path = directory / f"{role}.h5"
    if not path.is_file():
        if directory == embedded_directory():
            raise UserError(
                f"{path}: the embedded sample is missing; install l1kd again, or make a sample "
                "(`l1kd data generate`) and name its directory as data.directory"
            )
        raise UserError(
            f"{path}: no such file; data.directory is what `l1kd data generate` wrote, "
            "with train.h5, test.h5 and a file per signal"
        )
    return path


def _train_file(directory: Path) -> tuple[Table, int]:
    """The table of train.h5 and how many of its first rows train."""
    path = _required(directory, "train")
    whole = table(path)
    training = int(whole.rows * _TRAINING_SHARE)
    # Events of one block share soft collisions: a block is not torn apart.
    block = _attributes(path).get("block_events")
    if isinstance(block, int) and 0 < block <= training:
        training -= training % block
    return whole, training


def _limit(key: str, wanted: int | None, there: int, rows: Table) -> int:
    if wanted is not None and wanted > there:
        raise UserError(
            f"data.{key} is {wanted}, but {rows.name} has {there} such events; "
            "ask for fewer, or generate more"
        )
    if wanted is not None and wanted < 2:
        raise UserError(f"data.{key} is {wanted}, at least 2 are needed; ask for more")
    return there if wanted is None else wanted


def _attributes(path: Path) -> dict[str, Any]:
    """The file's attributes as plain Python values; what is no such value is left out."""
    plain: dict[str, Any] = {}
    with hdf5_reader.opened(path) as file:
        for key, value in file.attrs.items():
            if isinstance(value, (np.ndarray, np.generic)):
                plain[key] = value.tolist()
            elif isinstance(value, (str, int, float, bool)):
                plain[key] = value
    return plain


def _distinct(attributes: dict[str, Any], share: float) -> dict[str, float]:
    """Effective numbers of distinct collisions by false-positive rate, of a share of the events."""
    numbers: dict[str, float] = {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        collisions = attributes["effective_collisions"]
        for rate, number in zip(attributes["effective_collisions_rates"], collisions, strict=True):
            mantissa, exponent = f"{float(rate):e}".split("e")
            numbers[f"{float(mantissa):g}e{int(exponent)}"] = float(number) * share
    return numbers


def _find() -> tuple[str | None, str]:
    directory = embedded_directory()
    if (directory / "train.h5").is_file():
        return str(directory), ""
    return None, "install l1kd again, or `l1kd data generate`"


SOURCE = Source(
    name="l1toy",
    about="Pythia 8 toy calorimeter, 18 x 14 regions: zero bias and signals",
    section=ToyData,
    defaults=DEFAULTS,
    port=PORT,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_toy,
    find=_find,
)
