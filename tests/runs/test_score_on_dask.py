"""Scores and rates from a cluster of other processes: the same bytes as from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.evaluation import score_events
from tests.runs.conftest import Cluster
from tests.runs.scored import demo_student, regions, scored_run, write_regions


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, and files of events beside it."""
    monkeypatch.setattr(score_events, "_EVENTS", 64)
    for number, events in enumerate((500, 130, 0)):
        write_regions(tmp_path / f"{number}.h5", regions(events, number))
    np.savez(tmp_path / "more.npz", other=[0], events=regions(90, 9))
    return scored_run(tmp_path / "scored", demo_student())


FILES = ("0.h5", "1.h5", "2.h5", "more.npz:events")


def test_a_cluster_gives_the_bytes_of_one_process(
    l1kd: Any, run: Path, tmp_path: Path, cluster: Cluster
) -> None:
    there = ("--scheduler", cluster.address)
    for ending in ("parquet", "h5"):
        for name, where in (("one", ()), ("many", there)):
            out = f"{name}.{ending}"
            done = l1kd("score", run, *FILES, "--rate-khz", 300, "--out", out, *where)
            assert done.returncode == 0, done.stderr
        one, many = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "many"))
        assert one == many
    rates = [l1kd("rates", run, *FILES, "--khz", 300, *where) for where in ((), there)]
    assert rates[0].returncode == 0 and rates[0].stdout == rates[1].stdout, rates[1].stderr
    assert "720 events of 4 files at 28.61 MHz" in rates[0].stdout

    write_regions(tmp_path / "bad.h5", np.full((300, 18, 14), 2_000, np.int16))
    done = l1kd("score", run, "0.h5", "bad.h5", *there)
    assert done.returncode == 2 and "bad.h5: event 0 has a region of 2000" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "scored-scores.parquet").exists()


@pytest.mark.full
def test_processes_here_give_the_bytes_of_one(l1kd: Any, run: Path, tmp_path: Path) -> None:
    assert l1kd("score", run, *FILES, "--out", "one.h5").returncode == 0
    done = l1kd("score", run, *FILES, "--out", "two.h5", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_rates_of_files_are_of_their_events_alone(l1kd: Any, run: Path) -> None:
    done = l1kd("rates", run, *FILES, "--khz", 500, "--format", "json")
    found = json.loads(done.stdout)
    events = np.concatenate([regions(500, 0), regions(130, 1), regions(90, 9)])
    scores = demo_student().counts(events[..., None])[:, 0]
    (point,) = found["points"]
    allowed = int(500 / 28_610 * len(scores))
    assert np.sum(scores >= point["threshold"]) == point["normals_accepted"] <= allowed
    assert np.sum(scores >= point["threshold"] - 1) > allowed
    assert (found["events"], found["distinct_collisions"]) == (720, {})
    few = l1kd("rates", run, *FILES, "--khz", 3)
    assert few.returncode == 2 and "720 normal events say nothing of 3 kHz" in few.stderr
    none = l1kd("rates", run, "2.h5", "--threshold", 3)
    assert none.returncode == 2 and "there are no normal events" in none.stderr


def test_addresses_that_are_none(l1kd: Any, run: Path) -> None:
    done = l1kd("score", run, "0.h5", "--scheduler", "nowhere")
    assert done.returncode == 2 and "an address is like tcp://host:8786" in done.stderr
    done = l1kd("rates", run, "0.h5", "--scheduler", "tcp://a:1", "--workers", 2)
    assert done.returncode == 2 and "--workers is of this machine" in done.stderr
