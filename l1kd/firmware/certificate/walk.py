"""What a certificate says, and what is known on the way to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from l1kd.exact.graph import Network
from l1kd.firmware.certificate.meaning import NO_PADS, Meaning, Pads, lossless, next_quantizer
from l1kd.firmware.certificate.meaning import Step as Conversion
from l1kd.firmware.certificate.source import Program
from l1kd.fixedpoint import FixedPoint

__all__ = [
    "STEPS",
    "SUMS",
    "Certificate",
    "Finding",
    "Modelled",
    "State",
    "Step",
    "Walk",
    "unsettled",
]

Step = Literal["port", "code", "weights", "sums", "quantizer", "compiled"]
STEPS: tuple[Step, ...] = ("port", "code", "weights", "sums", "quantizer", "compiled")
State = Literal["refused", "open"]
SUMS = ":sums"  # the exact network's name for what a layer computes before its activation


@dataclass(frozen=True)
class Finding:
    """A layer of which something could not be proved.

    `refused`: it is known to be other than it has to be. `open`: it is beyond what the argument
    covers, and only tests speak.
    """

    layer: str
    step: Step
    state: State
    reason: str


@dataclass(frozen=True)
class Certificate:
    """What is proved of a project.

    Parameters
    ----------
    layers
        The network's layers that were shown to be computed, in order.
    findings
        What was not, in the order of the data's flow; empty for a certified project.
    """

    layers: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def certified(self) -> bool:
        """Whether every output is proved for every event."""
        return not self.findings

    @property
    def refused(self) -> tuple[Finding, ...]:
        """What is known to be wrong."""
        return tuple(each for each in self.findings if each.state == "refused")

    @property
    def summary(self) -> str:
        """One line for the user."""
        if self.certified:
            return "certified for all inputs"
        first = (*self.refused, *self.findings)[0]
        word = "refused" if first.state == "refused" else "only tests speak"
        return f"{word}: layer {first.layer!r}, {first.step}: {first.reason}"


@dataclass(frozen=True)
class Modelled:
    """What a call was proved to compute, so that it can be run alone and compared.

    Parameters
    ----------
    layer
        Whose call it is, for messages.
    node
        The layer of the exact network that it computes; empty for a function of single values.
    sources, results
        Names of the arrays that it reads and writes.
    reads, writes
        Values of each.
    fractions
        What is read are counts of 2^-fraction.
    pads
        Zeros that already stand around what is read.
    steps
        What is done to the layer's values, or to the values read, for each result.
    low, high
        The ends of what is read by a function of single values, as counts.
    padding, shape
        Zeros that it puts around an image of a shape.
    """

    layer: str
    node: str
    sources: tuple[str, ...]
    results: tuple[str, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    fractions: tuple[int, ...]
    pads: tuple[Pads, ...]
    steps: tuple[tuple[Conversion, ...], ...]
    low: int = 0
    high: int = 0
    padding: Pads = NO_PADS
    shape: tuple[int, ...] = ()


@dataclass
class Walk:
    """The calls of a program, one after the other, and what was found of them."""

    network: Network
    program: Program
    meanings: dict[str, Meaning] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    matched: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    models: dict[int, Modelled] = field(default_factory=dict)

    @property
    def certificate(self) -> Certificate:
        """What was proved, and what was not."""
        doubted = {each.layer for each in self.findings}
        matched = set(self.matched)  # several layers may be matched at once, in no order
        proved = (n.name.removesuffix(SUMS) for n in self.network.nodes if n.name in matched)
        layers = tuple(dict.fromkeys(name for name in proved if name not in doubted))
        return Certificate(layers, tuple(self.findings))


def unsettled(walk: Walk, meaning: Meaning, wanted: str = "") -> None:
    """Note that what an array holds is not the quantizer that it has to be."""
    network, first = walk.network, meaning.steps[0] if meaning.steps else None
    bound = network.bounds[meaning.node]
    low, high = int(bound.low.min()), int(bound.high.max())
    step: Step = "quantizer"
    if (
        isinstance(first, FixedPoint)
        and (first.rounding, first.overflow) == ("TRN", "WRAP")
        and not lossless(first, low, high, bound.fraction)
    ):
        # No quantizer looks like this: the layer's own result is cut.
        needed = replace(bound.type, rounding="TRN", overflow="WRAP")
        layer, step = meaning.node.removesuffix(SUMS), "sums"
        reason = f"its result ({first.text}) does not hold what it can be ({needed.text})"
    else:
        node = next_quantizer(network, meaning.node)
        layer = wanted or (node.name if node else meaning.node)
        steps = ", ".join(each if isinstance(each, str) else each.text for each in meaning.steps)
        reason = f"({steps}) of {meaning.node!r} is not the network's quantizer on every value"
    if not any(each.layer == layer and each.step == step for each in walk.findings):
        walk.findings.append(Finding(layer, step, "refused", reason))
