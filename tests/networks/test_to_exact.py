"""From QKeras to the exact network: equal where float32 can hold it, and right where it cannot."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qkeras
import tensorflow as tf
from tensorflow import keras

from l1kd.core.config import Score, Student
from l1kd.core.errors import CheckFailed
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network, from_json
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.networks.lint.check import RULES
from l1kd.networks.quantizers import settled
from l1kd.networks.students import STUDENTS, build_student
from l1kd.networks.to_exact import READERS, beyond, call_back, doubts, read, weight_counts
from tests.firmware.networks import network
from tests.networks import lint_clean as clean

layers = keras.layers
OWN = {
    "kernel_quantizer": "quantized_bits(6,1,alpha=1)",
    "bias_quantizer": "quantized_bits(6,1,alpha=1)",
}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fill(model: Any, seed: int = 3, scale: float = 0.5) -> Any:
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, scale, w.shape) for w in model.get_weights()])
    return model


def quantized(text: str, name: str, x: Any) -> Any:
    return qkeras.QActivation(text, name=name)(x)


def ending(events: Any, x: Any, name: str) -> Any:
    x = layers.Flatten(name="flat")(x)
    x = qkeras.QDense(3, name="d", **OWN)(x)
    return keras.Model(events, quantized("quantized_bits(12,5,alpha=1)", "out", x), name=name)


@tf.autograph.experimental.do_not_convert
def images(name: str) -> Any:
    events = keras.Input((6, 5, 2), name="ev")
    x = quantized("quantized_bits(8,3,alpha=1)", "port", events)
    if name == "same":
        own = {"padding": "same", "activation": qkeras.quantized_relu(7, 2), **OWN}
        x = qkeras.QConv2D(3, 3, name="c", **own)(x)
        x = quantized("quantized_relu(7,2)", "p", layers.MaxPooling2D(2, name="mp")(x))
    elif name == "strides":
        x = qkeras.QConv2D(3, (3, 2), strides=(2, 1), use_bias=False, name="c", **OWN)(x)
        x = quantized("quantized_tanh(6)", "t", x)
    elif name == "average":
        x = quantized("quantized_relu(7,2)", "p", layers.AveragePooling2D((2, 1), name="ap")(x))
    elif name == "global":
        x = qkeras.QConv2D(4, 3, strides=2, name="c", **OWN)(x)
        x = quantized("quantized_bits(7,2,alpha=1)", "q", x)
        x = quantized("quantized_bits(9,2,alpha=1)", "g", layers.GlobalAveragePooling2D()(x))
    elif name == "sequence":
        x = layers.Reshape((10, 6), name="rs")(x)
        x = qkeras.QConv1D(4, 3, name="c", **OWN)(x)
        x = quantized("quantized_relu(7,2)", "q", x)
        x = quantized("quantized_relu(7,2)", "p", layers.MaxPooling1D(2, name="mp")(x))
    elif name == "separable":
        own = {
            "depthwise_quantizer": "quantized_bits(4,0,alpha=1)",
            "pointwise_quantizer": "quantized_bits(5,1,alpha=1)",
            "bias_quantizer": "quantized_bits(6,1,alpha=1)",
        }
        x = qkeras.QSeparableConv2D(3, (3, 2), strides=2, padding="same", name="c", **own)(x)
        x = quantized("quantized_relu(7,2)", "q", layers.Permute((3, 1, 2), name="turn")(x))
    elif name == "depthwise":
        own = {
            "depthwise_quantizer": "quantized_bits(4,0,alpha=1)",
            "bias_quantizer": "quantized_bits(6,1,alpha=1)",
        }
        x = layers.ReLU(name="r")(qkeras.QDepthwiseConv2D((2, 3), name="c", **own)(x))
        x = quantized("quantized_bits(7,2,alpha=1)", "q", layers.LeakyReLU(0.25, name="l")(x))
        x = qkeras.QConv2D(2, 1, activation="relu", name="k", **OWN)(x)
        x = quantized("quantized_bits(8,3,alpha=1)", "q2", x)
    elif name == "products":
        one = quantized("quantized_relu(4,2)", "q1", qkeras.QConv2D(3, 3, name="c1", **OWN)(x))
        two = qkeras.QConv2D(3, 3, name="c2", **OWN)(x)
        two = quantized("quantized_bits(5,2,alpha=1)", "q2", two)
        both = [layers.Multiply(name="m")([one, two]), layers.Average(name="a")([one, two])]
        x = layers.Concatenate(name="cat")(both)
        x = quantized("quantized_bits(9,4,alpha=1)", "qc", x)
    elif name == "branches":
        one = quantized("quantized_relu(7,2)", "q1", qkeras.QConv2D(3, 3, name="c1", **OWN)(x))
        two = qkeras.QConv2D(3, 3, name="c2", **OWN)(x)
        two = quantized("quantized_bits(7,2,alpha=1)", "q2", two)
        x = quantized("quantized_bits(8,3,alpha=1)", "sum", layers.Add(name="add")([one, two]))
    return fill(ending(events, x, name))


def inputs(exact: Network, search: bool, limit: int) -> Any:
    """Corner inputs of the port, or those that a search finds for every inner quantizer."""
    return corners(exact.port, exact.shape, exact if search else None, limit=limit)[0]


def with_and_without_search(names: Iterable[str], kept: set[str]) -> Any:
    """Each of `names` on the port's corners; the search, that takes seconds, for those `kept`."""
    return [
        pytest.param(
            name,
            search,
            marks=pytest.mark.full if search and name not in kept else (),
            id=f"{name}{'-searched' * search}",
        )
        for name in names
        for search in (False, True)
    ]


