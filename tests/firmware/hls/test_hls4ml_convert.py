"""Conversion: exact in every kind of project, whole or absent, the same every time."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.agreement import compare
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.hls.hls4ml_convert import reuse_for
from l1kd.firmware.hls.project import open_project
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.networks.inspect import float_twin, layer_outputs
from l1kd.networks.to_exact import read
from tests.firmware.networks import (
    Projects,
    conv_counts,
    dense_counts,
    events_like,
    few_vectors,
    images,
    little,
    network,
    predict,
)

BACKENDS = [("Vitis", "io_parallel"), ("Vivado", "io_stream")]
OTHERS = [("Vivado", "io_parallel"), ("Vitis", "io_stream")]


def agrees(model: Any, directory: Path, **options: Any) -> hls4ml_convert.Project:
    """Convert, and demand agreement on events, corners and between this and the next process."""
    port = read(model).port
    assert port is not None
    project = hls4ml_convert.to_hls(model, directory, vectors=few_vectors(model), **options)
    corner, report = corners(port, model.input_shape[1:], read(model), limit=600)
    assert report.events == len(corner) > 100
    for events in (events_like(model, port, 700), corner):
        expected = predict(model, events)
        found = open_project(directory).predict(events)
        assert found.shape == expected.shape == (len(events), model.output_shape[1])
        assert len(np.unique(expected)) > 20, "a network that says one thing is no test"
        result = compare(expected, found, project.output_type.lsb)
        assert result.mismatches == 0, result
    return project


@pytest.fixture(scope="module")
def sample(projects: Projects) -> tuple[np.ndarray, np.ndarray]:
    """Events and corners for the small network, and what QKeras gives for them."""
    model, exact = projects.model, projects.exact
    corner, report = corners(exact.port, exact.shape, exact, limit=600)
    assert report.events == len(corner) > 100
    events = np.concatenate([events_like(model, exact.port, 700), corner]).astype(np.float32)
    expected = predict(model, events)
    assert len(np.unique(expected)) > 20, "a network that says one thing is no test"
    return events, expected


@pytest.mark.csim
@pytest.mark.parametrize(
    "kind",
    [
        *("latency", "stream", "resource", "adders", "one_by_one"),
        pytest.param("resource_stream", marks=pytest.mark.full),
        pytest.param("adders_stream", marks=pytest.mark.full),
    ],
)
def test_every_kind_of_project_is_exact(
    kind: str, projects: Projects, sample: tuple[np.ndarray, np.ndarray]
) -> None:
    if "adders" in kind:
        pytest.importorskip("da4ml")
    project, (events, expected) = projects[kind], sample
    found = open_project(project.directory).predict(events)
    assert found.shape == expected.shape == (len(events), 1)
    assert compare(expected, found, project.output_type.lsb).mismatches == 0
    # hls4ml's distributed arithmetic refuses `ap_int`; the values are the same.
    other = "ap_fixed<11,11,AP_RND_CONV,AP_SAT>"
    assert project.record.input_type == (other if "adders" in kind else "ap_int<11>")
    assert project.record.output_type == "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>"
    pipelined = project.record.io_type == "io_parallel" and project.record.reuse == 1
    assert project.description.interval_cycles == (1 if pipelined and "one" not in kind else None)
    source = (project.directory / "firmware" / "parameters.h").read_text()
    if kind in ("latency", "one_by_one"):
        assert ("n_partitions = 1;" in source) == (kind == "latency")


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize(("backend", "io_type"), BACKENDS + OTHERS)
def test_a_network_on_counts_is_exact(backend: str, io_type: str, tmp_path: Path) -> None:
    project = agrees(conv_counts(), tmp_path / "p", backend=backend, io_type=io_type)
    assert project.record.input_type == "ap_int<11>"
    assert project.record.output_type == "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>"
    assert project.description.interval_cycles == (1 if io_type == "io_parallel" else None)


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize(("backend", "io_type"), BACKENDS)
def test_dense_counts_are_exact(backend: str, io_type: str, tmp_path: Path) -> None:
    agrees(dense_counts(), tmp_path / "p", backend=backend, io_type=io_type)


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize(("backend", "io_type"), BACKENDS)
def test_images_are_exact(backend: str, io_type: str, tmp_path: Path) -> None:
    # All positions at once compile three times longer; a smaller network has both ways above.
    agrees(images(), tmp_path / "p", backend=backend, io_type=io_type, unroll=False)


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize(
    ("strategy", "io_type", "reuse"),
    [("resource", "io_parallel", 2), ("resource", "io_stream", 3)],
)
def test_resource_is_exact(strategy: str, io_type: str, reuse: int, tmp_path: Path) -> None:
    agrees(little(outputs=3), tmp_path / "p", strategy=strategy, io_type=io_type, reuse=reuse)


def cell() -> Any:
    return network((4, 4, 2), [("conv", 3, 1, 1), ("flatten",)], name="cell")


def test_a_kernel_of_one_cell_gets_a_reuse_factor_that_there_is_code_for(tmp_path: Path) -> None:
    """hls4ml leaves 4 as it is, for 2 x 3 multiplications, and computes from beyond the weights."""
    model = cell()
    options: dict[str, Any] = {"strategy": "resource", "reuse": 4}
    project = hls4ml_convert.to_hls(model, tmp_path / "p", vectors=few_vectors(model), **options)
    (record,) = [layer for layer in project.record.layers if layer.name == "conv1"]
    source = (tmp_path / "p" / "firmware" / "parameters.h").read_text()
    convolution = source[source.index("conv2d_config") :]
    assert record.weights == 6 and "reuse_factor = 2;" in convolution.partition("};")[0]
    certificate = follow(contents(tmp_path / "p"), read(model), project.description).certificate
    assert certificate.certified, certificate.summary
    assert reuse_for(model.get_layer("conv1"), 4) == 2
    assert [reuse_for(model.get_layer("conv1"), reuse) for reuse in (1, 2, 3, 100)] == [1, 2, 2, 2]
    assert reuse_for(model.get_layer("output"), 7) == 7  # hls4ml corrects those itself


@pytest.mark.full
@pytest.mark.csim
def test_a_kernel_of_one_cell_is_exact(tmp_path: Path) -> None:
    agrees(cell(), tmp_path / "p", strategy="resource", reuse=4)


def test_a_depthwise_convolution_has_no_resource_strategy_in_parallel(tmp_path: Path) -> None:
    from qkeras import QDepthwiseConv2D

    events, own = keras_input((5, 5, 2)), "quantized_bits(4,0,alpha=1)"
    x = qactivation("quantized_bits(6,2,alpha=1)", "port")(events)
    x = QDepthwiseConv2D(3, depthwise_quantizer=own, bias_quantizer=own, name="deep")(x)
    model = keras_model(events, qactivation("quantized_relu(8,4)", "out")(x))
    with pytest.raises(CheckFailed, match="'deep' has a depthwise convolution"):
        hls4ml_convert.to_hls(model, tmp_path / "p", strategy="resource", reuse=3)


def keras_input(shape: tuple[int, ...]) -> Any:
    from tensorflow.keras import Input

    return Input(shape, name="events")


def qactivation(text: str, name: str) -> Any:
    from qkeras import QActivation

    return QActivation(text, name=name)


def keras_model(events: Any, output: Any) -> Any:
    from tensorflow.keras import Model

    return Model(events, output, name="deep")


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_distributed_arithmetic_is_exact(io_type: str, tmp_path: Path) -> None:
    pytest.importorskip("da4ml")
    model = network((4, 4, 1), [("conv", 2, 2, 2), ("flatten",)], name="da")
    agrees(model, tmp_path / "p", strategy="distributed_arithmetic", io_type=io_type)


@pytest.mark.csim
@pytest.mark.parametrize(
    ("backend", "io_type", "strategy"),
    [
        pytest.param("Vitis", "io_parallel", "latency", marks=pytest.mark.full),
        ("Vivado", "io_stream", "resource"),
        pytest.param("Vitis", "io_stream", "distributed_arithmetic", marks=pytest.mark.full),
    ],
)
def test_a_stated_port_is_exact(backend: str, io_type: str, strategy: str, tmp_path: Path) -> None:
    """CICADA's regions are unsigned, which QKeras cannot say."""
    if strategy == "distributed_arithmetic":
        pytest.importorskip("da4ml")
    model, port = network((4, 4, 1), [("conv", 2, 2, 2), ("flatten",)]), FixedPoint(10, 10, False)
    project = hls4ml_convert.to_hls(
        model,
        tmp_path / "p",
        backend=backend,
        io_type=io_type,
        strategy=strategy,
        port=port,
        vectors=few_vectors(model, port),
    )
    assert project.record.input_type == "ap_ufixed<10,10,AP_RND_CONV,AP_SAT>"
    assert open_project(tmp_path / "p").input_type == port
    assert "ap_ufixed<10,10" in (tmp_path / "p" / "firmware" / "defines.h").read_text()
    corner, _ = corners(port, (4, 4, 1), read(model), limit=600)
    assert corner.min() == 0 and corner.max() == 1023
    assert (project.predict(corner) == predict(model, corner)).all()
    with pytest.raises(UserError, match="no value of the input port"):
        project.predict(-corner)


