"""The stage `verify`: the gate. Firmware against the network it came from, and against the teacher.

It fails on one mismatch in any output of any event, and on a loss of AUC against the float teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd import schemas
from l1kd.context import Context
from l1kd.data.dataset import Sample
from l1kd.errors import CheckFailed, UserError
from l1kd.firmware.agreement import Agreement, compare
from l1kd.firmware.convert import project_name
from l1kd.firmware.corners import corners
from l1kd.firmware.fidelity import auc_loss, check_auc_loss, rung, teacher_rung
from l1kd.firmware.network import Probe, float_twin, model_hash
from l1kd.firmware.project import Project, open_project
from l1kd.firmware.trace import first_difference
from l1kd.fixedpoint import FixedPoint
from l1kd.schemas import AgreementRecord, Metrics, Pair, Rung

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = ["verify"]

_CHUNK = 8192  # events at a time
_SUSPECTS = 32  # events that differ and are traced
Values = NDArray[np.float64]
Predictor = Callable[[NDArray[Any]], Values]


@dataclass
class _Comparison:
    """A project against its network, on one kind of inputs, as far as it got."""

    project: Project
    inputs: str
    result: Agreement = field(default_factory=lambda: Agreement(0, 0, 0))
    suspects: list[NDArray[Any]] = field(default_factory=list)
    first_layer: str | None = None
    where: str = ""

    def add(self, events: NDArray[Any], expected: Values) -> Values:
        """Compare on one more chunk; returns what the C simulation gives."""
        found = self.project.predict(events)
        self.result = self.result.then(compare(expected, found, self.project.output_type.lsb))
        if len(self.suspects) < _SUSPECTS:
            differs = ~(expected == found).all(axis=1)
            self.suspects.extend(events[differs][: _SUSPECTS - len(self.suspects)])
        return found

    def explain(self, model: keras.Model) -> None:
        """Find the first layer that differs."""
        if self.suspects:
            difference = first_difference(self.project, model, np.stack(self.suspects))
            if difference:
                self.first_layer, self.where = difference.layer, difference.summary

    @property
    def pair(self) -> Pair:
        record = self.project.record
        return Pair(
            reference="qkeras",
            candidate="csim",
            backend=record.backend,
            io_type=record.io_type,
            strategy=record.strategy,
            inputs="corner" if self.inputs == "corner" else "test",
            events=self.result.events,
            mismatches=self.result.mismatches,
            max_lsb=self.result.max_lsb,
            first_layer=self.first_layer,
        )


def verify(context: Context) -> None:
    """Compare every project's C simulation with its network and with the teacher.

    Agreement is demanded of every project, on the test split, the signals' test halves and the
    corner inputs. The loss of AUC (`verify.max_auc_loss`, the mean over signals, float teacher to
    C simulation) is demanded of the best student alone: a run may hold students that are small on
    purpose. Writes `agreement.json` and `fidelity.json`, then judges.

    Raises
    ------
    UserError
        If a project is missing or does not compile.
    CheckFailed
        If firmware and network differ (which student, project and first layer), or the best
        student loses too much.
    """
    import l1kd
    from l1kd.distill.targets import load_target
    from l1kd.evaluation.evaluate import scorer
    from l1kd.evaluation.scores import Scores
    from l1kd.models.runtime import prepare_tensorflow

    prepare_tensorflow(context.threads)
    limit = context.config.verify.events
    metrics: Metrics = schemas.read(context.directory, "metrics.json")
    target = load_target(context.directory)
    stored = Scores.load(context.directory / "scores.npz")
    samples = {"test": context.dataset.test}
    samples |= {name: signal.test for name, signal in context.dataset.signals.items()}
    raw = {name: stored.teacher(name)[:limit] for name in samples}
    projects = _open(context)
    _compile(context, [project for group in projects.values() for project in group])

    records: list[AgreementRecord] = []
    ladders: dict[str, list[Rung]] = {}
    faults: list[str] = []
    for name, group in projects.items():
        model = l1kd.load_model(context.student_file(name))
        _check_origin(context, group, model)
        shape = context.dataset.shape
        network = scorer(model, shape)
        comparisons = _corner_inputs(context, group, model, network)
        tests, scores = _test_inputs(
            context, group, {"qkeras": network, "float": scorer(float_twin(model), shape)}, samples
        )
        comparisons += tests
        for comparison in comparisons:
            comparison.explain(model)
            faults += _fault(name, comparison)
        records.append(
            AgreementRecord(
                student=name,
                lsb=group[0].output_type.lsb,
                pairs=[comparison.pair for comparison in comparisons],
            )
        )
        ladders[name] = [
            teacher_rung(raw),
            *(rung(stage, scores[stage], raw, target) for stage in ("float", "qkeras", "csim")),
        ]
        _tell(context, name, comparisons, ladders[name])
    schemas.write(context.directory, "agreement.json", records)
    schemas.write(context.directory, "fidelity.json", ladders)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckFailed(f"firmware and network differ: {faults[0]}{more}")
    if metrics.best in ladders:
        check_auc_loss(metrics.best, ladders[metrics.best], context.config.verify.max_auc_loss)


def _open(context: Context) -> dict[str, list[Project]]:
    """The run's projects by student."""
    groups: dict[str, list[Project]] = {}
    for record in schemas.read(context.directory, "firmware.json"):
        name = project_name(record.student, record.backend, record.io_type, record.strategy)
        groups.setdefault(record.student, []).append(open_project(context.projects / name))
    return groups


