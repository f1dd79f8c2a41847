"""Teachers and students that a configuration names as files, fitted to a run's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from l1kd.core.config import Score
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.teacher_config import Teacher
from l1kd.data.dataset import Events, Sample
from l1kd.data.moments import Spread
from l1kd.networks.load import Graph, Node, read_model
from l1kd.networks.repair import contains, ported, shaped
from l1kd.networks.teachers import residual_weights
from l1kd.networks.to_exact import read

_OWN = "own_"  # before the names of a file's layers, which may be those of a teacher
_LATENT = "latent"  # the one layer that keeps its name
_EVENTS = 1024  # normal ones on which a teacher is tried
_WORSE = 4  # times the residual of a constant that an autoencoder's may be


def read_teacher(config: Teacher, path: Path, normal: Sample, spread: Spread) -> keras.Model:
    """A frozen teacher of a file's network: events (batch, *shape) to raw scores (batch,).

    Of an autoencoder the score is its residual, of any other network its one output, which counts
    as 0 below 0. UserError if it is neither, or does not fit the events.
    """
    shape, events = normal.shape, normal.events(_EVENTS)

    def change(graph: Graph) -> None:
        _check_ends(graph)
        graph.rename({n.name: _OWN + n.name for n in graph.nodes if n.name != _LATENT})
        list(shaped(graph, shape))
        model = graph.build()
        found, (output,) = model(events, training=False).numpy(), graph.outputs
        end, power, weights = found.shape[1:], config.residual_power, None
        if np.prod(end, dtype=int) == np.prod(shape):
            _check_residual(graph, events, found.reshape(events.shape))
            weights = residual_weights(config, spread[1])
            _append(graph, "Reshape", "standardised", graph.inputs, target_shape=list(shape))
            _append(graph, "Reshape", "reconstruction", [output], target_shape=list(shape))
        elif np.prod(end, dtype=int) == 1:
            _check_scores(graph, config, found)
            power = 1.0  # |score - 0|
            _append(graph, "Reshape", "score", [output], target_shape=[1])
            _append(graph, "ReLU", "standardised", ["score"])
            _append(graph, "Subtract", "reconstruction", ["score", "score"])
        else:
            raise UserError(
                f"{path}: the teacher's output has the shape {end}; an autoencoder returns the "
                f"event, {shape}, any other teacher one number per event"
            )
        ends = ["standardised", "reconstruction"]
        _append(graph, "PowerMean", "raw_score", ends, power=power, weights=weights)
        graph.name, graph.outputs = "teacher", ["raw_score"]

    model = read_model(path, change=change)[0]
    model.trainable = False
    return model


def read_student(
    name: str, path: Path, shape: tuple[int, ...], grid: FixedPoint, score: Score
) -> keras.Model:
    """A student of a file's network, at whose input a missing quantizer or reshape is added.

    CheckFailed if the lint refuses it; UserError if events or scores are of another type.
    """

    def change(graph: Graph) -> None:
        _check_ends(graph)
        list(shaped(graph, shape))
        list(ported(graph, grid))
        graph.name = name.replace(".", "_").replace("-", "_")

    model = read_model(path, change=change)[0]
    network = read(model)
    (output,) = network.output_types
    if not contains(network.port, grid):
        raise UserError(
            f"{path}: its input is quantized to {network.port.text}, and the data's grid is "
            f"{grid.text}, which has other values; give it a quantizer of that type, or none"
        )
    if network[network.outputs[0]].size != 1 or output.signed:
        raise UserError(
            f"{path}: its output is {network[network.outputs[0]].size} values of {output.text}; a "
            "student gives one score, through a quantized_relu"
        )
    if (output.word, output.integer) != (score.word, score.integer):
        raise UserError(
            f"{path}: its output is {output.text}, and distillation.score another type; set "
            f"distillation.score to {{word: {output.word}, integer: {output.integer}}}"
        )
    return model


def _append(graph: Graph, kind: str, name: str, sources: list[str], **config: Any) -> None:
    graph.nodes.append(Node(kind, name, {"name": name, **config}, list(sources)))


def _check_ends(graph: Graph) -> None:
    if (len(graph.inputs), len(graph.outputs)) != (1, 1):
        raise UserError(
            f"{graph.where}: {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; a run "
            "is of networks with one of each: concatenate them, or save a part of the network"
        )


def _check_scores(graph: Graph, config: Teacher, scores: Events) -> None:
    if (config.residual_power, config.residual_scale) != (2, 0):
        raise UserError(
            f"{graph.where}: the teacher's output is a score, which has no residual; leave out "
            "teacher.residual_power and teacher.residual_scale"
        )
    if not scores.min() >= 0 or not np.isfinite(scores).all():
        raise UserError(
            f"{graph.where}: the teacher gives normal events a score of {scores.min():g}; the "
            "target is its logarithm: give finite scores of at least 0, higher for anomalies"
        )


def _check_residual(graph: Graph, events: Events, reconstruction: Events) -> None:
    """A network of other units than the events' has a residual without a meaning."""
    residual = float(np.square(events - reconstruction).mean())
    if not residual <= _WORSE * (constant := float(events.var(axis=0).mean())):
        raise UserError(
            f"{graph.where}: the teacher's mean squared residual on normal events is "
            f"{residual:.3g}, that of a constant {constant:.3g}; an autoencoder reads events as "
            "they are (put a Normalization or Rescaling inside) and returns them in those units"
        )
