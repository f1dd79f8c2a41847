"""The registry of sources."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal, get_args

import numpy as np
import pytest
from pydantic import Field

from l1kd.core import config_file
from l1kd.core.config import DataSection, Source
from l1kd.core.config_types import Paths
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import calorimeter, mnist
from l1kd.data.dataset import Dataset, Sample
from l1kd.data.sources import SOURCES, open_dataset
from l1kd.data.user_arrays import ArraysData


def test_every_source_of_the_configuration_is_there():
    assert list(SOURCES) == [
        *("l1toy", "mnist", "fashion_mnist", "calo", "cmsl1", "adc2021", "arrays")
    ]
    for name, source in SOURCES.items():
        assert source.name == name in get_args(source.section.model_fields["source"].annotation)


def test_a_port_has_no_sign_where_no_value_is_negative():
    ports = {name: source.port for name, source in SOURCES.items()}
    assert ports["l1toy"] == ports["calo"] == FixedPoint(10, 10, signed=False)
    assert ports["mnist"] == ports["fashion_mnist"] == FixedPoint(8, 0, signed=False)
    # the grid of the data, which has a sign
    assert ports["arrays"] is ports["cmsl1"] is ports["adc2021"] is None


def test_only_bunch_crossings_have_a_rate():
    rates = {name: source.crossings_mhz for name, source in SOURCES.items()}
    assert rates.pop("mnist") is rates.pop("fashion_mnist") is None
    assert set(rates.values()) == {28.61}


def test_a_new_source_is_one_entry(monkeypatch, tmp_path):
    """Its section, defaults, messages and opener are known wherever a source is."""

    class Mine(DataSection):
        source: Literal["mine"]
        events: int = 10
        files: Paths = Field([])

    def opened(data, seed):
        sample = Sample.of("train", np.zeros((data.events, 2), np.float32))
        return Dataset(sample, sample, sample, {}, FixedPoint(4, 4))

    port = FixedPoint(3, 3, signed=False)
    mine = Source("mine", "", Mine, {"seed": 5}, port, None, opened, lambda: (None, ""))
    monkeypatch.setitem(SOURCES, "mine", mine)
    (tmp_path / "x.h5").touch()
    file = tmp_path / "m.yaml"
    rest = "teacher: {architecture: dense}\nstudents: [dense]"
    file.write_text(f"data: {{source: mine, events: 7, files: x.h5}}\n{rest}")
    config = config_file.load(file)
    assert (config.seed, config.data.files) == (5, [str(tmp_path / "x.h5")])
    config_file.save(config, tmp_path / "config.yaml")
    assert config_file.load_resolved(tmp_path / "config.yaml") == config
    dataset = open_dataset(config.data, 7)
    assert (len(dataset.train), dataset.port) == (7, port)
    file.write_text(f"data: {{source: mine, evnets: 7}}\n{rest}")
    with pytest.raises(UserError, match=r"m\.yaml:1: data\.evnets: .*mean 'events'"):
        config_file.load(file)


def test_what_is_nowhere_has_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("L1KD_DATA", raising=False)
    monkeypatch.setattr(mnist, "_DEBIAN", tmp_path)
    monkeypatch.setattr(calorimeter, "embedded_directory", lambda: tmp_path)
    found, remedy = SOURCES["mnist"].find()
    assert found is None
    assert "l1kd data fetch mnist" in remedy
    assert "l1kd data generate" in SOURCES["l1toy"].find()[1]
    # These two are wherever the configuration says.
    assert SOURCES["calo"].find() == SOURCES["arrays"].find() == (None, "")


def test_what_is_there_needs_none(monkeypatch, tmp_path):
    for file in mnist.FILES:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / file).touch()
    monkeypatch.setenv("L1KD_DATA", str(tmp_path))
    assert SOURCES["mnist"].find() == (str(tmp_path / "mnist"), "")


def test_open_dataset_goes_to_the_source(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(40).reshape(20, 2))
    data = ArraysData(source="arrays", background=[str(tmp_path / "a.npz")])
    assert len(open_dataset(data, 7).train) == 10


def test_reading_events_needs_no_tensorflow():
    code = "import sys, l1kd.data.sources, l1kd.data.mnist; print('tensorflow' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["cmsl1", "adc2021"])
def test_a_source_is_listed_and_described(name, l1kd):
    listed = l1kd("list", "sources")
    assert listed.returncode == 0 and name in listed.stdout
    described = l1kd("describe", name)
    assert described.returncode == 0
    assert described.stdout.startswith(f"{name} (source): {SOURCES[name].about}")
