"""Fixtures of the training's tests: one finished training per mode, and how others are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from l1kd.core import config_file
from l1kd.core.context import Context
from l1kd.runs import run
from tests.conftest import TINY, made_once, tiny_arrays

SPARSE = (
    "{name: sparse, architecture: conv, hidden: [6], sparsity: 0.75, "
    "layers: {conv1: {sparsity: 0.25}, output: {sparsity: 0}}}"
)


def context_of(tiny: Path, directory: Path, *overrides: str) -> Context:
    """A quiet run of the tiny configuration, changed by `overrides`, in a new directory."""
    directory.mkdir(exist_ok=True)
    config = config_file.load(tiny, ["threads=1", *overrides])
    return run.context_of(directory, config, Console(quiet=True))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a finished training of the tiny configuration in a mode. Read only."""

    def make(place: Path, mode: str) -> None:
        from l1kd.training import train

        tiny = place / "tiny.yaml"
        tiny.write_text(yaml.safe_dump({"data": tiny_arrays(place / "data"), **TINY}))
        train.train(context_of(tiny, place / "run", f"distillation.mode={mode}"))

    def of(mode: str) -> Path:
        return (
            made_once(tmp_path_factory, f"trained-{mode}", lambda place: make(place, mode)) / "run"
        )

    return of
