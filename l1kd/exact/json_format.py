"""Reading an exact network from JSON: the network that was written, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.errors import UserError
from l1kd.core.files import read_json
from l1kd.exact.arithmetic import NO_PADS
from l1kd.exact.layers import Node
from l1kd.exact.network import FORMAT_VERSION, Network

# A file may ask for no more memory or time than a network for a trigger can need.
_BYTES = 1 << 28
_VALUES = 1 << 24  # of a layer, padding included
_BITS = 1 << 10  # of a type, a fraction or a shift


def load_network(path: str | Path) -> Network:
    """Read a network that `Network.save` wrote, or a run's `network.json`.

    No code from the file runs, and memory is bounded.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Network
        The same network, bit for bit.

    Raises
    ------
    UserError
        If the file cannot be read, is too large, or is no network.
    """
    path = Path(path)
    try:
        if (size := path.stat().st_size) > _BYTES:
            raise UserError(f"{path} has {size} bytes; networks are read up to {_BYTES}")
        return from_json(read_json(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a network.json") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} holds no exact network ({error}); give a network.json that l1kd wrote"
        ) from error


def from_json(value: Any) -> Network:
    """A network from what `Network.to_json` gave; ValueError if it is no such value."""
    try:
        if value["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {value['format_version']} is not read, {FORMAT_VERSION} is")
        nodes = tuple(Node.from_json(each) for each in value["nodes"])
        network = Network(str(value["name"]), nodes, tuple(map(str, value["outputs"])))
        for node in nodes:
            _check_size(network, node)
        _ = network.bounds  # shapes that do not fit each other show here
    except (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError) as error:
        raise ValueError(f"no network: {type(error).__name__}: {error}") from error
    return network


def _check_size(network: Network, node: Node) -> None:
    """Refuse a layer that is empty, or that would take memory out of all proportion."""
    if any(side < 1 for side in node.shape) or node.size > _VALUES:
        raise ValueError(f"layer {node.name!r} has the shape {node.shape}")
    given = vars(node)
    numbers = [given.get(name) or 0 for name in ("kernel_fraction", "bias_fraction", "shift")]
    if kind := given.get("type"):
        numbers += [kind.word, kind.integer]
    if any(abs(number) > _BITS for number in numbers):
        raise ValueError(f"layer {node.name!r} has more than {_BITS} bits")
    if (padding := given.get("padding", NO_PADS)) != NO_PADS:
        shape = network[node.sources[0]].shape
        image = (1, shape[0]) if len(shape) == 2 else shape[:2]
        sides = [side + sum(pads) for side, pads in zip(image, padding, strict=True)]
        if min(map(min, padding)) < 0 or int(np.prod(sides)) > _VALUES:
            raise ValueError(f"layer {node.name!r} has the padding {padding}")
