"""`l1kd search` as a process: killed, joined, continued; what it leaves and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

from l1kd import configfile
from l1kd.orchestrate.study import Place, Worker
from tests.orchestrate.events import events

SEARCH = {
    "epochs": 1,
    "trials": 2,
    "space": {"filters": [1, 2], "hidden": [2, 4], "weight_bits": [4, 6], "kernels": [2]},
}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "l1kd", "search", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("search")
    given = {
        "threads": 1,
        "data": events(directory / "data"),
        "teacher": {"architecture": "dense", "latent": 2, "hidden": [8]},
        "students": [{"name": "flat", "architecture": "dense", "hidden": [3]}],
        "distillation": {"epochs": 4, "final_epochs": 1, "batch": 32, "exposure": ["patch"]},
        "search": SEARCH,
    }
    (directory / "tiny.yaml").write_text(yaml.safe_dump(given))
    return directory / "tiny.yaml"


@pytest.fixture(scope="module")
def finished(config: Path) -> Path:
    """A study of two trials; copied by those who go on with it."""
    directory = config.parent / "study"
    ended = call(config, "--study", directory)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(directory / "front.md")
    assert "trial 1 (2 of 2): AUC" in ended.stderr
    assert "Pareto front" in ended.stderr
    return directory


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def trials(directory: Path) -> list[optuna.trial.FrozenTrial]:
    with Worker(Place(directory), 0) as worker:
        return worker.study.get_trials()


def complete(directory: Path) -> int:
    return sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials(directory))


def test_a_study_ends_with_its_front(finished: Path) -> None:
    assert complete(finished) == 2
    stored = json.loads((finished / "front.json").read_text())
    assert [point["label"] for point in stored["references"]] == ["flat"]
    assert stored["trials"] == 2
    for name in ("front.md", "front.png", "front.svg", "students/0001.keras", "targets.npz"):
        assert (finished / name).stat().st_size > 0
    assert len(list((finished / "front").iterdir())) == len(stored["front"])
    assert list((finished / "workers").iterdir()) == []
    for file in (finished / "front").iterdir():
        assert configfile.load(file).students[0].name == "found"


def test_a_trial_says_what_it_measured(finished: Path) -> None:
    import l1kd
    from l1kd.firmware import rtl
    from l1kd.models.exact import read

    (trial, _) = trials(finished)
    network = read(l1kd.load_model(finished / "students" / "0000.keras"))
    expected = rtl.estimate(network, clock_ns=5.0)
    own = trial.user_attrs
    assert trial.values == [own["auc"], own["efficiency"], own["lut"], own["latency_cycles"]]
    assert (own["lut"], own["latency_cycles"]) == (round(expected.lut), expected.latency_cycles)
    assert own["weights"] == sum(
        getattr(node, "kernel", np.empty(0)).size for node in network.nodes
    )


def test_a_killed_worker_loses_its_trial_and_nothing_else(config: Path, copied: Path) -> None:
    before = [trial.params for trial in trials(copied)]
    process = subprocess.Popen(
        command(config, "--study", copied, "--trials", 4), stderr=subprocess.PIPE, text=True
    )
    for _ in range(1200):
        files = [file for file in (copied / "workers").glob("*") if file.read_text()]
        running = [t for t in trials(copied) if t.state == optuna.trial.TrialState.RUNNING]
        if files and any("student" in trial.user_attrs for trial in running):
            break
        time.sleep(0.1)
    os.kill(int(files[0].read_text().split()[1]), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "ended by signal 9" in said
    assert len(said.strip().splitlines()[-1]) < 200

    ended = call(config, "--study", copied, "--trials", 4)
    assert ended.returncode == 0, ended.stderr
    assert "teacher" not in ended.stderr.partition("Pareto")[0]
    states = [trial.state.name for trial in trials(copied)]
    assert states.count("COMPLETE") == 4
    assert states.count("FAIL") == 1
    assert states.count("RUNNING") == 0
    assert [trial.params for trial in trials(copied)][:2] == before


def test_two_processes_share_a_study(config: Path, copied: Path) -> None:
    both = [
        subprocess.Popen(
            command(config, "--study", copied, "--trials", 5), stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = trials(copied)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 5
    assert len({trial.user_attrs["worker"] for trial in found[2:]}) == 2
    assert len({str(trial.params) for trial in found}) == 5
    assert json.loads((copied / "front.json").read_text())["trials"] == 5


def test_a_finished_study_is_not_searched_again(config: Path, copied: Path) -> None:
    (copied / "front.json").unlink()
    ended = call(config, "--study", copied)
    assert ended.returncode == 0, ended.stderr
    assert complete(copied) == 2
    assert (copied / "front.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "search.trails=3"], "did you mean 'trials'"),
        (["--set", "search.space.filters=[3, 1]"], "lowest, highest"),
        (["--set", "data.signals={}"], "signals"),
        (["--study", "{data}"], "not a study"),
        (["--study", "{data}/normal.npz"], "is a file"),
        (["--workers", "0"], "workers"),
    ],
)
def test_mistakes_are_one_line(config: Path, arguments: list[str], words: str) -> None:
    place = str(config.parent / "data")
    ended = call(config, *(argument.replace("{data}", place) for argument in arguments))
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_another_configuration_is_refused(config: Path, finished: Path) -> None:
    ended = call(config, "--study", finished, "--set", "seed=9")
    assert ended.returncode == 2
    assert "differs in seed" in ended.stderr


def test_nobody_joins_what_is_no_study(tmp_path: Path) -> None:
    ended = call(tmp_path, "--join")
    assert ended.returncode == 2
    assert "no study" in ended.stderr
