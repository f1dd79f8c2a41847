"""The source `cmsl1`: objects of the CC0 CMS Level-1 set, Parquet files in both of its layouts.

docs/formats.md has its columns, units and traps.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd.core.config import LHC_CROSSINGS_MHZ, Source
from l1kd.core.config_types import Float, Int, Range, Strict
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import OBJECT_DEFAULTS, RolesSection, Table, assemble
from l1kd.data.parquet_rows import Chain, Columns, ParquetFile, ParquetRows, lists

_SPLITS = {"train": "train", "valid": "val", "test": "test"}  # theirs and ours
_ET, _ET_OVERFLOW = "ET_Et", 4095
_NPV = "nPV_True"


class Collection(NamedTuple):
    """A kind of trigger object: where it is in the files, and the range of its integers."""

    folder: str  # of Zenodo's layout, and the first part of a column's name in Hugging Face's
    branches: tuple[str, str | None, str]  # Et, eta, phi
    et: int  # highest, which is that of a saturated object
    eta: int  # lowest is minus this, highest one below this
    phi: int  # highest
    offset: int = 0  # Et of 0 GeV; 0 is no object

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Folder and branch of Et, eta and phi, as far as there are."""
        return [(self.folder, branch) for branch in self.branches if branch]


# Ranges are those of the bits that the global trigger gets.
COLLECTIONS = {
    "met": Collection("MET", ("Et", None, "phi"), 4095, 0, 255),
    "muons": Collection("muons", ("muonIEt", "muonIEtaAtVtx", "muonIPhiAtVtx"), 511, 256, 1023, 1),
    "jets": Collection("jets", ("jetIEt", "jetIEta", "jetIPhi"), 2047, 128, 255),
    "egammas": Collection("egammas", ("egIEt", "egIEta", "egIPhi"), 511, 128, 255),
    "taus": Collection("taus", ("tauIEt", "tauIEta", "tauIPhi"), 511, 128, 255),
}


class Objects(Strict):
    """Objects of an event that the network sees, the highest in Et of each kind."""

    met: Annotated[Int, Field(ge=0, le=1)] = 1
    """Missing transverse energy; its eta is 0."""
    muons: Annotated[Int, Field(ge=0, le=8)] = 4
    """Muons, at the vertex."""
    jets: Annotated[Int, Field(ge=0, le=12)] = 10
    """Jets, as all of them the highest in Et."""
    egammas: Annotated[Int, Field(ge=0, le=12)] = 12
    """Electrons and photons."""
    taus: Annotated[Int, Field(ge=0, le=12)] = 0
    """Tau candidates."""

    @property
    def numbers(self) -> dict[str, int]:
        """By kind, in the order of the features; without those of which there are none."""
        return {kind: number for kind, number in self.model_dump().items() if number}

    @property
    def shape(self) -> tuple[int, int]:
        """Of one event: objects, and Et, eta, phi of each."""
        return sum(self.numbers.values()), 3

    def grid(self, fraction: int) -> FixedPoint:
        """The narrowest integers for all of them, with so many bits right of the point."""
        chosen = [COLLECTIONS[kind] for kind in self.numbers]
        low, high = max(each.eta for each in chosen), max(max(e.et, e.phi) for e in chosen)
        return FixedPoint.holding(-max(low, 1), high, fraction)


class CmsL1Data(RolesSection):
    """The CMS Level-1 set by role: a Parquet file, `data/<set>`, or `zerobias/<run>`."""

    source: Literal["cmsl1"]
    """Objects of the CMS Level-1 trigger in the Parquet files of the CC0 set."""
    objects: Objects = Objects()
    """Numbers of objects."""
    fraction_bits: Annotated[Int, Field(ge=0, le=9)] = 4
    """Bits right of the binary point: the network sees the hardware's integers divided by 2 to
    this. The bits are the same; sums and activations are of a size that students learn well."""
    saturated: Literal["keep", "drop"] = "keep"
    """Drop: events with an object whose energy is at the end of its range are left out."""
    without_seeds: list[Annotated[str, Field(pattern=r"^\w+$", max_length=100)]] = Field([])
    """Trigger seeds by name, or L1bit for any; events that one of them accepted are left out."""
    npv: Range[Float] | None = None
    """Pile-up, nPV_True, from one to another; null: any."""


