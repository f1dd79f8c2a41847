"""The stage `synth`: the firmware's cost, by every source there is; what is unknown is null.

Of the Verilog: alkaid's estimate, and the result of Yosys. Of the HLS projects: reports of vendors'
tools, if they have run. hls4ml estimates nothing; of its projects the interval is known where the
design leaves no choice (io_parallel, one pipeline, reuse 1: one clock cycle), and the LUTs that the
matrices need in distributed arithmetic: for other strategies, where the vendor tool chooses between
LUTs and DSPs, a guide.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.run_files import Resources
from l1kd.exact.layers import Merge
from l1kd.firmware.budgets import check
from l1kd.firmware.fpga_parts import share
from l1kd.firmware.hls.project import Project
from l1kd.firmware.run_firmware import chosen, open_student, projects_of
from l1kd.firmware.vendor_tools.tool_results import collected
from l1kd.firmware.verilog.lut_ff_estimate import Kernel, kernel_lut, kernels
from l1kd.firmware.verilog.project import Logic
from l1kd.firmware.verilog.synthesize import synthesize


def synth(context: Context) -> None:
    """Write `resources.json`, one entry per design and source, and hold the budgets.

    UserError if a student or a project is missing, CheckFailed if the best student misses a budget.
    """
    groups = projects_of(context.directory)
    students = [open_student(context, name, projects) for name, projects in groups.items()]
    found = []
    for student in students:
        costs = [(kernel, kernel_lut(kernel)) for kernel in kernels(student.exact)]
        found += [_resources(project, costs) for project in student.projects]
    found += collected(context, [project for group in groups.values() for project in group])
    written = {each.name: each.logic for each in students if each.logic is not None}
    found += [_expected(logic) for logic in written.values()]
    # What takes minutes comes last, and what is known by then is there to be read.
    run_files.write(context.directory, "resources.json", found)
    for name in chosen(context, context.config.rtl.synthesize, list(written)):
        found += _synthesized(context, written[name])
    run_files.write(context.directory, "resources.json", found)
    check(context, found)


def _expected(logic: Logic) -> Resources:
    """The cost that alkaid's logic is expected to have."""
    record = logic.record
    products = any(
        isinstance(node, Merge) and node.operation == "multiply" for node in logic.network.nodes
    )
    none = None if products else 0.0  # adders and tables alone: in LUTs
    return _design(
        logic,
        source="estimate",
        tool=f"alkaid {logic.description.versions['alkaid']}",
        lut=record.lut,
        ff=record.ff,
        dsp=none,
        bram=none,
        uram=none,
        layers=record.layers,
        note="expected of Yosys, from counts of the logic; layers: shares of the LUTs before "
        "what they have in common is merged",
    )


def _synthesized(context: Context, logic: Logic) -> list[Resources]:
    """The cost of a student's Verilog by Yosys; nothing if it took too long."""
    record, limit = logic.record, context.config.rtl.tools_max_lut
    if (record.lut or 0) > limit:
        context.say(
            f"{record.student}: not synthesised: about {record.lut:,.0f} LUTs, and designs above "
            f"{limit:,.0f} are not (rtl.tools_max_lut)"
        )
        return []
    try:
        made = synthesize(
            logic.directory,
            record.top,
            part=record.part,
            time_limit_s=context.config.rtl.time_limit_s,
            say=context.say,
        )
    except UserError as error:
        context.say(f"{record.student}: not synthesised: {error}")
        return []
    context.say(
        f"{record.student}: {made.lut:,.0f} LUT, {made.ff:,.0f} FF by {made.tool} in "
        f"{made.seconds:.0f} s; {record.lut:,.0f} and {record.ff:,.0f} were expected"
    )
    return [
        _design(
            logic,
            source="yosys",
            tool=made.tool,
            lut=made.lut,
            ff=made.ff,
            dsp=made.dsp,
            bram=made.bram,
            uram=made.uram,
            note="mapped to the part's family, out of context; not placed, not routed",
        )
    ]


def _design(logic: Logic, **values: Any) -> Resources:
    """A cost of alkaid's Verilog; `values` are those that its source knows."""
    record = logic.record
    cycles = record.latency_cycles
    counts = {key: values.get(key) for key in ("lut", "ff", "dsp", "bram", "uram")}
    return Resources(
        student=record.student,
        implementation="alkaid",
        part=record.part,
        clock_ns=record.clock_ns,
        latency_cycles=cycles,
        latency_ns=None if cycles is None else round(cycles * record.clock_ns, 6),
        interval_cycles=record.interval_cycles,
        estimated_clock_ns=record.estimated_clock_ns,
        share=share(record.part, **counts),
        **values,
    )


def _resources(project: Project, costs: list[tuple[Kernel, float]]) -> Resources:
    """The estimate of an HLS project from its kernels' LUTs."""
    record, description = project.record, project.description
    total = sum(cost * (one.positions if description.unrolled else 1) for one, cost in costs)
    notes = [
        "LUT: the matrices alone, in distributed arithmetic (alkaid's cost model); buffers, "
        "quantizers and control are not in it"
    ]
    if record.strategy != "distributed_arithmetic":
        notes.append(
            f"with the strategy {record.strategy} the vendor tool chooses between LUTs and DSPs"
        )
    if description.interval_cycles is not None:
        notes.append("interval: one pipeline with reuse 1, by design")
    return Resources(
        student=record.student,
        source="estimate",
        implementation="hls4ml",
        tool=f"hls4ml {description.versions.get('hls4ml')}, alkaid {metadata.version('alkaid')}",
        part=record.part,
        clock_ns=record.clock_ns,
        interval_cycles=description.interval_cycles,
        lut=total,
        backend=record.backend,
        io_type=record.io_type,
        strategy=record.strategy,
        note="; ".join(notes) or None,
    )
