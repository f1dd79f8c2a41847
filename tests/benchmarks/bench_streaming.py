"""Memory and speed of training and of `l1kd score` from 200,000 to 5,000,000 events.

`make bench` runs it and records `results/streaming.json`; it needs 6 GB under `$TMPDIR` and 4 GB in
`$L1KD_BENCH_WORK` (runs/bench-streaming), where finished pieces are kept: stopped, it goes on where
it was. Speed is CPU time per event: passes over the small and over the large data set take turns in
one process. `L1KD_BENCH_REPEATS` (5) is the number of passes that medians are of.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from l1kd.core.context import cores
from l1kd.core.files import atomic, read_json, write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import layers
from l1kd.exact.network import Network
from tests.data.event_files import KINDS
from tests.exact.networks import integers
from tests.runs.scored import demo_student, scored_run

RESULTS = Path(__file__).parent / "results" / "streaming.json"
SAMPLE = Path(__file__).parents[2] / "l1kd" / "data" / "samples" / "l1toy" / "test.h5"
SMALL, LARGE = 200_000, 5_000_000
PART = 50_000  # events that files repeat
PASS = 400_000  # events of a pass over the large set whose time is taken
MOST_MB, LEAST_RATIO = 150, 0.8
WORK = Path(os.environ.get("L1KD_BENCH_WORK", "runs/bench-streaming"))
REPEATS = int(os.environ.get("L1KD_BENCH_REPEATS", "5"))
INPUT = """
import json, resource, statistics, sys, time
from pathlib import Path
from l1kd.core import config_file
from l1kd.data.sources import open_dataset

def taken(dataset, limit, epoch):
    events, started = 0, time.process_time()
    for batch in dataset.train.shuffled(256, 7, epoch):
        events += len(batch)
        if events >= limit:
            break
    return (time.process_time() - started) / events * 1e6

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

*files, most, repeats = sys.argv[1:]
sets = [open_dataset(config_file.load(Path(files[0])).data, 7)]
opened = time.process_time()
taken(sets[0], len(sets[0].train), 0)  # a whole epoch
found = {"peak_mb": round(peak()), "opened_us": opened / len(sets[0].train) * 1e6}
turns = range(1, 1 + int(repeats))
if len(files) > 1:
    sets.append(open_dataset(config_file.load(Path(files[1])).data, 7))
    rows = [[taken(each, int(most), epoch) for each in sets] for epoch in turns]
    found["us"] = [statistics.median(column) for column in zip(*rows)]
from l1kd.networks.tensorflow_setup import prepare_tensorflow
prepare_tensorflow(1)
import tensorflow as tf
from l1kd.training import train
from l1kd.training.exposure import Batches
config = config_file.load(Path(files[0]))
distiller = train.build(config, sets[0])

def trained(dataset, epoch, steps=40):
    kinds = config.teacher.kinds
    batches, events = Batches(dataset, config.distillation, 7, kinds).training(epoch), 0
    next(batches)
    started = time.process_time()
    for _, batch in zip(range(steps), batches):
        distiller.step(*map(tf.constant, batch), True, teacher=True, students=True)
        events += len(batch[0])
    batches.close()
    return (time.process_time() - started) / events * 1e6

