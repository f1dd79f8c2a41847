"""Calorimeter regions of CICADA's ROOT ntuples, as an HDF5 file for the source `calo`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import atomic, check_free
from l1kd.data.array_files import opened

TREE = "l1CaloTowerEmuTree/L1CaloTowerTree"
BRANCHES = ("iet", "ieta", "iphi")  # of L1CaloTower
_EVENTS = 4000  # at a time; an event has at most 4,032 towers
_MAX = 1023


def convert(files: Sequence[Path], out: Path) -> int:
    """Write the regions of all events as `CaloRegions` (events, 18, 14); the number of events.

    UserError if something is not as it should be: then nothing is written.
    """
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"{out}: regions are written as HDF5; end the name in .h5")
    check_free(out)
    if len({path.resolve() for path in files}) < len(files):
        raise UserError("a file is named twice; name it once")
    with atomic(out) as temporary, h5py.File(temporary, "w") as file:
        options = {"maxshape": (None, 18, 14), "chunks": (2000, 18, 14), "shuffle": True}
        regions = file.create_dataset(
            "CaloRegions", (0, 18, 14), np.int16, compression="gzip", **options
        )
        file["AcceptanceFlag"] = np.zeros(0, bool)
        for path in files:
            for events in tower_regions(path):
                start = len(regions)
                regions.resize(start + len(events), axis=0)
                regions[start:] = events
        if not len(regions):
            raise UserError(f"{files[0]}: no events in {TREE}; name files with events")
        return len(regions)


def tower_regions(path: Path) -> Iterator[NDArray[np.int16]]:
    """The regions of a file's events (events, 18, 14), some at a time."""
    try:
        import awkward
        import uproot
    except ImportError as error:
        raise UserError(
            "ROOT files are read with uproot, which is not installed; `pip install 'l1kd[root]'`"
        ) from error

    def open_root(path: Path) -> Any:
        return uproot.open(path, num_workers=1)

    with opened(path, "a ROOT", open_root) as file:
        tree: Any = file.get(TREE)
        if not hasattr(tree, "num_entries") or not hasattr(tree, "iterate"):
            there = ", ".join(file.keys(cycle=False)[:12]) or "nothing"
            raise UserError(
                f"{path}: no tree {TREE} in it (there is: {there}); is it an L1 ntuple with towers?"
            )
        found = {branch.name.rpartition("/")[2]: branch for branch in tree.itervalues()}
        if missing := [name for name in BRANCHES if name not in found]:
            raise UserError(
                f"{path}: {TREE} has no L1CaloTower/{missing[0]}; is it an L1 ntuple with towers?"
            )
        for start in range(0, tree.num_entries, _EVENTS):
            stop = min(start + _EVENTS, tree.num_entries)
            towers = {n: found[n].array(entry_start=start, entry_stop=stop) for n in BRANCHES}
            lengths = {n: awkward.to_numpy(awkward.num(own)) for n, own in towers.items()}
            if any((lengths[n] != lengths["iet"]).any() for n in BRANCHES):
                raise UserError(
                    f"{path}: events from {start} have lists of L1CaloTower/{', '.join(BRANCHES)} "
                    "that differ in length; write the file again"
                )
            flat = [awkward.to_numpy(awkward.flatten(towers[n])).astype(np.int64) for n in BRANCHES]
            yield _regions(path, start, lengths["iet"], *flat)


def _regions(
    path: Path,
    start: int,
    towers: NDArray[Any],
    iet: NDArray[np.int64],
    ieta: NDArray[np.int64],
    iphi: NDArray[np.int64],
) -> NDArray[np.int16]:
    """Sums of 4 x 4 towers: of 72 in phi from iphi 71 on, of 56 in eta without ieta 0."""
    event = np.repeat(np.arange(len(towers)), towers)
    good = (iphi >= 1) & (iphi <= 72) & (ieta != 0) & (iet >= 0)
    if not good.all():
        place = int(np.argmin(good))
        raise UserError(
            f"{path}: event {start + event[place]} has a tower with iet {iet[place]}, ieta "
            f"{ieta[place]}, iphi {iphi[place]}; energies are 0 or more, iphi is 1 to 72, and "
            "there is no ieta 0"
        )
    inside = np.abs(ieta) <= 28
    event, iet, ieta, iphi = (own[inside] for own in (event, iet, ieta, iphi))
    column = np.where(ieta < 0, ieta + 28, ieta + 27) // 4
    row = (iphi + 1) % 72 // 4
    flat = np.bincount((event * 18 + row) * 14 + column, iet, len(towers) * 252)
    return np.minimum(flat, _MAX).astype(np.int16).reshape(-1, 18, 14)
