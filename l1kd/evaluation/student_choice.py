"""Which student is the best one: by quality, among those whose cost is within the budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from l1kd.core.run_files import Candidate

# A budget of the configuration, and the cost that it limits.
BUDGETS = {
    "max_lut": "lut",
    "max_latency_ns": "latency_ns",
    "max_interval_ns": "interval_ns",
    "max_share": "share",
}
_WORDS = {
    "lut": "LUT",
    "latency_ns": "latency",
    "interval_ns": "interval",
    "share": "share of the part",
}
Amounts = Mapping[str, float | None]  # `lut`, `latency_ns`, `interval_ns`, `share`; None: unknown


@dataclass(frozen=True)
class Cost:
    """What a student would cost."""

    amounts: Amounts  # by what budgets limit
    tool: str  # what estimated them
    note: str | None = None  # why an amount is not known


def candidates(
    qualities: Mapping[str, float],
    params: Mapping[str, int],
    costs: Mapping[str, Cost],
    budgets: Mapping[str, float],
) -> list[Candidate]:
    """Students in the order of choice; the first one is the best.

    Those within all budgets come first, by quality. The others follow, the nearest miss first: the
    one whose largest ratio of cost to budget is the smallest. A cost that is not known does not
    meet a budget, and is further away than any that is. Ties are broken by quality, then by size.
    """
    unknown = Cost({}, "", "not estimated")
    placed = []
    for name, quality in qualities.items():
        cost = costs.get(name, unknown)
        known, ratio = cost.amounts, largest_ratio(cost.amounts, budgets)
        candidate = Candidate(
            student=name,
            quality=quality if math.isfinite(quality) else None,
            tool=cost.tool,
            lut=known.get("lut"),
            latency_ns=known.get("latency_ns"),
            interval_ns=known.get("interval_ns"),
            share=known.get("share"),
            note=cost.note,
            ratio=ratio if math.isfinite(ratio) else None,
            excluded=[text for _, text in missed(known, budgets)],
        )
        over = ratio if candidate.excluded else 0.0
        placed.append(((over, -quality, params[name]), candidate))
    return [candidate for _, candidate in sorted(placed, key=lambda each: each[0])]


def missed(amounts: Amounts, budgets: Mapping[str, float]) -> list[tuple[str, str]]:
    """Budgets that are not met, and by how much.

    `LUT 26,318: 6,318 over max_lut 20,000 (1.32 times)`.
    """
    found = []
    for budget, limit in budgets.items():
        what = BUDGETS[budget]
        value = amounts.get(what)
        allowed = f"{budget} {amount(what, limit)}"
        if value is None:
            found.append((budget, f"{_WORDS[what]} not known: {allowed}"))
        elif value > limit:
            over = f"{amount(what, value - limit)} over {allowed} ({value / limit:.3g} times)"
            found.append((budget, f"{_WORDS[what]} {amount(what, value)}: {over}"))
    return found


def largest_ratio(amounts: Amounts, budgets: Mapping[str, float]) -> float:
    """The largest ratio of cost to budget; infinite if a cost is not known, 0 without budgets."""
    values = [(amounts.get(BUDGETS[budget]), limit) for budget, limit in budgets.items()]
    return max((math.inf if v is None else v / limit for v, limit in values), default=0.0)


def amount(what: str, value: float) -> str:
    """A cost with its unit."""
    if what == "share":
        return f"{100 * value:.3g} %"
    return f"{value:,.0f}" if what == "lut" else f"{value:.6g} ns"
