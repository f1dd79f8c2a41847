from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import l1kd
from l1kd.core.errors import UserError
from l1kd.data.pythia_toy import generate, pile_up, pythia
from l1kd.data.pythia_toy.generate import RATES, SCORES, Plan
from tests.conftest import made_once

PLAN = Plan(
    train=25,
    test=20,
    signal_events=4,
    signals=("suep",),
    pileup_mean=6.0,
    pileup_spread=2.0,
    seed=11,
)
# Its processes wait for a lock before they keep the second file of a kind: what is to be killed
# cannot have finished before.
SCRIPT = """
import fcntl
import sys
from pathlib import Path
from l1kd.data.pythia_toy.generate import Plan, generate
from tests_plan import PLAN

def hold(event, arguments):
    if event == "os.rename":
        kind = Path(arguments[1]).name.partition("-")[0]
        if kind == sys.argv[3] and any(Path(sys.argv[1], ".work").glob(f"{kind}-*.npz")):
            with open("hold") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)

sys.addaudithook(hold)
if __name__ == "__main__":
    generate(Path(sys.argv[1]), PLAN, processes=int(sys.argv[2]))
"""


def begin(out: Path, table: Path) -> Path:
    """An output directory in which the table is made already."""
    (out / ".work").mkdir(parents=True)
    (out / ".work" / "lock").touch()
    shutil.copy(table, out / ".work" / generate.MULTIPARTON_TABLE)
    return out


def make(out: Path, plan: Plan = PLAN, processes: int = 1) -> dict[str, Path]:
    files = generate.generate(out, plan, processes=processes, command="made by a test")
    return {path.stem: path for path in files}


@pytest.fixture(scope="session")
def sample(tmp_path_factory, table) -> dict[str, Path]:
    """The small sample, made in this process without interruption. Read only."""
    directory = made_once(
        tmp_path_factory, "pythia-sample", lambda directory: make(begin(directory / "out", table))
    )
    return {role: directory / "out" / f"{role}.h5" for role in PLAN.roles}


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {key: file[key][()] for key in file}


def assert_same(ours: dict[str, Path], theirs: dict[str, Path]) -> None:
    assert ours.keys() == theirs.keys()
    for role, path in ours.items():
        one, other = arrays(path), arrays(theirs[role])
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{role} {key}")


def test_the_files_follow_the_cicada_schema(sample):
    assert {role: len(arrays(path)["CaloRegions"]) for role, path in sample.items()} == {
        "train": 25,
        "test": 20,
        "suep": 4,
    }
    for path in sample.values():
        content = arrays(path)
        assert content["CaloRegions"].shape[1:] == (18, 14)
        assert content["CaloRegions"].dtype == np.int16
        assert content["CaloRegions"].min() >= 0
        assert content["CaloRegions"].max() <= 1023
        assert content["AcceptanceFlag"].shape == (0,)
        assert content["AcceptanceFlag"].dtype == bool
        assert content["nPV"].dtype == np.uint8
        assert content["nPV"].shape == (len(content["CaloRegions"]),)
    assert not (sample["train"].parent / ".work").exists()
    assert not list(sample["train"].parent.glob(".*"))


def test_the_files_say_how_they_were_made(sample):
    for role, path in sample.items():
        with h5py.File(path) as file:
            told = dict(file.attrs)
        assert told["command"] == "made by a test"
        assert told["role"] == role
        assert "Pythia 8 toy calorimeter, not calibrated to CMS" in told["description"]
        assert told["l1kd_version"] == l1kd.__version__
        assert told["seed"] == 11
        assert told["pileup_mean"] == 6
        assert 0 <= told["hard_fraction"] < 0.2
        assert json.loads(told["options"])["pileup_spread"] == 2
        if role in ("train", "test"):
            np.testing.assert_array_equal(told["effective_collisions_rates"], RATES)
            assert len(told["effective_collisions"]) == len(RATES)
            assert json.loads(told["effective_collisions_by_score"]).keys() == SCORES.keys()


@pytest.mark.full
def test_two_processes_and_a_table_of_their_own_give_the_same(sample, tmp_path):
    assert_same(make(tmp_path / "out", processes=2), sample)


def test_other_seeds_give_other_events(sample, table, tmp_path, monkeypatch):
    made: list[Path] = []

    def make_table(path):
        made.append(shutil.copy(table, path))

    monkeypatch.setattr(pythia, "write_multiparton_table", make_table)
    plan = dataclasses.replace(PLAN, seed=12, train=0, signals=())
    other = make(tmp_path / "out", plan)
    assert len(made) == 1  # by itself, once
    assert other.keys() == {"test"}
    assert (arrays(other["test"])["nPV"] != arrays(sample["test"])["nPV"]).any()


