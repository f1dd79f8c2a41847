"""The lint: what in a QKeras network hls4ml gets wrong or cannot do, before anything is converted.

`check` names every construct that is not exact, with the layer, the reason and a remedy; what it
lets through is exact in hls4ml 1.3.0; some of it with io_parallel only. The rules were found by
trying: for each of them a test shows that hls4ml differs or fails (`tests/networks/lint_cases.py`),
so that nothing is refused needlessly, and for what is clean that it equals QKeras.

A network is inspected, never run; what its layers are to each other is in `lint_graph`, the rules
for quantizers are in `lint_quantizers`, those for layers in `lint_layers`.
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
    """What hls4ml cannot convert exactly.

    Parameters
    ----------
    model
        A built Keras 2 model of QKeras layers: Functional or Sequential.
    io_type
        With io_stream, also what is exact with io_parallel only.

    Returns
    -------
    list of Problem
        In the network's order; empty for a network that converts exactly.
    """
    graph = Graph.of(model)
    stream = io_type == "io_stream"
    return [each for layer in graph.layers for each in problems(graph, layer, stream=stream)]


def demand(model: keras.Model, *, io_type: IoType = "io_parallel") -> None:
    """Refuse a network that hls4ml cannot convert exactly."""
    found = check(model, io_type=io_type)
    if not found:
        return
    first, others = found[0], len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    raise CheckFailed(
        f"{model.name}: layer {first.layer!r}, {first.construct}: {first.reason}; "
        f"{first.remedy}{more}"
    )
