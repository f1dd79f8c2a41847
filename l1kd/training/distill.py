"""`l1kd.distill`: any teacher, any QKeras students that pass the check, events in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from tensorflow import keras

from l1kd.core.config import Distillation
from l1kd.core.errors import UserError, first_fault
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Events, Sample
from l1kd.networks.quantizers import output_layer, type_of
from l1kd.networks.to_exact import call_back, read
from l1kd.training.frozen_teacher import LabelledEvents, raw_scores, train_frozen
from l1kd.training.student_losses import clip_below
from l1kd.training.target_transform import TARGETS, TargetTransform, log_quantiles

Function = Callable[[Events], NDArray[Any]]
_SPLIT = 0xD1  # random stream of the validation events


@dataclass(frozen=True)
class Distilled:
    """Trained students, and the scores that they learned.

    Attributes
    ----------
    students
        Trained Keras models by name, at their best epoch.
    history
        A row per epoch: `epoch`, `<student>_loss` and `<student>_val_loss` in output units.
    target
        The transform from raw teacher scores to targets: `forward` and `inverse`.
    """

    students: dict[str, keras.Model]
    history: list[dict[str, Any]]
    target: TargetTransform
    teacher: Function

    def scores(self, name: str, events: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,) of a student, exact values of its output type, of events (N, *shape)."""
        return read(self.students[name]).predict(events)[:, 0]

    def teacher_scores(self, events: ArrayLike) -> NDArray[np.float64]:
        """Raw scores (N,) of the teacher, of events (N, *shape)."""
        values = np.asarray(events, np.float32)
        chunks = (values[i : i + 4096] for i in range(0, len(values), 4096))
        return raw_scores(self.teacher, chunks).astype(np.float64)


def distill(
    teacher: keras.Model | Function,
    students: Mapping[str, keras.Model],
    *,
    normal: ArrayLike,
    exposure: ArrayLike | Sequence[str] = (),
    exposure_ratio: float = 1.0,
    epochs: int = 40,
    batch: int = 128,
    learning_rate: float = 1e-3,
    draws: int = 4,
    validation: float = 0.1,
    target: str = "fitted",
    score: FixedPoint | None = None,
    seed: int = 7,
    advance: Callable[[int], None] = lambda steps: None,
) -> Distilled:
    """Train quantized students to reproduce a frozen teacher's anomaly score.

    Parameters
    ----------
    teacher
        A Keras model whose output is the event again (an autoencoder: its score is the mean squared
        error of an event) or one number per event (the score), or a Python function of events
        (N, *shape), float32, that returns scores (N,). Scores are at least 0, higher for anomalies.
    students
        QKeras models by name that `l1kd.check` has no problem with, one output each; they share the
        types of input and output. They are trained in place; weights that they have are the start.
    normal
        Normal events (N, *shape), values of the students' input type.
    exposure
        Other events (M, *shape) that only students see, labelled by the teacher, or names of kinds
        that are made of normal events: `noise`, `shuffle`, `patch`, `warp`, `pieces`, `jets`,
        `soft`, `turn`.
    exposure_ratio
        Exposure events per normal one.
    epochs
        Of the students.
    batch
        Normal events per step.
    learning_rate
        Of Adam; it falls along a cosine.
    draws
        Draws of exposure; each is labelled once, epochs take turns.
    validation
        Fraction of the normal events on which each student's best epoch is chosen.
    target
        Transform of teacher scores to the output type: `fitted` (to median and spread of log(score)
        over normals), `paper` (log(1 + score)) or `cicada` (32 log(score)).
    score
        Type of the targets; default: the type of the students' last quantizer.
    seed
        Of the validation events, the exposure and the order of events.
    advance
        Called with 1 after every step, for a progress bar.

    Returns
    -------
    Distilled
        With `.students`, `.history`, `.target`, `.scores(name, events)`, `.teacher_scores(events)`.

    Raises
    ------
    CheckFailed
        If a student has a construct that hls4ml cannot convert exactly.
    UserError
        For shapes or types that do not fit, events off the input type's grid, an option out of its
        range, or teacher scores that are not finite or negative.

    Examples
    --------
    >>> forest = IsolationForest().fit(normal)
    >>> result = l1kd.distill(
    ...     lambda events: -forest.score_samples(events),
    ...     {"tiny": student},
    ...     normal=normal,
    ...     exposure=["shuffle", "noise"],
    ... )
    >>> l1kd.to_hls(result.students["tiny"], "out/hls")
    """
    events = np.asarray(normal)
    others, kinds = None, list(exposure)  # type: ignore[arg-type]
    if not all(isinstance(kind, str) for kind in kinds):
        others, kinds = np.asarray(exposure), ["dataset"]
    elif "dataset" in kinds:
        raise UserError("exposure 'dataset' needs events: give the array itself")
    options = {"epochs": epochs, "batch": batch, "exposure": kinds, "target": target}
    options |= {"student_learning_rate": learning_rate, "exposure_ratio": exposure_ratio}
    try:
        recipe = Distillation.model_validate({**options, "draws": draws})
    except ValidationError as error:
        raise UserError(f"distill: {first_fault(error)}") from error
    if not 0 < validation < 1:
        raise UserError(f"distill: validation is a fraction between 0 and 1, not {validation}")
    grid, output = _ends(students, events.shape[1:])
    score = score or output
    if not (output.low <= score.low and score.high <= output.high):
        raise UserError(f"score {score.text} goes beyond the students' output {output.text}")
    dataset = _dataset(events, others, grid, validation, seed)
    function = _function(teacher, dataset.shape)

    transform: TargetTransform = TARGETS[target](score)
    if target == "fitted":
        raw = raw_scores(function, dataset.train.chunks())
        transform = transform.fitted(*log_quantiles(raw))
    draws = min(draws, epochs) if recipe.exposure else 1
    labelled = LabelledEvents.label(recipe, seed, dataset, function, transform, draws=draws)
    trainer = KerasTrainer(students, score, recipe)
    trainer.start(dataset.train.events(1024), float(np.median(labelled.normal_targets)))
    log = train_frozen(trainer, labelled, recipe, epochs=epochs, seed=seed, advance=advance)
    return Distilled(
        trainer.best_students(log.progress.best), log.progress.history, transform, function
    )


