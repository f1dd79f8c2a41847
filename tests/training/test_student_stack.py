"""All students as one computation: each of them bit by bit, and the gradients that QKeras has."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow import keras

from l1kd.core.config import Score, Student
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read
from l1kd.training.student_stack import Stack, Step, sides_read

pytestmark = pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")

PAPER = [{"architecture": f"s{number}"} for number in range(1, 8)]
# Every kind of student, and what a configuration can change of one.
TRIGGER: list[dict[str, Any]] = [
    {"architecture": "cicada_v1"},
    {"architecture": "cicada_v2"},
    {"architecture": "conv", "hidden": [16]},
    {"architecture": "set", "hidden": [12]},
    {
        "name": "few",
        "architecture": "set",
        "hidden": [8],
        "filters": 2,
        "sum": "eta",
        "activation_bits": 5,
    },
    {"name": "narrow", "architecture": "conv", "hidden": [5], "weight_bits": 4, "filters": 3},
    {"name": "wide", "architecture": "dense", "hidden": [8, 4], "activation_bits": 14},
    {"name": "bits", "architecture": "dense", "hidden": [12], "activation_bits": 1},
    {"name": "one", "architecture": "dense", "hidden": [8], "layers": {"dense1": {"size": 3}}},
    {"name": "steps", "architecture": "conv", "hidden": [4], "kernel": [3, 2], "stride": [1, 2]},
    {
        "name": "mixed",
        "architecture": "conv",
        "hidden": [6],
        "layers": {"conv1": {"activation_bits": 6}, "dense1": {"activation_bits": 12}},
    },
    {"name": "pointwise", "architecture": "set", "filters": 1, "pointwise": 4, "hidden": [8]},
]
GRIDS = {"paper": FixedPoint(8, 0, signed=False), "trigger": FixedPoint(9, 9, signed=False)}
SHAPES = {"paper": (28, 28, 1), "trigger": (18, 14, 1)}
SETTINGS = {"paper": PAPER, "trigger": TRIGGER}


def built(shape: tuple[int, ...], grid: FixedPoint, settings: Any) -> dict[str, keras.Model]:
    own = [Student.model_validate(setting) for setting in settings]
    return {each.name: build_student(each, shape, grid, Score()) for each in own}


@cache
def untrained(which: str) -> dict[str, keras.Model]:
    """Built once; every test gives them weights."""
    return built(SHAPES[which], GRIDS[which], SETTINGS[which])


def students(which: str, seed: int = 0, size: float = 1.0) -> dict[str, keras.Model]:
    """With random weights: `size` of the range of their types."""
    random, models = np.random.default_rng(seed), untrained(which)
    for model in models.values():
        for layer in model.layers:
            if hasattr(layer, "kernel_quantizer_internal"):
                kernel, *bias = layer.get_weights()
                high = 2.0**layer.kernel_quantizer_internal.integer * size
                kernel = (
                    random.uniform(-high, high, kernel.shape) * 3 / np.sqrt(kernel[..., 0].size)
                )
                middle = 100 if layer.name == "output" else 0
                bias = [middle + random.uniform(0.1, 3, each.shape) for each in bias]
                layer.set_weights([kernel, *bias])
    return models


def events(which: str, count: int = 50, seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    grid, random = GRIDS[which], np.random.default_rng(seed)
    counts = random.integers(0, 2**grid.word, (count, *SHAPES[which]))
    counts[: count // 2] *= random.random(counts[: count // 2].shape) < 0.1
    return (counts * grid.lsb).astype(np.float32)


@pytest.mark.parametrize("which", SETTINGS)
@pytest.mark.parametrize("size", [0.5, 1.0, 4.0])  # 4: weights beyond their types, outputs at edges
def test_scores_are_those_of_the_exact_network(which: str, size: float) -> None:
    models, shown = students(which, size=size), events(which)
    stack = Stack(models)
    found = stack.forward(stack.weights(tf.constant(stack.gather())), shown).scores
    assert set(found) == set(models)
    for name, model in models.items():
        scores = Score().type.quantize(found[name].numpy())
        exact = read(model).predict(shown)[:, 0]
        assert (scores == exact).all(), name
        assert len(np.unique(exact)) > 1 or size == 4  # not all at an edge


@pytest.mark.parametrize("which", SETTINGS)
def test_the_gradient_is_qkeras_s(which: str) -> None:
    models, shown = students(which), events(which)
    stack = Stack(models)
    vector = tf.Variable(stack.gather())
    with tf.GradientTape() as tape:
        scores = stack.forward(stack.weights(vector), shown).scores
        total = tf.add_n([tf.reduce_mean(scores[name]) for name in models])
    ours = tape.gradient(total, vector).numpy()
    for name, model in models.items():
        head = keras.Model(model.input, model.layers[-1].input)
        own = [slot for slot in stack.slots if slot.student == name]
        with tf.GradientTape() as tape:
            total = tf.reduce_mean(head(shown)[:, 0])
        theirs = tape.gradient(total, [slot.variable for slot in own])
        for slot, gradient in zip(own, theirs, strict=True):
            scale = np.abs(gradient).max()
            off = np.abs(ours[slot.span].reshape(slot.shape) - gradient.numpy()).max()
            # Sums in another order; and a sum of exactly 0, where QKeras stops the gradient.
            assert off <= 0.03 * scale, slot


def test_a_student_does_not_depend_on_its_neighbours() -> None:
    models, shown = students("paper"), events("paper", 20)
    together = Stack(models)
    found = together.forward(together.weights(together.gather()), shown).scores
    for name, model in models.items():
        alone = Stack({name: model})
        own = alone.forward(alone.weights(alone.gather()), shown).scores[name]
        assert (own.numpy() == found[name].numpy()).all()


def entering(shape: tuple[int, ...], models: dict[str, keras.Model]) -> list[tuple[int, ...]]:
    """What the convolutions of students read when they are one computation."""
    stack = Stack(models)
    vector = stack.gather()
    graph = tf.function(lambda x: stack.forward(stack.weights(vector), x).scores)
    concrete = graph.get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))
    found = [o for o in concrete.graph.get_operations() if o.type == "Conv2D"]
    return [tuple(operation.inputs[0].shape[1:]) for operation in found]


def test_convolutions_are_shared_and_what_no_stride_reads_is_not_made() -> None:
    found = entering(SHAPES["paper"], untrained("paper"))
    # Five each of s1 and s2, three of s3, two of s4 to s7 together; they have 24 in all.
    assert len(found) == 15
    # s1 and s2 alone; s3; the smaller ones together.
    wide = sorted(shape for shape in found if shape[-1] == 1)
    assert wide == [(25, 25, 1), (25, 25, 1), (28, 28, 1), (28, 28, 1)]
    # A last convolution's input is read to the end: 9 = 3 * 2 + 3.
    assert (9, 9, 16) in found and (9, 9, 8) in found
    shape = (24, 14, 1)
    assert entering(shape, built(shape, GRIDS["paper"], PAPER[:1]))[0] == (21, 13, 1)


windows = st.tuples(
    st.sampled_from(["conv", "pool"]), st.integers(1, 4), st.integers(1, 4), st.booleans()
)


@given(st.lists(windows, min_size=1, max_size=5), st.integers(1, 40))
def test_what_is_looked_at_is_what_some_window_reads(
    drawn: list[tuple[Any, int, int, bool]], side: int
) -> None:
    steps, sides = [], [side]
    for kind, size, stride, relu in drawn:
        if size > sides[-1]:
            break
        steps.append(Step(kind, ((size, 1), (stride, 1), "VALID", False)))
        sides.append((sides[-1] - size) // stride + 1)
        steps += [Step("relu", (1.0, 8, 1.0))] * relu
    read = set(range(sides[-1]))
    for step in reversed([each for each in steps if each.kind != "relu"]):
        (size, _), (stride, _) = step.options[:2]
        read = {row * stride + k for row in read for k in range(size)}
    # Rows in the middle that a large stride leaves out stay where they are.
    assert sides_read([*steps, Step("flatten")], (side, 7)) == (max(read) + 1, 7)


def test_padding_reads_everything() -> None:
    same = Step("conv", ((3, 3), (2, 2), "SAME", True))
    pool = Step("pool", ((2, 2), (2, 2), "VALID"))
    assert sides_read([same], (9, 8)) == (9, 8)
    assert sides_read([pool, same], (9, 8)) == (8, 8)
    assert sides_read([same, pool], (9, 8)) == (9, 8)


def test_weights_go_there_and_back() -> None:
    models = students("trigger")
    stack = Stack(models)
    start = stack.gather()
    assert len(start) == stack.size == sum(m.count_params() for m in models.values())
    covered = np.concatenate([np.arange(stack.size)[stack.slice_of(name)] for name in models])
    assert (covered == np.arange(stack.size)).all()
    stack.scatter(start + 1)
    assert (stack.gather() == start + 1).all()
    assert stack.features()["one"] == (3, 2.0**-5)


def test_without_quantizers_it_is_the_float_network() -> None:
    models, shown = students("paper"), events("paper", 20)
    stack = Stack(models)
    vector = tf.constant(stack.gather())
    exact = stack.forward(stack.weights(vector), shown).scores
    rough = stack.forward(stack.weights(vector, quantize=False), shown, quantize=False).scores
    for name in models:
        difference = np.abs(exact[name] - rough[name]).max()
        assert 0 < difference < 0.1 * np.ptp(exact[name]) + 0.5


def test_another_layer_is_refused() -> None:
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3)(inputs))
    with pytest.raises(TypeError, match=r"x: layer 'dense.*' \(Dense\) is none of a student's"):
        Stack({"x": keras.Model(inputs, outputs)})
