"""The certificate: given to what is written, refused to what is broken, with the layer's name."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network, from_json
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.certificate.cpp_reader import Unreadable, read_program
from l1kd.firmware.certificate.findings import Certificate, Meaning, applied, settled
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents, known, measure
from l1kd.firmware.hls import c_simulation
from l1kd.firmware.hls.hls4ml_convert import to_hls
from l1kd.firmware.hls.project import Project, open_project
from l1kd.firmware.verilog import alkaid_convert
from l1kd.networks.to_exact import read
from tests.exact.networks import chain
from tests.firmware.breakages import Breakage, quiet
from tests.firmware.networks import KINDS, Projects, change_weight, network
from tests.networks import lint_networks as lint


def prove(project: Project, exact: Network | None = None) -> Certificate:
    """Without running anything."""
    stored = from_json(json.loads((project.directory / "network.json").read_text()))
    files = contents(project.directory)
    return follow(files, exact or stored, project.description).certificate


def copied(project: Project, directory: Path) -> Project:
    shutil.copytree(project.directory, directory)
    return open_project(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_certified(kind: str, projects: Projects) -> None:
    certificate = prove(projects[kind])
    assert certificate.certified, certificate.summary
    assert certificate.summary == "certified for all inputs"
    names = [layer.name for layer in projects.model.layers]
    assert set(names) == set(certificate.layers)


@pytest.mark.csim
@pytest.mark.parametrize("kind", [pytest.param("stream", marks=pytest.mark.full), "adders"])
def test_compiled_calls_are_held_against_the_proof(
    kind: str, projects: Projects, tmp_path: Path
) -> None:
    exact = projects.exact
    certificate = certify(projects[kind], exact)
    assert certificate.certified, certificate.summary
    other = read(network((6, 6, 1), [("conv", 2, 3, 1), ("flatten",)], name="other"))
    refused = certify(projects[kind], other)
    assert refused.refused and "network.json" in refused.summary


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_changed_weight_is_refused_without_running_anything(
    layer: int, projects: Projects, tmp_path: Path
) -> None:
    project = copied(projects["latency"], tmp_path / "p")
    change_weight(project.directory, layer)
    first = prove(project).refused[0]
    assert first.step == "weights" and "w" in first.reason


def test_verilog_is_certified_too(tmp_path: Path) -> None:
    exact = chain([[1, -2]], FixedPoint(6, 3), FixedPoint(5, 3))
    logic = alkaid_convert.to_verilog(exact, tmp_path / "rtl")
    assert certify(logic, exact).summary == "certified for all inputs"
    other = chain([[1, -3]], FixedPoint(6, 3), FixedPoint(5, 3))
    assert "network.json" in certify(logic, other).refused[0].reason


@pytest.mark.csim
def test_a_compiler_that_is_wrong_is_found(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is right and the program is not: only running the calls can tell."""
    rewrite = c_simulation.rewrite

    def wrong(path: str, text: str) -> str:
        """One comparison is made something else of on the way to the program."""
        other = "if (datareg > 0 && datareg != 57)"
        return rewrite(path, text).replace("if (datareg > 0)", other)

    monkeypatch.setattr(c_simulation, "rewrite", wrong)
    certificate = certify(projects["latency"], projects.exact)
    (first, *_) = certificate.refused
    assert (first.layer, first.step) == ("conv1_relu", "compiled")
    assert "nnet::relu differs from the exact layer" in first.reason


def refused(copy: Project, breakages: Iterable[Breakage]) -> int:
    """How many breakages of a copied project are refused; each is undone."""
    count = 0
    for breakage in breakages:
        path = copy.directory / "firmware" / breakage.file
        text = path.read_text()
        if not breakage.apply(copy.directory):
            continue
        certificate = prove(copy)
        path.write_text(text)
        if certificate.certified:
            # A type that is still wide enough, a range that is never left: the same function.
            assert breakage.kind in ("one bit short", "one fraction bit short", "overflow") or (
                breakage.layer == "events"
            )
            continue
        count += 1
        first = certificate.refused[0]
        assert first.layer == breakage.layer, (breakage, certificate.summary)
    assert prove(copy).certified
    return count


