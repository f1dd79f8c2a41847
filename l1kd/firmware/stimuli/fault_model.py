"""Single-fault networks: which test vectors detect the fault?

Faults are those of firmware: a quantizer that rounds or overflows otherwise, or has a bit less at
either end; sums and averages that have a bit or two less at either end; a weight or bias that is
one count off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding
from l1kd.exact import layers
from l1kd.exact.arithmetic import Counts
from l1kd.exact.network import Network
from l1kd.firmware.stimuli.corner_inputs import Search

_CELLS = 1 << 24  # values of a network that are in memory at a time
_PER_WEIGHT = 3000  # evaluations of a search for every weight whose fault is tried


@dataclass(frozen=True)
class Fault:
    """A layer with a fault: another layer in its place, or a type that cuts its sums."""

    node: layers.Node
    faulty: layers.Node | FixedPoint

    def counts(self, network: Network, recorded: dict[str, Counts]) -> Counts:
        """Counts of the faulty layer, in LSBs of the right one, from those of a right network."""
        right = recorded[self.node.name]
        if isinstance(self.faulty, FixedPoint):
            fraction = network.bounds[self.node.name].fraction
            found, coarser = (
                self.faulty.requantize(right, fraction),
                fraction - self.faulty.fraction,
            )
        else:
            found = network.step(self.faulty, [recorded[name] for name in self.node.sources])
            coarser = 0
            if isinstance(self.node, layers.Quantize) and isinstance(self.faulty, layers.Quantize):
                coarser = self.node.type.fraction - self.faulty.type.fraction
        return np.asarray(found * (1 << coarser), right.dtype)


def faults(search: Search) -> list[Fault]:
    """Faults of a network that some event may show: of quantizers first, then layer by layer."""
    others = [node for node in search.network.nodes if not isinstance(node, layers.Quantize)]
    return [
        Fault(node, faulty)
        for node in (*search.quantizers, *others)
        if type(node) not in NO_FAULTS
        for faulty in layers.of_kind(FAULTS, NO_FAULTS, node)(search, node)
    ]


def detected(search: Search, counts: Counts, tried: list[Fault]) -> NDArray[np.bool_]:
    """`detected[fault, event]`: where an output of events (N, inputs) differs."""
    network = search.network
    size = max(16, _CELLS // sum(node.size for node in network.nodes))
    parts = []
    for start in range(0, max(1, len(counts)), size):
        chunk = counts[start : start + size].reshape(-1, *network.shape)
        recorded = network.record(chunk, network.outputs)
        rows = [_differs(network, recorded, each) for each in tried]
        parts.append(np.array(rows, np.bool_).reshape(len(tried), len(chunk)))
    return np.concatenate(parts, axis=1)


def _differs(network: Network, recorded: dict[str, Counts], fault: Fault) -> NDArray[np.bool_]:
    """Events whose outputs differ, (N,): only what reads a changed value is computed again."""
    name, changed = fault.node.name, fault.counts(network, recorded)
    events = len(changed)
    where = np.flatnonzero((changed != recorded[name]).reshape(events, -1).any(axis=1))
    found = np.zeros(events, np.bool_)
    if not len(where):
        return found
    others = {name: changed[where]}
    for each in network.nodes:
        if each.name in others or not any(name in others for name in each.sources):
            continue
        parts = [others[name] if name in others else recorded[name][where] for name in each.sources]
        others[each.name] = network.step(each, parts)
    for name in network.outputs:
        if name in others:
            same = others[name] == recorded[name][where]
            found[where] |= ~same.reshape(len(where), -1).all(axis=1)
    return found


def _of_quantizer(search: Search, node: layers.Quantize) -> Iterator[layers.Quantize]:
    kind, bound = node.type, search.network.bounds[node.sources[0]]
    _, fraction = node.seen(bound.fraction)
    lsb = 2.0**-bound.fraction
    if fraction > kind.fraction:
        for rounding in get_args(Rounding):
            if rounding != kind.rounding:
                yield replace(node, type=replace(kind, rounding=rounding))
    if node.halved or bound.low.min() * lsb < kind.low or bound.high.max() * lsb > kind.high:
        for overflow in get_args(Overflow):
            if overflow != kind.overflow and (kind.signed or overflow != "SAT_SYM"):
                yield replace(node, type=replace(kind, overflow=overflow))
    if kind.word > 1:
        narrow = replace(kind, word=kind.word - 1, integer=kind.integer - 1)
        coarse = replace(kind, word=kind.word - 1)
        for other in (narrow, replace(narrow, overflow="WRAP"), coarse):
            yield replace(node, type=other)
        yield replace(node, type=replace(coarse, rounding="TRN"))


def _of_sums(search: Search, node: layers.Node) -> Iterator[FixedPoint]:
    """Sums drop bits as `ap_fixed` does by default: they truncate and wrap around."""
    kind = replace(search.network.bounds[node.name].type, rounding="TRN", overflow="WRAP")
    for fewer in (1, 2):
        if kind.word > fewer:
            yield replace(kind, word=kind.word - fewer)
            yield replace(kind, word=kind.word - fewer, integer=kind.integer - fewer)


def _of_affine(search: Search, node: layers.Affine) -> Iterator[FixedPoint | layers.Affine]:
    """Sums, then some of the biases and weights one count up or down."""
    yield from _of_sums(search, node)
    random = np.random.default_rng(node.kernel.size)
    # With biases that are all 0 the layer's fraction is another one.
    for name in ("bias", "kernel") if node.bias.any() else ("kernel",):
        values = getattr(node, name)
        both = [(place, sign) for place in range(values.size) for sign in (-1, 1)]
        for index in random.permutation(len(both))[: search.effort // _PER_WEIGHT]:
            place, sign = both[index]
            changed = values.reshape(-1).copy()
            changed[place] += sign
            if name == "kernel" or changed.any():
                yield replace(node, **{name: changed.reshape(values.shape)})


FAULTS: dict[type[layers.Node], Callable[[Search, Any], Iterator[layers.Node | FixedPoint]]] = {
    layers.Quantize: _of_quantizer,
    layers.Dense: _of_affine,
    layers.Conv: _of_affine,
    layers.Pool: _of_sums,
}
NO_FAULTS: dict[type[layers.Node], str] = {
    layers.Input: "events come on its grid",
    **dict.fromkeys(
        (layers.Pad, layers.Reshape, layers.Permute), "it moves values and computes none"
    ),
    **dict.fromkeys((layers.Rectify, layers.Merge), "the quantizer behind it shows what it gives"),
}
