"""Expected LUTs and flip-flops of a design by Yosys, from counts of its logic.

One factor each, fitted to 30 synthesised students: on 30 others LUTs are off by 2.6 % (median; 24 %
at most), flip-flops by 3.0 % (21 % at most). Logic of another kind has to be fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Input, Quantize, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.verilog.trace_layers import SOLVER

# tests/benchmarks/results/estimates.json, by `python -m tests.benchmarks.bench_estimates`.
LUT_PER_COST = 1.491  # Yosys' LUTs per LUT of alkaid's cost model
FF_PER_REGISTER = 0.958  # Yosys' flip-flops per bit of the pipeline's registers


@dataclass(frozen=True)
class Kernel:
    """The matrix of a dense layer, or of a convolution at one position."""

    matrix: NDArray[np.float64]  # quantized weights, (inputs, outputs)
    input: FixedPoint  # type of the values that it is multiplied with
    positions: int  # times that it is applied to one event


def kernels(network: Network) -> list[Kernel]:
    """The kernels of a network, in their order."""
    found = []
    for node in network.matrices:
        source = network[node.sources[0]]
        while isinstance(source, Reshape):
            source = network[source.sources[0]]
        # The type that its values have in logic: its quantizer's, or the narrowest.
        narrowest = network.bounds[source.name].type
        kind = source.type if isinstance(source, (Quantize, Input)) else narrowest
        matrix = node.kernel.reshape(-1, node.outputs) * 2.0**-node.kernel_fraction
        found.append(Kernel(matrix, kind, node.positions))
    return found


def kernel_lut(kernel: Kernel) -> float:
    """LUTs of one matrix in distributed arithmetic, by alkaid's cost model: one per adder bit."""
    from alkaid.cmvm import cmvm_solve

    if not kernel.matrix.any():
        return 0.0
    kind = kernel.input
    ranges = [(kind.low, kind.high, kind.lsb)] * len(kernel.matrix)
    matrix = np.ascontiguousarray(kernel.matrix, np.float32)
    first, second = cmvm_solve(matrix, qintervals=ranges, latencies=[0.0] * len(ranges), **SOLVER)
    return float(first.cost + second.cost)
