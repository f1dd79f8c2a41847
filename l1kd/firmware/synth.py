"""The stage `synth`: what the firmware costs, by every source there is.

Of the Verilog: what alkaid's logic is expected to take, and what Yosys makes of it. Of the HLS
projects: what vendors' tools say, if they have run. hls4ml estimates nothing by itself; two things
can be said of its projects all the same, and are labelled:

- the interval between two events of an io_parallel project that is one pipeline with reuse 1: its
  design leaves no choice but one clock cycle (whether it meets timing is the vendor tool's to say);
- with da4ml (extra `da`), the LUTs that the network's matrices need in distributed arithmetic, the
  multiplier-free logic that `strategy: distributed_arithmetic` writes. Other strategies leave the
  choice between LUTs and DSPs to the vendor tool; for them it is a guide.

Everything else is unknown and null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd import schemas
from l1kd.context import Context
from l1kd.errors import UserError
from l1kd.exact.graph import Conv, Dense, Input, Merge, Network, Quantize, Reshape
from l1kd.firmware.budget import check
from l1kd.firmware.convert import chosen, project_name
from l1kd.firmware.parts import share
from l1kd.firmware.project import Project, open_project
from l1kd.firmware.student import logic_of
from l1kd.firmware.synthesis import synthesize
from l1kd.firmware.vendor.store import collected
from l1kd.firmware.verilog import Logic
from l1kd.fixedpoint import FixedPoint
from l1kd.schemas import Resources

__all__ = ["Kernel", "da_available", "kernels", "lut", "synth"]


def synth(context: Context) -> None:
    """Write `resources.json`, one entry per design and source, and hold the budgets.

    Raises
    ------
    UserError
        If a student or a project is missing.
    CheckFailed
        If the best student misses a budget.
    """
    import l1kd
    from l1kd.models.exact import read

    projects = []
    for record in schemas.read(context.directory, "firmware.json"):
        name = project_name(record.student, record.backend, record.io_type, record.strategy)
        projects.append(open_project(context.projects / name))
    costs: dict[str, dict[str, float]] = {}
    matrices: dict[str, list[Kernel]] = {}
    if da_available():
        for student in dict.fromkeys(project.record.student for project in projects):
            model = l1kd.load_model(context.student_file(student))
            matrices[student] = kernels(read(model))
        total = sum(len(group) for group in matrices.values())
        with context.progress("logic estimates", total) as advance:
            for student, group in matrices.items():
                costs[student] = {}
                for kernel in group:
                    costs[student][kernel.layer] = lut(kernel)
                    advance(1)
    else:
        context.say("no LUT estimate without da4ml: pip install 'l1kd[da]'")
    found = [
        _resources(project, matrices.get(project.record.student), costs) for project in projects
    ]
    found += collected(context, projects)
    logics = [logic for name in _students(projects) if (logic := logic_of(context, name))]
    found += [_expected(logic) for logic in logics]
    # What takes minutes comes last, and what is known by then is there to be read.
    schemas.write(context.directory, "resources.json", found)
    for name in chosen(
        context, context.config.rtl.synthesize, [logic.record.student for logic in logics]
    ):
        (logic,) = (logic for logic in logics if logic.record.student == name)
        found += _synthesized(context, logic)
    schemas.write(context.directory, "resources.json", found)
    check(context, found)


def _students(projects: Sequence[Project]) -> list[str]:
    """The students of projects, each once."""
    return list(dict.fromkeys(project.record.student for project in projects))


def _expected(logic: Logic) -> Resources:
    """What alkaid's logic is expected to take."""
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
    """What Yosys makes of a student's Verilog; nothing if it took too long."""
    record = logic.record
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


def da_available() -> bool:
    """Whether da4ml is installed."""
    try:
        metadata.version("da4ml")
    except metadata.PackageNotFoundError:
        return False
    return True


def lut(kernel: Kernel) -> float:
    """LUTs of one matrix in distributed arithmetic, by da4ml's cost model: one per adder bit.

    Its search over all decompositions is left out: ten times the time for one per cent.
    """
    from da4ml.trace import FixedVariableArray, HWConfig, comb_trace

    inputs = len(kernel.matrix)
    kind = kernel.input
    # da4ml counts integer bits without the sign.
    array = FixedVariableArray.from_kif(
        np.full(inputs, int(kind.signed)),
        np.full(inputs, kind.integer - int(kind.signed)),
        np.full(inputs, kind.fraction),
        HWConfig(1, -1, -1),
        solver_options={"hard_dc": 2, "search_all_decompose_dc": False},
    )
    return float(comb_trace(array, array @ kernel.matrix + kernel.bias).cost)


def _resources(
    project: Project, matrices: list[Kernel] | None, costs: dict[str, dict[str, float]]
) -> Resources:
    record, description = project.record, project.description
    tool = f"hls4ml {description.versions.get('hls4ml')}"
    notes, total = [], None
    if matrices is not None:
        tool += f", da4ml {metadata.version('da4ml')}"
        copies = {each.layer: each.positions if description.unrolled else 1 for each in matrices}
        total = sum(costs[record.student][name] * count for name, count in copies.items())
        notes.append(
            "LUT: the matrices alone, in distributed arithmetic (da4ml); buffers, quantizers and "
            "control are not in it"
        )
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
        tool=tool,
        part=record.part,
        clock_ns=record.clock_ns,
        interval_cycles=description.interval_cycles,
        lut=total,
        backend=record.backend,
        io_type=record.io_type,
        strategy=record.strategy,
        note="; ".join(notes) or None,
    )
