"""`l1kd data convert`: towers of ROOT ntuples become regions, as the published mapping says."""

from __future__ import annotations

import builtins
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data import root_files
from l1kd.data.calorimeter import region_table
from l1kd.data.root_files import convert

awkward = pytest.importorskip("awkward")
uproot = pytest.importorskip("uproot")
Towers = list[tuple[int, int, int]]  # iet, ieta, iphi


def towers(events: int, seed: int = 0, most: int = 300) -> list[Towers]:
    random = np.random.default_rng(seed)
    eta = [each for each in range(-41, 42) if each]  # beyond 28 is the forward calorimeter
    found = []
    for _ in range(events):
        places = random.permutation(len(eta) * 72)[: random.integers(0, most)]
        energies = random.exponential(20, len(places)).astype(int)
        energies[:1] = 1200  # above a region's largest count
        pairs = zip(energies.tolist(), places.tolist(), strict=True)
        found.append([(iet, eta[place // 72], 1 + place % 72) for iet, place in pairs])
    return found


def write(path: Path, events: list[Towers], tree: str = root_files.TREE, drop: str = "") -> Path:
    """The three branches `L1CaloTower/...` of lists."""
    kinds = {"iet": "int16", "ieta": "int16", "iphi": "int16"}
    kinds.pop(drop, None)
    columns = {
        f"L1CaloTower/{name}": awkward.Array(
            [np.array([tower[n] for tower in event], np.int16) for event in events]
        )
        for n, name in enumerate(("iet", "ieta", "iphi"))
        if name != drop
    }
    with uproot.recreate(path) as file:
        types = {f"L1CaloTower/{name}": f"var * {kind}" for name, kind in kinds.items()}
        file.mktree(tree, types)
        if events:
            file[tree].extend(columns)
    return path


def reference(events: list[Towers]) -> Any:
    """Tower by tower: 72 x 56 towers, then sums of 4 x 4, clipped."""
    found = np.zeros((len(events), 18, 14), np.int64)
    for number, event in enumerate(events):
        plane = np.zeros((72, 56), np.int64)
        for iet, ieta, iphi in event:
            if abs(ieta) <= 28:
                plane[(iphi + 1) % 72, ieta + 28 if ieta < 0 else ieta + 27] += iet
        for row in range(18):
            for column in range(14):
                total = plane[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].sum()
                found[number, row, column] = min(total, 1023)
    return found


def test_regions_are_those_of_the_mapping(
    tmp_path: Path, l1kd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_files, "_EVENTS", 7)
    one, other = towers(20), [*towers(5, 1), [], [(3, 1, 72), (4, -1, 71), (5, 28, 1)]]
    write(tmp_path / "a.root", one)
    write(tmp_path / "b.root", other)
    answer = l1kd("data", "convert", "a.root", "b.root", "--out", "regions.h5")
    assert (answer.returncode, answer.stdout) == (0, "regions.h5\n"), answer.stderr
    assert "27 events" in answer.stderr
    table = region_table(tmp_path / "regions.h5")
    wanted = reference(one + other)
    assert wanted.max() == 1023
    np.testing.assert_array_equal(table.read(0, 27)[..., 0], wanted)
    # and is what `calo` reads
    answer = l1kd("init", "mine", "--background", "regions.h5")
    assert answer.returncode == 0 and "14 train" in answer.stderr


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ([(5, 0, 3)], "event 2 has a tower with iet 5, ieta 0, iphi 3"),
        ([(5, 1, 0)], "iphi 0; energies"),
        ([(5, 1, 73)], "iphi is 1 to 72"),
        ([(-1, 1, 1)], "iet -1"),
    ],
)
def test_towers_that_do_not_exist(event: Towers, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", [[], [(1, 1, 1)], event])
    refused(path, words)


def refused(path: Path, words: str) -> None:
    out = path.parent / "out.h5"
    with pytest.raises(UserError, match=words) as caught:
        convert([path], out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_other_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.root", "no such file")
    (tmp_path / "text.root").write_text("hello " * 100)
    refused(tmp_path / "text.root", r"text\.root: not a ROOT file")
    refused(write(tmp_path / "a.root", towers(3), tree="other/tree"), "no tree l1CaloTower.*other")
    refused(write(tmp_path / "b.root", towers(3), drop="ieta"), "no L1CaloTower/ieta")
    refused(write(tmp_path / "c.root", []), "no events in")
    path = write(tmp_path / "d.root", towers(100))
    whole = path.read_bytes()
    for kept in (0.3, 0.9):
        path.write_bytes(whole[: int(kept * len(whole))])
        refused(path, r"d\.root: ")


def test_nothing_is_replaced_and_no_file_is_taken_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", towers(3))
    (tmp_path / "there.h5").write_text("mine")
    with pytest.raises(UserError, match="there already"):
        convert([path], tmp_path / "there.h5")
    with pytest.raises(UserError, match="named twice"):
        convert([path, path], tmp_path / "x.h5")
    with pytest.raises(UserError, match="end the name"):
        convert([path], tmp_path / "x.txt")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "awkward":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(tmp_path / "a.root", r"pip install 'l1kd\[root\]'")


def test_memory_does_not_grow_with_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_files, "_EVENTS", 50)

    def peak(events: int) -> int:
        path = write(tmp_path / f"{events}.root", towers(50, most=100) * (events // 50))
        tracemalloc.start()
        convert([path], tmp_path / f"{events}.h5")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with h5py.File(tmp_path / f"{events}.h5") as file:
            assert len(file["CaloRegions"]) == events
        return highest

    peak(50)
    small, large = peak(200), peak(2000)
    assert large < small + 1_000_000  # 2,000 events have 2 MB of towers and 1 MB of regions
