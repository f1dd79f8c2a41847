"""Proves that a written project computes its network, for every event on its port.

The project's files are read back, call by call, and every array of its top function is shown to
hold a layer of the exact network: the weights are the network's, no sum can overflow or drop a bit,
every quantizer is the same function of every value that can reach it. Shared code is pinned by its
hash (`header_hashes`). Nothing here runs the project, or needs more than its files.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Input, Merge, Node, Quantize
from l1kd.exact.network import Network
from l1kd.firmware.certificate.call_rules import CALLS, HANDLERS, NO_CALLS, Handler, matrix_code
from l1kd.firmware.certificate.cpp_reader import Call, Program, read_program
from l1kd.firmware.certificate.cpp_text import Unreadable, words
from l1kd.firmware.certificate.findings import (
    EXHAUSTIVE,
    NO_PADS,
    SUMS,
    Certificate,
    Finding,
    Meaning,
    Modelled,
    Pads,
    State,
    Walk,
    applied,
    lossless,
    next_quantizer,
    settled,
    unsettled,
)
from l1kd.firmware.certificate.header_hashes import known
from l1kd.firmware.certificate.layer_conditions import Doubt, image
from l1kd.firmware.hls.namespace_and_ports import ports_header


def modelled(walk: Walk, label: str, sources: list[str], results: list[str]) -> Modelled:
    """The model of a call whose arrays' meanings are known; `label` is its comment."""
    program, network = walk.program, walk.network
    before = [walk.meanings[program.base(name)] for name in sources]
    after = [walk.meanings[name] for name in results]
    first, last = before[0], after[0]
    if last.node == first.node and last.steps[: len(first.steps)] == first.steps:
        return _of_values(walk, label, sources, results)
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


def _of_values(walk: Walk, label: str, sources: list[str], results: list[str]) -> Modelled:
    """The model of a function of single values."""
    network, first = walk.network, walk.meanings[walk.program.base(sources[0])]
    after = [walk.meanings[name] for name in results]
    layer, shape = label, network[first.node].shape
    if not any(label == each.name for each in network.nodes):
        behind = next_quantizer(network, first.node)
        layer = (behind.name if behind else first.node).removesuffix(SUMS)
    bound = network.bounds[first.node]
    low, high = int(bound.low.min()), int(bound.high.max())
    counts = np.arange(low, high + 1) if high - low < EXHAUSTIVE else np.array([low, 0, high])
    held, fraction = applied(first.steps, counts.astype(np.int64), bound.fraction)
    return Modelled(
        layer=layer,
        node="",
        sources=tuple(sources),
        results=tuple(results),
        reads=(_size(shape, first.padding),),
        writes=tuple(_size(shape, meaning.padding) for meaning in after),
        fractions=(fraction,),
        pads=(NO_PADS,),
        steps=tuple(meaning.steps[len(first.steps) :] for meaning in after),
        low=int(held.min()),
        high=int(held.max()),
        padding=after[0].padding if first.padding == NO_PADS else NO_PADS,
        shape=shape,
    )


def _size(shape: tuple[int, ...], padding: Pads) -> int:
    if padding == NO_PADS:
        return int(np.prod(shape, dtype=int))
    height, width, channels = image(shape)
    return (height + sum(padding[0])) * (width + sum(padding[1])) * channels


def prove(directory: Path, network: Network, top: str, backend: str, hls4ml: str) -> Certificate:
    """The certificate of a project written by hls4ml of a version, from its files; nothing runs."""
    return follow(directory, network, top, backend, hls4ml).certificate


