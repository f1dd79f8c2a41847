"""The stage `evaluate`: from networks and events to `scores.npz` and `metrics.json`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from l1kd.core import run_files
from l1kd.core.config import LHC_CROSSINGS_MHZ, Choose, Config
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import BaselineMetrics, Metrics, Resources, StudentMetrics, TeacherMetrics
from l1kd.data.dataset import Dataset, Sample
from l1kd.evaluation.baselines import Settings, fit_baselines
from l1kd.evaluation.comparison import Comparison, sentences
from l1kd.evaluation.display import write_display
from l1kd.evaluation.metrics import likeness, mean_over_signals, quality, spearman
from l1kd.evaluation.rates import events_per_collision, out_of_reach, working_points
from l1kd.evaluation.scores import Scorer, Scores, check_names, score_samples
from l1kd.evaluation.student_choice import candidates
from l1kd.training.exposure import mixer
from l1kd.training.target_transform import TargetTransform, load_target

if TYPE_CHECKING:
    from tensorflow import keras

# Of the calibration of scores: normal events at most, the stream of random events, knots.
_EVENTS, _STREAM, _KNOTS = 4096, 0xCA1, 64
# Anomalies resemble exposure, but are none: all of the way would be right for exposure, none of it
# trusts the student. What it does to anomalies of validation halves: bench_ablations.
_SHARE = 0.5
# What the teacher finds most abnormal, a quarter of the exposure, is left out. That is empirical:
# docs/training.md says on which events this and the share were chosen.
_HELD = 0.875


def evaluate(context: Context, costs: Mapping[str, Resources] | None = None) -> Metrics:
    """Score every sample with every network; write `scores.npz` and `metrics.json`."""
    import l1kd

    dataset, config = context.dataset, context.config
    names = [student.name for student in config.students]
    check_names(dataset.signals, names)
    target = None if config.imported else load_target(context.directory)
    models = {} if target is None else {"teacher": l1kd.load_model(context.teacher_file)}
    models |= {f"student_{name}": l1kd.load_model(context.student_file(name)) for name in names}
    networks = {name: scorer(model, dataset.shape) for name, model in models.items()}
    baselines = fit_baselines(dataset)
    trivial = {f"baseline_{name}": score for name, (score, _) in baselines.items()}
    samples, judged = dataset.samples, dataset.judged
    sample = None if target is None else calibration_sample(config, dataset)
    apart = {} if sample is None else {"calibration": sample}
    total = sum(len(sample) for part in (samples, judged, apart) for sample in part.values())
    with context.progress("scores", total) as advance:
        arrays = score_samples(networks, samples, advance)
        arrays |= score_samples(trivial, judged, advance)
        further = score_samples(networks, apart, advance)
    calibrations = {}
    if target is not None:
        for name in samples:
            arrays[f"target_{name}"] = target.forward(arrays[f"teacher_{name}"])
        for name in names if apart else ():
            wanted = target.forward(further["teacher_calibration"])
            own = further[f"student_{name}_calibration"]
            calibrations[name] = Calibration.fit(own, wanted)
    scores = Scores(arrays)
    score_type = config.distillation.score.type
    for name, sample in itertools.product(names, samples):
        if off := int(np.sum(~score_type.holds(scores.student(name, sample)))):
            sign = "" if score_type.signed else "u"
            raise UserError(
                f"student {name!r}: {off} scores on {sample!r} are not values of its output type "
                f"{sign}fixed<{score_type.word},{score_type.integer}>; distillation.score has to "
                "be the type that its last activation has"
            )
    scores.save(context.directory / "scores.npz")

    metrics = summarise(
        scores,
        target,
        score_type,
        dataset,
        params={name.removeprefix("student_"): _params(own) for name, own in models.items()},
        weight_bits={name: _weight_bits(models[f"student_{name}"]) for name in names},
        choose=config.choose,
        costs=costs or {},
        calibrations=calibrations,
        baselines={name: settings for name, (_, settings) in baselines.items()},
        crossings_mhz=config.crossings_mhz,
        khz=config.rates.khz,
    )
    run_files.write(context.directory, "metrics.json", metrics)
    write_display(context, models, scores, metrics.best)
    _tell(context, metrics, score_type)
    return metrics


def scorer(model: keras.Model, shape: tuple[int, ...]) -> Scorer:
    """A network as a function of chunks: one graph for every chunk length, in inference mode."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *shape), tf.float32)]
    # The allowed layers have no Python control flow: `autograph` would spend a second on each.
    graph = tf.function(
        lambda events: model(events, training=False), input_signature=signature, autograph=False
    )
    return lambda events: np.asarray(graph(tf.constant(events, tf.float32)), np.float64)


