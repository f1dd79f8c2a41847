"""What a project is checked with without Python: it passes, it can fail, it can be moved."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.firmware.hls import hls4ml_convert, testbench
from l1kd.firmware.hls.project import Project
from l1kd.networks.to_exact import read
from tests.firmware.networks import change_weight, events_like, few_vectors, little, predict


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose bench has been built; tests that change it take a copy.

    Its vectors are searched for: tests that break it rely on them.
    """
    made = hls4ml_convert.to_hls(little(outputs=2), tmp_path_factory.mktemp("bench") / "p")
    done = make(made.directory)
    assert done.returncode == 0, done.stderr
    return made


def make(directory: Path, *targets: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(directory), *targets, *(f"{k}={v}" for k, v in variables.items())]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def bench(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the bench as it was built."""
    program = [str(directory / "l1kd_little_test")]
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=directory)


def copy(project: Project, directory: Path) -> Path:
    shutil.copytree(project.directory, directory)
    return directory


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def test_vectors_are_what_the_network_says(project: Project) -> None:
    inputs, outputs = testbench.read_vectors(project.directory)
    expected = predict(little(outputs=2), (inputs * project.input_type.lsb).astype(np.float32))
    assert (outputs * project.output_type.lsb == expected).all()
    assert len(np.unique(inputs, axis=0)) == len(inputs) > 500
    assert len(np.unique(outputs)) > 20
    low, high = project.input_type.bounds
    assert (inputs.min(), inputs.max()) == (low, high)


@pytest.mark.csim
@pytest.mark.parametrize(
    "io_type", [pytest.param("io_parallel", marks=pytest.mark.full), "io_stream"]
)
def test_a_moved_project_is_built_and_passes(io_type: str, tmp_path: Path) -> None:
    made = hls4ml_convert.to_hls(
        little(), tmp_path / "p", io_type=io_type, vectors=few_vectors(little())
    )
    moved = tmp_path / "else where" / "q"
    moved.parent.mkdir()
    made.directory.rename(moved)
    before = {path for path in moved.rglob("*") if path.is_file()}
    done = make(moved, "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"PASSED: l1kd_little equals the network in all bits of \d+ events", done.stdout
    )
    assert make(moved, "clean").returncode == 0
    assert {path for path in moved.rglob("*") if path.is_file()} == before
    assert make(moved, "test", CXX="nowhere-c++").returncode != 0


@pytest.mark.csim
@pytest.mark.parametrize(
    "io_type", ["io_parallel", pytest.param("io_stream", marks=pytest.mark.full)]
)
def test_as_vendor_tools_compile_it(io_type: str, tmp_path: Path) -> None:
    """Their flags, from their scripts: no namespace, and results in the file they compare."""
    made = hls4ml_convert.to_hls(
        little(), tmp_path / "p", io_type=io_type, vectors=few_vectors(little())
    )
    script = (made.directory / "build_prj.tcl").read_text()
    flags = set(re.findall(r'cflags "([^"]*)"', script))
    assert flags == {"-std=c++0x", "-std=c++0x -DL1KD_LOG", "-std=c++0x -DL1KD_LOG -DRTL_SIM"}
    assert "add_files -tb tb_data" in script and "${project_name}_test.cpp" in script
    # The tools run it where they have copied `tb_data` to.
    shutil.copytree(made.directory / "tb_data", tmp_path / "build" / "tb_data")
    command = ["g++", *max(flags, key=len).split(), "-O0", "-w", "-Ifirmware/ap_types", "-o"]
    sources = ["l1kd_little_test.cpp", "firmware/l1kd_little.cpp"]
    program = str(tmp_path / "build" / "csim.exe")
    subprocess.run([*command, program, *sources], check=True, cwd=made.directory)
    done = subprocess.run([program], check=False, cwd=tmp_path / "build")
    assert done.returncode == 0
    log = (tmp_path / "build" / "tb_data" / "rtl_cosim_results.log").read_text()
    assert np.array_equal(
        np.array([line.split() for line in log.splitlines()], np.int64),
        testbench.read_vectors(made.directory)[1],
    )
    symbols = subprocess.run(["nm", "-C", program], capture_output=True, text=True, check=True)
    assert re.search(r" T l1kd_little\(", symbols.stdout)


@pytest.mark.csim
def test_a_changed_weight_fails(project: Project, tmp_path: Path) -> None:
    directory = copy(project, tmp_path / "p")
    assert bench(directory).returncode == 0
    change_weight(directory, 1)
    done = make(directory, "test")
    assert done.returncode != 0
    assert re.search(r"event \d+, output [01]: expected \d+, found \d+", done.stdout)
    assert re.search(r"FAILED: l1kd_little differs in \d+ of \d+ events", done.stdout)
    assert done.stdout.count("expected") == 10


@pytest.mark.csim
def test_a_changed_port_does_not_compile(project: Project, tmp_path: Path) -> None:
    directory = copy(project, tmp_path / "p")
    edit(directory / "firmware" / "defines.h", "ap_int<11> events_t", "ap_uint<11> events_t")
    done = make(directory)
    assert done.returncode != 0 and "the input port is ap_int<11>" in done.stderr


@pytest.mark.csim
def test_a_changed_expected_output_fails(project: Project, tmp_path: Path) -> None:
    directory = copy(project, tmp_path / "p")
    inputs, outputs = testbench.read_vectors(directory)
    outputs = outputs.copy()
    outputs[-1, -1] ^= 1
    testbench.write_vectors(directory, inputs, outputs)
    done = bench(directory)
    assert done.returncode == 1
    wanted, found = outputs[-1, -1], outputs[-1, -1] ^ 1
    event = len(inputs) - 1
    assert f"event {event}, output 1: expected {wanted}, found {found}" in done.stdout
    assert f"FAILED: l1kd_little differs in 1 of {len(inputs)} events" in done.stdout


def _cut(text: str, end: int) -> str:
    return text[:end]


DAMAGE = {
    "half of it": lambda text: text[: len(text) // 2],
    "its last line": lambda text: text[: text.rindex("# end")],
    "its last number": lambda text: re.sub(r"\d\n# end", "\n# end", text),
    "one line": lambda text: text.replace("\n" + text.split("\n")[5] + "\n", "\n", 1),
    "a digit": lambda text: text.replace(text.split("\n")[5], "1" + text.split("\n")[5], 1),
    "a letter": lambda text: text.replace("\n0 ", "\nx ", 1),
    "all of it": lambda text: "",
    "its events": lambda text: re.sub(r": \d+ events", ": 0 events", text),
    "its size": lambda text: text.replace(" integers", "9 integers").replace(" 6 ", " 5 "),
    "its range": lambda text: re.sub(r"\n-?\d+ ", "\n1000000 ", text, count=1),
}


@pytest.mark.csim
@pytest.mark.parametrize("name", ["inputs.dat", "outputs.dat"])
@pytest.mark.parametrize("damage", [*DAMAGE, "the file"])
def test_damaged_vectors_fail(project: Project, tmp_path: Path, damage: str, name: str) -> None:
    directory = tmp_path / "p"
    shutil.copytree(project.directory / "tb_data", directory / "tb_data")
    shutil.copy(project.directory / "l1kd_little_test", directory)
    path = directory / "tb_data" / name
    if damage == "the file":
        path.unlink()
    else:
        text = path.read_text()
        changed = DAMAGE[damage](text)
        assert changed != text
        path.write_text(changed)
    done = bench(directory)
    assert done.returncode in (1, 2), done.stdout
    assert name in done.stdout and "PASSED" not in done.stdout
    if damage != "its range":
        with pytest.raises(UserError, match=r"convert the student again") as caught:
            testbench.read_vectors(directory)
        assert "\n" not in str(caught.value)


def test_a_changed_input_that_changes_no_output_is_seen(project: Project, tmp_path: Path) -> None:
    inputs, outputs = testbench.read_vectors(project.directory)
    assert testbench.checksum(inputs) != testbench.checksum(np.flipud(inputs))
    changed = inputs.copy()
    changed[3, 3] += 1
    assert testbench.checksum(inputs) != testbench.checksum(changed)
    assert testbench.checksum(np.array([[-1]])) == 2**64 - 1
    with pytest.raises(ValueError, match="no vectors"):
        testbench.write_vectors(tmp_path, inputs, outputs[:-1])
    assert not list(tmp_path.iterdir())


def test_given_vectors_are_shipped(tmp_path: Path) -> None:
    model = little()
    events = events_like(model, read(model).port, 40)
    project = hls4ml_convert.to_hls(model, tmp_path / "p", vectors=events)
    inputs, outputs = testbench.read_vectors(project.directory)
    assert (inputs == events).all() and len(outputs) == 40
    with pytest.raises(UserError, match="no value of the input port"):
        hls4ml_convert.to_hls(model, tmp_path / "q", vectors=events + 0.5)
    with pytest.raises(UserError, match="at least one event"):
        hls4ml_convert.to_hls(model, tmp_path / "q", vectors=events[:0])
    assert not (tmp_path / "q").exists()


def test_the_readme_says_what_there_is(project: Project) -> None:
    text = (project.directory / "README.md").read_text()
    for said in (
        "make test",
        "build_prj.tcl",
        project.description.namespace,
        "`ap_int<11>`" if "ap_int" in text else "`ap_fixed<11,11",
        "`ap_ufixed<16,8,AP_RND_CONV,AP_SAT>`",
        "l1kd_little_version.cpp",
    ):
        assert said in text
    assert os.sep + "tmp" not in text
