"""`l1kd sweep` as processes: killed, continued, on a scheduler; the same bits in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from l1kd.report.sweep import rows, summarise
from tests.conftest import heeds_interrupts
from tests.orchestrate.events import events

GOOD = ("good-seed1", "good-seed2")
SECONDS = 180


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of many short epochs, and one that no events fit."""
    directory = tmp_path_factory.mktemp("sweep")
    given = {
        "data": events(directory / "data"),
        "teacher": {"architecture": "dense", "latent": 2, "hidden": [4]},
        "students": [{"name": "flat", "architecture": "dense", "hidden": [2]}],
        "distillation": {"epochs": 12, "final_epochs": 1, "batch": 75, "exposure": ["shuffle"]},
        "sweep": {
            "until": "evaluate",
            "groups": {
                "good": {"grid": {"seed": [1, 2]}},
                "bad": {"set": {"students": [{"name": "image", "architecture": "s1"}]}},
            },
        },
    }
    (directory / "tiny.yaml").write_text(yaml.safe_dump(given))
    return directory / "tiny.yaml"


def command(config: Path, directory: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "l1kd", "sweep", str(config), "--sweep", str(directory)]
    return [*verb, *more]


def start(config: Path, directory: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(config, directory, *more),
        cwd=config.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_interrupts,
    )


