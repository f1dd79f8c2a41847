"""Vendors' tools through the command line, played by a stand-in: none was ever run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from l1kd.core import processes, run_files
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.run_files import Resources
from l1kd.firmware.hls.backends import VITIS, parse_steps
from l1kd.firmware.hls.project import open_project
from l1kd.firmware.hls.testbench import read_vectors, write_vectors
from l1kd.firmware.vendor_tools import tool_results
from l1kd.firmware.vendor_tools.tool_results import layer_names
from tests.conftest import heeds_interrupts
from tests.firmware.networks import change_weight
from tests.firmware.vendor_tools.standin import calls, finished_run, stand_in

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mine(run: Context, tmp_path: Path) -> Context:
    """A run of one student that the command line can open."""
    return finished_run(run, tmp_path / "r", only="flat")


@pytest.fixture
def tool(tmp_path: Path) -> dict[str, str]:
    """The environment with a stand-in for `vitis-run`."""
    return stand_in(tmp_path / "bin", "vitis-run")


def rows(context: Context, source: str) -> list[Resources]:
    found: list[Resources] = run_files.read(context.directory, "resources.json")
    return [row for row in found if row.source == source]


def best(context: Context) -> str:
    name: str = run_files.read(context.directory, "metrics.json").best
    return name


def test_all_steps_and_their_numbers(
    run: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    mine = finished_run(run, tmp_path / "both")
    options = ("synth", mine.directory, "--tool", "vitis", "--student", "image")
    some = (*options, "--io-type", "io_parallel")
    every = ("--steps", "vsynth,csim,csynth,cosim")
    answer = l1kd(*some, *every, **tool)
    assert answer.returncode == 0, answer.stderr
    assert "a stand-in for vitis-run" in answer.stderr  # the tool's own words
    steps = ["csim", "synth", "cosim", "vsynth"]
    assert calls(tmp_path / "bin") == [f"vitis-run {step}" for step in steps]
    (row,), (netlist,) = rows(mine, "csynth"), rows(mine, "vsynth")
    assert (row.student, row.io_type, row.implementation) == ("image", "io_parallel", "hls4ml")
    assert (row.backend, row.strategy, row.tool) == ("Vitis", "latency", "Vitis HLS 2023.2")
    assert (row.latency_cycles, row.latency_ns, row.interval_cycles) == (12, 60.0, 3)
    assert (row.ff, row.dsp, row.bram, row.uram, row.estimated_clock_ns) == (321, 5, 2, 0, 3.612)
    layers = {layer.name: layer for layer in row.layers}
    project = open_project(mine.firmware("image") / "hls/Vitis-io_parallel-latency")
    assert set(layers) <= {layer.name for layer in project.record.layers}
    assert {"conv1", "dense1", "output"} <= set(layers) and layers["conv1"].latency_cycles == 4
    assert row.lut == sum(layer.lut or 0 for layer in row.layers) + 7
    assert row.share["ff"] == round(321 / 3456000, 6) and row.share["bram"] == round(2 / 5376, 6)
    for said in (
        "latency 9 to 12 cycles, the worst counts",
        "interval 1 to 3 cycles, the longest counts",
        "co-simulation (Verilog): Pass, latency 9 to 11, interval 1 to 3 cycles",
        "the vendor's C simulation equals the network in all bits of",
        "the simulated RTL equals the network in all bits of",
    ):
        assert said in (row.note or ""), said
    assert (netlist.lut, netlist.ff, netlist.dsp, netlist.bram) == (90, 70, 4, 1)
    assert netlist.tool == "Vivado v.2023.2" and netlist.latency_cycles == 12
    estimates = [each for each in rows(mine, "estimate") if each.implementation == "hls4ml"]
    assert len(estimates) == 4  # the stage's own

    # Again: nothing is left to do. Another project: only its own steps.
    assert l1kd(*some, *every, **tool).returncode == 0
    assert len(calls(tmp_path / "bin")) == 4
    assert l1kd(*options, **tool).returncode == 0
    assert calls(tmp_path / "bin")[4:] == ["vitis-run synth"]
    assert {row.io_type for row in rows(mine, "csynth")} == {"io_parallel", "io_stream"}


@pytest.mark.parametrize("name", ["vitis_hls", "vivado_hls"])
def test_older_tools(name: str, run: Context, mine: Context, l1kd: Call, tmp_path: Path) -> None:
    from l1kd.firmware.convert import convert

    tool = stand_in(tmp_path / "bin", name)
    backend = "Vitis" if name == "vitis_hls" else "Vivado"
    if backend == "Vivado":
        values = mine.config.model_dump(mode="json")
        values["firmware"] |= {"backend": "Vivado", "students": "best", "io_type": "io_stream"}
        mine = mine.configured(type(mine.config).model_validate(values))
        shutil.rmtree(mine.directory / "firmware")
        convert(mine)
    done = l1kd(
        "synth", mine.directory, "--tool", backend.lower(), "--io-type", "io_stream",
        "--steps", "csynth,vsynth", **tool,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path / "bin") == [f"{name} synth", f"{name} vsynth"]
    (row,) = rows(mine, "csynth")
    assert row.tool == f"{backend} HLS 2023.2" and row.student == best(mine)
    other = "vivado" if backend == "Vitis" else "vitis"
    wrong = l1kd("synth", mine.directory, "--tool", other, **tool)
    assert wrong.returncode == 2 and f"is written for {backend}" in wrong.stderr


def test_without_the_tool_the_commands_are_printed(
    mine: Context, l1kd: Call, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    steps = ("--steps", "csim,csynth,vsynth")
    answer = l1kd("synth", mine.directory, "--tool", "vitis", *steps, PATH=str(tmp_path / "empty"))
    assert answer.returncode == 2
    *before, last = answer.stderr.strip().splitlines()
    assert last.startswith("l1kd: error: no vitis-run or vitis_hls is on the PATH")
    text = "\n".join(before)
    name = f"{best(mine)}-Vitis-io_parallel-latency"
    for typed in (
        f"cd {name}",
        "echo 'array set opt {reset 0 csim 1 synth 1 cosim 0 validation 0 export 0 vsynth 1 "
        "fifo_opt 0}' > build_opt.tcl",
        "vitis-run --mode hls --tcl build_prj.tcl",
        "vitis_hls -f build_prj.tcl",
        f"l1kd synth {mine.directory} --collect",
    ):
        assert typed in text, typed
    assert not (mine.directory / "vendor").exists()


def test_the_printed_commands_are_the_tools_own(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    """They are typed in a copy of the project, and what comes of it is read."""
    (tmp_path / "empty").mkdir()
    answer = l1kd(
        "synth", mine.directory, "--tool", "vitis", "--io-type", "io_stream", "--steps",
        "csim,csynth,cosim,vsynth", PATH=str(tmp_path / "empty"),
    )  # fmt: skip
    name = "Vitis-io_stream-latency"
    there = tmp_path / "there"
    there.mkdir()
    shutil.copytree(mine.firmware(best(mine)) / "hls" / name, there / f"{best(mine)}-{name}")
    lines = [line.split("   #")[0].strip() for line in answer.stderr.splitlines()]
    typed = [line for line in lines if line.startswith(("cd ", "echo ", "vitis-run"))]
    script = "set -e\n" + "\n".join(typed)
    subprocess.run(["bash", "-c", script], cwd=there, env={**os.environ, **tool}, check=True)
    assert calls(tmp_path / "bin") == ["vitis-run csim synth cosim vsynth"]
    back = l1kd("synth", mine.directory, "--collect", there)
    assert back.returncode == 0, back.stderr
    (row,) = rows(mine, "csynth")
    assert row.io_type == "io_stream" and "the simulated RTL equals" in (row.note or "")
    assert rows(mine, "vsynth")[0].lut == 90


@pytest.mark.parametrize(
    ("mode", "steps", "code", "said"),
    [
        ("csim-wrong", "csim,csynth", 1, "csim ended with code 1 (ERROR: [SIM 211-100]"),
        ("csim-lies", "csim", 1, "csim differs from the network in 1 of"),
        ("cosim-fail", "csynth,cosim,vsynth", 1, "cosim failed: its report says 'Fail'"),
        ("license", "csynth", 2, "A valid license was not found"),
        ("quiet", "csynth", 2, "left no report"),
        ("part", "csynth", 2, "for the part xc7z020clg400-1, the project is for"),
    ],
)
def test_a_tool_that_fails(
    mode: str,
    steps: str,
    code: int,
    said: str,
    mine: Context,
    tool: dict[str, str],
    l1kd: Call,
    tmp_path: Path,
) -> None:
    options = ("synth", mine.directory, "--tool", "vitis", "--steps", steps)
    answer = l1kd(*options, "--io-type", "io_parallel", **{**tool, "STAND_IN": mode})
    assert answer.returncode == code, answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert said in last and last.startswith("l1kd: ")
    assert "vsynth" not in "".join(calls(tmp_path / "bin"))  # nothing after what failed
    assert len(rows(mine, "csynth")) == (mode == "cosim-fail")  # what was done before is kept
    if mode == "csim-wrong":
        (path,) = (mine.directory / "vendor").glob("*.json")
        assert '"mismatches": 1' in path.read_text()
    # Mended: what failed is run again, what was done is not.
    before = len(calls(tmp_path / "bin"))
    again = l1kd(*options, "--io-type", "io_parallel", **tool)
    assert again.returncode == 0, again.stderr
    new = calls(tmp_path / "bin")[before:]
    first = {"csim-wrong": "csim", "csim-lies": "csim", "cosim-fail": "cosim"}
    assert new[0] == f"vitis-run {first.get(mode, 'synth')}"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def pids(directory: Path) -> list[int]:
    path = directory / "calls.pids"
    end = time.monotonic() + 600
    while not (path.exists() and (found := path.read_text())):
        assert time.monotonic() < end, "the stand-in was not started"
        time.sleep(0.05)
    return [int(pid) for pid in found.split()]


def gone(each: list[int]) -> bool:
    """Whether they end; a killed process may take its time on a busy machine."""
    end = time.monotonic() + 300
    while any(map(alive, each)):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def clock_jumps(patch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """A program's time stands still, and is over when something has happened."""
    clock = SimpleNamespace(monotonic=lambda: 1e9 if when() else 0.0)
    patch.setattr(processes, "time", clock)


