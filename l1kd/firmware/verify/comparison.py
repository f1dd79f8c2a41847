"""Implementations of a student against the exact network, event by event, and why they differ."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import check_replaceable, write_arrays, write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import AgreementRecord, FirmwareRecord, Implementation, Pair
from l1kd.exact.agreement import Agreement, compare
from l1kd.exact.layers import Quantize
from l1kd.exact.network import Network
from l1kd.firmware.hls.emulator import Emulator, built_here, load
from l1kd.firmware.hls.project import Project
from l1kd.firmware.run_firmware import Student, open_student, projects_of
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.networks.inspect import float_twin, layer_outputs

if TYPE_CHECKING:
    from tensorflow import keras

REPRODUCERS = "mismatches"  # of a run
_MARKER = "l1kd.json"  # says that the directory is ours
_SUSPECTS = 32  # events that differ and are traced
_CHUNK = 8192  # events at a time
Values = NDArray[np.float64]
Inputs = Literal["test", "corner"]
Predictor = Callable[[NDArray[Any]], Values]  # events (N, *shape) to outputs (N, outputs)
Counts = NDArray[np.int64]  # of the port's LSB
Differs = Callable[[Counts], NDArray[Any]]  # (N, inputs) to (N,)
KIND = ("backend", "io_type", "strategy")
LADDER = ("float", "qkeras", "csim", "rtl")
_SUMS = ":sums"
_ROUNDS = 64  # of steps towards zero


def kind_of(project: FirmwareRecord) -> dict[str, Any]:
    """Backend, io_type and strategy of an HLS project."""
    return {key: getattr(project, key) for key in KIND}


@dataclass(frozen=True)
class Shown:
    """An implementation's output of one layer."""

    values: NDArray[Any]  # (N, *shape), float64
    type: str = ""  # as `ap_fixed` text; empty for an implementation in floats


@dataclass(frozen=True)
class Difference:
    """A layer whose output is not the exact network's."""

    layer: str  # its name in the network
    type: str  # of its output in the firmware; empty for an implementation in floats
    needed: str  # the exact network's type, or the one that holds every value of the layer
    agreement: Agreement  # in LSBs of the finer type

    @property
    def summary(self) -> str:
        """One line for the user."""
        found = self.agreement
        first = found.first[0]
        types = f"{self.type}, exact {self.needed}" if self.type else f"exact {self.needed}"
        return (
            f"layer {self.layer!r} ({types}) differs in {found.mismatches} of {found.events} "
            f"events by up to {found.max_lsb} LSB; the first: event {first.event}, output "
            f"{first.output}: {first.reference:g} exactly, {first.candidate:g} found"
        )


def first_difference(
    network: Network, shown: Mapping[str, Shown], events: NDArray[Any]
) -> Difference | None:
    """The first layer of `shown` (outputs by layer for few `events`) that differs, or None."""
    names = tuple(node.name for node in network.nodes if node.name in shown)
    if not len(events):
        return None
    expected = network.values(events, names)
    for name in names:
        given, wanted, bounds = shown[name], expected[name], network.bounds[name]
        fraction = bounds.fraction
        if given.type:
            fraction = max(fraction, FixedPoint.parse(given.type).fraction)
        flat = (len(wanted), -1)
        agreement = compare(wanted.reshape(flat), given.values.reshape(flat), 2.0**-fraction)
        if agreement.mismatches:
            node = network[name]
            # A sum has a type that holds it, but no rounding and no overflow.
            sums = replace(bounds.type, rounding="TRN", overflow="WRAP")
            needed = node.type if isinstance(node, Quantize) else sums
            return Difference(name.removesuffix(_SUMS), given.type, needed.text, agreement)
    return None


def in_csim(project: Project, network: Network, events: NDArray[Any]) -> dict[str, Shown]:
    """Outputs of every layer that the C simulation shows and the network has."""
    found = project.trace(events)
    names = {node.name for node in network.nodes}
    shown = {}
    for layer in project.description.layers:
        # A layer with an activation of its own is two in both, and only one of them is Keras'.
        for name in (layer.keras, layer.name + _SUMS):
            if name in names and name not in shown:
                shown[name] = Shown(found[layer.name], layer.type)
                break
    return shown


