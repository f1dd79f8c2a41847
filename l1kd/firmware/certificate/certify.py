"""Certifies a firmware project: proved from its files, then compared with what was compiled.

The compiled calls run alone on zeros, a basis, the extremes that interval arithmetic allows and
random points; an activation on every value, where they are not too many.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.core.files import read_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.processes import call
from l1kd.core.run_files import Doubted
from l1kd.exact.arithmetic import NO_PADS, as_images
from l1kd.exact.layers import Bound, Conv, Dense, Node, Permute, Sum
from l1kd.exact.network import Network, from_json
from l1kd.firmware.certificate.call_rules import as_convolution, image
from l1kd.firmware.certificate.cpp_reader import Call, Program, Unreadable
from l1kd.firmware.certificate.findings import (
    EXHAUSTIVE,
    Certificate,
    Modelled,
    Walk,
    applied,
)
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.certificate.verilog_proof import prove
from l1kd.firmware.hls import c_simulation
from l1kd.firmware.hls.project import NETWORK, Project, open_project
from l1kd.firmware.hls.testbench import read_vectors
from l1kd.firmware.verilog.project import Logic

_RANDOM = 64  # random points of a call, dense and as many sparse
_VALUES = 1 << 20  # of an activation's input that are all tried
_CELLS = 1 << 23  # values of one call at a time
Counts = NDArray[Any]


def certify(project: Project | Logic, network: Network) -> Certificate:
    """Prove that a project computes a network, for every event on its port.

    An HLS project's C++ is read back and followed call by call; if nothing is known to be wrong
    then, its calls are compiled and run alone too. Verilog is read back and followed line by line.

    Parameters
    ----------
    project
        A project of `l1kd.to_hls` or of `l1kd.to_verilog`.
    network
        The exact network that it has to compute, on the project's port.

    Returns
    -------
    Certificate
        `certified` is True if every output is proved for every event; otherwise `findings` lists
        what is refused or open, by layer, in the order of the data's flow. `summary` is one line.

    Raises
    ------
    UserError
        If the project does not compile, or there is no g++.
    """
    first = network.nodes[0].name
    try:
        stored = read_json(project.directory / NETWORK)
    except (OSError, ValueError) as error:
        stored = f"{error}"
    if stored != network.to_json():
        reason = f"{NETWORK} is not the student's network"
        return Certificate((), (Doubted(first, "code", "refused", reason),))
    if isinstance(project, Logic):
        return prove(project, network)
    try:
        files = contents(project.directory)
    except Unreadable as error:
        return Certificate((), (Doubted(first, "code", "refused", str(error)),))
    walk = follow(files, network, project.description)
    if walk.certificate.refused or not walk.program.calls:
        return walk.certificate
    for place in misread(files, walk.program):
        walk.note(first, "compiled", f"{place}: the compiler reads another text")
    program = replace(project, calls=calls_of).compile()
    walk.findings += compare_calls(walk, program, read_vectors(project.directory)[0])
    return walk.certificate


def calls_of(directory: Path) -> str:
    """C++ of every call of a project's top function; an empty table if it cannot be read."""
    try:
        network = from_json(read_json(directory / NETWORK))
        walk = follow(contents(directory), network, open_project(directory).description)
    except (OSError, ValueError, KeyError, TypeError, UserError, Unreadable):
        return c_simulation.NO_CALLS
    return calls_code(walk) if walk.program.calls else c_simulation.NO_CALLS


