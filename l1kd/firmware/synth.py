"""The stage `synth`: the firmware's cost, by every source there is; what is unknown is null."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fpga_parts import share
from l1kd.core.run_files import COUNTS, Resources, Source
from l1kd.exact.layers import Merge
from l1kd.firmware.budgets import check
from l1kd.firmware.hls.project import Project
from l1kd.firmware.run_firmware import (
    certificate_of,
    chosen,
    hls_design,
    open_students,
    too_large,
)
from l1kd.firmware.vendor_tools.tool_results import collected
from l1kd.firmware.verilog.lut_ff_estimate import Kernel, kernel_lut, kernels
from l1kd.firmware.verilog.project import Logic
from l1kd.firmware.verilog.synthesize import Synthesis, synthesize


def synth(context: Context) -> None:
    """Write `resources.json`, one entry per design and source, and check the budgets."""
    students, found = open_students(context), list[Resources]()
    for student in students:
        costs = [(kernel, kernel_lut(kernel)) for kernel in kernels(student.exact)]
        found += [_resources(project, costs) for project in student.projects]
    found += collected(context, [project for each in students for project in each.projects])
    written = {each.name: each.logic for each in students if each.logic is not None}
    found += [_expected(logic) for logic in written.values()]
    # What takes minutes comes last, and what is known by then is there to be read.
    _store(context, found)
    for name in chosen(context, context.config.rtl.synthesize, list(written)):
        found += _synthesized(context, written[name])
    _store(context, found)
    check(context, found)


@contextlib.contextmanager
def beside(context: Context) -> Iterator[None]:
    """Run Yosys beside what is done inside, in a process of its own; `synth` takes the results.

    However the block is left, no Yosys goes on.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        for name, logic in _to_begin(context).items():
            context.say(f"{name}: Yosys begins beside the next stage")
            context.begun[name] = pool.submit(_yosys, context, logic, stop.is_set)
        try:
            yield
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            context.begun.clear()


def _to_begin(context: Context) -> dict[str, Logic]:
    """Designs that `synth` will give to Yosys, by student; none if the run cannot be read."""
    with contextlib.suppress(UserError):  # the stages themselves say what is wrong
        students = open_students(context)
        written = {each.name: each.logic for each in students if each.logic is not None}
        names = chosen(context, context.config.rtl.synthesize, list(written))
        return {name: written[name] for name in names if not too_large(context, written[name])}
    return {}


def _yosys(context: Context, logic: Logic, stop: Callable[[], bool] = lambda: False) -> Synthesis:
    record, limit = logic.record, context.config.rtl.time_limit_s
    run = context.directory / record.top  # beside which temporary files lie: in no project
    options: dict[str, Any] = {"time_limit_s": limit, "say": context.say, "beside": run}
    return synthesize(logic.directory, record.top, part=record.part, stop=stop, **options)


def _store(context: Context, found: list[Resources]) -> None:
    """Write the costs, each with the shares of its part."""
    firmware = context.config.firmware
    for each in found:
        if not each.share and each.part is not None:
            has = firmware.part_has if each.part == firmware.part else None
            each.share = share(each.part, has, **each.counts)
    run_files.write(context.directory, "resources.json", found)


def _expected(logic: Logic) -> Resources:
    """The cost that alkaid's logic is expected to have."""
    record, nodes = logic.record, logic.network.nodes
    products = any(isinstance(node, Merge) and node.operation == "multiply" for node in nodes)
    # Without products, adders and tables alone: in LUTs.
    counts = {"lut": record.lut, "ff": record.ff}
    counts |= dict.fromkeys(("dsp", "bram", "uram"), None if products else 0.0)
    tool = f"alkaid {logic.description.versions['alkaid']}"
    note = (
        "expected of Yosys, from counts of the logic; layers: shares of the LUTs before what they "
        "have in common is merged"
    )
    return _design(logic, "estimate", tool, counts, note, layers=record.layers)


def _synthesized(context: Context, logic: Logic) -> list[Resources]:
    """The cost of a student's Verilog by Yosys; nothing if it is too large or took too long."""
    record, name = logic.record, logic.record.student
    certificate_of(context.directory, logic)  # nothing that was changed since is synthesised
    try:
        if reason := too_large(context, logic):
            raise UserError(reason)
        begun = context.begun.pop(name, None)
        made = begun.result() if begun else _yosys(context, logic)
    except UserError as error:
        context.say(f"{name}: not synthesised: {error}")
        return []
    context.say(
        f"{name}: {made.lut:,.0f} LUT, {made.ff:,.0f} FF by {made.tool} in "
        f"{made.seconds:.0f} s; {record.lut:,.0f} and {record.ff:,.0f} were expected"
    )
    counts: dict[str, float | None] = {each: getattr(made, each) for each in COUNTS}
    note = "mapped to the part's family, out of context; not placed, not routed"
    return [_design(logic, "yosys", made.tool, counts, note)]


def _design(
    logic: Logic, source: Source, tool: str, counts: dict[str, float | None], note: str, **more: Any
) -> Resources:
    """A cost of alkaid's Verilog by one source."""
    record = logic.record
    same = {"student", "part", "clock_ns", "latency_cycles", "interval_cycles"}
    return Resources(
        **record.model_dump(include={*same, "estimated_clock_ns"}),
        source=source,
        implementation="alkaid",
        tool=tool,
        latency_ns=round(logic.latency * record.clock_ns, 6),
        note=note,
        **counts,
        **more,
    )


def _resources(project: Project, costs: list[tuple[Kernel, float]]) -> Resources:
    """The estimate of an HLS project from its kernels' LUTs."""
    record, description = project.record, project.description
    total = sum(cost * (one.positions if description.unrolled else 1) for one, cost in costs)
    note = (
        "LUT: the matrices alone, in distributed arithmetic (alkaid's cost model); buffers, "
        "quantizers and control are not in it"
    )
    if record.strategy != "distributed_arithmetic":
        note += (
            f"; with the strategy {record.strategy} the vendor tool chooses between LUTs and DSPs"
        )
    if description.interval_cycles is not None:
        note += "; interval: one pipeline with reuse 1, by design"
    return Resources(
        **hls_design(record),
        source="estimate",
        tool=f"hls4ml {description.versions.get('hls4ml')}, alkaid {metadata.version('alkaid')}",
        interval_cycles=description.interval_cycles,
        lut=total,
        note=note,
    )
