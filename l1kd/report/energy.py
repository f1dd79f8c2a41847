"""One event in the teacher, in students and in their firmware: operations, time, energy, factors.

No number without its method: energies are products of what was counted and of what a stated source
says a count costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from l1kd.core import fpga_parts
from l1kd.core.run_files import CpuTime, NetworkCost
from l1kd.firmware.costs import EXACT, KERAS
from l1kd.report import number_format as numbers
from l1kd.report.load_run import SPACING_NS, Cost, RunFiles
from l1kd.report.tables import Column, Table, text

# Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, 0.9 V: a float32 multiplication 3.7 pJ
# and addition 0.9 pJ; integers of 8 and 32 bits: multiplications 0.2 and 3.1 pJ, additions 0.03 and
# 0.1 pJ, which is 3.0 to 3.8 fJ per bit operation.
FLOAT_MAC_PJ, BIT_OPERATION_FJ = 4.6, 3.1
_HOROWITZ = "45 nm, Horowitz (ISSCC 2014); instructions and memory are not in it"


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
FABRICS: dict[str, FabricEnergy] = {
    "UltraScale+": FabricEnergy(
        0.2, 0.1, 0.5, 24.0, 2.3, "Vivado 2024.2 power report of an XCU55C, see docs/energy.md"
    )
}


@dataclass(frozen=True)
class FirmwareEnergy:
    """Energy of one event in a student's Verilog, in nJ."""

    toggles_nj: float
    low_nj: float  # of all three together
    high_nj: float
    clock_nj: float
    static_nj: float
    time_ns: float  # between two events
    fabric: FabricEnergy
    lut_by: str

    @property
    def total_nj(self) -> float:
        """Toggles, clock and static share."""
        return self.toggles_nj + self.clock_nj + self.static_nj


def design_of(run: RunFiles, student: str | None) -> Cost | None:
    """The cost of a student's Verilog by its best founded source."""
    found = [e for e in run.costs if e.student == student and e.implementation == "alkaid"]
    return max(found, key=lambda each: each.trust, default=None)


def firmware_energy(run: RunFiles, cost: NetworkCost) -> FirmwareEnergy | None:
    """Energy of an event in the Verilog of a student; None if something of it is not known."""
    design, counted = design_of(run, cost.student), cost.toggles
    if design is None or counted is None or design.part is None or design.clock_ns is None:
        return None
    fabric = FABRICS.get(fpga_parts.family(design.part) or "")
    if fabric is None or design.lut is None or design.interval_ns is None:
        return None
    time_ns = max(design.interval_ns, SPACING_NS) if run.of_crossings else design.interval_ns
    toggled = counted.net_toggles + counted.register_toggles
    clock = counted.registers * fabric.clock_fj * 1e-6 * time_ns / design.clock_ns
    static = design.lut * fabric.static_uw * 1e-6 * time_ns
    low, typical, high = (
        toggled * each * 1e-3 for each in (fabric.low_pj, fabric.toggle_pj, fabric.high_pj)
    )
    above = clock + static
    return FirmwareEnergy(
        typical, low + above, high + above, clock, static, time_ns, fabric, design.source_text
    )


def arithmetic_nj(cost: NetworkCost) -> float:
    """Energy of a network's arithmetic alone: float32 in the teacher, integers in a student."""
    if cost.student is None:
        return cost.macs * FLOAT_MAC_PJ * 1e-3
    return cost.bit_operations * BIT_OPERATION_FJ * 1e-6


def _cpu(cost: NetworkCost, implementation: str, large: bool) -> CpuTime | None:
    found = [each for each in cost.cpu if each.implementation == implementation]
    return (max if large else min)(found, key=lambda each: each.batch, default=None)


Value = Callable[[NetworkCost], float | None]


