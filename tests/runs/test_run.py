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
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from l1kd.core import run_files
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import is_passing, passing_name
from l1kd.core.stages import STAGES
from l1kd.runs.event_files import _hash, event_hash, find
from l1kd.runs.run import _differences, link_projects, locked
from tests.conftest import copy_of_run, killed_before
from tests.firmware.networks import change_weight

Call = Callable[..., subprocess.CompletedProcess[str]]


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return content


def test_stages_run_in_order_and_once(l1kd: Call, finished_run: Path, tmp_path: Path) -> None:
    record = manifest(finished_run)
    assert [*record["stages"]] == [*STAGES]
    assert {stage["state"] for stage in record["stages"].values()} == {"done"}
    assert record["versions"]["hls4ml"] == "1.3.0"
    assert all(len(digest) == 64 for digest in record["data"].values())

    config, run = finished_run.parent / "tiny.yaml", copy_of_run(finished_run, tmp_path / "run")
    again = l1kd("run", config, "--run", run)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done already") == len(STAGES)
    assert manifest(run) == record

    # another choice is another evaluation, not another training
    efficiency = ("--set", "choose.by=efficiency", "--until", "evaluate")
    other = l1kd("run", config, "--run", run, *efficiency)
    assert other.returncode == 0, other.stderr
    assert "train: done already" in other.stderr
    assert "choose.by: auc -> efficiency" in other.stderr
    assert "evaluate: done in" in other.stderr

    # another training is another run
    refused = l1kd("run", config, "--run", run, "--set", "distillation.epochs=3")
    assert refused.returncode == 2
    assert "distillation.epochs: 2 -> 3" in refused.stderr

    # a result that was lost is made again, and what follows from it stays
    (run / "metrics.json").unlink()
    lost = l1kd("run", config, "--run", run, *efficiency)
    assert "train: done already" in lost.stderr and "evaluate: done in" in lost.stderr


