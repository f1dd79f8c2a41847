"""`l1kd sweep` as processes: killed, continued, on a scheduler; the same bits in the end."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import yaml

from l1kd.report.sweep_tables import rows, summarise
from tests.conftest import heeds_interrupts, made_once
from tests.runs.conftest import MINUTES, Cluster, Hold, environment, until
from tests.runs.events import events

Call = Callable[..., subprocess.CompletedProcess[str]]
GOOD = ("good-seed1", "good-seed2")
EPOCHS = 3
NOISE = ("distributed", "Warning", "Traceback")


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a few epochs, and one that no events fit."""
    given = {
        "data": events(tmp_path_factory),
        "teacher": {"architecture": "dense", "latent": 2, "hidden": [4]},
        "students": [{"name": "flat", "architecture": "dense", "hidden": [2]}],
        "distillation": {
            "epochs": EPOCHS - 1,
            "final_epochs": 1,
            "batch": 75,
            "exposure": ["shuffle"],
        },
        "sweep": {
            "until": "evaluate",
            "groups": {
                "good": {"grid": {"seed": [1, 2]}},
                "bad": {"set": {"students": [{"name": "image", "architecture": "s1"}]}},
            },
        },
    }
    path = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def command(config: Path, directory: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "l1kd", "sweep", str(config), "--sweep", str(directory)]
    return [*verb, *more]


def start(config: Path, directory: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(config, directory, *more),
        cwd=config.parent,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_interrupts,
    )