def follow(directory: Path, network: Network, top: str, backend: str, hls4ml: str) -> Walk:
    """The proof, call by call; a walk without calls if the project cannot be read."""
    library, first = known(backend, hls4ml), network.nodes[0].name
    walk = Walk(network, Program(top, ""))
    if library is None:
        reason = f"no argument was made for the code of hls4ml {hls4ml}, {backend}"
        walk.findings.append(Finding(first, "code", "open", reason))
        return walk
    try:
        walk.program = program = read_program(directory, top, library)
    except Unreadable as error:
        layer = _owner(network, directory / "firmware" / f"{top}.cpp", str(error))
        walk.findings.append(Finding(layer, "code", "refused", str(error)))
        return walk
    if changed := library.changed(directory / "firmware"):
        reason = f"firmware/{changed[0]} is not the file that hls4ml {hls4ml} ships"
        user = _user(program, changed[0]) or first
        walk.findings.append(Finding(user, "code", "refused", reason))
    if strangers := library.strangers(directory / "firmware", program.files):
        reason = (
            f"firmware/{strangers[0]} is not a file of the project: it could be read for another"
        )
        walk.findings.append(Finding(first, "code", "refused", reason))
    if len(program.ports) != 1 + len(network.outputs):
        reason = f"the top function has {len(program.ports)} ports"
        walk.findings.append(Finding(first, "port", "refused", reason))
        return walk
    _stated(walk, directory)
    _port(walk)
    for number, call in enumerate(program.calls):
        _follow(walk, number, call)
    _check_ends(walk)
    return walk


def _stated(walk: Walk, directory: Path) -> None:
    """The ports are asserted in C++ as they are: `ports.h` is what l1kd writes for their types."""
    program, network = walk.program, walk.network
    output = network.output_types[0]
    if not isinstance(network[network.outputs[0]], Quantize):
        found = program.array(program.ports[1]).type
        output = FixedPoint(found.word, found.integer, found.signed)
    types = (network.port, output)
    ends = [
        (program.array(name).declared, kind)
        for name, kind in zip(program.ports[:2], types, strict=True)
    ]
    wanted = ports_header(program.namespace, *ends)
    try:
        same = words((directory / "firmware" / "ports.h").read_text()) == words(wanted)
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        reason = "firmware/ports.h does not assert the types of the ports"
        walk.findings.append(Finding(walk.network.nodes[0].name, "port", "refused", reason))


def _port(walk: Walk) -> None:
    name, node = walk.program.ports[0], walk.network.nodes[0]
    array = walk.program.array(name)
    assert isinstance(node, Input)
    low, high = node.type.bounds
    if not lossless(array.type, low, high, node.type.fraction) or array.size not in (
        None,
        node.size,
    ):
        reason = f"{array.type.text} is not the port's type {node.type.text}"
        walk.findings.append(Finding(node.name, "port", "refused", reason))
    walk.meanings[name] = Meaning(node.name)
    walk.matched.append(node.name)


def _check_ends(walk: Walk) -> None:
    for name, wanted in zip(walk.program.ports[1:], walk.network.outputs, strict=True):
        kind, array = walk.network[wanted], walk.program.array(name)
        meaning = walk.meanings.get(name)
        if meaning is None:
            reason = "nothing writes the output"
            walk.findings.append(Finding(wanted, "code", "refused", reason))
        elif wanted not in settled(walk.network, meaning):
            unsettled(walk, meaning, wanted)
        else:
            walk.matched.append(wanted)
        output = walk.network.output_types[walk.network.outputs.index(wanted)]
        found = array.type
        same = found == replace(output, rounding=found.rounding, overflow=found.overflow)
        if not isinstance(kind, Quantize):  # sums without quantizer: any type that holds them
            bound = walk.network.bounds[wanted]
            ends = int(bound.low.min()), int(bound.high.max())
            same = lossless(array.type, *ends, bound.fraction)
        if not same or array.size not in (None, kind.size):
            reason = f"{array.type.text} is not the port's type {output.text}"
            walk.findings.append(Finding(wanted, "port", "refused", reason))


