"""Verilog: certified as it is written; refused, with file, line and layer, as soon as it is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Dense, Input, Merge, Node, Pad, Quantize, Rectify
from l1kd.exact.network import Network
from l1kd.firmware.certificate import verilog_proof
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.findings import Certificate
from l1kd.firmware.certificate.symbolic import _BENT, Ends, Single, Space, Value
from l1kd.firmware.certificate.verilog_proof import prove
from l1kd.firmware.certificate.verilog_reader import Wire, read_module
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.project import Logic, open_logic
from l1kd.firmware.verilog.simulate import ICARUS
from l1kd.networks.to_exact import read
from tests.firmware.networks import Projects, little

NAME = "TOP"  # of the top module, in the names of files here
TOP, CORE, BENCH = f"src/{NAME}.v", f"src/{NAME}_core.v", f"test/{NAME}_test.v"


def stage(number: int) -> str:
    return f"src/{NAME}_logic{number}.v"


@pytest.fixture(scope="module")
def logic(projects: Projects, tmp_path_factory: pytest.TempPathFactory) -> Logic:
    """`small` as Verilog. Read only."""
    return alkaid_convert.to_verilog(projects.exact, tmp_path_factory.mktemp("rtl") / "p")


def edited(logic: Logic, directory: Path, file: str, edit: Callable[[str], str]) -> Certificate:
    """The certificate of a copy of which one file was edited, or made."""
    shutil.copytree(logic.directory, directory)
    path = directory / file.replace(NAME, logic.record.top)
    path.parent.mkdir(exist_ok=True)
    before = path.read_text() if path.exists() else ""
    path.write_text(edit(before))
    assert path.read_text() != before
    return prove(open_logic(directory), logic.network)


def test_what_is_written_is_certified(logic: Logic) -> None:
    certificate = certify(logic, logic.network)
    assert certificate.summary == "certified for all inputs"
    wanted = [node.name.partition(":")[0] for node in logic.network.nodes]
    assert list(certificate.layers) == list(dict.fromkeys(wanted))


def simple(name: str, source: str, kind: type[Node], **more: Any) -> Node:
    return kind(name=name, sources=(source,), shape=more.pop("shape", (6,)), **more)


def test_every_kind_of_layer_is_certified(tmp_path: Path) -> None:
    """Signed types, every rounding and overflow, merges of two sums, slopes, paddings, pools."""
    random = np.random.default_rng(3)
    kinds = [
        FixedPoint(5, 3, True, rounding, overflow)
        for rounding in ("RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO")
        for overflow in ("SAT", "SAT_ZERO", "SAT_SYM", "WRAP")
    ]
    nodes: list[Node] = [Input(name="in", sources=(), shape=(3,), type=FixedPoint(5, 2))]
    for number, kind in enumerate(kinds):
        dense = Dense(
            name=f"d{number}",
            sources=("in",),
            shape=(2,),
            kernel=random.integers(-7, 8, (3, 2)),
            kernel_fraction=2,
            bias=random.integers(-9, 9, 2),
            bias_fraction=4,
        )
        nodes += [dense, simple(f"q{number}", dense.name, Quantize, shape=(2,), type=kind)]
    operations = ("add", "subtract", "multiply", "average", "maximum", "minimum")
    for number, operation in enumerate(operations):
        pair = f"q{2 * number}", f"q{2 * number + 1}"
        nodes.append(Merge(name=operation, sources=pair, shape=(2,), operation=operation))
    nodes.append(Merge(name="sums", sources=("d0", "d1"), shape=(2,), operation="maximum"))
    nodes.append(simple("slope", "d2", Rectify, shape=(2,), shift=2))
    nodes.append(simple("positive", "maximum", Rectify, shape=(2,)))
    names = [*(f"q{number}" for number in range(12, len(kinds))), *operations[:4], "minimum"]
    names += ["sums", "slope", "positive"]
    joined = names[0]
    for number, name in enumerate(names[1:]):
        sources, size = (joined, name), 2 * (number + 2)
        joined = f"j{number}"
        nodes.append(Merge(name=joined, sources=sources, shape=(size,), operation="concatenate"))
    size = 2 * len(names)
    nodes.append(simple("padded", joined, Pad, shape=(1, 1, size), padding=((0, 0), (0, 0))))
    last = FixedPoint(9, 5)
    nodes.append(simple("out", joined, Quantize, shape=(size,), type=last))
    network = Network("kinds", tuple(nodes), ("out",))
    logic = alkaid_convert.to_verilog(network, tmp_path / "p")
    certificate = prove(logic, network)
    assert certificate.certified, certificate.summary


def test_a_sum_of_more_values_than_are_looked_at(tmp_path: Path) -> None:
    """A tie to even asks for two low bits of it: functions that change at every value."""
    nodes: list[Node] = [Input(name="in", sources=(), shape=(2,), type=FixedPoint(12, 12))]
    weights = {"kernel": np.array([[2047], [1001]]), "kernel_fraction": 6}
    weights |= {"bias": np.array([3]), "bias_fraction": 6}
    nodes.append(simple("sum", "in", Dense, shape=(1,), **weights))
    nodes.append(simple("relu", "sum", Quantize, shape=(1,), type=FixedPoint(10, 5, False)))
    network = Network("wide", tuple(nodes), ("relu",))
    assert network.bounds["sum"].highest - network.bounds["sum"].lowest > 1 << 23
    certificate = prove(alkaid_convert.to_verilog(network, tmp_path / "p"), network)
    assert certificate.certified, certificate.summary


WIDE = {
    "rounded": (FixedPoint(28, 24),),
    "saturated": (FixedPoint(20, 18),),
    "unsigned": (FixedPoint(26, 24, False),),
    "dropped bits": (FixedPoint(20, 16, True, "TRN", "WRAP"),),
    "wrapped": (FixedPoint(24, 18, True, "RND_CONV", "WRAP"),),
    "relu": ("relu",),
    "slope": (3,),
    "slope rounded": (3, FixedPoint(10, 5)),
}


def wide(kinds: tuple[Any, ...]) -> Network:
    """Sums of 28 bits, functions of single values behind them, and a dense layer."""
    random = np.random.default_rng(5)
    nodes: list[Node] = [Input(name="in", sources=(), shape=(4,), type=FixedPoint(16, 11))]

    def affine(inputs: int, outputs: int, most: int) -> dict[str, Any]:
        kernel = random.integers(-most, most + 1, (inputs, outputs))
        bias = random.integers(-9, 10, outputs)
        return {"kernel": kernel, "kernel_fraction": 4, "bias": bias, "bias_fraction": 4}

    nodes.append(simple("sums", "in", Dense, shape=(3,), **affine(4, 3, 2000)))
    for number, kind in enumerate(kinds):
        given: dict[str, Any] = {"shape": (3,)}
        if isinstance(kind, FixedPoint):
            nodes.append(simple(f"f{number}", nodes[-1].name, Quantize, type=kind, **given))
        else:
            shift = kind if isinstance(kind, int) else None
            nodes.append(simple(f"f{number}", nodes[-1].name, Rectify, shift=shift, **given))
    nodes.append(simple("last", nodes[-1].name, Dense, shape=(1,), **affine(3, 1, 7)))
    nodes.append(simple("out", "last", Quantize, shape=(1,), type=FixedPoint(12, 8, False)))
    return Network("wide", tuple(nodes), ("out",))


@pytest.mark.parametrize("kinds", [*WIDE.values()], ids=[*WIDE])
def test_functions_of_more_steps_than_can_be_tried(kinds: tuple[Any, ...], tmp_path: Path) -> None:
    """Lines on values that lie a power of two apart."""
    network = wide(kinds)
    certificate = prove(alkaid_convert.to_verilog(network, tmp_path / "p"), network)
    assert certificate.summary == "certified for all inputs"


def test_wide_functions_that_differ_at_few_values_are_others() -> None:
    space = Space()
    value = space.input(0, -(1 << 27), (1 << 27) - 1)

    def rounded(word: int, rounding: str = "RND_CONV", overflow: str = "SAT") -> Value:
        kind = FixedPoint(word, word, True, rounding, overflow)  # type: ignore[arg-type]
        return space.quantized(value, kind, False, 2)

    halves = space.linear([(1, value)], 2)
    up = space.shifted(halves, 2)
    assert space.equal(rounded(28, "RND"), up)
    assert space.equal(rounded(26, "RND"), space.lowest(up, (1 << 25) - 1))
    assert not space.equal(rounded(26, "RND"), up)  # at two values, of 2^28
    assert not space.equal(rounded(28), up)
    assert not space.equal(rounded(25), rounded(25, overflow="SAT_SYM"))


def test_blocks_of_values_hold_all_that_a_function_gives_there() -> None:
    """Random functions: ends contain the values, a step is that of a line."""
    random = np.random.default_rng(11)
    space = Space()
    low, high = -300, 211
    value = space.input(0, low, high)
    made: list[Value] = [value, space.linear([(3, value)], 5)]
    for _ in range(400):
        one, other, key = (made[int(n)] for n in random.integers(0, len(made), 3))
        width, drop = int(random.integers(1, 9)), int(random.integers(1, 5))
        signed, even = bool(random.integers(2)), int(random.integers(-1, 4))
        overflow = str(random.choice(["SAT", "SAT_SYM", "SAT_ZERO", "WRAP"]))
        rounding = str(random.choice(["RND", "RND_CONV", "RND_ZERO", "RND_INF", "TRN_ZERO"]))
        kind = FixedPoint(width + 1, width, signed, rounding, overflow)  # type: ignore[arg-type]
        choices: list[Callable[[], Value]] = [
            lambda one=one, width=width, signed=signed: space.wrapped(one, width, signed),
            lambda one=one, drop=drop: space.shifted(one, drop),
            lambda one=one, other=other: space.bitwise("and", one, other),
            lambda one=one, other=other: space.bitwise("or", one, other),
            lambda one=one, other=other: space.highest(one, other),
            lambda one=one: space.any_bit(one),
            lambda one=one, other=other: space.linear([(2, one), (-1, other)], 3),
            lambda one=one, other=other: space.product(space.wrapped(one, 3, True), other),
            lambda one=one, kind=kind, even=even: space.quantized(one, kind, True, even),
            lambda one=one, kind=kind, even=even: space.quantized(one, kind, False, even),
            lambda key=key, one=one, other=other: space.chosen(space.any_bit(key), one, other),
        ]
        found = choices[int(random.integers(len(choices)))]()
        reach = space.range(found)
        if isinstance(found, Single) and max(map(abs, reach)) < 1 << 20:
            made.append(found)
    functions = [(each.base, each.function) for each in made if isinstance(each, Single)]
    assert len(functions) > 100
    for base, function in functions:
        exact = space._at(base, function, range(low, high + 1))
        for distance in (1, 2, 8, 32):
            starts = random.integers(low, high + 1, 40)
            counts = random.integers(1, (high - starts) // distance + 2)
            steps = np.full_like(starts, distance)
            blocks = Ends(starts, starts + distance * (counts - 1), steps)
            ends = space._evaluated(function, blocks)
            for start, count, least, most, step in zip(starts, counts, *ends, strict=True):
                values = exact[start - low : start - low + distance * count : distance][:count]
                assert least <= values.min() and values.max() <= most
                if step != _BENT:
                    assert (np.diff(values) == step).all()
                    assert (values.min(), values.max()) == (least, most)


@pytest.mark.parametrize("biases", [[0], [7], [7, -3, 0]], ids=str)
def test_a_constant_output_is_certified(biases: list[int], tmp_path: Path) -> None:
    """alkaid writes a module without a bit."""
    weights = {"kernel": np.zeros((3, len(biases)), np.int64), "kernel_fraction": 0}
    weights |= {"bias": np.array(biases), "bias_fraction": 4}
    nodes: list[Node] = [Input(name="in", sources=(), shape=(3,), type=FixedPoint(8, 4))]
    size = {"shape": (len(biases),)}
    nodes.append(simple("sums", "in", Dense, **size, **weights))
    nodes.append(simple("out", "sums", Quantize, **size, type=FixedPoint(10, 5, False)))
    network = Network("constant", tuple(nodes), ("out",))
    logic = alkaid_convert.to_verilog(network, tmp_path / "p")
    assert prove(logic, network).summary == "certified for all inputs"
    path = logic.directory / f"src/{logic.record.top}.v"
    path.write_text(re.sub(r"10'b0;", "10'b1;", path.read_text()))
    if 0 in biases:
        assert prove(logic, network).refused


@dataclass(frozen=True)
class Edit:
    """An edit of one file: a pattern, and what replaces its first match."""

    file: str
    old: str
    new: str
    layer: str = ""  # that is named, where it can be known

    @property
    def label(self) -> str:
        """For the test's name."""
        return re.sub(r"\W+", "_", f"{Path(self.file).name} {self.new}")[-50:]


