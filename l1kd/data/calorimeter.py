"""The sources of calorimeter regions: `calo`, CICADA's HDF5 files, and `l1toy`, a Pythia 8 toy."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from l1kd.core.config import LHC_CROSSINGS_MHZ, DataSection, Source
from l1kd.core.config_types import NAME_PATTERN, EventPath, Int
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.array_files import hdf5, hdf5_array, hdf5_names
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import RolesSection, Table, assemble, window

SHAPE = (18, 14, 1)
PORT = FixedPoint(10, 10, signed=False)
GRID = FixedPoint(11, 11)  # the same counts in the signed type of a quantizer at the port
PHI_AXIS = 0
# Chosen for the efficiency at a trigger's rate, measured on the toy calorimeter (docs/training.md).
DEFAULTS: dict[str, Any] = {
    "teacher": {
        "architecture": "ensemble",
        "of": [
            {"architecture": "mahalanobis", "square_root": 1.0},
            {
                "architecture": "contrast",
                "hidden": [32],
                "square_root": 1.0,
                "standardise": True,
            },
        ],
        # Of other architectures, where a configuration asks for one.
        "hidden": [128, 64],
        "latent": 8,
        "square_root": 1.0,
        "standardise": True,
        "residual_power": 2.25,
    },
    "students": [
        {"architecture": "cicada_v2", "learning_rate": 5e-3},
        # Every region is compared with three thresholds, whose passes are summed over phi: chosen
        # among others, docs/training.md; smaller ones cost quality, docs/silicon.md.
        {
            "architecture": "set",
            "kernel": [1, 1],
            "filters": 1,
            "pointwise": 3,
            "hidden": [16, 12],
            "weight_bits": 5,
            "layers": {
                "conv1": {"weight_bits": 4, "activation_bits": 9},
                "conv2": {"weight_bits": 3, "activation_bits": 8},
                "output": {"weight_bits": 8},
            },
        },
    ],
    "distillation": {
        "epochs": 8,
        "final_epochs": 56,
        "batch": 256,
        "learning_rate": 3e-3,
        "student_learning_rate": 1e-2,
        "exposure": ["jets", "soft"],
    },
    "choose": {"by": "band"},
}
Channel = Literal["et", "taubit", "egbit"]
# Of a channel: arrays (N, 18, 14) or (N, 252) of whole numbers of any type, under one of these
# names, and the highest number.
_KEYS = {
    "et": ("CaloRegions", "CaloRegions/et", "et"),
    "taubit": ("CaloRegions/taubit", "taubit", "tauBits"),
    "egbit": ("CaloRegions/egbit", "egbit", "egBits"),
}
_MAX = {"et": 1023, "taubit": 1, "egbit": 1}
_FLAG = "AcceptanceFlag"
# Of the toy's file with training events, so much trains and the rest validates.
_TRAINING_SHARE = 5 / 6


class CaloData(RolesSection):
    """CICADA's HDF5 files, by role."""

    source: Literal["calo"]
    """Calorimeter regions in CICADA's HDF5 files."""
    acceptance: Literal["ignore", "require"] = "ignore"
    """Require: only events whose AcceptanceFlag is true are used, where a file has flags."""
    channels: list[Channel] = Field(["et"], min_length=1)
    """Numbers of a region that the network sees: counts, tau bit, e/gamma bit; et comes first."""

    @field_validator("channels")
    @classmethod
    def _counts_first(cls, value: list[Channel]) -> list[Channel]:
        if value[0] != "et" or len(set(value)) < len(value):
            raise ValueError("channels are et, then taubit or egbit or both, each once")
        return value


class ToyData(DataSection):
    """The embedded sample, or a directory that `l1kd data generate` wrote."""

    source: Literal["l1toy"]
    """The Pythia 8 toy calorimeter."""
    directory: EventPath | None = None
    """Directory that `l1kd data generate` wrote; null: the embedded sample."""
    train_events: Annotated[Int, Field(ge=1)] | None = None
    """Zero-bias events to train on, at most; null: all."""
    test_events: Annotated[Int, Field(ge=1)] | None = None
    """Zero-bias events to test with, at most; null: all."""


class Flags(NamedTuple):
    """Acceptance flags of a file: numbers of events, of flags, of true ones."""

    events: int
    flagged: int = 0
    accepted: int = 0


def region_table(path: Path, select: bool = False, channels: Sequence[Channel] = ("et",)) -> Table:
    """The regions of one file; `select`: only of events whose acceptance flag is true."""
    arrays = {channel: _regions(path, channel) for channel in channels}
    flags = hdf5_array(path, _FLAG) if select else None
    first = arrays[channels[0]]
    for array in arrays.values():
        if array.rows != first.rows:
            raise UserError(
                f"{path}: {first.rows} events in {first.key} and {array.rows} in {array.key}; they "
                "are of the same events: write the file again"
            )

    def read(start: int, stop: int) -> NDArray[Any]:
        counts = [
            _counts(array.read(start, stop), path, start, channel)
            for channel, array in arrays.items()
        ]
        events = np.concatenate(counts, axis=-1) if len(counts) > 1 else counts[0]
        return events if flags is None else events[flags.read(start, stop).astype(bool)]

    shape = (*SHAPE[:2], len(channels))
    return replace(first, shape=shape, dtype=np.dtype(np.int16), read=read)


