"""Budgets: what they are held against before a student is chosen, and after its synthesis.

Before there is firmware, alkaid's estimate is all that is known: the stage `evaluate` chooses among
the students that it puts within the budgets. Afterwards `check` judges the chosen one by the most
trustworthy numbers there are. Numbers of two designs are never mixed: hls4ml's C++ and alkaid's
Verilog are different implementations of one function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.run_files import Candidate, Resources
from l1kd.evaluation.evaluate import evaluate as score
from l1kd.evaluation.student_choice import BUDGETS, largest_ratio, missed
from l1kd.firmware import fpga_parts


def evaluate(context: Context) -> None:
    """The stage: score the students and choose the best of those that budgets allow.

    Without budgets nothing is estimated.
    """
    budgets = context.config.choose.budgets
    if "max_share" in budgets and fpga_parts.part(context.config.firmware.part) is None:
        raise UserError(
            f"choose.max_share: what {context.config.firmware.part} has is not known; known parts: "
            f"{', '.join(sorted(fpga_parts.PARTS))}"
        )
    metrics = score(context, _estimates(context) if budgets else None)
    if metrics.choice and metrics.choice[0].excluded:
        nearest = metrics.choice[0]
        why = f" ({nearest.note})" if nearest.note else ""
        raise CheckFailed(
            f"budget missed: no student is within the budgets; the nearest miss is "
            f"{nearest.student!r} by {nearest.tool}'s estimate: "
            f"{'; '.join(nearest.excluded)}{why}"
        )


def check(context: Context, resources: Sequence[Resources]) -> None:
    """Hold the best student against the budgets, by the most trustworthy numbers."""
    budgets = context.config.choose.budgets
    if not budgets:
        return
    metrics: run_files.Metrics = run_files.read(context.directory, "metrics.json")
    verdict = of_best(metrics, resources, budgets)
    found = verdict.missed(budgets)
    if found:
        texts = "; ".join(f"{text} ({verdict.source(budget)})" for budget, text in found)
        raise CheckFailed(f"budget missed by the best student, {metrics.best!r}: {texts}")


@dataclass(frozen=True)
class Judged:
    """A design as budgets see it."""

    amounts: dict[str, float]  # what is known, by what is limited
    sources: dict[str, str]  # who says so, by what is limited

    def missed(self, budgets: dict[str, float]) -> list[tuple[str, str]]:
        """Budgets that are not met, in words."""
        return missed(self.amounts, budgets)

    def source(self, budget: str) -> str:
        """Who says what a budget is held against."""
        return self.sources.get(BUDGETS[budget], "no source says")


def of_best(
    metrics: run_files.Metrics, resources: Iterable[Resources], budgets: dict[str, float]
) -> Judged:
    """The best student as budgets see it, the estimate that chose it included."""
    own = [record for record in resources if record.student == metrics.best]
    return judged(own, budgets, metrics.choice[0] if metrics.choice else None)


def judged(
    records: Iterable[Resources], budgets: dict[str, float], candidate: Candidate | None = None
) -> Judged:
    """The design that the most trustworthy source speaks of, every amount by its best source.

    Of several such designs, the one that is best within the budgets.
    """
    known = [(each.trust, each.design, each.origin, each.budgeted) for each in records]
    if candidate is not None:
        chosen = Resources(
            student=candidate.student,
            source="estimate",
            implementation="alkaid",
            tool=candidate.tool,
            part=None,
            clock_ns=None,
        )
        estimated = {name: getattr(candidate, name) for name in BUDGETS.values()}
        known.append((chosen.trust, chosen.design, chosen.origin, estimated))
    designs: dict[tuple[str, ...], Judged] = {}
    ranks: dict[tuple[str, ...], tuple[int, bool]] = {}
    for rank, key, source, values in sorted(known, key=lambda each: each[0]):
        found = {name: value for name, value in values.items() if value is not None}
        if found:
            design = designs.setdefault(key, Judged({}, {}))
            design.amounts.update(found)
            design.sources.update(dict.fromkeys(found, source))
            ranks[key] = rank
    highest = max(ranks.values(), default=None)
    best = [designs[key] for key, rank in ranks.items() if rank == highest]
    nothing = Judged({}, {})
    return min(best, key=lambda each: largest_ratio(each.amounts, budgets), default=nothing)


def _estimates(context: Context) -> dict[str, Resources]:
    """alkaid's estimate of every student, at the firmware's clock; nothing is written."""
    import l1kd
    from l1kd.firmware.convert import stated_port
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    firmware, names = context.config.firmware, [each.name for each in context.config.students]
    costs = {}
    with context.progress("cost estimates", len(names)) as advance:
        for name in names:
            model = l1kd.load_model(context.student_file(name))
            cost = Resources(
                student=name,
                source="estimate",
                implementation="alkaid",
                tool=f"alkaid {metadata.version('alkaid')}",
                part=firmware.part,
                clock_ns=firmware.clock_ns,
            )
            try:
                network, port = read(model), stated_port(context, model)
                found = alkaid_convert.estimate(
                    network.at_port(port) if port else network,
                    clock_ns=firmware.clock_ns,
                    max_lut=context.config.rtl.max_lut,
                )
            except (CheckFailed, UserError) as error:
                costs[name] = cost.model_copy(update={"note": str(error)})
            else:
                known = {
                    "latency_ns": found.latency_cycles * firmware.clock_ns,
                    "interval_cycles": found.interval_cycles,
                    "lut": found.lut,
                    "ff": found.ff,
                    "share": fpga_parts.share(firmware.part, lut=found.lut, ff=found.ff),
                }
                costs[name] = cost.model_copy(update=known)
            advance(1)
    return costs
