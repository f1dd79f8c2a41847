"""Proves that written Verilog computes its network, for every event on its port.

The network and the Verilog, as it is read back, become values of one `Space`, in which the same
functions of the inputs are equal: no rounding, overflow or weight can be another one. Shared
modules are pinned by their hashes; registers, latency, valid and reset by the text around as many
stages as were read. Every file has to be the one that is written of the program that the project's
interpreter runs, and of the inputs of its test vectors.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.run_files import Doubted, State, Step
from l1kd.exact import layers
from l1kd.exact.arithmetic import as_images, pad, windows
from l1kd.exact.layers import Affine, Node, Pool
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.findings import SUMS, Certificate
from l1kd.firmware.certificate.shipped_files import contents, fingerprint, first_difference
from l1kd.firmware.certificate.symbolic import Space, Unproved, Value
from l1kd.firmware.certificate.verilog_reader import ALKAID, read_design
from l1kd.firmware.hls.project import FILE, NETWORK
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.port_wrapper import INPUTS, Interface, parse_hex
from l1kd.firmware.verilog.project import MODEL, Logic

Values = NDArray[Any]  # of a layer, as `Value`
# Steps of a clock that a pipeline is cut for; a period beyond them takes no time or all memory.
_PERIODS = 0.05, 1000.0


def _affine(space: Space, node: Affine, parts: list[Values], fractions: list[int]) -> Values:
    kernel = node.kernel.reshape(-1, node.outputs)
    rows = node.seen(parts[0][None]) if isinstance(node, layers.Conv) else parts[0]
    rows = rows.reshape(-1, len(kernel))
    _, left, bias_left = node.aligned(fractions[0])
    columns = [[int(each) << left for each in column] for column in kernel.T]
    made = np.empty((len(rows), node.outputs), object)
    for place, row in enumerate(rows):
        for output, factors in enumerate(columns):
            constant = int(node.bias[output]) << max(bias_left, 0)
            made[place, output] = space.linear(zip(factors, row, strict=True), constant)
    return made


def _pool(space: Space, node: Pool, parts: list[Values], _: list[int]) -> Values:
    images = pad(as_images(parts[0][None]), node.padding, None)
    cells = windows(images, node.window, node.strides).reshape(node.size, -1)
    return _each(lambda row: _pooled(space, node, row), _rows(cells))


def _pooled(space: Space, node: Pool, row: list[Value]) -> Value:
    values = [value for value in row if value is not None]
    if node.operation == "average":
        return space.linear([(1, value) for value in values])
    found, *others = values
    for value in others:
        found = space.highest(found, value)
    return found


def _sum(space: Space, node: layers.Sum, parts: list[Values], _: list[int]) -> Values:
    last = np.moveaxis(parts[0], node.axes, range(-len(node.axes), 0))
    rows = _rows(last.reshape(node.size, -1))
    return _each(lambda row: space.linear([(1, value) for value in row]), rows)


def _rows(cells: Values) -> Values:
    made = np.empty(len(cells), object)
    made[:] = [row.tolist() for row in cells]
    return made


def _each(function: Callable[..., Value], *parts: Values) -> Values:
    return np.asarray(np.frompyfunc(function, len(parts), 1)(*parts), object)


def _quantize(
    space: Space, node: layers.Quantize, parts: list[Values], fractions: list[int]
) -> Values:
    def one(value: Value) -> Value:
        return space.quantized(value, node.type, node.halved, fractions[0])

    return _each(one, parts[0])


def _rectify(space: Space, node: layers.Rectify, parts: list[Values], _: list[int]) -> Values:
    def one(value: Value) -> Value:
        if node.shift is None:
            return space.highest(value, 0)
        if node.shift < 0:
            return space.lowest(space.linear([(1 << -node.shift, value)]), value)
        return space.highest(space.linear([(1 << node.shift, value)]), value)

    return _each(one, parts[0])


def _merge(space: Space, node: layers.Merge, parts: list[Values], fractions: list[int]) -> Values:
    if node.operation == "multiply":
        return _each(space.product, *parts)
    finest = max(fractions)

    def weighted(*pairs: tuple[int, Value]) -> Value:
        return space.linear(pairs)

    parts = [
        _each(partial(lambda left, value: weighted((left, value)), 1 << (finest - each)), part)
        for each, part in zip(fractions, parts, strict=True)
    ]
    if node.operation == "concatenate":
        return np.concatenate(parts, axis=node.axis)
    functions: dict[str, Callable[[Value, Value], Value]] = {
        "add": lambda one, other: weighted((1, one), (1, other)),
        "average": lambda one, other: weighted((1, one), (1, other)),
        "subtract": lambda one, other: weighted((1, one), (-1, other)),
        "maximum": space.highest,
        "minimum": space.lowest,
    }
    return _each(functions[node.operation], *parts)


def _input(space: Space, node: layers.Input, parts: list[Values], _: list[int]) -> Values:
    low, high = node.type.bounds
    return _each(lambda place: space.input(int(place), low, high), np.arange(node.size))


MEANINGS: dict[type[Node], Callable[[Space, Any, list[Values], list[int]], Values]] = {
    layers.Input: _input,
    layers.Quantize: _quantize,
    layers.Dense: _affine,
    layers.Conv: _affine,
    layers.Pool: _pool,
    layers.Sum: _sum,
    layers.Pad: lambda space, node, parts, _: _each(
        lambda value: space.linear([(1, value)]), pad(as_images(parts[0][None]), node.padding)
    ),
    layers.Reshape: lambda space, node, parts, _: parts[0],
    layers.Permute: lambda space, node, parts, _: parts[0].transpose(node.axes),
    layers.Rectify: _rectify,
    layers.Merge: _merge,
}
NO_MEANING: dict[type[Node], str] = {}


@dataclass
class _Proof:
    """A network's values, and whose they are."""

    network: Network
    space: Space = field(default_factory=Space)
    values: dict[str, Values] = field(default_factory=dict)
    sums: dict[int, str] = field(default_factory=dict)  # layers that computed them
    readers: dict[int, str] = field(default_factory=dict)  # layers that functions of bases are of
    findings: list[Doubted] = field(default_factory=list)

    def note(self, layer: str, step: Step, reason: str, state: State = "refused") -> None:
        """Add a finding."""
        found = Doubted(layer.removesuffix(SUMS), step, state, reason)
        if not any((each.layer, each.step) == (found.layer, step) for each in self.findings):
            self.findings.append(found)

    def trace(self) -> bool:
        """Make the network's values; False if that is beyond the argument."""
        network, space = self.network, self.space
        for node in network.nodes:
            parts = [self.values[name] for name in node.sources]
            fractions = [network.bounds[name].fraction for name in node.sources]
            meaning = layers.of_kind(MEANINGS, NO_MEANING, node, Unproved)
            bases = len(space.bases)
            try:
                made = meaning(space, node, parts, fractions).reshape(node.shape)
                for value in made.reshape(-1):
                    space.spread(value)
            except Unproved as error:
                self.note(node.name, "quantizer", str(error), "open")
                return False
            self.values[node.name] = made
            owner = node.sources[0] if node.sources else node.name
            for base in range(bases, len(space.bases)):
                self.readers[base] = node.name
                if space.bases[base].kind == "sum":
                    self.sums[base] = owner
        return True

    def owner(self, terms: Mapping[int, int], default: str) -> str:
        """The layer with the sum that shares most terms with another one."""
        best, most = default, 0.0
        for base, layer in self.sums.items():
            parts = self.space.bases[base].parts
            shared = sum(1 + (terms[t] == times) for t, times in parts if t in terms)
            if (score := shared / (len(parts) + len(terms))) > most:
                best, most = layer, score
        return best

    def here(self) -> str:
        """The layer that the line belongs to at which the reader stopped."""
        near, first = self.space.near, self.network.nodes[0].name
        base = self.space.common_base(*near)
        if base in self.sums:
            return self.readers[base]
        total = self.space.spread(self.space.linear((1, value) for value in near))
        return self.owner(total.terms, self.readers.get(-1 if base is None else base, first))

    def blame(self, value: Value, terms: int, bases: int, output: str) -> None:
        """Note the first layers on the way to a wrong output whose values are others."""
        space, seen = self.space, set[int]()
        waiting = [term for term in space.spread(value).terms if term >= terms]
        if not waiting:
            self.note(output, "sums", f"an output of {output!r} is another sum")
        while waiting:
            if (term := waiting.pop()) in seen:
                continue
            seen.add(term)
            base = space.terms[term].base
            kind, parts, *_ = space.bases[base]
            if base < bases:
                layer, place = self.readers.get(base, output), space.places[~term]
                self.note(layer, "quantizer", f"{place}: not {layer!r} on every value of its sum")
                continue
            inner = dict(parts if kind == "sum" else (one for t, _ in parts[0] for one in t))
            if new := [each for each in inner if each >= terms]:
                waiting += new
            else:
                layer, place = self.owner(inner, output), space.places[base]
                self.note(layer, "sums", f"{place}: not a sum of {layer.removesuffix(SUMS)!r}")