@pytest.mark.parametrize(
    ("name", "search"),
    with_and_without_search(
        [
            *("same", "strides", "average", "global", "sequence", "separable", "depthwise"),
            *("products", "branches", "plain"),
        ],
        {"same", "branches"},
    ),
)
def test_every_layer_equals_qkeras(name: str, search: bool) -> None:
    model = images(name)
    exact = read(model)
    assert doubts(model, exact) == {}
    events = inputs(exact, search, 800)
    own = [layer.name for layer in model.layers[1:]]
    parts = keras.Model(model.input, [model.get_layer(each).output for each in own])
    theirs = parts(events.astype(np.float32), training=False)
    ours = exact.values(events, tuple(own))
    for layer, values in zip(own, theirs, strict=True):
        assert (ours[layer] == np.asarray(values, np.float64)).all(), layer
    assert len(np.unique(ours["out"])) > 50


SIZES = {"s1", "s3", "s4", "s5", "s6"}  # of the same layers as s2 and s7


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.full if n in SIZES else ()) for n in STUDENTS],
)
def test_our_own_students_are_read(name: str) -> None:
    shape = (28, 28, 1) if name.startswith("s") else (18, 14, 1)
    grid = FixedPoint(9, 1) if name.startswith("s") else FixedPoint(11, 11)
    student = Student(name=name, architecture=name, hidden=[8])  # type: ignore[arg-type]
    model = build_student(student, shape, grid, Score())
    exact = read(model)
    assert exact.shape == shape and doubts(model, exact) == {}
    random = np.random.default_rng(0)
    events = random.integers(0, 256, (20, *shape)) * grid.lsb
    theirs = np.asarray(model(events.astype(np.float32), training=False), np.float64)
    assert (exact.predict(events) == theirs).all()


def wide(seed: int = 1) -> Any:
    """16 x 16 bits over 64 inputs: 38-bit sums."""
    events = keras.Input((64,), name="ev")
    x = quantized("quantized_bits(16,15,alpha=1)", "port", events)
    bits = "quantized_bits(16,0,alpha=1)"
    x = qkeras.QDense(4, kernel_quantizer=bits, bias_quantizer=bits, name="sums")(x)
    model = keras.Model(events, quantized("quantized_bits(24,17,alpha=1)", "out", x), name="wide")
    return fill(model, seed, 0.4)


