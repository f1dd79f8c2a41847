"""A finished run that was moved, packed and cannot be written: all verbs work or say what to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed
from l1kd.data.calorimeter import embedded_directory
from l1kd.data.user_arrays import ArraysData
from l1kd.runs.event_files import names, section
from l1kd.runs.run import opened
from tests.conftest import call_l1kd, copy_of_run
from tests.firmware.networks import change_weight

Call = Callable[..., subprocess.CompletedProcess[str]]


def _as_everybody() -> None:
    """In a child: root, too, may write only what its mode says."""
    if not os.getuid():  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0


def contents(run: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its time."""
    files = (path for path in run.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def moved(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that was packed and unpacked elsewhere under another name; nobody may write to it."""
    place = tmp_path_factory.mktemp("elsewhere")
    with tarfile.open(place / "run.tar", "w") as packed:
        packed.add(finished_run, "renamed")
    with tarfile.open(place / "run.tar") as packed:
        packed.extractall(place, filter="data")
    run = place / "renamed"
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield run
    for path in (run, *run.rglob("*")):
        path.chmod(0o755)


@pytest.fixture
def command(moved: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in a process that cannot write to the run."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "l1kd", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            preexec_fn=_as_everybody,
            check=False,
        )

    return call


def test_nothing_of_a_run_names_its_place(moved: Path, finished_run: Path) -> None:
    place = str(finished_run.parent).encode()  # of its events, too
    named = [name for name, (content, _) in contents(moved).items() if place in content]
    assert named == []
    assert "RUN/report.html" in (moved / "l1kd.log").read_text()


@pytest.mark.full
@pytest.mark.csim
def test_all_verbs_work_on_a_run_that_cannot_be_written(
    command: Call, moved: Path, finished_run: Path, tmp_path: Path
) -> None:
    before = contents(moved)
    touched = subprocess.run(["touch", moved / "x"], preexec_fn=_as_everybody, capture_output=True)
    assert touched.returncode
    events = np.random.default_rng(0).integers(0, 16, (20, 6, 4, 1))
    np.savez(tmp_path / "new.npz", events=events.astype(np.int16))
    told = ""
    for arguments in (
        ("verify", moved),
        ("report", moved, "--format", "json"),
        ("emulator", moved, "--out", "emulator"),
        ("compare", moved, moved),
        ("score", moved, "new.npz", "--rate-khz", 1000),
        ("rates", moved, "--khz", 1000),
        ("check", moved),
        ("export", moved, "mine.tar.gz"),
        ("check", "mine.tar.gz"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        told += done.stdout + done.stderr
    assert contents(moved) == before
    assert str(finished_run) not in told
    made = {"new.npz", "emulator", "renamed-scores.parquet", "mine.tar.gz"}
    assert {path.name for path in tmp_path.iterdir()} == made
    assert "verify: passed" in told and told.count("nothing was stored") == 1


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=pytest.mark.full if verb in {"synth", "evaluate", "train"} else ())
        for verb in ("report", "emulator", "export", "synth", "evaluate", "train")
    ],
)
def test_who_needs_to_write_says_so_in_one_line(command: Call, moved: Path, verb: str) -> None:
    done = command(verb, moved)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{moved} cannot be written; copy the run (cp -r {moved} COPY)" in done.stderr


@pytest.mark.csim
def test_a_read_only_run_that_is_wrong_is_refused(
    command: Call, finished_run: Path, tmp_path: Path
) -> None:
    run = copy_of_run(finished_run, tmp_path / "changed")
    change_weight(run / "firmware" / "flat" / "hls" / "Vitis-io_stream-latency")
    before = contents(run)
    run.chmod(0o555)
    done = command("verify", run)
    run.chmod(0o755)
    assert done.returncode == 1 and "io_stream" in done.stderr.splitlines()[-1], done.stderr
    assert contents(run) == before


def test_events_that_are_gone_are_one_line(finished_run: Path, tmp_path: Path) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("normal.npz", "gone.npz"))
    done = call_l1kd(tmp_path, "verify", "run")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "gone.npz: no such file" in last and "run/config.yaml names its events" in last


@pytest.mark.full
def test_on_another_machine_events_are_found_by_their_content(
    finished_run: Path, tmp_path: Path
) -> None:
    run, data = copy_of_run(finished_run, tmp_path / "run"), finished_run.parent / "data"
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path / "cache")}  # which has not seen the events
    refused = call_l1kd(tmp_path, "verify", "run", **elsewhere)
    said = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2 and "../data/normal.npz, which are not found here" in said
    assert said.endswith(f"copy or link them to {Path('run', 'normal.npz')}")
    for verb in ("rates", "score"):
        more = ("--khz", 1000) if verb == "rates" else (data / "hot.npz",)
        assert call_l1kd(tmp_path, verb, "run", *more, **elsewhere).returncode == 0
    # where the files of a configuration are does not make another run of it
    shutil.copytree(data, tmp_path / "mine")
    (tmp_path / "tiny.yaml").write_text(
        (finished_run.parent / "tiny.yaml").read_text().replace(str(data), "mine")
    )
    before = (run / "config.yaml").read_bytes()
    again = call_l1kd(tmp_path, "run", "tiny.yaml", "--run", "run", **elsewhere)
    assert again.returncode == 0 and "train: done already" in again.stderr, again.stderr
    assert (run / "config.yaml").read_bytes() == before
    # from then on they are known here, and a run of its configuration begins
    known = call_l1kd(tmp_path, "verify", "run", **elsewhere)
    assert known.returncode == 0, known.stderr
    new = ("run", "run/config.yaml", "--run", "new", "--until", "train")
    assert call_l1kd(tmp_path, *new, **elsewhere).returncode == 0
    kept = (tmp_path / "new" / "config.yaml").read_text()
    assert "../mine/normal.npz" in kept and str(tmp_path) not in kept


def test_what_a_stage_failed_of_names_no_place(finished_run: Path, tmp_path: Path) -> None:
    run = copy_of_run(finished_run, tmp_path / "run")

    def refuse(context: Context) -> None:
        raise CheckFailed(f"{context.directory}/firmware: differs; see {context.directory}")

    with opened(run) as runner, pytest.raises(CheckFailed, match=str(run)):
        runner.execute("verify", always=True, function=refuse)
    kept = run_files.read(run, "manifest.json").stages["verify"].message
    assert kept == "RUN/firmware: differs; see RUN"


def test_events_are_named_without_their_machine(tmp_path: Path) -> None:
    run = tmp_path / "project" / "runs" / "one"
    places = [
        str(tmp_path / each)
        for each in ("project/data/a.npz", "zb/b.npz", "qcd/b.npz", "c.npz", "set/x/d.parquet")
    ]
    data = ArraysData(
        source="arrays",
        background=[f"{places[0]}:x", places[1]],
        test=[places[2]],
        signals={"c": [places[3]], "d": [str(tmp_path / "set")]},
    )
    sample = str(embedded_directory() / "train.h5")
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "data" / "a.npz").touch()
    called = names(data, [*places, sample], run)
    expected = ["../../data/a.npz", "zb/b.npz", "qcd/b.npz", "c.npz", "set/x/d.parquet"]
    assert [called[each] for each in places] == expected
    assert called[sample] == "l1kd/data/samples/l1toy/train.h5"
    stored = section(data, called).model_dump()
    assert stored["background"] == ["../../data/a.npz:x", "zb/b.npz"]
    assert stored["signals"] == {"c": ["c.npz"], "d": ["set"]}
