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
    """The layers and widths of a `set` with windows of 2 x 2 regions, with random weights."""
    random = np.random.default_rng(0)
    rows, columns = shape[0] // 2, shape[1] // 2
    nodes: list[layers.Node] = [layers.Input(name="in", sources=(), shape=shape, type=port)]

    def add(kind: Any, name: str, *to: int, **more: Any) -> None:
        nodes.append(kind(name=name, sources=(nodes[-1].name,), shape=to, **more))

    def weights(*sides: int, bits: int, shift: int) -> dict[str, Any]:
        bias = integers(random, sides[-1:], 6)
        kernel = abs(integers(random, sides, bits))
        return {"kernel": kernel, "kernel_fraction": shift, "bias": bias, "bias_fraction": 3}

    relu = FixedPoint(10, 8, signed=False)
    kernel = weights(2, 2, 1, 6, bits=4, shift=3)
    add(layers.Conv, "conv1", rows, columns, 6, **kernel, strides=(2, 2))
    add(layers.Quantize, "conv1_relu", rows, columns, 6, type=relu)
    add(layers.Sum, "sum1", 1, columns, 6, axes=(0,))
    add(layers.Reshape, "flatten", columns * 6)
    for number, inputs in enumerate((columns * 6, 12), 1):
        add(layers.Dense, f"dense{number}", 12, **weights(inputs, 12, bits=6, shift=11 - number))
        add(layers.Quantize, f"dense{number}_relu", 12, type=relu)
    add(layers.Dense, "output", 1, **weights(12, 1, bits=8, shift=9))
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
