"""The verdict on a run, two lights: are the bits equal, and is the student any good.

Equal: gates of agreement, certificates, fidelity, budgets, stages. Good: the best student against
teacher and baselines, within errors; that light fails no command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from l1kd.core.run_files import IN_WORDS, AgreementRecord
from l1kd.core.stages import order
from l1kd.evaluation.comparison import Outcome, in_words, outcome, sentences
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.student_choice import BUDGETS, amount
from l1kd.firmware.budgets import of_best
from l1kd.report.load_run import RunFiles
from l1kd.report.number_format import area, count, plural
from l1kd.report.tables import faults_of, project_of

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


@dataclass(frozen=True)
class Compared:
    """The best student minus its teacher or a baseline: band, mean over signals."""

    other: str  # in words
    outcome: Outcome
    value: float
    error: float


def compared(run: RunFiles) -> list[Compared]:
    """The best student against baselines and teacher, its worst comparison first."""
    if run.metrics is None:
        return []
    found = []
    for name, own in run.metrics.students[run.metrics.best].difference.items():
        mean = own["band"]["mean"]
        words = in_words(run.metrics, name)
        found.append(Compared(words, outcome(own), mean.value, mean.error))
    return sorted(found, key=lambda each: each.value)


def good(run: RunFiles) -> Gate:
    """Passed if the best student is better than every baseline, failed if worse than one."""
    others = [each for each in compared(run) if each.other != "the teacher"]
    if run.metrics is None or not others:
        why = "There is nothing to tell apart." if run.metrics else run.absent("evaluate")
        return Gate("Not compared with any baseline", "open", why)
    found = [each.outcome for each in others]
    better, worse = found.count("better"), found.count("worse")
    name = f"Better than {better} of {plural(len(found), 'baseline')}, worse than {worse}"
    state: State = "failed" if worse else "passed" if better == len(found) else "open"
    return Gate(name, state, "\n".join([_advice(run, state, others[0]), *sentences(run.metrics)]))


def _advice(run: RunFiles, state: State, best: Compared) -> str:
    """Advice to a physicist, from the comparison with the best baseline."""
    by = f"{100 * abs(best.value):.1f} ± {100 * best.error:.1f} points"
    if state == "failed":
        return (
            f"At the same rate {best.other} accepts {by} more of these signals than {run.best}: "
            "use that score, or train a better student, before this one gets the bandwidth."
        )
    if state == "passed":
        return (
            f"At the same rate {run.best} accepts {by} more of these signals than the best score "
            f"without a network, {best.other}: it is worth its logic."
        )
    return (
        f"The best score without a network is {best.other}; {run.best} differs from it by "
        f"{100 * best.value:+.1f} ± {100 * best.error:.1f} points, which these events do not tell "
        "from nothing: test on more of them, or decide by cost."
    )


def judge(run: RunFiles) -> Verdict:
    """Judge a run by its agreement, its fidelity, its budgets and its stages."""
    gates = [*_agreement(run), *_certificates(run), *_fidelity(run), *_budgets(run)]
    gates += _stages(run, [gate for gate in gates if gate.state == "failed"])
    failed, waiting = (
        [gate.name for gate in gates if gate.state == state] for state in ("failed", "open")
    )
    pairs, proofs = run.pairs(), run.certificates()
    counted = (
        f"{plural(len(pairs), 'pair')} of implementations, "
        f"{count(sum(pair.events for pair in pairs))} comparisons, "
        f"{plural(sum(map(faults_of, pairs)), 'mismatch', 'mismatches')}"
    )
    if failed:
        detail = f"{plural(len(failed), 'gate')} of {len(gates)} failed"
        detail += f"; {counted}." if pairs else "."
        detail += " Do not load this firmware before they pass."
        return Verdict("failed", "FAILED", detail, gates)
    if run.agreement is None:
        detail = f"{run.absent('verify')} No number below is a statement about firmware."
        return Verdict("open", "Not verified", detail, gates)
    if waiting or not pairs:
        detail = f"Not put to the test: {', '.join(waiting) or 'anything'}."
        return Verdict("open", "Not verified", detail, gates)
    if proofs and all(each.certified for each in proofs):
        counted = f"Every project is certified for all inputs; {counted}"
    detail = (
        f"{counted}. The firmware gives the scores of the quantized network, every bit of them."
    )
    return Verdict("passed", "Verified", detail, gates)


def _agreement(run: RunFiles) -> Iterator[Gate]:
    if run.agreement is None:
        yield Gate("Agreement of the firmware", "open", run.absent("verify"))
        return
    for record in run.agreement:
        yield Gate(f"Agreement, {record.student}", *_compared(record))
    wanted = [student.name for student in run.config.students]
    if run.config.firmware.students == "best":
        wanted = [run.metrics.best] if run.metrics else []
    for student in wanted:
        if student not in {record.student for record in run.agreement}:
            yield Gate(f"Agreement, {student}", "open", "was not compared")


def _compared(record: AgreementRecord) -> tuple[State, str]:
    """State and detail of a student's comparisons."""
    pairs = record.pairs
    if bad := [pair for pair in pairs if faults_of(pair)]:
        worst = max(bad, key=lambda pair: (pair.mismatches / max(pair.events, 1), pair.max_lsb))
        names = f"{worst.candidate} against {worst.reference}"
        where = f", {project}" if (project := project_of(worst)) else ""
        layer = f", first in layer {worst.first_layer}" if worst.first_layer else ""
        return "failed", (
            f"{len(bad)} of {plural(len(pairs), 'pair')} differ; the worst: {names}{where}: "
            f"{count(worst.mismatches)} of {count(worst.events)} {worst.inputs} events, "
            f"by up to {worst.max_lsb} LSB{layer}"
        )
    if not pairs or not all(pair.events for pair in pairs):
        return "open", "no events were compared"
    events = count(sum(pair.events for pair in pairs))
    detail = f"{plural(len(pairs), 'pair')}, {events} comparisons, 0 mismatches"
    if excused := sum(pair.mismatches for pair in pairs):
        detail += f" but {count(excused)} of QKeras, whose float32 is inexact here"
    return "passed", detail


