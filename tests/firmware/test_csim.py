"""The C simulation: the project's own C++, compiled once, whole or absent."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from l1kd.errors import UserError
from l1kd.firmware import csim, hls
from l1kd.firmware.corners import corners
from l1kd.firmware.project import Project
from l1kd.models.exact import read
from tests.firmware.networks import change_weight, events_like, little, network


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project; tests that change it take a copy."""
    return hls.convert(little(), tmp_path_factory.mktemp("csim") / "p")


def copy(project: Project, directory: Path) -> Project:
    shutil.copytree(project.directory, directory, ignore=shutil.ignore_patterns("csim"))
    return hls.open_project(directory)


def programs(project: Project) -> list[str]:
    directory = project.directory / "csim"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_without_a_compiler_it_says_what_to_install(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh = copy(project, tmp_path / "p")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"'g\+\+' is not found; install g\+\+ .*apt"):
        fresh.predict(np.zeros((1, 6)))
    monkeypatch.setenv("CXX", "nowhere/clang++ -stdlib=libc++")
    with pytest.raises(UserError, match=r"'nowhere/clang\+\+' is not found"):
        fresh.compile()
    assert programs(fresh) == []


@pytest.mark.csim
def test_an_unchanged_project_is_compiled_once(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    first = mine.compile()
    made = first.stat().st_mtime_ns
    assert mine.compile() == first == hls.open_project(mine.directory).compile()
    for name in ("README.md", "Makefile", "tb_data/inputs.dat"):  # are no part of the program
        with (mine.directory / name).open("a") as file:
            file.write("# mine\n")
    assert mine.compile() == first and first.stat().st_mtime_ns == made


@pytest.mark.csim
def test_a_changed_project_never_meets_a_stale_program(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    events = events_like(little(), mine.input_type, 300)
    before, first = mine.predict(events), mine.compile()
    change_weight(mine.directory, 1)
    after = mine.predict(events)
    assert (before != after).any()
    assert programs(mine) == [mine.compile().name] != [first.name]


@pytest.mark.csim
def test_a_moved_project_works(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    events = events_like(little(), mine.input_type, 50)
    expected = mine.predict(events)
    moved = tmp_path / "else where" / "q"
    moved.parent.mkdir()
    mine.directory.rename(moved)
    assert (hls.open_project(moved).predict(events) == expected).all()


@pytest.mark.csim
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_rewriting_changes_no_value(
    io_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled for speed gives what the project's own files give, and the same layers."""
    model = network((6, 6, 1), [("conv", 3, 2, 2), ("flatten",), ("dense", 8)])
    mine = hls.convert(model, tmp_path / "p", io_type=io_type)
    corner, _ = corners(mine.input_type, (6, 6, 1), read(model), limit=500)
    events = np.concatenate([corner, events_like(model, mine.input_type, 1000)])
    fast, shown = mine.predict(events), mine.trace(events[:200])
    with monkeypatch.context() as patch:
        patch.setattr(csim, "rewrite", lambda path, text: text)
        plain, plain_shown = mine.predict(events), mine.trace(events[:200])
    assert (fast == plain).all()
    for name, values in shown.items():
        assert (values == plain_shown[name]).all(), name


def test_rewriting_touches_only_what_it_knows() -> None:
    header = "// x\ndense1_weight_t w3[3] = {0.5, -0.25, 1e-05};\n#endif\n"
    table = csim.rewrite("weights/w3.h", header)
    assert "static const double w3_values[3] = {0.5, -0.25, 1e-05};" in table
    assert "dense1_weight_t w3[3];" in table
    for strange in ("w_t w2[2] = {{0, 1, 0.5}};\n", "w_t w2[2] = {a, b};\n", "int x;\n"):
        assert csim.rewrite("weights/w2.h", strange) == strange
    assert csim.rewrite("defines.h", header) == header


def test_both_rewrites_find_what_hls4ml_writes(project: Project) -> None:
    firmware = project.directory / "firmware"
    for name in ("weights/w2.h", "weights/b2.h", "ap_types/etc/ap_private.h"):
        matches = list(firmware.glob(name)) or list(firmware.glob("weights/w*.h"))
        for path in matches:
            text = path.read_text()
            assert csim.rewrite(path.relative_to(firmware).as_posix(), text) != text, path


@pytest.mark.csim
def test_what_does_not_compile_is_one_line(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    with (mine.directory / "firmware" / "defines.h").open("a") as header:
        header.write("\nthis is no C++;\n")
    with pytest.raises(UserError, match=r"does not compile the project: .*error") as caught:
        mine.compile()
    assert "\n" not in str(caught.value)
    assert programs(mine) == []


@pytest.mark.csim
def test_results_do_not_depend_on_processes_or_chunks(project: Project) -> None:
    events = events_like(little(), project.input_type, 1001)
    one = project.predict(events, processes=1)
    assert (project.predict(events, processes=3) == one).all()
    parts = [project.predict(events[start : start + 77]) for start in range(0, 1001, 77)]
    assert (np.concatenate(parts) == one).all()
    assert project.trace(events[:0])["score"].shape == (0, 1)
    assert (project.trace(events[:9])["score"] == one[:9]).all()


@pytest.mark.csim
def test_a_program_that_fails_is_said(project: Project) -> None:
    program = project.compile()
    with pytest.raises(UserError, match="not shown by this project"):
        csim.trace(program, np.zeros((1, 6), np.int64), 1, [("nowhere", 3)])
    with pytest.raises(UserError, match="bytes came back"):
        csim.simulate(program, np.zeros((2, 3), np.int64), 1, 1)


STUCK = """#!/bin/sh
# A compiler that has written half of its output when the process that called it is killed.
if [ "$1" = --version ]; then echo stuck; exit 0; fi
for last; do :; done
printf half > "$last"
touch "$(dirname "$0")/mark"
exec sleep 60
"""


@pytest.mark.csim
def test_a_killed_compilation_leaves_no_program(project: Project, tmp_path: Path) -> None:
    mine = copy(project, tmp_path / "p")
    stuck = tmp_path / "c++"
    stuck.write_text(STUCK)
    stuck.chmod(stuck.stat().st_mode | stat.S_IXUSR)
    script = (
        "from l1kd.firmware.project import open_project; "
        f"open_project({str(mine.directory)!r}).compile()"
    )
    environment = {
        **os.environ,
        "CXX": str(stuck),
        "PYTHONPATH": str(Path(csim.__file__).parents[2]),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "mark").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    # What the killed compiler left is no program's name; the next call compiles.
    assert all(name.startswith(".") for name in programs(mine))
    assert mine.compile().name in programs(mine)
    assert mine.predict(np.zeros((2, 6))).shape == (2, 1)


def test_simulation_needs_neither_tensorflow_nor_hls4ml() -> None:
    names = ("csim", "agreement", "corners", "project", "fidelity", "limits", "network", "hls")
    modules = ", ".join(f"l1kd.firmware.{name}" for name in names)
    script = (
        f"import sys, {modules}; heavy = set(sys.modules) & {{'tensorflow', 'hls4ml', 'qkeras'}}; "
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
