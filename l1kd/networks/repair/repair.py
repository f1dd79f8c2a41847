"""Makes other people's trained networks exact where that is possible, ready for the lint.

Kinds of repair: `exact` (the same value for every event on the data's grid), `settled` (the value
that the quantizers define, where QKeras' float32 arithmetic missed it), `lossy` (another value, on
request only), `offered` (a lossy repair that was not asked for), `impossible` (no repair is known
that keeps the values; the lint says whether the layer can stay).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import ValidationError
from tensorflow import keras

from l1kd.core.config import Grid
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.layer_graph import Graph, Repair
from l1kd.networks.repair import activations, weights
from l1kd.networks.to_exact import doubts

logger = logging.getLogger("l1kd")

_IDLE = {  # layers that do nothing in inference
    *("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
    *("SpatialDropout1D", "SpatialDropout2D"),
}
_EVENTS = 256  # of the sample on which exact repairs are checked


@dataclass(frozen=True)
class Repaired:
    """A network and what was done to it."""

    model: keras.Model
    repairs: list[Repair]

    @property
    def exact(self) -> bool:
        """True if it gives the values of the network it was made of, event by event."""
        return not any(each.kind in ("settled", "lossy") for each in self.repairs)


def repair(
    model: keras.Model, *, grid: FixedPoint | Mapping[str, Any], lossy: bool = False
) -> keras.Model:
    """Make a trained network exact where that is possible; the given model stays as it is.

    Every repair is logged on the logger `l1kd` at level INFO, with its layer and its kind. Exact
    repairs are checked on a sample of events on the grid: no score may change.

    Parameters
    ----------
    model
        Any network of Keras and QKeras layers that `l1kd.load_model` would read.
    grid
        The fixed-point grid of the events, as in the configuration: `{word, integer, signed}`, or
        a `FixedPoint`. A network without a quantizer at its input gets one of this type.
    lossy
        Also make repairs that change the network's values: fold a batch normalization that is a
        layer, round weights that are on no grid.

    Returns
    -------
    keras.Model
        The repaired network, for `l1kd.check` to judge.

    Raises
    ------
    UserError
        If the grid is not a fixed-point type, or the model holds layers that are not on the list.
    RuntimeError
        If a repair that is claimed exact changed a score: a fault of l1kd.
    """
    if not isinstance(grid, FixedPoint):
        try:
            grid = Grid.model_validate(dict(grid)).type
        except (TypeError, ValueError) as error:
            found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(
                f"grid {grid!r}: {found}; "
                "give {'word': ..., 'integer': ..., 'signed': ...} or a FixedPoint"
            ) from error
    repaired = apply_repairs(model, grid=grid)
    _check_scores(model, repaired, grid)
    if lossy:
        repaired = apply_repairs(model, grid=grid, lossy=True)
    for each in repaired.repairs:
        logger.info("%s: %s (%s)", each.layer, each.what, each.kind)
    return repaired.model


def apply_repairs(
    model: keras.Model,
    *,
    grid: FixedPoint | None = None,
    shape: tuple[int, ...] | None = None,
    lossy: bool = False,
    name: str | None = None,
) -> Repaired:
    """Repair a copy of a network, for events on a `grid` and of a `shape`; unchecked."""
    graph = Graph.of(model)
    graph.name = re.sub(r"\W", "_", name or graph.name)
    steps = (  # each starts when the one before is done
        _idle_layers(graph),
        weights.fold_own(graph),
        weights.quantized(graph, lossy),
        weights.fold_layers(graph, lossy),
        activations.averages(graph),
        activations.rectified(graph),
        activations.plain(graph),
        activations.shaped(graph, shape),
        activations.port(graph, grid),
        activations.repeated(graph),
        activations.symmetric(graph, grid),
    )
    repairs = [each for step in steps for each in step]
    return Repaired(graph.build(), repairs)


def _idle_layers(graph: Graph) -> Iterator[Repair]:
    for node in list(graph.nodes):
        linear = node.config.get("activation") in (None, "linear")
        if node.kind in _IDLE:
            graph.remove(node.name)
            yield Repair(node.name, f"{node.kind} removed: it does nothing in inference")
        elif node.kind in ("Activation", "QActivation") and linear:
            graph.remove(node.name)
            yield Repair(node.name, "linear activation removed")


def _check_scores(model: keras.Model, repaired: Repaired, grid: FixedPoint) -> None:
    """Compare a network before and after its exact repairs on random events and extreme ones."""
    if not repaired.repairs or not repaired.exact:
        return
    random, (low, high) = np.random.default_rng(0), grid.bounds
    events = []
    for tensor in model.inputs:
        counts = random.integers(low, high, (_EVENTS, *tensor.shape[1:]), endpoint=True)
        counts[: _EVENTS // 4] = np.where(counts[: _EVENTS // 4] * 2 < low + high, low, high)
        counts[0], counts[1], counts[2] = low, high, np.clip(0, low, high)
        events.append((counts * grid.lsb).astype(np.float32))
    given = events if len(events) > 1 else events[0]
    before, after = (
        np.concatenate([np.reshape(each, (_EVENTS, -1)) for each in tf.nest.flatten(scores)], 1)
        for scores in (model(given, training=False), repaired.model(given, training=False))
    )
    changed = int((before != after).any(axis=1).sum())
    try:
        # QKeras' float32 may be inexact, so that two forms of a network may differ.
        sure = not changed or not doubts(repaired.model)
    except CheckFailed:
        sure = True
    if changed and sure:
        raise RuntimeError(
            f"{model.name}: {changed} of {_EVENTS} scores changed, by repairs that are to change "
            "none; please report it with the model"
        )
