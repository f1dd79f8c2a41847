"""Operations, CPU time and toggles of one event, in the teacher and in each student."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import CpuTime, NetworkCost, Toggles
from l1kd.exact.layers import Affine, Sum
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.symbolic import Unproved
from l1kd.firmware.run_firmware import Student, too_large
from l1kd.firmware.verilog.toggles import count_toggles

KERAS, EXACT = "TensorFlow, float32", "exact network, NumPy"
BATCH = 1024
_TOGGLED = 1000  # events
_LEAST_S = 0.1  # of CPU time behind a number
_RAPL = Path("/sys/class/powercap")


def bit_operations(macs: int, outputs: int, a: int, w: int, zeros: float = 0.0) -> float:
    """Bit operations of multiply-accumulates of `a`-bit inputs and `w`-bit weights.

    As in "Ps and Qs" (arXiv 2102.11289, eq. 1): a product costs a * w, unless its weight is zero
    (a share of `zeros`), and adding it to a sum of n costs a + w + log2 n.
    """
    if not macs:
        return 0.0
    return macs * ((1 - zeros) * a * w + a + w + math.log2(macs / outputs))


def _held(weights: NDArray[np.int64]) -> int:
    return FixedPoint.holding(int(weights.min()), int(weights.max()), 0).word


def operations(network: Network) -> tuple[int, float, int, float]:
    """Multiply-accumulates, bit operations, weights and their bytes of an exact network.

    Weights are as wide as their layer's widest. Sums cost their additions alone; pools, merges and
    quantizers are left out.
    """
    macs, bits, params, size = 0, 0.0, 0, 0
    for node in network.nodes:
        if isinstance(node, Affine):
            inputs = network.bounds[node.sources[0]].type.word
            products = node.size * math.prod(node.kernel.shape[:-1])
            zeros = float(np.mean(node.kernel == 0))
            bits += bit_operations(products, node.size, inputs, _held(node.kernel), zeros)
            macs += products
            used = [node.kernel, *([node.bias] if node.bias.any() else [])]
            params += sum(each.size for each in used)
            size += sum(each.size * _held(each) for each in used)
        elif isinstance(node, Sum):
            source = network[node.sources[0]]
            word = network.bounds[source.name].type.word
            bits += bit_operations(source.size, node.size, word, 0)
    return macs, bits, params, size / 8


def float_operations(model: Any) -> tuple[int, float]:
    """Multiply-accumulates and bit operations of a Keras network in float32."""
    macs, bits = 0, 0.0
    for layer in model.layers:
        if (kernel := getattr(layer, "kernel", None)) is not None:
            # A transposed convolution applies its kernel at every input, others at every output.
            ends = layer.input_shape if "Transpose" in type(layer).__name__ else layer.output_shape
            products = math.prod(kernel.shape) * math.prod(ends[1:-1])
            macs += products
            bits += bit_operations(products, math.prod(layer.output_shape[1:]), 32, 32)
    return macs, bits


def processor_joules(root: Path | None = None) -> Callable[[], float] | None:
    """A clock of joules that the processor's packages used since now, by RAPL; None without it."""
    names = sorted((root or _RAPL).glob("intel-rapl:*"))  # AMD's are named so, too
    packages = [name for name in names if name.name.count(":") == 1]

    def read(package: Path, name: str) -> int:
        return int((package / name).read_text(encoding="utf-8"))

    try:
        ranges = [read(package, "max_energy_range_uj") for package in packages]
        begun = [read(package, "energy_uj") for package in packages]
    except (OSError, ValueError):
        return None
    if not packages:
        return None

    def used() -> float:
        now = [read(package, "energy_uj") for package in packages]
        spent = zip(now, begun, ranges, strict=True)
        return sum((end - start) % (largest + 1) for end, start, largest in spent) * 1e-6

    return used


def _timed(name: str, compute: Callable[[Any], Any], events: NDArray[Any]) -> CpuTime:
    """CPU time of all threads per event, of a network that has run once."""
    compute(events)
    joules, started, calls = processor_joules(), time.process_time(), 0
    while (spent := time.process_time() - started) < _LEAST_S:
        compute(events)
        calls += 1
    total = calls * len(events)
    energy = None if joules is None else joules() / total
    return CpuTime(implementation=name, batch=len(events), seconds=spent / total, joules=energy)


def _both(name: str, compute: Callable[[Any], Any], events: NDArray[Any]) -> list[CpuTime]:
    return [_timed(name, compute, part) for part in (events[:1], events[:BATCH])]


def teacher_cost(context: Context) -> NetworkCost:
    """The teacher, in float32."""
    import l1kd
    from l1kd.evaluation.evaluate import scorer

    model = l1kd.load_model(context.teacher_file)
    macs, bits = float_operations(model)
    metrics: run_files.Metrics = run_files.read(context.directory, "metrics.json")
    assert metrics.teacher is not None
    events = context.dataset.test.events(limit=BATCH)
    return NetworkCost(
        student=None,
        params=metrics.teacher.params,
        weight_bytes=4.0 * metrics.teacher.params,
        macs=macs,
        bit_operations=bits,
        cpu=_both(KERAS, scorer(model, context.dataset.shape), events),
    )


def student_cost(context: Context, student: Student) -> NetworkCost:
    """A student: its float twin and its exact network on the CPU, its Verilog's toggles."""
    import l1kd
    from l1kd.evaluation.evaluate import scorer
    from l1kd.networks.inspect import float_twin

    macs, bits, params, size = operations(student.exact)
    sample = context.dataset.test
    events = sample.events(limit=BATCH)
    cpu = _both(EXACT, student.exact.counts, events)
    if not context.config.imported:  # others' networks have layers without a float twin
        twin = float_twin(l1kd.load_model(context.student_file(student.name)))
        cpu += _both(KERAS, scorer(twin, context.dataset.shape), events)
    toggles, note = _toggles(context, student, sample.events(limit=_TOGGLED))
    return NetworkCost(
        student=student.name,
        params=params,
        weight_bytes=size,
        macs=macs,
        bit_operations=bits,
        cpu=cpu,
        toggles=toggles,
        note=note,
    )


def _toggles(
    context: Context, student: Student, events: NDArray[Any]
) -> tuple[Toggles | None, str | None]:
    """Toggles of a student's Verilog; or why there are none."""
    if (logic := student.logic) is None:
        return None, "no Verilog that can be read"
    if reason := too_large(context, logic):
        return None, reason
    if len(events) < 2:
        return None, "one event toggles nothing"
    try:
        return count_toggles(logic, events), None
    except (CheckFailed, Unproved, Unreadable) as error:
        return None, str(error)
