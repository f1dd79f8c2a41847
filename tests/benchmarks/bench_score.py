"""`l1kd score`: events per second of the demo's student, memory, what limits both, and two peers.

Times are of the cores, which other programs on the machine change little. The peers, on the same
events in memory: one dense layer of 12 units in plain NumPy (float32, no quantizer), and Keras'
`predict` of the same student, which is not exact beyond 24 bits and gives no integers.

`make bench` runs it and records `results/score.json`; 10^7 events need 1.5 GB under `$TMPDIR`.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from threadpoolctl import threadpool_limits

from l1kd.core.context import cores
from l1kd.core.files import write_json
from l1kd.data.calorimeter import region_table
from tests.runs.scored import demo_student, scored_run, write_regions

RESULTS = Path(__file__).parent / "results" / "score.json"
SAMPLE = Path(__file__).parents[2] / "l1kd" / "data" / "samples" / "l1toy" / "test.h5"
SIZES = (100_000, 10_000_000)
CHUNK = 2_000  # events, as `l1kd data generate` stores them
BAR = 100_000  # events per second on two cores
REPEATS = 3


def many(path: Path, events: int) -> Path:
    """Events of the embedded sample in their compressed chunks, over and over again."""
    with h5py.File(SAMPLE) as source, h5py.File(path, "w") as file:
        old = source["CaloRegions"]
        made: Any = file.create_dataset(
            "CaloRegions", (events, 18, 14), old.dtype, chunks=(CHUNK, 18, 14),
            compression="gzip", compression_opts=9, shuffle=True,
        )  # fmt: skip
        for row in range(0, events, CHUNK):
            mask, data = old.id.read_direct_chunk((row % 50_000, 0, 0))
            made.id.write_direct_chunk((row, 0, 0), data, mask)
    return path


def measured(run: Path, file: Path, *more: str) -> dict[str, float]:
    """Seconds by the clock and of the cores, and the largest memory, of one call."""
    out = file.with_suffix(".parquet")
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "l1kd", "score", run, file, "--out", out, *more]
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, list(map(str, command)), os.environ)
    _, status, used = os.wait4(process, 0)
    assert status == 0
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def cpu_us(function: Callable[[], Any], events: int) -> float:
    """Microseconds of one core per event, the best of the repeats."""
    found = []
    for _ in range(REPEATS):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return round(min(found) / events * 1e6, 2)


def keras_student() -> Any:
    """The demo's student, untrained, as Keras computes it."""
    from l1kd.core.config import Score, Student
    from l1kd.core.fixed_point import FixedPoint
    from l1kd.networks.students import build_student

    student = Student.model_validate({"architecture": "set", "hidden": [12, 12]})
    return build_student(student, (18, 14, 1), FixedPoint(11, 11), Score())


def test_score_speed_and_memory(tmp_path: Path) -> None:
    network = demo_student()
    run = scored_run(tmp_path / "run", network)
    nothing = measured(run, write_regions(tmp_path / "one.h5", np.zeros((1, 18, 14), np.int16)))
    cases = {}
    for events in SIZES:
        file = many(tmp_path / f"{events}.h5", events)
        cases[str(events)] = measured(run, file, "--rate-khz", "300")
        if events > SIZES[0]:
            file.unlink()
    small, large = (cases[str(events)] for events in SIZES)
    table = region_table(tmp_path / f"{SIZES[0]}.h5")
    part = table.read(0, 32_000)
    with threadpool_limits(1):
        steps = {
            "read_hdf5": cpu_us(lambda: table.read(0, 32_000), 32_000),
            "port": cpu_us(lambda: network.port_counts(part), 32_000),
            "network": cpu_us(lambda: network.counts(part), 32_000),
        }
    kernel = np.ones((252, 12), np.float32)
    with threadpool_limits(1):
        layer = cpu_us(lambda: part.reshape(-1, 252).astype(np.float32) @ kernel, 32_000)
    model, floats = keras_student(), part.astype(np.float32)
    predict = cpu_us(lambda: model.predict(floats, batch_size=4096, verbose=0), 32_000)
    whole = (large["cpu_seconds"] - nothing["cpu_seconds"]) / SIZES[1] * 1e6
    taken = large["cpu_seconds"] / large["seconds"]
    found = {
        "environment": {
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "machine": platform.machine(),
            "cores_that_others_left_us": round(taken, 2),
        },
        "cases": {"1": nothing, **cases},
        "cpu_us_per_event": {**steps, "all": round(whole, 2)},
        "peers": {
            "numpy_dense_layer_us": layer,
            "keras_predict_us": predict,
            "network_over_numpy_dense_layer": round(steps["network"] / layer, 2),
            "keras_predict_over_network": round(predict / steps["network"], 2),
        },
        "events_per_s": round(SIZES[1] / (large["seconds"] - nothing["seconds"])),
        "events_per_s_of_a_core": round(1e6 / whole),
        "events_per_s_of_two_cores": round(2e6 / whole),
        "memory_ratio": round(large["peak_mb"] / small["peak_mb"], 2),
    }
    write_json(RESULTS, found)
    assert found["events_per_s_of_two_cores"] >= BAR
    assert found["memory_ratio"] <= 1.25
