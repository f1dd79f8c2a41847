"""Cost of one event in the teacher, in students and in their firmware, each with its method.

Energies are products of what was counted and of what a stated source says that a count costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l1kd.core import fpga_parts
from l1kd.core.run_files import NetworkCost
from l1kd.firmware.costs import EXACT, KERAS
from l1kd.report import number_format as numbers
from l1kd.report.load_run import SPACING_NS, Cost, RunFiles
from l1kd.report.tables import Column, Table, text

# Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, 0.9 V: a float32 multiplication 3.7 pJ
# and addition 0.9 pJ; integers of 8 and 32 bits: multiplications 0.2 and 3.1 pJ, additions 0.03 and
# 0.1 pJ, which is 3.0 to 3.8 fJ per bit operation.
FLOAT_MAC_PJ, BIT_OPERATION_FJ = 4.6, 3.1


@dataclass(frozen=True)
class FabricEnergy:
    """Energies of an FPGA family's logic."""

    toggle_pj: float  # of a net, its driver included
    low_pj: float
    high_pj: float
    clock_fj: float  # of a register, per cycle
    static_uw: float  # of the device, per LUT that it has
    source: str


# A routed design on an XCU55C (16 nm, 0.85 V, typical process, 25 C): LUTs, carries, registers and
# signals 3.58 W on 530,296 nets at 250 MHz, 0.22 pJ per toggle if a net toggles in 12.5 % of the
# cycles, Vivado's default; 0.1 and 0.5 pJ if it does in 27 or 5 %. Clocks 0.926 W on 155,271
# registers; static 3.04 W (without HBM) of 1,303,680 LUTs.
FABRICS = {
    "UltraScale+": FabricEnergy(
        0.2, 0.1, 0.5, 24.0, 2.3, "Vivado 2024.2 power report of an XCU55C, docs/energy.md"
    )
}
_FABRIC = "; ".join(
    f"{family}: {e.toggle_pj:g} pJ per toggle ({e.low_pj:g} to {e.high_pj:g}), {e.clock_fj:g} fJ "
    f"per register and clock cycle, {e.static_uw:g} uW of leakage per LUT; {e.source}"
    for family, e in FABRICS.items()
)
_TIME = "until the next event: a bunch crossing, or the interval where events are no crossings"
# By the name in JSON: the title, and the method with its source.
QUANTITIES = {
    "params": ("parameters", "weights and biases"),
    "weight_bytes": (
        "weights [bytes]",
        "teacher: float32; students: the narrowest type of each layer",
    ),
    "macs": ("multiply-accumulates", "size of a kernel times its positions"),
    "bit_operations": (
        "bit operations",
        "MACs x (a w + a + w + log2 n), no a w for weights that are zero (Ps and Qs, arXiv "
        "2102.11289)",
    ),
    "arithmetic_nj": (
        "arithmetic alone [nJ]",
        f"{FLOAT_MAC_PJ:g} pJ per float32 MAC, {BIT_OPERATION_FJ:g} fJ per bit operation: 45 nm, "
        "Horowitz (ISSCC 2014); instructions and memory are not in it",
    ),
    "cpu_one_us": (
        "CPU time, batch 1 [us]",
        "TensorFlow in float32, students without their quantizers; all threads together",
    ),
    "cpu_many_us": ("CPU time, large batch [us]", "the same, up to 1,024 events at once"),
    "exact_one_us": (
        "CPU time, exact, batch 1 [us]",
        "the exact network in NumPy, as `l1kd score` computes it",
    ),
    "exact_many_us": ("CPU time, exact, large batch [us]", "the same, up to 1,024 at once"),
    "cpu_many_uj": (
        "CPU energy, large batch [uJ]",
        "RAPL, all packages meanwhile; a dash where the machine that verified shows none",
    ),
    "latency_ns": ("firmware latency [ns]", "Verilog: pipeline stages times the target clock"),
    "toggled": (
        "firmware toggles",
        "nets and registers of the Verilog, consecutive test events, no delays: glitches are not "
        "seen",
    ),
    "toggles_nj": ("firmware energy, toggles [nJ]", _FABRIC),
    "clock_nj": ("firmware energy, clock [nJ]", f"the same, {_TIME}"),
    "static_nj": (
        "firmware energy, static [nJ]",
        "the same; LUTs of the design by their best founded source",
    ),
    "firmware_nj": ("firmware energy [nJ]", "the three together"),
    "low_nj": ("from [nJ]", "with the lowest energy per toggle"),
    "high_nj": ("to [nJ]", "with the highest"),
}


