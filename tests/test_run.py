"""Runs: stages in order, nothing twice, nothing half-written, kill -9 anywhere."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from l1kd.errors import UserError
from l1kd.execution import locked
from l1kd.run import _differences

Call = Callable[..., subprocess.CompletedProcess[str]]


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return content


def test_stages_run_in_order_and_once(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    first = l1kd("run", tiny, "--until", "evaluate")
    assert first.returncode == 0, first.stderr
    record = manifest(run)
    assert [*record["stages"]] == ["train", "evaluate"]
    assert {stage["state"] for stage in record["stages"].values()} == {"done"}
    assert record["versions"]["hls4ml"] == "1.3.0"
    assert all(len(digest) == 64 for digest in record["data"].values())

    again = l1kd("run", tiny, "--until", "evaluate")
    assert again.returncode == 0
    assert again.stderr.count("done already") == 2
    assert manifest(run) == record

    # another choice is another evaluation, not another training
    other = l1kd("run", tiny, "--until", "evaluate", "--set", "choose.by=efficiency")
    assert other.returncode == 0
    assert "train: done already" in other.stderr
    assert "choose.by: auc -> efficiency" in other.stderr
    assert "evaluate: done in" in other.stderr

    # another training is another run
    refused = l1kd("run", tiny, "--until", "evaluate", "--set", "distillation.epochs=3")
    assert refused.returncode == 2
    assert "distillation.epochs: 2 -> 3" in refused.stderr

    # a result that was lost is made again, and what follows from it stays
    (run / "metrics.json").unlink()
    lost = l1kd("run", tiny, "--until", "evaluate", "--set", "choose.by=efficiency")
    assert "evaluate: done in" in lost.stderr

    skipped = l1kd("verify", run)
    assert skipped.returncode == 2
    assert "convert" in skipped.stderr


def test_bad_input_leaves_no_run(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(tiny.read_text())
    for change, words in (
        ({"data": {**config["data"], "background": [str(tmp_path / "none.npz")]}}, "none.npz"),
        ({"students": [{"architecture": "s1"}]}, "larger images"),
        ({"distillation": {"exposure": ["dataset"]}}, "'dataset'"),
        ({"teacher": {"architecture": "paper"}}, "28x28"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.safe_dump({**config, **change}))
        answer = l1kd("run", path)
        assert answer.returncode == 2
        assert words in answer.stderr
        assert answer.stderr.strip().count("\n") == 0
        assert not (tmp_path / "runs").exists()


def test_directories_that_are_no_runs(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "thesis.tex").touch()
    for answer in (l1kd("run", tiny, "--run", there), l1kd("report", there)):
        assert answer.returncode == 2
        assert "not a run" in answer.stderr
    assert [file.name for file in there.iterdir()] == ["thesis.tex"]
    (there / "manifest.json").write_text('{"format_version": 99}')
    (there / "config.yaml").write_text("x: 1")
    answer = l1kd("evaluate", there)
    assert answer.returncode == 2
    assert "format 99" in answer.stderr
    (there / "manifest.json").write_text("{")
    assert "damaged" in l1kd("evaluate", there).stderr


def test_a_run_in_use_is_left_alone(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    assert l1kd("run", tiny, "--until", "train").returncode == 0
    with (run / ".lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for answer in (l1kd("run", tiny), l1kd("evaluate", run)):
            assert answer.returncode == 2
            assert "in use" in answer.stderr


def test_what_a_killed_process_left_is_deleted_by_who_holds_the_run(tmp_path: Path) -> None:
    (tmp_path / "students").mkdir()
    left = [
        tmp_path / ".history.abcd1234.part.csv",
        tmp_path / "students" / ".x.abcd1234.part.keras",
    ]
    kept = [tmp_path / "history.csv", tmp_path / "students" / "part.keras"]
    for path in (*left, *kept):
        path.touch()
    (tmp_path / ".emulator.abcd1234.part" / "inside").mkdir(parents=True)
    with locked(tmp_path), pytest.raises(UserError, match="in use"), locked(tmp_path):
        pass
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, tmp_path / ".lock"}
    assert not (tmp_path / ".emulator.abcd1234.part").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    answer = l1kd("run", tiny, "--run", closed / "run")
    assert answer.returncode == 2
    assert "may write" in answer.stderr


def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(
    l1kd: Call, tiny: Path, tmp_path: Path
) -> None:
    # A limit on file sizes fails a write just as a full disk does, in the middle of it.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        f"from l1kd.cli import main; main(['run', {str(tiny)!r}, '--until', 'train'])"
    )
    full = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    run = tmp_path / "runs" / "tiny"
    assert not (run / "teacher.keras").exists()
    assert l1kd("run", tiny, "--until", "train").returncode == 0
    assert (run / "teacher.keras").exists()


def arrays(run: Path) -> dict[str, Any]:
    """Everything a run's arrays and numbers are, times aside."""
    found: dict[str, Any] = {}
    with np.load(run / "scores.npz") as scores:
        found.update({key: scores[key].tolist() for key in scores.files})
    for name in ("metrics.json", "agreement.json", "fidelity.json", "resources.json"):
        found[name] = json.loads((run / name).read_text())
    return found


@pytest.mark.csim
def test_kill_9_in_every_stage_and_the_same_command_gives_the_same(
    l1kd: Call, tiny: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished = l1kd("run", tiny, "--run", whole)
    assert finished.returncode in (0, 1), finished.stderr
    command = [sys.executable, "-m", "l1kd", "run", str(tiny), "--run", str(broken)]

    def kill_when(condition: Callable[[], bool], what: str) -> None:
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            while not condition():
                assert process.poll() is None, f"ended before {what}"
                time.sleep(0.002)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def running(stage: str) -> Callable[[], bool]:
        def started() -> bool:
            try:
                return bool(manifest(broken)["stages"][stage]["state"] == "running")
            except (OSError, KeyError):
                return False

        return started

    kill_when((broken / "checkpoint.npz").exists, "the first epoch")
    kill_when(running("evaluate"), "evaluation")
    kill_when(running("convert"), "conversion")
    kill_when(running("verify"), "compilation began")
    kill_when(
        lambda: any((broken / "firmware").glob("*/csim/*")),
        "a program was being written",
    )
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode == finished.returncode, again.stderr
    assert arrays(whole) == arrays(broken)
    assert not [path for path in broken.rglob("*") if ".part" in path.name]

    # The emulator of the finished run, from outside: delivered, compared, in the report.
    delivered = l1kd("emulator", broken)
    assert delivered.returncode == 0, delivered.stderr
    assert (Path(delivered.stdout.strip()) / "manifest.json").is_file()
    records = json.loads((broken / "agreement.json").read_text())
    pairs = [p for record in records for p in record["pairs"] if p["candidate"] == "emulator"]
    assert {pair["inputs"] for pair in pairs} == {"test", "corner"}
    assert not any(pair["mismatches"] for pair in pairs) and all(pair["events"] for pair in pairs)
    assert ">emulator<" in (broken / "report.html").read_text()
    missing = l1kd("emulator", tmp_path)
    assert missing.returncode == 2 and "is not a run" in missing.stderr


def test_differences_are_named_by_their_keys() -> None:
    assert _differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a.c": "a.c: 2 -> 3"}
    assert _differences({"a": 1}, {"a": 1}) == {}
