"""Compares compiled calls with the layers they were proved to be: the last step of a certificate.

The compiler's version of each call of the top function is run alone: on zeros, a basis, the
extremes that interval arithmetic allows, random points. An affine map is fixed by its values on a
basis; an activation is run on every value, where they are not too many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import read_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.arithmetic import as_images
from l1kd.exact.layers import Bound, Conv, Dense, Node
from l1kd.exact.network import Network, from_json
from l1kd.firmware.certificate.cpp_reader import Call, Program
from l1kd.firmware.certificate.findings import NO_PADS, Finding, Modelled, Walk, applied
from l1kd.firmware.certificate.layer_conditions import image
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.hls import c_simulation

_RANDOM = 64  # random points of a call, besides the basis
_VALUES = 1 << 20  # of an activation's input that are all tried
_CELLS = 1 << 23  # values of one call at a time
Counts = NDArray[Any]


def calls_of(directory: Path) -> str:
    """C++ of every call of a project's top function; an empty table if it cannot be read."""
    try:
        record = read_json(directory / "l1kd.json")
        network = from_json(read_json(directory / "network.json"))
        backend, top = record["record"]["backend"], record["record"]["top"]
        walk = follow(directory, network, top, backend, record["versions"]["hls4ml"])
    except (OSError, ValueError, KeyError, TypeError):
        return c_simulation.NO_CALLS
    return calls_code(walk) if walk.program.calls else c_simulation.NO_CALLS


def calls_code(walk: Walk) -> str:
    """A function for every call of a program, and their table `l1kd_calls`."""
    program = walk.program
    functions, table = [], []
    for number, call in enumerate(program.calls):
        modelled = walk.models.get(number)
        if modelled is None:
            table.append("{0, 0, 0}")
            continue
        functions.append(_function(program, number, call, modelled))
        name = f"{program.namespace}::l1kd_call_{number}"
        table.append(f"{{{name}, {sum(modelled.reads)}, {sum(modelled.writes)}}}")
    body = "".join(functions)
    return (
        f"namespace {program.namespace} {{\n{body}}}\n"
        f"static const l1kd::call l1kd_calls[] = {{{', '.join(table) or '{0, 0, 0}'}}};\n"
    )


def _function(program: Program, number: int, call: Call, modelled: Modelled) -> str:
    lines = [f"static void l1kd_call_{number}(const int64_t *l1kd_in, int64_t *l1kd_out) {{"]
    read = list(zip(modelled.sources, modelled.reads, strict=True))
    written = list(zip(modelled.results, modelled.writes, strict=True))
    for name, count in (*read, *written):
        array = program.array(name)
        if array.pack is None:
            lines.append(f"    static {array.declared} {name}[{count}];")
        else:
            lines.append(f'    static hls::stream<{array.declared}> {name}("{name}");')
    lines += [f"    l1kd_in = l1kd::load({name}, l1kd_in, {count});" for name, count in read]
    lines.append(f"    {call.text}")
    lines += [f"    l1kd_out = l1kd::store({name}, l1kd_out, {count});" for name, count in written]
    return "\n".join([*lines, "}", ""])


def compare_calls(walk: Walk, program: Path, seed: int = 0) -> list[Finding]:
    """Run every call alone in a C simulation with `calls_code`; those that are not as proved."""
    found = []
    for number, modelled in sorted(walk.models.items()):
        call, random = walk.program.calls[number], np.random.default_rng([seed, number])
        if difference := _difference(walk, number, modelled, program, random):
            reason = f"compiled, {call.space}{call.function} {difference}"
            found.append(Finding(modelled.layer, "compiled", "refused", reason))
    return found


def _difference(
    walk: Walk, number: int, modelled: Modelled, program: Path, random: np.random.Generator
) -> str:
    kinds = [walk.program.array(name).type for name in modelled.sources]
    tried = 0
    for events in _events(walk.network, modelled, random):
        bits, values = _as_bits(events, modelled, kinds)
        wanted = _wanted(walk, modelled, values)
        try:
            answered = c_simulation.run_call(program, number, bits, sum(modelled.writes))
        except UserError as error:
            return f"does not run alone: {error}"
        tried += len(bits)
        off = answered - wanted
        if (differs := (off != 0).any(axis=1)).any():
            first = off[differs][0]
            return (
                f"differs from the exact layer in {int(differs.sum())} of {tried} trials, the "
                f"first by {int(first[first != 0][0])} LSB"
            )
    return ""


def _as_bits(
    events: list[Counts], modelled: Modelled, kinds: list[FixedPoint]
) -> tuple[NDArray[np.int64], list[Counts]]:
    """Bits of the arrays that are read, and the counts that they then hold: types cut."""
    bits, values = [], []
    for counts, fraction, kind, pads in zip(
        events, modelled.fractions, kinds, modelled.pads, strict=True
    ):
        held = kind.requantize(counts.astype(np.int64), fraction)
        shift = fraction - kind.fraction
        values.append(held << shift if shift >= 0 else held >> -shift)
        if pads != NO_PADS:
            held = np.pad(as_images(held), ((0, 0), *pads, (0, 0)))
        bits.append(held.reshape(len(held), -1))
    return np.concatenate(bits, axis=1), values