@dataclass(frozen=True)
class _Place:
    """Where events are: a file of all columns (Hugging Face), a directory of folders (Zenodo)."""

    path: Path

    def files(self, folder: str) -> tuple[Path, ...]:
        """Parquet files of a folder; of a file itself, or of the one with its events' seeds."""
        if self.path.is_dir():
            return tuple(sorted((self.path / folder).glob("*.parquet")))
        beside = self.path.parent / "seeds" / self.path.name
        return (beside if folder == "seeds" and beside.is_file() else self.path,)

    def chains(self, wanted: Iterable[tuple[str, str]]) -> list[Chain]:
        """Columns by folder and branch, called `<folder>_<branch>`, of equal numbers of rows."""
        footer = functools.cache(ParquetFile.of)
        found: dict[tuple[Path, ...], dict[str, str]] = {}
        for folder, branch in wanted:
            name = f"{folder}_{branch}"
            # L1bit is beside the seeds or beside the run's number.
            several = [
                self.files(each) for each in (folder, "event_info")[: 1 + (folder == "seeds")]
            ]
            if not any(several):
                raise UserError(
                    f"{self.path}: no Parquet files in its folder {folder!r}, of which {branch} is "
                    "needed; fetch it, too"
                )
            for paths in filter(None, several):
                known = [name for name in (name, branch) if name in footer(paths[0]).names]
                if known:
                    break
            for path in paths:
                if not known or known[0] not in footer(path).names:
                    raise UserError(f"{path}: {_missing(folder, branch, footer(path).names)}")
            found.setdefault(paths, {})[name] = known[0]
        chains = [Chain(tuple(map(footer, paths)), names) for paths, names in found.items()]
        for chain in chains:
            if chain.rows != chains[0].rows:
                one, other = (each.files[0].path for each in (chains[0], chain))
                raise UserError(
                    f"{self.path}: {chains[0].rows} rows in {one.parent.name} and {chain.rows} in "
                    f"{other.parent.name}, which are of the same events; fetch what is missing"
                )
        return chains


def _missing(folder: str, branch: str, names: Sequence[str]) -> str:
    """Words for a column that is not there."""
    if folder == "seeds":
        return (
            f"no seed {branch!r}{did_you_mean(branch, names)}; data and simulation share only some "
            "of them: name those of every file in data.without_seeds"
        )
    there = ", ".join(names[:12]) or "none"
    return f"no column {folder}_{branch} or {branch}; is it of the CMS Level-1 set? There: {there}"


def _places(path: Path) -> dict[str, list[_Place]]:
    """Events of a file or directory by their split; under an empty name those without one."""
    if not path.exists():
        raise UserError(f"{path}: no such file or directory; correct the path")
    if path.is_file():
        return {"": [_Place(path)]}
    if parts := {
        ours: [_Place(path / own)] for own, ours in _SPLITS.items() if (path / own).is_dir()
    }:
        return parts
    if any((path / each.folder).is_dir() for each in COLLECTIONS.values()):
        return {"": [_Place(path)]}
    found: dict[str, list[_Place]] = {}
    for file in sorted(path.glob("*.parquet")):
        split = next((ours for own, ours in _SPLITS.items() if file.name.startswith(own)), "")
        found.setdefault(split, []).append(_Place(file))
    if not found:
        raise UserError(
            f"{path}: neither Parquet files nor folders like muons, jets, MET; name a file, a set "
            "(data/<set> of Hugging Face, zerobias/<run> of Zenodo), or one of its splits"
        )
    return found


