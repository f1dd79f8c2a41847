"""ADC2021's files: features on the grid, absent objects, derived arrays, and what is wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables
from l1kd.data.adc2021 import Adc2021Data, ParticleGrid
from l1kd.data.sources import open_dataset, open_table
from tests.data.event_files import particles, write_h5

EVENTS = particles(80)
GRID = FixedPoint(16, 11)


def configured(background: str, **more: Any) -> Adc2021Data:
    return Adc2021Data(source="adc2021", background=[background], **more)


def features(events: Any, lsb: float = 1 / 32, high: float = 1024) -> Any:
    """pT, eta and phi on the grid, value by value; half a step goes to the even neighbour."""
    made = np.zeros((len(events), 19, 3))
    for event, row in np.ndindex(len(events), 19):
        if events[event, row, 3] != 0:
            steps = [round(value / lsb) for value in events[event, row, :3]]
            made[event, row] = [min(max(n * lsb, -high), high - lsb) for n in steps]
    return made


def in_order(events: Any) -> Any:
    flat = np.asarray(events).reshape(len(events), -1)
    return flat[np.lexsort(flat.T)]


def everything(dataset: Any) -> Any:
    parts = [sample.events() for sample in (dataset.train, dataset.val, dataset.test)]
    return np.concatenate(parts)


@pytest.mark.parametrize("limit", [event_tables.MEMORY_LIMIT, 0])
def test_the_57_features(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", limit)
    names = {"Particles_Names": np.arange(4), "Particles_Classes": np.arange(5)}
    path = write_h5(tmp_path / "background_for_training.h5", Particles=EVENTS, **names)
    data = configured(path)
    dataset, table = open_dataset(data, 1), open_table(data, path, GRID)
    assert (dataset.shape, dataset.grid) == ((19, 3), GRID)
    assert [len(dataset.train), len(dataset.val), len(dataset.test)] == [40, 8, 32]
    wanted = features(EVENTS)
    np.testing.assert_array_equal(table.read(10, 80), wanted[10:])
    np.testing.assert_array_equal(in_order(everything(dataset)), in_order(wanted))
    assert dataset.grid.holds(everything(dataset)).all()
    assert dataset.description["saturated"].startswith("0 of ")


@pytest.mark.parametrize(
    ("key", "shape"),
    [("Data", (19, 3)), ("Data", (57,)), ("X_train", (19, 3, 1)), ("X_test", (57, 1)),
     ("mine", (19, 3))],
)  # fmt: skip
def test_derived_files(key: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    given = np.where(EVENTS[:, :, 3:] == 0, 0, EVENTS[:, :, :3])
    path = write_h5(tmp_path / "d.h5", **{key: given.reshape(-1, *shape).astype(np.float32)})
    argument = f"{path}:mine" if key == "mine" else path
    data = configured(argument)
    exact = np.concatenate([given.astype(np.float32), EVENTS[:, :, 3:]], axis=2)
    np.testing.assert_array_equal(open_table(data, argument, GRID).read(0, 80), features(exact))
    assert len(open_dataset(data, 1).train) == 40


def test_one_of_several_arrays_is_named(tmp_path: Path) -> None:
    parts = {"X_train": EVENTS[:50, :, :3], "X_val": EVENTS[50:, :, :3]}
    path = write_h5(tmp_path / "d.h5", **parts)
    with pytest.raises(UserError, match=r"X_train, X_val are in it; say which as d\.h5:KEY"):
        open_dataset(configured(path), 1)
    dataset = open_dataset(configured(f"{path}:X_train", test=[f"{path}:X_val"]), 1)
    assert len(dataset.test) == 30


def test_absent_objects_are_zero_whatever_stands_there(tmp_path: Path) -> None:
    odd = EVENTS.copy()
    odd[odd[:, :, 3] == 0, :3] = np.nan
    path = write_h5(tmp_path / "a.h5", Particles=odd)
    got = open_table(configured(path), path, GRID).read(0, 80)
    np.testing.assert_array_equal(got, features(EVENTS))


def test_what_saturates_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot = EVENTS.copy()
    hot[7, 0, 0], hot[9, 0, 0] = 5000.0, 1024.0
    path = write_h5(tmp_path / "a.h5", Particles=hot)
    with caplog.at_level(logging.WARNING, "l1kd"):
        dataset = open_dataset(configured(path), 1)
    assert dataset.description["saturated"].startswith("2 of ")
    assert "2 of" in caplog.text and "a.h5: event 7 has 5000" in caplog.text
    assert everything(dataset).max() == 1024 - 1 / 32
    wide = configured(path, grid=ParticleGrid(word=20, integer=14))
    assert everything(open_dataset(wide, 1)).max() == 5000
    caplog.clear()
    with caplog.at_level(logging.WARNING, "l1kd"):
        open_table(configured(path), path, GRID).read(0, 80)
    assert "event 7 has 5000" in caplog.text


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"Particles": EVENTS[:, :18]}, r"shape \(80, 18, 4\); \(events, 19, 4\)"),
        ({"Particles": EVENTS.reshape(80, -1)}, r"shape \(80, 76\)"),
        ({"Muons": EVENTS}, "no Particles in it .there is: Muons"),
        ({}, "there is: no arrays"),
        ({"Particles": EVENTS[:, ::-1]}, r"event \d+ has the class \d in row \d+, \d or 0 is exp"),
        ({"Particles": EVENTS + np.array([0, 0, 0, 0.5])}, "has the class 1.5 in row 0"),
        ({"Particles": EVENTS + np.array([0, np.nan, 0, 0])}, "event 0 has the value nan"),
        ({"Particles": EVENTS + np.array([np.inf, 0, 0, 0])}, "event 0 has the value inf"),
        ({"Particles": np.array([b"x"] * 9)}, "real numbers"),
        ({"Particles": EVENTS[:0]}, "no event left"),
    ],
)
def test_other_files(arrays: Any, words: str, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", **arrays)
    with pytest.raises(UserError, match=words) as caught:
        open_dataset(configured(path), 1)
    assert "a.h5" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_files(kept: float, tmp_path: Path) -> None:
    path = Path(write_h5(tmp_path / "a.h5", Particles=EVENTS))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"a\.h5"):
        open_dataset(configured(str(path)), 1)