def in_qkeras(model: keras.Model, network: Network, events: NDArray[Any]) -> dict[str, Shown]:
    """Outputs of every layer of the network in QKeras."""
    own = {layer.name for layer in model.layers}
    names = [node.name for node in network.nodes[1:] if node.name in own]
    return {name: Shown(values) for name, values in layer_outputs(model, names, events).items()}


@dataclass
class Comparison:
    """An implementation against the exact network, on one kind of inputs, as far as it got."""

    candidate: Implementation
    inputs: Inputs
    predict: Predictor
    # Events to values layer by layer; None if it does not show its layers.
    show: Callable[[NDArray[Any]], Mapping[str, Shown]] | None = None
    project: FirmwareRecord | None = None  # the HLS project that it is made of, if it is
    excused: str | None = None  # why it may differ
    limit: int | None = None  # events at most, in each sample its share of them; None: all
    left: int | None = None
    result: Agreement = field(default_factory=lambda: Agreement(0, 0, 0))
    suspects: list[NDArray[Any]] = field(default_factory=list)
    first_layer: str | None = None
    where: str = ""
    reproducer: str | None = None

    def share(self, fraction: float) -> None:
        """Begin another sample, which has this share of all events."""
        self.left = None if self.limit is None else math.ceil(self.limit * fraction)

    def add(self, events: NDArray[Any], expected: Values, lsb: float) -> Values:
        """Compare on one more chunk, as far as the limit goes; returns what was given."""
        if self.left is not None:
            events, expected = events[: self.left], expected[: self.left]
            self.left -= len(events)
        found = self.predict(events)
        self.result = self.result.then(compare(expected, found, lsb))
        if len(self.suspects) < _SUSPECTS:
            differs = ~(expected == found).all(axis=1)
            self.suspects.extend(events[differs][: _SUSPECTS - len(self.suspects)])
        return found

    def explain(self, network: Network, directory: Path, student: str) -> None:
        """Find the first layer that differs, and keep the smallest event of it in the run."""
        if not self.suspects:
            return
        events = np.stack(self.suspects)
        if self.show is not None:
            difference = first_difference(network, self.show(events), events)
            if difference is not None:
                self.first_layer, self.where = difference.layer, difference.summary
        if not self.excused:
            self._reproduce(network, events[0], directory, student)

    def _reproduce(
        self, network: Network, event: NDArray[Any], directory: Path, student: str
    ) -> None:
        def tried(counts: Counts) -> tuple[NDArray[Any], Values, Values]:
            events = (counts * network.port.lsb).reshape(-1, *network.shape)
            return events, network.predict(events), self.predict(events)

        def differs(counts: Counts) -> NDArray[Any]:
            _, expected, found = tried(counts)
            return ~(expected == found).all(axis=1)

        counts = shrink(network.port.integers(event).reshape(-1), differs)[None]
        events, expected, found = tried(counts)
        arrays = {"events": events, "counts": counts, "expected": expected, "found": found}
        parts = (student, self.candidate, self.inputs, *self.kind.split())
        name = "-".join(re.sub(r"[^\w.]", "_", part) for part in parts)
        self.reproducer = f"{REPRODUCERS}/{name}.npz"
        if not (marker := directory / REPRODUCERS / _MARKER).exists():
            check_replaceable(marker.parent)
            write_json(marker, {"kind": REPRODUCERS})
        write_arrays(directory / self.reproducer, arrays)

    @property
    def kind(self) -> str:
        """The HLS project in words: `Vitis io_stream latency`, or nothing."""
        return " ".join(kind_of(self.project).values()) if self.project else ""

    @property
    def label(self) -> str:
        """Implementation and project, for messages."""
        return f"{self.candidate} {self.kind}".strip()

    @property
    def told(self) -> str:
        """The result in one line."""
        result, excuse = self.result, self.pair.excused
        found = f"{result.mismatches} mismatches in {result.events} {self.inputs} events"
        return f"{self.label}: {found}" + (f" (QKeras is inexact: {excuse})" if excuse else "")

    @property
    def fault(self) -> str | None:
        """The difference in one line; None if there is none, or it is excused."""
        result = self.result
        if not result.mismatches or self.excused:
            return None
        unseen = "its layers are not shown" if self.show is None else ""
        where = self.where or unseen or "no inner layer differs on these events"
        if self.reproducer:
            where += f"; {self.reproducer} holds the smallest event that shows it"
        return (
            f"{self.label}: {result.mismatches} of {result.events} {self.inputs} events, up to "
            f"{result.max_lsb} LSB; {where}"
        )

    @property
    def pair(self) -> Pair:
        """As `agreement.json` has it."""
        return Pair(
            reference="exact",
            candidate=self.candidate,
            **(kind_of(self.project) if self.project else dict.fromkeys(KIND)),
            inputs=self.inputs,
            events=self.result.events,
            mismatches=self.result.mismatches,
            max_lsb=self.result.max_lsb,
            first_layer=self.first_layer,
            excused=self.excused if self.result.mismatches else None,
            reproducer=self.reproducer,
        )