def prove(logic: Logic, network: Network) -> Certificate:
    """The certificate of a written Verilog project."""
    proof = _Proof(network)
    first, description = network.nodes[0].name, logic.description
    try:
        files = contents(logic.directory)
    except Unreadable as error:
        return Certificate((), (Doubted(first, "code", "refused", str(error)),))
    content = fingerprint(files)
    if (version := description.versions.get("alkaid", "?")) != ALKAID:
        reason = f"no argument was made for the Verilog of alkaid {version}"
        return Certificate((), (Doubted(first, "code", "open", reason),), content)
    if proof.trace():
        _compare(proof, files, logic)
    for step, reason in _faults(files, logic, network):
        layer = proof.findings[0].layer if proof.findings else first
        proof.findings.append(Doubted(layer, step, "refused", reason))
    names = dict.fromkeys(node.name.removesuffix(SUMS) for node in network.nodes)
    proved = () if proof.findings else tuple(names)
    return Certificate(proved, tuple(proof.findings), content)


def _compare(proof: _Proof, files: Mapping[str, bytes], logic: Logic) -> None:
    """Read the Verilog and note where it is not the network."""
    network, space = proof.network, proof.space
    wanted = [
        space.linear([(1 << (result.fraction - network.bounds[name].fraction), value)])
        for name, result in zip(network.outputs, network.output_types, strict=True)
        for value in proof.values[name].reshape(-1)
    ]
    terms, bases = len(space.terms), len(space.bases)
    inputs = proof.values[network.nodes[0].name].reshape(-1).tolist()
    types = network.port, len(wanted), network.output_types[0]
    outside = Interface(logic.record.top, network.shape, *types, latency=0)
    try:
        found, stages = read_design(space, files, inputs, outside)
    except (Unreadable, Unproved) as error:
        state: State = "refused" if isinstance(error, Unreadable) else "open"
        proof.note(proof.here(), "code", str(error), state)
        return
    if logic.record.latency_cycles != stages:
        said = f"{FILE} says {logic.record.latency_cycles} cycles"
        proof.note(network.outputs[-1], "code", f"{said}, the pipeline has {stages} stages")
    names = [name for name in network.outputs for _ in range(network[name].size)]
    for name, ours, theirs in zip(names, wanted, found, strict=True):
        if not space.equal(ours, theirs):
            proof.blame(theirs, terms, bases, name)
    order = [node.name.removesuffix(SUMS) for node in network.nodes]
    proof.findings.sort(key=lambda each: order.index(each.layer))