def processes(directory: Path) -> list[int]:
    """Those that make runs of a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (path / "cmdline").read_bytes().decode().split("\0")
            if "--until" in arguments and any(
                argument.startswith(str(directory / "runs")) for argument in arguments
            ):
                found.append(int(path.name))
    return found


def results(directory: Path) -> dict[str, Any]:
    """All that a run computed; no times, no paths."""
    with np.load(directory / "scores.npz") as stored:
        found: dict[str, Any] = {name: stored[name].tobytes() for name in stored.files}
    for name in ("metrics.json", "target.json", "history.csv"):
        found[name] = (directory / name).read_text()
    return found


def table(directory: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    stored = parquet.read_table(directory / "runs.parquet").to_pylist()
    return [{key: value for key, value in each.items() if key != "seconds"} for each in stored]


def resumed(directory: Path) -> list[str]:
    """Runs of a sweep that went on from a checkpoint."""
    logs = {name: (directory / "logs" / f"{name}.log").read_text() for name in GOOD}
    return [name for name, text in logs.items() if "resuming after epoch" in text]


@pytest.fixture
def made(
    config: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A sweep on two workers, of which one was killed while both were at a run. Read only."""

    def make(directory: Path) -> None:
        cluster: Cluster = request.getfixturevalue("cluster")
        with_a_killed_worker(config, directory / "sweep", cluster, request.getfixturevalue("l1kd"))

    return made_once(tmp_path_factory, "sweep-made", make) / "sweep"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to go on with."""
    return Path(shutil.copytree(made, tmp_path / "copied"))


def with_a_killed_worker(config: Path, directory: Path, cluster: Cluster, l1kd: Call) -> None:
    from distributed import Client

    victim = cluster.worker()
    with Client(cluster.address, set_as_default=False) as asked:
        asked.wait_for_workers(2, timeout=60 * MINUTES)
    over = Event()

    def kill(held: Hold) -> None:
        try:
            at_work = set(until(lambda: len(held.there()) == 2 and held.there(), over.is_set))
            assert at_work < set(processes(directory))
            victim.kill()
            until(lambda: len(at_work & set(processes(directory))) == 1)  # its run ends with it
        finally:
            held.release()

    with ThreadPoolExecutor(1) as pool, Hold(directory, "checkpoint") as held:
        killed = pool.submit(kill, held)
        ended = l1kd(
            "sweep", config, "--sweep", directory, "--only", "good-*",
            "--scheduler", cluster.address,
        )  # fmt: skip
        over.set()
        assert ended.returncode == 0, ended.stderr
        killed.result()
    assert ended.stdout.strip() == str(directory / "summary.md")
    assert "a worker is gone" in ended.stderr
    assert "good-seed2: done in" in ended.stderr
    assert "2 of 3 runs are evaluated" in ended.stderr
    with Client(cluster.address, set_as_default=False) as asked:
        # `eval`: a worker knows no function of a test
        loaded = asked.run(eval, "'tensorflow' in __import__('sys').modules")  # noqa: S307
    assert list(loaded.values()) == [False]


def test_a_killed_worker_changes_no_bit(made: Path, l1kd_process: Call, tmp_path: Path) -> None:
    """And a run of a sweep is an ordinary run: the command line makes the same."""
    (name,) = resumed(made)
    ended = l1kd_process(
        "run", made / "configs" / f"{name}.yaml", "--run", tmp_path / "alone",
        "--until", "evaluate",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert results(tmp_path / "alone") == results(made / "runs" / name)
    manifest = json.loads((made / "runs" / name / "manifest.json").read_text())
    assert (manifest["name"], manifest["threads"]) == (name, 1)


@pytest.mark.full
def test_a_killed_client_changes_no_bit(
    config: Path, made: Path, l1kd_process: Call, tmp_path: Path
) -> None:
    directory = tmp_path / "local"
    with Hold(directory, "checkpoint") as held:
        client = start(config, directory, "--only", "good-*", "--workers", "1")
        until(held.there, lambda: client.poll() is not None)
        client.kill()
        client.communicate()
        until(lambda: not processes(directory))  # nobody works for a client that is gone
    assert held.there()
    ended = l1kd_process("sweep", config, "--sweep", directory, "--only", "good-*")
    assert ended.returncode == 0, ended.stderr
    for noise in NOISE:
        assert noise not in ended.stderr
    assert len(resumed(directory)) == 1
    for name in GOOD:
        assert results(directory / "runs" / name) == results(made / "runs" / name)
    assert table(directory) == table(made)


def test_the_tables_say_what_the_runs_measured(made: Path) -> None:
    from l1kd.training.target_transform import load_target

    stored = table(made)
    assert [(each["run"], each["model"]) for each in stored] == [
        (name, model) for name in GOOD for model in ("teacher", "flat")
    ]
    for name, teacher, student in zip(GOOD, stored[::2], stored[1::2], strict=True):
        directory = made / "runs" / name
        metrics = json.loads((directory / "metrics.json").read_text())
        own = metrics["students"]["flat"]
        assert student["auc"] == own["auc"]["all"]
        assert student["efficiency"] == own["efficiency"]["hot"]
        assert student["emd_anomalous"] == own["emd"]["anomalous"]
        assert student["spearman"] == own["spearman"]
        assert (student["weight_bits"], student["chosen"]) == (own["weight_bits"], True)
        assert (student["epochs"], student["mode"], student["seed"]) == (
            EPOCHS,
            "noise",
            int(name[-1]),
        )
        assert (teacher["auc"], teacher["weight_bits"]) == (metrics["teacher"]["auc"]["all"], 32)
        assert (student["normal"], student["mismatches"], teacher["mae"]) == (None, None, None)
        with np.load(directory / "scores.npz") as scores:
            target = load_target(directory)
            apart = [
                np.log1p(target.inverse(scores[f"student_flat_{part}"]))
                - np.log1p(scores[f"teacher_{part}"])
                for part in ("test", "hot")
            ]
        assert student["mae"] == pytest.approx(np.abs(np.concatenate(apart)).mean(), rel=1e-12)
    cells = summarise(rows([made / "runs" / name for name in GOOD]))
    assert [cell["auc_mean"] for cell in cells] == [
        pytest.approx(np.mean([each["auc"] for each in stored[place::2]])) for place in (0, 1)
    ]
    assert f"{cells[1]['auc_mean']:.3f}" in (made / "summary.md").read_text()
    assert (made / "summary.parquet").is_file()


def test_a_second_call_finds_nothing_to_do_and_loads_no_tensorflow(
    config: Path, copied: Path
) -> None:
    before = table(copied)
    (copied / "summary.md").unlink()
    code = (
        "import sys\n"
        "from l1kd.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    sys.stderr.write(f\"tensorflow: {'tensorflow' in sys.modules}\")\n"
    )
    arguments = command(config, copied, "--only", "good-*")[3:]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "all 2 runs are done already" in ended.stderr
    assert ended.stderr.endswith("tensorflow: False")
    assert table(copied) == before
    assert (copied / "summary.md").is_file()


def test_a_run_that_cannot_be_made_is_said_and_stops_no_other(
    config: Path, copied: Path, l1kd: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    """On workers of this machine, which say nothing by themselves."""
    ended = l1kd("sweep", config, "--sweep", copied, "--workers", "1")
    assert ended.returncode == 2, ended.stderr
    assert "2 of 3 runs are done already" in ended.stderr
    assert "bad: FAILED (exit 2): l1kd: error:" in ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("l1kd: error: 1 of 3 runs could not be made:")
    assert str(copied / "runs" / "bad") in last
    assert str(copied / "logs" / "bad.log") in last
    for noise in NOISE:
        assert noise not in ended.stderr
    assert capfd.readouterr() == ("", "")
    assert len(table(copied)) == 4
    assert not (copied / "runs" / "bad").exists()


def test_a_lost_scheduler_is_said(config: Path, own_cluster: Cluster, tmp_path: Path) -> None:
    directory = tmp_path / "lost"
    with Hold(directory, "tensorflow") as held:
        client = start(
            config, directory, "--only", "good-seed1", "--scheduler", own_cluster.address
        )
        until(held.there, lambda: client.poll() is not None)
        own_cluster.scheduler.kill()
        _, said = client.communicate()
        assert client.returncode == 2, said
        assert said.strip().splitlines()[-1].startswith("l1kd: error: the Dask scheduler is gone")
        assert "Traceback" not in said
        until(lambda: not processes(directory))


@pytest.mark.parametrize("where", ["here", pytest.param("cluster", marks=pytest.mark.full)])
def test_an_interrupted_sweep_stops_at_once(
    config: Path, where: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    directory = tmp_path / where
    more = ["--workers", "1"]
    if where == "cluster":
        more = ["--scheduler", request.getfixturevalue("cluster").address]
    with Hold(directory, "tensorflow") as held:
        client = start(config, directory, "--only", "good-*", *more)
        until(held.there, lambda: client.poll() is not None)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate()
        assert client.returncode == 130, said
        assert said.strip().splitlines()[-1].startswith("l1kd: interrupted: the same command")
        until(lambda: not processes(directory))