def _follow(walk: Walk, number: int, call: Call) -> None:
    """Note what the result of a call holds, and what could not be proved."""
    program = walk.program
    handler, operands = _handler(walk, call)
    if handler is None:
        name = call.label if call.label in {n.name for n in walk.network.nodes} else _nearest(walk)
        reason = f"{call.space}{call.function} is not a function that the argument covers"
        kind = next((type(n) for n in walk.network.nodes if n.name == name), Node)
        if call.label == name and kind in NO_CALLS:
            reason += f": {NO_CALLS[kind]}"
        walk.findings.append(Finding(name, "code", "open", reason))
        for argument in call.arguments:
            if argument in program.arrays and argument not in walk.meanings:
                walk.meanings[argument] = Meaning(name)
        return
    sources, results = operands
    try:
        _check_arrays(walk, call, sources, results)
        handler(walk, call, sources, results)
        walk.models[number] = modelled(walk, call.label, sources, results)
    except Doubt as doubt:
        name = doubt.layer or _label(walk, call)
        # A kernel whose scale hls4ml applies in a separate layer is not in the network.
        scaled = doubt.step == "weights" and any(
            each.function == "normalize" and each.arguments[0] in results for each in program.calls
        )
        state: State = "refused" if doubt.known and not scaled else "open"
        walk.findings.append(Finding(name.removesuffix(SUMS), doubt.step, state, str(doubt)))
    for result in results:
        if result not in walk.meanings:  # go on as if it were right: what follows is judged too
            walk.meanings[result] = Meaning(_label(walk, call))


def _label(walk: Walk, call: Call) -> str:
    names = {node.name for node in walk.network.nodes}
    for name in (call.label + SUMS, call.label):
        if name in names:
            return name
    return _nearest(walk)


def _nearest(walk: Walk) -> str:
    return walk.matched[-1] if walk.matched else walk.network.nodes[0].name


def _owner(network: Network, source: Path, text: str) -> str:
    """The layer that unreadable code is about; the first one if that is not known."""
    for node in network.nodes:
        name = re.escape(node.name.removesuffix(SUMS))
        if re.search(rf"(?<!\w){name}(?:_(?:accum_|weight_|bias_)?t)?\b", text):
            return node.name.removesuffix(SUMS)
    # `config3`, `w3`, `fill_buffer_3`, `layer3_out`: what has the number, and a comment behind it.
    numbers = re.findall(r"(?:config|fill_buffer_|dense_da_|layer|\bw|\bb)(\d+)", text)
    for number in reversed(numbers):  # the last one is what is written to
        try:
            lines = source.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            break
        for line in lines:
            label = line.rpartition("; // ")[2].strip()
            names = {node.name.removesuffix(SUMS) for node in network.nodes}
            if re.search(rf"config{number}\b|layer{number}_out\b", line) and label in names:
                return label
    return network.nodes[0].name


def _user(program: Program, header: str) -> str | None:
    """The first layer whose function is in a header of hls4ml."""
    functions = {
        "dense": ("dense",),
        "conv": ("conv",),
        "pool": ("pool",),
        "activation": ("relu", "linear", "hard_"),
        "merge": ("add", "subtract", "maximum", "minimum", "concatenate"),
    }
    named = [names for word, names in functions.items() if word in header]
    for call in program.calls:
        if not named or any(name in call.function for names in named for name in names):
            return call.label or None
    return None


def _check_arrays(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    """Arrays are written once, and before they are read; streams are read once; types fit."""
    program = walk.program
    for name in sources:
        array = program.array(name)
        if program.base(name) not in walk.meanings:
            raise Doubt("code", f"{name} is read before anything is written to it")
        if array.pack is not None:
            if array.name in walk.read:
                raise Doubt("code", f"the stream {name} is read twice")
            walk.read.add(array.name)
    for name in results:
        if program.base(name) in walk.meanings:
            raise Doubt("code", f"{name} is written twice")
    declared = [program.array(name).declared for name in (*sources, *results)]
    given = [each for each in call.template if each in program.types]
    if call.function == "clone_stream":
        declared = declared[:2]
    if given != declared:
        raise Doubt("code", f"{call.function} is called for {given}, its arrays are {declared}")


def _handler(walk: Walk, call: Call) -> tuple[Handler | None, tuple[list[str], list[str]]]:
    """The rule of a call, and the arrays that it reads and writes."""
    program = walk.program
    arrays = [name for name in call.arguments if program.base(name) in program.arrays]
    if call.space != "nnet::":
        adders = call.function in program.generated.adders
        return (matrix_code if adders else None), (arrays[:1], arrays[1:])
    readers = 2 if call.function in CALLS[Merge] else 1
    return HANDLERS.get(call.function), (arrays[:readers], arrays[readers:])
