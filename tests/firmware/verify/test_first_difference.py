"""Where firmware and network part: one changed weight is found, with its layer's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from l1kd.exact.agreement import compare
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.verify.comparison import first_difference, in_csim, in_qkeras
from l1kd.networks.to_exact import read
from tests.firmware.networks import Projects, change_weight, events_like, few_vectors, network

pytestmark = pytest.mark.csim


@pytest.fixture(scope="module")
def model() -> object:
    steps = [("conv", 2, 2, 2), ("flatten",), ("dense", 4)]
    return network((6, 4, 1), steps, name="traced", scale=0.2, seed=6)


@pytest.mark.full  # of a run: test_verify
@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (0, "conv1"),
        (1, "dense3"),
        (2, "output"),
    ],
)
def test_a_changed_weight_is_found_by_name(
    model: object, layer: int, name: str, tmp_path: Path
) -> None:
    io_type = "io_stream" if layer == 1 else "io_parallel"
    project = hls4ml_convert.to_hls(
        model, tmp_path / "p", io_type=io_type, vectors=few_vectors(model)
    )
    network = read(model)
    events = events_like(model, project.input_type, 64)
    change_weight(project.directory, layer)
    assert compare(network.predict(events), project.predict(events), 2**-8).mismatches > 0
    difference = first_difference(network, in_csim(project, network, events), events)
    assert difference is not None and difference.layer == name
    assert difference.agreement.mismatches > 0 and difference.agreement.max_lsb > 0
    # Both precisions, side by side.
    assert difference.type.startswith("ap_fixed<") and difference.needed.startswith("ap_fixed<")
    assert f"layer {name!r} ({difference.type}, exact {difference.needed})" in difference.summary


def test_an_unchanged_project_has_no_difference(projects: Projects) -> None:
    project, network = projects["latency"], projects.exact
    events = events_like(projects.model, project.input_type, 64)
    shown = in_csim(project, network, events)
    assert list(shown)[-2:] == ["output", "score"] and "conv1" in shown
    assert first_difference(network, shown, events) is None
    assert first_difference(network, shown, events[:0]) is None


def test_qkeras_is_held_to_the_exact_network_layer_by_layer(model: object) -> None:
    network = read(model)
    events = events_like(model, network.port, 64)
    shown = in_qkeras(model, network, events)
    assert {"port", "conv1", "dense3", "output", "score"} <= set(shown)
    assert first_difference(network, shown, events) is None
    shown["dense3"].values[5, 0] += 1
    difference = first_difference(network, shown, events)
    assert difference is not None and (difference.layer, difference.type) == ("dense3", "")
    assert difference.agreement.first[0].event == 5
