"""What an array of the written code holds: a layer of the exact network, and what was done to it.

Conversions between fixed-point types are functions of one number. Whether a chain of them is the
network's quantizer is decided on *every* count that interval arithmetic lets through: one by one up
to four million, by argument beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.exact.graph import Network, Node, Quantize, Rectify, Reshape
from l1kd.fixedpoint import FixedPoint

__all__ = ["EXHAUSTIVE", "Meaning", "Step", "applied", "lossless", "settled"]

EXHAUSTIVE = 1 << 22
Counts = NDArray[Any]
Step = FixedPoint | Literal["relu", "hard_tanh", "hard_sigmoid"]
Single = Quantize | Rectify  # layers that are functions of single values
Pads = tuple[tuple[int, int], tuple[int, int]]
NO_PADS: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Meaning:
    """What an array holds.

    Parameters
    ----------
    node
        The layer of the exact network whose values entered the steps.
    steps
        What was done to them, in order.
    padding
        Zeros around them.
    """

    node: str
    steps: tuple[Step, ...] = ()
    padding: Pads = NO_PADS

    def then(self, *steps: Step) -> Meaning:
        """The same with more steps."""
        return Meaning(self.node, (*self.steps, *steps), self.padding)


def applied(steps: tuple[Step, ...], counts: Counts, fraction: int) -> tuple[Counts, int]:
    """Steps on counts of 2^-fraction: counts, and their fraction."""
    for step in steps:
        if isinstance(step, FixedPoint):
            counts, fraction = step.requantize(counts, fraction), step.fraction
            continue
        if step == "relu":
            counts = np.maximum(counts, 0)
            continue
        if fraction < 0:
            counts, fraction = counts * (1 << -fraction), 0
        if step == "hard_tanh":
            counts = np.clip(counts, -(1 << fraction), 1 << fraction)
        else:  # x/2 + 1/2, between 0 and 1
            counts, fraction = counts + (1 << fraction), fraction + 1
            counts = np.clip(counts, 0, 1 << fraction)
    return counts, fraction


def lossless(kind: FixedPoint, low: int, high: int, fraction: int) -> bool:
    """Whether a type holds every count from `low` to `high` of 2^-fraction as it is."""
    if not low and not high:
        return True
    shift = kind.fraction - fraction
    bottom, top = kind.bounds
    return shift >= 0 and bottom <= low << shift and high << shift <= top


def settled(network: Network, meaning: Meaning) -> set[str]:
    """Layers of the exact network that an array holds, for every event; empty if none.

    Followed are quantizers behind the layer, one after the other, and reshapes, which move no value
    in memory.
    """
    found: set[str] = set()
    waiting: list[tuple[str, tuple[Single, ...]]] = [(meaning.node, ())]
    while waiting:
        name, chain = waiting.pop()
        if _equal(network, meaning, chain):
            found.add(name)
        for node in network.nodes:
            if name not in node.sources:
                continue
            if isinstance(node, Reshape):
                waiting.append((node.name, chain))
            elif isinstance(node, Quantize) or (isinstance(node, Rectify) and node.shift is None):
                waiting.append((node.name, (*chain, node)))
    return found


def next_quantizer(network: Network, name: str) -> Node | None:
    """The first quantizer behind a layer, for messages."""
    for node in network.nodes:
        if name in node.sources:
            return node if isinstance(node, Quantize) else next_quantizer(network, node.name)
    return None


def _equal(network: Network, meaning: Meaning, chain: tuple[Single, ...]) -> bool:
    bound = network.bounds[meaning.node]
    low, high = int(bound.low.min()), int(bound.high.max())
    if high - low < EXHAUSTIVE and max(abs(low), abs(high)) < 1 << 40:
        counts = np.arange(low, high + 1, dtype=np.int64)
        ours, fraction = applied(meaning.steps, counts, bound.fraction)
        wanted, other = applied(_as_steps(chain), counts, bound.fraction)
        common = max(fraction, other)
        return bool(np.array_equal(_at(ours, common - fraction), _at(wanted, common - other)))
    return _by_argument(meaning.steps, chain, low, high, bound.fraction)


def _as_steps(chain: tuple[Single, ...]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for node in chain:
        if isinstance(node, Rectify):
            steps.append("relu")
        else:
            steps += ["hard_sigmoid", node.type] if node.halved else [node.type]
    return tuple(steps)


def _at(counts: Counts, left: int) -> Counts:
    return counts.astype(object) * (1 << left) if left > 20 else counts * (1 << left)


def _by_argument(
    steps: tuple[Step, ...], chain: tuple[Single, ...], low: int, high: int, fraction: int
) -> bool:
    """Steps that lose nothing can be left out; what is left has to be the quantizers themselves."""
    kept: list[Step] = []
    wanted = list(_as_steps(chain))
    for place, step in enumerate(steps):
        following = steps[place + 1] if place + 1 < len(steps) else None
        if not kept and isinstance(step, FixedPoint):
            last = following is None and bool(wanted)  # it may be the quantizer itself
            if not last and lossless(step, low, high, fraction):
                continue
        if not kept and step == "relu" and _is_relu(following):
            continue
        kept.append(step)
    if wanted and not kept:
        return all(
            isinstance(step, FixedPoint) and lossless(step, low, high, fraction) for step in wanted
        )
    return kept == wanted


def _is_relu(step: Step | None) -> bool:
    """Whether a type makes 0 of what is below 0: then nothing before it has to."""
    return (
        isinstance(step, FixedPoint)
        and not step.signed
        and (step.rounding, step.overflow) == ("RND_CONV", "SAT")
    )