@pytest.mark.parametrize("kind", ["latency", "stream", "resource", "adders"])
def test_what_is_broken_is_refused_by_layer(kind: str, projects: Projects, tmp_path: Path) -> None:
    """One breakage of each kind in each layer."""
    copy = copied(projects[kind], tmp_path / "p")
    every = {(each.kind, each.layer, each.file): each for each in quiet(copy, projects.exact)}
    assert refused(copy, list(every.values())) >= 10


@pytest.mark.full
@pytest.mark.parametrize("kind", ["latency", "stream", "resource", "adders"])
def test_all_that_is_broken_is_refused_by_layer(
    kind: str, projects: Projects, tmp_path: Path
) -> None:
    copy = copied(projects[kind], tmp_path / "p")
    assert refused(copy, list(quiet(copy, projects.exact))) > 40


def test_negative_sums_need_no_relu(projects: Projects, tmp_path: Path) -> None:
    """An unsigned type that saturates makes 0 of them: another text, the same function."""
    project = copied(projects["latency"], tmp_path / "p")
    path = project.directory / "firmware" / "l1kd_small.cpp"
    path.write_text(path.read_text().replace("nnet::relu<conv1_t", "nnet::linear<conv1_t"))
    assert prove(project).certified


@pytest.mark.parametrize(
    ("file", "old", "new", "step"),
    [
        ("l1kd_small.cpp", "w9, b9", "w12, b12", "weights"),
        ("l1kd_small.cpp", "(layer3_out, layer5_out)", "(layer5_out, layer3_out)", "code"),
        ("l1kd_small.cpp", "config9>(layer7_out,", "config9>(layer5_out,", "code"),
        ("l1kd_small.cpp", "    conv1_t layer3_out", "    if (1) conv1_t layer3_out", "code"),
        ("parameters.h", "stride_height = 1", "stride_height = 2", "code"),
        ("parameters.h", "n_partitions = 1;", "n_partitions = 2;", "code"),
        ("parameters.h", "pool_op = nnet::Average", "pool_op = nnet::Max", "code"),
        ("parameters.h", "product::mult<x_T", "product::weight_binary<x_T", "code"),
        ("parameters.h", "#include \"defines.h\"", "#define product mult", "code"),
        ("parameters.h", "#include \"defines.h\"", "#include \"mine.h\"", "code"),
        ("defines.h", "conv1_accum_t;", "conv1_accum_t; typedef int mine;", "code"),
        ("weights/b9.h", "{", "{0*", "code"),
        ("weights/w3.h", "w3[18]", "w3[17]", "code"),
        ("ports.h", "== 11,", "!= 0,", "port"),
    ],
)  # fmt: skip
def test_an_edit_of_any_file_is_refused(
    file: str, old: str, new: str, step: str, projects: Projects, tmp_path: Path
) -> None:
    project = copied(projects["latency"], tmp_path / "p")
    path = project.directory / "firmware" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    certificate = prove(project)
    assert certificate.refused and not certificate.certified
    assert certificate.refused[0].step == step, certificate.summary


@pytest.mark.parametrize("name", ["ap_fixed.h", "nnet_utils/cmath", "weights/w99.h", "iostream"])
def test_a_file_that_could_be_read_for_another_is_refused(
    name: str, projects: Projects, tmp_path: Path
) -> None:
    project = copied(projects["latency"], tmp_path / "p")
    (project.directory / "firmware" / name).write_text("// nothing\n")
    certificate = prove(project)
    assert f"firmware/{name} is not a file of the project" in certificate.refused[0].reason


def test_a_pooling_says_its_strides(projects: Projects, tmp_path: Path) -> None:
    """hls4ml's default would be used in their place."""
    project = copied(projects["latency"], tmp_path / "p")
    path = project.directory / "firmware" / "parameters.h"
    start, pool, rest = path.read_text().partition("nnet::pooling2d_config")
    line = "    static const unsigned stride_height = 2;\n"
    assert line in rest
    path.write_text(start + pool + rest.replace(line, "", 1))
    certificate = prove(project)
    assert (certificate.refused[0].layer, certificate.refused[0].step) == ("pool2", "code")


def test_a_file_that_is_gone_is_refused(projects: Projects, tmp_path: Path) -> None:
    for number, file in enumerate(("defines.h", "weights/w3.h", "nnet_utils/nnet_mult.h")):
        project = copied(projects["latency"], tmp_path / f"{number}")
        (project.directory / "firmware" / file).unlink()
        assert prove(project).refused


