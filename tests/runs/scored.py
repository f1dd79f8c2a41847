"""Runs with an exact network and scores, without a training: what scores new events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import layers
from l1kd.exact.network import Network
from tests.exact.networks import integers
from tests.report.conftest import STUDENTS, make_run

PORT = FixedPoint(10, 10, signed=False)


def demo_student(shape: tuple[int, int, int] = (18, 14, 1), port: FixedPoint = PORT) -> Network:
    """The layers and widths of the demo's student `conv`, with random weights."""
    random = np.random.default_rng(0)
    rows, columns = shape[0] // 2, shape[1] // 2
    nodes: list[layers.Node] = [layers.Input(name="in", sources=(), shape=shape, type=port)]

    def add(kind: Any, name: str, *to: int, **more: Any) -> None:
        nodes.append(kind(name=name, sources=(nodes[-1].name,), shape=to, **more))

    def weights(*sides: int, bits: int, shift: int) -> dict[str, Any]:
        bias = integers(random, sides[-1:], 6)
        kernel = abs(integers(random, sides, bits))
        return {"kernel": kernel, "kernel_fraction": shift, "bias": bias, "bias_fraction": 3}

    relu = FixedPoint(10, 6, signed=False)
    kernel = weights(2, 2, 1, 4, bits=4, shift=6)
    add(layers.Conv, "conv1", rows, columns, 4, **kernel, strides=(2, 2))
    add(layers.Quantize, "conv1_relu", rows, columns, 4, type=relu)
    add(layers.Reshape, "flatten", rows * columns * 4)
    add(layers.Dense, "dense1", 16, **weights(rows * columns * 4, 16, bits=8, shift=11))
    add(layers.Quantize, "dense1_relu", 16, type=relu)
    add(layers.Dense, "output", 1, **weights(16, 1, bits=8, shift=6))
    add(layers.Quantize, "score", 1, type=FixedPoint(16, 8, signed=False))
    return Network("demo", tuple(nodes), ("score",))


def scored_run(directory: Path, network: Network, data: dict[str, Any] | None = None) -> Path:
    """A run whose students have this network; `data` replaces the section of its configuration."""
    run = make_run(directory, name="scored", stages=("train", "evaluate"), events=5_000)
    for student in STUDENTS:
        (run / "firmware" / student).mkdir(parents=True)
        network.save(run / "firmware" / student / "network.json")
    if data is not None:
        stored = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump({**stored, "data": data}))
    return run


def regions(events: int, seed: int = 0) -> Any:
    """Counts (events, 18, 14) like a calorimeter's."""
    return np.random.default_rng(seed).exponential(6, (events, 18, 14)).astype(np.int16)


def write_regions(path: Path, events: Any, key: str = "CaloRegions") -> Path:
    """A file as CICADA's have it."""
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=events)
    return path