def quantities(run: RunFiles, cost: NetworkCost) -> dict[str, float | None]:
    """The `QUANTITIES` of a network; None is unknown."""
    found: dict[str, float | None] = dict.fromkeys(QUANTITIES)
    found |= {name: getattr(cost, name) for name in list(QUANTITIES)[:4]}
    found["arithmetic_nj"] = cost.bit_operations * BIT_OPERATION_FJ * 1e-6
    if cost.student is None:
        found["arithmetic_nj"] = cost.macs * FLOAT_MAC_PJ * 1e-3
    for each in cost.cpu:
        name = {KERAS: "cpu", EXACT: "exact"}.get(each.implementation, "other")
        found[f"{name}_{'one' if each.batch == 1 else 'many'}_us"] = each.seconds * 1e6
        if name == "cpu" and each.batch > 1 and each.joules is not None:
            found["cpu_many_uj"] = each.joules * 1e6
    if (counted := cost.toggles) is not None:
        found["toggled"] = counted.net_toggles + counted.register_toggles
    if (design := _design(run, cost)) is not None:
        found["latency_ns"] = design.latency_ns
        found |= _firmware_energy(run, cost, design)
    return {name: found[name] for name in QUANTITIES}


def _design(run: RunFiles, cost: NetworkCost) -> Cost | None:
    """The cost of a student's Verilog by its best founded source."""
    found = [e for e in run.costs if e.student == cost.student and e.implementation == "alkaid"]
    return max(found, key=lambda each: each.trust, default=None)


def _firmware_energy(run: RunFiles, cost: NetworkCost, design: Cost) -> dict[str, float]:
    """Energies of an event in the Verilog; empty if something of it is not known."""
    fabric = FABRICS.get(fpga_parts.family(design.part or "") or "")
    clock, counted, interval = design.clock_ns, cost.toggles, design.interval_ns
    if None in (fabric, clock, counted, interval, design.lut):
        return {}
    assert fabric and clock and counted and interval and design.lut is not None
    time_ns = max(interval, SPACING_NS) if run.of_crossings else interval
    toggled = counted.net_toggles + counted.register_toggles
    low, typical, high = (
        toggled * each * 1e-3 for each in (fabric.low_pj, fabric.toggle_pj, fabric.high_pj)
    )
    ticking = counted.registers * fabric.clock_fj * 1e-6 * time_ns / clock
    static = design.lut * fabric.static_uw * 1e-6 * time_ns
    ends = {"firmware_nj": typical, "low_nj": low, "high_nj": high}
    return {
        **{"toggles_nj": typical, "clock_nj": ticking, "static_nj": static},
        **{name: value + ticking + static for name, value in ends.items()},
    }


def energy_table(run: RunFiles) -> Table:
    """Quantities of one event, a column for each network, and the factor of the best student."""
    found = {cost.student or "teacher": quantities(run, cost) for cost in run.energy or []}

    def factor(name: str) -> float | None:
        one, other = (found.get(each, {}).get(name) for each in ("teacher", run.best or ""))
        return one / other if one and other else None

    def of(network: str) -> Column:
        return Column(network, lambda name: found[network][name], numbers.quantity)

    columns = [text("one event", lambda name: QUANTITIES[name][0]), *map(of, found)]
    columns += [Column("teacher / best", factor, numbers.quantity)]
    columns += [text("method", lambda name: QUANTITIES[name][1])]
    return Table.of(
        columns, QUANTITIES if found else [], caption="What compression buys, per event."
    )


def energy_notes(run: RunFiles) -> list[str]:
    """Why a student's toggles or energy are not known."""
    notes = []
    for cost in run.energy or []:
        if cost.note:
            notes.append(f"{cost.student}: toggles are not known: {cost.note}.")
        elif cost.student and quantities(run, cost)["firmware_nj"] is None:
            notes.append(
                f"{cost.student}: the energy of its firmware is not known: it takes `synth`, and a "
                f"part whose energy per toggle has a source ({', '.join(FABRICS)}); the run's is "
                f"{run.config.firmware.part}."
            )
    return notes


def as_rows(run: RunFiles) -> list[dict[str, Any]]:
    """Stored quantities and those that follow from them; None is unknown."""
    return [cost.model_dump(mode="json") | quantities(run, cost) for cost in run.energy or []]
