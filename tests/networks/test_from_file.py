"""Networks of a user's as teacher and students: fitted to the events, or refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qkeras
from tensorflow import keras

import l1kd
from l1kd.core.config import Score, Teacher
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Sample
from l1kd.data.moments import measure_spread
from l1kd.networks.from_file import read_student, read_teacher
from l1kd.networks.load import Graph, save_model
from tests.training.test_distill import WEIGHTS, user_student

pytestmark = pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")

layers = keras.layers
NORMAL = np.random.default_rng(0).poisson(4, (200, 4, 2, 1)).astype(np.float32)
SAMPLE = Sample.of("train", NORMAL)
PORT = FixedPoint(6, 6)


def autoencoder(shape: tuple[int, ...], *, latent: str = "latent") -> keras.Model:
    """Of usual layers; it returns what a constant would, and a little more."""
    keras.utils.set_random_seed(1)
    size = int(np.prod(shape))
    events = keras.Input(shape)
    x = layers.Normalization(mean=4.0, variance=4.0)(layers.Flatten()(events))
    x = layers.LayerNormalization()(layers.Dense(6, activation="gelu")(x))
    x = layers.PReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(3, activation="selu", name=latent)(layers.ActivityRegularization(l1=1e-3)(x))
    x = layers.Rescaling(0.1, offset=4.0)(layers.Dense(size, name="raw_score")(x))
    return keras.Model(events, layers.Reshape(shape)(x))


def scoring(*, last: Any = "softplus", outputs: int = 1) -> keras.Model:
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(5, "swish", name="score"),
            layers.Dense(outputs, last, name="standardised"),
        ]
    )


def saved(model: keras.Model, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' and QKeras' doubts
        model.save(path)


def teacher(path: Path, model: keras.Model, **settings: Any) -> keras.Model:
    """What a run makes of a model that was saved."""
    if model is not None:
        saved(model, path)
    config = Teacher.model_validate({"file": str(path), **settings})
    return read_teacher(config, path, SAMPLE, measure_spread(SAMPLE, ()))


def nested() -> keras.Model:
    """An encoder and a decoder, models of their own, one of them with a model inside."""
    keras.utils.set_random_seed(3)
    norm = keras.Sequential([layers.BatchNormalization(), layers.Dense(4, "tanh")], name="inner")
    events = keras.Input((8,))
    encoder = keras.Model(events, layers.Dense(2, name="latent")(norm(events)), name="encoder")
    bias = keras.initializers.Constant(4.0)
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(8, bias_initializer=bias)])
    start = keras.Input((8,))
    return keras.Model(start, decoder(encoder(start)))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_models_inside_a_model_are_read(tmp_path: Path, ending: str) -> None:
    theirs = nested()
    for layer in theirs.get_layer("encoder").get_layer("inner").layers:
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 1, w.shape) for w in layer.get_weights()])
    saved(theirs, tmp_path / f"mine.{ending}")
    read = l1kd.load_model(tmp_path / f"mine.{ending}")
    flat = NORMAL.reshape(-1, 8)
    np.testing.assert_array_equal(read(flat), theirs(flat))
    assert "encoder_inner_dense" in "".join(layer.name for layer in read.layers)
    np.testing.assert_array_equal(Graph.of(theirs).build()(flat), theirs(flat))
    own = teacher(tmp_path / f"mine.{ending}", None)
    residual = np.square(theirs(flat).numpy() - flat).mean(1)
    np.testing.assert_allclose(own(NORMAL), residual, rtol=1e-5)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("shape", [(4, 2, 1), (4, 2), (8,)])
def test_an_autoencoder_s_score_is_its_residual(
    tmp_path: Path, shape: tuple[int, ...], ending: str
) -> None:
    theirs = autoencoder(shape)
    own = teacher(tmp_path / f"mine.{ending}", theirs)
    residual = theirs(NORMAL.reshape(-1, *shape)).numpy().reshape(200, -1) - NORMAL.reshape(200, -1)
    np.testing.assert_allclose(own(NORMAL), np.square(residual).mean(1), rtol=1e-5)
    assert own.get_layer("latent").output_shape == (None, 3) and not own.trainable_weights
    save_model(own, tmp_path / "teacher.keras")  # as a run does
    again = l1kd.load_model(tmp_path / "teacher.keras")
    assert np.array_equal(again(NORMAL), own(NORMAL))


def test_the_residual_has_the_configured_power_and_weights(tmp_path: Path) -> None:
    theirs = autoencoder((4, 2, 1))
    own = teacher(tmp_path / "m.keras", theirs, residual_power=3, residual_scale=-1)
    weights = NORMAL.std(0) ** -1
    powers = np.abs(theirs(NORMAL).numpy() - NORMAL) ** 3 * (weights / weights.mean())
    np.testing.assert_allclose(own(NORMAL), powers.mean((1, 2, 3)), rtol=1e-4)


def test_a_score_is_a_score_and_a_run_s_teacher_is_a_teacher(tmp_path: Path) -> None:
    theirs = scoring()
    own = teacher(tmp_path / "score.keras", theirs)
    np.testing.assert_allclose(own(NORMAL), theirs(NORMAL.reshape(-1, 8)).numpy()[:, 0], rtol=1e-6)
    save_model(own, tmp_path / "teacher.keras")
    again = teacher(tmp_path / "teacher.keras", None)
    np.testing.assert_allclose(again(NORMAL), own(NORMAL), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (lambda: scoring(outputs=3), {}, "output has the shape (3,)"),
        (lambda: scoring(last=None), {}, "score of -"),
        (scoring, {"residual_power": 3}, "leave out teacher.residual_power"),
        (lambda: autoencoder((3, 2)), {}, "reads events of the shape (3, 2), the data's are"),
        (lambda: keras.Sequential([keras.Input((8,)), layers.Dense(8)]), {}, "mean squared"),
        (
            lambda: keras.Sequential([keras.Input((8,)), layers.Lambda(lambda x: x)]),
            {},
            "class 'Lambda', which is not on the list",
        ),
    ],
    ids=["outputs", "negative", "power", "shape", "units", "code"],
)
def test_no_teacher(tmp_path: Path, model: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as told:
        teacher(tmp_path / "mine.keras", model(), **settings)
    assert words in str(told.value) and "\n" not in str(told.value)
    assert str(tmp_path / "mine.keras") in str(told.value)


def student(path: Path, model: keras.Model, grid: FixedPoint = PORT, **score: int) -> keras.Model:
    saved(model, path)
    score = {"word": 14, "integer": 8, **score}
    return read_student("my.own-1", path, (4, 2, 1), grid, Score(**score))


def test_a_student_reads_the_run_s_events_and_keeps_its_weights(tmp_path: Path) -> None:
    theirs = user_student(skip=True)
    own = student(tmp_path / "mine.keras", theirs)
    assert own.name == "my_own_1" and own.input_shape == (None, 4, 2, 1)
    assert np.array_equal(own(NORMAL), theirs(NORMAL.reshape(-1, 8)))
    pairs = zip(own.get_weights(), theirs.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)  # floats: no weight is rounded


@pytest.mark.parametrize("function", ["exponential", "gelu", "mish", "selu", "softsign", "swish"])
def test_functions_of_teachers_are_none_of_firmware(function: str) -> None:
    port = qkeras.QActivation("quantized_bits(6,5,alpha=1)", input_shape=(8,))
    for inside in (True, False):
        last = qkeras.QDense(1, activation=function if inside else None, **WEIGHTS)
        model = keras.Sequential([port, last] + [layers.Activation(function)] * (not inside))
        assert any(function in problem.construct for problem in l1kd.check(model))


def test_no_student(tmp_path: Path) -> None:
    def refused(words: str, *given: Any, error: Any = UserError, **score: int) -> None:
        with pytest.raises(error) as told:
            student(tmp_path / "mine.keras", *given, **score)
        assert words in str(told.value) and "\n" not in str(told.value)

    refused("set distillation.score to {word: 14, integer: 8}", user_student(), word=16)
    refused("which has other values", user_student(), FixedPoint(7, 7))
    refused("reads events of the shape (5,)", user_student(inputs=5))
    floats = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    refused("Dense", floats, error=CheckFailed)