def _rows(run: RunFiles) -> list[tuple[str, Value, str]]:
    """Quantities of an event: name and unit, value, method and source."""
    costs = run.energy or []

    def cpu_us(implementation: str, large: bool) -> Value:
        def value(cost: NetworkCost) -> float | None:
            found = _cpu(cost, implementation, large)
            return None if found is None else found.seconds * 1e6

        return value

    def joules(cost: NetworkCost) -> float | None:
        found = _cpu(cost, KERAS, True)
        return None if found is None or found.joules is None else found.joules * 1e6

    def of_design(cost: NetworkCost) -> float | None:
        design = design_of(run, cost.student)
        return None if design is None else design.latency_ns

    def toggled(cost: NetworkCost) -> float | None:
        counted = cost.toggles
        return None if counted is None else counted.net_toggles + counted.register_toggles

    def spent(name: str) -> Value:
        def value(cost: NetworkCost) -> float | None:
            found = firmware_energy(run, cost)
            return None if found is None else getattr(found, name)

        return value

    batch = max((each.batch for cost in costs for each in cost.cpu), default=0)
    twin = "TensorFlow in float32, students without their quantizers; all threads together"
    found = next((e for cost in costs if (e := firmware_energy(run, cost))), None)
    events = next((cost.toggles.events for cost in costs if cost.toggles), 0)
    rows: list[tuple[str, Value, str]] = [
        ("parameters", lambda cost: cost.params, "weights and biases"),
        (
            "weights [bytes]",
            lambda cost: cost.weight_bytes,
            "teacher: float32; students: the narrowest type of each layer",
        ),
        ("multiply-accumulates", lambda cost: cost.macs, "size of a kernel times its positions"),
        (
            "bit operations",
            lambda cost: cost.bit_operations,
            "MACs x (a w + a + w + log2 n), without a w for weights that are zero "
            "(Ps and Qs, arXiv 2102.11289)",
        ),
        (
            "arithmetic alone [nJ]",
            arithmetic_nj,
            f"{FLOAT_MAC_PJ:g} pJ per float32 MAC, {BIT_OPERATION_FJ:g} fJ per bit operation: "
            f"{_HOROWITZ}",
        ),
        ("CPU time, batch 1 [us]", cpu_us(KERAS, False), twin),
        (f"CPU time, batch {batch:,} [us]", cpu_us(KERAS, True), twin),
        (
            "CPU time, exact, batch 1 [us]",
            cpu_us(EXACT, False),
            "the exact network in NumPy, as `l1kd score` computes it",
        ),
        (f"CPU time, exact, batch {batch:,} [us]", cpu_us(EXACT, True), "the same"),
        (
            f"CPU energy, batch {batch:,} [uJ]",
            joules,
            "RAPL, all packages meanwhile"
            if any(joules(cost) is not None for cost in costs)
            else "RAPL cannot be read on the machine that verified",
        ),
        ("firmware latency [ns]", of_design, "Verilog: pipeline stages times the target clock"),
        (
            "firmware toggles",
            toggled,
            f"nets and registers of the Verilog, {events:,} consecutive test events, no delays: "
            "glitches are not seen",
        ),
    ]
    if found is not None:
        fabric, time = found.fabric, f"{found.time_ns:g} ns per event"
        rows += [
            (
                "firmware energy, toggles [nJ]",
                spent("toggles_nj"),
                f"{fabric.toggle_pj:g} pJ each ({fabric.low_pj:g} to {fabric.high_pj:g}): "
                f"{fabric.source}",
            ),
            (
                "firmware energy, clock [nJ]",
                spent("clock_nj"),
                f"{fabric.clock_fj:g} fJ per register and cycle, {time}: the same report",
            ),
            (
                "firmware energy, static [nJ]",
                spent("static_nj"),
                f"{fabric.static_uw:g} uW per LUT of the device times the design's LUTs by their "
                f"best founded source, {time}: the same report",
            ),
            ("firmware energy [nJ]", spent("total_nj"), "the three together"),
            ("from [nJ]", spent("low_nj"), "with the lowest energy per toggle"),
            ("to [nJ]", spent("high_nj"), "with the highest"),
        ]
    return rows


def energy_table(run: RunFiles) -> Table:
    """Quantities of one event, a column for each network, and the factor of the best student."""
    costs = list(run.energy or [])
    names = ["teacher" if cost.student is None else cost.student for cost in costs]
    best = names.index(run.best) if run.best in names else None

    def factor(values: Sequence[float | None], *_: Any) -> str:
        if best is None or "teacher" not in names:
            return numbers.DASH
        one, other = values[names.index("teacher")], values[best]
        return numbers.quantity(one / other) if one and other else numbers.DASH

    columns = [text("one event", 1)]
    columns += [
        Column(name, lambda values, *_, place=place: values[place], numbers.quantity)
        for place, name in enumerate(names)
    ]
    columns += [Column("teacher / best", factor, str), text("method", 2)]
    items = [
        ([value(cost) for cost in costs], name, method)
        for name, value, method in (_rows(run) if costs else [])
    ]
    return Table.of(columns, items, caption="What compression buys, per event.")


def energy_notes(run: RunFiles) -> list[str]:
    """Why a student's toggles or energy are not known."""
    notes = []
    for cost in run.energy or []:
        if cost.note:
            notes.append(f"{cost.student}: toggles are not known: {cost.note}.")
        elif cost.student is not None and firmware_energy(run, cost) is None:
            part = run.config.firmware.part
            known = ", ".join(FABRICS)
            notes.append(
                f"{cost.student}: the energy of its firmware is not known: that needs `synth`, and "
                f"a part whose energy per toggle has a source ({known}); the run's is {part}."
            )
    return notes


def as_rows(run: RunFiles) -> list[dict[str, Any]]:
    """What is stored, and the energies that follow from it; None is unknown."""
    rows = []
    for cost in run.energy or []:
        found = firmware_energy(run, cost)
        energy = None if found is None else {**vars(found), "total_nj": found.total_nj}
        if energy is not None:
            energy["fabric"] = vars(found.fabric) if found else None
        own = {"arithmetic_nj": arithmetic_nj(cost), "firmware_energy": energy}
        rows.append(cost.model_dump(mode="json") | own)
    return rows