def test_a_reuse_factor_without_code_is_refused(projects: Projects, tmp_path: Path) -> None:
    project = copied(projects["resource"], tmp_path / "p")
    path = project.directory / "firmware" / "parameters.h"
    text = path.read_text().replace("reuse_factor = 2", "reuse_factor = 5")
    limit = r"(?<=multiplier_limit = )\d+"
    path.write_text(re.sub(limit, lambda found: str(-(-2 * int(found[0]) // 5)), text))
    certificate = prove(project)
    said = [each.reason for each in certificate.refused]
    assert any("no code for a reuse factor of 5" in reason for reason in said)


def test_code_of_another_version_is_not_covered(projects: Projects) -> None:
    project = projects["latency"]
    other = project.description.model_copy(update={"versions": {"hls4ml": "1.4.0"}})
    certificate = prove(replace(project, description=other))
    assert not certificate.certified and not certificate.refused
    assert "tested, not proved" in certificate.summary and "1.4.0" in certificate.summary


def test_an_unknown_function_is_left_to_tests(projects: Projects, tmp_path: Path) -> None:
    project = copied(projects["latency"], tmp_path / "p")
    path = project.directory / "firmware" / "l1kd_small.cpp"
    path.write_text(path.read_text().replace("nnet::pooling2d_cl", "nnet::pooling2d_cf"))
    certificate = prove(project)
    assert not certificate.certified and not certificate.refused
    assert certificate.findings[0].layer == "pool2" and certificate.findings[0].state == "open"


@pytest.mark.parametrize(("backend", "kind"), [("Vitis", "latency"), ("Vivado", "resource")])
def test_the_pinned_library_is_the_installed_one(
    backend: str, kind: str, projects: Projects
) -> None:
    project = projects[kind]
    library = known(backend, project.description.versions["hls4ml"])
    assert project.record.backend == backend and library is not None
    assert measure(project.directory) == dict(library)


def test_the_proof_needs_no_framework() -> None:
    code = (
        "import sys, l1kd.firmware.certificate.proof, l1kd.firmware.certificate.certify\n"
        "assert not {'tensorflow', 'hls4ml', 'qkeras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_conversions_are_compared_on_every_value() -> None:
    exact = chain([[1]], FixedPoint(8, 5), FixedPoint(4, 4))
    quantizer = FixedPoint(4, 4)
    wide = FixedPoint(12, 7, True, "TRN", "WRAP")
    assert settled(exact, Meaning("d", (wide, quantizer))) == {"out"}
    assert settled(exact, Meaning("d", (wide,))) == {"in", "d"} - {"in"}
    for other in (
        FixedPoint(4, 4, True, "RND", "SAT"),
        FixedPoint(4, 4, True, "RND_CONV", "WRAP"),
        FixedPoint(5, 5),
    ):
        assert not settled(exact, Meaning("d", (wide, other)))
    # Rounded twice is not rounded once.
    assert not settled(exact, Meaning("d", (FixedPoint(7, 5), quantizer)))


def test_by_argument_where_there_are_too_many_values() -> None:
    exact = chain([[1]], FixedPoint(30, 30), FixedPoint(8, 8, False))
    assert settled(exact, Meaning("d", ("relu", FixedPoint(8, 8, False)))) == {"out"}
    plain = FixedPoint(31, 31, True, "TRN", "WRAP")
    assert settled(exact, Meaning("d", (plain, "relu", FixedPoint(8, 8, False)))) == {"out"}
    assert settled(exact, Meaning("d", (plain,))) == {"d"}
    short = FixedPoint(29, 29, True, "TRN", "WRAP")
    assert not settled(exact, Meaning("d", (short, FixedPoint(8, 8, False))))
    assert not settled(exact, Meaning("d", (FixedPoint(8, 8, False, "RND", "SAT"),)))


def test_hard_functions_are_what_hls4ml_computes() -> None:
    counts = np.arange(-40, 41)
    tanh, fraction = applied(("hard_tanh",), counts, 4)
    assert (tanh / 2.0**fraction == np.clip(counts / 16, -1, 1)).all()
    sigmoid, fraction = applied(("hard_sigmoid",), counts, 4)
    assert (sigmoid / 2.0**fraction == np.clip(counts / 32 + 0.5, 0, 1)).all()
    coarse, fraction = applied(("hard_sigmoid",), np.arange(-2, 3), -2)
    assert (coarse / 2.0**fraction == [0, 0, 0.5, 1, 1]).all()


def test_a_project_that_is_none_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"library.h is missing"):
        read_program(contents(tmp_path), "top", "space", set())


def test_a_network_file_of_another_network_is_refused(projects: Projects, tmp_path: Path) -> None:
    project = copied(projects["latency"], tmp_path / "p")
    path = project.directory / "network.json"
    stored = json.loads(path.read_text())
    stored["nodes"][2]["bias"]["values"][0] += 1
    path.write_text(json.dumps(stored))
    assert projects.exact.to_json() != stored
    assert "network.json" in certify(project, projects.exact).summary
    # And what it says is not what the project computes.
    assert prove(project).refused[0].layer == "conv1"


def reread(x: Any) -> Any:
    """A layer that each merge of two reads twice."""
    parts = [getattr(lint.layers(), kind)()([x, x]) for kind in MERGES]
    return functools.reduce(lambda a, b: lint.layers().Concatenate()([a, b]), parts)


MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
WORDS = (
    *("bias", "weight", "table", "slope", "accum", "index", "size", "result"),
    *("layer2", "unbiased"),
)


def named(x: Any) -> Any:
    """Layers whose names hls4ml, C++ or the reader take for their own, one behind the other."""
    for name in WORDS:
        x = lint.dense(2, name, activation="quantized_relu(5,3)")(x)
    return lint.act(lint.BITS, "d_linear")(lint.dense(2, "d")(x))


def sums(kind: str, *arguments: Any) -> Callable[[Any], Any]:
    """A layer of Keras behind sums."""

    def body(x: Any) -> Any:
        made = lint.dense(3, "d")(x) if len(x.shape) == 2 else lint.conv(3, 2, "k", 1)(x)
        return getattr(lint.layers(), kind)(*arguments, name="a")(made)

    return body


ARGUED: dict[str, tuple[str, tuple[int, ...], Callable[[Any], Any]]] = {
    "slope": ("io_parallel", (4,), sums("LeakyReLU", 0.25)),
    "steep": ("io_stream", (4,), sums("LeakyReLU", 2.0)),
    "one cell": ("io_parallel", (4, 2), lambda x: lint.conv(2, 1, "k", 1)(x)),
    "transposed": ("io_stream", (4, 2), sums("Permute", (2, 1))),
    "pooled": ("io_stream", (5, 2), sums("MaxPooling1D", 2)),
    "read twice": ("io_parallel", (2,), reread),
    "names": ("io_parallel", (3,), named),
}


def test_cells_that_are_padding_in_every_window_need_no_adders(tmp_path: Path) -> None:
    """hls4ml knows that they are 0, and writes no code for their weights."""
    body = lint.conv(2, 2, "k", 1, padding="causal")
    model = lint.unconverted(lambda: lint.network((1, 2), body, score=lint.FINE))
    exact = read(model)
    assert exact["k"].kernel.any(axis=(2, 3)).all()
    strategy = "distributed_arithmetic"
    project = to_hls(model, tmp_path / "p", strategy=strategy, network=exact, name="calls")
    assert prove(project).certified, prove(project).summary


@pytest.mark.csim
@pytest.mark.parametrize("name", ARGUED)
def test_it_is_argued_for(name: str, tmp_path: Path) -> None:
    io_type, shape, body = ARGUED[name]
    score = None if name == "names" else lint.FINE
    model = lint.unconverted(lambda: lint.network(shape, body, score=score))
    exact = read(model)
    project = to_hls(model, tmp_path / "p", io_type=io_type, network=exact, name="calls")
    certificate = certify(project, exact) if name in ("slope", "read twice") else prove(project)
    assert certificate.certified, certificate.summary
    if name == "names":
        assert {layer.name for layer in project.record.layers} >= {*WORDS}
        events = np.random.default_rng(1).integers(-32, 32, (200, *shape)) / 4
        assert (project.predict(events) == exact.predict(events)).all()


def test_code_of_our_own_that_does_not_compile_is_our_fault(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_simulation, "_CALLS", {})  # or others would be given this code
    with pytest.raises(RuntimeError, match=r"l1kd's own code for the project .*calls\.h:1"):
        replace(projects["latency"], calls=lambda _: "no code").compile()
