"""Results that were brought back: whose they are, and what is refused. Made by a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.firmware.hls.backends import VITIS
from l1kd.firmware.hls.project import Project
from l1kd.firmware.run_firmware import projects_of
from l1kd.firmware.vendor_tools.tool_results import collect, collected
from tests.firmware.networks import change_weight
from tests.firmware.vendor_tools.standin import finished_run, stand_in

Call = Callable[..., subprocess.CompletedProcess[str]]
NAME, PLACE = "flat-Vitis-io_stream-latency", "firmware/flat/hls/Vitis-io_stream-latency"
OTHER = "l1kd_flat_v00000000"  # the namespace of another version
REPORT = "l1kd_flat_prj/solution1/syn/report/l1kd_flat_csynth.xml"


@pytest.fixture
def mine(run: Context, tmp_path: Path) -> Context:
    return finished_run(run, tmp_path / "r")


@pytest.fixture(scope="session")
def left(run: Context, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of one of the run's projects, on which the stand-in has run all steps. Read only."""
    directory = tmp_path_factory.mktemp("left")
    there = directory / NAME
    shutil.copytree(run.directory / PLACE, there)
    environment = {**os.environ, **stand_in(directory / "bin", "vitis-run")}
    (there / "build_opt.tcl").write_text(VITIS.options(["csim", "csynth", "cosim", "vsynth"]))
    command = [str(directory / "bin" / "vitis-run"), "--mode", "hls", "--tcl", "build_prj.tcl"]
    subprocess.run(command, cwd=there, env=environment, check=True, capture_output=True)
    return there


@pytest.fixture
def brought(left: Path, tmp_path: Path) -> Path:
    """What was brought back from the machine that has the tool."""
    return Path(shutil.copytree(left, tmp_path / "there" / NAME))


def projects(context: Context) -> list[Project]:
    return [each for group in projects_of(context.directory).values() for each in group]


def describe(directory: Path, **record: Any) -> None:
    """Change what a project says of itself."""
    path = directory / "l1kd.json"
    said = json.loads(path.read_text())
    for key, value in record.items():
        (said if key in said else said["record"])[key] = value
    path.write_text(json.dumps(said))


def test_through_the_command_line(mine: Context, brought: Path, l1kd: Call, tmp_path: Path) -> None:
    answer = l1kd("synth", mine.directory, "--collect", brought)
    assert answer.returncode == 0, answer.stderr
    rows = run_files.read(mine.directory, "resources.json")
    assert {row.source for row in rows if (row.student, row.io_type) == ("flat", "io_stream")} == {
        "estimate",
        "csynth",
        "vsynth",
    }
    gone = l1kd("synth", mine.directory, "--collect", tmp_path / "nowhere")
    assert gone.returncode == 2 and "is no directory" in gone.stderr
    assert len(gone.stderr.strip().splitlines()[-1:]) == 1
    # The numbers stay when the stage is run again, and what is refused does not disturb them.
    change_weight(brought)
    refused = l1kd("synth", mine.directory, "--collect", brought)
    assert refused.returncode == 2 and "another version of the project" in refused.stderr
    rows = run_files.read(mine.directory, "resources.json")
    assert len([row for row in rows if row.source == "csynth"]) == 1


def test_one_project_or_several(mine: Context, brought: Path, tmp_path: Path) -> None:
    assert collect(mine, projects(mine), brought) == [NAME]
    other = brought.parent / "renamed"
    shutil.copytree(brought, other)
    (brought.parent / "notes").mkdir()
    assert collect(mine, projects(mine), brought.parent) == [NAME, NAME]
    (row, netlist) = collected(mine, projects(mine))
    assert (row.source, netlist.source, row.student) == ("csynth", "vsynth", "flat")
    link = tmp_path / "link"
    link.symlink_to(brought)  # what the user names may be a link; what is in it may not
    assert collect(mine, projects(mine), link) == [NAME]


def test_reports_alone_are_enough_with_the_description(mine: Context, brought: Path) -> None:
    shutil.rmtree(brought / "firmware")
    shutil.rmtree(brought / "tb_data")
    assert collect(mine, projects(mine), brought) == [NAME]
    row = collected(mine, projects(mine))[0]
    assert "equals" not in (row.note or "")  # no vectors: nothing was compared