def _certificates(run: RunFiles) -> Iterator[Gate]:
    """Equality for every input, project by project; an open one of C++ fails where required."""
    required = run.config.verify.certificate == "required"
    for record in run.agreement or []:
        for each in record.certificates:
            name = f"Certificate, {record.student}, {each.project}"
            needed = required and each.backend is not None  # the Verilog's has none
            if each.certified:
                layers = plural(len(each.layers), "layer")
                yield Gate(name, "passed", f"certified for all inputs: {layers} proved")
                continue
            refused = [found for found in each.findings if found.state == "refused"]
            first = (refused or each.findings)[0]
            where = f"{IN_WORDS[first.state]}: layer {first.layer}, {first.step}: {first.reason}"
            if needed and not refused:
                where += "; the run requires certificates"
            yield Gate(name, "failed" if refused or needed else "passed", where)


def _fidelity(run: RunFiles) -> Iterator[Gate]:
    """The best student's loss of AUC, as `verify` demands; the ladder has the others'."""
    rungs = (run.fidelity or {}).get(run.best or "")
    if rungs is None or not run.taught:
        return
    name, limit = f"Mean AUC kept, {run.best}", run.config.verify.max_auc_loss
    means = {str(rung.stage): mean_over_signals(rung.auc) for rung in rungs}
    teacher, firmware = means.get("teacher"), means.get("csim")
    if teacher is None or firmware is None:
        yield Gate(name, "open", "no signals, or no C simulation, to compare")
        return
    loss = teacher - firmware
    values = f"float teacher {area(teacher)}, C simulation {area(firmware)}"
    detail = f"{values}: loss {loss:+.3f}, at most {limit:g}"
    yield Gate(name, "passed" if loss <= limit else "failed", detail)


def _budgets(run: RunFiles) -> Iterator[Gate]:
    """The best student's budgets, by the best founded numbers, as `synth` judges."""
    budgets = run.config.choose.budgets
    judged = of_best(run.metrics, run.costs, budgets) if run.metrics else None
    for key, limit in budgets.items():
        name, text = f"Budget: {key}", f"at most {amount(BUDGETS[key], limit)}"
        if judged is None:
            yield Gate(name, "open", run.absent("evaluate"))
        elif (value := judged.amounts.get(BUDGETS[key])) is None:
            detail = f"{text}; not known of {run.best}, which is no pass"
            yield Gate(name, "failed" if run.resources else "open", detail)
        else:
            found = f"{run.best}: {amount(BUDGETS[key], value)} ({judged.source(key)})"
            yield Gate(name, "failed" if value > limit else "passed", f"{text}; {found}")


def _stages(run: RunFiles, failed: list[Gate]) -> Iterator[Gate]:
    """Stages that ended in failure, but not at a gate that failed itself."""
    budgets = any(gate.name.startswith("Budget") for gate in failed)
    for stage in order(run.config.imported)[:-1]:
        record = run.manifest.stages.get(stage)
        if record is None or record.state != "failed":
            continue
        message = record.message or "failed without a message"
        at_budget = stage == "synth" and budgets and message.startswith("budget missed")
        if not at_budget and not (stage == "verify" and failed):
            yield Gate(f"Stage {stage}", "failed", message)
