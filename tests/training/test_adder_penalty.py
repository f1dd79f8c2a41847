"""The logic cost: its value counts digits, its gradient lowers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from l1kd.core.config import Score, Student
from l1kd.core.fixed_point import FixedPoint, signed_digits
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read
from l1kd.training import student_losses as module
from l1kd.training.student_losses import adder_cost
from l1kd.training.student_stack import Stack


def student(**options: object):  # type: ignore[no-untyped-def]
    tf.keras.utils.set_random_seed(3)
    config = Student(name="x", architecture="conv", hidden=[5], **options)  # type: ignore[arg-type]
    return build_student(config, (6, 4, 1), FixedPoint(6, 6), Score())


def logic_cost(model: tf.keras.Model) -> Callable[[], Any]:
    slots = [slot for slot in Stack({"x": model}).slots if slot.part == "kernel"]
    return lambda: adder_cost([slot.variable for slot in slots], slots)


def by_hand(number: int) -> int:
    """The definition: divide by two; an odd number gives off +1 or -1, whichever leaves 0 mod 4."""
    count = 0
    while number:
        if number % 2:
            number -= 2 - number % 4
            count += 1
        number //= 2
    return count


def test_digits_are_those_of_the_canonical_form() -> None:
    numbers = np.arange(-600, 601)
    assert signed_digits(numbers).tolist() == [by_hand(int(n)) for n in numbers]


def test_the_value_is_the_exact_count_of_what_the_network_multiplies_with() -> None:
    model = student(weight_bits=6, layers={"conv1": {"activation_bits": 8}})
    network = read(model)
    counted = {
        "conv1": (6, 6),  # bits at the port, positions
        "dense1": (8, 1),
        "output": (10, 1),
    }
    added = sum(
        signed_digits(network[name].kernel).sum() * bits * positions  # type: ignore[attr-defined]
        for name, (bits, positions) in counted.items()
    )
    full = sum(
        network[name].kernel.size * 6 / 3 * bits * positions  # type: ignore[attr-defined]
        for name, (bits, positions) in counted.items()
    )
    assert float(logic_cost(model)()) == pytest.approx(added / full, rel=1e-6)


def test_the_surrogate_follows_the_count_without_being_it() -> None:
    numbers = np.arange(-128, 128)
    smooth = module._surrogate(tf.constant(numbers, tf.float32), 8).numpy()
    exact = signed_digits(numbers)
    simple = exact < 2  # 0 and powers of two
    assert np.abs(smooth - exact)[simple].max() < 1e-3
    assert np.corrcoef(smooth, exact)[0, 1] > 0.96
    assert (smooth <= 1.03 * exact + 1e-3).all()
    assert np.abs(smooth - exact)[~simple].max() > 0.1


def test_its_gradient_takes_digits_away() -> None:
    model = student()
    cost = logic_cost(model)
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    before = float(cost())
    start = [kernel.numpy() for kernel in kernels]
    for _ in range(40):
        with tf.GradientTape() as tape:
            value = cost()
        for kernel, gradient in zip(kernels, tape.gradient(value, kernels), strict=True):
            kernel.assign_sub(2e-3 * gradient / tf.reduce_max(tf.abs(gradient)))
    moved = [np.abs(kernel - was).max() for kernel, was in zip(kernels, start, strict=True)]
    assert float(cost()) < 0.85 * before
    assert max(moved) < 0.081  # weights moved by at most 5 LSB, most of them by far less


def test_its_gradient_is_finite_everywhere_and_0_beyond_the_range() -> None:
    model = student()
    cost = logic_cost(model)
    kernel = model.get_layer("dense1").kernel
    kernel.assign(np.linspace(-4, 4, kernel.shape.num_elements()).reshape(kernel.shape))
    with tf.GradientTape() as tape:
        value = cost()
    gradient = tape.gradient(value, kernel).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[np.abs(kernel.numpy()) > 2] == 0).all()
