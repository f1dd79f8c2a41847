"""Files of published schemas, made of random events: the CMS Level-1 set, ADC2021."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
from pyarrow import parquet

# Of a kind: its branches and the highest of Et, eta and phi, and how many there are at most.
KINDS: dict[str, tuple[tuple[str, str, str], tuple[int, int, int], int]] = {
    "muons": (("muonIEt", "muonIEtaAtVtx", "muonIPhiAtVtx"), (511, 225, 575), 8),
    "jets": (("jetIEt", "jetIEta", "jetIPhi"), (2047, 115, 143), 12),
    "egammas": (("egIEt", "egIEta", "egIPhi"), (511, 115, 143), 12),
    "taus": (("tauIEt", "tauIEta", "tauIPhi"), (511, 115, 143), 12),
}
Event = dict[str, Any]  # (Et, eta, phi) of each object by kind, MET (Et, phi), and plain numbers


def cms_events(number: int, seed: int = 0, scale: float = 30.0, seeds: int = 5) -> list[Event]:
    """Events as the set has them: calorimeter objects descend in Et, muons do not."""
    random = np.random.default_rng(seed)
    events = []
    for row in range(number):
        event: Event = {}
        for kind, (_, tops, most) in KINDS.items():
            count = int(random.integers(0, most + 1))
            et = np.minimum(1 + random.exponential(scale, count), tops[0] - 1).astype(int)
            if kind != "muons":
                et = -np.sort(-et)
            eta = random.integers(-tops[1], tops[1] + 1, count)
            event[kind] = list(zip(et, eta, random.integers(0, tops[2] + 1, count), strict=True))
        event["MET"] = int(min(random.exponential(scale), 4000)), int(random.integers(0, 144))
        event["ET"] = int(random.integers(100, 3000))
        event |= {"nPV_True": int(random.integers(20, 70)), "event": row}
        event["seeds"] = {f"L1_Seed{n}": bool(random.random() < 0.1) for n in range(seeds)}
        events.append(event)
    return events


def _columns(events: list[Event], npv: Any) -> dict[str, dict[str, Any]]:
    """Arrow arrays by folder and branch; sums and seeds are lists of one."""
    made: dict[str, dict[str, Any]] = {}
    large = pyarrow.large_list(pyarrow.int32())
    for kind, (branches, _, _) in KINDS.items():
        made[kind] = {
            branch: pyarrow.array([[int(o[n]) for o in e[kind]] for e in events], large)
            for n, branch in enumerate(branches)
        }
    made["jets"]["jetRawEt"] = pyarrow.array([[0] * len(e["jets"]) for e in events], large)
    for n, branch in enumerate(("Et", "phi")):
        made.setdefault("MET", {})[branch] = pyarrow.array([[e["MET"][n]] for e in events], large)
    made["ET"] = {"Et": pyarrow.array([[e["ET"]] for e in events], large)}
    made["event_info"] = {
        "event": pyarrow.array([e["event"] for e in events], pyarrow.uint64()),
        "nPV_True": pyarrow.array([e["nPV_True"] for e in events], npv),
    }
    names = list(events[0]["seeds"])
    bits = pyarrow.large_list(pyarrow.bool_())
    made["seeds"] = {
        name: pyarrow.array([[e["seeds"][name]] for e in events], bits) for name in names
    }
    return made


def write_hugging_face(path: Path, events: list[Event], npv: Any = None, group: int = 50) -> Path:
    """`data/<set>/<split>-NNNNN-of-NNNNN.parquet`, and the seeds beside it."""
    made = _columns(events, npv or pyarrow.float32())
    seeds = made.pop("seeds")
    flat = {
        branch if folder == "event_info" else f"{folder}_{branch}": array
        for folder, branches in made.items()
        for branch, array in branches.items()
    }
    flat["L1bit"] = pyarrow.array([any(e["seeds"].values()) for e in events])
    (path.parent / "seeds").mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(flat), path, row_group_size=group)
    parquet.write_table(pyarrow.table(seeds), path.parent / "seeds" / path.name)
    return path


def write_zenodo(directory: Path, parts: list[list[Event]], npv: Any = None) -> Path:
    """`<directory>/<object>/*.parquet`, a file of each folder for each part."""
    for number, events in enumerate(parts):
        for folder, branches in _columns(events, npv or pyarrow.float32()).items():
            (directory / folder).mkdir(parents=True, exist_ok=True)
            file = directory / folder / f"L1Ntuple_{number}.parquet"
            parquet.write_table(pyarrow.table(branches), file)
    return directory


def cms_features(events: list[Event], numbers: dict[str, int]) -> Any:
    """What the network is to see, event by event as the set's own description says."""
    found = []
    for event in events:
        rows = []
        for kind, number in numbers.items():
            if kind == "met":
                objects = [(event["MET"][0], 0, event["MET"][1])] if event["MET"][0] else []
            else:
                objects = [own for own in event[kind] if own[0] > 0]
                objects = sorted(objects, key=lambda own: -own[0])  # stable
            if kind == "muons":
                objects = [(et - 1, eta, phi) for et, eta, phi in objects]
            rows += (objects + [(0, 0, 0)] * number)[:number]
        found.append(rows)
    return np.array(found, np.int64)


def particles(events: int, seed: int = 0, scale: float = 20.0) -> Any:
    """ADC2021's `Particles`: pT, eta, phi and class of MET, 4 electrons, 4 muons, 10 jets."""
    random = np.random.default_rng(seed)
    made = np.zeros((events, 19, 4))
    made[:, :, 3] = np.repeat([1, 2, 3, 4], [1, 4, 4, 10])
    made[:, :, 0] = random.exponential(scale, (events, 19))
    made[:, 1:, 1] = random.uniform(-4, 4, (events, 18))
    made[:, :, 2] = random.uniform(-np.pi, np.pi, (events, 19))
    absent = random.random((events, 19)) < 0.4
    absent[:, 0] = False
    made[absent] = 0
    return made


def write_h5(path: Path, **arrays: Any) -> str:
    """An HDF5 file of arrays; `a__b` is `b` in the group `a`."""
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key.replace("__", "/")] = value
    return str(path)
