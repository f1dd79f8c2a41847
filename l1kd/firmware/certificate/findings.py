"""Certificates and their findings; meanings of arrays: a layer of the exact network, and steps.

A chain of conversions is the network's quantizer if it is so on every count that can reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Doubted, State, Step
from l1kd.exact.arithmetic import NO_PADS, Pads
from l1kd.exact.layers import Node, Quantize, Rectify, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import Program
from l1kd.firmware.hls.project import Description

EXHAUSTIVE = 1 << 22
Counts = NDArray[Any]
Applied = FixedPoint | Literal["relu", "hard_tanh", "hard_sigmoid"]
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
    low, high = bound.lowest, bound.highest
    if high - low < EXHAUSTIVE and bound.furthest < 1 << 40:
        counts = np.arange(low, high + 1, dtype=np.int64)
        ours, fraction = applied(meaning.steps, counts, bound.fraction)
        wanted, other = applied(_as_steps(chain), counts, bound.fraction)
        left, right = max(other - fraction, 0), max(fraction - other, 0)
        if max(left, right) > 20:
            ours, wanted = ours.astype(object), wanted.astype(object)
        return bool(np.array_equal(ours * (1 << left), wanted * (1 << right)))
    return _by_argument(meaning.steps, chain, low, high, bound.fraction)


def _as_steps(chain: tuple[Single, ...]) -> tuple[Applied, ...]:
    steps: list[Applied] = []
    for node in chain:
        if isinstance(node, Rectify):
            steps.append("relu")
        else:
            steps += ["hard_sigmoid", node.type] if node.halved else [node.type]
    return tuple(steps)


def _by_argument(
    steps: tuple[Applied, ...], chain: tuple[Single, ...], low: int, high: int, fraction: int
) -> bool:
    """Steps that lose nothing can be left out; what is left has to be the quantizers themselves."""
    kept: list[Applied] = []
    wanted = list(_as_steps(chain))
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        if not kept and isinstance(step, FixedPoint):
            last = following is None and wanted  # it may be the quantizer itself
            if not last and step.carries(low, high, fraction):
                continue
        if not kept and _idle(step, following):
            continue
        kept.append(step)
    if kept:
        return kept == wanted
    return all(
        isinstance(each, FixedPoint) and each.carries(low, high, fraction) for each in wanted
    )


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
        """Findings that are known to be wrong."""
        return tuple(each for each in self.findings if each.state == "refused")

    @property
    def summary(self) -> str:
        """One line for the user."""
        if self.certified:
            return "certified for all inputs"
        first = (*self.refused, *self.findings)[0]
        word = "refused" if first.state == "refused" else "tested, not proved"
        return f"{word}: layer {first.layer!r}, {first.step}: {first.reason}"


@dataclass(frozen=True)
class Modelled:
    """The function that a call was proved to compute, so that it can be run alone and compared."""

    layer: str  # for messages
    sources: tuple[str, ...]  # arrays that are read
    results: tuple[str, ...]  # arrays that are written
    before: tuple[Meaning, ...]
    after: tuple[Meaning, ...]

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
    ends = bound.lowest, bound.highest, bound.fraction
    cut = isinstance(first, FixedPoint) and (first.rounding, first.overflow) == ("TRN", "WRAP")
    if isinstance(first, FixedPoint) and cut and not first.carries(*ends):
        # No quantizer looks like this: the layer's own result is cut.
        needed = replace(bound.type, rounding="TRN", overflow="WRAP")
        layer, step = meaning.node.removesuffix(SUMS), "sums"
        reason = f"its result ({first.text}) does not hold what it can be ({needed.text})"
    else:
        node = next_quantizer(network, meaning.node)
        layer = wanted or (node.name if node else meaning.node)
        steps = ", ".join(each if isinstance(each, str) else each.text for each in meaning.steps)
        reason = f"({steps}) of {meaning.node!r} is not the network's quantizer on every value"
    if not any((each.layer, each.step) == (layer, step) for each in walk.findings):
        walk.note(layer, step, reason)
