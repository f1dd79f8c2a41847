"""The vectors that a project ships: few events that notice as many faults as they can.

They are chosen from a large pool (corners, found by search; random events of all sizes and
densities; a run's own events; single inputs raised over a background that saturates nothing) by
what they notice:

- *types*: the exact network with one thing changed (a quantizer that rounds or overflows otherwise,
  or has a bit less at either end; sums that have a bit less at either end) has other outputs;
- *weights and biases*: by its derivative, an output moves when a weight moves by one count.

What is left of the room goes to the corners in turn, and then to single inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.exact.evaluate import step
from l1kd.exact.gradient import backward, record, sensitivities
from l1kd.exact.graph import Affine, Conv, Dense, Network, Node, Quantize
from l1kd.firmware.corners import found, mixed, plain, turns
from l1kd.firmware.search import Search
from l1kd.fixedpoint import FixedPoint, Overflow, Rounding

__all__ = ["choose"]

Counts = NDArray[np.int64]
Array = NDArray[Any]

_EVENTS = 2000  # of a project
_VALUES = 378_000  # in its inputs: 1,500 events of 252, about 1.5 MB of text
_NOTICED = 8  # events that notice each change of a type
_WEIGHED = 8.0  # what a weight's derivatives have to add up to, in counts of the output
_TRIED = 48  # events that compete for a place
_ENTRIES = 1 << 24  # derivatives in memory at a time
_LEAK = 0.01


def choose(
    network: Network, more: ArrayLike | None = None, *, seed: int = 0, limit: int | None = None
) -> NDArray[np.float64]:
    """Events for the vectors of a project.

    Parameters
    ----------
    network
        The exact network, behind the project's port.
    more
        Further events, (N, *shape), such as a run's own; those that the port does not hold are left
        out. A quarter of the room is theirs.
    seed
        Two calls with one seed give the same events.
    limit
        How many at most; by default 2,000, and fewer where events are large.

    Returns
    -------
    ndarray
        (N, *shape), values of the port's type, without repetitions.
    """
    random = np.random.default_rng([seed, 0x7EC7])
    search = Search(network, random)
    room = limit or min(_EVENTS, max(16, _VALUES // search.size))
    own = _held(network, more)
    own = own[: room // 4]
    first = plain(network.port, network.shape, random, max(room, 512) // 2)
    aims = [kind for aim in found(search, first) for kind in aim.groups()]
    spread = min(4096, search.pool)
    pool = np.concatenate(
        [own, _base(first), mixed(network.port, network.shape, random, spread), *aims]
    )
    pool = _unique(pool)
    raised = _raised(search, pool)
    pool = _unique(np.concatenate([pool, raised]))
    chosen = list(range(len(own)))
    chosen += _by_types(search, pool, room // 2)
    chosen += _by_weights(search, pool, chosen, room * 7 // 8)
    rest = [turns([*aims, first], search.size), raised[random.permutation(len(raised))], pool]
    kept = _unique(np.concatenate([pool[chosen], _base(first), *rest]))
    events: NDArray[np.float64] = (kept[:room] * network.port.lsb).reshape(-1, *network.shape)
    return events


def _held(network: Network, more: ArrayLike | None) -> Counts:
    if more is None:
        return np.empty((0, network.nodes[0].size), np.int64)
    events = np.asarray(more, np.float64).reshape(-1, network.nodes[0].size)
    return _unique(network.port.integers(events[network.port.holds(events).all(axis=1)]))


def _base(first: Counts) -> Counts:
    """Constants and checkerboards: the first of the plain events."""
    return first[:12]


def _unique(counts: Counts) -> Counts:
    _, place = np.unique(counts, axis=0, return_index=True)
    return counts[np.sort(place)]


def _raised(search: Search, pool: Counts) -> Counts:
    """Single inputs at other values, on events that saturate little: so that weights show."""
    network, random = search.network, search.random
    some = pool[random.permutation(len(pool))[: max(64, search.effort // 64)]]
    weight = _openness(search, some)
    background = some[np.argsort(-weight, kind="stable")[: max(4, len(some) // 8)]]
    levels = [1 << power for power in range(network.port.word)]
    levels = [level for level in levels if level <= search.high] or [search.high]
    inputs = np.arange(search.size)
    most = max(64, search.pool // 3)
    if search.size > most:
        inputs = np.sort(random.choice(search.size, most, replace=False))
    raised = np.repeat(background[random.integers(0, len(background), len(inputs))], 3, axis=0)
    rows, places = np.arange(len(raised)), np.repeat(inputs, 3)
    added = np.array(levels)[random.integers(0, len(levels), len(raised))]
    raised[rows, places] = np.where(
        raised[rows, places] + added <= search.high, raised[rows, places] + added, search.high
    )
    return raised


def _openness(search: Search, counts: Counts) -> NDArray[np.float64]:
    """By event, the share of its values that are inside of the range of the quantizer they enter.

    Outputs that saturate hide everything: such events count as nothing.
    """
    network = search.network
    names = [node.sources[0] for node in search.quantizers]
    values = search.values(counts, names)
    shares, shown = [], np.ones(len(counts), np.bool_)
    for node, name in zip(search.quantizers, names, strict=True):
        scale = 2.0 ** -network.bounds[name].fraction
        entered = values[name].astype(np.float64) * scale
        inside = (entered > node.type.low) & (entered < node.type.high)
        shares.append(inside.mean(axis=1))
        if node.name in network.outputs:
            shown &= inside.any(axis=1)
    return np.asarray(np.mean(shares, axis=0) * shown)


def _by_types(search: Search, pool: Counts, most: int) -> list[int]:
    """Events of the pool that notice changed types: each change several times, if it can be."""
    # Of large networks not all events can be tried with every change.
    some = search.random.permutation(len(pool))[: max(500, search.effort // 4)]
    noticed = [_noticed(search, chunk) for chunk in _chunked(search, pool[some])]
    table = np.concatenate(noticed, axis=1)  # (changes, events)
    missing = np.minimum(table.sum(axis=1), _NOTICED)
    chosen: list[int] = []
    free = np.ones(table.shape[1], np.bool_)
    while missing.any() and len(chosen) < most:
        # What few events notice counts more than what all of them do.
        rare = (missing > 0) / (1.0 + table.sum(axis=1))
        gain = (rare @ table) * free
        best = int(np.argmax(gain))
        if gain[best] == 0:
            break
        chosen.append(int(some[best]))
        free[best] = False
        missing = np.maximum(missing - table[:, best], 0)
    return chosen


def _chunked(search: Search, pool: Counts) -> Iterator[Counts]:
    size = max(16, (1 << 24) // sum(node.size for node in search.network.nodes))
    for start in range(0, len(pool), size):
        yield pool[start : start + size]


def _noticed(search: Search, counts: Counts) -> NDArray[np.bool_]:
    """Which events have another output under which change of a type, (changes, events)."""
    network = search.network
    recorded = record(network, counts.reshape(-1, *network.shape), network.outputs)
    rows = []
    for quantizer in search.quantizers:
        source = quantizer.sources[0]
        for kind in _other_types(quantizer.type):
            changed = step(network, replace(quantizer, type=kind), [recorded[source]])
            finer = kind.fraction - quantizer.type.fraction
            changed = _aligned(changed, finer, recorded[quantizer.name])
            rows.append(_differs(network, recorded, quantizer, changed))
    for node in network.nodes:
        if not isinstance(node, Affine):
            continue
        bound = network.bounds[node.name]
        for kind in _other_sums(bound.type):
            counted = kind.requantize(recorded[node.name], bound.fraction)
            changed = _aligned(counted, kind.fraction - bound.fraction, recorded[node.name])
            rows.append(_differs(network, recorded, node, changed))
    return np.array(rows).reshape(len(rows), len(counts))


def _aligned(counts: Array, finer: int, like: Array) -> Array:
    """Counts of a coarser type in those of the original; a finer one's are not whole."""
    assert finer <= 0
    return np.asarray(counts * (1 << -finer), like.dtype)


