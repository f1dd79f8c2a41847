"""Choice of the best student: by quality, among those whose cost is within the budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping

from l1kd.core.run_files import Candidate, Resources

# The amounts that budgets limit, see `Resources.budgeted`.
_WORDS = {
    "lut": "LUT",
    "latency_ns": "latency",
    "interval_ns": "interval",
    "share": "share of the part",
}
BUDGETS = {f"max_{name}": name for name in _WORDS}  # by key of the configuration
Amounts = Mapping[str, float | None]  # `lut`, `latency_ns`, `interval_ns`, `share`; None: unknown


def candidates(
    qualities: Mapping[str, float],
    params: Mapping[str, int],
    costs: Mapping[str, Resources],
    budgets: Mapping[str, float],
) -> list[Candidate]:
    """Students, best first: within budgets by quality, others by ratio of cost to budget."""
    placed = []
    for name, quality in qualities.items():
        amounts = cost.budgeted if (cost := costs.get(name)) else {}
        ratio = largest_ratio(amounts, budgets)
        candidate = Candidate(
            student=name,
            quality=quality if math.isfinite(quality) else None,
            tool=cost.tool if cost else "",
            note=cost.note if cost else "not estimated",
            ratio=ratio if math.isfinite(ratio) else None,
            excluded=[text for _, text in missed(amounts, budgets)],
            **amounts,
        )
        over = ratio if candidate.excluded else 0.0
        placed.append(((over, -quality, params[name]), candidate))
    return [candidate for _, candidate in sorted(placed, key=lambda each: each[0])]


def missed(amounts: Amounts, budgets: Mapping[str, float]) -> list[tuple[str, str]]:
    """Missed budgets in words: `LUT 26,318: 6,318 over max_lut 20,000 (1.32 times)`."""
    found = []
    for budget, limit in budgets.items():
        name = BUDGETS[budget]
        value = amounts.get(name)
        allowed = f"{budget} {amount(name, limit)}"
        if value is None:
            found.append((budget, f"{_WORDS[name]} not known: {allowed}"))
        elif value > limit:
            over = f"{amount(name, value - limit)} over {allowed} ({value / limit:.3g} times)"
            found.append((budget, f"{_WORDS[name]} {amount(name, value)}: {over}"))
    return found


def largest_ratio(amounts: Amounts, budgets: Mapping[str, float]) -> float:
    """The largest ratio of cost to budget; infinite if a cost is not known, 0 without budgets."""
    values = [(amounts.get(BUDGETS[budget]), limit) for budget, limit in budgets.items()]
    return max((math.inf if v is None else v / limit for v, limit in values), default=0.0)


def amount(name: str, value: float) -> str:
    """A cost with its unit."""
    if name == "share":
        return f"{100 * value:.3g} %"
    return f"{value:,.0f}" if name == "lut" else f"{value:.6g} ns"
