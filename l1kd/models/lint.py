"""The lint: what in a QKeras network hls4ml gets wrong or cannot do, before anything is converted.

`check` names every construct that is not exact, with the layer, the reason and a remedy; what it
lets through is exact in hls4ml 1.3.0, with io_parallel and io_stream. The rules were found by
trying: for each of them a test shows that hls4ml differs or fails (`tests/models/lint_cases.py`),
so that nothing is refused needlessly, and for what is clean that it equals QKeras.

A network is inspected, never run; what its layers are to each other is in `lint_graph`, the rules
for quantizers are in `lint_quantizers`, those for layers in `lint_layers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from l1kd.errors import CheckFailed
from l1kd.models.lint_graph import Graph, Problem
from l1kd.models.lint_layers import layer_problems, network_problems

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = ["Problem", "check", "demand"]


def check(model: keras.Model) -> list[Problem]:
    """What hls4ml cannot convert exactly.

    Parameters
    ----------
    model
        A built Keras 2 model of QKeras layers: Functional or Sequential.

    Returns
    -------
    list of Problem
        In the network's order; empty for a network that converts exactly.
    """
    graph = Graph.of(model)
    return list(_problems(graph))


def demand(model: keras.Model) -> None:
    """Refuse a network that hls4ml cannot convert exactly.

    Raises
    ------
    CheckFailed
        With the first problem in one line, and how many others there are.
    """
    problems = check(model)
    if not problems:
        return
    first, others = problems[0], len(problems) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    raise CheckFailed(
        f"{model.name}: layer {first.layer!r}, {first.construct}: {first.reason}; "
        f"{first.remedy}{more}"
    )


def _problems(graph: Graph) -> Iterator[Problem]:
    yield from network_problems(graph)
    for layer in graph.layers:
        yield from layer_problems(graph, layer)
