"""Where firmware and network part: one changed weight is found, with its layer's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from l1kd.firmware import hls
from l1kd.firmware.agreement import compare
from l1kd.firmware.trace import compare_layers, first_difference
from tests.firmware.networks import change_weight, events_like, network, predict

pytestmark = pytest.mark.csim


@pytest.fixture(scope="module")
def model() -> object:
    steps = [("conv", 2, 2, 2), ("flatten",), ("dense", 4)]
    return network((6, 4, 1), steps, name="traced", scale=0.2, seed=6)


@pytest.mark.parametrize(("layer", "name"), [(0, "conv1"), (1, "dense3"), (2, "output")])
def test_a_changed_weight_is_found_by_name(
    model: object, layer: int, name: str, tmp_path: Path
) -> None:
    io_type = "io_stream" if layer == 1 else "io_parallel"
    project = hls.convert(model, tmp_path / "p", io_type=io_type)
    events = events_like(model, project.input_type, 64)
    change_weight(project.directory, layer)
    assert compare(predict(model, events), project.predict(events), 2**-8).mismatches > 0
    difference = first_difference(project, model, events)
    assert difference is not None and difference.layer == name
    assert difference.agreement.mismatches > 0 and difference.agreement.max_lsb > 0
    assert difference.type.startswith("ap_fixed<")
    assert f"layer {name!r}" in difference.summary and "LSB" in difference.summary


def test_an_unchanged_project_has_no_difference(model: object, tmp_path: Path) -> None:
    project = hls.convert(model, tmp_path / "p")
    events = events_like(model, project.input_type, 64)
    assert first_difference(project, model, events) is None
    assert first_difference(project, model, events[:0]) is None
    compared = compare_layers(project, model, events)
    assert [name for name, _, _ in compared][-2:] == ["output", "score"]
    assert "conv1" in {name for name, _, _ in compared}
    assert all(np.isfinite(result.max_lsb) and result.max_lsb == 0 for *_, result in compared)