trained(sets[0], 99, 3)
rows = [[trained(each, epoch) for each in sets] for epoch in turns]
found["trained_us"] = [statistics.median(column) for column in zip(*rows)]
found["trained_peak_mb"] = round(peak())
print(json.dumps(found))
"""


def write_objects(path: Path, events: int) -> Path:
    """Events of the CMS Level-1 set's schema, in row groups of `PART`."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for kind, (branches, tops, most) in KINDS.items():
        lengths = random.integers(0, most + 1, PART)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        for branch, low, high in zip(branches, (1, -tops[1], 0), tops, strict=True):
            values = random.integers(low, high, offsets[-1], dtype=np.int32)
            columns[f"{kind}_{branch}"] = pyarrow.LargeListArray.from_arrays(offsets, values)
    ones = np.arange(PART + 1)
    for name, high in (("MET_Et", 900), ("MET_phi", 144), ("ET_Et", 4000)):
        values = random.integers(0, high, PART, dtype=np.int32)
        columns[name] = pyarrow.LargeListArray.from_arrays(ones, values)
    table = pyarrow.table(columns)
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(events // PART):
            writer.write_table(table)
    return path


def write_regions(path: Path, events: int) -> Path:
    """Events of the embedded sample in their compressed chunks, over and over again."""
    with h5py.File(SAMPLE) as source, h5py.File(path, "w") as file:
        old = source["CaloRegions"]
        made: Any = file.create_dataset(
            "CaloRegions", (events, 18, 14), old.dtype, chunks=old.chunks,
            compression="gzip", compression_opts=9, shuffle=True,
        )  # fmt: skip
        rows = old.chunks[0]
        for row in range(0, events, rows):
            mask, data = old.id.read_direct_chunk((row % (50_000 // rows * rows), 0, 0))
            made.id.write_direct_chunk((row, 0, 0), data, mask)
    return path


def dense_student() -> Network:
    """A dense network of the default's size on objects, with random weights."""
    random = np.random.default_rng(0)
    port, relu = FixedPoint(13, 9), FixedPoint(10, 5, signed=False)
    nodes: list[layers.Node] = [layers.Input(name="in", sources=(), shape=(27, 3), type=port)]

    def add(kind: Any, name: str, *to: int, **more: Any) -> None:
        nodes.append(kind(name=name, sources=(nodes[-1].name,), shape=to, **more))

    add(layers.Reshape, "flatten", 81)
    for number, (inputs, units) in enumerate([(81, 32), (32, 16), (16, 1)], 1):
        kernel = integers(random, (inputs, units), 8)
        bias = integers(random, (units,), 6)
        options = {"kernel": kernel, "kernel_fraction": 7, "bias": bias, "bias_fraction": 3}
        add(layers.Dense, f"dense{number}", units, **options)
        kind = relu if units > 1 else FixedPoint(16, 8, signed=False)
        add(layers.Quantize, f"relu{number}", units, type=kind)
    return Network("dense", tuple(nodes), (nodes[-1].name,))


def section(source: str, path: Path) -> dict[str, Any]:
    """A configuration's data."""
    return {"source": source, "background": [str(path)], "split": [0.6, 0.1, 0.3]}


def input_of(*files: Path) -> dict[str, Any]:
    """Memory of the first data set's input, and times of all, in a process of its own."""
    command = [sys.executable, "-c", INPUT, *map(str, files), str(PASS), str(REPEATS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scored(run: Path, file: Path) -> dict[str, float]:
    """CPU seconds and the largest memory of one call."""
    out = file.with_suffix(".scores.parquet")
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "l1kd", "score", str(run), str(file), "--out", str(out)]
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(process, 0)
    assert status == 0
    out.unlink()
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def piece(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A piece's measurement, made unless it is kept; with the minutes it took."""
    if not path.exists():
        started = time.time()
        write_json(path, {**make(), "minutes": (time.time() - started) / 60})
    found: dict[str, Any] = read_json(path)
    return found


@pytest.mark.parametrize("source", ["cmsl1", "calo"])
def test_streaming(source: str, tmp_path: Path) -> None:
    write: Callable[[Path, int], Path] = write_objects if source == "cmsl1" else write_regions
    work, ending = (WORK / source).absolute(), "parquet" if source == "cmsl1" else "h5"
    files, configs = {}, {}
    for size in (PART, SMALL, LARGE):
        files[size] = file = work / f"{size}.{ending}"
        if not file.exists():
            with atomic(file) as temporary:
                write(temporary, size)
        configs[size] = work / f"{size}.yaml"
        configs[size].write_text(json.dumps({"data": section(source, file)}))
    small, alone = (
        piece(work / f"{n}.json", lambda n=n: input_of(configs[n])) for n in (SMALL, LARGE)
    )
    large = piece(work / "both.json", lambda: input_of(configs[LARGE], configs[SMALL]))
    network = dense_student() if source == "cmsl1" else demo_student()
    run = scored_run(tmp_path / "run", network, section(source, files[SMALL]))

    def scores() -> dict[str, Any]:
        return {str(size): scored(run, file) for size, file in files.items()}

    rounds = [piece(work / f"round{number}.json", scores) for number in range(REPEATS)]
    fixed = statistics.median(each[str(PART)]["cpu_s"] for each in rounds)
    sizes = (SMALL, LARGE)
    per_event = {
        size: statistics.median(
            (each[str(size)]["cpu_s"] - fixed) / (size - PART) for each in rounds
        )
        for size in sizes
    }
    peaks = {size: max(each[str(size)]["peak_mb"] for each in rounds) for size in sizes}
    found = {
        "environment": {"cores": cores(), "load": round(os.getloadavg()[0], 1), "repeats": REPEATS},
        "events": [SMALL, LARGE],
        "minutes": round(sum(e["minutes"] for e in (small, alone, large, *rounds)), 1),
        "training_input": {
            "peak_mb": [small["peak_mb"], alone["peak_mb"]],
            "growth_mb": alone["peak_mb"] - small["peak_mb"],
            "cpu_us_per_event": [round(us, 3) for us in reversed(large["us"])],
            "throughput_ratio": round(large["us"][1] / large["us"][0], 3),
            "opening_cpu_us_per_training_event": round(large["opened_us"], 2),
        },
        "training": {
            "peak_mb": [small["trained_peak_mb"], alone["trained_peak_mb"]],
            "growth_mb": alone["trained_peak_mb"] - small["trained_peak_mb"],
            "cpu_us_per_event": [round(us, 3) for us in reversed(large["trained_us"])],
            "throughput_ratio": round(large["trained_us"][1] / large["trained_us"][0], 3),
        },
        "scoring": {
            "peak_mb": [round(peaks[SMALL]), round(peaks[LARGE])],
            "growth_mb": round(peaks[LARGE] - peaks[SMALL]),
            "cpu_us_per_event": [round(1e6 * per_event[size], 3) for size in sizes],
            "throughput_ratio": round(per_event[SMALL] / per_event[LARGE], 3),
        },
    }
    whole = read_json(RESULTS) if RESULTS.exists() else {}
    write_json(RESULTS, {**whole, source: found})
    shutil.rmtree(work)
    for part in ("training_input", "training", "scoring"):
        assert found[part]["growth_mb"] <= MOST_MB, found
    for part in ("training", "scoring"):
        assert found[part]["throughput_ratio"] >= LEAST_RATIO, found