def test_a_finished_sample_is_left_alone(sample):
    before = {role: path.stat().st_mtime_ns for role, path in sample.items()}
    make(sample["train"].parent)
    assert {role: path.stat().st_mtime_ns for role, path in sample.items()} == before


def test_other_options_are_refused(sample, table, tmp_path):
    with pytest.raises(UserError, match=r"pileup_mean was 6\.0, now 7\.0.*--out"):
        make(sample["train"].parent, dataclasses.replace(PLAN, pileup_mean=7.0))
    out = begin(tmp_path / "begun", table)
    (out / ".work" / "options.json").write_text('{"seed": 3}')
    with pytest.raises(UserError, match=r"unfinished.*seed was 3, now 11"):
        make(out)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "train.h5").write_text("not ours")
    with pytest.raises(UserError, match="cannot be read"):
        make(tmp_path / "foreign")
    (users := tmp_path / "users" / ".work" / "thesis.tex").parent.mkdir(parents=True)
    users.touch()
    with pytest.raises(UserError, match="not made by l1kd"):
        make(tmp_path / "users")
    assert users.exists()


def test_a_directory_in_use_is_refused(table, tmp_path):
    out = begin(tmp_path / "out", table)
    with (out / ".work" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            make(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": -1}, "--train is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"pileup_mean": float("nan")}, "--pileup-mean is nan"),
        ({"pileup_spread": -1.0}, "--pileup-spread"),
        ({"signals": ("ttbra",)}, "did you mean 'ttbar'"),
        ({"signals": ("xyz",)}, "choose from ttbar"),
        ({"signals": ("suep", "suep")}, "twice"),
        ({"train": 0, "test": 0, "signal_events": 0}, "nothing to generate"),
    ],
)
def test_bad_values_leave_nothing_behind(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path / "out", dataclasses.replace(PLAN, **changes))
    with pytest.raises(UserError, match="--processes is 0"):
        make(tmp_path / "out", processes=0)
    assert not (tmp_path / "out").exists()


def test_a_batch_uses_its_hard_collisions_once_and_its_soft_ones_seldom(
    table, tmp_path, monkeypatch
):
    work = begin(tmp_path, table) / ".work"
    made: list[int] = []
    hard_collisions = pythia.hard_collisions

    def count(n, seed):
        made.append(n)
        return hard_collisions(n, seed)

    monkeypatch.setattr(pythia, "hard_collisions", count)
    batch = PLAN.batches("test")[0]
    generate.make_soft(batch, work)
    generate.make_events(batch, work, 0.1)
    with np.load(batch.events_file(work)) as stored:
        assert made == [int(stored["hard"])]
        assert 0 < made[0] < stored["collisions"].sum()
        soft_used = stored["collisions"].sum() - made[0]
        assert soft_used <= stored["soft"] * pile_up.SOFT_USES
        assert len(stored["leading"]) == len(stored["regions"]) == PLAN.test


def test_roles_and_batches_have_collisions_of_their_own():
    plan = dataclasses.replace(PLAN, train=generate.BATCH_EVENTS * 2 + 1)
    rows = {role: plan.batches(role) for role in plan.roles}
    assert [batch.events for batch in rows["train"]] == [2000, 2000, 1]
    seeds = {
        tuple(batch.seed(purpose).generate_state(4))
        for row in rows.values()
        for batch in row
        for purpose in range(5)
    }
    assert len(seeds) == 5 * sum(map(len, rows.values()))


def children(pid: int) -> list[int]:
    return [
        int(word)
        for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    ]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "waited for ten minutes"
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.full), 2])
def test_kill_9_and_again_gives_the_same(sample, table, tmp_path, processes):
    out = begin(tmp_path / "out", table)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "tests_plan.py").write_text(
        f"from l1kd.data.pythia_toy.generate import Plan\nPLAN = {PLAN!r}\n"
    )
    paths = [str(Path(l1kd.__file__).parents[1]), *sys.path]
    kind = "soft" if processes == 2 else "events"
    with (tmp_path / "hold").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, str(script), str(out), str(processes), kind],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: any((out / ".work").glob(f"{kind}-*.npz")) or process.poll() is not None)
        family = children(process.pid)
        assert len(family) >= processes - 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(map(is_running, family)))
    assert not any(out.glob("*.h5"))
    # Not the hidden remains of a file that was being written.
    kept = list((out / ".work").glob("[se]*.npz"))
    assert kept
    remade = []
    original = generate.run_jobs

    def watch(processes, jobs, advance):
        remade.extend(jobs)
        original(processes, jobs, advance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "run_jobs", watch)
        assert_same(make(out, processes=processes), sample)
    assert len(remade) == 2 * len(sample) - len(kept)


def test_a_disk_that_cannot_be_written_is_reported_with_what_to_do(tmp_path):
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*Not a directory.*--out"):
        make(tmp_path / "file" / "out")
