"""The matrices of a network, and what each costs in distributed arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.graph import Conv, Dense, Input, Network, Quantize, Reshape
from l1kd.firmware.logic import SOLVER
from l1kd.fixedpoint import FixedPoint

__all__ = ["Kernel", "kernels", "lut"]


@dataclass(frozen=True)
class Kernel:
    """The matrix of a dense layer, or of a convolution at one position.

    Parameters
    ----------
    layer
        Its name.
    matrix, bias
        Quantized weights, (inputs, outputs), and biases, (outputs,).
    input
        The type of what it is multiplied with.
    positions
        How often it is applied to one event.
    """

    layer: str
    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]
    input: FixedPoint
    positions: int


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


def lut(kernel: Kernel) -> float:
    """LUTs of one matrix in distributed arithmetic, by alkaid's cost model: one per adder bit."""
    from alkaid.cmvm import cmvm_solve

    kind = kernel.input
    ranges = [(kind.low, kind.high, kind.lsb)] * len(kernel.matrix)
    if not kernel.matrix.any():
        return 0.0
    matrix = np.ascontiguousarray(kernel.matrix, np.float32)
    first, second = cmvm_solve(matrix, qintervals=ranges, latencies=[0.0] * len(ranges), **SOLVER)
    return float(first.cost + second.cost)
