"""The stage `verify`: the gate. Everything against the exact network, the firmware for all inputs.

It fails on one mismatch in any output of any event, on a certificate that is refused, and on a loss
of AUC against the float teacher. QKeras is held to the exact network too, but where its float32
cannot hold a sum it is QKeras that is said to be inexact, by layer, and nothing fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd import schemas
from l1kd.context import Context
from l1kd.data.dataset import Sample
from l1kd.errors import CheckFailed, UserError
from l1kd.exact.graph import Network
from l1kd.firmware.certificate.certify import certify_project
from l1kd.firmware.certificate.walk import Certificate
from l1kd.firmware.comparison import DIRECTORY, Comparison
from l1kd.firmware.convert import project_name
from l1kd.firmware.corners import corners
from l1kd.firmware.fidelity import auc_loss, check_auc_loss, rung, teacher_rung
from l1kd.firmware.network import float_twin, model_hash
from l1kd.firmware.project import Project, open_project
from l1kd.firmware.trace import in_csim, in_qkeras
from l1kd.fixedpoint import FixedPoint
from l1kd.schemas import AgreementRecord, CertificateRecord, Doubted, Metrics, Rung

if TYPE_CHECKING:
    from tensorflow import keras

    from l1kd.evaluation.scores import Scores

__all__ = ["Student", "compare_on", "open_student", "samples_of_run", "verify"]

_CHUNK = 8192  # events at a time
Values = NDArray[np.float64]
Predictor = Callable[[NDArray[Any]], Values]
Inputs = Literal["test", "corner"]


@dataclass(frozen=True)
class Student:
    """A student in all its forms.

    Parameters
    ----------
    name
        Its name.
    model
        The QKeras network.
    exact
        The exact network, on the projects' port.
    projects
        Its HLS projects.
    doubts
        Layers that QKeras may not compute exactly, with reasons.
    """

    name: str
    model: keras.Model
    exact: Network
    projects: list[Project]
    doubts: dict[str, str]

    @property
    def lsb(self) -> float:
        """The step of its output."""
        return self.projects[0].output_type.lsb


def verify(context: Context) -> None:
    """Hold every implementation of every student against the exact network, and the teacher.

    Agreement is demanded on the test split, the signals' test halves and the corner inputs; a
    certificate of every project speaks for all others. The loss of AUC (`verify.max_auc_loss`, the
    mean over signals, float teacher to C simulation) is demanded of the best student alone: a run
    may hold students that are small on purpose. Writes `agreement.json` and `fidelity.json`, then
    judges.

    Raises
    ------
    UserError
        If a project is missing or does not compile.
    CheckFailed
        If firmware and network differ (which student, project and first layer), a certificate is
        refused (which layer and step), or the best student loses too much.
    """
    from l1kd.distill.targets import load_target
    from l1kd.evaluation.scores import Scores
    from l1kd.models.runtime import prepare_tensorflow

    prepare_tensorflow(context.threads)
    metrics: Metrics = schemas.read(context.directory, "metrics.json")
    taught = not context.config.imported
    target = load_target(context.directory) if taught else None
    stored = Scores.load(context.directory / "scores.npz") if taught else None
    samples = samples_of_run(context)
    raw = _raw(stored, samples, context.config.verify.events)
    groups = _projects(context)
    _compile(context, [project for group in groups.values() for project in group])
    shutil.rmtree(context.directory / DIRECTORY, ignore_errors=True)

    records: list[AgreementRecord] = []
    ladders: dict[str, list[Rung]] = {}
    faults: list[str] = []
    for name, group in groups.items():
        student = open_student(context, name, group)
        certificates = _certify(context, student)
        comparisons, scores = _compare(context, student, samples, taught)
        for comparison in comparisons:
            comparison.explain(student.exact, context.directory, name)
        records.append(_record(student, comparisons, certificates))
        ladder = [rung(stage, values, raw, target) for stage, values in scores.items()]  # type: ignore[arg-type]
        ladders[name] = [*([teacher_rung(raw)] if raw is not None else []), *ladder]
        faults += _faults(student, comparisons, certificates)
        _tell(context, student, comparisons, ladders[name])
    schemas.write(context.directory, "agreement.json", records)
    schemas.write(context.directory, "fidelity.json", ladders)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckFailed(f"firmware and network differ: {faults[0]}{more}")
    if taught and metrics.best in ladders:
        check_auc_loss(metrics.best, ladders[metrics.best], context.config.verify.max_auc_loss)


def samples_of_run(context: Context) -> dict[str, Sample]:
    """What a run's firmware is tried on: the test split and the signals' test halves."""
    samples = {"test": context.dataset.test}
    return samples | {name: signal.test for name, signal in context.dataset.signals.items()}


def open_student(context: Context, name: str, projects: list[Project]) -> Student:
    """A student of a run with its exact network.

    Raises
    ------
    UserError
        If a project was written from another network: its difference would be no fault of its.
    """
    import l1kd
    from l1kd.models.exact import doubts, read

    path = context.student_file(name)
    model = l1kd.load_model(path)
    own = model_hash(model)
    for project in projects:
        if project.description.model != own:
            raise UserError(
                f"{project.directory} was written from another network than {path}; run "
                f"`l1kd convert {context.directory}` first"
            )
    port = projects[0].input_type
    exact = read(model).at_port(FixedPoint(port.word, port.integer, port.signed))
    return Student(name, model, exact, projects, doubts(model, exact))


def compare_on(
    context: Context,
    student: Student,
    comparisons: Mapping[Inputs, Sequence[Comparison]],
    samples: Mapping[str, Sample],
    others: Mapping[str, Predictor] | None = None,
) -> dict[str, dict[str, Values]]:
    """Compare on the corners, then on a run's samples.

    Parameters
    ----------
    context
        The run.
    student
        Whose.
    comparisons
        What is compared, by kind of inputs; they keep their results.
    samples
        The samples of the kind `test`.
    others
        Further functions of events whose scores are wanted.

    Returns
    -------
    dict
        Scores (N,) of the comparisons of the kind `test` and of `others`, by implementation and
        sample; of several projects' C simulations the first's: where they differ the gate fails.
    """
    network, config = student.exact, context.config
    if config.verify.corners:
        events, report = corners(network.port, context.dataset.shape, network, seed=config.seed)
        context.say(f"{student.name}: {report.summary}")
        expected = network.predict(events)
        for comparison in comparisons["corner"]:
            comparison.add(events, expected, student.lsb)
    scores: dict[str, dict[str, list[Values]]] = {}
    limit = config.verify.events
    total = sum(min(len(sample), limit or len(sample)) for sample in samples.values())
    with context.progress(f"{student.name}: events", total) as advance:
        for name, sample in samples.items():
            for chunk in sample.chunks(_CHUNK, limit):
                expected = network.predict(chunk)
                given = {stage: predict(chunk) for stage, predict in (others or {}).items()}
                for comparison in comparisons["test"]:
                    found = comparison.add(chunk, expected, student.lsb)
                    given.setdefault(comparison.candidate, found)
                for stage, values in given.items():
                    scores.setdefault(stage, {}).setdefault(name, []).append(values.reshape(-1))
                advance(len(chunk))
    return {
        stage: {name: np.concatenate(parts) for name, parts in by_sample.items()}
        for stage, by_sample in scores.items()
    }


def _raw(
    stored: Scores | None, samples: Mapping[str, Sample], limit: int | None
) -> dict[str, NDArray[Any]] | None:
    if stored is None:
        return None
    return {name: stored.teacher(name)[:limit] for name in samples}


def _projects(context: Context) -> dict[str, list[Project]]:
    """The run's projects by student."""
    groups: dict[str, list[Project]] = {}
    for record in schemas.read(context.directory, "firmware.json"):
        name = project_name(record.student, record.backend, record.io_type, record.strategy)
        groups.setdefault(record.student, []).append(open_project(context.projects / name))
    return groups


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