@pytest.mark.csim
def test_where_float32_ends_the_firmware_is_right_and_qkeras_is_named(tmp_path: Path) -> None:
    model = wide()
    exact = read(model)
    named = doubts(model, exact)
    assert "sums" in named and "bits, a float32 holds 24" in named["sums"]
    random = np.random.default_rng(2)
    events = random.integers(-(2**15), 2**15, (2000, 64)).astype(np.float64)
    project = hls4ml_convert.to_hls(model, tmp_path / "p", vectors=events[:8])
    found = exact.predict(events)
    assert (project.predict(events) == found).all()
    theirs = np.asarray(model(events.astype(np.float32), training=False), np.float64)
    different = (theirs != found).any(axis=1)
    assert 0 < different.sum() < len(events)
    # By hand, in integers: half to even, 6 fraction bits of 15.
    kernel, bias = (
        weight_counts(settled(qkeras.quantized_bits(16, 0, alpha=1), w))  # type: ignore[arg-type]
        for w in model.get_weights()
    )
    assert kernel[1] == bias[1] == 15
    first = int(np.flatnonzero(different)[0])
    sums = [
        sum(int(x) * int(k) for x, k in zip(events[first], column, strict=True)) + int(b)
        for column, b in zip(kernel[0].T, bias[0], strict=True)
    ]
    expected = [int(value * 2**6) for value in found[first]]
    assert expected == rounded_to(sums, 15 - 6, 2**23)


def rounded_to(sums: list[int], shift: int, limit: int) -> list[int]:
    """Half to even, then into the range, in Python's integers."""
    found = []
    for value in sums:
        down, rest, half = value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1)
        up = rest > half or (rest == half and down & 1)
        found.append(max(-limit, min(limit - 1, down + int(up))))
    return found


def test_weights_that_leave_the_grid_are_called_back() -> None:
    model = network((6,), [("dense", 3)], name="far")
    layer = model.get_layer("dense1")
    kernel, bias = layer.get_weights()
    kernel[0, 0], kernel[1, 1] = 1234567.8, -2345678.9
    layer.set_weights([kernel, bias])
    exact = read_unchecked(model)
    assert "dense1" in doubts(model, exact)
    with pytest.raises(CheckFailed, match="dense1"):
        read(model)
    call_back(model)
    called, _ = layer.get_weights()
    assert called[0, 0] == FixedPoint(8, 2).high
    # -2 is a whole number: the difference to it is exact however far the latent weight is.
    assert called[1, 1] == kernel[1, 1]
    same = np.ones_like(kernel, bool)
    same[0, 0] = False
    assert (called[same] == kernel[same]).all()  # the latent weights of the float twin stay
    assert doubts(model) == {}
    assert (read(model)["dense1"].kernel == exact["dense1"].kernel).all()  # type: ignore[attr-defined]


def read_unchecked(model: Any) -> Network:
    """As `read`, without the lint."""
    from l1kd.networks import to_exact

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_exact.lint, "demand", lambda _: None)
        return read(model)


