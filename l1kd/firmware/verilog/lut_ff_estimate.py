"""What Yosys makes of a design, expected from counts of its logic.

alkaid's cost model counts LUTs as a vendor's tool packs them: an adder of three inputs takes one a
bit, where Yosys takes more. Fitted to 30 synthesised students, one factor is enough: on 30 others
the LUTs are off by 2.6 % (median; 24 % at most), the flip-flops by 3.0 % (21 % at most); on a
trained student, more than twice as large as any of them, by 1 %. The largest errors are small
convolutions, which are mostly rounding and saturation. Factors per kind of logic fitted the
calibrating students better and the others no better. `tests/benchmarks/bench_estimates.py` fits and
judges; if `alkaid_convert` writes logic of another kind, it has to do so again.

The matrices of a network, and what each costs in distributed arithmetic.
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
    """Raw counts of a design, as alkaid has it before it is written.

    The estimate uses `cost` and `registers`; the others are what a better one could be made of.
    """

    # bits of carry chains of adders with two and with three inputs, by alkaid's cost model
    adder_bits: float
    ternary_bits: float
    constant_bits: float  # widths of sums with a constant
    mux_bits: float  # widths of what a sign chooses, and of single-bit operations
    gate_bits: float
    product_bits: float  # of products of two variables, the product of their widths
    table_cost: float  # alkaid's cost of lookup tables
    registers: float  # bits of all registers
    stages: int  # how many planes of registers there are
    input_bits: float  # widths of the ports
    output_bits: float
    cost: float  # alkaid's own estimate of LUTs


# tests/benchmarks/results/estimates.json, by `python -m tests.benchmarks.bench_estimates`.
COEFFICIENTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "lut": MappingProxyType({"cost": 1.491}),
        "ff": MappingProxyType({"registers": 0.958}),
    }
)


def lut(features: Features) -> float:
    """Expected LUTs, as `l1kd.firmware.verilog.synthesize` counts them."""
    return _total("lut", features)


def ff(features: Features) -> float:
    """Expected flip-flops."""
    return _total("ff", features)


def _total(what: str, features: Features) -> float:
    return sum(
        factor * float(getattr(features, name)) for name, factor in COEFFICIENTS[what].items()
    )


@dataclass(frozen=True)
class Kernel:
    """The matrix of a dense layer, or of a convolution at one position."""

    layer: str  # its name
    matrix: NDArray[np.float64]  # quantized weights, (inputs, outputs), and biases, (outputs,)
    bias: NDArray[np.float64]
    input: FixedPoint  # the type of what it is multiplied with
    positions: int  # how often it is applied to one event


def kernels(network: Network) -> list[Kernel]:
    """The kernels of a network, in their order."""
    found = []
    for node in network.nodes:
        if isinstance(node, (Dense, Conv)):
            outputs = node.kernel.shape[-1]
            matrix = node.kernel.reshape(-1, outputs) * 2.0**-node.kernel_fraction
            bias = node.bias * 2.0**-node.bias_fraction
            source = _holder(network, node.sources[0])
            name, positions = node.name.removesuffix(":sums"), node.size // outputs
            found.append(Kernel(name, matrix, bias, source, positions))
    return found


def _holder(network: Network, name: str) -> FixedPoint:
    """The type that a layer's values have in logic: its quantizer's, or the narrowest."""
    node = network[name]
    if isinstance(node, Reshape):
        return _holder(network, node.sources[0])
    return node.type if isinstance(node, (Quantize, Input)) else network.bounds[name].type


def kernel_lut(kernel: Kernel) -> float:
    """LUTs of one matrix in distributed arithmetic, by alkaid's cost model: one per adder bit."""
    from alkaid.cmvm import cmvm_solve

    kind = kernel.input
    ranges = [(kind.low, kind.high, kind.lsb)] * len(kernel.matrix)
    if not kernel.matrix.any():
        return 0.0
    matrix = np.ascontiguousarray(kernel.matrix, np.float32)
    first, second = cmvm_solve(matrix, qintervals=ranges, latencies=[0.0] * len(ranges), **SOLVER)
    return float(first.cost + second.cost)