def _certify(context: Context, student: Student) -> list[Certificate]:
    found = []
    with context.progress(f"{student.name}: certificates", len(student.projects)) as advance:
        for project in student.projects:
            found.append(certify_project(project, student.exact))
            advance(1)
    for project, certificate in zip(student.projects, found, strict=True):
        context.say(f"{student.name} {project.record.io_type}: {certificate.summary}")
    return found


def _compare(
    context: Context, student: Student, samples: Mapping[str, Sample], taught: bool
) -> tuple[list[Comparison], dict[str, dict[str, Values]]]:
    """All comparisons of a student, and the scores of its ladder."""
    from l1kd.evaluation.evaluate import scorer

    shape = context.dataset.shape
    network = scorer(student.model, shape)
    excuse = "; ".join(f"{layer}: {reason}" for layer, reason in student.doubts.items())
    comparisons: dict[Inputs, list[Comparison]] = {}
    for inputs in ("corner", "test"):
        comparisons[inputs] = [
            Comparison(
                "qkeras",
                inputs,
                network,
                partial(in_qkeras, student.model, student.exact),
                excused=excuse or None,
            ),
            *(
                Comparison(
                    "csim",
                    inputs,
                    project.predict,
                    partial(in_csim, project, student.exact),
                    project=project.record,
                )
                for project in student.projects
            ),
        ]
    others = {"float": scorer(float_twin(student.model), shape)} if taught else {}
    scores = compare_on(context, student, comparisons, samples, others)
    done = [each for kind in comparisons.values() for each in kind if each.result.events]
    return done, {stage: scores[stage] for stage in ("float", "qkeras", "csim") if stage in scores}


def _record(
    student: Student, comparisons: list[Comparison], certificates: list[Certificate]
) -> AgreementRecord:
    return AgreementRecord(
        student=student.name,
        lsb=student.lsb,
        pairs=[comparison.pair for comparison in comparisons],
        float32=student.doubts,
        certificates=[
            CertificateRecord(
                backend=project.record.backend,
                io_type=project.record.io_type,
                strategy=project.record.strategy,
                certified=certificate.certified,
                layers=list(certificate.layers),
                findings=[
                    Doubted(layer=f.layer, step=f.step, state=f.state, reason=f.reason)
                    for f in certificate.findings
                ],
            )
            for project, certificate in zip(student.projects, certificates, strict=True)
        ],
    )


def _faults(
    student: Student, comparisons: list[Comparison], certificates: list[Certificate]
) -> list[str]:
    name = f"student {student.name!r}"
    found = [f"{name}, {each.fault}" for each in comparisons if each.fault]
    for project, certificate in zip(student.projects, certificates, strict=True):
        if certificate.refused:
            record = project.record
            kind = f"{record.backend} {record.io_type} {record.strategy}"
            found.append(f"{name}, {kind}: no certificate ({certificate.summary})")
    return found


def _tell(
    context: Context, student: Student, comparisons: list[Comparison], ladder: list[Rung]
) -> None:
    for comparison in comparisons:
        result = comparison.result
        context.say(
            f"{student.name} {comparison.label}: {result.mismatches} mismatches in "
            f"{result.events} {comparison.inputs} events"
            + (f" (QKeras is inexact: {comparison.excused})" if comparison.pair.excused else "")
        )
    loss = auc_loss(ladder)
    if loss is not None:
        context.say(
            f"{student.name}: mean AUC lost from the float teacher to the firmware: {loss:+.4f}"
        )