class KerasTrainer:
    """QKeras students of any shape, trained together on the inputs of their last quantizers."""

    heads = None
    sparsities: Mapping[tuple[str, str], float] = {}  # as of a configuration's students

    def __init__(
        self,
        students: Mapping[str, keras.Model],
        score: FixedPoint,
        config: Distillation,
    ) -> None:
        self.students, self.names, self.score = dict(students), list(students), score
        self.config = config
        self._entering = dict(students)
        for name, model in students.items():
            last = output_layer(model)
            if type(last).__name__ == "QActivation" and type_of(last.quantizer) is not None:
                self._entering[name] = keras.Model(model.input, last.input)
        self.variables = [v for model in students.values() for v in model.trainable_variables]
        self.optimizer = keras.optimizers.Adam()
        self.optimizer.build(self.variables)

    def start(self, events: Events, middle: float) -> None:
        """Move each output's bias to a median score of `middle`, which Adam would not reach."""
        for model in self._entering.values():
            layer = model.get_layer(model.output_names[0])
            if getattr(layer, "use_bias", False):
                usual = np.median(model.predict(events, verbose=0))
                layer.bias.assign(layer.bias + (middle - usual))
                if layer.bias.constraint is not None:
                    layer.bias.assign(layer.bias.constraint(layer.bias))

    def losses(self, events: Any, target: Any, *, training: bool = False) -> Any:
        """Mean absolute errors (students,) of events (batch, *shape)."""
        found = []
        for model in self._entering.values():
            entering = tf.reshape(model(events, training=training), (-1,))
            reached = clip_below(entering, target, self.score.low)
            found.append(tf.reduce_mean(tf.abs(reached - target)))
        return tf.stack(found)

    def step(self, events: Any, target: Any, latent: Any, **options: Any) -> Any:
        """One step of every student. Returns the losses, (students,)."""
        with tf.GradientTape() as tape:
            losses = self.losses(events, target, training=True)
        gradients = tape.gradient(losses, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        return losses

    def part(self, name: str) -> list[NDArray[Any]]:
        """A student's weights."""
        return list(self.students[name].get_weights())

    def store(self, best: Mapping[str, list[NDArray[Any]]]) -> None:
        """Give the students weights that `part` returned."""
        for name, weights in best.items():
            self.students[name].set_weights(weights)

    def best_students(self, losses: Mapping[str, float]) -> dict[str, keras.Model]:
        """The students, ready to be stored."""
        for student in self.students.values():
            call_back(student)
        return self.students

    @property
    def state(self) -> dict[str, Any]:
        """Variables that training changes, besides the optimizer's, for a checkpoint."""
        return {
            f"student/{name}/{number}": variable
            for name, model in self.students.items()
            for number, variable in enumerate(model.weights)
        }


def _ends(
    students: Mapping[str, keras.Model], shape: tuple[int, ...]
) -> tuple[FixedPoint, FixedPoint]:
    """The students' common types of input and output."""
    ends: dict[str, tuple[FixedPoint, FixedPoint]] = {}
    for name, model in students.items():
        network = read(model)
        if network.shape != shape:
            raise UserError(
                f"student {name!r} reads events of the shape {network.shape}, `normal` has {shape}"
            )
        if len(network.outputs) != 1 or network[network.outputs[0]].size != 1:
            raise UserError(f"student {name!r} has more than one output; a score is one number")
        ends[name] = network.port, network.output_types[0]
    if not ends:
        raise UserError("distill: no student is given")
    first = next(iter(ends))
    for name, own in ends.items():
        if own != ends[first]:
            one, other = (" to ".join(kind.text for kind in ends[n]) for n in (first, name))
            raise UserError(
                f"students {first!r} and {name!r} differ in input or output: {one}, {other}; "
                "distil them one by one"
            )
    return ends[first]


def _dataset(
    events: NDArray[Any], others: Any, grid: FixedPoint, validation: float, seed: int
) -> Dataset:
    for name, values in (("normal", events), ("exposure", others)):
        if values is None:
            continue
        if values.shape[1:] != events.shape[1:] or len(values) < 2:
            raise UserError(
                f"`{name}` has the shape {values.shape}; (events, *{events.shape[1:]}) with at "
                "least 2 events is needed"
            )
        if off := int(np.sum(~grid.holds(values))):
            raise UserError(
                f"{off} of {values.size} values of `{name}` are not values of the students' input "
                f"type {grid.text}, with steps of {grid.lsb:g} from {grid.low:g} to {grid.high:g}; "
                "round and clip the events"
            )
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(events))
    held = min(max(round(validation * len(events)), 1), len(events) - 1)
    train, val = Sample.of("train", events[order[held:]]), Sample.of("val", events[order[:held]])
    foreign = None if others is None else Sample.of("exposure", others)
    return Dataset(train, val, val, {}, grid, foreign)


