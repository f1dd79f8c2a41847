"""Certificates and their findings; meanings of arrays: a layer of the exact network, and steps.

A chain of conversions is the network's quantizer if it is so on every count that can reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import IN_WORDS, Doubted, State, Step
from l1kd.exact.arithmetic import NO_PADS, Pads
from l1kd.exact.layers import Bound, Input, Node, Pad, Permute, Quantize, Rectify, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import Program
from l1kd.firmware.hls.project import Description

EXHAUSTIVE = 1 << 22
Counts = NDArray[Any]
# An integer is the shift of a leaky ReLU: x * 2^-shift where x is negative.
Applied = FixedPoint | int | Literal["relu", "hard_tanh", "hard_sigmoid"]
Single = Quantize | Rectify  # layers that are functions of single values


@dataclass(frozen=True)
class Meaning:
    """The values that an array holds: those of a layer of the exact network after some steps."""

    node: str
    steps: tuple[Applied, ...] = ()
    padding: Pads = NO_PADS  # zeros around them

    def then(self, *steps: Applied) -> Meaning:
        """The same with more steps."""
        return Meaning(self.node, (*self.steps, *steps), self.padding)


def applied(steps: tuple[Applied, ...], counts: Counts, fraction: int) -> tuple[Counts, int]:
    """Steps on counts of 2^-fraction: counts, and their fraction."""
    for step in steps:
        if isinstance(step, FixedPoint):
            counts, fraction = step.requantize(counts, fraction), step.fraction
            continue
        if step == "relu":
            counts = np.maximum(counts, 0)
            continue
        if isinstance(step, int):
            finer = max(step, 0)
            counts = np.where(counts >= 0, counts * (1 << finer), counts * (1 << finer - step))
            fraction += finer
            continue
        if fraction < 0:
            counts, fraction = counts * (1 << -fraction), 0
        if step == "hard_tanh":
            counts = np.clip(counts, -(1 << fraction), 1 << fraction)
        else:  # x/2 + 1/2, between 0 and 1
            counts, fraction = counts + (1 << fraction), fraction + 1
            counts = np.clip(counts, 0, 1 << fraction)
    return counts, fraction


def settled(network: Network, meaning: Meaning) -> set[str]:
    """Layers that an array holds, for every event: reshapes and chains of quantizers behind it."""
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
            elif isinstance(node, Quantize | Rectify):
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
    low, high = bound.lowest, bound.highest
    if countable(bound):
        counts = np.arange(low, high + 1, dtype=np.int64)
        ours, fraction = applied(meaning.steps, counts, bound.fraction)
        wanted, other = applied(_as_steps(chain), counts, bound.fraction)
        left, right = max(other - fraction, 0), max(fraction - other, 0)
        if max(left, right) > 20:
            ours, wanted = ours.astype(object), wanted.astype(object)
        return bool(np.array_equal(ours * (1 << left), wanted * (1 << right)))
    sides = (
        _reduced(each, low, high, bound.fraction) for each in (meaning.steps, _as_steps(chain))
    )
    return next(sides) == next(sides)


def reached(network: Network, name: str) -> bool:
    """True if every step of a layer's values can occur: those of the port or of a quantizer."""
    node = network[name]
    while isinstance(node, Reshape | Permute | Pad):
        node = network[node.sources[0]]
    return isinstance(node, Input | Quantize)


def countable(bound: Bound) -> bool:
    """True if all values of a layer are few enough to be tried one by one."""
    return bound.highest - bound.lowest < EXHAUSTIVE and bound.furthest < 1 << 40


def _as_steps(chain: tuple[Single, ...]) -> tuple[Applied, ...]:
    steps: list[Applied] = []
    for node in chain:
        if isinstance(node, Rectify):
            steps.append("relu" if node.shift is None else node.shift)
        else:
            steps += ["hard_sigmoid", node.type] if node.halved else [node.type]
    return tuple(steps)


def _reduced(steps: tuple[Applied, ...], low: int, high: int, fraction: int) -> list[Applied]:
    """Steps without those that lose nothing of counts between two ends."""
    kept: list[Applied] = []
    ends: Counts = np.array([low, high], object)
    for step, following in zip(steps, (*steps[1:], None), strict=False):
        if isinstance(step, FixedPoint) and step.carries(int(ends[0]), int(ends[1]), fraction):
            continue
        if _idle(step, following):
            continue
        kept.append(step)
        ends, fraction = applied((step,), ends, fraction)
    return kept


