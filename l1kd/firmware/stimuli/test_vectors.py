"""The vectors that a project ships: few events that notice as many faults as they can.

They are chosen from a large pool (corners, found by search; random events of all sizes and
densities; a run's own events; single inputs raised over a background that saturates nothing) by
what they notice:

- *changes*: the exact network with one thing changed (a quantizer that rounds or overflows
  otherwise, or has a bit less at either end; sums that have a bit less at either end; some of the
  weights and biases, by one count) has other outputs;
- *weights and biases*, all of them: by its derivative, an output moves when one moves by a count.

What is left of the room goes to the corners in turn, and then to single inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.exact.gradient import backward, record, sensitivities
from l1kd.exact.network import Conv, Dense, Network, Quantize
from l1kd.firmware.stimuli.corner_inputs import found, mixed, plain, turns
from l1kd.firmware.stimuli.corner_search import Search
from l1kd.firmware.stimuli.fault_model import changes, noticed

Counts = NDArray[np.int64]
Array = NDArray[Any]

_EVENTS = 2000  # of a project
_VALUES = 378_000  # in its inputs: 1,500 events of 252, about 1.5 MB of text
_ROUNDS = 8  # of new events for changes that few of the pool notice
_NOTICED = 8  # events that notice each change
_WEIGHED = 8.0  # what a weight's derivatives have to add up to, in counts of the output
_TRIED = 48  # events that compete for a place
_ENTRIES = 1 << 24  # derivatives in memory at a time
_LEAK = 0.01


def choose(
    network: Network, more: ArrayLike | None = None, *, seed: int = 0, limit: int | None = None
) -> NDArray[np.float64]:
    """Events for the vectors of a project.

    `more`: further events, (N, *shape), such as a run's own; those that the port does not hold are
    left out. A quarter of the room is theirs.
    Returns (N, *shape), values of the port's type, without repetitions.
    """
    random = np.random.default_rng([seed, 0x7EC7])
    search = Search(network, random)
    room = limit or min(_EVENTS, max(16, _VALUES // search.size))
    own = _held(network, more)
    own = own[: room // 4]
    first = plain(network.port, network.shape, random, max(room, 512) // 2)
    aims = found(search, first)
    spread = min(4096, search.pool)
    pool = np.concatenate(
        [own, _base(first), mixed(network.port, network.shape, random, spread), *aims]
    )
    pool = _unique(pool)
    raised = _raised(search, pool)
    pool = _unique(np.concatenate([pool, raised]))
    chosen = np.concatenate([own, _by_changes(search, pool, room // 2)])
    further = _by_weights(search, pool, chosen, room * 7 // 8)
    rest = [turns([*aims, first], search.size), raised[random.permutation(len(raised))], pool]
    kept = _unique(np.concatenate([chosen, further, _base(first), *rest]))
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


def _by_changes(search: Search, pool: Counts, most: int) -> Counts:
    """Events that notice changes: each change several times, if it can be; of the pool, and new."""
    what = changes(search)
    # Of large networks not all events can be tried with every change.
    pool = pool[search.random.permutation(len(pool))[: max(256, search.effort // 50)]]
    table = noticed(search, pool, what)
    for _ in range(_ROUNDS):
        rare = np.flatnonzero(table.sum(axis=1) < _NOTICED)
        if not len(rare):
            break
        fresh = _fresh(search, pool[table[rare].any(axis=0)], search.effort // (16 * len(rare)))
        hits = noticed(search, fresh, [what[index] for index in rare]).any(axis=0)
        if hits.any():
            pool = np.concatenate([pool, fresh[hits]])
            table = np.concatenate([table, noticed(search, fresh[hits], what)], axis=1)
    missing = np.minimum(table.sum(axis=1), _NOTICED)
    # What few events notice counts more than what all of them do.
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
    random = search.random
    count = min(count, search.pool)
    drawn = mixed(search.network.port, search.network.shape, random, count)
    if len(near):
        half = count // 2
        close = near[random.integers(0, len(near), half)]
        size = 1 << random.integers(0, max(1, search.network.port.word - 1), close.shape)
        moves = random.random(close.shape) < np.maximum(2, random.integers(0, 9)) / search.size
        drawn[:half] = close + moves * random.choice([-1, 1], close.shape) * size
    return np.clip(drawn, search.low, search.high)


def _by_weights(search: Search, pool: Counts, chosen: Counts, most: int) -> Counts:
    """Further events of the pool, so that an output hangs on every weight and bias of some event.

    Of some events that are drawn, the one comes in that adds most.
    """
    layers = [node for node in search.network.nodes if isinstance(node, (Dense, Conv))]
    entries = sum(node.kernel.size + node.bias.size for node in layers)
    tried = max(4, min(_TRIED, _ENTRIES // (8 * entries)))
    missing = np.full(entries, _WEIGHED)
    for start in range(0, len(chosen), tried):
        given = _hanging(search, chosen[start : start + tried], layers)
        missing -= np.minimum(given, 1).sum(axis=0)
    missing = np.maximum(missing, 0)
    order = search.random.permutation(len(pool))
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
    return pool[added]


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
