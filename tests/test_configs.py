"""Every shipped configuration is loaded and takes a step of training with all its networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from l1kd.core import config_file
from l1kd.data.dataset import Sample
from l1kd.data.sources import SOURCES
from l1kd.runs.run import context_of
from l1kd.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


REPRESENTATIVE = "l1toy"  # the demo; its events are in the package


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == REPRESENTATIVE else pytest.mark.full)
        for name in config_file.shipped()
    ],
)
def test_a_shipped_configuration_trains(name: str, tmp_path: Path) -> None:
    short = ("epochs=1", "head_start=0", "final_epochs=1", "batch=4000")
    overrides = [f"distillation.{own}" for own in short]
    config = config_file.load(config_file.find(name), overrides)
    if config.data.source == "l1toy":
        overrides += ["data.train_events=4000", "data.test_events=2000"]
        config = config_file.load(config_file.find(name), overrides)
    if SOURCES[config.data.source].find()[0] is None:
        pytest.skip(f"{config.data.source} was not found; set L1KD_DATA")
    context = context_of(tmp_path, config, Console(quiet=True))
    whole = context.dataset
    few = {
        name: Sample.of(name, sample.events(200))
        for name, sample in (("train", whole.train), ("val", whole.val))
    }
    context.__dict__["dataset"] = replace(whole, **few)
    train(context)
    assert context.teacher_file.is_file()
    assert all(context.student_file(student.name).is_file() for student in config.students)
