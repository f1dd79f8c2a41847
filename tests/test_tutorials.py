"""The code of the documentation runs: tutorials from their first command to their last."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages with Python or shell blocks, and who runs them.
RUN_BY = {
    "README.md": "test_python_on_a_run",
    "docs/score.md": "test_python_on_a_run",
    "docs/tutorials/physicist.md": "test_the_tutorials_of_physicists_and_fpga_engineers",
    "docs/tutorials/fpga.md": "test_the_tutorials_of_physicists_and_fpga_engineers",
    "docs/howto/own_source.md": "test_events_of_one_s_own",
    "docs/tutorials/keras.md": "test_the_tutorial_for_keras_users_prints_what_it_says",
    "docs/python.md": "test_ten_lines_from_a_teacher_to_certified_firmware",
    "docs/sweep.md": "",  # needs a batch system
}
# Not what the page trains, but quick; the student has the name that the pages have.
SHORT = (
    "students=[{name: set, architecture: dense, hidden: [4]}]",
    "distillation.epochs=1",
    "distillation.final_epochs=1",
    "distillation.batch=512",
    "firmware.io_type=io_parallel",
    "rtl.synthesize=none",
    "verify.max_auc_loss=1",
    "verify.events=2000",
)
Shell = Callable[..., str]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Kind and text of what stands in a page as code, in order; `command` is what is indented."""
    text = page.read_text(encoding="utf-8")
    for fenced in re.finditer(r"^```(\w+)\n(.*?)^```|((?:^ {4}[^\n]*\n)+)", text, re.M | re.S):
        kind, inside, indented = fenced.groups()
        yield (kind, inside) if kind else ("command", re.sub(r"^ {4}", "", indented, flags=re.M))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs lines as a reader would type them; runs of l1kd are made short."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("l1kd", "-m l1kd"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("CXXFLAGS", "-O0")
    monkeypatch.chdir(tmp_path)
    more = " ".join(f"--set {shlex.quote(each)}" for each in SHORT)

    def run(lines: str, place: Path = tmp_path) -> str:
        lines = re.sub(r"^(l1kd run .*)$", rf"\1 {more}", lines.replace("\\\n", " "), flags=re.M)
        done = subprocess.run(
            ["bash", "-ec", lines], cwd=place, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, f"{lines}\n{done.stderr}"
        return done.stdout + done.stderr

    return run


def test_every_page_with_code_is_run() -> None:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    kinds = {str(page.relative_to(ROOT)): {kind for kind, _ in blocks(page)} for page in pages}
    assert {name for name, own in kinds.items() if own & {"python", "sh", "bash"}} == {*RUN_BY}
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert all(f"def {each}(" in tests for each in RUN_BY.values() if each)
    for kind, code in blocks(DOCS / "sweep.md"):
        if kind == "python":
            compile(code, "sweep.md", "exec")


@pytest.mark.full
@pytest.mark.csim
def test_the_tutorials_of_physicists_and_fpga_engineers(shell: Shell, tmp_path: Path) -> None:
    told, space = "", dict[str, Any]()
    for kind, code in blocks(DOCS / "tutorials" / "physicist.md"):
        if kind == "command":
            told += shell(code)
        elif kind == "python":
            exec(code, space)
    assert (tmp_path / "runs" / "quick" / "report.html").is_file()
    for said in (
        "events of shape (18, 14, 1), 11 bits: 18,000 train, 3,600 validate, 14,400 test",
        "train (stage 1 of 6) ...",
        "set io_parallel: certified for all inputs",
        "| aimed at [kHz] | threshold [LSB] |",
        "accepted by a threshold of",
    ):
        assert said in told, said
    accepted = (space["run"].score(space["events"]) >= space["level"]).mean()
    assert 0 <= accepted <= 1 and len(space["scores"]) == 52_000

    told = ""
    for kind, code in blocks(DOCS / "tutorials" / "fpga.md"):
        inside = next(iter(tmp_path.glob("l1kd_*")), tmp_path)
        if kind == "command":
            told += shell(code)
        elif kind == "sh":
            own = re.sub(r"^vitis-run .*$", "", code, flags=re.M)
            told += shell(own, inside if code.startswith("cd hls/") else tmp_path)
    for said in (
        "quick.tar.gz: ",
        "SHA-256",
        "certified for all inputs; 0 of ",
        "PASSED: every file is the one that was exported",
        "set emulator Vitis io_parallel latency: 0 mismatches in",
    ):
        assert said in told, said


@pytest.mark.full
@pytest.mark.csim
def test_python_on_a_run(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """README and docs/score.md speak of the demo's run and of some events."""
    shell("l1kd run l1toy --run runs/demo --until verify")
    events = np.random.default_rng(1).poisson(2, (500, 18, 14, 1)).astype(np.float32)
    space: dict[str, Any] = {"events": events}
    for page in (ROOT / "README.md", DOCS / "score.md"):
        for kind, code in blocks(page):
            if kind == "python":
                exec(code, space)
    said = capsys.readouterr().out
    assert said.startswith("[]\nAgreement(events=500, mismatches=0")
    assert "certified for all inputs" in said and "Rate(khz=" in said
    assert len(space["accepted"]) == 500


def test_events_of_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, l1kd: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [*blocks(DOCS / "howto" / "own_source.md")]
    (code,) = (code for kind, code in found if kind == "python")
    exec(code, {})
    (line,) = (c for kind, c in found if kind == "command" and "--background normal.npz" in c)
    asked = l1kd(*shlex.split(line)[1:])
    assert asked.returncode == 2 and "data.grid" in asked.stderr, asked.stderr
    assert (tmp_path / "mine" / "l1kd.yaml").is_file()
