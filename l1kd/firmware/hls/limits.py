"""What hls4ml and the vendor tools take: said before anything is written."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint

if TYPE_CHECKING:
    from tensorflow import keras

Backend = Literal["Vitis", "Vivado"]
IoType = Literal["io_parallel", "io_stream"]
Strategy = Literal["latency", "resource", "distributed_arithmetic"]

# Vendor tools do not partition an array of more elements; io_stream's latency convolutions need it.
_PARTITION = 4096
_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def check_size(model: keras.Model, io_type: IoType, strategy: Strategy) -> None:
    """Refuse, before anything is written, what the vendor tools will not take."""
    if io_type == "io_parallel" and strategy == "resource":
        for layer in model.layers:
            if type(layer).__name__ == "QDepthwiseConv2D":
                raise CheckFailed(
                    f"{model.name}: layer {layer.name!r} is a depthwise convolution, which has no "
                    "resource strategy with io_parallel in hls4ml; use io_stream, or "
                    "`strategy: latency`"
                )
    if io_type != "io_stream" or strategy != "latency":
        return
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None or "Conv" not in type(layer).__name__:
            continue
        weights = 1
        for side in kernel.shape:
            weights *= int(side)
        if weights >= _PARTITION:
            raise CheckFailed(
                f"{model.name}: layer {layer.name!r} has {weights} weights; a convolution with "
                f"io_stream and the latency strategy has to stay below {_PARTITION}: use fewer "
                "filters, or `strategy: resource`"
            )


def reuse_for(layer: Any, reuse: int) -> int:
    """The reuse factor of a layer with the resource strategy: the largest that hls4ml has code for.

    hls4ml 1.3.0 corrects a factor that does not divide a layer's multiplications, but not that of a
    convolution whose kernel is one cell, and it may choose one above a window's inputs: such a
    project aborts, or reads beyond the end of its weights.
    """
    if "Conv" not in type(layer).__name__ or getattr(layer, "kernel", None) is None:
        return reuse
    *window, outputs = (int(side) for side in layer.kernel.shape)
    inputs = math.prod(window)
    return max(
        factor for factor in range(1, min(reuse, inputs) + 1) if reusable(inputs, outputs, factor)
    )


def reusable(inputs: int, outputs: int, factor: int) -> bool:
    """Whether hls4ml's resource strategy has code for a matrix and a reuse factor."""
    if inputs * outputs % factor:
        return False
    if factor >= inputs:
        return factor % inputs == 0
    return (inputs * outputs // factor) % outputs == 0


def check_arguments(
    backend: str, io_type: str, strategy: str, part: str, reuse: int, clock_ns: float
) -> None:
    """Refuse wrong arguments of a conversion."""
    for what, value, names in (
        ("backend", backend, Backend),
        ("io_type", io_type, IoType),
        ("strategy", strategy, Strategy),
    ):
        known = get_args(names)
        if value not in known:
            raise UserError(f"no {what} is named {value!r}; there are {', '.join(known)}")
    if reuse < 1 or not clock_ns > 0:
        raise UserError(f"reuse ({reuse}) and clock_ns ({clock_ns}) are positive")
    if not _PART.match(part):
        raise UserError(f"{part!r} is no name of a device; an example is xcvu13p-flga2577-2-e")


def check_port(name: str, port: FixedPoint | None, own: FixedPoint) -> None:
    """Refuse a stated port with values that the network's first layer would change."""
    if port is None:
        return
    if port.fraction > own.fraction or port.low < own.low or port.high > own.high:
        raise UserError(
            f"{name}: the stated input port {port.text} has values that the network's own, "
            f"{own.text}, does not have; state a part of it, or train with a wider one"
        )
