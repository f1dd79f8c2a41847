"""`l1kd search`: killed, joined, continued; what it leaves and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

from l1kd.core import config_file
from l1kd.runs.search_study import Place, Worker
from tests.conftest import made_once
from tests.runs.conftest import Hold, environment, until
from tests.runs.events import events

Call = Callable[..., subprocess.CompletedProcess[str]]
SEARCH = {
    "epochs": 1,
    "exposures": 1,
    "trials": 2,
    "space": {"filters": [1, 2], "hidden": [2, 4], "weight_bits": [4, 6], "kernels": [2]},
}


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = {
        "threads": 1,
        "data": events(tmp_path_factory),
        "teacher": {"architecture": "dense", "latent": 2, "hidden": [8]},
        "students": [{"name": "flat", "architecture": "dense", "hidden": [3]}],
        "distillation": {"epochs": 2, "final_epochs": 1, "batch": 32, "exposure": ["patch"]},
        "search": SEARCH,
    }
    path = tmp_path_factory.mktemp("search") / "tiny.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


@pytest.fixture
def finished(
    config: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A study of two trials. Read only."""

    def make(directory: Path) -> None:
        study = directory / "study"
        capfd: pytest.CaptureFixture[str] = request.getfixturevalue("capfd")
        ended = request.getfixturevalue("l1kd")("search", config, "--study", study)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip() == str(study / "front.md")
        assert "trial 1 (2 of 2): AUC" in capfd.readouterr().err  # of its worker
        assert "Pareto front" in ended.stderr

    return made_once(tmp_path_factory, "search-finished", make) / "study"


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
    with np.load(finished / "targets.npz") as targets:
        assert targets["draws"] == SEARCH["exposures"]
    stored = json.loads((finished / "front.json").read_text())
    assert [point["label"] for point in stored["references"]] == ["flat"]
    assert stored["trials"] == 2
    for name in ("front.md", "front.png", "front.svg", "students/0001.keras", "targets.npz"):
        assert (finished / name).stat().st_size > 0
    assert len(list((finished / "front").glob("*.yaml"))) == len(stored["front"])
    assert list((finished / "workers").iterdir()) == []
    for file in (finished / "front").glob("*.yaml"):
        assert config_file.load(file).students[0].name == "found"


def test_a_trial_says_what_it_measured(finished: Path) -> None:
    import l1kd
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    (trial, _) = trials(finished)
    network = read(l1kd.load_model(finished / "students" / "0000.keras"))
    expected = alkaid_convert.estimate(network, clock_ns=5.0)
    own = trial.user_attrs
    assert trial.values == [own["auc"], own["efficiency"], own["lut"], own["latency_cycles"]]
    assert (own["lut"], own["latency_cycles"]) == (round(expected.lut), expected.latency_cycles)
    assert own["weights"] == sum(
        getattr(node, "kernel", np.empty(0)).size for node in network.nodes
    )


@pytest.mark.parametrize(
    ("point", "lost"), [("tensorflow", 0), pytest.param("student", 1, marks=pytest.mark.full)]
)
def test_a_killed_worker_loses_its_trial_and_nothing_else(
    config: Path, copied: Path, l1kd: Call, point: str, lost: int
) -> None:
    before = [trial.params for trial in trials(copied)]

    def kill(held: Hold) -> None:
        try:
            os.kill(until(held.there)[0], signal.SIGKILL)
        finally:
            held.release()

    with ThreadPoolExecutor(1) as pool, Hold(copied, point) as held:
        killed = pool.submit(kill, held)
        path = environment()["PYTHONPATH"]
        ended = l1kd("search", config, "--study", copied, "--trials", 3, PYTHONPATH=path)
        killed.result()
    assert ended.returncode == 2
    assert "ended by signal 9 with 2 of 3 trials done" in ended.stderr
    assert len(ended.stderr.strip().splitlines()[-1]) < 200

    joined = l1kd("search", copied, "--join", "--trials", 3)
    assert joined.returncode == 0, joined.stderr
    states = [trial.state.name for trial in trials(copied)]
    assert states.count("COMPLETE") == 3
    assert states.count("FAIL") == lost
    assert states.count("RUNNING") == 0
    assert [trial.params for trial in trials(copied)][:2] == before


@pytest.mark.full
def test_two_commands_share_a_study(config: Path, copied: Path) -> None:
    with Hold(copied, "student") as held:
        both = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "l1kd",
                    "search",
                    config,
                    "--study",
                    copied,
                    "--trials",
                    "5",
                ],
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        until(lambda: len(held.there()) == 2 or any(each.poll() is not None for each in both))
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = trials(copied)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 5
    assert len({trial.user_attrs["worker"] for trial in found[2:]}) == 2
    assert len({str(trial.params) for trial in found}) == 5
    assert json.loads((copied / "front.json").read_text())["trials"] == 5


def test_a_finished_study_is_not_searched_again(config: Path, copied: Path, l1kd: Call) -> None:
    (copied / "front.json").unlink()
    ended = l1kd("search", config, "--study", copied)
    assert ended.returncode == 0, ended.stderr
    assert "teacher" not in ended.stderr.partition("Pareto")[0]
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
def test_mistakes_are_one_line(
    config: Path, arguments: list[str], words: str, l1kd: Call, tmp_path: Path
) -> None:
    place = tmp_path / "data"
    place.mkdir()
    (place / "normal.npz").touch()
    ended = l1kd(
        "search", config, *(argument.replace("{data}", str(place)) for argument in arguments)
    )
    assert ended.returncode == 2
    *begun, said = ended.stderr.strip().splitlines()
    assert words in said and begun in ([], ["tiny: reading the events of arrays"])


def test_another_configuration_is_refused(config: Path, finished: Path, l1kd: Call) -> None:
    ended = l1kd("search", config, "--study", finished, "--set", "seed=9")
    assert ended.returncode == 2
    assert "differs in seed" in ended.stderr


def test_nobody_joins_what_is_no_study(tmp_path: Path, l1kd: Call) -> None:
    ended = l1kd("search", tmp_path, "--join")
    assert ended.returncode == 2
    assert "no study" in ended.stderr