def test_a_time_limit_ends_all_of_the_tool(
    mine: Context,
    tool: dict[str, str],
    l1kd: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock_jumps(monkeypatch, when=lambda: (tmp_path / "bin" / "calls.pids").exists())
    answer = l1kd(
        "synth", mine.directory, "--tool", "vitis", "--steps", "csim,csynth", "--time-limit", "3",
        "--io-type", "io_parallel", **{**tool, "STAND_IN": "hang"},
    )  # fmt: skip
    assert answer.returncode == 2
    assert "csynth was stopped after its time limit of 3 s" in answer.stderr.splitlines()[-1]
    assert "working ..." in answer.stderr
    assert gone(pids(tmp_path / "bin"))  # its child too
    (log,) = (mine.directory / "vendor").glob("*/l1kd_csynth.log")
    assert "working ..." in log.read_text()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full)],
)
def test_an_interrupted_command_goes_on(
    number: signal.Signals,
    code: int,
    mine: Context,
    tool: dict[str, str],
    l1kd: Call,
    tmp_path: Path,
) -> None:
    options = [
        "synth", mine.directory, "--tool", "vitis", "--steps", "csim,csynth",
        "--io-type", "io_parallel",
    ]  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, "-m", "l1kd", *map(str, options)],
        env={**os.environ, **tool, "STAND_IN": "hang"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_interrupts,
    )
    family = pids(tmp_path / "bin")
    started.send_signal(number)
    _, said = started.communicate()
    assert started.returncode == code, said
    assert gone(family)
    assert calls(tmp_path / "bin") == ["vitis-run csim", "vitis-run synth"]
    assert l1kd(*options, **tool).returncode == 0
    assert calls(tmp_path / "bin")[2:] == ["vitis-run synth"]
    assert len(rows(mine, "csynth")) == 1