def call(config: Path, directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, directory, *more),
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(10 * SECONDS):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def epoch(directory: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (directory / "runs" / name / "history.csv").read_text()
        return int(text.splitlines()[-1].partition(",")[0])
    return 0


def processes(directory: Path) -> list[int]:
    """Those that make runs of a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (path / "cmdline").read_bytes().decode().split("\0")
            if "l1kd.orchestrate.child" in arguments and any(
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


@pytest.fixture(scope="module")
def local(config: Path) -> Path:
    """A sweep on this machine whose client was killed half-way, and that then went on."""
    directory = config.parent / "local"
    client = start(config, directory, "--only", "good-*", "--workers", "1")
    until(lambda: any(epoch(directory, name) >= 3 for name in GOOD) or client.poll())
    client.kill()
    client.communicate()
    until(lambda: not processes(directory))  # nobody works for a client that is gone
    ended = call(config, directory, "--only", "good-*")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(directory / "summary.md")
    assert "good-seed2: done in" in ended.stderr
    assert "2 of 3 runs are evaluated" in ended.stderr
    for noise in ("distributed", "Warning", "Traceback"):
        assert noise not in ended.stderr
    resumed = [(directory / "logs" / f"{name}.log").read_text() for name in GOOD]
    assert any("resuming after epoch" in text for text in resumed)
    return directory


def test_a_run_of_a_sweep_is_an_ordinary_run(config: Path, local: Path) -> None:
    alone = config.parent / "alone"
    (name, _) = GOOD
    path = str(local / "configs" / f"{name}.yaml")
    run = [sys.executable, "-m", "l1kd", "run", path, "--run", str(alone), "--until", "evaluate"]
    subprocess.run(run, check=True, capture_output=True, timeout=SECONDS)
    assert results(alone) == results(local / "runs" / name)
    manifest = json.loads((local / "runs" / name / "manifest.json").read_text())
    assert (manifest["name"], manifest["threads"]) == (name, 1)


def test_the_tables_say_what_the_runs_measured(local: Path) -> None:
    from l1kd.distill.targets import load_target

    stored = table(local)
    assert [(each["run"], each["model"]) for each in stored] == [
        (name, model) for name in GOOD for model in ("teacher", "flat")
    ]
    for name, teacher, student in zip(GOOD, stored[::2], stored[1::2], strict=True):
        directory = local / "runs" / name
        metrics = json.loads((directory / "metrics.json").read_text())
        own = metrics["students"]["flat"]
        assert student["auc"] == own["auc"]["all"]
        assert student["efficiency"] == own["efficiency"]["hot"]
        assert student["emd_anomalous"] == own["emd"]["anomalous"]
        assert student["spearman"] == own["spearman"]
        assert (student["weight_bits"], student["chosen"]) == (own["weight_bits"], True)
        assert (student["epochs"], student["mode"], student["seed"]) == (13, "noise", int(name[-1]))
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
    cells = summarise(rows([local / "runs" / name for name in GOOD]))
    assert [cell["auc_mean"] for cell in cells] == [
        pytest.approx(np.mean([each["auc"] for each in stored[place::2]])) for place in (0, 1)
    ]
    assert f"{cells[1]['auc_mean']:.3f}" in (local / "summary.md").read_text()
    assert (local / "summary.parquet").is_file()


def test_a_second_call_finds_nothing_to_do_and_loads_no_tensorflow(
    config: Path, local: Path
) -> None:
    before = table(local)
    (local / "summary.md").unlink()
    code = (
        "import sys\n"
        "from l1kd.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    sys.stderr.write(f\"tensorflow: {'tensorflow' in sys.modules}\")\n"
    )
    arguments = command(config, local, "--only", "good-*")[3:]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=SECONDS
    )
    assert ended.returncode == 0, ended.stderr
    assert "all 2 runs are done already" in ended.stderr
    assert ended.stderr.endswith("tensorflow: False")
    assert table(local) == before
    assert (local / "summary.md").is_file()


def test_a_run_that_cannot_be_made_is_said_and_stops_no_other(config: Path, local: Path) -> None:
    ended = call(config, local, "--workers", "1")
    assert ended.returncode == 2, ended.stderr
    assert "2 of 3 runs are done already" in ended.stderr
    assert "bad: FAILED (exit 2): l1kd: error:" in ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("l1kd: error: 1 of 3 runs could not be made:")
    assert str(local / "runs" / "bad") in last
    assert str(local / "logs" / "bad.log") in last
    assert len(table(local)) == 4
    assert not (local / "runs" / "bad").exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, in processes that know nothing of the client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m", "dask"]
    quiet: dict[str, Any] = {
        "cwd": tmp_path,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    place = ["--host", "127.0.0.1", "--no-dashboard"]
    own = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
    started = [
        subprocess.Popen(
            [*dask, "scheduler", *place, "--port", address.rpartition(":")[2]], **quiet
        )
    ]
    started += [
        subprocess.Popen([*dask, "worker", address, *place, *own], **quiet) for _ in range(2)
    ]
    try:
        yield address, started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def test_a_killed_worker_changes_no_bit(
    config: Path, local: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    from distributed import Client

    address, (_, *workers) = cluster
    directory = config.parent / "elsewhere"
    client = start(config, directory, "--only", "good-*", "--scheduler", address)
    until(lambda: all(epoch(directory, name) >= 3 for name in GOOD) or client.poll())
    before = processes(directory)
    os.kill(workers[0].pid, signal.SIGKILL)
    until(lambda: len(set(before) & set(processes(directory))) <= 2)  # its run ends with it
    _, said = client.communicate(timeout=SECONDS)
    assert client.returncode == 0, said
    assert "a worker is gone" in said
    logs = [(directory / "logs" / f"{name}.log").read_text() for name in GOOD]
    assert ["resuming after epoch" in text for text in logs].count(True) == 1
    for name in GOOD:
        assert results(directory / "runs" / name) == results(local / "runs" / name)
    assert table(directory) == table(local)
    with Client(address, set_as_default=False) as asked:
        # `eval`: a worker knows no function of a test
        loaded = asked.run(eval, "'tensorflow' in __import__('sys').modules")
    assert list(loaded.values()) == [False]


def test_a_lost_scheduler_is_said(
    config: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, (scheduler, *_) = cluster
    directory = config.parent / "lost"
    client = start(config, directory, "--only", "good-seed1", "--scheduler", address)
    until(lambda: processes(directory) or client.poll())
    scheduler.kill()
    _, said = client.communicate(timeout=SECONDS)
    assert client.returncode == 2, said
    assert said.strip().splitlines()[-1].startswith("l1kd: error: the Dask scheduler is gone")
    assert "Traceback" not in said
    until(lambda: not processes(directory))


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_an_interrupted_sweep_stops_at_once(
    config: Path, where: str, request: pytest.FixtureRequest
) -> None:
    directory = config.parent / f"interrupted-{where}"
    more = ["--workers", "1"]
    if where == "cluster":
        address, _ = request.getfixturevalue("cluster")
        more = ["--scheduler", address]
    client = start(config, directory, "--only", "good-*", *more)
    until(lambda: processes(directory) or client.poll())
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=SECONDS)
    assert client.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("l1kd: interrupted: the same command")
    until(lambda: not processes(directory))