def test_the_good_ones_are_kept(mine: Context, brought: Path) -> None:
    other = brought.parent / "another"
    shutil.copytree(brought, other)
    describe(other, model="0" * 64)
    with pytest.raises(UserError, match=rf"another network .*\({NAME}: read\)"):
        collect(mine, projects(mine), brought.parent)
    assert len(collected(mine, projects(mine))) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": "image2"}, "no project of"),
        ({"io_type": "io_parallel"}, "other options"),
        ({"backend": "Vivado"}, "flat-Vivado-io_stream-latency, no project"),
        ({"model": "1" * 64}, "another network than the run's student 'flat'"),
        ({"namespace": OTHER, "clock_ns": 6.25}, r"clock_ns 6\.25, the run has 5"),
        ({"namespace": OTHER, "part": "xc7z020clg400-1"}, "part xc7z020clg400-1"),
        ({"namespace": OTHER, "versions": {"hls4ml": "1.2.0"}}, "another version of hls4ml"),
        ({"layers": 3}, "not as l1kd writes it"),
    ],
)
def test_results_of_something_else_are_refused(
    change: dict[str, Any], said: str, mine: Context, brought: Path
) -> None:
    describe(brought, **change)
    with pytest.raises(UserError, match=said):
        collect(mine, projects(mine), brought)
    assert collected(mine, projects(mine)) == []


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("firmware/l1kd_flat.cpp", "#include", "# include", "firmware/l1kd_flat.cpp differs"),
        ("project.tcl", "set clock_period 5", "set clock_period 8", "project.tcl differs"),
        (REPORT, "xcvu13p", "xcvu9p", "for the part xcvu9p-flga2577-2-e, the project is for"),
        (REPORT, ">5.00<", ">6.25<", "a clock of 6.25 ns, the project is for 5 ns"),
        (REPORT, ">l1kd_flat<", ">other<", "of 'other', the project's top"),
        (REPORT, "<LUT>", "<LUT>x", "no number"),
        (REPORT, "<profile>", "<!DOCTYPE x><profile>", "document type"),
        ("vivado_synth.rpt", "xcvu13p", "7z020", "logic synthesis is for the part 7z020"),
    ],
)
def test_files_that_are_not_the_projects_are_refused(
    file: str, old: str, new: str, said: str, mine: Context, brought: Path
) -> None:
    edit(brought / file, old, new)
    with pytest.raises(UserError, match=said):
        collect(mine, projects(mine), brought)
    assert collected(mine, projects(mine)) == []


def test_what_is_no_project_is_refused(mine: Context, brought: Path, tmp_path: Path) -> None:
    own = projects(mine)
    archive = tmp_path / "results.tar.gz"
    archive.touch()
    with pytest.raises(UserError, match="is an archive; unpack it"):
        collect(mine, own, archive)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"no l1kd\.json"):
        collect(mine, own, tmp_path / "nothing")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "project").symlink_to(brought)
    with pytest.raises(UserError, match=r"no l1kd\.json"):
        collect(mine, own, tmp_path / "linked")
    with pytest.raises(UserError, match="has no report of a vendor's tool"):
        collect(mine, own, mine.directory / PLACE)
    secret = tmp_path / "reports"
    (brought / "l1kd_flat_prj").rename(secret)
    (brought / "l1kd_flat_prj").symlink_to(secret)
    (brought / "vivado_synth.rpt").unlink()
    shutil.rmtree(brought / "tb_data")
    with pytest.raises(UserError, match="l1kd_flat_prj is a link: not followed"):
        collect(mine, own, brought)


def test_a_simulation_that_differs_fails_the_check(mine: Context, brought: Path) -> None:
    log = brought / "tb_data" / "rtl_cosim_results.log"
    first, *others = log.read_text().splitlines()
    log.write_text("\n".join([str(int(first) + 1), *others]) + "\n")
    with pytest.raises(CheckFailed, match="cosim"):
        collect(mine, projects(mine), brought)
    row = collected(mine, projects(mine))[0]  # kept, and it says so
    assert "the simulated RTL DIFFERS in 1 of" in (row.note or "")


def test_damaged_results_in_the_run_are_said(mine: Context, brought: Path) -> None:
    collect(mine, projects(mine), brought)
    (path,) = (mine.directory / "vendor").glob("*.json")
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="delete it"):
        collected(mine, projects(mine))


def test_a_clock_that_is_missed_is_said(mine: Context, brought: Path) -> None:
    """The latency is then that of the tool's own clock: 12 cycles of 6.016 ns."""
    edit(brought / REPORT, ">3.612<", ">6.016<")
    assert collect(mine, projects(mine), brought) == [NAME]
    for row in collected(mine, projects(mine)):
        assert "timing fails: the C synthesis estimates a clock of 6.016 ns for 5 ns" in (
            row.note or ""
        )
        assert (row.latency_cycles, row.latency_ns, row.clock_ns) == (12, 72.192, 5)


def test_missing_vectors_are_named(mine: Context, brought: Path) -> None:
    shutil.rmtree(brought / "tb_data")
    with mine.console.capture() as said:
        collect(mine, projects(mine), brought)
    assert "tb_data/inputs.dat is missing" in " ".join(said.get().split())
