"""The registry, and what `l1kd data list` shows."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np

from l1kd.core.config import ArraysData, Source
from l1kd.data import mnist_files, toy_sample
from l1kd.data.sources import SOURCES, listing, open_dataset


def test_every_source_of_the_configuration_is_there():
    assert set(SOURCES) == set(get_args(Source))
    assert {listed.name for listed in listing()} == set(SOURCES)


def test_what_is_nowhere_has_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("L1KD_DATA", raising=False)
    monkeypatch.setattr(mnist_files, "_DEBIAN", tmp_path)
    monkeypatch.setattr(toy_sample, "embedded_directory", lambda: tmp_path)
    listed = {each.name: each for each in listing()}
    assert listed["mnist"].found is None
    assert "l1kd data fetch mnist" in listed["mnist"].remedy
    assert "l1kd data generate" in listed["l1toy"].remedy
    # These two are wherever the configuration says.
    assert listed["calo"].found is None and listed["calo"].remedy == ""
    assert listed["arrays"].found is None and listed["arrays"].remedy == ""


def test_what_is_there_needs_none(monkeypatch, tmp_path):
    for file in mnist_files.FILES:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / file).touch()
    monkeypatch.setenv("L1KD_DATA", str(tmp_path))
    listed = {each.name: each for each in listing()}
    assert listed["mnist"].found == str(tmp_path / "mnist")
    assert listed["mnist"].remedy == ""


def test_open_dataset_goes_to_the_source(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(40).reshape(20, 2))
    data = ArraysData(source="arrays", background=[str(tmp_path / "a.npz")])
    assert len(open_dataset(data, 7).train) == 10


def test_reading_events_needs_no_tensorflow():
    code = (
        "import sys, l1kd.data.sources, l1kd.data.mnist_files; print('tensorflow' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