COUNTER = "reg [15:0] seen;\n    always @(posedge clk) seen <= seen + 1;\n\n    always @(posedge"
LATCH = "always @(model_inp) if (model_inp[0]) model_out = 0;\n\n    always @(posedge"
EDITS = [
    # An overflow detector that misses a bit: wrong for sums near their extremes alone.
    Edit(stage(1), r"(\[\d+:0\] = v\d+\[\d+):10\];", r"\1:11];"),
    Edit(TOP, r"= model_inp\[0 \+: 11\];", "= model_inp[0 +: 11] & {11{model_inp != 9}};"),
    Edit(TOP, r"\{(\d+)\{1'b0\}\}", r"{\1{1'b1}}"),
    Edit(CORE, r"always @\(posedge", COUNTER),
    Edit(CORE, r"always @\(posedge", LATCH),
    Edit(CORE, r"posedge clk", "negedge clk"),
    Edit(CORE, r"        stage1_inp.*\n", ""),
    Edit(CORE, r"(reg \[\d+:0\] stage1_inp);", r"\1 = 0;"),
    Edit(CORE, r"endmodule", "initial stage1_inp = 0;\nendmodule"),
    Edit(stage(0), r"    wire", "`ifdef VERILATOR\n    wire", "events"),
    Edit(stage(0), r"`timescale", '`include "/tmp/x.v"\n`timescale'),
    Edit(stage(1), r"endmodule", "endmodule\nmodule mux; endmodule"),
    Edit(stage(1), r"v(\d+);", r"v\1; // a comment"),
    Edit(stage(1), r"#\(", "#(.BW_OUT", "conv1"),
    Edit(stage(3), r"(ternary_adder #\(.*?),(\d+)\) op", r"\1,\g<2>1) op", "dense4"),
    Edit(f"src/static/{NAME}_mux.v", r"\(key\)", "(~key)"),
    Edit(f"src/static/{NAME}_mux.v", r"module \w+", "module mux"),
    Edit("src/static/extra.v", r"^", "module extra; endmodule\n"),
    Edit("sim/icarus", r"^", "forged"),
    Edit("vivado.tcl", r"$", "read_verilog /tmp/other.v\n"),
    Edit(f"{NAME}.xdc", r"period 5", "period 50"),
    Edit("README.md", r"active high", "active low"),
    Edit("Makefile", r"\^PASSED", "PASSED\\|FAILED"),
    Edit(BENCH, r"!== outputs\[i\]", "=== 0"),
    Edit("test/outputs.hex", r"0\n", "1\n"),
    Edit("test/inputs.hex", r".*\n", ""),  # one event less than the test bench reads
    Edit("test/inputs.hex", r"(?s).*", ""),
    Edit("test/inputs.hex", r"^", "g"),
    # Valid and reset.
    Edit(TOP, r"reg \[LATENCY:0\] valid;", "reg [LATENCY - 1:0] valid;"),
    Edit(TOP, r"valid_out = valid\[LATENCY\]", "valid_out = valid[LATENCY - 1]"),
    Edit(TOP, r"valid_out = valid\[LATENCY\]", "valid_out = valid_in"),
    Edit(TOP, r"if \(rst\)", "if (!rst)"),
    Edit(TOP, r"if \(rst\) .*\n        else ", ""),
    Edit(TOP, r"posedge clk\)", "posedge clk or posedge rst)"),
    Edit(TOP, r"localparam LATENCY = 5", "localparam LATENCY = 4"),
    Edit(TOP, r"localparam LATENCY = 5", "localparam LATENCY = 6"),
    Edit(TOP, r"localparam INTERVAL = 1", "localparam INTERVAL = 2"),
    Edit(TOP, r"Latency: 5", "Latency: 4"),
    Edit(TOP, r"two's complement", "unsigned"),
    Edit(TOP, r"\.clk\(clk\)", ".clk(clk & ~rst)"),
    Edit(TOP, r"reg \[LATENCY:0\] valid;", r"\g<0>\n    initial valid = -1;"),
    Edit("NOTICE", r"LGPL|GNU", "MIT"),
    Edit("l1kd.json", r'"latency_cycles": \d+', '"latency_cycles": 9'),
    Edit("l1kd.json", r"ap_ufixed<16,8,", "ap_ufixed<16,7,"),
    Edit("l1kd.json", r'"top": "l1kd_small', '"top": "../l1kd_small'),
    Edit("l1kd.json", r'"student": "small"', '"student": "other"'),
    Edit("l1kd.json", r'"part": "', '"part": "x; exec sh #'),
    Edit("l1kd.json", r'"clock_ns": 5.0', '"clock_ns": 1e-12'),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.label)
