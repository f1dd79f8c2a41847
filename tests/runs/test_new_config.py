"""`l1kd init`: what it writes is a configuration as it stands, and nothing of a user's is lost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest
import yaml

from l1kd.core import config_file
from l1kd.core.sweep_config import leaves
from l1kd.data.sources import SOURCES, open_dataset
from l1kd.runs.config_reference import commented

Call = Callable[..., subprocess.CompletedProcess[str]]


def regions(path: Path, events: int = 40, **options: float) -> Path:
    counts = np.random.default_rng(1).integers(0, 9, (events, 18, 14)) + options.get("offset", 0)
    with h5py.File(path, "w") as file:
        file["CaloRegions"] = counts
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_written_is_a_configuration_with_every_default_named(
    source: str, l1kd: Call, tmp_path: Path
) -> None:
    answer = l1kd("init", "mine", "--source", source)
    assert (answer.returncode, answer.stdout) == (0, "mine/l1kd.yaml\n")
    path = tmp_path / "mine" / "l1kd.yaml"
    config = config_file.load(path)
    assert config.name == "mine"
    assert config.data.source == source
    # the same without the keys behind a `#`, and with all of them
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    behind = re.compile(r"( *)#(?=[a-z])")  # a key; a text has a space before it
    keys = {behind.sub(r"\1", line).partition(":")[0] for line in lines if behind.match(line)}
    assert {"seed", "  clock_ns", "  max_auc_loss"} <= keys
    (tmp_path / "mine.yaml").write_text("\n".join(behind.sub(r"\1", line) for line in lines))
    assert dict(leaves(config_file.load(tmp_path / "mine.yaml").model_dump())) == dict(
        leaves(config.model_dump())
    )
    schema = json.loads((tmp_path / "mine" / "l1kd.schema.json").read_text())
    assert f"$schema={'l1kd.schema.json'}" in text
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))


def test_events_that_are_still_to_be_fetched_are_no_error(l1kd: Call, tmp_path: Path) -> None:
    answer = l1kd("init", "mine", "--source", "mnist", L1KD_DATA=str(tmp_path), HOME=str(tmp_path))
    assert (answer.returncode, answer.stdout) == (0, "mine/l1kd.yaml\n")
    assert "l1kd data fetch mnist" in answer.stderr


def test_given_files_are_checked_and_counted(l1kd: Call, tmp_path: Path) -> None:
    files = [regions(tmp_path / name) for name in ("zerobias.h5", "a.h5", "b.h5")]
    signals = ("--signal", "tt=a.h5", "--signal", "tt=b.h5")
    answer = l1kd("init", "mine", "--background", files[0].name, *signals)
    assert answer.returncode == 0, answer.stderr
    assert "shape (18, 14, 1), 11 bits: 20 train, 4 validate, 16 test" in answer.stderr
    assert "signal tt: 80" in answer.stderr
    config = config_file.load(tmp_path / "mine" / "l1kd.yaml")
    assert config.data.signals == {"tt": [str(files[1]), str(files[2])]}  # type: ignore[attr-defined]
    assert len(open_dataset(config.data, config.seed).train) == 20


def test_events_that_are_not_as_they_should_be_are_told_of_with_the_file_to_edit(
    l1kd: Call, tmp_path: Path
) -> None:
    regions(tmp_path / "high.h5", offset=1020)
    answer = l1kd("init", "mine", "--background", "high.h5")
    assert answer.returncode == 2
    assert "mine/l1kd.yaml is written" in answer.stderr and "has a region of" in answer.stderr
    np.savez(tmp_path / "x.npz", x=np.zeros((30, 4), np.float32))
    answer = l1kd("init", "other", "--source", "arrays", "--background", "x.npz:x")
    assert answer.returncode == 2 and "data.grid" in answer.stderr
    config = config_file.load(tmp_path / "other" / "l1kd.yaml", ["data.grid={word: 4, integer: 4}"])
    assert open_dataset(config.data, config.seed).shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "cal"], "did you mean 'calo'"),
        (["--source", "mnist", "--background", "x"], "events of its own"),
        (["--signal", "a/b=c", "--background", "x"], "NAME=FILE"),
        (["--signal", "ab", "--background", "x"], "NAME=FILE"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: list[str], words: str, l1kd: Call, tmp_path: Path
) -> None:
    answer = l1kd("init", "mine", *arguments)
    assert answer.returncode == 2
    assert words in answer.stderr and answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_only_what_nobody_edited_is_replaced(l1kd: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "l1kd.yaml"
    assert l1kd("init", "mine", "--source", "l1toy").returncode == 0
    first = path.read_text()
    assert l1kd("init", "mine", "--source", "mnist", L1KD_DATA="nowhere").returncode == 0
    assert path.read_text() != first
    for text in (path.read_text().replace("#seed: 7", "seed: 8"), "data: {source: mnist}\n", ""):
        path.write_text(text)
        answer = l1kd("init", "mine")
        assert answer.returncode == 2 and "has been edited" in answer.stderr
        assert path.read_text() == text


def test_a_section_in_which_nothing_is_set_is_a_comment(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.yaml").write_text("data: {source: mnist}\nverify: {corners: false}")
    text = commented(config_file.load(tmp_path / "x.yaml"))
    assert "\nverify:\n" in text and "\n  corners: false\n" in text and "\n#rtl:\n" in text
    assert "part_has" not in text and "sweep" not in text
