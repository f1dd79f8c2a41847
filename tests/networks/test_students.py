"""Students: the paper's sizes, exact at the port, widths per student and layer."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.config import Score, Student
from l1kd.core.config_types import VALUES
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.students import STUDENTS, build_student

PIXELS, COUNTS = FixedPoint(9, 1), FixedPoint(11, 11)
PARAMETERS = {
    "s1": 7177,
    "s2": 2189,
    "s3": 1057,
    "s4": 409,
    "s5": 225,
    "s6": 133,
    "s7": 77,
}


def build(architecture: str, shape: tuple[int, ...] = (28, 28, 1), **options: object):  # type: ignore[no-untyped-def]
    student = Student(name="x", architecture=architecture, **options)  # type: ignore[arg-type]
    grid = PIXELS if shape == (28, 28, 1) else COUNTS
    return build_student(student, shape, grid, Score())


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_the_paper_s_students_have_the_paper_s_sizes(name: str, parameters: int) -> None:
    assert build(name).count_params() == parameters


def test_cicada_s_students_are_79_times_smaller_than_their_teacher() -> None:
    for name in ("cicada_v1", "cicada_v2"):
        assert 4060 <= build(name, (18, 14, 1)).count_params() <= 4090


@pytest.mark.parametrize("grid", [PIXELS, COUNTS, FixedPoint(10, 10, False), FixedPoint(8, 1)])
def test_nothing_is_lost_at_the_port(grid: FixedPoint) -> None:
    model = build_student(Student(name="x", architecture="dense"), (4,), grid, Score())
    every = np.arange(grid.low, grid.high + grid.lsb, grid.lsb)
    every = np.resize(every, (-(-len(every) // 4), 4)).astype(np.float32)
    assert (model.get_layer("port")(every).numpy() == every).all()


def test_scores_are_values_of_the_output_type() -> None:
    model = build("cicada_v2", (18, 14, 1))
    events = np.random.default_rng(0).integers(0, 1024, (64, 18, 14, 1)).astype(np.float32)
    assert Score().type.holds(model(events).numpy()).all()


def test_widths_are_set_per_student_and_per_layer() -> None:
    layers = {"dense1": {"weight_bits": 5, "size": 3}, "output": {"weight_bits": 7}}
    model = build("cicada_v2", (18, 14, 1), weight_bits=6, activation_bits=9, layers=layers)
    assert model.get_layer("conv1").kernel_quantizer_internal.bits == 6
    assert model.get_layer("dense1").kernel_quantizer_internal.bits == 5
    assert model.get_layer("dense1").units == 3
    assert model.get_layer("output").kernel_quantizer_internal.bits == 7
    assert model.get_layer("conv1_relu").quantizer.bits == 9


def test_a_weight_s_range_is_set_per_student_and_per_layer() -> None:
    own = {"output": {"weight_integer": 3}}
    for options, found in (({}, (1, 1, 3)), ({"weight_integer": 1, "layers": own}, (0, 0, 2))):
        model = build("conv", (18, 14, 1), hidden=[4], **options)
        layers = [model.get_layer(name) for name in ("conv1", "dense1", "output")]
        assert tuple(layer.kernel_quantizer_internal.integer for layer in layers) == found


def test_biases_have_widths_too() -> None:
    layers = {"dense1": {"bias_bits": 5}}
    model = build("conv", (18, 14, 1), hidden=[4], bias_bits=9, layers=layers)
    found = {n: model.get_layer(n).bias_quantizer_internal for n in ("conv1", "dense1", "output")}
    assert {name: bias.bits for name, bias in found.items()} == {
        "conv1": 9,
        "dense1": 5,
        "output": 9,
    }
    assert all(bias.bits - bias.integer >= 1 for bias in found.values())


def test_a_convolution_s_window_is_the_configuration_s() -> None:
    model = build("conv", (18, 14, 1), hidden=[], filters=3, kernel=[3, 2], stride=2)
    assert model.get_layer("conv1").output_shape == (None, 8, 7, 3)
    assert build("conv", (18, 14, 1), kernel=3).get_layer("conv1").output_shape[1:3] == (6, 4)
    assert [layer.name for layer in model.layers[-3:]] == ["flatten", "output", "score"]


def test_a_set_s_score_does_not_change_when_events_rotate_by_a_stride() -> None:
    model = build("set", (18, 14, 1), hidden=[5])
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 0.5, w.shape) for w in model.get_weights()])
    events = random.poisson(3, (64, 18, 14, 1)).astype(np.float32)
    scores = model(events).numpy()
    assert len(np.unique(scores)) > 30
    for regions in (2, 4, 16):
        assert (model(np.roll(events, regions, axis=1)).numpy() == scores).all()
    assert (model(np.roll(events, 1, axis=1)).numpy() != scores).any()
    assert (model(np.roll(events, 2, axis=2)).numpy() != scores).any()


@pytest.mark.parametrize(
    ("over", "shape"), [("phi", (1, 7, 3)), ("eta", (9, 1, 3)), ("all", (1, 1, 3))]
)
def test_a_set_sums_over_what_it_is_told(over: str, shape: tuple[int, ...]) -> None:
    model = build("set", (18, 14, 1), filters=3, **{"sum": over})
    assert model.get_layer("sum1").output_shape == (None, *shape)
    with pytest.raises(ValueError, match="'sum' is for 'set'"):
        Student(name="x", architecture="conv", **{"sum": over})  # type: ignore[arg-type]


def test_a_set_may_see_each_window_by_a_second_convolution() -> None:
    model = build("set", (18, 14, 1), filters=1, pointwise=4, hidden=[5])
    assert model.get_layer("conv2").kernel.shape == (1, 1, 1, 4)
    assert model.get_layer("sum1").output_shape == (None, 1, 7, 4)
    with pytest.raises(ValueError, match="'pointwise' is for 'set'"):
        Student(name="x", architecture="conv", pointwise=4)


@pytest.mark.parametrize(
    ("architecture", "shape", "options", "words"),
    [
        ("cicada_v2", (18, 14, 1), {"layers": {"dense2": {"weight_bits": 3}}}, "conv1, dense1"),
        ("cicada_v2", (18, 14, 1), {"layers": {"output": {"size": 3}}}, "one unit"),
        ("s1", (57,), {}, "'dense'"),
        ("s1", (6, 4, 1), {}, "larger images"),
        ("cicada_v2", (1, 9), {}, "at least 2x2"),
        ("conv", (18, 14, 1), {"kernel": [4, 15]}, "at least 4x15"),
        ("cicada_v2", (18, 14, 1), {"layers": {"conv1": {"bias_bits": 9}}}, "no bias"),
    ],
)
def test_what_cannot_be_built_is_said(
    architecture: str, shape: tuple[int, ...], options: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        build(architecture, shape, **options)


def test_every_architecture_of_the_configuration_is_there() -> None:
    assert set(VALUES["students.architecture"]) == {*STUDENTS, "file", "imported"}


@pytest.mark.parametrize("name", ["cicada_v1", "cicada_v2", "conv", "set", "dense"])
def test_regions_with_bits_beside_their_counts(name: str) -> None:
    """Three channels are read exactly, and every one of them counts."""
    from l1kd import read

    random = np.random.default_rng(1)
    events = random.integers(0, 2, (40, 18, 14, 3)).astype(np.float32)
    events[..., 0] = random.poisson(3, (40, 18, 14))
    model = build(name, (18, 14, 3), weight_bits=8)
    for layer in model.layers:
        if kernels := layer.get_weights():
            layer.set_weights([(random.random(k.shape) < 0.4) / 16 for k in kernels])
    network = read(model)
    assert (network.predict(events) == model(events).numpy()).all()
    assert (network.predict(events) != network.predict(events * [1, 0, 1])).any()
    assert (network.predict(events) != network.predict(events * [1, 1, 0])).any()
