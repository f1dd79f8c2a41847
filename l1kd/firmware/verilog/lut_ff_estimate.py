"""Expected LUTs and flip-flops of a design by Yosys, from counts of its logic.

alkaid's cost model counts LUTs as a vendor's tool packs them: an adder of three inputs takes one a
bit, Yosys takes more. One factor, fitted to 30 synthesised students, is enough: on 30 others LUTs
are off by 2.6 % (median; 24 % at most), flip-flops by 3.0 % (21 % at most). The largest errors are
small convolutions, mostly rounding and saturation. `tests/benchmarks/bench_estimates.py` fits and
judges; it has to run again when `alkaid_convert` writes logic of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Dense, Input, Quantize, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.verilog.trace_layers import SOLVER


@dataclass(frozen=True)
class Features:
    """Counts of a design's logic; only `cost` and `registers` enter the estimate."""

    adder_bits: float  # carry chains of adders with two inputs, by alkaid's cost model
    ternary_bits: float  # of adders with three inputs
    constant_bits: float  # widths of sums with a constant
    mux_bits: float  # widths that a sign chooses
    gate_bits: float  # widths of single-bit operations
    product_bits: float  # products of two variables: product of their widths
    table_cost: float  # of lookup tables, by alkaid
    registers: float  # bits
    stages: int  # planes of registers
    input_bits: float
    output_bits: float
    cost: float  # LUTs, by alkaid


# tests/benchmarks/results/estimates.json, by `python -m tests.benchmarks.bench_estimates`.
COEFFICIENTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"lut": {"cost": 1.491}, "ff": {"registers": 0.958}}
)


def lut(features: Features) -> float:
    """Expected LUTs, as `l1kd.firmware.verilog.synthesize` counts them."""
    return _total("lut", features)


def ff(features: Features) -> float:
    """Expected flip-flops."""
    return _total("ff", features)


def _total(count: str, features: Features) -> float:
    return sum(
        factor * float(getattr(features, name)) for name, factor in COEFFICIENTS[count].items()
    )


@dataclass(frozen=True)
class Kernel:
    """The matrix of a dense layer, or of a convolution at one position."""

    layer: str
    matrix: NDArray[np.float64]  # quantized weights, (inputs, outputs)
    bias: NDArray[np.float64]  # (outputs,)
    input: FixedPoint  # type of the values that it is multiplied with
    positions: int  # times that it is applied to one event


def kernels(network: Network) -> list[Kernel]:
    """The kernels of a network, in their order."""
    found = []
    for node in network.nodes:
        if isinstance(node, (Dense, Conv)):
            outputs = node.kernel.shape[-1]
            matrix = node.kernel.reshape(-1, outputs) * 2.0**-node.kernel_fraction
            bias = node.bias * 2.0**-node.bias_fraction
            source = network[node.sources[0]]
            while isinstance(source, Reshape):
                source = network[source.sources[0]]
            # The type that its values have in logic: its quantizer's, or the narrowest.
            narrowest = network.bounds[source.name].type
            kind = source.type if isinstance(source, (Quantize, Input)) else narrowest
            name, positions = node.name.removesuffix(":sums"), node.size // outputs
            found.append(Kernel(name, matrix, bias, kind, positions))
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