def _check_origin(context: Context, projects: list[Project], model: keras.Model) -> None:
    """Refuse projects of an earlier student: their difference would be no fault of theirs."""
    own = model_hash(model)
    for project in projects:
        if project.description.model != own:
            raise UserError(
                f"{project.directory} was written from another network than "
                f"{context.student_file(project.record.student)}; run "
                f"`l1kd convert {context.directory}` first"
            )


def _compile(context: Context, projects: list[Project]) -> None:
    """Compile C simulations, as many at once as there are cores."""
    with (
        context.progress("C simulations compiled", len(projects)) as advance,
        ThreadPoolExecutor(context.threads) as pool,
    ):
        waiting = [pool.submit(project.compile) for project in projects]
        try:
            for done in as_completed(waiting):
                done.result()
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _corner_inputs(
    context: Context, projects: list[Project], model: keras.Model, network: Predictor
) -> list[_Comparison]:
    if not context.config.verify.corners:
        return []
    port = projects[0].input_type
    # The port may be one bit wider than the data's grid, which has no sign: all of it is tried.
    events, report = corners(
        FixedPoint(port.word, port.integer, port.signed),
        context.dataset.shape,
        Probe.of(model),
        seed=context.config.seed,
    )
    context.say(f"{model.name}: {report.summary}")
    expected = network(events)
    comparisons = [_Comparison(project, "corner") for project in projects]
    for comparison in comparisons:
        comparison.add(events, expected)
    return comparisons


def _test_inputs(
    context: Context,
    projects: list[Project],
    networks: Mapping[str, Predictor],
    samples: Mapping[str, Sample],
) -> tuple[list[_Comparison], dict[str, dict[str, Values]]]:
    """Agreement on the test events, and every implementation's scores, (N,) by sample."""
    limit = context.config.verify.events
    comparisons = [_Comparison(project, "test") for project in projects]
    scores: dict[str, dict[str, Values]] = {stage: {} for stage in ("float", "qkeras", "csim")}
    total = sum(min(len(sample), limit or len(sample)) for sample in samples.values())
    with context.progress(f"{projects[0].record.student}: events", total) as advance:
        for name, sample in samples.items():
            parts: dict[str, list[Values]] = {stage: [] for stage in scores}
            for events in sample.chunks(_CHUNK, limit):
                expected = {stage: network(events) for stage, network in networks.items()}
                found = [comparison.add(events, expected["qkeras"]) for comparison in comparisons]
                # Projects that agree have one score; where they do not, the gate fails anyway.
                expected["csim"] = found[0]
                for stage, values in expected.items():
                    parts[stage].append(values.reshape(-1))
                advance(len(events))
            for stage, chunks in parts.items():
                scores[stage][name] = np.concatenate(chunks)
    return comparisons, scores


def _fault(student: str, comparison: _Comparison) -> list[str]:
    result, record = comparison.result, comparison.project.record
    if not result.mismatches:
        return []
    kind = f"{record.backend} {record.io_type} {record.strategy}"
    where = comparison.where or "no inner layer differs on these events"
    return [
        f"student {student!r}, {kind}: {result.mismatches} of {result.events} "
        f"{comparison.inputs} events, up to {result.max_lsb} LSB; {where}"
    ]


def _tell(
    context: Context, student: str, comparisons: list[_Comparison], ladder: list[Rung]
) -> None:
    for comparison in comparisons:
        record, result = comparison.project.record, comparison.result
        context.say(
            f"{student} {record.io_type}: {result.mismatches} mismatches in {result.events} "
            f"{comparison.inputs} events"
        )
    loss = auc_loss(ladder)
    if loss is not None:
        context.say(f"{student}: mean AUC lost from the float teacher to the firmware: {loss:+.4f}")