def test_an_edit_is_refused(edit: Edit, logic: Logic, tmp_path: Path) -> None:
    certificate = edited(
        logic, tmp_path / "p", edit.file, lambda text: re.sub(edit.old, edit.new, text, count=1)
    )
    assert certificate.refused and not certificate.layers, certificate.summary
    file = edit.file.replace(NAME, logic.record.top)
    assert any(file in found.reason for found in certificate.refused), certificate.findings
    assert edit.layer in ("", certificate.refused[0].layer), certificate.findings


# Readable Verilog of another function: only the proof can refuse it, by the layer.


def only_proved(logic: Logic, directory: Path, file: str, old: str, new: str) -> Certificate:
    """As if the interpreter's program had been edited along."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verilog_proof, "_faults", lambda *_: iter(()))
        return edited(logic, directory, file, lambda text: re.sub(old, new, text, count=1))


@pytest.mark.parametrize(
    ("number", "old", "new", "layer", "step"),
    [
        (0, r"(_shift_adder #\(.*?,)0\) op", r"\g<1>1) op", "conv1", "sums"),
        (1, r"= \|(v\d+);", r"= &\1;", "conv1_relu", "quantizer"),
        (1, r"(v\d+; \w+_binop #\(1,10.*?,)1\) op", r"\g<1>2) op", "conv1_relu", "quantizer"),
        (1, r"(negative #\(1, 1, )0\)", r"\g<1>1)", "", ""),  # the same modulo 2
        (3, r"(ternary_adder #\(\d+,1,)0", r"\g<1>1", "dense4", "sums"),
        (4, r"6'b110001", "6'b110011", "score", "quantizer"),
    ],
)
def test_another_function_is_refused_by_its_layer(
    number: int, old: str, new: str, layer: str, step: str, logic: Logic, tmp_path: Path
) -> None:
    certificate = only_proved(logic, tmp_path / "p", stage(number), old, new)
    if not layer:
        assert certificate.certified
        return
    first = certificate.findings[0]
    assert (first.layer, first.step, first.state) == (layer, step, "refused"), first
    assert re.match(r"src/\w+_logic\d\.v:\d+: not ", first.reason) or step == "sums"


def test_a_pipeline_of_more_than_ten_stages_is_certified(tmp_path: Path) -> None:
    """alkaid declares wires by name, `logic10` before `logic2`."""
    network = read(little())
    many = alkaid_convert.to_verilog(network, tmp_path / "many", clock_ns=0.9)
    assert many.record.latency_cycles > 10
    certificate = certify(many, network)
    assert certificate.certified, certificate.summary


def test_a_program_of_another_network_is_refused(logic: Logic, tmp_path: Path) -> None:
    other = alkaid_convert.to_verilog(logic.network, tmp_path / "other", clock_ns=3.0)
    shutil.copytree(logic.directory, tmp_path / "p")
    model = "model/comb.json.gz"
    assert (other.directory / "src").is_dir()
    (tmp_path / "p" / model).write_bytes(b"no program")
    certificate = prove(open_logic(tmp_path / "p"), logic.network)
    assert "no program of alkaid" in certificate.summary


def test_another_version_of_alkaid_is_left_open(logic: Logic, tmp_path: Path) -> None:
    certificate = edited(
        logic, tmp_path / "p", "l1kd.json", lambda text: text.replace('"0.8.2"', '"0.9.0"')
    )
    assert not certificate.refused and not certificate.certified
    assert certificate.summary.startswith("open (tested, not proved)")


def test_a_link_is_refused(logic: Logic, tmp_path: Path) -> None:
    shutil.copytree(logic.directory, tmp_path / "p")
    (tmp_path / "p" / "src" / "more.v").symlink_to("/dev/null")
    assert "no plain file" in prove(open_logic(tmp_path / "p"), logic.network).summary


# The modules of `src/static/`


def _parameters(random: np.random.Generator, name: str) -> tuple[str, list[str]]:
    """A random instance on slices of six bits: parameters, and the operands."""
    widths = [int(n) for n in random.integers(1, 4, 3)]
    starts = [int(random.integers(0, 7 - width)) for width in widths]
    signs = random.integers(0, 2, 6).tolist()
    places = [f"v{1 + 6 * (w - 1) + s}" for w, s in zip(widths, starts, strict=True)]
    full = [f"{place}[{width - 1}:0]" for place, width in zip(places, widths, strict=True)]
    out, shift, drop = int(random.integers(1, 9)), int(random.integers(-4, 5)), 0
    if name == "ternary_adder":
        drop, pads = int(random.integers(0, 3)), random.integers(0, 5, 3).tolist()
        each = [n for i in range(3) for n in (widths[i], signs[i], signs[3 + i], pads[i])]
        return f"#({','.join(map(str, [*each, out, drop]))})", full
    one = f"{widths[0]},{widths[1]},{signs[0]},{signs[1]},{out}"
    if name == "shift_adder":
        drop = int(random.integers(0, 3))
        return f"#({one},{drop},{shift},{signs[2]})", full[:2]
    if name == "binop":
        return f"#({one},{shift},{int(random.integers(0, 3))})", places[:2]
    if name == "mux":
        return f"#({one},{shift})", [f"{places[2]}[{widths[2] - 1}]", *full[:2]]
    if name == "negative":
        return f"#({widths[0]}, {out}, {signs[0]})", places[:1]
    return f"#({one})", full[:2]


def _read(lines: list[str], results: list[tuple[str, int]]) -> tuple[str, dict[Any, Wire], Space]:
    """A module of lines, as text, and what the reader makes of it for an input of six bits."""
    ends = [f"v{n}" for n, _ in results]
    total, outputs = 0, []
    for (number, width), _ in zip(results, ends, strict=True):
        outputs.append(f"assign model_out[{total + width - 1}:{total}] = v{number}[{width - 1}:0];")
        total += width
    body, last = "\n    ".join(lines), "\n    ".join(outputs)
    text = (
        f"`timescale 1 ns / 1 ps\n\nmodule m_logic0 (\n    input [5:0] model_inp,\n    output "
        f"[{total - 1}:0] model_out\n);\n\n    // verilator lint_off UNUSEDSIGNAL\n"
        "    // Explicit quantization operation will drop bits if exists\n\n"
        f"    {body}\n\n    // verilator lint_on UNUSEDSIGNAL\n\n    {last}\n\nendmodule\n"
    )
    space = Space()
    value = space.input(0, 0, 63)
    return text, dict(read_module(space, "m.v", text, "m", 0, {(0, 6): Wire(value, 6)})), space


def _values(space: Space, value: Value) -> Any:
    if not isinstance(value, Single):
        return np.full(64, int(value))  # type: ignore[arg-type]
    return space._at(value.base, value.function, range(64))


@pytest.mark.skipif(ICARUS.find() is None, reason="no Icarus Verilog here; see README")
def test_modules_compute_what_the_reader_says(logic: Logic, tmp_path: Path) -> None:
    """Random instances on all values of six bits, by Icarus Verilog."""
    random = np.random.default_rng(5)
    lines = ["wire [5:0] v0; assign v0[5:0] = model_inp[5:0];"]
    for width in (1, 2, 3):
        for start in range(7 - width):
            name = f"v{1 + 6 * (width - 1) + start}"
            cut = f"v0[{start + width - 1}:{start}]"
            lines.append(f"wire [{width - 1}:0] {name}; assign {name}[{width - 1}:0] = {cut};")
    results: list[tuple[int, int]] = []
    names = ("shift_adder", "ternary_adder", "binop", "mux", "negative", "multiplier")
    while len(results) < 240:
        number, name = 100 + len(results), names[len(results) % len(names)]
        given, operands = _parameters(random, name)
        place = {"ternary_adder": 12, "negative": 1}.get(name, 4)
        width = int(re.split(", ?", given[2:-1])[place])
        result = f"v{number}[{width - 1}:0]"
        comma = ", " if name in ("binop", "negative") else ","
        ports = comma.join([*operands, result])
        line = f"wire [{width - 1}:0] v{number}; m_{name} {given} op_{number} ({ports});"
        try:
            _read([*lines[:19], line], [(number, width)])
        except Unreadable as error:
            assert "bits are read" in str(error)  # more than the module has
            continue
        lines.append(line)
        results.append((number, width))
    text, pieces, space = _read(lines, results)
    total = sum(width for _, width in pieces)
    bench = (
        f"module bench; reg [5:0] i; wire [{total - 1}:0] o;\n"
        "m_logic0 m (.model_inp(i), .model_out(o));\n"
        'integer n; initial for (n = 0; n < 64; n = n + 1) begin i = n; #1 $display("%b", o); end\n'
        "endmodule\n"
    )
    (tmp_path / "m.v").write_text(text)
    (tmp_path / "bench.v").write_text(bench)
    static = sorted((logic.directory / "src" / "static").glob("*.v"))
    text = "".join(path.read_text().replace(logic.record.top, "m") for path in static)
    (tmp_path / "static.v").write_text(text)
    command = ["iverilog", "-g2005", "-o", "bench", "bench.v", "m.v", "static.v"]
    subprocess.run(command, cwd=tmp_path, check=True)
    shown = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True)
    rows = shown.stdout.decode().split()
    assert len(rows) == 64
    for (low, width), wire in pieces.items():
        found = [row[total - low - width : total - low] for row in rows]
        wanted = [f"{int(n) % (1 << width):0{width}b}" for n in _values(space, wire.value)]
        assert found == wanted, lines[18:][[low for low, _ in pieces].index(low)]
