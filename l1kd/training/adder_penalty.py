r"""The number of adders that a student's weights need, as a cost that training can lower.

A kernel :math:`w` with the LSB :math:`2^{-f}`, applied at :math:`P` positions to values of
:math:`b` bits, adds :math:`C = P \, b \sum_i D(2^f q(w_i))` bits; :math:`D` counts non-zero signed
digits (CSD) and q quantizes. The cost is C over its value if a third of all digits were non-zero.
Its gradient is that of :math:`S(x) = \sum_j \sin^2(\pi x / 2^j) / S_1`, x = 2^f w, which equals D
at powers of two and 0, follows it in between (correlation 0.97 for 8 bits), and is smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.quantizers import type_of

_BEYOND = 8  # terms of S above a weight's own bits; the rest is below 1e-4


def _exact(counts: Any, word: int) -> Any:
    """`signed_digits` of a tensor of whole floats of at most `word` bits."""
    magnitude = tf.cast(tf.abs(counts), tf.int32)
    changed = tf.bitwise.bitwise_xor(magnitude, 3 * magnitude)
    found = tf.zeros_like(changed)
    for place in range(word + 2):
        found += tf.bitwise.bitwise_and(tf.bitwise.right_shift(changed, place), 1)
    return tf.cast(found, tf.float32)


def _surrogate(x: Any, word: int) -> Any:
    """S of a tensor."""
    scales = [2.0**j for j in range(1, word + _BEYOND + 1)]
    unit = sum(np.sin(np.pi / scale) ** 2 for scale in scales)
    return tf.add_n([tf.square(tf.sin(np.pi / scale * x)) for scale in scales]) / unit


def _digits(weights: Any, kind: FixedPoint) -> Any:
    """Non-zero digits of weights of a type in all, with the surrogate's gradient."""
    low, high = kind.low / kind.lsb, kind.high / kind.lsb
    inside = tf.clip_by_value(weights / kind.lsb, low, high)
    smooth = tf.reduce_sum(_surrogate(inside, kind.word))
    exact = tf.reduce_sum(_exact(tf.round(inside), kind.word))
    return smooth + tf.stop_gradient(exact - smooth)


@dataclass(frozen=True)
class LogicCost:
    """The cost of a student: call it for a scalar tensor with a gradient."""

    # Every kernel with its type, the bits of what it is multiplied with, and its positions
    kernels: tuple[tuple[Any, FixedPoint, int, int], ...]

    def __call__(self, weights: Sequence[Any] | None = None) -> Any:
        """The cost of the student's weights, or of other kernels with as many elements."""
        values = [kernel for kernel, *_ in self.kernels] if weights is None else weights
        full, shares = 0.0, []
        for value, (kernel, kind, bits, positions) in zip(values, self.kernels, strict=True):
            full += float(np.prod(kernel.shape)) * kind.word / 3 * bits * positions
            shares.append(_digits(value, kind) * bits * positions)
        return tf.add_n(shares) / full


def logic_cost(student: keras.Model) -> LogicCost:
    """The cost of a student of `networks.students`: a chain of layers with plain quantizers."""
    found: list[tuple[Any, FixedPoint, int, int]] = []
    held: FixedPoint | None = None  # the type of what the next layer reads
    for layer in student.layers:
        if (activation := getattr(layer, "quantizer", None)) is not None:
            held = type_of(activation)
        if (quantizer := getattr(layer, "kernel_quantizer_internal", None)) is None:
            continue
        kind = type_of(quantizer)
        if kind is None or held is None:
            raise ValueError(f"{student.name}: {layer.name!r} is not between plain quantizers")
        positions = int(np.prod(layer.output_shape[1:-1], dtype=int))
        found.append((layer.kernel, kind, held.word, positions))
    return LogicCost(tuple(found))
