"""The parts of a sweep: runs and their names, its directory, what is seen and said of runs."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from l1kd import __version__
from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.config_types import NAME_PATTERN
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import passing_name
from l1kd.core.sweep_config import Group
from l1kd.data.sources import SOURCES
from l1kd.runs import sweep as sweeping
from l1kd.runs.sweep import Watch, connected, look, sweep
from l1kd.runs.sweep_grid import (
    SWEEP,
    GridDirectory,
    Job,
    Outcome,
    _names,
    chosen,
    environment,
    expand,
    label,
    perform,
)

MNIST = {"data": {"source": "mnist"}}


def jobs(tmp_path: Path, sweep: dict[str, Any], *overrides: str, **more: Any) -> list[Job]:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**MNIST, **more, "sweep": sweep}, sort_keys=False))
    return expand(path, overrides)[2]


GROUPS = {
    "a": {
        "set": {"distillation": {"exposure": []}},
        "grid": {"data": {"source": ["mnist", "fashion_mnist"], "normal": [0, 4]}},
    },
    "b": {"grid": {"seed": [1, 2]}},
}


def test_every_run_is_a_configuration_with_a_name(tmp_path: Path) -> None:
    found = jobs(tmp_path, {"groups": GROUPS})
    assert [job.name for job in found] == [
        "a-mnist-normal0",
        "a-mnist-normal4",
        "a-fashion_mnist-normal0",
        "a-fashion_mnist-normal4",
        "b-seed1",
        "b-seed2",
    ]
    third = found[2]
    assert (third.group, third.varied) == ("a", {"data.source": "fashion_mnist", "data.normal": 0})
    config = third.config
    assert (config.name, config.threads, config.sweep) == (third.name, 1, None)
    assert (config.data.source, config.distillation.exposure) == ("fashion_mnist", [])
    own = SOURCES["mnist"].defaults["distillation"]["exposure"]
    assert own and found[4].config.distillation.exposure == own
    assert found[4].config.seed == 1


def test_a_run_s_configuration_is_one_of_its_own(tmp_path: Path) -> None:
    """Written and read again it is the same, and `l1kd run` makes the same run of it."""
    job = jobs(tmp_path, {"groups": GROUPS})[1]
    config_file.save(job.config, tmp_path / "one.yaml")
    assert config_file.load(tmp_path / "one.yaml") == job.config


def test_a_point_may_reach_into_a_list(tmp_path: Path) -> None:
    grid = {"students": {0: {"weight_bits": [4, 6]}}}
    found = jobs(tmp_path, {"groups": {"widths": {"grid": grid}}})
    assert [job.config.students[0].weight_bits for job in found] == [4, 6]
    assert [job.name for job in found] == ["widths-weight_bits4", "widths-weight_bits6"]


def test_the_command_line_goes_over_every_run(tmp_path: Path) -> None:
    found = jobs(
        tmp_path,
        {"groups": GROUPS},
        "distillation.exposure=[noise]",
        "sweep.groups.b.grid.seed=[5]",
    )
    assert {tuple(job.config.distillation.exposure) for job in found} == {("noise",)}
    assert found[-1].name == "b-seed5"
    with pytest.raises(UserError, match=r"group 'b' varies seed; set sweep\.groups\.b\.grid\.seed"):
        jobs(tmp_path, {"groups": GROUPS}, "seed=3")


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (
            {"grid": {"data": {"normal": [1, 12]}}},
            ["mine.yaml:", "sweep.groups.bad.grid", "data.normal", "12"],
        ),
        (
            {"set": {"distillation": {"epohcs": 1}}},
            ["sweep.groups.bad.set", "distillation.epohcs", "'epochs'"],
        ),
        (
            {"grid": {"students": {9: {"weight_bits": [4]}}}},
            ["sweep.groups.bad.grid", "students.9", "no item of it"],
        ),
        ({"grid": {"seed": {"deep": [1]}}}, ["seed", "integer"]),
        ({"set": {"teacher": {"architecture": "papr"}}}, ["did you mean 'paper'"]),
    ],
)
def test_a_bad_point_is_refused_with_group_and_key(
    tmp_path: Path, group: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        jobs(tmp_path, {"groups": {"good": {"grid": {"seed": [1]}}, "bad": group}})
    for word in ["mine.yaml", "group 'bad'", *words]:
        assert word in str(caught.value), caught.value


def test_the_documented_grid_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text()
    (tmp_path / "docs.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    names = [job.name for job in expand(tmp_path / "docs.yaml", [])[2]]
    assert sum(name.startswith("exposure-") for name in names) == 12
    assert sum(name.startswith("narrow-") for name in names) == 4
    assert "exposure-fashion_mnist-normal2-seed8" in names


def test_the_paper_s_grid_has_all_that_its_table_has() -> None:
    found = expand(config_file.find("paper"), [])[2]
    assert len(found) == 2 * (10 + 4 * 3)
    assert all(job.config.firmware.students == "best" for job in found)
    assert all(job.config.rtl.simulate == "none" for job in found)
    widths = {job.group: {s.weight_bits for s in job.config.students} for job in found}
    assert widths["four_bits"] == {4}
    assert widths["exposure"] == {8}


def test_a_configuration_without_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(yaml.safe_dump(MNIST))
    with pytest.raises(UserError, match="no section `sweep`"):
        expand(path, [])


SCALARS = st.one_of(
    st.text(max_size=40), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.text(max_size=3), below, max_size=2)
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=8), st.lists(SCALARS, min_size=1, max_size=4))
def test_names_are_unique_and_can_be_files(first: list[Any], second: list[Any]) -> None:
    kept = [[v for n, v in enumerate(own) if v not in own[:n]] for own in (first, second)]
    group = Group(grid={"a": {"b": kept[0]}, "c": kept[1]})
    names = _names([*group.points("g"), *group.points("G")])
    assert len({name.lower() for name in names}) == len(names) == 2 * group.size
    assert all(re.fullmatch(NAME_PATTERN, name) and len(name) <= 64 for name in names)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mnist", "mnist"),
        (3, "key3"),
        (0.001, "key0.001"),
        (True, "keytrue"),
        (None, "keydefault"),
        ([], "none"),
        (["dataset", "patch"], "dataset_patch"),
    ],
)
def test_a_readable_value_is_its_own_name(value: Any, text: str) -> None:
    assert label("some.key", value) == text


def test_only(tmp_path: Path) -> None:
    found = jobs(tmp_path, {"groups": GROUPS})
    assert [job.name for job in chosen(found, ["b-*", "*normal4"])] == [
        "a-mnist-normal4",
        "a-fashion_mnist-normal4",
        "b-seed1",
        "b-seed2",
    ]
    assert len(chosen(found, [])) == 6
    with pytest.raises(UserError, match=r"none of 6 runs is named so; there are a-mnist-normal0"):
        chosen(found, ["c-*"])


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "sweep"
    SWEEP.check(place)
    place.mkdir()
    for name in (".lock", passing_name(".part.yaml")):
        (place / name).touch()
    SWEEP.check(place)  # one that was stopped as it began
    for name in ("config.yaml", "thesis.tex"):  # the first would be written over
        (place / name).touch()
        with pytest.raises(UserError, match=rf"is not a sweep \(it has {name}\)"):
            SWEEP.check(place)
        (place / name).unlink()
    (place / "thesis.tex").touch()
    (place / "sweep.json").write_text('{"format_version": 99}')
    with pytest.raises(UserError, match="format 99"):
        SWEEP.check(place)
    (place / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        SWEEP.check(place)
    with pytest.raises(UserError, match="is a file"):
        SWEEP.check(place / "thesis.tex")


def test_a_claimed_directory_says_what_is_run_and_forgets_what_was(tmp_path: Path) -> None:
    found = jobs(tmp_path, {"groups": GROUPS})
    place = GridDirectory(tmp_path / "sweep")
    place.directory.mkdir()
    place.stop.touch()
    (users := place.directory / ".stop-smoking").touch()
    place.claim(found[0].config, found)
    assert not place.stop.exists() and users.exists()
    stored = json.loads((place.directory / "sweep.json").read_text())["runs"]
    assert stored["a-mnist-normal4"] == {
        "group": "a",
        "grid": {"data.source": "mnist", "data.normal": 4},
    }


def test_a_worker_is_given_absolute_paths_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("L1KD_DATA", "events")
    place = GridDirectory(Path("sweep").absolute())
    for of in (place.run, place.config, place.log):
        assert of("name").is_relative_to(tmp_path)
    assert place.stop.is_relative_to(tmp_path)
    assert environment()["L1KD_DATA"] == str(tmp_path / "events")


def test_a_worker_that_cannot_do_it_says_why(tmp_path: Path) -> None:
    place = GridDirectory(tmp_path / "sweep")
    other = perform(place, "here", "train", 1, {}, "9.9")
    assert other.code == 2
    assert "and the sweep 9.9" in other.reason
    elsewhere = perform(GridDirectory(Path("/not/mounted")), "here", "train", 1, {}, __version__)
    assert elsewhere.code == 2
    assert "does not see /not/mounted/configs/here.yaml" in elsewhere.reason


def config_of(tmp_path: Path, *overrides: str) -> Config:
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(MNIST))
    return config_file.load(
        path, ["distillation.epochs=6", "distillation.final_epochs=4", *overrides]
    )


def test_how_far_a_run_is_can_be_seen_in_its_files(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for overrides, epochs in (
        ([], 10),
        (["distillation.final_epochs=0"], 7),
        (["distillation.mode=sequential"], 12),
    ):
        assert config_of(tmp_path, *overrides).distillation.phases[-1].last == epochs
    assert look(tmp_path / "nothing", config, "verify") == ("starts", 0.0)

    def states(**stages: str) -> None:
        text = {"stages": {name: {"state": state} for name, state in stages.items()}}
        (tmp_path / "manifest.json").write_text(json.dumps(text))

    states(train="running")
    (tmp_path / "history.csv").write_text("epoch,phase,loss\n1,together,3\n2,together,2\n")
    assert look(tmp_path, config, "train") == ("train, epoch 2 of 10", 0.2)
    assert look(tmp_path, config, "verify")[1] == pytest.approx(0.18)
    states(train="done", evaluate="done", convert="running")
    said, share = look(tmp_path, config, "verify")
    assert said == "convert"
    assert 0.9 < share < 1
    states(train="done", evaluate="done", convert="done", verify="failed")
    assert look(tmp_path, config, "verify")[1] == 1
    (tmp_path / "manifest.json").write_text("{")
    assert look(tmp_path, config, "verify")[0] == "starts"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_told(tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_LINE_SECONDS", 0.0)
    found = {job.name: job for job in jobs(tmp_path, {"groups": GROUPS})}
    place = GridDirectory(tmp_path / "sweep")
    place.directory.mkdir()
    place.claim(next(iter(found.values())).config, list(found.values()))
    (first, second) = list(found)[:2]
    for name in (first, second):
        place.run(name).mkdir(parents=True)
        (place.run(name) / "manifest.json").write_text(
            '{"stages": {"train": {"state": "running"}}}'
        )
        (place.run(name) / "history.csv").write_text("epoch\n7\n")
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    watch = Watch(place, found, "verify", 2, console)
    key = f"{first}-{place.token}"
    with watch.bars:
        watch.see({"tcp://one": (), "tcp://gone": (f"{second}-{place.token}", "other")})
        watch.see({"tcp://one": (key, f"{first}-of-another-call")})
        watch.refresh()
        watch.bars.refresh()  # it draws twice a second by itself
        watch.end(second, good=False, said="FAILED")
        watch.refresh()
        watch.end(first, good=True, said="done")
        watch.refresh()
    said = text.getvalue()
    assert f"{second}: FAILED (3 of 8" in said
    assert f"{first}: done (4 of 8" in said
    assert "train, epoch 7 of 28" in said
    assert "1 failed" in said
    assert "a worker is gone (tcp://gone)" in said
    if not terminal:
        assert f"{second}: train" not in said  # its worker is gone


def outcome(code: int) -> Outcome:
    return Outcome(code, "l1kd: error: some reason", 61.0, "node7")


def test_the_worst_run_decides_how_a_sweep_ends(tmp_path: Path) -> None:
    place = GridDirectory(tmp_path)
    sweeping._judge(place, {"a": outcome(0)}, 3)
    with pytest.raises(CheckFailed, match=r"1 of 3 runs failed a check: .*runs/b \(log: .*logs/b"):
        sweeping._judge(place, {"a": outcome(0), "b": outcome(1)}, 3)
    with pytest.raises(UserError, match=r"1 of 3 runs could not be made: .*runs/c .*tries them"):
        sweeping._judge(place, {"b": outcome(1), "c": outcome(70)}, 3)
    many = {f"r{number}": outcome(137) for number in range(9)}
    with pytest.raises(UserError, match="and 6 more"):
        sweeping._judge(place, many, 9)


def test_outcomes_in_words() -> None:
    assert sweeping._in_words(outcome(0)) == "done in 1 min 1 s on node7"
    assert sweeping._in_words(outcome(1)).startswith(
        "a check failed after 1 min 1 s on node7: l1kd"
    )
    assert sweeping._in_words(outcome(2)).startswith("FAILED (exit 2): l1kd")

    class KilledWorker(Exception):  # noqa: N818 - as distributed has it
        pass

    assert "every worker that tried it died" in sweeping.plain_fault(KilledWorker())
    assert "lacks this version" in sweeping.plain_fault(ModuleNotFoundError("no l1kd"))
    assert sweeping.plain_fault(OSError("disk")) == "OSError: disk"


@pytest.mark.parametrize("address", ["login", "tcp://login", "login:8786", "tcp:/login:1"])
def test_what_is_no_address(address: str) -> None:
    with (
        pytest.raises(UserError, match="an address is like tcp://host:8786"),
        connected(address, 1),
    ):
        pass


def test_two_clusters_at_once_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """And they take no time from the runs: nobody profiles them."""
    import dask
    from distributed import Client

    with connected(None, 1) as first, connected(None, 1) as second:
        for client in (first, second):
            assert isinstance(client, Client)
            assert client.submit(str, 7).result(timeout=600) == "7"
            (profiled,) = client.run(dask.config.get, "distributed.worker.profile.enabled").values()
            assert profiled is False
            (memory,) = client.scheduler_info(n_workers=-1)["workers"].values()
            assert memory["memory_limit"] == 0
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_before_all_is_checked(tmp_path: Path, tiny: Path) -> None:
    directory = tmp_path / "sweep"
    with pytest.raises(UserError, match="no section"):
        sweep(str(tiny), directory)
    bad = ["sweep={groups: {all: {grid: {seed: [1, -1]}}}}"]
    with pytest.raises(UserError, match=r"seed.*group 'all', run all-seed-1"):
        sweep(str(tiny), directory, overrides=bad)
    missing = ["sweep={groups: {all: {}}}", "data.background=[/no/such.npz]"]
    with pytest.raises(UserError, match=r"such\.npz.*run all"):
        sweep(str(tiny), directory, overrides=missing)
    assert not directory.exists()


def test_one_process_has_a_sweep(tmp_path: Path, tiny: Path) -> None:
    from l1kd.runs.run import locked

    (tmp_path / "sweep").mkdir()
    with locked(tmp_path / "sweep"), pytest.raises(UserError, match="in use by another"):
        sweep(str(tiny), tmp_path / "sweep", overrides=["sweep={groups: {all: {}}}"])


def test_a_run_of_another_configuration_is_not_overwritten(tmp_path: Path, tiny: Path) -> None:
    from l1kd.core import run_files

    place, overrides = GridDirectory(tmp_path / "sweep"), ["sweep={groups: {all: {}}}"]
    place.run("all").mkdir(parents=True)
    config = config_file.load(tiny, ["threads=1", "distillation.batch=16"])
    config_file.save(config, place.run("all") / "config.yaml")
    manifest = run_files.Manifest(
        name="all",
        created="",
        versions={},
        git_commit=None,
        seed=7,
        threads=1,
        machine="",
        data={},
        stages={"train": run_files.StageRecord(state="done", inputs="")},
    )
    run_files.write(place.run("all"), "manifest.json", manifest)
    (place.directory / "sweep.json").write_text('{"format_version": 1}')
    with pytest.raises(UserError, match=r"batch: 16 -> 30.*with --sweep"):
        sweep(str(tiny), place.directory, overrides=overrides)