@pytest.mark.parametrize(
    "port",
    [FixedPoint(11, 11, False), FixedPoint(12, 12), FixedPoint(11, 10), FixedPoint(4, 3, False)],
)
def test_a_port_that_the_network_cannot_hold_is_refused(port: FixedPoint, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stated input port .* does not have"):
        hls4ml_convert.to_hls(little(), tmp_path / "p", port=port)
    assert not list(tmp_path.iterdir())


def test_a_namespace_names_the_version(tmp_path: Path) -> None:
    def namespace(model: Any, **options: Any) -> str:
        vectors = few_vectors(model, options.get("port"))
        project = hls4ml_convert.to_hls(model, tmp_path / "p", vectors=vectors, **options)
        name = project.description.namespace
        top = project.record.top
        for suffix in ("cpp", "h"):
            text = (tmp_path / "p" / f"{top}_version.{suffix}").read_text()
            assert text.count(f"\nnamespace {name} {{\n") == 1
        for path in (tmp_path / "p" / "firmware").glob("*.*"):
            assert f"namespace {name}" not in path.read_text()
        assert re.fullmatch(r"[A-Za-z_]\w*", name)
        return name

    first = namespace(little())
    assert re.fullmatch(r"l1kd_little_v[0-9a-f]{8}", first)
    others = {
        namespace(little(seed=2)),
        namespace(little(), io_type="io_stream"),
        namespace(little(), strategy="resource"),
        namespace(little(), clock_ns=2.5),
        namespace(little(), port=FixedPoint(10, 10, False)),
        namespace(little(), name="other"),
    }
    assert len(others) == 6 and first not in others
    assert namespace(little()) == first


@pytest.mark.full
@pytest.mark.csim
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_hls4ml_s_own_bridge_is_exact(io_type: str, tmp_path: Path) -> None:
    """Built by its script, called as hls4ml's `predict` calls it."""
    model = little()
    vectors = few_vectors(model)
    hls4ml_convert.to_hls(model, tmp_path / "p", io_type=io_type, vectors=vectors)
    subprocess.run(["bash", "build_lib.sh"], check=True, cwd=tmp_path / "p")
    library = ctypes.CDLL(str(tmp_path / "p" / "firmware" / "l1kd_little-l1kd.so"))
    call = library.l1kd_little_double
    call.argtypes = [np.ctypeslib.ndpointer(np.float64)] * 2
    for event, wanted in zip(vectors, predict(model, vectors), strict=True):
        found = np.empty(1)
        call(np.ascontiguousarray(event), found)
        assert found[0] == wanted[0]


TWO = """
#include "one/l1kd_little_version.h"
#include "two/l1kd_little_version.h"
#include <cstdio>
#include <map>
#include <string>
namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
}
#define RUN(NAME) { \
    NAME::events_t x[6]; NAME::result_t y[1]; \
    for (int i = 0; i < 6; i++) x[i] = 100 * i + 3; \
    NAME::l1kd_little(x, y); \
    std::printf("%.10f\\n", y[0].to_double()); }
int main() { RUN(@ONE@) RUN(@TWO@) return 0; }
"""


@pytest.mark.csim
def test_two_versions_are_linked_into_one_program(tmp_path: Path) -> None:
    """Of one name, shape and types; in either order."""
    models = {"one": little(seed=1), "two": little(seed=4)}
    text, objects = TWO, []
    for name, model in models.items():
        made = hls4ml_convert.to_hls(model, tmp_path / name, vectors=few_vectors(model))
        namespace = made.description.namespace
        text = text.replace(f"@{name.upper()}@", namespace)
        objects.append(f"{name}.o")
        source = f"{name}/l1kd_little_version.cpp"
        flags = ["-std=c++14", "-w", f"-I{name}/firmware/ap_types", "-c", source, "-o", f"{name}.o"]
        subprocess.run(["g++", *flags], check=True, cwd=tmp_path)
    (tmp_path / "main.cpp").write_text(text)
    events = (100.0 * np.arange(6) + 3)[None]
    expected = [predict(model, events)[0, 0] for model in models.values()]
    assert expected[0] != expected[1]
    command = ["g++", "-std=c++14", "-w", "-Ione/firmware/ap_types", "-c", "main.cpp"]
    subprocess.run(command, check=True, cwd=tmp_path)
    for order in (objects, objects[::-1]):
        subprocess.run(["g++", "main.o", *order, "-o", "main"], check=True, cwd=tmp_path)
        done = subprocess.run(["./main"], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert [float(line) for line in done.stdout.split()] == expected


@pytest.mark.csim
def test_somebody_else_s_network_is_exact_and_traced(tmp_path: Path) -> None:
    """Activations inside of layers, a linear signed output, max pooling, `same` padding."""
    from qkeras import QActivation, QConv2D, QDense, quantized_bits, quantized_relu
    from tensorflow.keras import Input, Model, layers

    bits = quantized_bits(6, 0, alpha=1)
    events = Input((6, 5, 2), name="in")
    x = QActivation("quantized_bits(8,2,alpha=1)", name="q")(events)
    x = QConv2D(
        3,
        3,
        padding="same",
        kernel_quantizer=bits,
        bias_quantizer=bits,
        activation=quantized_relu(7, 2),
        name="c",
    )(x)
    x = layers.MaxPooling2D(2, name="m")(x)
    x = QActivation("quantized_relu(7,2)", name="mq")(x)
    x = layers.Flatten(name="f")(x)
    x = QDense(2, kernel_quantizer=bits, bias_quantizer=bits, name="d")(x)
    model = Model(
        events, QActivation("quantized_bits(12,3,alpha=1)", name="out")(x), name="9-lives"
    )
    random = np.random.default_rng(2)
    model.set_weights([random.normal(0, 0.4, w.shape) for w in model.get_weights()])
    project = agrees(model, tmp_path / "p", io_type="io_stream")
    assert project.record.top == "l1kd_9_lives"
    seen = {layer.name: layer.keras for layer in project.description.layers}
    assert seen["c"] == "" and {"c", "m", "d", "out"} <= set(seen.values())
    sample = events_like(model, project.input_type, 20)
    shown = project.trace(sample)
    expected = layer_outputs(model, ["c", "m", "d", "out"], sample)
    for layer in project.description.layers:
        if layer.keras in expected:
            assert (shown[layer.name] == expected[layer.keras]).all(), layer.name


def test_projects_are_the_same_every_time_and_name_no_machine(tmp_path: Path) -> None:
    """Their vectors too, which are searched for here."""
    model = little()
    trees = []
    for name in ("one", "two"):
        directory = tmp_path / name / "p"
        hls4ml_convert.to_hls(model, directory, io_type="io_stream", backend="Vivado")
        trees.append(
            {
                str(path.relative_to(directory)): path.read_bytes()
                for path in sorted(directory.rglob("*"))
                if path.is_file()
            }
        )
    assert trees[0] == trees[1]
    for name, content in trees[0].items():
        assert str(tmp_path).encode() not in content, name
        assert b".part" not in content or "ap_types" in name, name
    assert b"Xilinx" in trees[0]["NOTICE"] and b"Apache" in trees[0]["LICENSE-Apache-2.0.txt"]
    assert {name for name in trees[0] if name.endswith((".keras", ".txt"))} == {
        "LICENSE-Apache-2.0.txt"
    }


def test_a_project_describes_its_layers(tmp_path: Path) -> None:
    model = conv_counts()
    vectors = few_vectors(model)
    record = hls4ml_convert.to_hls(model, tmp_path / "p", name="a.b-c", vectors=vectors).record
    assert (record.student, record.top) == ("a.b-c", "l1kd_a_b_c")
    assert record.directory == "."  # in the project itself
    rows = {layer.name: layer for layer in record.layers}
    assert rows["conv1"].multiplications == 63 * 16
    assert rows["dense3"].weights == 252 * 16 and rows["dense3"].zeros is not None
    assert rows["dense3_relu"].result_type == "ap_ufixed<10,6,AP_RND_CONV,AP_SAT>"
    assert rows["conv1"].shape == [9, 7, 4] and rows["conv1"].kind == "Conv2D"
    assert rows["score"].weight_type is None


@pytest.mark.csim
def test_events_off_the_port_are_refused(tmp_path: Path) -> None:
    project = hls4ml_convert.to_hls(little(), tmp_path / "p", vectors=few_vectors(little()))
    good = np.zeros((3, 6))
    assert project.predict(good).shape == (3, 1)
    assert project.predict(good[:0]).shape == (0, 1)
    for place, value in (((1, 2), 0.5), ((2, 5), 1024), ((0, 0), -1025), ((1, 1), np.nan)):
        bad = good.copy()
        bad[place] = value
        with pytest.raises(
            UserError, match=rf"event {place[0]}, input \({place[1]},\): .*steps of"
        ):
            project.predict(bad)
    for shape in ((3, 5), (3, 6, 1), ()):
        with pytest.raises(UserError, match="reads events of the shape"):
            project.predict(np.zeros(shape))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "Quartus"}, "no backend is named 'Quartus'"),
        ({"io_type": "io_serial"}, "io_parallel, io_stream"),
        ({"strategy": "speed"}, "distributed_arithmetic"),
        ({"reuse": 0}, "positive"),
        ({"clock_ns": 0}, "positive"),
        ({"part": "xc; exec rm"}, "device"),
    ],
)
def test_wrong_arguments_are_one_line(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        hls4ml_convert.to_hls(little(), tmp_path / "p", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"port": "quantized_relu(8,4)"}, CheckFailed, "'port', quantized_relu at the input: .*"),
        ({"port": "quantized_bits(8,3,1,alpha=1)"}, CheckFailed, r"symmetric=1.*use symmetric=0"),
        ({"score": "quantized_bits(60,3,alpha=1)"}, UserError, "wider than 53 bits"),
    ],
)
def test_networks_that_cannot_be_exact_are_refused(
    options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        hls4ml_convert.to_hls(little(**options), tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_the_vendor_s_limit_is_refused_by_name(tmp_path: Path) -> None:
    model = network((8, 8, 16), [("conv", 32, 3, 1), ("flatten",)], name="big")
    with pytest.raises(CheckFailed, match=r"'conv1' has 4608 weights.*below 4096"):
        hls4ml_convert.to_hls(model, tmp_path / "p", io_type="io_stream")
    assert not list(tmp_path.iterdir())


def test_a_project_of_another_format_is_said(tmp_path: Path) -> None:
    (tmp_path / "l1kd.json").write_text('{"format_version": 1, "model": "x"}')
    with pytest.raises(UserError, match=r"written in format 1.*convert the student again"):
        open_project(tmp_path)


def test_what_is_no_project_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no HLS project"):
        open_project(tmp_path)
    (tmp_path / "l1kd.json").write_text("{")
    with pytest.raises(UserError, match="not as l1kd writes it"):
        open_project(tmp_path)


SLOW = """
import sys, time
from pathlib import Path
sys.path[:0] = [{here!r}]
from tests.firmware.networks import few_vectors, little
from l1kd.firmware.hls import hls4ml_convert
def wait(*_):
    Path({mark!r}).touch()
    time.sleep(60)
hls4ml_convert.canonical_cpp.write = wait
hls4ml_convert.to_hls(little(), {directory!r}, vectors=few_vectors(little()))
"""


def test_a_conversion_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, directory = little(), tmp_path / "p"
    before = hls4ml_convert.to_hls(model, directory, vectors=few_vectors(model)).description

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hls4ml_convert.canonical_cpp, "write", full)
    for place in (directory, tmp_path / "q"):
        with pytest.raises(OSError, match="No space left"):
            hls4ml_convert.to_hls(little(seed=2), place, vectors=few_vectors(model))
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert open_project(directory).description == before


@pytest.mark.full
def test_a_killed_conversion_leaves_no_project(tmp_path: Path) -> None:
    directory, mark = tmp_path / "projects" / "p", tmp_path / "mark"
    here = str(Path(__file__).parents[3])
    script = SLOW.format(here=here, mark=str(mark), directory=str(directory))
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", script]) as process:
        deadline = time.monotonic() + 120
        while not mark.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert not directory.exists()
    with pytest.raises(UserError, match="no HLS project"):
        open_project(directory)
    again = hls4ml_convert.to_hls(little(), directory, vectors=few_vectors(little()))
    assert again.record.top == "l1kd_little"


def test_the_float_twin_has_no_quantizers() -> None:
    model = conv_counts()
    twin = float_twin(model)
    events = events_like(model, read(model).port, 5)
    x = events.astype(np.float64)
    kernel, bias, dense, dense_bias, out, out_bias = (
        w.astype(np.float64) for w in model.get_weights()
    )
    patches = x.reshape(5, 9, 2, 7, 2).transpose(0, 1, 3, 2, 4).reshape(5, 9, 7, 4)
    x = np.maximum(patches @ kernel.reshape(4, 4) + bias, 0).reshape(5, -1)
    x = np.maximum(x @ dense + dense_bias, 0)
    x = np.maximum(x @ out + out_bias, 0)
    assert twin.predict(events, verbose=0) == pytest.approx(x, rel=1e-4)
    assert not any("Q" in type(layer).__name__ for layer in twin.layers)
