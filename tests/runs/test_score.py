"""`l1kd score` and `l1kd rates`: every event with the exact network's score, or a plain refusal."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pyarrow import parquet

import l1kd as package
from l1kd.core.fixed_point import FixedPoint
from l1kd.evaluation import score_events
from l1kd.evaluation.rates import Threshold
from tests.runs.scored import demo_student, regions, scored_run, write_regions

NETWORK = demo_student()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: its directories cannot be written."""
    directory = scored_run(tmp_path_factory.mktemp("runs") / "scored", NETWORK)
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return directory


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_events, "_EVENTS", 7)


def table_of(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns and what the file says of itself."""
    if path.suffix == ".parquet":
        found = parquet.read_table(path)
        return found.to_pydict(), json.loads(found.schema.metadata[b"l1kd"])
    with h5py.File(path) as file:
        names = file["files"].asstr()[:]
        columns = {key: file[key][:].tolist() for key in file if key != "files"}
        columns["file"] = [names[place] for place in columns["file"]]
        return columns, json.loads(file.attrs["l1kd"])


@pytest.mark.parametrize("ending", ["parquet", "h5"])
def test_every_event_gets_its_score(l1kd: Any, tmp_path: Path, run: Path, ending: str) -> None:
    first, second = regions(50, 1), regions(20, 2)
    write_regions(tmp_path / "one.h5", first)
    write_regions(tmp_path / "two.h5", second.astype(np.float32), "et")  # CICADA's other form
    level = package.open_run(run).threshold(rate_khz=300)
    done = l1kd("score", run, "one.h5", "two.h5", "--rate-khz", 300, "--out", f"new.{ending}")
    assert (done.returncode, done.stdout) == (0, f"new.{ending}\n"), done.stderr
    assert "70 events" in done.stderr and f"threshold of {level:,} LSB" in done.stderr
    columns, about = table_of(tmp_path / f"new.{ending}")
    wanted = NETWORK.counts(np.concatenate([first, second])[..., None])[:, 0]
    assert len(set(wanted.tolist())) > 30
    lsb = NETWORK.output_types[0].lsb
    assert columns == {
        "file": ["one.h5"] * 50 + ["two.h5"] * 20,
        "event": [*range(50), *range(20)],
        "score_lsb": wanted.tolist(),
        "score": (wanted * lsb).tolist(),
        "accept": (wanted >= level).tolist(),
    }
    assert about["rate_khz"] == package.open_run(run).rate(level)._asdict()
    assert {key: about[key] for key in ("run", "student", "lsb", "threshold")} == {
        "run": "scored",
        "student": package.open_run(run).best,
        "lsb": lsb,
        "threshold": level,
    }
    sizes = [(tmp_path / name).stat().st_size for name in ("one.h5", "two.h5")]
    assert [(each["file"], each["events"], each["bytes"]) for each in about["files"]] == [
        ("one.h5", 50, sizes[0]),
        ("two.h5", 20, sizes[1]),
    ]
    assert len(about["network_sha256"]) == 64


def test_a_threshold_is_optional_and_nothing_is_replaced(
    l1kd: Any, tmp_path: Path, run: Path
) -> None:
    write_regions(tmp_path / "one.h5", regions(9))
    assert l1kd("score", run, "one.h5").returncode == 0
    columns, about = table_of(tmp_path / "scored-scores.parquet")
    assert "accept" not in columns and about["threshold"] is None
    before = (tmp_path / "scored-scores.parquet").read_bytes()
    again = l1kd("score", run, "one.h5", "--threshold", 3)
    assert again.returncode == 2 and "is not replaced" in again.stderr
    assert (tmp_path / "scored-scores.parquet").read_bytes() == before
    assert l1kd("score", run, "one.h5", "--threshold", 3, "--out", "a.h5").returncode == 0
    columns, _ = table_of(tmp_path / "a.h5")
    assert columns["accept"] == [score >= 3 for score in columns["score_lsb"]]


@pytest.mark.parametrize("ending", ["parquet", "h5"])
def test_no_events_are_a_table_without_rows(
    l1kd: Any, tmp_path: Path, run: Path, ending: str
) -> None:
    write_regions(tmp_path / "none.h5", regions(0))
    done = l1kd("score", run, "none.h5", "--threshold", 1, "--out", f"new.{ending}")
    assert done.returncode == 0, done.stderr
    columns, _ = table_of(tmp_path / f"new.{ending}")
    assert columns == {key: [] for key in ("file", "event", "score_lsb", "score", "accept")}


def test_a_run_that_was_moved_scores_alike(l1kd: Any, tmp_path: Path, run: Path) -> None:
    write_regions(tmp_path / "one.h5", regions(9))
    shutil.copytree(run, tmp_path / "moved")
    for name in (run, "moved"):
        assert l1kd("score", name, "one.h5", "--out", f"{Path(name).name}.h5").returncode == 0
    one, other = table_of(tmp_path / "scored.h5"), table_of(tmp_path / "moved.h5")
    assert one[0] == other[0] and other[1]["run"] == "moved"
    for path in (tmp_path / "moved").rglob("*"):
        path.chmod(0o755)
    (tmp_path / "moved").chmod(0o755)


def test_the_first_bad_event_is_named_and_nothing_is_left(
    l1kd: Any, tmp_path: Path, run: Path
) -> None:
    write_regions(tmp_path / "good.h5", regions(30))
    bad = regions(60).astype(np.float32)
    bad[50, 3, 3] = 0.5
    bad[33, 17, 13] = 2_000
    write_regions(tmp_path / "bad.h5", bad)
    done = l1kd("score", run, "good.h5", "bad.h5")
    assert done.returncode == 2
    assert "bad.h5: event 33 has a region of 2000" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.h5", "good.h5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.h5"], "nowhere.h5: no such file"),
        (["one.h5", "one.h5"], "named twice"),
        (["one.h5", "--out", "x.csv"], "written as .parquet, .h5, .hdf5"),
        (["one.h5", "--rate-khz", "1"], "ask for a higher rate"),
        (["one.h5", "--rate-khz", "5", "--threshold", "5"], "give one of them"),
        (["one.h5", "--student", "nobody"], "has no student 'nobody'"),
        (["flat.npz"], r"events of shape (250,); the network reads (18, 14, 1)"),
        (["off.npz"], "off.npz: event 8 has the value 1024"),
    ],
)
def test_refusals(l1kd: Any, tmp_path: Path, run: Path, arguments: list[str], message: str) -> None:
    write_regions(tmp_path / "one.h5", regions(9))
    np.savez(tmp_path / "flat.npz", events=np.zeros((4, 250), np.int16))
    off = np.zeros((9, 252), np.int16)
    off[8, 7] = 1024
    np.savez(tmp_path / "off.npz", events=off)
    done = l1kd("score", run, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not list(tmp_path.glob("*.parquet")) and not list(tmp_path.glob(".*"))


def test_arrays_are_on_the_grid_of_the_run(l1kd: Any, tmp_path: Path) -> None:
    network = demo_student((6, 4, 1), FixedPoint(8, 4))
    events = np.random.default_rng(3).integers(-128, 128, (40, 6, 4)) / 16
    np.savez(tmp_path / "new.npz", other=[1], mine=events.astype(np.float32))
    np.savez_compressed(tmp_path / "packed.npz", mine=events)
    data = {"source": "arrays", "background": [str(tmp_path / "gone.npz")]}
    run = scored_run(tmp_path / "runs" / "mine", network, data)
    done = l1kd("score", run, "new.npz:mine", "packed.npz")
    assert done.returncode == 0, done.stderr
    columns, _ = table_of(tmp_path / "mine-scores.parquet")
    assert columns["score_lsb"] == [*network.counts(events[..., None])[:, 0]] * 2
    np.savez(tmp_path / "off.npz", mine=events + 1 / 32)
    done = l1kd("score", run, "off.npz", "--out", "off.h5")
    assert done.returncode == 2 and "off.npz: event 0" in done.stderr


def test_images_come_as_idx_or_as_pixels(l1kd: Any, tmp_path: Path) -> None:
    network = demo_student((28, 28, 1), FixedPoint(8, 0, signed=False))
    pixels = np.random.default_rng(4).integers(0, 256, (11, 28, 28)).astype(np.uint8)
    header = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
    (tmp_path / "new-images.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
    np.savez(tmp_path / "new.npz", images=(pixels / 256).astype(np.float32))
    run = scored_run(tmp_path / "runs" / "images", network, {"source": "mnist"})
    done = l1kd("score", run, "new-images.gz", "new.npz", "--threshold", 5)
    assert done.returncode == 0, done.stderr
    columns, about = table_of(tmp_path / "images-scores.parquet")
    assert columns["score_lsb"] == [*network.counts(pixels[..., None] / 256)[:, 0]] * 2
    assert about["rate_khz"] is None and about["threshold"] == 5
    done = l1kd("rates", run)
    assert done.returncode == 2 and "are no bunch crossings" in done.stderr


def test_python_scores_any_array(run: Path, tmp_path: Path) -> None:
    opened, events = package.open_run(run), regions(40)
    wanted = NETWORK.counts(events[..., None])[:, 0]
    mapped = np.memmap(tmp_path / "raw", np.int16, "w+", shape=events.shape)
    mapped[:] = events
    for form in (events, events[..., None], events.reshape(40, -1), mapped, events.tolist()):
        scores = opened.score(form)
        assert scores.dtype == np.int64 and np.array_equal(scores, wanted)
    assert opened.score(events[:0]).shape == (0,)
    events[21, 0, 0] = -1
    with pytest.raises(package.UserError, match="event 21 has the value -1"):
        opened.score(events)
    with pytest.raises(package.UserError, match="the network reads"):
        opened.score(events[:, :17])


def test_rates_and_thresholds_are_each_other(l1kd: Any, run: Path) -> None:
    opened = package.open_run(run)
    normal = opened.test_scores()["test"]
    level = opened.threshold(rate_khz=100)
    assert isinstance(level, Threshold)
    rate = opened.rate(level)
    assert rate.low < rate.khz <= 100 < opened.rate(level - 1).khz
    assert rate.khz == pytest.approx(np.mean(normal >= level) * 28_610)
    assert rate.low < rate.khz < rate.high
    assert opened.rate(2**16).khz == opened.rate(2**16).low == 0 < opened.rate(2**16).high
    fast = opened.rate(level, crossings_mhz=40)
    assert np.divide(fast, rate) == pytest.approx(40_000 / 28_610)
    found = json.loads(l1kd("rates", run, "--khz", 100, "--format", "json").stdout)
    (point,) = found["points"]
    assert (found["student"], found["crossings_mhz"]) == (opened.best, 28.61)
    assert [point[key] for key in ("threshold", "rate_khz", "rate_low", "rate_high")] == [
        level,
        *rate,
    ]
    assert point["efficiency"]["ttbar"] == np.mean(opened.test_scores()["ttbar"] >= level)
    back = json.loads(l1kd("rates", run, "--threshold", level, "--format", "json").stdout)
    assert back["points"] == [{**point, "target_khz": None}]


def test_rates_tell_what_the_sample_cannot_say(l1kd: Any, run: Path) -> None:
    """5,000 normals: one of them is 5.7 kHz."""
    shown = l1kd("rates", run)
    assert shown.returncode == 0, shown.stderr
    assert "5000 test normals say nothing of 3 kHz" in shown.stdout
    assert "| 68 % interval" in shown.stdout and "repeated collisions count once" in shown.stdout
    assert "|           10.0 |" in shown.stdout and "|           30.0 |" in shown.stdout
    asked = l1kd("rates", run, "--khz", 3)
    assert asked.returncode == 2 and "ask for a higher rate" in asked.stderr


def test_crossings_are_configured(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", NETWORK)
    text = (run / "config.yaml").read_text()
    assert "crossings_mhz: null" in text
    (run / "config.yaml").write_text(text.replace("crossings_mhz: null", "crossings_mhz: 40.0"))
    opened = package.open_run(run)
    assert opened.threshold(40) == opened.threshold(28.61, crossings_mhz=28.61)
    assert opened.rate(opened.threshold(40)).khz == pytest.approx(40, abs=8)