@dataclass(frozen=True)
class Calibration:
    """A monotone map of a student's scores onto its teacher's scale: decisions do not change."""

    scores: NDArray[np.float64]  # the knots, both increasing, (knots,)
    calibrated: NDArray[np.float64]

    def __call__(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Scores of any shape, calibrated."""
        scores = np.asarray(scores, np.float64)
        # Straight between knots; beyond them the nearest one's shift goes on.
        return np.add(scores, np.interp(scores, self.scores, self.calibrated - self.scores))

    @property
    def knots(self) -> list[tuple[float, float]]:
        """As pairs."""
        return list(zip(self.scores.tolist(), self.calibrated.tolist(), strict=True))

    @classmethod
    def fit(cls, scores: NDArray[Any], targets: NDArray[Any]) -> Calibration:
        """Half of the way from a score to the target of the same rank."""
        scores, targets = (np.asarray(values, np.float64) for values in (scores, targets))
        kept = targets <= np.quantile(targets, _HELD)
        levels = (np.arange(_KNOTS) + 0.5) / _KNOTS
        own, wanted = (np.quantile(values[kept], levels) for values in (scores, targets))
        knots, first = np.unique(own, return_index=True)
        # Scores that are alike stay alike: theirs is the mean of the targets.
        ends = [*first[1:], _KNOTS]
        means = [wanted[a:b].mean() for a, b in zip(first, ends, strict=True)]
        return cls(knots, (1 - _SHARE) * knots + _SHARE * np.array(means))


def calibration_sample(config: Config, dataset: Dataset) -> Sample | None:
    """Training normals and as much exposure; None if students were shown none."""
    if not config.distillation.exposure:
        return None
    mix = mixer(config.distillation.exposure, 1.0, dataset, config.distillation)
    normal = dataset.train.events(_EVENTS)
    exposure = mix(normal, np.random.default_rng([config.seed, _STREAM]))
    return Sample.of("calibration", np.concatenate([normal, exposure]))


def summarise(
    scores: Scores,
    target: TargetTransform | None,
    score_type: FixedPoint,
    dataset: Dataset,
    *,
    params: Mapping[str, int],
    weight_bits: Mapping[str, int],
    choose: Choose,
    costs: Mapping[str, Resources] = {},
    calibrations: Mapping[str, Calibration] = {},
    baselines: Mapping[str, Settings] = {},
    crossings_mhz: float | None = LHC_CROSSINGS_MHZ,
    khz: Sequence[float] = (),
) -> Metrics:
    """Metrics of a run from its scores: on test halves, the best student on validation halves."""
    judged_on = ("test", *dataset.signals)
    raw = None if target is None else {name: scores.teacher(name) for name in judged_on}
    others = {name: f"baseline_{name}" for name in baselines}
    others |= {} if raw is None else {"teacher": "teacher"}
    judged = [*others.values(), *(f"student_{name}" for name in weight_bits)]
    compared = Comparison(
        {key: {s: scores.arrays[f"{key}_{s}"] for s in judged_on} for key in judged},
        events_per_collision(dataset.description, len(dataset.test)),
    )
    found = compared.qualities
    students, validation, values = {}, {}, {}
    for name, width in weight_bits.items():
        own = {sample: scores.student(name, sample) for sample in judged_on}
        calibrated: dict[str, Any] = {}
        if calibration := calibrations.get(name):
            moved = {sample: calibration(part) for sample, part in own.items()}
            calibrated["emd_calibrated"] = likeness(moved, raw, target)["emd"]
            calibrated["calibration"] = calibration.knots
        students[name] = StudentMetrics(
            **dict(found[f"student_{name}"]),
            **likeness(own, raw, target),
            **calibrated,
            params=params[name],
            weight_bits=width,
            working_points=working_points(
                {s: score_type.integers(x) for s, x in own.items()}, crossings_mhz, khz
            ),
            difference=compared.differences(f"student_{name}", others),
        )
        halves = {signal: scores.student(name, f"val_{signal}") for signal in dataset.signals}
        normal = halves["test"] = scores.student(name, "val")
        # At a rate of 1e-3 the validation normals alone would leave the choice to a handful.
        more = np.concatenate([scores.student(name, "train"), normal])
        tail = quality({**halves, "test": more})
        areas = quality(halves).auc  # needs no more, and training normals are known to students
        validation[name] = tail.model_copy(update={"auc": areas})
        chosen = mean_over_signals(getattr(validation[name], choose.by))
        if chosen is None and raw is not None:  # no signals: the most like the teacher
            chosen = spearman(scores.teacher("val"), normal)
        values[name] = -np.inf if chosen is None else chosen
    choice = candidates(values, params, costs, choose.budgets)
    return Metrics(
        dataset=_describe(dataset),
        teacher=raw and TeacherMetrics(**dict(found["teacher"]), params=params["teacher"]),
        baselines={
            own: BaselineMetrics(**dict(found[others[own]]), settings=dict(settings))
            for own, settings in baselines.items()
        },
        students=students,
        validation=validation,
        best=choice[0].student,
        choice=choice if choose.budgets else [],
    )


def _params(model: keras.Model) -> int:
    model.trainable = True  # a stored teacher is frozen; constants are not weights either way
    return int(sum(np.prod(weight.shape) for weight in model.trainable_weights))


def _weight_bits(model: keras.Model) -> int:
    """The widest kernel of a quantized network, in bits; 32 where a kernel is a plain float."""
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    quantizers = [getattr(layer, "kernel_quantizer_internal", None) for layer in kernels]
    return max((int(getattr(own, "bits", 32)) for own in quantizers), default=32)


def _describe(dataset: Dataset) -> dict[str, Any]:
    """The source's description, and the numbers of events."""
    signals = {n: {"val": len(s.val), "test": len(s.test)} for n, s in dataset.signals.items()}
    plain: dict[str, Any] = to_jsonable_python(
        {
            **dataset.description,
            "shape": list(dataset.shape),
            "grid": {key: getattr(dataset.grid, key) for key in ("word", "integer", "signed")},
            "events": {
                **{name: len(getattr(dataset, name)) for name in ("train", "val", "test")},
                "signals": signals,
            },
        },
        inf_nan_mode="null",
        fallback=lambda value: value.tolist() if hasattr(value, "tolist") else str(value),
    )
    return plain


def _tell(context: Context, metrics: Metrics, score_type: FixedPoint) -> None:
    for name, student in metrics.students.items():
        for point in student.working_points:
            if out_of_reach(point.threshold, score_type):
                context.say(
                    f"{name}: more normal events saturate than a false-positive rate of "
                    f"{point.target_fpr:g} allows: that working point accepts nothing"
                )
    for candidate in metrics.choice:
        if candidate.excluded:
            context.say(f"{candidate.student}: over budget: {'; '.join(candidate.excluded)}")
    best = metrics.students[metrics.best]
    area, share = mean_over_signals(best.auc), mean_over_signals(best.efficiency)
    which = "student" if metrics.teacher is None else "best student"
    if area is not None and share is not None:
        text = f"mean AUC {area:.3f}, mean efficiency {share:.3f} at a false-positive rate of 1e-3"
        context.say(f"{which}: {metrics.best}, {text}")
        context.say("\n".join(sentences(metrics)))
    elif metrics.teacher is not None:
        context.say(f"{which}: {metrics.best} (no signals: by likeness to the teacher)")
