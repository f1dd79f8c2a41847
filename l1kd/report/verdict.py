"""The verdict on a run: gates of agreement, certificates, fidelity, budgets and stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from l1kd.core.run_files import Pair, Rung
from l1kd.core.stages import order
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.firmware.budgets import of_best
from l1kd.report.load_run import RunFiles, mean_quality
from l1kd.report.number_format import area, count, plural
from l1kd.report.tables import project_of

State = Literal["passed", "failed", "open"]


@dataclass(frozen=True)
class Gate:
    """One check; `open` if it was not tested."""

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All gates together: failed if one failed, passed if all passed."""

    state: State
    headline: str
    detail: str
    gates: list[Gate]


def judge(run: RunFiles) -> Verdict:
    """Judge a run by its agreement, its fidelity, its budgets and its stages."""
    gates = [*_agreement(run), *_certificates(run), *_fidelity(run), *_budgets(run)]
    gates += [gate for gate in _stages(run) if not _said(gate, gates)]
    failed = [gate for gate in gates if gate.state == "failed"]
    pairs = run.pairs()
    compared = sum(pair.events for pair in pairs)
    different = sum(faults_of(pair) for pair in pairs)
    counted = (
        f"{plural(len(pairs), 'pair')} of implementations, {count(compared)} comparisons, "
        f"{plural(different, 'mismatch', 'mismatches')}"
    )
    if failed:
        detail = f"{plural(len(failed), 'gate')} of {len(gates)} failed"
        return Verdict(
            "failed", "FAILED", f"{detail}; {counted}." if pairs else f"{detail}.", gates
        )
    if any(gate.state == "open" for gate in gates) or not pairs:
        return Verdict("open", "Not verified", _what_is_open(run, gates), gates)
    proofs = run.certificates()
    if proofs and all(each.certified for each in proofs):
        counted = f"Every project is certified for all inputs; {counted}"
    return Verdict("passed", "Verified", f"{counted}.", gates)


def _said(stage: Gate, gates: list[Gate]) -> bool:
    """True if a stage failed at a gate that is listed already."""
    failed = [gate for gate in gates if gate.state == "failed"]
    budgets = any(gate.name.startswith("Budget") for gate in failed)
    if stage.name == "Stage verify":
        return len(failed) > 0
    return budgets and stage.name == "Stage synth" and stage.detail.startswith("budget missed")


def pair_name(pair: Pair) -> str:
    """The pair in words: `csim against qkeras, Vitis io_stream latency`."""
    where = project_of(pair)
    return f"{pair.candidate} against {pair.reference}" + (f", {where}" if where else "")


def _what_is_open(run: RunFiles, gates: list[Gate]) -> str:
    if run.agreement is None:
        return f"{run.absent('verify')} No number below is a statement about firmware."
    waiting = [gate.name for gate in gates if gate.state == "open"]
    return f"Not put to the test: {', '.join(waiting) or 'anything'}."


def _agreement(run: RunFiles) -> list[Gate]:
    if run.agreement is None:
        return [Gate("Agreement of the firmware", "open", run.absent("verify"))]
    gates = []
    for record in run.agreement:
        name = f"Agreement, {record.student}"
        bad = [pair for pair in record.pairs if faults_of(pair)]
        empty = [pair for pair in record.pairs if not pair.events]
        if bad:
            worst = max(bad, key=lambda pair: (pair.mismatches / max(pair.events, 1), pair.max_lsb))
            layer = f", first in layer {worst.first_layer}" if worst.first_layer else ""
            detail = (
                f"{len(bad)} of {plural(len(record.pairs), 'pair')} differ; the worst: "
                f"{pair_name(worst)}: {count(worst.mismatches)} of {count(worst.events)} "
                f"{worst.inputs} events, by up to {worst.max_lsb} LSB{layer}"
            )
            gates.append(Gate(name, "failed", detail))
        elif empty or not record.pairs:
            gates.append(Gate(name, "open", "no events were compared"))
        else:
            events = sum(pair.events for pair in record.pairs)
            detail = (
                f"{plural(len(record.pairs), 'pair')}, {count(events)} comparisons, 0 mismatches"
            )
            if excused := sum(pair.mismatches for pair in record.pairs):
                detail += f" but {count(excused)} of QKeras, whose float32 is inexact here"
            gates.append(Gate(name, "passed", detail))
    known = {record.student for record in run.agreement}
    gates += [
        Gate(f"Agreement, {student}", "open", "was not compared")
        for student in _expected(run)
        if student not in known
    ]
    return gates