def _regions(path: Path, channel: Channel = "et") -> Table:
    """A channel of the regions of a file, unchecked."""
    for key in _KEYS[channel]:
        found = hdf5_array(path, key)
        if found is None:
            continue
        if found.shape in ((18, 14), (18, 14, 1), (252,)):
            return found
        shape = found.rows, *found.shape
        raise UserError(
            f"{path}: {key} has the shape {shape}; calorimeter regions are (events, 18, 14)"
        )
    there = ", ".join(hdf5_names(path)[:12]) or "no arrays"
    if channel != "et":
        raise UserError(
            f"{path}: no {channel} is in it (there is: {there}); leave it out of data.channels, or "
            "the file out"
        )
    raise UserError(
        f"{path}: neither CaloRegions nor et is in it (there is: {there}); "
        "for other arrays use the source `arrays`"
    )


def _counts(
    raw: NDArray[Any], path: Path, start: int, channel: Channel = "et"
) -> NDArray[np.int16]:
    with np.errstate(invalid="ignore"):  # what NaN becomes differs from it, which is all we need
        counts = raw.astype(np.int16)
    good = (counts == raw) & (counts >= 0) & (counts <= _MAX[channel])
    if not good.all():
        row, value = int(np.argmin(good.reshape(len(raw), -1).all(axis=1))), raw[~good][0]
        kind = "region" if channel == "et" else channel
        raise UserError(
            f"{path}: event {start + row} has a {kind} of {value:g}; {kind}s are whole numbers "
            f"from 0 to {_MAX[channel]}: round and clip the file's values, or leave the event out"
        )
    return counts.reshape(-1, *SHAPE)


def read_flags(path: Path, required: bool) -> Flags:
    """Count a file's flags. Only where they are required they have to be one per event, or none."""
    rows = _regions(path).rows
    try:
        flags = hdf5_array(path, _FLAG)
    except UserError:
        if required:
            raise
        flags = None
    shape = (0,) if flags is None else (flags.rows, *flags.shape)
    if flags is None or shape == (0,) or (shape != (rows,) and not required):
        return Flags(rows)
    if shape != (rows,):
        raise UserError(
            f"{path}: {_FLAG} has the shape {shape} for {rows} events; "
            "one flag per event is needed, or none at all"
        )
    accepted = sum(int(np.count_nonzero(flags.read(*part))) for part in flags.ranges())
    return Flags(rows, rows, accepted)


def open_calo(data: CaloData, seed: int) -> Dataset:
    """The data set of the files that a configuration names."""
    required = data.acceptance == "require"
    tables: dict[str, list[Table]] = {}
    flags: dict[str, Flags] = {}
    for role, paths in data.paths().items():
        counted = {path: read_flags(Path(path), required) for path in paths}
        flags[role] = Flags(*map(sum, zip(*counted.values(), strict=True)))
        # A signal without flags is a mistake; recorded background has none and stays whole.
        for path, each in counted.items():
            if required and role.startswith("signals.") and not each.accepted:
                found = "no flag that is true" if each.flagged else "no acceptance flags"
                raise UserError(
                    f"{path}: {found}, and data.acceptance is `require`; "
                    "set it to `ignore` or leave the file out"
                )
        tables[role] = [
            region_table(Path(path), required and counted[path].flagged > 0, data.channels)
            for path in paths
        ]
    description: dict[str, Any] = {
        "source": "calo",
        "about": "CICADA calorimeter regions, 10-bit counts"
        + "".join(f", {channel}" for channel in data.channels[1:]),
        "files": {role: [table.name for table in row] for role, row in tables.items()},
        "acceptance": _in_words(flags, required),
    }
    if "exposure" not in tables and len(data.channels) > 1:
        description["exposure"] = "none: the toy calorimeter has no bits; give data.exposure"
    elif "exposure" not in tables:
        # Another data set's events of the same shape, always at hand.
        try:
            tables["exposure"] = [_toy_training(embedded_directory())[0]]
            description["exposure"] = "the embedded Pythia 8 toy calorimeter's training events"
        except UserError as error:
            description["exposure"] = f"none: {error}"
    dataset = assemble(tables, seed, GRID, description, data.split, standardise_axes=(PHI_AXIS,))
    if len(data.channels) == 1:
        return dataset
    return replace(dataset, highest=tuple(float(_MAX[channel]) for channel in data.channels))


def _in_words(flags: Mapping[str, Flags], required: bool) -> str:
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


def embedded_directory() -> Path:
    """Where the toy's embedded sample is, in a checkout as in an installed wheel."""
    return Path(str(resources.files("l1kd.data"))) / "samples" / "l1toy"


