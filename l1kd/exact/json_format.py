"""An exact network as JSON: plain values, checked when they are read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import network as graph

FORMAT_VERSION = 1
_KINDS: dict[str, type[graph.Node]] = {
    kind.__name__.lower(): kind
    for kind in (
        graph.Input,
        graph.Quantize,
        graph.Dense,
        graph.Conv,
        graph.Pool,
        graph.Pad,
        graph.Permute,
        graph.Rectify,
        graph.Reshape,
        graph.Merge,
    )
}


def to_json(network: graph.Network) -> dict[str, Any]:
    """A network as a JSON value."""
    return {
        "format_version": FORMAT_VERSION,
        "name": network.name,
        "outputs": list(network.outputs),
        "nodes": [_written(node) for node in network.nodes],
    }


def from_json(value: Any) -> graph.Network:
    """A network from what `to_json` gave."""
    try:
        if value["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {value['format_version']} is not read, {FORMAT_VERSION} is")
        nodes = tuple(_read(each) for each in value["nodes"])
        network = graph.Network(str(value["name"]), nodes, tuple(map(str, value["outputs"])))
        _ = network.bounds  # shapes that do not fit each other show here
    except (KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise ValueError(f"no network: {type(error).__name__}: {error}") from error
    return network


def _written(node: graph.Node) -> dict[str, Any]:
    written: dict[str, Any] = {"kind": type(node).__name__.lower()}
    for each in fields(node):
        value = getattr(node, each.name)
        if isinstance(value, FixedPoint):
            value = value.text
        elif isinstance(value, np.ndarray):
            value = {"shape": list(value.shape), "values": value.reshape(-1).tolist()}
        written[each.name] = _listed(value)
    return written


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _read(stored: dict[str, Any]) -> graph.Node:
    kind = _KINDS[stored["kind"]]
    hints = get_type_hints(kind)
    given = {name: value for name, value in stored.items() if name != "kind"}
    if set(given) != {each.name for each in fields(kind)}:
        raise ValueError(f"a layer of kind {stored['kind']} has other keys than {sorted(given)}")
    node = kind(**{name: _decoder(name, hints[name])(value) for name, value in given.items()})
    if any(side < 1 for side in node.shape):
        raise ValueError(f"layer {node.name!r} has the shape {node.shape}")
    return node


def _decoder(name: str, hint: Any) -> Callable[[Any], Any]:
    if hint is FixedPoint:
        return FixedPoint.parse
    if name in ("kernel", "bias"):
        return _array
    if name == "operation":
        return lambda value: _one_of(get_args(hint), value)
    if hint is bool:
        return lambda value: _plain(bool, value)
    if hint is int:
        return lambda value: _plain(int, value)
    if hint is str:
        return lambda value: _plain(str, value)
    if name == "shift":
        return lambda value: None if value is None else _plain(int, value)
    if name == "sources":
        return lambda value: tuple(_plain(str, each) for each in value)
    return _integers


def _integers(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_integers(each) for each in value)
    return _plain(int, value)


def _plain(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


def _one_of(names: tuple[Any, ...], value: Any) -> Any:
    if value not in names:
        raise ValueError(f"{value!r} is none of {names}")
    return value


def _array(value: Any) -> Any:
    array = np.array([_plain(int, each) for each in value["values"]], np.int64)
    return array.reshape(_integers(value["shape"]))