def _other_types(kind: FixedPoint) -> Iterator[FixedPoint]:
    for rounding in get_args(Rounding):
        if rounding != kind.rounding:
            yield replace(kind, rounding=rounding)
    for overflow in get_args(Overflow):
        if overflow != kind.overflow:
            yield replace(kind, overflow=overflow)
    if kind.word > 1:
        narrow = replace(kind, word=kind.word - 1, integer=kind.integer - 1)
        yield narrow
        yield replace(narrow, overflow="WRAP")
        yield replace(kind, word=kind.word - 1)
        yield replace(kind, word=kind.word - 1, rounding="TRN")


def _other_sums(kind: FixedPoint) -> Iterator[FixedPoint]:
    """Sums drop bits as `ap_fixed` does by default: they truncate, and turn over."""
    for fewer in (1, 2):
        if kind.word > fewer:
            plain = replace(kind, rounding="TRN", overflow="WRAP")
            yield replace(plain, word=kind.word - fewer)
            yield replace(plain, word=kind.word - fewer, integer=kind.integer - fewer)


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


def _by_weights(search: Search, pool: Counts, chosen: list[int], most: int) -> list[int]:
    """Further events of the pool, so that an output hangs on every weight and bias of some event.

    Of some events that are drawn, the one comes in that adds most.
    """
    layers = [node for node in search.network.nodes if isinstance(node, (Dense, Conv))]
    entries = sum(node.kernel.size + node.bias.size for node in layers)
    tried = max(4, min(_TRIED, _ENTRIES // (8 * entries)))
    missing = np.full(entries, _WEIGHED)
    for start in range(0, len(chosen), tried):
        given = _hanging(search, pool[chosen[start : start + tried]], layers)
        missing -= np.minimum(given, 1).sum(axis=0)
    missing = np.maximum(missing, 0)
    order = search.random.permutation(np.setdiff1d(np.arange(len(pool)), chosen))
    added: list[int] = []
    cost = max(1, search.effort // 64)
    for start in range(0, min(len(order), cost * tried), tried):
        if len(chosen) + len(added) >= most or not missing.any():
            break
        some = order[start : start + tried]
        given = np.minimum(_hanging(search, pool[some], layers), 1)
        for _ in range(max(1, len(some) // 6)):
            gain = np.minimum(given, missing).sum(axis=1)
            best = int(np.argmax(gain))
            if gain[best] == 0:
                break
            added.append(int(some[best]))
            missing = np.maximum(missing - given[best], 0)
            given[best] = 0
            if len(chosen) + len(added) >= most:
                break
    return added


def _hanging(search: Search, counts: Counts, layers: list[Dense | Conv]) -> Array:
    """By how many counts, about, an output moves when a weight (bias) moves by one of its own.

    (N, all weights and biases).
    """
    network = search.network
    recorded = record(network, counts.reshape(-1, *network.shape), network.outputs)
    upstream = {}
    for name in network.outputs:
        kind = network[name]
        assert isinstance(kind, Quantize)
        signs = search.random.choice([-1.0, 1.0], recorded[name].shape)
        upstream[name] = signs / kind.type.lsb
    slopes = backward(network, recorded, upstream)
    columns = []
    for node in layers:
        slope = slopes.get(node.name)
        if slope is None:
            columns.append(np.zeros((len(counts), node.kernel.size + node.bias.size)))
            continue
        kernel, bias = sensitivities(network, node, recorded[node.sources[0]], slope)
        columns.append(abs(kernel.reshape(len(counts), -1)) * 2.0**-node.kernel_fraction)
        columns.append(abs(bias) * 2.0**-node.bias_fraction)
    return np.concatenate(columns, axis=1)
