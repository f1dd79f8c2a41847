"""The stage `synth`: what is not known is null."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core import config_file, run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed
from l1kd.core.files import is_passing
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware import synth as stage
from l1kd.firmware.certificate.shipped_files import contents, fingerprint
from l1kd.firmware.verilog import synthesize as synthesis
from l1kd.firmware.verilog.lut_ff_estimate import Kernel, kernel_lut, kernels
from l1kd.firmware.verilog.project import open_logic
from l1kd.firmware.verilog.synthesize import FILE, Synthesis
from l1kd.networks.to_exact import read
from l1kd.runs.run import locked
from tests.conftest import made_once
from tests.firmware.networks import conv_counts, copy_of
from tests.firmware.verilog.test_synthesize import SLOW, stand_in, stopped

UNKNOWN = ("latency_cycles", "latency_ns", "ff", "dsp", "bram", "uram")


@pytest.fixture(scope="session")
def resources(run: Context, tmp_path_factory: pytest.TempPathFactory) -> list[run_files.Resources]:
    """Of a run whose best student, `flat`, was synthesised; once for all workers."""

    def make(place: Path) -> None:
        mine = copy_of(run, place / "r", rtl={"synthesize": "best"})
        metrics = run_files.read(mine.directory, "metrics.json")
        run_files.write(mine.directory, "metrics.json", metrics.model_copy(update={"best": "flat"}))
        stage.synth(mine)

    directory = made_once(tmp_path_factory, "synthesised", make) / "r"
    found: list[run_files.Resources] = run_files.read(directory, "resources.json")
    return found


def only(context: Context, student: str) -> Context:
    """A run of which one student's projects are known."""
    for name in ("firmware.json", "rtl.json"):
        records = run_files.read(context.directory, name)
        run_files.write(context.directory, name, [r for r in records if r.student == student])
    return context


def test_verilog_is_estimated_and_the_best_is_synthesised(
    resources: list[run_files.Resources],
) -> None:
    rows = {(row.student, row.source): row for row in resources if row.implementation == "alkaid"}
    assert set(rows) == {("flat", "estimate"), ("image", "estimate"), ("flat", "yosys")}
    for (student, source), row in rows.items():
        assert row.tool.startswith("alkaid 0.8" if source == "estimate" else "Yosys")
        assert row.latency_ns == row.latency_cycles * 5.0 and row.interval_cycles == 1
        assert row.lut > 0 and row.ff > 0 and (row.dsp, row.bram, row.uram) == (0, 0, 0)
        assert row.share["lut"] == pytest.approx(row.lut / 1_728_000)
        assert 0 < row.estimated_clock_ns <= 5.0
        assert (len(row.layers) > 2) == (source == "estimate"), student
    assert rows["flat", "yosys"].lut == pytest.approx(rows["flat", "estimate"].lut, rel=0.6)


def test_a_missed_budget_fails_it_after_the_numbers_are_written(
    run: Context, tmp_path: Path
) -> None:
    mine = copy_of(run, tmp_path / "r", choose={"max_lut": 10})
    mine = only(mine, run_files.read(mine.directory, "metrics.json").best)
    with pytest.raises(CheckFailed, match=r"budget missed by the best student.*LUT"):
        stage.synth(mine)
    assert run_files.read(mine.directory, "resources.json")


def test_synthesis_that_takes_too_long_is_left_out(run: Context, tmp_path: Path) -> None:
    rtl = {"synthesize": "all", "time_limit_s": 0.2}
    mine = only(copy_of(run, tmp_path / "r", rtl=rtl), "flat")
    stage.synth(mine)
    rows = run_files.read(mine.directory, "resources.json")
    assert {row.source for row in rows} == {"estimate"}


