"""The estimate of Verilog against Yosys: calibrated on 30 students, judged on 30 others.

The students are drawn at random: dense and convolutional ones on 18x14 and 8x8 images, small dense
ones on 12 to 57 inputs; weights of 2 to 8 bits, spread evenly, normally or in long tails as
training leaves them, up to 85 % of them zero; clock periods of 2.5 to 10 ns. Even numbers
calibrate, odd ones judge.

`make bench` does a tenth of it again and holds it against what is recorded;
`python -m tests.benchmarks.bench_estimates` does all and records `results/estimates.json`. It goes
on where it was stopped; `--fresh` starts again. It prints the coefficients that belong into
`l1kd.firmware.verilog.lut_ff_estimate`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls

from l1kd.core.files import content_hash, write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import layers as graph
from l1kd.exact.network import Network
from l1kd.firmware.verilog import alkaid_convert, lut_ff_estimate, synthesize

RESULTS = Path(__file__).parent / "results" / "estimates.json"
STUDENTS = 60
AGAIN = (1, 13, 24, 35, 46, 57)  # a tenth, both kinds
PART = "xcvu13p-flga2577-2-e"
CLOCKS = (2.5, 3.125, 4.0, 5.0, 6.25, 8.333, 10.0)  # ns
SIZES = (800, 30_000)  # in adder bits before anything is shared: see `size`
MAX_LUT_ERROR, MAX_FF_ERROR = 0.20, 0.10
# What is estimated: the count of the logic that it follows from, and the factor.
ESTIMATES = {
    "lut": ("cost", lut_ff_estimate.LUT_PER_COST),
    "ff": ("registers", lut_ff_estimate.FF_PER_REGISTER),
}


def weights(random: np.random.Generator, shape: tuple[int, ...], bits: int, sparsity: float) -> Any:
    """Weights as training leaves them, more or less; counts of `bits` bits."""
    top = 2 ** (bits - 1)
    spread = random.choice(["even", "normal", "tails"])
    if spread == "even":
        values = random.integers(-top, top, shape).astype(float)
    elif spread == "normal":
        values = random.normal(0, top / random.uniform(2, 5), shape)
    else:
        values = random.laplace(0, top / random.uniform(4, 8), shape)
    values = np.where(random.random(shape) < sparsity, 0, values)
    counts = np.clip(np.round(values), -top, top - 1).astype(np.int64)
    # Pruning leaves whole units alone seldom; a unit of nothing is no unit.
    flat = counts.reshape(-1, shape[-1])
    flat[0, ~flat.any(axis=0)] = 1
    return counts


class _Student:
    """Puts a student together, layer by layer."""

    def __init__(self, random: np.random.Generator, shape: tuple[int, ...], grid: FixedPoint):
        self.random, self.grid = random, grid
        # Few inputs are far from zero, as in a detector.
        size = (200, *shape)
        found = random.exponential(2.0 ** (grid.word - 4), size) * (random.random(size) < 0.4)
        self.events = np.clip(np.floor(found), *grid.bounds) * grid.lsb
        port = FixedPoint(grid.word + 1, grid.integer + 1)  # QKeras' sign bit, as in ours
        self.nodes: list[graph.Node] = [
            graph.Input(name="events", sources=(), shape=shape, type=grid),
            graph.Quantize(name="port", sources=("events",), shape=shape, type=port),
        ]
        self.bits = int(random.integers(2, 9))
        self.sparsity = float(random.choice([0, 0, 0.3, 0.5, 0.7, 0.85]))
        self.activation = int(random.integers(4, 11))
        self.integer = min(6, self.activation - 1)

    def _at(self, name: str, shape: tuple[int, ...]) -> Any:
        return {"name": name, "sources": (self.nodes[-1].name,), "shape": shape}

    def _affine(
        self, kind: Any, at: Any, shape: tuple[int, ...], integer: int, **more: Any
    ) -> None:
        """A layer whose sums fill a type of so many integer bits, and whose units fire at times."""
        still = np.zeros(shape[-1], np.int64)
        raw = kind(
            **at,
            **more,
            kernel=weights(self.random, shape, self.bits, self.sparsity),
            kernel_fraction=0,
            bias=still,
            bias_fraction=2,
        )
        network = Network("so far", (*self.nodes, raw), (raw.name,))
        sums = network.predict(self.events).reshape(-1, shape[-1])
        fraction = int(np.clip(np.round(np.log2(sums.std() + 1) - integer + 1), 0, 12))
        sums *= 2.0**-fraction
        bias = sums.std(axis=0) / 2 - np.quantile(sums, self.random.uniform(0.3, 0.8), axis=0)
        counts = np.round(bias * 4).astype(np.int64)
        self.nodes.append(replace(raw, kernel_fraction=fraction, bias=counts))

    def relu(self, name: str, word: int, integer: int) -> None:
        kind = FixedPoint(word, integer, False)
        self.nodes.append(graph.Quantize(**self._at(name, self.nodes[-1].shape), type=kind))

    def conv(self, filters: int, size: int, stride: int) -> None:
        height, width, channels = self.nodes[-1].shape
        shape = ((height - size) // stride + 1, (width - size) // stride + 1, filters)
        name = f"conv{len(self.nodes)}"
        kernel = (size, size, channels, filters)
        self._affine(
            graph.Conv, self._at(name, shape), kernel, self.integer, strides=(stride, stride)
        )
        self.relu(f"{name}_relu", self.activation, self.integer)

    def pool(self) -> None:
        height, width, channels = self.nodes[-1].shape
        kind: Any = self.random.choice(["average", "max"])
        at = self._at(f"pool{len(self.nodes)}", (height // 2, width // 2, channels))
        self.nodes.append(graph.Pool(**at, operation=kind, window=(2, 2), strides=(2, 2)))
        self.relu(f"{at['name']}_relu", self.activation, self.integer)

    def dense(self, units: int, *, last: bool = False) -> None:
        if len(self.nodes[-1].shape) > 1:
            flat = self._at("flatten", (self.nodes[-1].size,))
            self.nodes.append(graph.Reshape(**flat))
        name = f"dense{len(self.nodes)}"
        kernel = (self.nodes[-1].size, units)
        self._affine(graph.Dense, self._at(name, (units,)), kernel, 8 if last else self.integer)
        if not last:
            self.relu(f"{name}_relu", self.activation, self.integer)

    def network(self, name: str) -> Network:
        self.dense(1, last=True)
        self.relu("score", 16, 8)
        return Network(name, tuple(self.nodes), ("score",))


def size(network: Network) -> int:
    """Adder bits before anything is shared: non-zero digits times the width of what they meet."""
    total = 0
    for node in network.nodes:
        if isinstance(node, graph.Affine):
            magnitudes = np.abs(node.kernel).ravel()
            digits = sum(bin(3 * int(value) ^ int(value)).count("1") for value in magnitudes)
            places = node.size // node.kernel.shape[-1]
            total += digits * places * (network.bounds[node.sources[0]].type.word + 2)
    return total


def student(number: int) -> tuple[Network, float]:
    """A student and its clock period, in ns; the same ones every time."""
    for attempt in range(1000):
        random = np.random.default_rng([4, number, attempt])
        kind = ("dense", "conv", "small", "deep")[number // 2 % 4]
        clock_ns = float(random.choice(CLOCKS))
        if kind in ("dense", "conv"):
            shape = (18, 14, 1) if random.random() < 0.7 else (8, 8, 1)
            built = _Student(random, shape, FixedPoint(int(random.integers(6, 11)), 10, False))
            if kind == "conv":
                built.conv(int(random.integers(1, 5)), int(random.integers(2, 4)), 2)
                if random.random() < 0.3:
                    built.pool()
            built.dense(int(random.integers(1, 17)))
        else:
            inputs = int(random.integers(12, 58))
            built = _Student(random, (inputs,), FixedPoint(int(random.integers(6, 11)), 8, False))
            for units in random.integers(3, 25, 1 if kind == "small" else 2).tolist():
                built.dense(units)
        network = built.network(f"s{number:02d}_{kind}")
        wanted = np.exp(random.uniform(*np.log(SIZES)))
        if not wanted / 1.5 < size(network) < wanted * 1.5:
            continue
        if len(np.unique(network.predict(built.events))) > 20:  # its scores tell events apart
            return network, clock_ns
    raise AssertionError(f"no student {number}")


def measured(number: int) -> dict[str, Any]:
    """What a student is expected to take, and what Yosys makes of it."""
    network, clock_ns = student(number)
    expected = alkaid_convert.estimate(network, clock_ns=clock_ns)
    with tempfile.TemporaryDirectory() as work:
        logic = alkaid_convert.to_verilog(network, Path(work, "rtl"), clock_ns=clock_ns, part=PART)
        found = synthesize.synthesize(
            Path(work, "rtl"), logic.record.top, part=PART, time_limit_s=1800
        )
    return {
        "student": network.name,
        "set": "judged" if number % 2 else "calibration",
        "network": content_hash(network.to_json()),
        "clock_ns": clock_ns,
        "features": {
            name: getattr(expected, what) / factor for what, (name, factor) in ESTIMATES.items()
        },
        "tool": found.tool,
        "lut": found.lut,
        "ff": found.ff,
        "seconds": found.seconds,
    }


def errors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Relative errors of the estimate in `rows`."""
    found = {}
    for what, (name, factor) in ESTIMATES.items():
        off = [factor * row["features"][name] / row[what] - 1 for row in rows]
        found[what] = {
            "median_absolute": round(statistics.median(map(abs, off)), 4),
            "largest_absolute": round(max(map(abs, off)), 4),
            "median": round(statistics.median(off), 4),
        }
    return found


