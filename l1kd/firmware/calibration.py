"""What Yosys makes of a design, expected from counts of its logic.

alkaid's cost model counts LUTs as a vendor's tool packs them: an adder of three inputs takes one a
bit, where Yosys takes more. Fitted to 30 synthesised students, one factor is enough: on 30 others
the LUTs are off by 2.6 % (median; 24 % at most), the flip-flops by 3.0 % (21 % at most); on a
trained student, more than twice as large as any of them, by 1 %. The largest errors are small
convolutions, which are mostly rounding and saturation. Factors per kind of logic fitted the
calibrating students better and the others no better. `tests/benchmarks/bench_estimates.py` fits and
judges; if `l1kd.firmware.rtl` writes logic of another kind, it has to do so again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COEFFICIENTS", "Features", "ff", "lut"]


@dataclass(frozen=True)
class Features:
    """Raw counts of a design, as alkaid has it before it is written.

    The estimate uses `cost` and `registers`; the others are what a better one could be made of.

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


# tests/benchmarks/results/estimates.json, by `python -m tests.benchmarks.bench_estimates`.
COEFFICIENTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "lut": MappingProxyType({"cost": 1.491}),
        "ff": MappingProxyType({"registers": 0.958}),
    }
)


def lut(features: Features) -> float:
    """Expected LUTs, as `l1kd.firmware.synthesis` counts them."""
    return _total("lut", features)


def ff(features: Features) -> float:
    """Expected flip-flops."""
    return _total("ff", features)


def _total(what: str, features: Features) -> float:
    return sum(
        factor * float(getattr(features, name)) for name, factor in COEFFICIENTS[what].items()
    )