def misread(files: Mapping[str, bytes], program: Program) -> list[str]:
    """The project's own files of which g++'s preprocessor makes another text, or the vendors'."""
    directive = re.compile(rb"#(?:include|ifndef|define|endif).*|\s", re.ASCII)
    own = {
        name: directive.sub(b"", files[f"firmware/{name}"]) for name in program.read | {"ports.h"}
    }
    wrong: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="l1kd-certify-") as work:
        for name, content in files.items():
            path = Path(work, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for macros in ((), ("-D__SYNTHESIS__", "-D__VITIS_HLS__")):
            flags = ("-E", "-std=c++14", *macros, "-Iap_types", f"{program.top}.cpp")
            command, environment = c_simulation.compiler(), c_simulation.compiler_environment()
            done = call([*command, *flags], Path(work, "firmware"), environment=environment)
            seen: dict[str, list[bytes]] = {name: [] for name in own}
            file: list[bytes] | None = None
            for line in done.stdout.splitlines():
                if marker := re.match(rb'# \d+ "([^"]*)"', line):
                    file = seen.get(marker[1].decode("utf-8", "replace"))
                elif file is not None:
                    file += line.split()
            wrong |= {name for name, text in own.items() if b"".join(seen[name]) != text}
    return sorted(wrong)


def calls_code(walk: Walk) -> str:
    """A function for every call of a program, and their table `l1kd_calls`."""
    space, functions, table = walk.program.namespace, [], []
    for number, one in enumerate(walk.program.calls):
        if (modelled := walk.models.get(number)) is None:
            table.append("{0, 0, 0}")
            continue
        functions.append(_function(walk, number, one, modelled))
        sums = (
            sum(_size(walk, name) for name in side) for side in (modelled.read, modelled.results)
        )
        table.append(f"{{{space}::l1kd_call_{number}, {', '.join(map(str, sums))}}}")
    return (
        f"namespace {space} {{\n{''.join(functions)}}}\n"
        f"static const l1kd::call l1kd_calls[] = {{{', '.join(table) or '{0, 0, 0}'}}};\n"
    )


def _function(walk: Walk, number: int, one: Call, modelled: Modelled) -> str:
    arrays, read, written = walk.program.arrays, tuple(modelled.read), modelled.results
    declared = [
        f"{arrays[name].declared} {name}[{_size(walk, name)}]"
        if arrays[name].pack is None
        else f"hls::stream<{arrays[name].declared}> {name}"
        for name in (*read, *written)
    ]
    lines = [
        f"static void l1kd_call_{number}(const int64_t *l1kd_in, int64_t *l1kd_out) {{",
        *(f"    static {each};" for each in declared),
        *(f"    l1kd_in = l1kd::load({each}, l1kd_in, {_size(walk, each)});" for each in read),
        f"    {one.text}",
        *(
            f"    l1kd_out = l1kd::store({each}, l1kd_out, {_size(walk, each)});"
            for each in written
        ),
    ]
    return "\n".join([*lines, "}", ""])


def _size(walk: Walk, name: str) -> int:
    """Values of an array for one event; a stream at a port does not say."""
    first = name == walk.program.ports[0]
    port = walk.description.input if first else walk.description.output
    return walk.program.arrays[name].size or port.size


def compare_calls(walk: Walk, program: Path, vectors: NDArray[np.int64]) -> list[Doubted]:
    """Run a C simulation: each call alone, all of it on `vectors` (N, inputs), ends and random."""
    found = []
    for number, modelled in sorted(walk.models.items()):
        one, random = walk.program.calls[number], np.random.default_rng([0, number])
        if difference := _difference(walk, number, modelled, program, random):
            reason = f"compiled, {one.space}{one.function} {difference}"
            found.append(Doubted(modelled.layer, "compiled", "refused", reason))
    network, output = walk.network, walk.description.output
    bound = network.bounds[network.nodes[0].name]
    further = (sets[0].reshape(-1, vectors.shape[1]) for sets in plain([bound], 0))
    counts = np.concatenate([vectors, *further])
    wanted = FixedPoint.parse(output.type).integers(network.predict(counts * network.port.lsb))
    answers = c_simulation.simulate(program, counts, output.size, cores())
    if wrong := int((answers != wanted).any(axis=1).sum()):
        reason = f"the compiled top function differs in {wrong} of {len(counts)} events"
        found.append(Doubted(network.nodes[-1].name, "compiled", "refused", reason))
    return found


def _difference(
    walk: Walk, number: int, modelled: Modelled, program: Path, random: np.random.Generator
) -> str:
    outputs, tried = sum(_size(walk, name) for name in modelled.results), 0
    for events in _events(walk, modelled, random):
        bits, values = _as_bits(walk, modelled, events)
        wanted = _wanted(walk, modelled, values)
        try:
            answered = c_simulation.run_call(program, number, bits, outputs)
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


Held = tuple[Counts, int]  # counts of 2^-fraction


def _as_bits(
    walk: Walk, modelled: Modelled, events: list[Held]
) -> tuple[NDArray[np.int64], list[Held]]:
    """Bits of the arrays that are read, and the counts that they then hold: types cut."""
    bits: dict[str, NDArray[np.int64]] = {}
    values = []
    for name, meaning, (counts, fraction) in zip(
        modelled.sources, modelled.before, events, strict=True
    ):
        kind = walk.program.arrays[name].type
        held = kind.requantize(counts.astype(np.int64), fraction)
        shift = fraction - kind.fraction
        values.append((held << shift if shift >= 0 else held >> -shift, fraction))
        if meaning.padding != NO_PADS and not modelled.single:
            held = np.pad(as_images(held), ((0, 0), *meaning.padding, (0, 0)))
        bits[name] = held.reshape(len(held), -1)
    return np.concatenate([*bits.values()], axis=1), values


def _wanted(walk: Walk, modelled: Modelled, values: list[Held]) -> NDArray[np.int64]:
    """Counts that have to be written, (N, outputs)."""
    node, first = walk.network[modelled.after[0].node], modelled.before[0]
    counts, fraction = values[0]
    done = len(first.steps) if modelled.single else 0
    if not modelled.single:
        counts = walk.network.step(node, [each for each, _ in values])
        fraction = walk.network.bounds[node.name].fraction
    elif first.padding != modelled.after[0].padding:
        images = counts.reshape(-1, *image(node.shape))
        counts = np.pad(images, ((0, 0), *modelled.after[0].padding, (0, 0)))
    parts = []
    for meaning in modelled.after:
        if isinstance(node, Permute):  # its source is read after the quantizers before it
            done = len(meaning.steps) - 1
        made, _ = applied(meaning.steps[done:], np.asarray(counts).astype(np.int64), fraction)
        parts.append(made.reshape(len(made), -1))
    return np.concatenate(parts, axis=1)


def _events(walk: Walk, modelled: Modelled, random: np.random.Generator) -> Iterator[list[Held]]:
    """Counts of the layers that a call reads, by source, each (N, *shape), in pieces."""
    if modelled.single:
        yield [_elementwise(walk, modelled, random)]
        return
    node = walk.network[modelled.after[0].node]
    bounds = [walk.network.bounds[name] for name in node.sources]
    ends_of_sums = extremes(node, bounds[0]) if isinstance(node, Dense | Conv | Sum) else ()
    for sets in (*plain(bounds, random), *ends_of_sums, basis(node, bounds)):
        piece = max(1, _CELLS // sum(bound.low.size for bound in bounds))
        for start in range(0, len(sets[0]), piece):
            # An array that is read twice has one value.
            given = (sets[modelled.sources.index(name)] for name in modelled.sources)
            yield [
                (each[start : start + piece].reshape(-1, *bound.low.shape), bound.fraction)
                for each, bound in zip(given, bounds, strict=True)
            ]


def _elementwise(walk: Walk, modelled: Modelled, random: np.random.Generator) -> Held:
    """Every value that a function of single values can meet, where they are not too many."""
    bound = walk.network.bounds[modelled.after[0].node]
    low, high = bound.lowest, bound.highest
    counts = np.arange(low, high + 1) if high - low < EXHAUSTIVE else np.array([low, 0, high])
    held, fraction = applied(modelled.before[0].steps, counts.astype(np.int64), bound.fraction)
    low, high = int(held.min()), int(held.max())
    if high - low < _VALUES:
        values = np.arange(low, high + 1)
    else:
        middle = random.integers(low, high, _VALUES, endpoint=True)
        ends = np.concatenate([np.arange(low, low + 64), np.arange(high - 63, high + 1)])
        near = np.clip(np.arange(-64, 65), low, high)
        values = np.concatenate([middle, ends, near])
    size = _size(walk, modelled.sources[0])
    return np.resize(values, (-(-len(values) // size), size)).astype(np.int64), fraction


def ends(bound: Bound) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest value of a layer, and the one closest to 0."""
    low, high = bound.low.astype(np.int64), bound.high.astype(np.int64)
    return low, high, np.clip(np.zeros_like(low), low, high)


def extremes(node: Dense | Conv | Sum, bound: Bound) -> Iterator[list[Counts]]:
    """The inputs that drive the sum of every output of a matrix to both its ends."""
    low, high, zero = (
        values.reshape(image(values.shape) if values.ndim > 1 else (1, 1, -1))
        for values in ends(bound)
    )
    conv = as_convolution(node, bound.low.shape)
    rows, columns, _, filters = conv.kernel.shape
    # Windows so far apart that they share no input, from every first one.
    steps = [-(-size // stride) for size, stride in zip((rows, columns), conv.strides, strict=True)]
    outputs = image(conv.shape) if bound.low.ndim > 1 else (1, 1, filters)
    for first in itertools.product(*(range(step) for step in steps)):
        made = np.broadcast_to(zero, (2 * filters, *zero.shape)).copy()
        for cell in itertools.product(range(rows), range(columns)):
            places = []
            for axis in (0, 1):
                at = np.arange(first[axis], outputs[axis], steps[axis]) * conv.strides[axis]
                at += cell[axis] - conv.padding[axis][0]
                places.append(at[(at >= 0) & (at < zero.shape[axis])])
            window = np.ix_(*places)
            positive = conv.kernel[cell].T > 0
            for number, up in enumerate((*positive, *~positive)):
                made[number][window] = np.where(up, high[window], low[window])
        yield [made.reshape(-1, *bound.low.shape)]


def basis(node: Node, bounds: list[Bound]) -> list[Counts]:
    """One input at a time, at its two ends and one step from 0, the others 0; (N, *shape) each."""
    sets: list[list[NDArray[np.int64]]] = [[] for _ in bounds]
    for active, bound in enumerate(bounds):
        low, high, zero = ends(bound)
        levels = (high, low, np.minimum(zero + 1, high), np.maximum(zero - 1, low))
        for mask, level in itertools.product(_masks(node, bound.low.shape), levels):
            for place, other in enumerate(bounds):
                _, _, zero = ends(other)
                sets[place].append(np.where(mask, level, zero) if place == active else zero)
    return [np.array(rows) for rows in sets]


def _masks(node: Node, shape: tuple[int, ...]) -> Iterator[NDArray[np.bool_]]:
    size = int(np.prod(shape))
    if (reach := node.reach) and len(shape) in (2, 3):
        # Inputs so far apart that no window sees two of them go together.
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


def plain(bounds: list[Bound], seed: Any) -> Iterator[list[Counts]]:
    """Zeros, both ends, and random inputs, dense and sparse."""
    random = np.random.default_rng(seed)
    yield [np.array([zero, low, high]) for low, high, zero in map(ends, bounds)]
    sets = []
    for low, high, zero in map(ends, bounds):
        dense = random.integers(low, high, (_RANDOM, *low.shape), endpoint=True)
        sparse = np.where(random.random(dense.shape) < 0.2, dense, zero)
        sets.append(np.concatenate([dense, sparse]))
    yield sets
