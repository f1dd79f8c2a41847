"""What Yosys makes of a design, expected from counts of its logic."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Features", "ff", "lut"]


@dataclass(frozen=True)
class Features:
    """Raw counts of a design, as alkaid has it before it is written."""

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


def lut(features: Features) -> float:
    """Expected LUTs."""
    return features.cost


def ff(features: Features) -> float:
    """Expected flip-flops."""
    return features.registers
