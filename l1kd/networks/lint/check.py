"""The lint: names every construct of a QKeras network that hls4ml 1.3.0 cannot convert exactly.

The rules were found by trying: for each of them a test shows that hls4ml differs or fails
(`tests/networks/lint_cases.py`), and for what is clean that it equals QKeras. A network is
inspected, never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from l1kd.core.errors import CheckFailed
from l1kd.networks.lint.keras_graph import Graph, Problem
from l1kd.networks.lint.layer_rules import problems

if TYPE_CHECKING:
    from tensorflow import keras

IoType = Literal["io_parallel", "io_stream"]


def check(model: keras.Model, *, io_type: IoType = "io_parallel") -> list[Problem]:
    """List the constructs of a network that hls4ml cannot convert exactly.

    Parameters
    ----------
    model
        A built Keras 2 model of QKeras layers: Functional or Sequential. It is not run.
    io_type
        `io_stream` also lists constructs that are exact with `io_parallel` only.

    Returns
    -------
    list of Problem
        In the network's order, each with `layer`, `construct`, `reason` and `remedy`; empty for a
        network that converts exactly.
    """
    graph = Graph.of(model)
    stream = io_type == "io_stream"
    return [each for layer in graph.layers for each in problems(graph, layer, stream=stream)]


def demand(model: keras.Model, *, io_type: IoType = "io_parallel") -> None:
    """Refuse (CheckFailed) a network with problems: the first in one line, and how many others."""
    found = check(model, io_type=io_type)
    if not found:
        return
    first, others = found[0], len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    raise CheckFailed(
        f"{model.name}: layer {first.layer!r}, {first.construct}: {first.reason}; "
        f"{first.remedy}{more}"
    )