@pytest.mark.parametrize(
    ("text", "values", "counts", "fraction"),
    [
        ("quantized_bits(4,0,alpha=1)", [0.5, -0.25, 0, 9], [4, -2, 0, 7], 3),
        ("quantized_bits(8,3,alpha=1)", [4.0, -8.0, 0, 6.0], [2, -4, 0, 3], -1),
        ("quantized_bits(8,3,alpha=1)", [0, 0, 0, 0], [0, 0, 0, 0], 0),
        ("quantized_bits(1,0,alpha=1)", [0.3, -0.3, 0.0, 5], [1, -1, 1, 1], 0),
        ("quantized_bits(3,0,alpha=1)", [0.125, 0.375, -0.125, -3], [0, 2, 0, -4], 2),
    ],
)
def test_weights_have_no_more_fraction_bits_than_they_need(
    text: str, values: list[float], counts: list[int], fraction: int
) -> None:
    quantizer = qkeras.get_quantizer(text)
    weights = settled(quantizer, np.array(values, np.float32))
    assert weights is not None
    found, of = weight_counts(weights)
    assert (found * 2.0**-of == np.array(counts) * 2.0**-fraction).all()
    present = [abs(int(each)) for each in found if each]
    assert not present or any(each % 2 for each in present)
    assert (quantizer(np.array(values, np.float32)).numpy() == found * 2.0**-of).all()


def test_every_class_that_the_lint_accepts_has_a_reader() -> None:
    assert READERS.keys() == RULES.keys() - {"InputLayer"}


def test_what_the_lint_refuses_is_not_read() -> None:
    model = network((6,), [("dense", 3)], weights="quantized_bits(8,1,alpha='auto_po2')")
    with pytest.raises(CheckFailed, match="auto_po2"):
        read(model)


# What hls4ml converts exactly and l1kd does not: see `beyond`.
BEYOND = {
    "averages": "averages of",
    "several": "inputs and",
}


@pytest.mark.parametrize(
    ("name", "search"),
    with_and_without_search([*clean.CLEAN, *clean.CLEAN_IN_PARALLEL], {"activations"}),
)
def test_all_that_is_clean_is_read_exactly(name: str, search: bool) -> None:
    """The networks that together hold the lint's whole grammar."""
    model = clean.built(name)
    problem = beyond(model)
    if problem is not None:
        assert any(each in problem.construct for each in BEYOND.values()), problem
        with pytest.raises(CheckFailed, match=re.escape(problem.construct)):
            read(model)
        return
    exact = read(model)
    assert from_json(json.loads(json.dumps(exact.to_json()))).to_json() == exact.to_json()
    events = inputs(exact, search, 500)
    if not doubts(model, exact):
        theirs = np.asarray(model(events.astype(np.float32), training=False), np.float64)
        assert (exact.predict(events) == theirs.reshape(len(events), -1)).all()
    else:
        assert name == "wide"


def test_a_step_above_all_sums_is_refused() -> None:
    """hls4ml's rounding would look at a bit that the sums do not have, and stop."""
    events = keras.Input((2,), name="ev")
    x = quantized("quantized_bits(2,0,alpha=1)", "port", events)
    own = "quantized_bits(12,0,alpha=1)"
    x = qkeras.QDense(1, kernel_quantizer=own, bias_quantizer=own, name="d")(x)
    model = keras.Model(events, quantized("quantized_relu(3,2)", "out", x), name="coarse")
    model.set_weights([np.full((2, 1), 2.0**-11), np.zeros(1)])
    with pytest.raises(CheckFailed, match=r"'out', steps of 0\.5: .* always rounded to 0"):
        read(model)


def test_a_hard_sigmoid_of_coarse_sums_is_exact() -> None:
    events = keras.Input((3,), name="ev")
    x = quantized("quantized_bits(6,5,alpha=1)", "port", events)
    own = "quantized_bits(4,3,alpha=1)"
    x = qkeras.QDense(2, kernel_quantizer=own, use_bias=False, name="d")(x)
    model = keras.Model(events, quantized("quantized_sigmoid(4)", "out", x), name="coarse")
    model.set_weights([np.array([[4, -8], [-4, 0], [0, 4]], np.float32)])
    exact = read(model)
    assert exact.bounds["d"].fraction == -2
    events = inputs(exact, True, 300)
    theirs = model(events.astype(np.float32), training=False).numpy()
    assert (exact.predict(events) == theirs).all() and len(np.unique(theirs)) > 2
