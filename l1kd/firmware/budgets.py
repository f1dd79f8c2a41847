"""Resource and latency budgets, checked on alkaid's estimates and after synthesis.

Numbers of two designs, such as hls4ml's C++ and alkaid's Verilog, are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from l1kd.core import fpga_parts, run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.run_files import Metrics, Resources
from l1kd.evaluation.student_choice import BUDGETS, largest_ratio, missed


def estimates(context: Context) -> dict[str, Resources] | None:
    """Costs of the students by alkaid's estimate, at the firmware's clock; None without budgets."""
    firmware, budgets = context.config.firmware, context.config.choose.budgets
    if not budgets:
        return None
    known = firmware.part_has or fpga_parts.part(firmware.part)
    if "max_share" in budgets and known is None:
        raise UserError(
            f"choose.max_share: what {firmware.part} has is not known; known parts: "
            f"{', '.join(sorted(fpga_parts.PARTS))}"
        )
    costs = {}
    with context.progress("cost estimates", len(context.config.students)) as advance:
        for student in context.config.students:
            costs[student.name] = _estimate(context, student.name)
            advance(1)
    return costs


def _estimate(context: Context, name: str) -> Resources:
    """alkaid's estimate of a student; with a note in its place if it cannot be made."""
    import l1kd
    from l1kd.firmware.run_firmware import stated_port
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    firmware = context.config.firmware
    part, clock = firmware.part, firmware.clock_ns
    model = l1kd.load_model(context.student_file(name))
    known: dict[str, Any]
    try:
        network = read(model)
        network = network.at_port(stated_port(context, network))
        limit = context.config.rtl.max_lut
        found = alkaid_convert.estimate(network, clock_ns=clock, max_lut=limit)
    except (CheckFailed, UserError) as error:
        known = {"note": str(error)}
    else:
        known = {
            "latency_ns": found.latency_cycles * clock,
            "interval_cycles": found.interval_cycles,
            "lut": found.lut,
            "ff": found.ff,
            "share": fpga_parts.share(part, firmware.part_has, lut=found.lut, ff=found.ff),
        }
    return _alkaid(name, f"alkaid {metadata.version('alkaid')}", part=part, clock_ns=clock, **known)


def _alkaid(student: str, tool: str, **known: Any) -> Resources:
    kind = {"source": "estimate", "implementation": "alkaid", "part": None, "clock_ns": None}
    return Resources.model_validate({"student": student, "tool": tool, **kind, **known})


def check_choice(metrics: Metrics) -> None:
    """CheckFailed if no student is within the budgets; the nearest miss is the best one then."""
    if metrics.choice and (nearest := metrics.choice[0]).excluded:
        why = f" ({nearest.note})" if nearest.note else ""
        raise CheckFailed(
            f"budget missed: no student is within the budgets; the nearest miss is "
            f"{nearest.student!r} by {nearest.tool}'s estimate: "
            f"{'; '.join(nearest.excluded)}{why}"
        )


def check(context: Context, resources: Sequence[Resources]) -> None:
    """CheckFailed if the best student misses a budget, or the cost that it limits is not known."""
    budgets = context.config.choose.budgets
    if not budgets:
        return
    metrics: Metrics = run_files.read(context.directory, "metrics.json")
    verdict = of_best(metrics, resources, budgets)
    if found := missed(verdict.amounts, budgets):
        texts = "; ".join(f"{text} ({verdict.source(budget)})" for budget, text in found)
        raise CheckFailed(f"budget missed by the best student, {metrics.best!r}: {texts}")


@dataclass(frozen=True)
class Judged:
    """A design as budgets see it."""

    amounts: dict[str, float]  # what is known, by what is limited
    sources: dict[str, str]  # who says so, by what is limited

    def source(self, budget: str) -> str:
        """Who says what a budget is held against."""
        return self.sources.get(BUDGETS[budget], "no source says")


def of_best(
    metrics: run_files.Metrics, resources: Iterable[Resources], budgets: dict[str, float]
) -> Judged:
    """The best student's design of the best founded source; of several, the best within budgets."""
    own = [each for each in resources if each.student == metrics.best]
    known = [(each, each.budgeted) for each in own]
    for candidate in metrics.choice[:1]:  # the estimate that chose it
        chosen = _alkaid(candidate.student, candidate.tool)
        estimated = {name: getattr(candidate, name) for name in BUDGETS.values()}
        known.append((chosen, estimated))
    designs: dict[tuple[str, ...], Judged] = {}
    ranks: dict[tuple[str, ...], tuple[int, bool]] = {}
    for each, values in sorted(known, key=lambda one: one[0].trust):
        if found := {name: value for name, value in values.items() if value is not None}:
            design = designs.setdefault(each.design, Judged({}, {}))
            design.amounts.update(found)
            design.sources.update({name: each.origin_of(name) for name in found})
            ranks[each.design] = each.trust
    best = [designs[key] for key, rank in ranks.items() if rank == max(ranks.values())]
    nothing = Judged({}, {})
    return min(best, key=lambda each: largest_ratio(each.amounts, budgets), default=nothing)