@dataclass(frozen=True)
class _Events:
    """Features of the events of a place, and the choice among them."""

    rows: ParquetRows
    path: Path
    data: CmsL1Data
    seeds: Sequence[str] = ()
    counts: Counter[str] | None = None  # of events left out, by reason; None: all are taken

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Events (events, objects, 3) of a range of rows."""
        columns, parts = self.rows.read(start, stop), []
        saturated = np.zeros(stop - start, bool)
        for kind, number in self.data.objects.numbers.items():
            features, at_end = self._padded(columns, kind, number, start)
            parts.append(features)
            saturated |= at_end
        events = np.ldexp(np.concatenate(parts, axis=1, dtype=np.float32), -self.data.fraction_bits)
        return events if self.counts is None else events[self._chosen(columns, saturated, start)]

    def _padded(
        self, columns: Columns, kind: str, number: int, start: int
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """The highest objects of a kind, (events, number, 3), and events with a saturated one."""
        own = COLLECTIONS[kind]
        names = [f"{folder}_{branch}" for folder, branch in own.columns]
        given = [lists(columns[name], self.path, name) for name in names]
        lengths = given[0][0]
        for name, (others, _) in zip(names, given, strict=True):
            if (bad := np.flatnonzero(others != lengths)).size:
                raise UserError(
                    f"{self.path}: event {start + bad[0]} has {lengths[bad[0]]} {names[0]} and "
                    f"{others[bad[0]]} {name}; they are of the same objects: fetch it again"
                )
        event = np.repeat(np.arange(len(lengths)), lengths)
        ranges = [(0, own.et), (-own.eta, own.eta - 1), (0, own.phi)]
        if own.branches[1] is None:
            del ranges[1]
        checked = []
        for name, (_, values), (low, high) in zip(names, given, ranges, strict=True):
            good = (values >= low) & (values <= high)
            if values.dtype.kind == "f":
                good &= values == np.rint(values)
            if not good.all():
                place = int(np.argmin(good))
                raise UserError(
                    f"{self.path}: event {start + event[place]} has {name} = {values[place]}; "
                    f"whole numbers from {low} to {high} are expected, in the hardware's units"
                )
            checked.append(values.astype(np.int16))
        et, eta, phi = checked if own.branches[1] else (checked[0], 0 * checked[0], checked[1])
        full = np.zeros(len(lengths), bool)
        full[event[et == own.et]] = True
        # Et descends in the hardware, but muons come in another order.
        order = np.arange(len(et))
        if np.any((np.diff(et) > 0) & (np.diff(event) == 0)):
            order = np.lexsort((-et, event))
        rank = np.arange(len(et)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        there = (rank < number) & (et[order] > 0)  # of an object that is none nothing counts
        order = order[there]
        made = np.zeros((len(lengths), number, 3), np.int16)
        for feature, values in enumerate((et - own.offset, eta, phi)):
            made[event[there], rank[there], feature] = values[order]
        return made, full

    def _chosen(
        self, columns: Columns, saturated: NDArray[np.bool_], start: int
    ) -> NDArray[np.bool_]:
        """The events that are used; the others are counted by their reason."""
        one = functools.partial(self._one, columns, start)
        reasons = {f"{_ET} = {_ET_OVERFLOW}, an overflow": one(_ET) == _ET_OVERFLOW}
        if self.data.saturated == "drop":
            reasons["a saturated object"] = saturated
        if self.data.npv is not None:
            low, high = self.data.npv
            # float32 in data, int32 in simulation
            pile_up = one(f"event_info_{_NPV}").astype(np.float64)
            reasons["pile-up out of data.npv"] = ~((pile_up >= low) & (pile_up <= high))
        for seed in self.seeds:
            reasons[f"accepted by {seed}"] = one(f"seeds_{seed}") != 0
        out = np.zeros(len(saturated), bool)
        assert self.counts is not None
        for reason, which in reasons.items():
            self.counts[reason] += int(np.sum(which & ~out))
            out |= which
        self.counts["kept with a saturated object"] += int(np.sum(saturated & ~out))
        return ~out

    def _one(self, columns: Columns, start: int, name: str) -> NDArray[Any]:
        """A number per event; sums and seeds are lists of one."""
        lengths, values = lists(columns[name], self.path, name)
        if (bad := np.flatnonzero(lengths != 1)).size:
            raise UserError(
                f"{self.path}: event {start + bad[0]} has {lengths[bad[0]]} {name}, 1 is expected; "
                "fetch it again"
            )
        return values


def _table(place: _Place, data: CmsL1Data, counts: Counter[str] | None) -> tuple[Table, list[Path]]:
    """The events of a place, and all files that they are in."""
    objects = data.objects
    if not objects.numbers:
        raise UserError("data.objects: no object is left; ask for at least one")
    wanted = [column for kind in objects.numbers for column in COLLECTIONS[kind].columns]
    seeds: list[str] = []
    if counts is not None:
        wanted.append(("ET", "Et"))
        wanted += [("event_info", _NPV)] if data.npv is not None else []
        seeds = list(dict.fromkeys(data.without_seeds))
        wanted += [("seeds", seed) for seed in seeds]
    chains = place.chains(wanted)
    events = _Events(ParquetRows(chains), place.path, data, seeds, counts)
    first = chains[0].files[0].path
    files = [file.path for chain in chains for file in chain.files]
    dtype = np.dtype(np.float32)
    return Table(
        str(place.path), first, "", chains[0].rows, objects.shape, dtype, events.read
    ), files


def object_table(data: CmsL1Data, path: Path, port: FixedPoint) -> Table:
    """All events of a file, or of a directory of folders, whatever would be left out of a run."""
    places = [place for parts in _places(path).values() for place in parts]
    if len(places) > 1:
        raise UserError(f"{path}: several splits or files; name one of them")
    return _table(places[0], data, None)[0]


def open_cms_l1(data: CmsL1Data, seed: int) -> Dataset:
    """The data set of the files that a configuration names."""
    counts: Counter[str] = Counter()
    files: list[Path] = []
    places: dict[str, list[_Place]] = {}
    published = False
    for role, paths in data.paths().items():
        found = [_places(Path(path)) for path in paths]
        needed = {"train", "val"} | (set() if data.test else {"test"})
        published = published or (
            role == "background" and all(needed <= parts.keys() for parts in found)
        )
        for parts in found:
            for split, own in parts.items():
                kept = role == "background" and published
                if not (kept and split == "test" and data.test):
                    places.setdefault(split if kept else role, []).extend(own)
    tables: dict[str, list[Table]] = {}
    for role, several in places.items():
        for place in several:
            table, its = _table(place, data, counts)
            tables.setdefault(role, []).append(table)
            files += its
    description: dict[str, Any] = {
        "source": "cmsl1",
        "about": "CMS Level-1 trigger objects (Et, eta, phi) in hardware units: Et 0.5 GeV, of "
        "muons minus 1; eta 0.0870/2, phi 2 pi/144, of muons 0.0870/8 and 2 pi/576",
        "objects": data.objects.numbers,
        "unit": f"hardware integers divided by {2**data.fraction_bits}",
        "files": {role: [table.name for table in row] for role, row in tables.items()},
        "split": "as published" if published else "at random",
        "exposure": "none in data.exposure",
    }
    dataset = assemble(tables, seed, data.objects.grid(data.fraction_bits), description, data.split)
    told = "; ".join(f"{number:,} {reason}" for reason, number in counts.items())
    description["acceptance"] = f"events left out, each for its first reason: {told}"
    every = tuple(dict.fromkeys(map(str, files)))
    chosen = [COLLECTIONS[kind] for kind in data.objects.numbers]
    highest = (max(own.et for own in chosen), max(max(own.eta, 1) for own in chosen) - 1)
    highest = np.array([*highest, max(own.phi for own in chosen)]) / 2**data.fraction_bits
    return replace(dataset, description=description, files=every, highest=tuple(highest.tolist()))


SOURCE = Source(
    name="cmsl1",
    about="the CC0 CMS Level-1 set, Parquet of Zenodo or Hugging Face by role",
    section=CmsL1Data,
    defaults=OBJECT_DEFAULTS,
    port=None,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_cms_l1,
    table=object_table,
)
