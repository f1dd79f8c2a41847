"""Proves from a project's files that it computes its network, for every event on its port.

Every array of its top function is shown, call by call, to hold a layer of the exact network: the
weights are the network's, no sum can overflow or drop a bit, every quantizer is the same function
of every value that can reach it. Shared code is pinned by its hash (`shipped_files`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Step
from l1kd.exact.layers import Input, Quantize
from l1kd.exact.network import Network
from l1kd.firmware.certificate.call_rules import (
    CALLS,
    DENSE,
    HANDLERS,
    NO_CALLS,
    PAIRED,
    Doubt,
    Handler,
)
from l1kd.firmware.certificate.cpp_reader import Call, Program, Unreadable, read_program
from l1kd.firmware.certificate.findings import (
    SUMS,
    Meaning,
    Modelled,
    Walk,
    next_quantizer,
    settled,
    unsettled,
)
from l1kd.firmware.certificate.shipped_files import faults, fingerprint, known
from l1kd.firmware.hls.project import Description


def modelled(walk: Walk, sources: list[str], results: list[str]) -> Modelled:
    """The model of a call whose arrays' meanings are known."""
    before, after = (tuple(walk.meanings[name] for name in each) for each in (sources, results))
    found = Modelled(after[0].node, tuple(sources), tuple(results), before, after)
    if found.single:
        behind = next_quantizer(walk.network, found.layer)
        known = any(walk.label == node.name for node in walk.network.nodes)
        layer = walk.label if known else behind.name if behind else found.layer
        found = replace(found, layer=layer)
    return replace(found, layer=found.layer.removesuffix(SUMS))


def follow(files: Mapping[str, bytes], network: Network, description: Description) -> Walk:
    """Prove the program in a project's files call by call; no calls if it cannot be read."""
    record, first = description.record, network.nodes[0].name
    hls4ml = description.versions.get("hls4ml", "?")
    library = known(record.backend, hls4ml)
    walk = Walk(network, Program(record.top, ""), description, fingerprint(files))
    if library is None:
        reason = f"no argument was made for the code of hls4ml {hls4ml}, {record.backend}"
        walk.note(first, "code", reason, "open")
        return walk
    try:
        program = read_program(files, record.top, description.namespace, library)
    except Unreadable as error:
        walk.note(_owner(walk, str(error)), "code", str(error))
        return walk
    walk.program = program
    if len(program.ports) == 1 + len(network.outputs):
        _port(walk)
        for number, call in enumerate(program.calls):
            _follow(walk, number, call)
        _check_ends(walk)
    else:
        walk.note(first, "port", f"the top function has {len(program.ports)} ports")
    shares = record.strategy == "resource" or any(
        config.constants.get("n_partitions", 1) != 1 for config in program.configs.values()
    )  # hls4ml makes a dataflow of arrays: a multiplier or a window is used again
    style = "DATAFLOW" if program.streams or shares else "PIPELINE"
    if program.style != style:
        walk.note(first, "code", f"the top function asks for {program.style}, not {style}")
    for name, reason in faults(files, program, description, network, library):
        step: Step = "port" if name.startswith("firmware/ports.h") else "code"
        walk.note(_user(walk, name) or first, step, f"{name} {reason}")
    return walk


def _port(walk: Walk) -> None:
    name, node = walk.program.ports[0], walk.network.nodes[0]
    array = walk.program.arrays[name]
    assert isinstance(node, Input)
    stated = FixedPoint.parse(walk.description.input.type)
    same = _same_bits(array.type, node.type) and _same_bits(stated, node.type)
    packed = array.pack in (None, node.shape[-1])
    if not same or not packed or array.size not in (None, node.size):
        reason = f"{array.type.text} is not the port's type {node.type.text}"
        walk.note(node.name, "port", reason)
    walk.meanings[name] = Meaning(node.name)
    walk.matched.append(node.name)


def _same_bits(one: FixedPoint, other: FixedPoint) -> bool:
    return (one.bounds, one.fraction) == (other.bounds, other.fraction)


def _check_ends(walk: Walk) -> None:
    network = walk.network
    ends = zip(walk.program.ports[1:], network.outputs, network.output_types, strict=True)
    for name, wanted, output in ends:
        node, array, meaning = network[wanted], walk.program.arrays[name], walk.meanings.get(name)
        if meaning is None:
            walk.note(wanted, "code", "nothing writes the output")
        elif wanted not in settled(network, meaning):
            unsettled(walk, meaning, wanted)
        else:
            walk.matched.append(wanted)
        found, bound = array.type, network.bounds[wanted]
        if isinstance(node, Quantize):
            same = found == replace(output, rounding=found.rounding, overflow=found.overflow)
        else:  # sums without quantizer: any type that holds them
            same = found.carries(bound.lowest, bound.highest, bound.fraction)
        same = same and _same_bits(found, FixedPoint.parse(walk.description.output.type))
        if not same or array.size not in (None, node.size):
            walk.note(wanted, "port", f"{found.text} is not the port's type {output.text}")


