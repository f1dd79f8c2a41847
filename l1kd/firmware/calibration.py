"""What Yosys makes of a design, expected from counts of its logic.

alkaid knows the width of every adder that it writes, and every bit of its registers. Yosys packs
them into cells of its own: how much of each count becomes LUTs and flip-flops is fitted to
synthesised students, 30 that calibrate and 30 others that judge:
`tests/benchmarks/bench_estimates.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COEFFICIENTS", "Features", "ff", "lut"]


@dataclass(frozen=True)
class Features:
    """Raw counts of a design, as alkaid has it before it is written.

    Parameters
    ----------
    adder_bits, ternary_bits
        Bits of carry chains of adders with two and with three inputs, by alkaid's cost model.
    constant_bits
        Widths of sums with a constant.
    mux_bits, gate_bits
        Widths of what a sign chooses, and of single-bit operations.
    product_bits
        Of products of two variables, the product of their widths.
    table_cost
        alkaid's cost of lookup tables.
    registers
        Bits of all registers.
    stages
        How many planes of registers there are.
    input_bits, output_bits
        Widths of the ports.
    cost
        alkaid's own estimate of LUTs.
    """

    adder_bits: float
    ternary_bits: float
    constant_bits: float
    mux_bits: float
    gate_bits: float
    product_bits: float
    table_cost: float
    registers: float
    stages: int
    input_bits: float
    output_bits: float
    cost: float


# tests/benchmarks/results/estimates.json, `python -m tests.benchmarks.bench_estimates`.
COEFFICIENTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "lut": MappingProxyType(
            {
                "adder_bits": 1.05,
                "ternary_bits": 1.63,
                "constant_bits": 0.5,
                "mux_bits": 0.5,
                "gate_bits": 0.5,
            }
        ),
        "ff": MappingProxyType({"registers": 0.97}),
    }
)
# No student of the calibration has products or tables: alkaid's own cost model has these.
_UNCALIBRATED: Mapping[str, float] = MappingProxyType({"product_bits": 0.75, "table_cost": 1.0})


def lut(features: Features) -> float:
    """Expected LUTs, as `l1kd.firmware.synthesis` counts them."""
    return _total(COEFFICIENTS["lut"], features) + _total(_UNCALIBRATED, features)


def ff(features: Features) -> float:
    """Expected flip-flops."""
    return _total(COEFFICIENTS["ff"], features)


def _total(coefficients: Mapping[str, float], features: Features) -> float:
    return sum(weight * float(getattr(features, name)) for name, weight in coefficients.items())
