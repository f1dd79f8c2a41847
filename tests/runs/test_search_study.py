"""A study: who works, what is counted, where proposals come from, what is on the front."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from l1kd.core import config_file
from l1kd.core.config import Config, Score, Student
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.sweep_config import Space
from l1kd.runs.search import points, write_front
from l1kd.runs.search_study import Place, Worker, beginnings, describe, propose

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning"),
]
State = optuna.trial.TrialState


@pytest.fixture
def config(tiny: Path) -> Config:
    return config_file.load(tiny, ["search={trials: 20, objectives: [auc, lut]}"])


def study(config: Config, directory: Path) -> Place:
    directory.mkdir()
    place = Place(directory)
    place.claim(config)
    return place


def judged(auc: float, lut: float) -> dict[str, Any]:
    return {
        "auc": auc,
        "efficiency": auc / 2,
        "lut": lut,
        "ff": lut,
        "latency_cycles": 3,
        "latency_ns": 15.0,
        "weights": 10,
        "zeros": 4,
    }


def finish(worker: Worker, trial: Any, auc: float, lut: float) -> None:
    student = propose(trial, worker.place.search.space)
    trial.set_user_attr("student", student.model_dump(mode="json", exclude_defaults=True))
    for key, value in judged(auc, lut).items():
        trial.set_user_attr(key, value)
    worker.study.tell(trial, [auc, lut])


def test_every_proposal_is_a_student_that_can_be_built() -> None:
    from l1kd.networks.students import build_student

    space = Space(architectures=["conv", "dense", "set"], hidden_layers=(0, 2), pointwise=(0, 4))
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen = set()
    for _ in range(16):
        student = propose(memory.ask(), space)
        build_student(student, (6, 4, 1), FixedPoint(6, 6), Score())
        assert Student.model_validate(student.model_dump(exclude_defaults=True)) == student
        assert describe(student).endswith("b)")
        seen.add((student.architecture, bool(student.pointwise)))
    assert seen == {("conv", False), ("dense", False), ("set", False), ("set", True)}


def test_a_search_begins_inside_its_space() -> None:
    for space in (
        Space(),
        Space(architectures=["dense"], hidden_layers=(1, 3), hidden=(4, 9)),
        Space(filters=(2, 2), kernels=[(1, 3)], sparsity=(0.2, 0.2)),
    ):
        largest, middle = (
            propose(optuna.trial.FixedTrial(parameters), space) for parameters in beginnings(space)
        )
        bits = {layer.weight_bits for layer in largest.layers.values()}
        assert bits == {space.weight_bits[1]}
        assert set(largest.hidden) == {space.hidden[1]}
        assert largest.layers["dense1"].sparsity == space.sparsity[0]
        assert largest.logic_penalty == space.logic_penalty[0]
        assert space.sparsity[0] <= (middle.layers["dense1"].sparsity or 0) <= space.sparsity[1]


def test_proposals_do_not_depend_on_how_often_a_process_began(
    config: Config, tmp_path: Path
) -> None:
    seen = []
    for name, lives in (("one", 1), ("many", 20)):
        place = study(config, tmp_path / name)
        proposed = []
        for _ in range(lives):
            with Worker(place, 20) as worker:
                for _ in range(20 // lives):
                    trial = worker.ask()
                    assert trial is not None
                    finish(worker, trial, 0.6 + trial.number % 7 / 20, trial.number % 5)
                    proposed.append(trial.params)
        seen.append(proposed)
    assert seen[0] == seen[1]
    assert len({str(parameters) for parameters in seen[0]}) == 20


def test_nobody_takes_more_than_there_are(config: Config, tmp_path: Path) -> None:
    place = study(config, tmp_path / "study")
    with Worker(place, 3) as first, Worker(place, 3) as second:
        taken = [first.ask(), second.ask(), first.ask()]
        assert all(trial is not None for trial in taken)
        assert second.ask() is None
        first.give_up(taken[0], "too large")  # a result: it counts
        assert second.ask() is None
        first.give_up(taken[2], None)
        assert second.counts() == (1, 1)
        assert second.ask() is not None


def test_a_trial_whose_process_has_ended_is_buried_and_no_other(
    config: Config, tmp_path: Path
) -> None:
    place = study(config, tmp_path / "study")
    code = (
        "import sys, os, pathlib; from l1kd.runs.search_study import Place, Worker; "
        "Worker(Place(pathlib.Path(sys.argv[1])), 9).ask(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, place.directory], check=False)
    with Worker(place, 9) as alive, Worker(place, 9) as other:
        mine = alive.ask()
        assert mine is not None
        states = {trial.number: trial.state for trial in alive.study.get_trials()}
        assert states == {0: State.FAIL, 1: State.RUNNING}
        other.bury()
        assert other.study.trials[mine.number].state == State.RUNNING
        assert other.counts() == (0, 1)


def test_a_line_that_was_not_written_to_its_end_is_taken_away(
    config: Config, tmp_path: Path
) -> None:
    place = study(config, tmp_path / "study")
    with Worker(place, 9) as worker:
        finish(worker, worker.ask(), 0.7, 10)
    journal = place.directory / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:20])
    with Worker(place, 9) as again:
        assert again.counts() == (1, 0)
        finish(again, again.ask(), 0.8, 20)
    with Worker(place, 9) as last:
        assert last.counts() == (2, 0)


def test_the_front_is_what_nothing_beats(config: Config, tmp_path: Path) -> None:
    place = study(config, tmp_path / "study")
    place.references.write_text(json.dumps({"flat": judged(0.75, 150)}))
    with Worker(place, 9) as worker:
        for auc, lut in ((0.9, 300), (0.8, 100), (0.7, 200), (0.5, 0), (0.6, 50)):
            finish(worker, worker.ask(), auc, lut)
        said = write_front(place, worker.study)
        front, _, references = points(place, worker.study)
    assert [(point.label, point.trial) for point in front] == [("01", 4), ("02", 1), ("03", 0)]
    stored = json.loads((place.directory / "front.json").read_text())
    assert [point["lut"] for point in stored["front"]] == [50, 100, 300]
    assert [point["label"] for point in stored["references"]] == ["flat"]
    text = (place.directory / "front.md").read_text()
    assert said.partition("\n")[2] in text and said.startswith("Pareto front")
    text = " ".join(text.split())  # columns line up
    assert "| 02 | 1 | 0.8000 | 40.0 % | 100 |" in text
    assert (place.directory / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (place.directory / "front.svg").read_text()
    assert [point.label for point in references] == ["flat"]
    assert len(said.splitlines()) == 1 + 2 + 4
    for point in front:
        mine = config_file.load(place.directory / "front" / f"{point.label}.yaml")
        assert mine.students == [point.student]
        assert mine.search is None
        assert (mine.data, mine.teacher) == (config.data, config.teacher)
    # Again with one more: what is no longer on the front leaves no file.
    with Worker(place, 9) as worker:
        finish(worker, worker.ask(), 0.95, 40)
        write_front(place, worker.study)
    assert [file.name for file in (place.directory / "front").glob("*.yaml")] == ["01.yaml"]
    (place.directory / "front" / "l1kd.json").unlink()  # as in a directory of the user's
    with pytest.raises(UserError, match="not made by l1kd"), Worker(place, 9) as worker:
        write_front(place, worker.study)


def test_another_configuration_is_another_study(config: Config, tiny: Path, tmp_path: Path) -> None:
    place = study(config, tmp_path / "study")
    more = config_file.load(tiny, ["search={trials: 99, objectives: [auc, lut]}", "threads=2"])
    Place(place.directory).claim(more)
    for changed in ("seed=8", "search={objectives: [auc, latency]}"):
        other = config_file.load(tiny, [changed])
        with pytest.raises(UserError, match=f"differs in.*{changed.partition('=')[0]}"):
            Place(place.directory).claim(other)


def test_what_is_no_study_is_left_alone(config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not a study"):
        Place(tmp_path / "mine").claim(config)
    (tmp_path / "mine" / "thesis.tex").rename(tmp_path / "mine" / "config.yaml")
    with pytest.raises(UserError, match="not a study"):  # it would be written over
        Place(tmp_path / "mine").claim(config)
    (tmp_path / "mine" / "config.yaml").rename(tmp_path / "mine" / "thesis.tex")
    with pytest.raises(UserError, match="no study"):
        _ = Place(tmp_path / "mine").config
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{trails: 3}", "'trials'"),
        ("{space: {filter: [1, 2]}}", "'filters'"),
        ("{space: {filters: [4, 2]}}", "lowest, highest"),
        ("{objectives: [auc, luts]}", "'lut'"),
        ("{objectives: []}", "objectives"),
        ("{space: {sparsity: [0, 1]}}", "sparsity"),
    ],
)
def test_mistakes_in_the_section_are_named(tiny: Path, search: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_file.load(tiny, [f"search={search}"])


def test_the_section_survives_being_stored(config: Config, tmp_path: Path) -> None:
    config_file.save(config, tmp_path / "c.yaml")
    assert config_file.load_resolved(tmp_path / "c.yaml") == config
    assert yaml.safe_load((tmp_path / "c.yaml").read_text())["search"]["trials"] == 20


def test_widths_that_are_proposed_are_of_the_search_space() -> None:
    space = Space(weight_integer=(2, 2), activation_bits=(8, 9), hidden_layers=(1, 1))
    for parameters in beginnings(space):
        widths = {name: value for name, value in parameters.items() if "." in name}
        assert {v for name, v in widths.items() if name.endswith(".weight_integer")} == {2}
        assert {v for name, v in widths.items() if name.endswith(".activation_bits")} <= {8, 9}
        assert "conv1.activation_bits" in widths and "dense1.activation_bits" in widths
