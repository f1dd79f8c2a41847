"""Fixtures of the firmware's tests; networks are in `networks.py`."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from l1kd.core.context import Context
from tests.firmware.networks import Projects, make_run


@pytest.fixture(autouse=True)
def _quiet_keras() -> Any:
    """QKeras' own classes make Keras warn about how they are stored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"keras\..*|qkeras\..*|tensorflow.*")
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of untrained students with its projects; do not change it, take `copy_of` it."""
    from l1kd.firmware.convert import convert

    context = make_run(tmp_path_factory.mktemp("run"))
    convert(context)
    return context


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """One small network in every kind of project; do not change one, copy it."""
    return Projects(tmp_path_factory.mktemp("projects"))
