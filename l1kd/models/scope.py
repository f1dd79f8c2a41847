"""What hls4ml converts exactly and l1kd does not, or not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from l1kd.errors import CheckFailed
from l1kd.exact import graph
from l1kd.models.lint_graph import Graph, Problem
from l1kd.models.lint_pools import cells_seen

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = ["beyond", "check_steps"]


def check_steps(network: graph.Network) -> None:
    """Refuse a quantizer whose step lies above all bits of what it is given: it gives 0.

    hls4ml's C simulation stops at it, for its rounding looks at a bit that the sums do not have.
    """
    for node in network.nodes:
        if not isinstance(node, graph.Quantize) or node.halved:
            continue
        source = network.bounds[node.sources[0]].type
        if source.fraction - node.type.fraction > source.word:
            raise CheckFailed(
                f"{network.name}: layer {node.name!r}, steps of {node.type.lsb:g}: its input "
                f"({source.text}) is always rounded to 0, and hls4ml's C simulation stops at it; "
                "use more fraction bits"
            )


def beyond(model: keras.Model) -> Problem | None:
    """What hls4ml converts exactly and l1kd does not: the first of it, None if there is nothing.

    These are no faults of hls4ml, so that the lint does not name them.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return Problem(
            model.name,
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "a project of l1kd has one port for events and one for scores",
            "concatenate them, or convert a network for each",
        )
    layers = Graph.of(model)
    for layer in layers.layers:
        if "Average" in type(layer).__name__ and "Pool" in type(layer).__name__:
            counts = cells_seen(layer)
            if len(counts) > 1 or any(count & (count - 1) for count in counts):
                return Problem(
                    layer.name,
                    f"averages of {', '.join(map(str, sorted(counts)))} values",
                    "a quotient without a last bit is no fixed-point number, in float32 neither",
                    "average over a power of two, without padding",
                )
    return None
