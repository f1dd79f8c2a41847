"""The exact reference: events per second, against QKeras and against our C simulation.

`make bench` runs it and records `results/exact.json`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.config import Score, Student
from l1kd.core.context import cores
from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.evaluation.evaluate import scorer
from l1kd.firmware.hls import hls4ml_convert
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read

RESULTS = Path(__file__).parent / "results" / "exact.json"
REPEATS = 5
CASES = {
    "conv-18x14": ("conv", (18, 14, 1), FixedPoint(11, 11), 40_000),
    "cicada_v1-18x14": ("cicada_v1", (18, 14, 1), FixedPoint(11, 11), 40_000),
    "s7-28x28": ("s7", (28, 28, 1), FixedPoint(9, 1), 4_000),
}


def median_rate(predict: Callable[[], Any], events: int) -> float:
    """Events per second, the median of the repeats."""
    predict()
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predict()
        rates.append(events / (time.perf_counter() - started))
    return statistics.median(rates)


@pytest.mark.csim
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_exact_speed(case: str, tmp_path: Path) -> None:
    architecture, shape, grid, count = CASES[case]
    student = Student(name="bench", architecture=architecture, hidden=[16])  # type: ignore[arg-type]
    model = build_student(student, shape, grid, Score())
    random = np.random.default_rng(0)
    events = (random.integers(0, 256, (count, *shape)) * grid.lsb).astype(np.float32)
    exact, qkeras = read(model), scorer(model, shape)
    project = hls4ml_convert.to_hls(model, tmp_path / "p", io_type="io_stream")
    project.compile()
    assert (exact.predict(events) == qkeras(events)).all()
    assert (exact.predict(events[:500]) == project.predict(events[:500])).all()
    ours = median_rate(lambda: exact.predict(events), count)
    theirs = median_rate(lambda: qkeras(events), count)
    csim = median_rate(lambda: project.predict(events), count)
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": {}}
    recorded["environment"] = {
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "repeats": REPEATS,
    }
    recorded["cases"][case] = {
        "events": count,
        "exact_events_per_s": round(ours),
        "qkeras_events_per_s": round(theirs),
        "csim_events_per_s": round(csim),
        "to_qkeras": round(ours / theirs, 2),
        "to_csim": round(ours / csim, 2),
    }
    write_json(RESULTS, recorded)
    assert ours > csim