def _wanted(walk: Walk, modelled: Modelled, values: list[Counts]) -> NDArray[np.int64]:
    """Counts that have to be written, (N, outputs)."""
    if modelled.node:
        counts = walk.network.step(walk.network[modelled.node], values)
        fraction = walk.network.bounds[modelled.node].fraction
    else:
        counts, fraction = values[0], modelled.fractions[0]
        if modelled.padding != NO_PADS:
            images = counts.reshape(-1, *image(modelled.shape))
            counts = np.pad(images, ((0, 0), *modelled.padding, (0, 0)))
    parts = []
    for steps in modelled.steps:
        made, _ = applied(steps, np.asarray(counts).astype(np.int64), fraction)
        parts.append(made.reshape(len(made), -1))
    return np.concatenate(parts, axis=1)


def _events(
    network: Network, modelled: Modelled, random: np.random.Generator
) -> Iterator[list[Counts]]:
    """Counts of the layers that a call reads, by source, each (N, *shape), in pieces."""
    if not modelled.node:
        yield from _elementwise(network, modelled, random)
        return
    node = network[modelled.node]
    bounds = [network.bounds[name] for name in node.sources]
    for sets in (_extremes(node, bounds), _basis(node, bounds), _random(bounds, random)):
        size = sum(int(np.prod(bound.low.shape)) for bound in bounds)
        piece = max(1, _CELLS // size)
        for start in range(0, len(sets[0]), piece):
            yield [each[start : start + piece] for each in sets]


def _elementwise(
    network: Network, modelled: Modelled, random: np.random.Generator
) -> Iterator[list[Counts]]:
    low, high, size = modelled.low, modelled.high, modelled.reads[0]
    if high - low < _VALUES:
        values = np.arange(low, high + 1)
    else:
        middle = random.integers(low, high, _VALUES, endpoint=True)
        ends = np.concatenate([np.arange(low, low + 64), np.arange(high - 63, high + 1)])
        near = np.clip(np.arange(-64, 65), low, high)
        values = np.concatenate([middle, ends, near])
    missing = -len(values) % size
    events = np.concatenate([values, np.full(missing, values[0])]).reshape(-1, size)
    yield [events.astype(np.int64)]


def _ends(bound: Bound) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest value of a layer, and the one closest to 0."""
    low, high = bound.low.astype(np.int64), bound.high.astype(np.int64)
    return low, high, np.clip(np.zeros_like(low), low, high)


def _extremes(node: Node, bounds: list[Bound]) -> list[Counts]:
    """Zeros, both ends, and for some outputs of a matrix the inputs that drive it furthest."""
    sets = []
    for bound in bounds:
        low, high, zero = _ends(bound)
        rows, columns = [zero, low, high], np.empty((0, 0), np.int64)
        if isinstance(node, Dense) and len(bounds) == 1 and low.ndim == 1:
            columns = node.kernel
        elif isinstance(node, Conv):
            columns = node.kernel.sum(axis=(0, 1))
        for weights in columns.T[:64]:
            rows += [np.where(weights > 0, high, low), np.where(weights > 0, low, high)]
        sets.append(np.array(rows))
    return sets


def _basis(node: Node, bounds: list[Bound]) -> list[Counts]:
    """One input at a time, at its two ends and one step from 0, the others 0.

    In a convolution or a pooling inputs so far apart that no window sees two of them go together,
    each at another value.
    """
    sets: list[list[NDArray[np.int64]]] = [[] for _ in bounds]
    for active, bound in enumerate(bounds):
        low, high, zero = _ends(bound)
        levels = (high, low, np.minimum(zero + 1, high), np.maximum(zero - 1, low))
        for mask, level in itertools.product(_masks(node, bound.low.shape), levels):
            for place, other in enumerate(bounds):
                _, _, zero = _ends(other)
                sets[place].append(np.where(mask, level, zero) if place == active else zero)
    return [np.array(rows) for rows in sets]


def _masks(node: Node, shape: tuple[int, ...]) -> Iterator[NDArray[np.bool_]]:
    size = int(np.prod(shape))
    if (reach := node.reach) and len(shape) in (2, 3):
        height, width, channels = image(shape)
        rows, columns = np.indices((height, width))
        starts = (range(min(reach[0], height)), range(min(reach[1], width)), range(channels))
        for row, column, channel in itertools.product(*starts):
            mask = np.zeros((height, width, channels), bool)
            mask[..., channel] = (rows % reach[0] == row) & (columns % reach[1] == column)
            yield mask.reshape(shape)
    elif size <= 8192:
        for place in range(size):
            yield (np.arange(size) == place).reshape(shape)


def _random(bounds: list[Bound], random: np.random.Generator) -> list[Counts]:
    sets = []
    for bound in bounds:
        low, high, zero = _ends(bound)
        dense = random.integers(low, high, (_RANDOM, *low.shape), endpoint=True)
        sparse = np.where(random.random(dense.shape) < 0.2, dense, zero)
        sets.append(np.concatenate([dense, sparse]))
    return sets
