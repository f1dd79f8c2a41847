"""The toy sample: the embedded one if it is there, and directories of its layout."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data import calorimeter
from l1kd.data.calorimeter import CaloData
from l1kd.data.sources import open_dataset

EMBEDDED = calorimeter.embedded_directory()


def write(path, events, **attributes):
    random = np.random.default_rng(events)
    with h5py.File(path, "w") as file:
        counts = np.minimum(random.exponential(20, (events, 18, 14)), 1023)
        file["CaloRegions"] = counts.astype(np.int16)
        file["AcceptanceFlag"] = np.zeros(0, bool)
        file["nPV"] = np.zeros(events, np.uint8)
        file.attrs.update(attributes)


@pytest.fixture
def directory(tmp_path):
    numbers = {
        "effective_collisions_rates": [1e-2, 1e-3, 1e-4],
        "effective_collisions": [300.0, 60.0, 8.0],
        "pileup_mean": 50.0,
        "pileup_spread": 10.0,
        "command": "l1kd data generate --seed 1",
    }
    write(tmp_path / "train.h5", 250, block_events=40, **numbers)
    write(tmp_path / "test.h5", 200, **numbers)
    write(tmp_path / "ttbar.h5", 21)
    write(tmp_path / "suep.h5", 20)
    return tmp_path


def config(directory, **more):
    return calorimeter.ToyData(source="l1toy", directory=str(directory), **more)


def regions(path):
    with h5py.File(path) as file:
        return file["CaloRegions"][:]


def test_the_roles_of_a_generated_directory(directory):
    dataset = open_dataset(config(directory), 7)
    # Five sixths of 250 are 208; blocks of 40 are not torn apart.
    train = regions(directory / "train.h5")
    np.testing.assert_array_equal(dataset.train.events()[..., 0], train[:200])
    np.testing.assert_array_equal(dataset.val.events()[..., 0], train[200:])
    np.testing.assert_array_equal(dataset.test.events()[..., 0], regions(directory / "test.h5"))
    assert list(dataset.signals) == ["suep", "ttbar"]
    assert [len(dataset.signals["ttbar"].val), len(dataset.signals["ttbar"].test)] == [11, 10]
    assert dataset.exposure is None
    assert dataset.standardise_axes == (0,)
    assert dataset.grid.holds(dataset.train.events()).all()
    assert len(dataset.files) == 4


def test_the_description_stands_beside_every_number(directory):
    told = open_dataset(config(directory), 7).description
    assert "Pythia 8 toy calorimeter" in told["about"]
    assert told["distinct_collisions"]["test"] == {"1e-2": 300.0, "1e-3": 60.0, "1e-4": 8.0}
    assert told["pile_up"] == {"mean": 50.0, "spread": 10.0}
    assert told["command"] == "l1kd data generate --seed 1"


def test_limits_take_the_first_events(directory):
    dataset = open_dataset(config(directory, train_events=30, test_events=50), 7)
    whole = open_dataset(config(directory), 7)
    np.testing.assert_array_equal(dataset.train.events(), whole.train.events(30))
    np.testing.assert_array_equal(dataset.test.events(), whole.test.events(50))
    np.testing.assert_array_equal(dataset.val.events(), whole.val.events())
    # A quarter of the events has a quarter of the collisions in its tail.
    assert dataset.description["distinct_collisions"]["test"]["1e-3"] == 15.0
    for key, there in {"train_events": 200, "test_events": 200}.items():
        with pytest.raises(UserError, match=rf"data.{key} is 201, but .* has {there} such events"):
            open_dataset(config(directory, **{key: 201}), 7)
    with pytest.raises(UserError, match=r"data\.train_events is 1, at least 2"):
        open_dataset(config(directory, train_events=1), 7)


def test_the_seed_decides_the_halves(directory):
    one, again, other = (
        open_dataset(config(directory), seed).signals["suep"].test.events() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_directories_that_are_no_samples(directory, tmp_path):
    with pytest.raises(UserError, match=r"train\.h5: no such file; data.directory is what"):
        open_dataset(config(tmp_path / "none"), 7)
    (directory / ".work").mkdir()
    with pytest.raises(UserError, match="not finished"):
        open_dataset(config(directory), 7)


def test_names_of_files_become_names_of_signals(directory):
    write(directory / "two words.h5", 20)
    with pytest.raises(UserError, match="two words"):
        open_dataset(config(directory), 7)


def test_calo_has_the_toy_as_its_other_data_set(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(calorimeter, "embedded_directory", lambda: directory)
    write(tmp_path / "mine.h5", 100)
    data = CaloData(source="calo", background=[str(tmp_path / "mine.h5")])
    dataset = open_dataset(data, 7)
    assert len(dataset.exposure) == 200
    assert "toy" in dataset.description["exposure"]


def test_a_missing_embedded_sample_has_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(calorimeter, "embedded_directory", lambda: tmp_path)
    with pytest.raises(UserError, match="install l1kd again"):
        open_dataset(calorimeter.ToyData(source="l1toy"), 7)


@pytest.mark.skipif(not (EMBEDDED / "train.h5").is_file(), reason="no embedded sample yet")
def test_the_embedded_sample():
    dataset = open_dataset(calorimeter.ToyData(source="l1toy"), 7)
    assert len(dataset.train) >= 30_000
    assert len(dataset.val) >= 2_000
    assert len(dataset.test) >= 50_000
    for name in ("ttbar", "ggh_tautau", "vbfh_bb", "hidden_valley", "qcd20", "suep"):
        signal = dataset.signals[name]
        assert len(signal.val) + len(signal.test) == 2_000
    assert dataset.description["distinct_collisions"]["test"]["1e-3"] >= 50
    assert dataset.description["command"].startswith("l1kd data generate")
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= 16 * 2**20
