"""What handlers of calls have in common: which layer of the exact network comes next."""

from __future__ import annotations

from typing import Any

from l1kd.exact.graph import Node, Quantize, Reshape
from l1kd.firmware.certificate.layers import Doubt
from l1kd.firmware.certificate.meaning import Meaning, settled
from l1kd.firmware.certificate.source import Call, Config
from l1kd.firmware.certificate.walk import SUMS, Walk, unsettled
from l1kd.fixedpoint import FixedPoint

__all__ = ["behind", "config_of", "doubt_of", "meaning_of", "sized"]


def meaning_of(walk: Walk, name: str) -> Meaning:
    found: Meaning = walk.meanings[walk.program.aliases.get(name, name)]
    return found


def doubt_of(node: Node, doubt: Doubt) -> Doubt:
    """The same, with the layer that it is about."""
    return Doubt(doubt.step, f"{node.name}\0{doubt}", known=doubt.known)


def config_of(walk: Walk, call: Call) -> Config:
    for name in call.template:
        if name in walk.program.configs:
            found: Config = walk.program.configs[name]
            return found
    raise Doubt("code", f"{call.function} has no configuration")


def behind(walk: Walk, call: Call, source: str, kinds: tuple[type, ...]) -> tuple[Any, str]:
    """The layer of some kind that reads what an array holds, and the layer that it reads."""
    meaning = meaning_of(walk, source)
    held = settled(walk.network, meaning)
    if not held:
        unsettled(walk, meaning)
        # Go on as if it were right, so that what is behind it is judged too.
        held = _all_behind(walk, meaning.node)
    found = [
        node
        for node in walk.network.nodes
        if isinstance(node, kinds) and node.sources[0] in held and node.name not in walk.matched
    ]
    named = [node for node in found if node.name.removesuffix(SUMS) == call.label]
    if not found:
        raise Doubt("code", f"no layer of the network is what {call.function} should be here")
    node = (named or found)[0]
    walk.matched += [name for name in held if name not in walk.matched]
    walk.matched.append(node.name)
    return node, node.sources[0]


def _all_behind(walk: Walk, name: str) -> set[str]:
    found = {name}
    for node in walk.network.nodes:
        if isinstance(node, (Quantize, Reshape)) and set(node.sources) & found:
            found.add(node.name)
    return found


def sized(walk: Walk, name: str, node: Node) -> FixedPoint:
    """The type of an array's values; its size has to be the layer's."""
    array = walk.program.array(name)
    if array.size not in (None, node.size):
        raise Doubt("code", f"{name} has {array.size} values, {node.name!r} has {node.size}")
    kind: FixedPoint = array.type
    return kind
