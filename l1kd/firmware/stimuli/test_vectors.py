"""Test vectors of a project: few events that detect as many single-layer faults as they can.

The faults are other roundings and overflows, lost bits, and weights or biases one count off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding
from l1kd.exact import layers
from l1kd.exact.gradient import backward, sensitivities
from l1kd.exact.network import Network
from l1kd.firmware.stimuli import corner_inputs
from l1kd.firmware.stimuli.corner_inputs import Counts, Search

_EVENTS = 2000  # of a project
_VALUES = 378_000  # in its inputs: 1,500 events of 252, about 1.5 MB of text
_ROUNDS = 8  # of new events for faults that few of the pool detect
_PER_FAULT = 8  # events that detect each fault
_PER_WEIGHT = 8.0  # sum of a weight's derivatives over the events, in LSBs of the output
_TRIED = 48  # events that compete for a place
_ENTRIES = 1 << 24  # derivatives in memory at a time
_CELLS = 1 << 24  # values of a network in memory at a time
_PER_TRY = 3000  # evaluations of a search for every weight whose fault is tried


def choose(
    network: Network, more: ArrayLike | None = None, *, seed: int = 0, limit: int | None = None
) -> NDArray[np.float64]:
    """Test vectors (N, *shape), values of the port, without repetitions; a quarter from `more`."""
    random = np.random.default_rng([seed, 0x7EC7])
    search = Search(network, random)
    room = limit or min(_EVENTS, max(16, _VALUES // search.size))
    given = np.reshape([] if more is None else np.asarray(more, np.float64), (-1, search.size))
    held = network.port.integers(given[network.port.holds(given).all(axis=1)])
    own = corner_inputs.distinct(held)[: room // 4]
    first = corner_inputs.plain(network.port, network.shape, random, max(room, 512) // 2)
    aims = corner_inputs.searched(search, first)
    base = first[:12]  # constants and checkerboards
    spread_out = corner_inputs.mixed(network.port, network.shape, random, min(4096, search.pool))
    pool = corner_inputs.distinct(np.concatenate([own, base, spread_out, *aims]))
    raised = _raised(search, pool)
    pool = corner_inputs.distinct(np.concatenate([pool, raised]))
    chosen = np.concatenate([own, _by_faults(search, pool, room // 2)])
    further = _by_weights(search, pool, chosen, room * 7 // 8)
    turns = corner_inputs.turns([*aims, first], search.size)
    rest = [turns, raised[random.permutation(len(raised))], pool]
    kept = corner_inputs.distinct(np.concatenate([chosen, further, base, *rest]))
    events: NDArray[np.float64] = (kept[:room] * network.port.lsb).reshape(-1, *network.shape)
    return events


def _raised(search: Search, pool: Counts) -> Counts:
    """Single inputs at other values, on events that saturate little: so that weights show."""
    random, inputs, most = search.random, np.arange(search.size), max(64, search.pool // 3)
    some = pool[random.permutation(len(pool))[: max(64, search.effort // 64)]]
    order = np.argsort(-_open_share(search, some), kind="stable")
    background = some[order[: max(4, len(some) // 8)]]
    levels = [1 << power for power in range(search.network.port.word)]
    levels = [level for level in levels if level <= search.high] or [search.high]
    if search.size > most:
        inputs = np.sort(random.choice(search.size, most, replace=False))
    raised = np.repeat(background[random.integers(0, len(background), len(inputs))], 3, axis=0)
    rows, places = np.arange(len(raised)), np.repeat(inputs, 3)
    added = np.array(levels)[random.integers(0, len(levels), len(raised))]
    raised[rows, places] = np.minimum(raised[rows, places] + added, search.high)
    return raised


def _open_share(search: Search, counts: Counts) -> NDArray[np.float64]:
    """Share of an event's values inside their quantizer's range, (N,); 0 where outputs saturate."""
    network = search.network
    names = [node.sources[0] for node in search.quantizers]
    values = search.values(counts, names)
    shares, shown = [], np.ones(len(counts), np.bool_)
    for node, name in zip(search.quantizers, names, strict=True):
        entered = values[name].astype(np.float64) * 2.0 ** -network.bounds[name].fraction
        inside = (entered > node.type.low) & (entered < node.type.high)
        shares.append(inside.mean(axis=1))
        if node.name in network.outputs:
            shown &= inside.any(axis=1)
    return np.asarray(np.mean(shares, axis=0) * shown if shares else shown, np.float64)


def _by_faults(search: Search, pool: Counts, most: int) -> Counts:
    """Events of the pool, and new ones, that detect each fault several times if it can be."""
    tried = faults(search)
    # Of large networks not all events can be tried with every fault.
    pool = pool[search.random.permutation(len(pool))[: max(256, search.effort // 50)]]
    table = detected(search, pool, tried)
    for _ in range(_ROUNDS):
        rare = np.flatnonzero(table.sum(axis=1) < _PER_FAULT)
        if not len(rare):
            break
        fresh = _fresh(search, pool[table[rare].any(axis=0)], search.effort // (16 * len(rare)))
        hits = detected(search, fresh, [tried[index] for index in rare]).any(axis=0)
        if hits.any():
            pool = np.concatenate([pool, fresh[hits]])
            table = np.concatenate([table, detected(search, fresh[hits], tried)], axis=1)
    missing = np.minimum(table.sum(axis=1), _PER_FAULT)
    # A fault that few events detect counts more than one that all of them do.
    rarity = 1 / (1.0 + table.sum(axis=1))
    chosen: list[int] = []
    while missing.any() and len(chosen) < most:
        best = int(np.argmax(((missing > 0) * rarity) @ table))
        chosen.append(best)
        missing = np.maximum(missing - table[:, best], 0)
        table[:, best] = False
    return pool[chosen]


def _fresh(search: Search, near: Counts, count: int) -> Counts:
    """Other events: half of them close to those given, if there are any."""
    random, count = search.random, min(count, search.pool)
    drawn = corner_inputs.mixed(search.network.port, search.network.shape, random, count)
    if len(near):
        half = count // 2
        close = near[random.integers(0, len(near), half)]
        size = 1 << random.integers(0, max(1, search.network.port.word - 1), close.shape)
        moves = random.random(close.shape) < np.maximum(2, random.integers(0, 9)) / search.size
        drawn[:half] = close + moves * random.choice([-1, 1], close.shape) * size
    return np.clip(drawn, search.low, search.high)


def _by_weights(search: Search, pool: Counts, chosen: Counts, most: int) -> Counts:
    """Further events of the pool, so that every weight and bias moves an output of some event."""
    affine = [node for node in search.network.nodes if isinstance(node, layers.Affine)]
    entries = sum(node.kernel.size + node.bias.size for node in affine)
    if not entries:
        return pool[:0]
    tried = max(4, min(_TRIED, _ENTRIES // (8 * entries)))
    missing = np.full(entries, _PER_WEIGHT)
    for start in range(0, len(chosen), tried):
        given = _effects(search, chosen[start : start + tried], affine)
        missing -= np.minimum(given, 1).sum(axis=0)
    missing = np.maximum(missing, 0)
    order = search.random.permutation(len(pool))[: max(1, search.effort // 64) * tried]
    added: list[int] = []
    for start in range(0, len(order), tried):
        if len(chosen) + len(added) >= most or not missing.any():
            break
        some = order[start : start + tried]
        given = np.minimum(_effects(search, pool[some], affine), 1)
        for _ in range(max(1, len(some) // 6)):
            gain = np.minimum(given, missing).sum(axis=1)
            best = int(np.argmax(gain))
            if gain[best] == 0 or len(chosen) + len(added) >= most:
                break
            added.append(int(some[best]))
            missing = np.maximum(missing - given[best], 0)
            given[best] = 0
    return pool[added]


def _effects(search: Search, counts: Counts, affine: list[layers.Affine]) -> NDArray[Any]:
    """Approximate change of an output per LSB of each weight and bias, (N, weights and biases)."""
    network = search.network
    recorded = network.record(counts.reshape(-1, *network.shape), network.outputs)
    upstream = {}
    for name in network.outputs:
        lsb = 2.0 ** -network.bounds[name].fraction
        upstream[name] = search.random.choice([-1.0, 1.0], recorded[name].shape) / lsb
    slopes = backward(network, recorded, upstream)
    columns = []
    for node in affine:
        slope = slopes.get(node.name)
        if slope is None:
            columns.append(np.zeros((len(counts), node.kernel.size + node.bias.size)))
            continue
        kernel, bias = sensitivities(network, node, recorded[node.sources[0]], slope)
        columns.append(abs(kernel.reshape(len(counts), -1)) * 2.0**-node.kernel_fraction)
        columns.append(abs(bias) * 2.0**-node.bias_fraction)
    return np.concatenate(columns, axis=1)


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
        for index in random.permutation(len(both))[: search.effort // _PER_TRY]:
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
    layers.Sum: _of_sums,
}
NO_FAULTS: dict[type[layers.Node], str] = {
    layers.Input: "events come on its grid",
    **dict.fromkeys(
        (layers.Pad, layers.Reshape, layers.Permute), "it moves values and computes none"
    ),
    **dict.fromkeys((layers.Rectify, layers.Merge), "the quantizer behind it shows what it gives"),
}