def test_a_tool_ends_with_its_command_and_is_not_joined_by_another(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    options = ["synth", mine.directory, "--tool", "vitis", "--io-type", "io_parallel"]
    started = subprocess.Popen(
        [sys.executable, "-m", "l1kd", *map(str, options)],
        env={**os.environ, **tool, "STAND_IN": "hang"},
        stderr=subprocess.DEVNULL,
    )
    family = pids(tmp_path / "bin")
    started.kill()
    started.wait()
    assert gone(family)
    (lock,) = (mine.directory / "vendor").glob(".*.lock")
    with processes.held(lock):  # as a program would that left its group
        answer = l1kd(*options, **tool)
        assert answer.returncode == 2 and "still at work" in answer.stderr
    assert l1kd(*options, **tool).returncode == 0


def test_a_project_written_anew_drops_its_numbers(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    options = ("synth", mine.directory, "--tool", "vitis", "--io-type", "io_parallel")
    assert l1kd(*options, **tool).returncode == 0
    assert len(rows(mine, "csynth")) == 1
    directory = mine.firmware(best(mine)) / "hls/Vitis-io_parallel-latency"
    change_weight(directory)
    projects = [open_project(directory)]
    with mine.console.capture() as said:
        assert tool_results.collected(mine, projects) == []
    assert "was written anew" in said.get()
    answer = l1kd(*options, **tool)
    assert answer.returncode == 0 and "another version" in answer.stderr
    assert len(calls(tmp_path / "bin")) == 2 and len(rows(mine, "csynth")) == 1


def test_an_old_report_is_not_taken_for_a_new_one(
    mine: Context, tool: dict[str, str], l1kd: Call
) -> None:
    options = ("synth", mine.directory, "--tool", "vitis", "--io-type", "io_parallel")
    assert l1kd(*options, **tool).returncode == 0
    (record,) = (mine.directory / "vendor").glob("*.json")
    record.unlink()
    answer = l1kd(*options, **{**tool, "STAND_IN": "quiet"})
    assert answer.returncode == 2 and "left no report" in answer.stderr
    assert rows(mine, "csynth") == []


def test_rtl_that_is_gone_is_made_again(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    options = ("synth", mine.directory, "--tool", "vitis", "--io-type", "io_parallel", "--steps")
    assert l1kd(*options, "csynth", **tool).returncode == 0
    (build,) = (mine.directory / "vendor").glob("*/")
    shutil.rmtree(build)
    assert l1kd(*options, "vsynth", **tool).returncode == 0
    assert calls(tmp_path / "bin")[1:] == ["vitis-run synth", "vitis-run vsynth"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tool", "vitis", "--steps", "csim,place"], "no step 'place'"),
        (["--tool", "vitis", "--student", "nobody"], "of a student 'nobody'"),
        (["--tool", "quartus"], "quartus"),
        (["--tool", "vitis", "--collect", "x"], "give one of them"),
        (["--student", "flat"], "are of --tool"),
        (["--tool", "vitis", "--time-limit", "0"], "time-limit"),
    ],
)
def test_options_that_are_wrong(
    options: list[str], said: str, mine: Context, tool: dict[str, str], l1kd: Call
) -> None:
    answer = l1kd("synth", mine.directory, *options, **tool)
    assert answer.returncode == 2 and said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not (mine.directory / "vendor").exists()


def test_logic_synthesis_needs_vivado(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "vivado").unlink()
    answer = l1kd("synth", mine.directory, "--tool", "vitis", "--steps", "vsynth", **tool)
    assert answer.returncode == 2 and "vivado is not, which vsynth needs" in answer.stderr


def test_steps_and_options() -> None:
    assert parse_steps("vsynth, csim") == ["csim", "vsynth"]
    with pytest.raises(UserError, match="no step ''"):
        parse_steps("csim,")
    assert VITIS.options(["cosim"]).startswith("array set opt {reset 0 csim 0 synth 0 cosim 1 ")


def test_layers_of_configurations() -> None:
    arrays = {"layer3_out": "conv1", "layer5_out": "conv1_relu", "layer3_cpy1": "clone"}
    assert layer_names(arrays) == {3: "conv1", 5: "conv1_relu"}


def test_simulations_are_of_their_vectors(
    mine: Context, tool: dict[str, str], l1kd: Call, tmp_path: Path
) -> None:
    """With other vectors they are run again; what the sources alone decide is not."""
    options = ("synth", mine.directory, "--tool", "vitis", "--io-type", "io_parallel", "--steps")
    assert l1kd(*options, "csim,csynth", **tool).returncode == 0
    directory = mine.firmware(best(mine)) / "hls/Vitis-io_parallel-latency"
    inputs, outputs = read_vectors(directory)
    write_vectors(directory, inputs[:-1], outputs[:-1])
    (row,) = tool_results.collected(mine, [open_project(directory)])[:1]
    assert row.lut is not None and "equals" not in (row.note or "")
    assert l1kd(*options, "csim,csynth", **tool).returncode == 0
    assert calls(tmp_path / "bin")[2:] == ["vitis-run csim"]
    (row,) = rows(mine, "csynth")
    assert f"in all bits of {len(inputs) - 1} events" in (row.note or "")