def _idle(step: Applied, following: Applied | None) -> bool:
    """True if the type behind a step does its work too: an unsigned one, one within -1 and 1."""
    if not isinstance(following, FixedPoint) or following.overflow != "SAT":
        return False
    if step == "relu":
        return not following.signed and following.rounding == "RND_CONV"
    return step == "hard_tanh" and following.low >= -1 and following.high <= 1


SUMS = ":sums"  # the exact network's name for what a layer computes before its activation


@dataclass(frozen=True)
class Certificate:
    """The layers that a project is proved to compute, and what is not proved."""

    layers: tuple[str, ...]  # in order
    findings: tuple[Doubted, ...]  # in the order of the data's flow; empty if certified
    content: str = ""  # hash of every file that it is about

    @property
    def certified(self) -> bool:
        """True if every output is proved for every event."""
        return not self.findings

    @property
    def refused(self) -> tuple[Doubted, ...]:
        """Findings that are shown wrong; others are open: no argument is known."""
        return tuple(each for each in self.findings if each.state == "refused")

    @property
    def summary(self) -> str:
        """One line for the user."""
        if self.certified:
            return "certified for all inputs"
        first = (*self.refused, *self.findings)[0]
        return f"{IN_WORDS[first.state]}: layer {first.layer!r}, {first.step}: {first.reason}"


@dataclass(frozen=True)
class Modelled:
    """The function that a call was proved to compute, so that it can be run alone and compared."""

    layer: str  # for messages
    sources: tuple[str, ...]  # arrays that are read
    results: tuple[str, ...]  # arrays that are written
    before: tuple[Meaning, ...]
    after: tuple[Meaning, ...]

    @property
    def read(self) -> dict[str, None]:
        """The arrays that are read, each once: a merge may read one twice."""
        return dict.fromkeys(self.sources)

    @property
    def single(self) -> bool:
        """True for a function of single values: the same layer after more steps."""
        first, last = self.before[0], self.after[0]
        return last.node == first.node and last.steps[: len(first.steps)] == first.steps


@dataclass
class Walk:
    """The state of a proof while it follows a program call by call."""

    network: Network
    program: Program
    description: Description
    content: str = ""  # hash of every file that was read
    label: str = ""  # the layer's name in the description, of the call that is followed
    meanings: dict[str, Meaning] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    matched: list[str] = field(default_factory=list)
    findings: list[Doubted] = field(default_factory=list)
    models: dict[int, Modelled] = field(default_factory=dict)

    def note(self, layer: str, step: Step, reason: str, state: State = "refused") -> None:
        """Add a finding."""
        self.findings.append(Doubted(layer, step, state, reason))

    @property
    def certificate(self) -> Certificate:
        """The layers proved so far, and the findings."""
        doubted = {each.layer for each in self.findings}
        matched = set(self.matched)  # several layers may be matched at once, in no order
        proved = (n.name.removesuffix(SUMS) for n in self.network.nodes if n.name in matched)
        layers = tuple(dict.fromkeys(name for name in proved if name not in doubted))
        return Certificate(layers, tuple(self.findings), self.content)


def unsettled(walk: Walk, meaning: Meaning, wanted: str = "") -> None:
    """Note that an array does not hold the quantizer that it has to."""
    network, bound = walk.network, walk.network.bounds[meaning.node]
    first = meaning.steps[0] if meaning.steps else None
    step: Step = "quantizer"
    # A value between two ends need not be one that the layer has, unless it is a quantizer's.
    behind = all(reached(network, source) for source in network[meaning.node].sources)
    state: State = "refused" if countable(bound) and behind else "open"
    ends = bound.lowest, bound.highest, bound.fraction
    cut = isinstance(first, FixedPoint) and (first.rounding, first.overflow) == ("TRN", "WRAP")
    if isinstance(first, FixedPoint) and cut and not first.carries(*ends):
        # No quantizer looks like this: the layer's own result is cut.
        needed = replace(bound.type, rounding="TRN", overflow="WRAP")
        layer, step = meaning.node.removesuffix(SUMS), "sums"
        if first.fraction >= bound.fraction:
            state = "refused"
        reason = f"its result ({first.text}) does not hold what it can be ({needed.text})"
    else:
        node = next_quantizer(network, meaning.node)
        layer = wanted or (node.name if node else meaning.node)
        steps = ", ".join(
            each.text if isinstance(each, FixedPoint) else str(each) for each in meaning.steps
        )
        reason = f"({steps}) of {meaning.node!r} is not the network's quantizer on every value"
        if state == "open":
            reason = f"no argument is known that {reason.replace(' is not ', ' is ')}"
    if not any((each.layer, each.step) == (layer, step) for each in walk.findings):
        walk.note(layer, step, reason, state)
