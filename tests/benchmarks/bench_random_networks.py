"""Firmware against the exact evaluator on random networks: every output of every event is equal.

`make bench` runs it and records `results/random_networks.json`, seed by seed: a run that was
interrupted goes on where it was, and seeds whose network is another one, because the lint has come
to refuse the one that was drawn, are measured again. `L1KD_NETWORKS` says how many (default 300).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from l1kd.core.context import cores
from l1kd.core.files import write_json
from tests.firmware import random_networks

RESULTS = Path(__file__).parent / "results" / "random_networks.json"
NETWORKS = int(os.environ.get("L1KD_NETWORKS", "300"))
EVENTS = 400
AT_ONCE = 2


def versions() -> dict[str, str]:
    """What the numbers depend on: packages, and the source of the generator."""
    packages = ("l1kd", "hls4ml", "qkeras", "tensorflow", "numpy")
    source = Path(random_networks.__file__).read_bytes()
    return {
        **{name: metadata.version(name) for name in packages},
        "generator": hashlib.sha256(source).hexdigest()[:16],
    }


def measured(job: tuple[int, dict[str, Any] | None]) -> tuple[int, dict[str, Any]]:
    """One network in a process of its own, with a thread; or its record, if it has one."""
    import tensorflow as tf

    from l1kd.networks.inspect import model_hash

    (seed, known), started = job, time.perf_counter()
    tf.keras.backend.clear_session()
    specimen = random_networks.draw(seed)
    network = model_hash(specimen.model)[:16]
    if known and known["network"] == network and specimen.options.items() <= known.items():
        return seed, known
    with tempfile.TemporaryDirectory() as directory:
        record = random_networks.measure(specimen, Path(directory) / "project", EVENTS)
    seconds = round(time.perf_counter() - started, 1)
    return seed, {"network": network, **record, "seconds": seconds}


def prepare() -> None:
    """A worker's first steps: it is nice, and TensorFlow takes one thread."""
    import tensorflow as tf

    os.nice(5)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def summary(networks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What all networks say together."""
    records = list(networks.values())
    read = [record for record in records if "qkeras_mismatches" in record]
    words = Counter(
        text.split(":")[0].rstrip("0123456789")
        for record in records
        for text in record["layers"]
        if not text.startswith("input")
    )
    refused: Counter[str] = Counter()
    for record in records:
        refused.update(record["refused"])
    return {
        "networks": len(records),
        "equal": sum(record["mismatches"] == 0 for record in records),
        "different": [seed for seed, record in networks.items() if record["mismatches"]],
        "failed": [seed for seed, record in networks.items() if record["mismatches"] is None],
        "events": sum(record["events"] for record in records),
        "outputs_compared": sum(record["events"] * record["outputs"] for record in records),
        "constant_outputs": sum(not record["changing"] for record in read),
        "qkeras_equal": sum(record["qkeras_mismatches"] == 0 for record in read),
        "qkeras_different_and_not_doubted": [
            seed
            for seed, record in networks.items()
            if record.get("qkeras_mismatches") and not record["qkeras_doubted"]
        ],
        "widest_accumulator_bits": max((record["accumulator_bits"] for record in read), default=0),
        "options": {
            key: dict(Counter(str(record[key]) for record in records))
            for key in ("backend", "io_type", "strategy", "reuse")
        },
        "layers": dict(words.most_common()),
        "refused_by_the_lint": dict(refused.most_common()),
        "median_seconds": statistics.median(record["seconds"] for record in records),
    }


@pytest.mark.csim
@pytest.mark.filterwarnings("ignore")
def test_random_networks() -> None:
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    networks = recorded.get("networks", {}) if recorded.get("versions") == versions() else {}
    jobs = [(seed, networks.get(str(seed))) for seed in range(NETWORKS)]
    # A fresh process now and then: TensorFlow keeps what it has traced.
    with multiprocessing.get_context("spawn").Pool(
        min(AT_ONCE, cores()), prepare, maxtasksperchild=30
    ) as pool:
        for seed, record in pool.imap_unordered(measured, jobs):
            if networks.get(str(seed)) == record:
                continue
            networks[str(seed)] = record
            networks = dict(sorted(networks.items(), key=lambda item: int(item[0])))
            write_json(
                RESULTS,
                {"versions": versions(), "summary": summary(networks), "networks": networks},
            )
    found = summary(networks)
    assert not found["different"] and not found["failed"]
    assert not found["qkeras_different_and_not_doubted"]
