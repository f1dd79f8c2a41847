"""Checks of a conversion's arguments, before anything is written."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls.backends import Backend

if TYPE_CHECKING:
    from tensorflow import keras

_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def check_arguments(
    backend: Backend, io_type: str, strategy: str, part: str, reuse: int, clock_ns: float
) -> None:
    """Raise UserError for an unknown name, a number that is not positive, or no part's name."""
    for what, value, known in (
        ("io_type", io_type, backend.io_types),
        ("strategy", strategy, backend.strategies),
    ):
        if value not in known:
            raise UserError(f"{backend.name} has no {what} {value!r}, but {', '.join(known)}")
    if reuse < 1 or not clock_ns > 0:
        raise UserError(f"reuse ({reuse}) and clock_ns ({clock_ns}) are positive")
    if not _PART.match(part):
        raise UserError(f"{part!r} is no name of a device; an example is xcvu13p-flga2577-2-e")


def check_port(name: str, port: FixedPoint | None, own: FixedPoint) -> None:
    """Raise UserError if the first layer's type `own` lacks a value of the stated input port."""
    if port is None:
        return
    if port.fraction > own.fraction or port.low < own.low or port.high > own.high:
        raise UserError(
            f"{name}: the stated input port {port.text} has values that the network's own, "
            f"{own.text}, does not have; state a part of it, or train with a wider one"
        )


def check_size(model: keras.Model, backend: Backend, io_type: str, strategy: str) -> None:
    """Raise CheckFailed for a layer that hls4ml has no code for, or the vendor's tool refuses."""
    for layer in model.layers:
        kind = type(layer).__name__
        if (io_type, strategy, kind) == ("io_parallel", "resource", "QDepthwiseConv2D"):
            raise CheckFailed(
                f"{model.name}: layer {layer.name!r} is a depthwise convolution, which has no "
                "resource strategy with io_parallel in hls4ml; use io_stream, or "
                "`strategy: latency`"
            )
        if (io_type, strategy) != ("io_stream", "latency") or "Conv" not in kind:
            continue
        weights = math.prod(layer.kernel.shape) if getattr(layer, "kernel", None) is not None else 0
        if weights >= backend.partition:
            raise CheckFailed(
                f"{model.name}: layer {layer.name!r} has {weights} weights; a convolution with "
                f"io_stream and the latency strategy has to stay below {backend.partition}: use "
                "fewer filters, or `strategy: resource`"
            )


def reuse_for(layer: Any, reuse: int) -> int:
    """The largest reuse factor up to `reuse` that hls4ml's resource strategy has code for.

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
    """True if hls4ml's resource strategy has code for this matrix and reuse factor."""
    if inputs * outputs % factor:
        return False
    if factor >= inputs:
        return factor % inputs == 0
    return (inputs * outputs // factor) % outputs == 0