def _function(teacher: keras.Model | Function, shape: tuple[int, ...]) -> Function:
    """A teacher as a function of events (N, *shape) that returns checked raw scores (N,)."""
    function: Function = teacher
    if isinstance(teacher, keras.Model):
        if len(teacher.inputs) != 1 or tuple(teacher.input_shape[1:]) != shape:
            own = teacher.input_shape[1:]
            raise UserError(f"the teacher reads events of the shape {own}, `normal` has {shape}")
        end, size = [int(np.prod(each.shape[1:])) for each in teacher.outputs], int(np.prod(shape))
        if end not in ([size], [1]):
            raise UserError(
                f"the teacher's output has the shape {teacher.output_shape}; an autoencoder "
                f"returns the event, {shape}, any other teacher one number per event"
            )
        graph = tf.function(
            lambda events: teacher(events, training=False),
            input_signature=[tf.TensorSpec((None, *shape), tf.float32)],
        )

        def function(events: Events) -> NDArray[Any]:
            found = graph(tf.constant(events, tf.float32)).numpy().reshape(len(events), -1)
            if end != [size]:
                return found[:, 0]
            return np.square(events.reshape(found.shape) - found).mean(1)

    def checked(events: Events) -> NDArray[Any]:
        found = np.asarray(function(events), np.float64)
        if found.shape not in ((len(events),), (len(events), 1)):
            raise UserError(
                f"the teacher returned the shape {found.shape} for {len(events)} events; one score "
                "per event, (events,), is needed"
            )
        if not np.isfinite(found).all():
            raise UserError("the teacher returned scores that are NaN or infinite")
        if found.min(initial=0.0) < 0:
            raise UserError(
                f"the teacher returned a score of {found.min():g}; the target is its logarithm: "
                "give scores of at least 0, higher for anomalies (exp(score) keeps the order)"
            )
        return found.reshape(-1)

    return checked
