"""Fixtures of the firmware's tests; networks are in `networks.py`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from l1kd.context import Context
from l1kd.exact.store import to_json
from l1kd.files import content_hash
from l1kd.firmware import hls
from tests.firmware.networks import make_run


@pytest.fixture(autouse=True)
def _quiet_keras() -> Any:
    """QKeras' own classes make Keras warn about how they are stored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"keras\..*|qkeras\..*|tensorflow.*")
        yield


@pytest.fixture(scope="session", autouse=True)
def _vectors_once() -> Iterator[None]:
    """A network's vectors depend on nothing else: they are chosen once, as many tests convert it.

    It is most of a conversion. `test_vectors.py` and `convert` call what chooses them itself.
    """
    choose, known = hls.choose, {}

    def chosen(network: Any) -> Any:
        key = content_hash(to_json(network))
        if key not in known:
            known[key] = choose(network)
        return known[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hls, "choose", chosen)
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of untrained students with its projects; do not change it, take `copy_of` it."""
    from l1kd.firmware.convert import convert

    context = make_run(tmp_path_factory.mktemp("run"))
    convert(context)
    return context
