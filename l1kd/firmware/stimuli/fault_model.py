"""The exact network with one thing changed, as faults of firmware would: who notices?

A quantizer that rounds or overflows otherwise or has a bit less at either end; sums and averages
that have a bit or two less at either end; weights and biases that are one count off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding
from l1kd.exact.evaluate import step
from l1kd.exact.gradient import record, seen
from l1kd.exact.network import Conv, Dense, Network, Node, Pool, Quantize
from l1kd.firmware.stimuli.corner_search import Search

Counts = NDArray[np.int64]
Array = NDArray[Any]

_CELLS = 1 << 24  # values of a network that are in memory at a time
_PER_WEIGHT = 3000  # evaluations of a search for every weight whose change is tried


@dataclass(frozen=True)
class Change:
    """A layer, and what it gives once it is changed, from what all layers give before."""

    node: Node
    given: Callable[[dict[str, Array]], Array]


def changes(search: Search) -> list[Change]:
    """Changes of a network that some event may notice."""
    network = search.network
    found: list[Change] = []
    for quantizer in search.quantizers:
        kinds = _other_types(network, quantizer)
        found += [
            Change(quantizer, partial(_requantized, network, quantizer, kind)) for kind in kinds
        ]
    for node in network.nodes:
        if isinstance(node, (Dense, Conv, Pool)):
            sums = _other_sums(network.bounds[node.name].type)
            found += [Change(node, partial(_cut, network, node, kind)) for kind in sums]
        if isinstance(node, (Dense, Conv)):
            others = _other_weights(node, search.effort // _PER_WEIGHT)
            found += [Change(node, partial(_recomputed, network, other)) for other in others]
    return found


def noticed(search: Search, counts: Counts, what: list[Change]) -> NDArray[np.bool_]:
    """Which events have another output under which change.

    `counts`: events as counts of the port's LSB, (N, inputs).
    """
    network = search.network
    size = max(16, _CELLS // sum(node.size for node in network.nodes))
    parts = []
    for start in range(0, max(1, len(counts)), size):
        chunk = counts[start : start + size].reshape(-1, *network.shape)
        recorded = record(network, chunk, network.outputs)
        rows = [_differs(network, recorded, each.node, each.given(recorded)) for each in what]
        parts.append(np.array(rows, np.bool_).reshape(len(what), len(chunk)))
    return np.concatenate(parts, axis=1)


def _requantized(
    network: Network, node: Quantize, kind: FixedPoint, recorded: dict[str, Array]
) -> Array:
    changed = step(network, replace(node, type=kind), [recorded[node.sources[0]]])
    return _aligned(changed, node.type.fraction - kind.fraction, recorded[node.name])


def _cut(network: Network, node: Node, kind: FixedPoint, recorded: dict[str, Array]) -> Array:
    fraction, given = network.bounds[node.name].fraction, recorded[node.name]
    return _aligned(kind.requantize(given, fraction), fraction - kind.fraction, given)


def _recomputed(network: Network, node: Node, recorded: dict[str, Array]) -> Array:
    return step(network, node, [recorded[name] for name in node.sources])


def _aligned(counts: Array, coarser: int, like: Array) -> Array:
    """Counts of a type that is coarser by some bits, in those of the original."""
    return np.asarray(counts * (1 << coarser), like.dtype)


def _other_types(network: Network, node: Quantize) -> Iterator[FixedPoint]:
    kind, bound = node.type, network.bounds[node.sources[0]]
    _, fraction = seen(network, node)
    lsb = 2.0**-bound.fraction
    if fraction > kind.fraction:
        for rounding in get_args(Rounding):
            if rounding != kind.rounding:
                yield replace(kind, rounding=rounding)
    if node.halved or bound.low.min() * lsb < kind.low or bound.high.max() * lsb > kind.high:
        for overflow in get_args(Overflow):
            if overflow != kind.overflow and (kind.signed or overflow != "SAT_SYM"):
                yield replace(kind, overflow=overflow)
    if kind.word > 1:
        narrow = replace(kind, word=kind.word - 1, integer=kind.integer - 1)
        yield narrow
        yield replace(narrow, overflow="WRAP")
        yield replace(kind, word=kind.word - 1)
        yield replace(kind, word=kind.word - 1, rounding="TRN")


def _other_sums(kind: FixedPoint) -> Iterator[FixedPoint]:
    """Sums drop bits as `ap_fixed` does by default: they truncate, and turn over."""
    plain = replace(kind, rounding="TRN", overflow="WRAP")
    for fewer in (1, 2):
        if kind.word > fewer:
            yield replace(plain, word=kind.word - fewer)
            yield replace(plain, word=kind.word - fewer, integer=kind.integer - fewer)


def _other_weights(node: Dense | Conv, most: int) -> Iterator[Dense | Conv]:
    """Some of the biases and weights one count up or down."""
    random = np.random.default_rng(node.kernel.size)
    # With biases that are all 0 the layer's fraction is another one.
    names = ("bias", "kernel") if node.bias.any() else ("kernel",)
    for name in names:
        values = getattr(node, name)
        both = [(place, sign) for place in range(values.size) for sign in (-1, 1)]
        for index in random.permutation(len(both))[:most]:
            place, sign = both[index]
            changed = values.reshape(-1).copy()
            changed[place] += sign
            if name == "kernel" or changed.any():
                yield replace(node, **{name: changed.reshape(values.shape)})


def _differs(
    network: Network, recorded: dict[str, Array], node: Node, changed: Array
) -> NDArray[np.bool_]:
    """Events whose outputs differ when a layer gives something else."""
    events = len(changed)
    where = np.flatnonzero((changed != recorded[node.name]).reshape(events, -1).any(axis=1))
    found = np.zeros(events, np.bool_)
    if not len(where):
        return found
    others = {node.name: changed[where]}
    for each in network.nodes:
        if each.name in others or not any(name in others for name in each.sources):
            continue
        parts = [others[name] if name in others else recorded[name][where] for name in each.sources]
        others[each.name] = step(network, each, parts)
    for name in network.outputs:
        if name in others:
            same = others[name] == recorded[name][where]
            found[where] |= ~same.reshape(len(where), -1).all(axis=1)
    return found