def fitted(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Factors, not negative, that make the relative errors of `rows` smallest."""
    found = {}
    for what, (name, _) in ESTIMATES.items():
        matrix = [[row["features"][name] / row[what]] for row in rows]
        values, _ = nnls(np.array(matrix), np.ones(len(rows)))
        found[what] = round(float(values[0]), 3)
    return found


def recorded() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"students": []}


def of_set(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["set"] == name]


def test_a_tenth_again() -> None:
    rows = {row["student"]: row for row in recorded()["students"]}
    again = [measured(number) for number in AGAIN]
    for row in again:
        before = rows[row["student"]]
        assert row["network"] == before["network"]
        assert row["ff"] == pytest.approx(before["ff"], rel=0.02)
        assert row["lut"] == pytest.approx(before["lut"], rel=0.02)
    found = errors(again)
    assert found["lut"]["median_absolute"] <= MAX_LUT_ERROR
    assert found["ff"]["median_absolute"] <= MAX_FF_ERROR


def main() -> None:
    results = {"students": []} if "--fresh" in sys.argv else recorded()
    done = {row["student"]: row for row in results["students"]}
    for number in range(STUDENTS):
        network, clock_ns = student(number)
        before = done.get(network.name)
        if before and before["network"] == content_hash(network.to_json()):
            continue
        row = measured(number)
        done[network.name] = row
        results["students"] = [done[name] for name in sorted(done)]
        write_json(RESULTS, results)
        took = f"{row['lut']} LUT, {row['ff']} FF in {row['seconds']:.0f} s"
        print(f"{network.name}, {clock_ns} ns: {took}", flush=True)
    rows = results["students"]
    print(json.dumps(fitted(of_set(rows, "calibration")), indent=1))
    results["errors"] = {name: errors(of_set(rows, name)) for name in ("calibration", "judged")}
    results["part"] = PART
    write_json(RESULTS, results)
    print(json.dumps(results["errors"], indent=1))


if __name__ == "__main__":
    main()
