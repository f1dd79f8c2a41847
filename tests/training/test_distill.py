"""`distill`: any teacher and any student that passes the check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import qkeras
from sklearn.ensemble import IsolationForest
from tensorflow import keras

from l1kd.core.errors import CheckFailed, UserError
from l1kd.training.distill import distill

pytestmark = pytest.mark.filterwarnings("ignore:The initializer .* is unseeded:UserWarning")

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.poisson(4, (600, 8)).clip(0, 31).astype(np.float32)
WEIGHTS: Any = {
    "kernel_quantizer": qkeras.quantized_bits(8, 1, alpha=1),
    "bias_quantizer": qkeras.quantized_bits(12, 8, alpha=1),
}


def user_student(*, skip: bool = False, units: int = 6, inputs: int = 8) -> keras.Model:
    """A user's own: two activations inside layers, if asked two ways that are added."""
    keras.utils.set_random_seed(1)
    events = keras.Input((inputs,))
    port = qkeras.QActivation("quantized_bits(6,5,alpha=1)")(events)
    first = qkeras.QDense(units, activation="quantized_relu(10,6)", **WEIGHTS)(port)
    if skip:
        other = qkeras.QDense(units, activation="quantized_relu(10,6)", **WEIGHTS)(port)
        first = qkeras.QActivation("quantized_relu(11,7)")(keras.layers.Add()([first, other]))
    sums = qkeras.QDense(1, **WEIGHTS)(first)
    return keras.Model(events, qkeras.QActivation("quantized_relu(14,8)")(sums), name="own")


def autoencoder() -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(8,)), keras.layers.Dense(8)])
    model.compile("adam", "mse")
    model.fit(NORMAL, NORMAL, epochs=1, verbose=0)
    return model


def test_an_autoencoder_and_two_students_of_a_user() -> None:
    teacher, students = autoencoder(), {"plain": user_student(), "skip": user_student(skip=True)}
    result = distill(
        teacher,
        students,
        normal=NORMAL,
        exposure=["shuffle", "noise"],
        epochs=20,
        learning_rate=2e-2,
        batch=32,
    )
    expected = np.square(teacher(NORMAL).numpy() - NORMAL).mean(1)
    np.testing.assert_allclose(result.teacher_scores(NORMAL), expected, rtol=1e-5)
    targets = result.target.forward(expected)
    assert abs(np.median(targets) - 64) < 4
    for name, student in result.students.items():
        assert student is students[name]
        scores = result.scores(name, NORMAL)
        assert (scores == student.predict(NORMAL, verbose=0)[:, 0]).all()
        assert np.abs(scores - targets).mean() < 0.9 * np.abs(targets - np.median(targets)).mean()
        losses = [row[f"{name}_val_loss"] for row in result.history]
        assert len(losses) == 20 and min(losses) < 0.8 * losses[0]


def test_a_function_and_events_as_exposure() -> None:
    forest = IsolationForest(n_estimators=20, random_state=1).fit(NORMAL)
    other = RANDOM.integers(0, 32, (100, 8)).astype(np.float32)
    settings: Any = {
        "normal": NORMAL,
        "exposure": other,
        "epochs": 8,
        "learning_rate": 2e-2,
        "batch": 32,
    }

    def trained() -> Any:
        return distill(lambda e: -forest.score_samples(e), {"tiny": user_student()}, **settings)

    result = trained()
    both = np.concatenate([NORMAL, other])
    np.testing.assert_allclose(result.teacher_scores(both), -forest.score_samples(both))
    losses = [row["tiny_val_loss"] for row in result.history]
    assert min(losses) < 0.9 * losses[0]
    again = trained()
    assert (again.scores("tiny", both) == result.scores("tiny", both)).all()
    assert again.history == result.history


def refused(words: str, error: type[Exception] = UserError, **changed: Any) -> None:
    given = {"teacher": lambda e: e.sum(1), "students": {"x": user_student()}, "normal": NORMAL}
    given |= {"epochs": 1, **changed}
    with pytest.raises(error, match=words):
        distill(given.pop("teacher"), given.pop("students"), **given)


def test_what_does_not_fit_is_refused() -> None:
    scaled = keras.Sequential(
        [
            qkeras.QActivation("quantized_bits(6,5,alpha=1)", input_shape=(8,)),
            qkeras.QDense(1, kernel_quantizer="quantized_bits(4,0,0)"),
        ]
    )
    refused("kernel", CheckFailed, students={"x": scaled})
    refused("shape", students={"x": user_student(inputs=5)})
    refused("no student", students={})
    refused("not values of the students' input type ap_fixed<6,6", normal=NORMAL + 0.5)
    refused("returned the shape", teacher=lambda e: e)
    refused("NaN", teacher=lambda e: e[:, 0] * np.nan)
    refused("score of -", teacher=lambda e: -e.sum(1))
    refused("autoencoder", teacher=keras.Sequential([keras.layers.Dense(3, input_shape=(8,))]))
    refused(
        "the teacher reads", teacher=keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    )
    refused("validation", validation=1.5)
    refused("exposure", exposure=["jet"])
    refused("give the array", exposure=["dataset"])
    refused("`exposure` has the shape", exposure=NORMAL[:, :3])
    refused("target", target="linear")
