"""Sums over axes as firmware: a small `set` student in every kind of project, and as Verilog."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.config import Score, Student
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.certify import calls_of, certify
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.hls.hls4ml_convert import to_hls
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.lut_ff_estimate import kernels
from l1kd.firmware.verilog.trace_layers import expected_lut
from l1kd.networks.load import load_model, save_model
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read
from tests.firmware.networks import KINDS, events_like, few_vectors
from tests.networks.lint_clean import built

pytestmark = pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning")


@pytest.fixture(scope="module")
def model() -> Any:
    """6x4 counts, three filters, sums over phi, two units."""
    student = Student(name="set", architecture="set", filters=3, hidden=[2])
    found = build_student(student, (6, 4, 1), FixedPoint(6, 6), Score())
    random = np.random.default_rng(4)
    found.set_weights([random.normal(0.1, 0.7, w.shape) for w in found.get_weights()])
    found.get_layer("output").set_weights([np.array([[0.9], [0.3]]), np.array([5.0])])
    return found


@pytest.mark.parametrize("axes", [[], [0], [4], ["x"], [-1]])
def test_a_file_with_other_axes_is_the_user_s_error(
    axes: list[Any], model: Any, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "set.keras")
    with zipfile.ZipFile(tmp_path / "set.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = files["config.json"].replace(
        b'"axes": [1]', f'"axes": {json.dumps(axes)}'.encode()
    )
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"other\.keras: "):
        load_model(tmp_path / "other.keras")


def test_a_file_brings_the_sum_back(model: Any, tmp_path: Path) -> None:
    save_model(model, tmp_path / "set.keras")
    stored = load_model(tmp_path / "set.keras")
    assert read(stored).to_json() == read(model).to_json()
    assert [node.name for node in read(model).nodes if type(node).__name__ == "Sum"] == ["sum1"]


@pytest.mark.parametrize(
    "kind",
    [k if k in ("latency", "adders") else pytest.param(k, marks=pytest.mark.full) for k in KINDS],
)
def test_every_kind_of_project_is_certified(kind: str, model: Any, tmp_path: Path) -> None:
    exact = read(model)
    project = to_hls(model, tmp_path / kind, vectors=few_vectors(model), **KINDS[kind])
    walk = follow(contents(project.directory), exact, project.description)
    assert walk.certificate.certified, walk.certificate.summary
    assert "sum1" in walk.certificate.layers
    # Of three values: two bits more than each, where a depthwise convolution has four.
    written = {layer.name: layer for layer in project.description.record.layers}
    added = FixedPoint.parse(written["sum1"].accumulator_type or "")
    single = FixedPoint.parse(written["conv1_relu"].result_type)
    assert (added.integer, added.fraction) == (single.integer + 2, single.fraction)


@pytest.mark.parametrize("kind", ["stream", "resource", "resource_stream"])
def test_sums_over_any_axes_are_certified(kind: str, tmp_path: Path) -> None:
    sums = built("sums")
    project = to_hls(sums, tmp_path / kind, vectors=few_vectors(sums), **KINDS[kind])
    certificate = follow(contents(project.directory), read(sums), project.description).certificate
    assert certificate.certified, certificate.summary
    assert {f"s{number}" for number in range(1, 8)} <= {*certificate.layers}


@pytest.mark.csim
@pytest.mark.parametrize(
    "io_type", [pytest.param("io_parallel", marks=pytest.mark.full), "io_stream"]
)
def test_simulation_and_compiled_calls_are_the_exact_network_s(
    io_type: Any, model: Any, tmp_path: Path
) -> None:
    exact = read(model)
    project = to_hls(model, tmp_path / "p", vectors=few_vectors(model), io_type=io_type)
    project = replace(project, calls=calls_of)
    events = events_like(model, exact.port, 500)
    expected = exact.predict(events)
    assert len(np.unique(expected)) > 50
    assert (project.predict(events, processes=1) == expected).all()
    assert (np.asarray(model(events)) == expected).all()
    certificate = certify(project, exact)
    assert certificate.certified, certificate.summary


def test_a_weight_of_a_sum_that_is_no_one_is_refused(model: Any, tmp_path: Path) -> None:
    project = to_hls(model, tmp_path / "p", vectors=few_vectors(model))
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in project.directory.glob("firmware/weights/w*.h")
    }
    values = {path: text[text.index("{") :] for path, text in texts.items()}
    (path,) = (path for path, own in values.items() if {*own} <= {*"01.{}, ;\n#endif"})
    path.write_text(
        texts[path].replace(values[path], values[path].replace("1", "0", 1)), encoding="utf-8"
    )
    first = follow(contents(project.directory), read(model), project.description).certificate
    assert (first.refused[0].layer, first.refused[0].step) == ("sum1", "weights")


def test_its_verilog_is_the_exact_network(model: Any, tmp_path: Path) -> None:
    exact = read(model)
    logic = alkaid_convert.to_verilog(exact, tmp_path / "rtl")
    events = events_like(model, exact.port, 500)
    assert (logic.predict(events) == exact.predict(events)).all()
    assert certify(logic, exact).certified
    assert {"conv1", "sum1", "dense1"} <= {
        layer.name for layer in logic.description.record.layers if layer.lut
    }
    positions = [kernel.positions for kernel in kernels(exact)]
    assert positions == [6, 2, 1, 1]  # the second is the sum
    assert expected_lut(exact) > 0


def test_a_sum_beyond_a_stream_is_refused_by_name(tmp_path: Path) -> None:
    student = Student(name="s", architecture="set", filters=40, hidden=[])
    wide = build_student(student, (6, 4, 1), FixedPoint(6, 6), Score())
    with pytest.raises(CheckFailed, match="'sum1' sums too many values"):
        to_hls(wide, tmp_path / "p", vectors=few_vectors(wide), io_type="io_stream")