def test_a_design_that_is_too_large_for_the_tools_is_estimated_only(
    run: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("synthesised all the same")

    monkeypatch.setattr(stage, "synthesize", never)
    rtl = {"synthesize": "all", "tools_max_lut": 10}
    mine = only(copy_of(run, tmp_path / "r", rtl=rtl), "flat")
    stage.synth(mine)
    assert {row.source for row in run_files.read(mine.directory, "resources.json")} == {"estimate"}


def test_a_design_that_was_changed_after_its_certificate_is_not_synthesised(
    run: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    counts: dict[str, Any] = {
        "lut": 1,
        "ff": 1,
        "dsp": 0,
        "bram": 0,
        "uram": 0,
        "seconds": 1.0,
        "cells": {},
    }

    def synthesised(directory: Path, *_: object, **__: object) -> Synthesis:
        made.append(directory)
        return Synthesis(tool="Yosys", **counts)

    monkeypatch.setattr(stage, "synthesize", synthesised)
    mine = only(copy_of(run, tmp_path / "r", rtl={"synthesize": "all"}), "flat")
    directory = mine.firmware("flat") / "verilog"
    record = run_files.CertificateRecord(
        backend=None,
        io_type=None,
        strategy=None,
        certified=True,
        layers=["output"],
        findings=[],
        content=fingerprint(contents(directory)),
    )
    judged = run_files.AgreementRecord(
        student="flat", lsb=1.0, pairs=[], float32={}, simulated=None, certificates=[record]
    )
    run_files.write(mine.directory, "agreement.json", [judged])
    stage.synth(mine)
    assert made == [directory]
    readme = directory / "README.md"
    readme.write_text(readme.read_text() + "\n")
    with pytest.raises(CheckFailed, match="verilog: the project is not the one that was judged"):
        stage.synth(mine)
    assert made == [directory]


def test_what_yosys_finds_beside_other_stages_is_taken(
    run: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, called = [synthesis.count({"LUT2": 77}, tool="Yosys 0.1", seconds=1.0)], []

    def once(*_: object, **__: object) -> synthesis.Synthesis:
        called.append(threading.current_thread())
        return found.pop()

    monkeypatch.setattr(stage, "synthesize", once)
    mine = only(copy_of(run, tmp_path / "r", rtl={"synthesize": "all"}), "flat")
    with stage.beside(mine):
        stage.synth(mine)
    rows = run_files.read(mine.directory, "resources.json")
    assert [row.lut for row in rows if row.source == "yosys"] == [77]
    assert called != [threading.current_thread()] and not mine.begun

    # by itself the stage does the work
    found.append(synthesis.count({"LUT2": 78}, tool="Yosys 0.1", seconds=1.0))
    stage.synth(mine)
    rows = run_files.read(mine.directory, "resources.json")
    assert [row.lut for row in rows if row.source == "yosys"] == [78]
    assert called[-1] is threading.current_thread()


def test_why_yosys_found_nothing_beside_other_stages_is_told(
    run: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stand_in(tmp_path / "bin", "sys.exit('no')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    mine = only(copy_of(run, tmp_path / "r", rtl={"synthesize": "all"}), "flat")
    with stage.beside(mine):
        stage.synth(mine)
    assert "flat: not synthesised: " in capsys.readouterr().err
    assert {row.source for row in run_files.read(mine.directory, "resources.json")} == {"estimate"}


KILLED = """
import os, signal, sys, time
from pathlib import Path
from l1kd.core import config_file
from l1kd.firmware import synth
from l1kd.runs.run import context_of

run, pids = map(Path, sys.argv[1:])
with synth.beside(context_of(run, config_file.load_resolved(run / "config.yaml"))):
    while not (pids.exists() and pids.read_text()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
@pytest.mark.parametrize("end", ["error", "interruption", "kill -9"])
def test_no_yosys_goes_on_when_the_stages_before_end(
    run: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    pids = tmp_path / "pids"
    stand_in(tmp_path / "bin", SLOW.format(pids=str(pids)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    mine = only(copy_of(run, tmp_path / "r", rtl={"synthesize": "all"}), "flat")
    if end == "kill -9":
        config_file.save(mine.config, mine.directory / "config.yaml")
        arguments = [sys.executable, "-c", KILLED, str(mine.directory), str(pids)]
        killed = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
        assert killed.returncode == -9, killed.stderr
    else:
        error = {"error": CheckFailed("a gate"), "interruption": KeyboardInterrupt()}[end]
        with pytest.raises(type(error)), stage.beside(mine):
            while not (pids.exists() and pids.read_text()):
                threading.Event().wait(0.01)
            raise error
    assert stopped(pids)
    with locked(mine.directory):
        pass  # deletes what a killed process left
    left = [path for path in mine.directory.rglob("*") if is_passing(path.name, ".")]
    assert not left
    assert not (open_logic(mine.directory / "firmware/flat/verilog").directory / FILE).exists()


def test_of_the_projects_matrices_and_interval_are_known(
    resources: list[run_files.Resources],
) -> None:
    rows = {(r.student, r.io_type): r for r in resources if r.implementation == "hls4ml"}
    # io_parallel has the convolution once per position, io_stream once.
    assert rows["image", "io_parallel"].lut > rows["image", "io_stream"].lut > 0
    assert rows["flat", "io_parallel"].lut == rows["flat", "io_stream"].lut
    for row in rows.values():
        assert row.source == "estimate" and row.tool == "hls4ml 1.3.0, alkaid 0.8.2"
        assert row.interval_cycles == (1 if row.io_type == "io_parallel" else None)
        assert "distributed arithmetic" in row.note and "DSPs" in row.note
        assert all(getattr(row, name) is None for name in UNKNOWN)


def test_one_adder_costs_its_bits() -> None:
    both = np.ones((2, 1))
    cost = kernel_lut(Kernel(both, FixedPoint(8, 8), 1))
    assert 7 <= cost <= 9
    assert kernel_lut(Kernel(both / 2, FixedPoint(8, 8), 1)) == cost
    assert kernel_lut(Kernel(both * 0, FixedPoint(8, 8), 1)) == 0


def test_kernels_are_the_quantized_matrices() -> None:
    first, second, last = kernels(read(conv_counts()))
    assert (first.positions, first.matrix.shape) == (63, (4, 4))
    assert first.input.text == "ap_fixed<11,11,AP_RND_CONV,AP_SAT>"
    assert (second.positions, second.matrix.shape, last.matrix.shape) == (1, (252, 16), (16, 1))
    assert second.input.text == "ap_ufixed<10,6,AP_RND_CONV,AP_SAT>"
    steps = second.matrix * 2**6
    assert (steps == np.rint(steps)).all()