def open_toy(data: ToyData, seed: int) -> Dataset:
    """The data set of a toy sample; the seed decides the signals' halves only."""
    directory = Path(data.directory) if data.directory else embedded_directory()
    if (directory / ".work").exists():
        raise UserError(
            f"{directory}: the sample is not finished; give the same `l1kd data generate` again, "
            "it goes on where it stopped"
        )
    training, validation = _toy_training(directory)
    test = _toy_table(directory, "test")
    tables = {
        "train": [_limited("train_events", data.train_events, training)],
        "val": [validation],
        "test": [_limited("test_events", data.test_events, test)],
    }
    for name in sorted({path.stem for path in directory.glob("*.h5")} - {"train", "test"}):
        table = region_table(directory / f"{name}.h5")
        if not re.fullmatch(NAME_PATTERN, name):
            raise UserError(
                f"{table.name}: a file's name is its signal's: letters, digits, '_', '.', '-'; "
                "rename it or move it elsewhere"
            )
        tables[f"signals.{name}"] = [table]
    attributes = _attributes(test.file)
    description = {
        "source": "l1toy",
        "about": "Pythia 8 toy calorimeter, not calibrated to any detector; counts of 0.5 GeV",
        "directory": "embedded" if data.directory is None else str(directory),
        "command": attributes.get("command"),
        "pile_up": {key: attributes.get(f"pileup_{key}") for key in ("mean", "spread")},
        "distinct_collisions": {
            "train": _distinct(_attributes(training.file), 1.0),
            "test": _distinct(attributes, tables["test"][0].rows / test.rows),
        },
        "acceptance": "does not apply: every generated event is used",
        "exposure": "the toy has no other data set beside it; noise, shuffle and patch need none",
    }
    return assemble(tables, seed, GRID, description, standardise_axes=(PHI_AXIS,))


def _toy_table(directory: Path, role: str) -> Table:
    path = directory / f"{role}.h5"
    if not path.exists():
        if directory == embedded_directory():
            raise UserError(
                f"{path}: the embedded sample is missing; install l1kd again, or make a sample "
                "(`l1kd data generate`) and name its directory as data.directory"
            )
        raise UserError(
            f"{path}: no such file; data.directory is what `l1kd data generate` wrote, "
            "with train.h5, test.h5 and a file per signal"
        )
    return region_table(path)


def _toy_training(directory: Path) -> tuple[Table, Table]:
    """The training events of a toy sample, and those that validate."""
    whole = _toy_table(directory, "train")
    training = int(whole.rows * _TRAINING_SHARE)
    # Events of one block share soft collisions: a block is not torn apart.
    block = _attributes(whole.file).get("block_events")
    if isinstance(block, int) and 0 < block <= training:
        training -= training % block
    return window(whole, 0, training), window(whole, training, whole.rows)


def _limited(key: str, wanted: int | None, table: Table) -> Table:
    """The first `wanted` events."""
    if wanted is None:
        return table
    if wanted > table.rows:
        raise UserError(
            f"data.{key} is {wanted}, but {table.name} has {table.rows} such events; "
            "ask for fewer, or generate more"
        )
    if wanted < 2:
        raise UserError(f"data.{key} is {wanted}, at least 2 are needed; ask for more")
    return window(table, 0, wanted)


def _attributes(path: Path) -> dict[str, Any]:
    """The file's attributes as plain Python values; what is no such value is left out."""
    of_numpy = (np.ndarray, np.generic)
    with hdf5(path) as file:
        return {
            key: value.tolist() if isinstance(value, of_numpy) else value
            for key, value in file.attrs.items()
            if isinstance(value, (*of_numpy, str, int, float))
        }


def _distinct(attributes: dict[str, Any], share: float) -> dict[str, float]:
    """Effective numbers of distinct collisions by false-positive rate, of a share of the events."""
    numbers: dict[str, float] = {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        collisions = attributes["effective_collisions"]
        for rate, number in zip(attributes["effective_collisions_rates"], collisions, strict=True):
            name = np.format_float_scientific(float(rate), trim="-", exp_digits=1)  # 1e-3
            numbers[name] = float(number) * share
    return numbers


def _find_toy() -> tuple[str | None, str]:
    directory = embedded_directory()
    if (directory / "train.h5").is_file():
        return str(directory), ""
    return None, "install l1kd again, or `l1kd data generate`"


CALO = Source(
    name="calo",
    about="CICADA's HDF5 files by role (data.background, test, signals)",
    section=CaloData,
    defaults=DEFAULTS,
    port=PORT,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_calo,
    table=lambda data, path, port: region_table(path, channels=data.channels),
)
TOY = Source(
    name="l1toy",
    about="Pythia 8 toy calorimeter, 18 x 14 regions: zero bias and signals",
    section=ToyData,
    defaults=DEFAULTS,
    port=PORT,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_toy,
    find=_find_toy,
    table=lambda data, path, port: region_table(path),
)