def _certificates(run: RunFiles) -> list[Gate]:
    """Equality for every input, project by project; a layer that is not covered is tested only."""
    gates = []
    for record in run.agreement or []:
        for each in record.certificates:
            name = f"Certificate, {record.student}, {each.backend} {each.io_type} {each.strategy}"
            if each.certified:
                detail = f"certified for all inputs: {plural(len(each.layers), 'layer')} proved"
                gates.append(Gate(name, "passed", detail))
                continue
            refused = [found for found in each.findings if found.state == "refused"]
            first = (*refused, *each.findings)[0]
            where = f"layer {first.layer}, {first.step}: {first.reason}"
            if refused:
                gates.append(Gate(name, "failed", f"refused: {where}"))
            else:
                gates.append(Gate(name, "passed", f"tested, not proved: {where}"))
    return gates


def faults_of(pair: Pair) -> int:
    """Mismatches of a pair, but for those of an inexact QKeras."""
    return 0 if pair.excused else pair.mismatches


def _expected(run: RunFiles) -> list[str]:
    """The students whose firmware was asked for."""
    if run.config.firmware.students == "best":
        return [run.metrics.best] if run.metrics else []
    return [student.name for student in run.config.students]


def _fidelity(run: RunFiles) -> list[Gate]:
    """The best student's loss of AUC, as `verify` demands; the ladder has the others'."""
    limit = run.config.verify.max_auc_loss
    gates = []
    for student, rungs in (run.fidelity or {}).items():
        if student != run.best or not run.taught:
            continue
        by_stage: dict[str, Rung] = {rung.stage: rung for rung in rungs}
        means = {stage: mean_quality(rung)[0] for stage, rung in by_stage.items()}
        teacher, firmware = means.get("teacher"), means.get("csim")
        name = f"Mean AUC kept, {student}"
        if teacher is None or firmware is None:
            gates.append(Gate(name, "open", "no signals, or no C simulation, to compare"))
            continue
        loss = teacher - firmware
        detail = (
            f"float teacher {area(teacher)}, C simulation {area(firmware)}: "
            f"loss {loss:+.3f}, at most {limit:g}"
        )
        gates.append(Gate(name, "passed" if loss <= limit else "failed", detail))
    return gates


def _budgets(run: RunFiles) -> list[Gate]:
    """The best student's budgets, by the best founded numbers, as `synth` judges."""
    budgets = run.config.choose.budgets
    if run.metrics is None:
        return [Gate(f"Budget: {key}", "open", run.absent("evaluate")) for key in budgets]
    verdict = of_best(run.metrics, run.costs, budgets)
    misses = dict(verdict.missed(budgets))
    gates = []
    for key, limit in budgets.items():
        value = verdict.amounts.get(BUDGETS[key])
        name, text = f"Budget: {key}", f"at most {amount(BUDGETS[key], limit)}"
        if value is None:
            detail = f"{text}; not known of {run.metrics.best}, which is no pass"
            gates.append(Gate(name, "failed" if run.resources else "open", detail))
            continue
        detail = f"{text}; {run.metrics.best}: {amount(BUDGETS[key], value)} "
        detail += f"({verdict.source(key)})"
        gates.append(Gate(name, "failed" if key in misses else "passed", detail))
    return gates


def _stages(run: RunFiles) -> list[Gate]:
    """Stages that ended in failure."""
    return [
        Gate(f"Stage {stage}", "failed", record.message or "failed without a message")
        for stage in order(run.config.imported)
        if stage != "report"
        and (record := run.manifest.stages.get(stage)) is not None
        and record.state == "failed"
    ]
