"""C simulation: ours against hls4ml's own `predict`, same network, same events, same run.

`make bench` runs it and records `results/csim.json`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.config import Score, Student
from l1kd.core.context import cores
from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls import hls4ml_convert
from l1kd.networks.students import build_student

RESULTS = Path(__file__).parent / "results"
REPEATS = 5
CASES = {
    "conv-18x14-io_parallel": ("conv", (18, 14, 1), FixedPoint(11, 11), "io_parallel", 4000),
    "conv-18x14-io_stream": ("conv", (18, 14, 1), FixedPoint(11, 11), "io_stream", 4000),
    "s7-28x28-io_stream": ("s7", (28, 28, 1), FixedPoint(9, 1), "io_stream", 1000),
}


def stock(model: Any, io_type: str, directory: str) -> Any:
    """The network as hls4ml itself converts and compiles it."""
    import hls4ml

    config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend="Vitis")
    graph = hls4ml.converters.convert_from_keras_model(
        model,
        hls_config=config,
        bit_exact=True,
        backend="Vitis",
        io_type=io_type,
        output_dir=directory,
    )
    graph.compile()
    return graph


def median_rate(predict: Callable[[], Any], events: int) -> float:
    """Events per second, the median of the repeats."""
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predict()
        rates.append(events / (time.perf_counter() - started))
    return statistics.median(rates)


@pytest.mark.csim
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_csim_speed(case: str, tmp_path: Path) -> None:
    architecture, shape, grid, io_type, count = CASES[case]
    student = Student(name="bench", architecture=architecture, hidden=[16])  # type: ignore[arg-type]
    model = build_student(student, shape, grid, Score())
    random = np.random.default_rng(0)
    steps = random.integers(0, 256, (count, *shape))
    events = (steps * grid.lsb).astype(np.float32)

    project = hls4ml_convert.to_hls(model, tmp_path / "ours", io_type=io_type)  # type: ignore[arg-type]
    project.compile()
    with tempfile.TemporaryDirectory() as directory:
        theirs = stock(model, io_type, directory)
        assert (theirs.predict(events).reshape(count, -1) == project.predict(events)).all()
        peer = median_rate(lambda: theirs.predict(events), count)
    ours = median_rate(lambda: project.predict(events), count)

    path = RESULTS / "csim.json"
    recorded = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    recorded["environment"] = {
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "hls4ml": metadata.version("hls4ml"),
        "repeats": REPEATS,
    }
    recorded["cases"][case] = {
        "events": count,
        "events_per_s": round(ours),
        "peer_events_per_s": round(peer),
        "peer": "hls4ml's own compile() and predict()",
        "ratio": round(ours / peer, 2),
    }
    write_json(path, recorded)
    assert ours > peer