def compare_on(
    context: Context,
    student: Student,
    comparisons: Mapping[Inputs, Sequence[Comparison]],
    others: Mapping[str, Predictor],
) -> tuple[list[Comparison], dict[str, dict[str, Values]]]:
    """Compare on corners and samples: what compared, scores (N,) by implementation and sample."""
    network, limit = student.exact, context.config.verify.events
    if context.config.verify.corners:
        shape, seed = context.dataset.shape, context.config.seed
        events, report = corners(network.port, shape, network, seed=seed)
        context.say(f"{student.name}: {report.summary}")
        expected = network.predict(events)
        for comparison in comparisons["corner"]:
            comparison.add(events, expected, student.lsb)
    scores: dict[str, dict[str, list[Values]]] = {}
    samples = context.dataset.judged
    sizes = {name: min(len(sample), limit or len(sample)) for name, sample in samples.items()}
    total = sum(sizes.values())
    with context.progress(f"{student.name}: events", total) as advance:
        for name, sample in samples.items():
            for comparison in comparisons["test"]:
                comparison.share(sizes[name] / total)
            for chunk in sample.chunks(_CHUNK, limit):
                expected = network.predict(chunk)
                given = {stage: predict(chunk) for stage, predict in others.items()}
                for comparison in comparisons["test"]:
                    found = comparison.add(chunk, expected, student.lsb)
                    # Of several projects' C simulations the first: if they differ, verify fails.
                    given.setdefault(comparison.candidate, found)
                for stage, values in given.items():
                    scores.setdefault(stage, {}).setdefault(name, []).append(values.reshape(-1))
                advance(len(chunk))
    done = [each for kind in comparisons.values() for each in kind if each.result.events]
    return done, {
        stage: {name: np.concatenate(parts) for name, parts in by_sample.items()}
        for stage, by_sample in scores.items()
    }


def compare_student(
    context: Context, student: Student, projects: Sequence[Project], simulated: bool
) -> tuple[list[Comparison], dict[str, dict[str, Values]]]:
    """All comparisons of a student, C simulations of `projects`; the scores of its ladder."""
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
    others = {} if context.config.imported else {"float": scorer(float_twin(model), shape)}
    done, scores = compare_on(context, student, comparisons, others)
    return done, {stage: scores[stage] for stage in LADDER if stage in scores}


def compare_emulator(context: Context, name: str, emulator: Emulator) -> None:
    """Compare a student's emulator with the exact network; CheckFailed if a single bit differs."""
    projects = projects_of(context.directory).get(name, [])
    comparisons = emulated([emulator], projects)
    if not comparisons["test"]:
        raise UserError(
            f"{emulator.directory} was built from another project of {name!r} than the run has; "
            f"run `l1kd emulator {context.directory}` again"
        )
    student = open_student(context, name, projects)
    done, _ = compare_on(context, student, comparisons, {})
    if os.access(context.directory, os.W_OK):  # else a read-only run
        _note(context, student, done)
    for comparison in done:
        context.say(f"{name} {comparison.told}")
    if faults := [comparison.fault for comparison in done if comparison.fault]:
        raise CheckFailed(f"emulator and network differ: student {name!r}, {faults[0]}")