def _faults(
    files: Mapping[str, bytes], logic: Logic, network: Network
) -> Iterator[tuple[Step, str]]:
    """Files that are not as they have to be, and why."""
    description, record = logic.description, logic.record
    ports = [(description.input, network.port), (description.output, network.output_types[0])]
    shapes = network.shape, (sum(network[name].size for name in network.outputs),)
    stated = [(port.type, port.shape) for port, _ in ports]
    if stated != [(kind.text, shape) for (_, kind), shape in zip(ports, shapes, strict=True)] or (
        record.input_type,
        record.output_type,
        record.interval_cycles,
    ) != (network.port.text, network.output_types[0].text, 1):
        yield "port", f"{FILE} states other ports than the network has"
        return
    named = record.student, record.clock_ns, description.versions["alkaid"]
    plain = record.top == alkaid_convert.top_name(network, *named)
    plain &= alkaid_convert.PART.fullmatch(record.part) is not None
    if not plain or not _PERIODS[0] <= record.clock_ns <= _PERIODS[1]:
        yield "code", f"{FILE} states another name, part or clock than l1kd writes"
        return
    try:
        vectors = files.get(INPUTS, b"").decode("ascii")
        if not len(inputs := parse_hex(vectors, network.port, description.input.size)):
            raise ValueError("it is empty")
    except (ArithmeticError, ValueError) as error:
        yield "code", f"{INPUTS} is no file of events ({error})"
        return
    try:
        wanted = alkaid_convert.rewritten(logic, network, inputs)
        model = gzip.decompress(files.get(MODEL, b""))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, OSError) as error:
        yield "code", f"{MODEL} is no program of alkaid ({type(error).__name__}: {error})"
        return
    except (EOFError, TypeError, ValueError, zlib.error) as error:
        yield "code", f"{MODEL} is no program of alkaid ({type(error).__name__}: {error})"
        return
    wanted[FILE] = (json.dumps(description.model_dump(mode="json"), indent=1) + "\n").encode()
    wanted[NETWORK] = files.get(NETWORK, b"")  # compared before
    for name, content in files.items():
        if name not in wanted:
            yield "code", f"{name} is not a file of the project: it could be read for another"
        elif name == MODEL:
            if model != gzip.decompress(wanted[name]):
                yield "code", f"{name} is not as alkaid writes it"
        elif line := first_difference(content, wanted[name]):
            yield "code", f"{name}:{line} is not what l1kd writes of {MODEL} and {INPUTS}"
    for name in wanted:
        if name not in files:
            yield "code", f"{name} is missing"