def _follow(walk: Walk, number: int, call: Call) -> None:
    """Note what the result of a call holds, and what could not be proved."""
    program = walk.program
    handler, sources, results = _handler(walk, call)
    walk.label = walk.description.arrays.get(results[-1], "") if results else ""
    if handler is None:
        name = _label(walk)
        reason = f"{call.space}{call.function} is not a function that the argument covers"
        if walk.label == name and (kind := type(walk.network[name])) in NO_CALLS:
            reason += f": {NO_CALLS[kind]}"
        walk.note(name, "code", reason, "open")
        for argument in set(call.arguments) & set(program.arrays):
            walk.meanings.setdefault(argument, Meaning(name))
        return
    try:
        _check_arrays(walk, call, sources, results)
        handler(walk, call, sources, results)
        walk.models[number] = modelled(walk, sources, results)
    except KeyError as error:
        walk.note(_label(walk).removesuffix(SUMS), "code", f"{call.function}: there is no {error}")
    except Doubt as doubt:
        name = (doubt.layer or _label(walk)).removesuffix(SUMS)
        # A kernel whose scale hls4ml applies in a separate layer is not in the network.
        scaled = doubt.step == "weights" and any(
            each.function == "normalize" and each.arguments[0] in results for each in program.calls
        )
        known = doubt.known and not scaled
        walk.note(name, doubt.step, str(doubt), "refused" if known else "open")
    for result in results:  # go on as if it were right: what follows is judged too
        walk.meanings.setdefault(result, Meaning(_label(walk)))


def _label(walk: Walk) -> str:
    """The layer that a call is for, by its label or by what was matched last."""
    names = [node.name for node in walk.network.nodes]
    known = (name for name in (walk.label + SUMS, walk.label) if name in names)
    return next(known, [names[0], *walk.matched][-1])


def _owner(walk: Walk, text: str) -> str:
    """The layer that unreadable code is about; the first one if that is not known."""
    names = [node.name.removesuffix(SUMS) for node in walk.network.nodes]
    for name in names:
        if re.search(rf"(?<!\w){re.escape(name)}(?:_(?:accum_|weight_|bias_)?t)?\b", text):
            return name
    # `config3`, `w3`, `fill_buffer_3`, `layer3_out`: by their number; the last one is written to.
    numbers = re.findall(r"(?:config|fill_buffer_|dense_da_|layer|\b[wb])(\d+)", text)
    labels = (walk.description.arrays.get(f"layer{number}_out") for number in reversed(numbers))
    return next((label for label in labels if label in names), names[0])


def _user(walk: Walk, file: str) -> str | None:
    """The first layer whose function is in a header of hls4ml."""
    words = {k: "activation" if k is Quantize else k.__name__.lower() for k in CALLS}
    named = {name for kind, word in words.items() if word in file for name in CALLS[kind]}
    calls = (call for call in walk.program.calls if any(each in call.function for each in named))
    results = (name for call in calls for name in call.arguments[1:])
    return next(filter(None, map(walk.description.arrays.get, results)), None)


def _check_arrays(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    """Arrays are written once, and before they are read; streams are read once; types fit."""
    program = walk.program
    for name in sources:
        array = program.arrays[name]
        if name not in walk.meanings:
            raise Doubt("code", f"{name} is read before anything is written to it")
        if array.pack is not None:
            if array.name in walk.read:
                raise Doubt("code", f"the stream {name} is read twice")
            walk.read.add(array.name)
    for name in results:
        if name in walk.meanings:
            raise Doubt("code", f"{name} is written twice")
    declared = [program.arrays[name].declared for name in (*sources, *results)]
    given = [each for each in call.template if each in program.types]
    if call.function == "clone_stream":
        declared = declared[:2]
    if call.function == "leaky_relu":
        declared[1:1] = call.template[1:2]  # of its slope
    if given != declared:
        raise Doubt("code", f"{call.function} is called for {given}, its arrays are {declared}")


def _handler(walk: Walk, call: Call) -> tuple[Handler | None, list[str], list[str]]:
    """The rule of a call, and the arrays that it reads and writes."""
    program, function = walk.program, call.function
    arrays = [name for name in call.arguments if name in program.arrays]
    if not call.space:
        rule = DENSE if function in program.adders else None
        return rule, arrays[:1], arrays[1:]
    readers = 2 if function in PAIRED else 1
    return HANDLERS.get(function), arrays[:readers], arrays[readers:]
