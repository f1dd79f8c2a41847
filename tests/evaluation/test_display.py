"""What the page draws: the right events of each sample, and the layers of a network."""

import numpy as np
import pytest

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Block, Dataset, Sample, Signal
from l1kd.evaluation.display import event_of, write_display
from l1kd.evaluation.scores import Scores


def _sample(name, events):
    """In blocks of three."""
    parts = [events[start : start + 3] for start in range(0, len(events), 3)]
    return Sample(name, events.shape[1:], tuple(map(Block.of, parts)))


def _write(directory, shape=(2, 2, 1), models=("teacher",)):
    def numbered(first, count):
        return first + np.arange(count, dtype=np.float32).repeat(np.prod(shape)).reshape(-1, *shape)

    normal, signal = _sample("test", numbered(0, 8)), _sample("odd", numbered(100, 5))
    dataset = Dataset(normal, normal, normal, {"odd": Signal(signal, signal)}, FixedPoint(8, 8))
    scores = Scores(
        {
            "student_s_test": np.array([4, 1, 1, 9, 9, 5, 3, 2.0]),
            "teacher_test": np.array([4, 7, 6, 8, 9, 5, 3, 2.0]),  # of equal scores, event 2 and 4
            "student_s_odd": np.array([5, 4, 1, 2, 3.0]),
            "teacher_odd": np.zeros(5),
        }
    )
    context = Context(directory, None, open_events=lambda: dataset)
    write_display(context, dict.fromkeys(models, _Nothing()), scores, "s")
    return run_files.read(directory, "display.json")


class _Nothing:
    layers = ()


def test_the_least_and_the_most_abnormal_normal_and_the_median_of_each_signal(tmp_path):
    shown = _write(tmp_path)
    assert shown.shape == [2, 2, 1]
    found = [(e.sample, e.place, e.score, e.values) for e in shown.events]
    assert found == [
        ("test", "lowest", 1, [2] * 4),
        ("test", "highest", 9, [4] * 4),
        ("odd", "median", 3, [104] * 4),
    ]
    (lowest, *_) = _write(tmp_path, models=("student_s",)).events  # no teacher to tell ties apart
    assert lowest.values == [1] * 4


def test_events_of_very_many_values_are_not_stored(tmp_path):
    shown = _write(tmp_path, shape=(run_files.MOST_DRAWN + 1,))
    assert (shown.shape, shown.events, list(shown.networks)) == ([], [], ["teacher"])


def test_an_event_is_found_in_its_block():
    sample = _sample("test", np.arange(8.0).reshape(8, 1))
    assert [event_of(sample, index).item() for index in range(8)] == [*range(8)]
    with pytest.raises(IndexError):
        event_of(sample, 8)


def test_layers_with_their_weights_and_bits():
    from qkeras import QActivation, QDense, quantized_bits
    from tensorflow import keras

    from l1kd.networks.inspect import drawn_layers

    x = keras.Input((2, 3), name="events")
    y = QActivation("quantized_bits(11,10)", name="port")(keras.layers.Flatten(name="flat")(x))
    y = QDense(4, kernel_quantizer=quantized_bits(6, 1, alpha=1), name="hidden")(y)
    y = QActivation("quantized_relu(9,4)", name="relu")(y)
    y = keras.layers.Dense(1, activation="relu", name="out")(y)
    model = keras.Model(x, y)
    model.trainable = False
    found = [
        (each.name, each.shape, each.params, each.weight_bits, each.output_bits)
        for each in drawn_layers(model)
    ]
    assert found == [
        ("events", [2, 3], 0, None, None),
        ("flat", [6], 0, None, None),
        ("port", [6], 0, None, 11),
        ("hidden", [4], 28, 6, None),
        ("relu", [4], 0, None, 9),
        ("out", [1], 5, None, None),
    ]
