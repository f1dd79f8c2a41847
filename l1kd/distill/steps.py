"""What a student's layers do, one after the other, and which rows of an image that depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tensorflow as tf

__all__ = ["Step", "looked_at", "plain", "sides_after"]

Kind = Literal["reshape", "flatten", "pool", "conv", "dense", "relu"]


@dataclass(frozen=True)
class Step:
    """What a layer does; students with equal steps can share them."""

    kind: Kind
    options: tuple[Any, ...] = ()
    # Name of a layer with weights; no part of what the step does.
    layer: str = field(default="", compare=False)


def sides_after(step: Step, before: Sequence[int]) -> tuple[int, int]:
    """Rows and columns after a convolution or a pooling, of so many."""
    size, stride, padding, *_ = step.options
    lost = size if padding == "VALID" else (1, 1)
    rows, columns = (
        (side - less) // each + 1 for side, less, each in zip(before, lost, stride, strict=True)
    )
    return rows, columns


def looked_at(steps: Sequence[Step], sides: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns of an image have a say in what steps make of it.

    A window of 3 rows and stride 2 leaves the last of 22 unread. Convolutions in front of it make
    that row for nobody, and the rows that it alone comes from need not be there: of 28, the paper's
    two largest students look at 25.

    Parameters
    ----------
    steps
        From the one that reads the image on.
    sides
        The image's rows and columns.
    """
    if not steps or steps[0].kind not in ("conv", "pool", "relu"):
        return sides
    step, *rest = steps
    if step.kind == "relu":
        return looked_at(rest, sides)
    size, stride, padding, *_ = step.options
    if padding != "VALID":
        return sides
    rows, columns = (
        (side - 1) * each + own
        for side, each, own in zip(
            looked_at(rest, sides_after(step, sides)), stride, size, strict=True
        )
    )
    return rows, columns


def plain(step: Step, x: Any, quantize: bool) -> Any:
    """A step without weights, on a tensor of any number of students."""
    if step.kind == "reshape":
        return tf.reshape(x, (-1, *step.options))
    if step.kind == "flatten":
        return tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))
    if step.kind == "pool":
        return tf.nn.avg_pool2d(x, *step.options)
    high, word, scale = step.options
    if scale != 1.0:
        x = x * scale
    return _quantized_relu(high, word)(x) if quantize else tf.clip_by_value(x, 0.0, high)


def _clip(x: Any, high: float) -> Any:
    """Between 0 and `high` in one operation; `tf.clip_by_value` is two. It has no gradient."""
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=high)


def _quantized_relu(high: float, word: int) -> Any:
    """An unsigned type's clip and round, in its counts; the gradient passes inside its range."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def quantized_relu(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            if 2 <= word <= 16:  # one operation instead of four
                return tf.raw_ops.FakeQuantWithMinMaxArgsGradient(
                    gradients=upstream, inputs=x, min=0.0, max=high, num_bits=word
                )
            return tf.where((x >= 0) & (x <= high), upstream, 0.0)

        return tf.round(_clip(x, high)), gradient

    return quantized_relu
