"""What a call was proved to compute, in a form that can be run beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from l1kd.exact.graph import Network
from l1kd.firmware.certificate.layers import image
from l1kd.firmware.certificate.meaning import (
    EXHAUSTIVE,
    NO_PADS,
    Meaning,
    Pads,
    applied,
    next_quantizer,
)
from l1kd.firmware.certificate.walk import SUMS, Modelled, Walk

__all__ = ["modelled"]


def modelled(walk: Walk, label: str, sources: list[str], results: list[str]) -> Modelled:
    """The model of a call whose arrays' meanings are known; `label` is its comment."""
    program, network = walk.program, walk.network
    before = [walk.meanings[program.aliases.get(name, name)] for name in sources]
    after = [walk.meanings[name] for name in results]
    first, last = before[0], after[0]
    if last.node == first.node and last.steps[: len(first.steps)] == first.steps:
        found = _of_values(network, sources, results, first, after)
        return replace(found, layer=_layer(network, label, first.node))
    node = network[last.node]
    return Modelled(
        layer=last.node.removesuffix(SUMS),
        node=last.node,
        sources=tuple(sources),
        results=tuple(results),
        reads=tuple(
            _size(network[name].shape, meaning.padding)
            for name, meaning in zip(node.sources, before, strict=True)
        ),
        writes=tuple(node.size for _ in results),
        fractions=tuple(network.bounds[name].fraction for name in node.sources),
        pads=tuple(meaning.padding for meaning in before),
        steps=tuple(meaning.steps for meaning in after),
    )


def _layer(network: Network, label: str, node: str) -> str:
    """Whose function of single values it is: the comment's, or the next quantizer's."""
    if any(label == each.name for each in network.nodes):
        return label
    behind = next_quantizer(network, node)
    return (behind.name if behind else node).removesuffix(SUMS)


def _of_values(
    network: Network, sources: list[str], results: list[str], first: Meaning, after: list[Meaning]
) -> Modelled:
    shape = network[first.node].shape
    low, high, fraction = _ends(network, first)
    return Modelled(
        layer=first.node.removesuffix(SUMS),
        node="",
        sources=tuple(sources),
        results=tuple(results),
        reads=(_size(shape, first.padding),),
        writes=tuple(_size(shape, meaning.padding) for meaning in after),
        fractions=(fraction,),
        pads=(NO_PADS,),
        steps=tuple(meaning.steps[len(first.steps) :] for meaning in after),
        low=low,
        high=high,
        padding=after[0].padding if first.padding == NO_PADS else NO_PADS,
        shape=shape,
    )


def _ends(network: Network, meaning: Meaning) -> tuple[int, int, int]:
    """The lowest and highest count that an array can hold, and its fraction."""
    bound = network.bounds[meaning.node]
    low, high = int(bound.low.min()), int(bound.high.max())
    counts = np.arange(low, high + 1) if high - low < EXHAUSTIVE else np.array([low, 0, high])
    held, fraction = applied(meaning.steps, counts.astype(np.int64), bound.fraction)
    return int(held.min()), int(held.max()), fraction


def _size(shape: tuple[int, ...], padding: Pads) -> int:
    if padding == NO_PADS:
        return int(np.prod(shape, dtype=int))
    height, width, channels = image(shape)
    return (height + sum(padding[0])) * (width + sum(padding[1])) * channels