def test_the_stages_after_a_failed_gate_run_all_the_same(
    l1kd: Call, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def execute(runner: object, stage: str, *, always: bool) -> None:
        begun.append(stage)
        if stage in ("verify", "synth"):
            raise CheckFailed(f"{stage} found a fault")

    monkeypatch.setattr("l1kd.runs.run.Runner.execute", execute)
    run = copy_of_run(finished_run, tmp_path / "run")
    answer = l1kd("run", finished_run.parent / "tiny.yaml", "--run", run)
    assert answer.returncode == 1
    assert begun == [*STAGES]
    assert "synth: FAILED: synth found a fault" in answer.stderr
    assert answer.stderr.splitlines()[-1] == "l1kd: check failed: verify found a fault"


def test_the_emulator_of_a_run_that_failed_says_so(
    l1kd: Call, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    record = run_files.read(run, "manifest.json")
    failed = run_files.StageRecord(state="failed", inputs="", message="3 of 9 differ")
    record.stages |= {"verify": failed}
    del record.stages["synth"]
    run_files.write(run, "manifest.json", record)
    monkeypatch.setattr("l1kd.firmware.hls.emulator.deliver", lambda *_: 1 / 0)
    said = l1kd("emulator", run).stderr.splitlines()
    assert said[0] == f"{run}: verify FAILED: 3 of 9 differ; its emulator is built"
    assert said[1] == f"{run}: synth is not finished; its emulator is built"
    assert said[2] == "building the emulator" and len(said) == 4


def test_bad_input_leaves_no_run(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(tiny.read_text(encoding="utf-8"))
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
        *begun, said = answer.stderr.strip().splitlines()
        assert words in said and said.startswith("l1kd: error: ")
        assert not [line for line in begun if line.startswith("l1kd: ")]
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


def test_a_run_in_use_is_left_alone(l1kd: Call, finished_run: Path, tmp_path: Path) -> None:
    config, run = finished_run.parent / "tiny.yaml", copy_of_run(finished_run, tmp_path / "run")
    with (run / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for answer in (l1kd("run", config, "--run", run), l1kd("evaluate", run)):
            assert answer.returncode == 2
            assert "in use" in answer.stderr


def test_what_a_killed_process_left_is_deleted_by_who_holds_the_run(tmp_path: Path) -> None:
    (tmp_path / "students").mkdir()
    left = [
        tmp_path / passing_name(".part.csv"),
        tmp_path / "students" / passing_name(".part.keras"),
    ]
    kept = [tmp_path / "history.csv", tmp_path / "students" / ".x.abcd1234.part.keras"]
    for path in (*left, *kept):
        path.touch()
    (directory := tmp_path / passing_name(".part")).mkdir()
    (directory / "inside").touch()
    with locked(tmp_path), pytest.raises(UserError, match="in use"), locked(tmp_path):
        pass
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, tmp_path / ".lock"}
    assert not directory.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(l1kd: Call, tiny: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    answer = l1kd("run", tiny, "--run", closed / "run")
    assert answer.returncode == 2
    assert "may write" in answer.stderr


def arrays(run: Path) -> dict[str, Any]:
    """Everything a run's arrays and numbers are so far, times aside."""
    found: dict[str, Any] = {}
    with np.load(run / "scores.npz") as scores:
        found.update({key: scores[key].tolist() for key in scores.files})
    for name in ("metrics.json", "agreement.json", "fidelity.json", "resources.json"):
        if (run / name).exists():
            found[name] = json.loads((run / name).read_text())
    return found


def finish(config: Path, run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process, as the run that it is compared with was made."""
    return subprocess.run(
        [sys.executable, "-m", "l1kd", "run", str(config), "--run", str(run), *more],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_kill_9_in_training_and_the_same_command_gives_the_same(
    l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    config, run = finished_run.parent / "tiny.yaml", tmp_path / "broken"
    # One epoch is stored; the next one's checkpoint is whole and not in place.
    killed_before("checkpoint.npz", 2, tmp_path, "run", config, "--run", run)
    assert manifest(run)["stages"]["train"]["state"] == "running"
    assert (run / "checkpoint.npz").exists()

    again = finish(config, run, "--until", "evaluate")
    assert again.returncode == 0, again.stderr
    assert [*manifest(run)["stages"]] == ["train", "evaluate"]
    whole, found = arrays(finished_run), arrays(run)
    assert found == {key: whole[key] for key in found}
    assert len(found) > 10 and "metrics.json" in found
    assert not [path for path in run.rglob("*") if is_passing(path.name, "")]
    skipped = l1kd("verify", run)
    assert skipped.returncode == 2 and "'convert' has not finished" in skipped.stderr


@pytest.mark.full
def test_a_full_disk_in_training_and_the_same_command_gives_the_same(
    finished_run: Path, tmp_path: Path
) -> None:
    config, run = finished_run.parent / "tiny.yaml", tmp_path / "broken"
    # A limit on file sizes fails a write just as a full disk does, in the middle of it.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        f"from l1kd.cli import main; main(['run', {str(config)!r}, '--run', {str(run)!r}])"
    )
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert full.stderr.splitlines()[-1].startswith("l1kd: error: ")
    assert not (run / "teacher.keras").exists()
    again = finish(config, run, "--until", "evaluate")
    assert again.returncode == 0, again.stderr
    whole, found = arrays(finished_run), arrays(run)
    assert len(found) > 10 and found == {key: whole[key] for key in found}


@pytest.mark.full
@pytest.mark.csim
def test_kill_9_in_every_stage_and_the_same_command_gives_the_same(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run, programs = finished_run.parent / "tiny.yaml", tmp_path / "run", tmp_path / "cache"
    monkeypatch.setenv("L1KD_CSIM_CACHE", str(programs))  # nobody has compiled for this run yet
    command = ["run", config, "--run", run]
    for file, number in (
        ("manifest.json", 1),
        ("config.yaml", 1),  # the manifest is there already
        ("checkpoint.npz", 2),
        ("target.json", 1),
        ("scores.npz", 1),
        ("metrics.json", 1),
        ("-latency", 2),  # one project is there
        ("firmware.json", 1),
    ):
        killed_before(file, number, tmp_path, *command)

    process = subprocess.Popen(
        [sys.executable, "-m", "l1kd", *map(str, command)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:  # a compiler has begun: its lock or some of what it writes is there
        while not (any(programs.rglob("*")) or any(run.glob("firmware/*/csim/*"))):
            assert process.poll() is None, "it ended before anything was compiled"
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    for file in ("agreement.json", "resources.json", "report.html"):
        killed_before(file, 1, tmp_path, *command)
    again = finish(config, run)
    assert again.returncode == 0, again.stderr
    assert arrays(finished_run) == arrays(run)
    assert not [path for path in run.rglob("*") if is_passing(path.name, "")]


def emulator_pairs(run: Path) -> list[dict[str, Any]]:
    records = json.loads((run / "agreement.json").read_text())
    return [p for record in records for p in record["pairs"] if p["candidate"] == "emulator"]


# `verify` is not among these: it compares QKeras' network, too.
_WITHOUT_TENSORFLOW = """
import sys
from l1kd.cli import main

run, events = sys.argv[1:]
out = ["--out", run + "/scored.h5"]
for arguments in (
    ["synth", run],
    ["report", run],
    ["report", run, "--format", "json"],
    ["compare", run],
    ["score", run, events, "--threshold", "9", *out],
    ["rates", run, "--threshold", "9"],
    ["export", run],
    ["check", run],
    ["emulator", run],
):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    assert not {"tensorflow", "qkeras", "hls4ml"} & set(sys.modules), arguments
"""


@pytest.mark.csim
def test_a_copied_run_is_itself_and_needs_no_tensorflow(
    l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    run = copy_of_run(finished_run, tmp_path / "moved")
    assert str(finished_run) not in (run / "manifest.json").read_text()
    for name in ("firmware.json", "rtl.json"):
        for record in json.loads((run / name).read_text()):
            assert record["directory"].startswith(f"firmware/{record['student']}/")
    events = str(finished_run.parent / "data" / "normal.npz")
    code = [sys.executable, "-c", _WITHOUT_TENSORFLOW, str(run), events]
    done = subprocess.run(code, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr

    # its emulator is compared, and shown
    assert (Path(done.stdout.splitlines()[-1]) / "manifest.json").is_file()
    pairs = emulator_pairs(run)
    assert {pair["inputs"] for pair in pairs} == {"test", "corner"}
    assert not any(pair["mismatches"] for pair in pairs) and all(pair["events"] for pair in pairs)
    assert ">emulator<" in (run / "report.html").read_text()
    missing = l1kd("emulator", tmp_path)
    assert missing.returncode == 2 and "is not a run" in missing.stderr

    # the copy's own projects are verified, and the emulator once more
    best = json.loads((run / "metrics.json").read_text())["best"]
    change_weight(run / "firmware" / best / "hls" / "Vitis-io_stream-latency")
    failed = l1kd("verify", run)
    assert failed.returncode == 1 and "io_stream" in failed.stderr.splitlines()[-1], failed.stderr
    assert emulator_pairs(run) == pairs

    # a run of an older version says what to do
    records = json.loads((run / "firmware.json").read_text())
    records[0]["directory"] = str(tmp_path / "hls_projects")
    (run / "firmware.json").write_text(json.dumps(records))
    old = l1kd("verify", run)
    assert old.returncode == 2 and f"run `l1kd convert {run}` again" in old.stderr


def test_nothing_of_a_user_is_replaced(l1kd: Call, finished_run: Path, tmp_path: Path) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "manifest.json").write_text('{"name": "a web page"}')
    refused = l1kd("emulator", run, "--out", theirs)
    assert refused.returncode == 2 and "not replaced" in refused.stderr
    best = json.loads((run / "metrics.json").read_text())["best"]
    (run / "firmware" / best).rename(tmp_path / "elsewhere")
    (run / "firmware" / best).symlink_to(tmp_path / "elsewhere")
    refused = l1kd("convert", run)
    assert refused.returncode == 2 and "symbolic link" in refused.stderr
    (run / "mismatches").mkdir()
    (run / "mismatches" / "thesis.tex").touch()
    refused = l1kd("verify", run)
    assert refused.returncode == 2
    assert (run / "mismatches" / "thesis.tex").exists() and (theirs / "manifest.json").exists()
    assert (tmp_path / "elsewhere" / "network.json").exists()


@pytest.mark.parametrize("name", ["l1kd.log", ".lock", "vendor", "firmware"])
def test_nothing_is_written_through_a_link(
    name: str, l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    run, theirs = copy_of_run(finished_run, tmp_path / "run"), tmp_path / "theirs"
    theirs.mkdir()
    (theirs / passing_name(".part")).touch()  # even a name of ours
    if (run / name).exists():
        (run / name).rename(tmp_path / name)
    link = theirs if name in ("vendor", "firmware") else theirs / "thesis.tex"
    (run / name).symlink_to(link)
    before = sorted(theirs.iterdir())
    refused = l1kd("report", run)
    assert refused.returncode == 2 and f"{name} is a link" in refused.stderr
    assert sorted(theirs.iterdir()) == before


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("manifest.json", None, "is not a run"),
        ("metrics.json", None, "metrics.json is a link or no file"),
        ("metrics.json", "[" * 200_000, "nested too deeply"),
        ("resources.json", "[" * 200_000, "nested too deeply"),
        ("fidelity.json", '{"nobody": []}', "fidelity.json is about a student 'nobody'"),
        ("history.csv", "epoch\n\xff\n", "history.csv is damaged"),
        ("config.yaml", None, "is not a run"),
        ("teacher.keras", "/dev/zero", "teacher.keras is a link"),
        ("scores.npz", "PK", "scores.npz is damaged"),
    ],
)
def test_a_run_s_files_that_are_not_ours_are_one_line(
    file: str, content: str | None, words: str, l1kd: Call, finished_run: Path, tmp_path: Path
) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    (run / file).unlink()
    if content is None:
        os.mkfifo(run / file)
    elif content.startswith("/"):
        (run / file).symlink_to(content)
    else:
        (run / file).write_text(content, encoding="latin-1")
    refused = l1kd("report", run)
    assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("l1kd: error: ")


def test_a_manifest_does_not_choose_what_is_read(
    l1kd: Call, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text("nothing of events", encoding="utf-8")
    record = manifest(run)
    record["data"] |= {str(secret): "0" * 64}
    (run / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    read: list[Path] = []
    monkeypatch.setattr("l1kd.core.files.file_hash", lambda path: read.append(path) or "0")
    _hash.cache_clear()
    for name, digest in record["data"].items():
        place = find(name, digest, run)
        assert place and event_hash(place)
    _hash.cache_clear()
    assert {path.name for path in read} == {Path(name).name for name in record["data"]} - {"secret"}


@pytest.mark.full
def test_without_utf_8(finished_run: Path, tmp_path: Path) -> None:
    """A locale of ASCII alone, which Python is not to mend by itself."""
    run = copy_of_run(finished_run, tmp_path / "run")
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = (
        "import locale, sys\n"
        "from l1kd.cli import main\n"
        "assert locale.getpreferredencoding(False) == 'ANSI_X3.4-1968'\n"
        "for verb, *more in (['verify'], ['report'], ['report', '--format', 'markdown']):\n"
        "    try: main([verb, sys.argv[1], *more])\n"
        "    except SystemExit as end: assert not end.code, (verb, end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", code, str(run)],
        env={**os.environ, **locale},
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    warned = [line for line in done.stderr.decode().splitlines() if "EncodingWarning" in line]
    assert not [line for line in warned if "/l1kd/" in line]


def test_in_a_checkout_the_projects_are_a_link(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    (run / "firmware").mkdir(parents=True)
    (tmp_path / "hls_projects").mkdir()
    (tmp_path / "hls_projects" / "README.md").touch()
    context: Any = SimpleNamespace(directory=run, say=lambda text: None)
    for _ in range(2):
        link_projects(context)
        link = tmp_path / "hls_projects" / "mine"
        assert link.is_symlink() and link.resolve() == (run / "firmware").resolve()


def test_differences_are_named_by_their_keys() -> None:
    assert _differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a.c": "a.c: 2 -> 3"}
    assert _differences({"a": 1}, {"a": 1}) == {}
