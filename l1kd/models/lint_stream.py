"""The lint's rules for what io_stream alone cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from l1kd.models.lint_graph import Graph, kind, sides
from l1kd.models.lint_pools import pads
from l1kd.models.lint_quantizers import Finding

__all__ = ["stream_problems"]

_COPIES = 7  # of a stream
_CONV_2D = ("QConv2D", "QDepthwiseConv2D", "QSeparableConv2D")


def stream_problems(graph: Graph, layer: Any) -> Iterator[Finding]:
    """What io_stream alone cannot do."""
    readers = len(graph.readers[layer.name])
    if readers > _COPIES:
        yield Finding(
            f"{readers} readers and io_stream",
            f"hls4ml copies a stream at most {_COPIES} times",
            "let fewer layers read it, or use io_parallel",
        )
    parents = graph.parents(layer)
    shapes = {tuple(each.output_shape) for each in parents}
    if len(shapes) > 1 and kind(layer) != "Concatenate":
        yield Finding(
            f"{kind(layer)} of different shapes and io_stream",
            "hls4ml repeats values along an axis with io_parallel only",
            "give both the same shape, or use io_parallel",
        )
    if kind(layer) in ("QConv1D", "QSeparableConv1D") and layer.padding != "valid":
        source = graph.source(layer)
        if _padded(layer) and source is not None and len(graph.reached(source)) > 1:
            yield Finding(
                f"padding={layer.padding!r} of what others read, and io_stream",
                "hls4ml puts the padding before another of its readers",
                "use padding='valid', or io_parallel",
            )
    if kind(layer) in _CONV_2D:
        (height, width), strides = sides(layer.kernel_size), sides(layer.strides)
        if height == 1 < width and strides[0] > 1:
            yield Finding(
                f"kernel_size={(height, width)} with strides={strides} and io_stream",
                "hls4ml's streams do not skip rows for a kernel of height 1",
                "use strides of 1 along the height, or io_parallel",
            )
    if hasattr(layer, "pool_size"):
        size, step = sides(layer.pool_size), sides(layer.strides)
        if len(size) == 2 and size != step:
            yield Finding(
                f"pool_size={size} with strides={step} and io_stream",
                "hls4ml's streams pool windows that lie side by side",
                "use strides of the window's size, or io_parallel",
            )
        cells = [int(side) for side in layer.input_shape[1:-1]]
        if layer.padding == "same" and any(
            any(pads(*each)) for each in zip(cells, size, step, strict=True)
        ):
            yield Finding(
                "padding='same' and io_stream",
                "hls4ml's streams do not pad what is pooled",
                "use padding='valid', or io_parallel",
            )


def _padded(layer: Any) -> bool:
    side, size, step = int(layer.input_shape[1]), layer.kernel_size[0], layer.strides[0]
    return size > 1 if layer.padding == "causal" else any(pads(side, size, step))