def _note(context: Context, student: Student, done: Sequence[Comparison]) -> None:
    """Put comparisons of an emulator into `agreement.json`, and what they found beside it."""
    for comparison in done:
        comparison.explain(student.exact, context.directory, student.name)
    if (context.directory / "agreement.json").is_file():
        records: list[AgreementRecord] = run_files.read(context.directory, "agreement.json")
        for record in records:
            if record.student == student.name:
                others = [pair for pair in record.pairs if pair.candidate != "emulator"]
                record.pairs = [*others, *(each.pair for each in done)]
        run_files.write(context.directory, "agreement.json", records)


def emulators(context: Context) -> list[Emulator]:
    """The emulators that were built into the run; of broken ones it is said."""
    found = []
    for directory in sorted((context.directory / "emulator").glob("*/")):
        try:
            if built_here(directory):
                found.append(load(directory))
            else:
                context.say(
                    f"not compared: {directory} was not built here, and no program of a run is "
                    f"run; `l1kd emulator {context.directory}` builds it anew"
                )
        except (UserError, OSError, ValueError) as error:
            context.say(f"not compared: {error}")
    return found


def emulated(
    emulators: Sequence[Emulator], projects: Sequence[Project]
) -> dict[Inputs, list[Comparison]]:
    """Comparisons of emulators that were built from these projects, as they are now."""
    records = {project.description.namespace: project.record for project in projects}
    found: dict[Inputs, list[Comparison]] = {"corner": [], "test": []}
    for each in emulators:
        if project := records.get(each.manifest.namespace):
            for inputs, built in found.items():
                built.append(Comparison("emulator", inputs, each.predict, project=project))
    return found


def shrink(event: Counts, differs: Differs) -> Counts:
    """An event (inputs,) that still differs, as empty and small as can be, found batch by batch."""
    size = len(event)
    # Blocks of inputs are set to zero, from halves down to single ones; then values shrink.
    while size >= 1:
        event = _emptied(event, size, differs)
        size = 0 if size == 1 else (size + 1) // 2
    for _ in range(_ROUNDS):
        if (smaller := _smaller(event, differs)) is None:
            break
        event = smaller
    return event


def _emptied(event: Counts, size: int, differs: Differs) -> Counts:
    """With every block of `size` inputs set to zero that is not needed."""
    starts = [start for start in range(0, len(event), size) if event[start : start + size].any()]
    while starts:
        candidates = np.repeat(event[None], len(starts), axis=0)
        for row, start in zip(candidates, starts, strict=True):
            row[start : start + size] = 0
        kept = np.flatnonzero(differs(candidates))
        if not len(kept):
            return event
        chosen = int(kept[0])
        event = candidates[chosen]
        # Blocks before it are needed: to leave one out did not differ, and seldom will now.
        starts = starts[chosen + 1 :]
    return event


def _smaller(event: Counts, differs: Differs) -> Counts | None:
    """With some value nearer to zero; None if no single step keeps the difference."""
    candidates, places = [], []
    for place in np.flatnonzero(event):
        size = abs(int(event[place]))
        # By half of it, a quarter, ... and by one: the largest step that can be taken comes first.
        for step in dict.fromkeys([size >> shift for shift in range(1, size.bit_length())] + [1]):
            candidate = event.copy()
            candidate[place] -= step * np.sign(event[place])
            candidates.append(candidate)
            places.append(int(place))
    if not candidates:
        return None
    kept = np.flatnonzero(differs(np.array(candidates)))
    if not len(kept):
        return None
    # All that can shrink alone, together; if that is too much, the first of them.
    together = event.copy()
    for index in kept[::-1]:
        together[places[index]] = candidates[index][places[index]]
    return together if differs(together[None])[0] else candidates[int(kept[0])]
