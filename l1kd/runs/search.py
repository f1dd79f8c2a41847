"""`l1kd search`: students that are good and cheap, by trials against a frozen teacher."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import optuna
import yaml
from matplotlib.figure import Figure
from optuna.trial import TrialState
from rich.console import Console

from l1kd.core import config_file, files
from l1kd.core.config import Config, Student
from l1kd.core.context import Context, plain_console
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.processes import run_side_by_side
from l1kd.core.run_files import read_as
from l1kd.core.sweep_config import Search
from l1kd.data.sources import open_dataset
from l1kd.evaluation.evaluate import scorer
from l1kd.evaluation.metrics import mean_over_signals, quality
from l1kd.evaluation.scores import score_samples
from l1kd.exact.layers import Affine
from l1kd.firmware.run_firmware import stated_port
from l1kd.report.tables import Column, Table, text
from l1kd.runs.run import run_configuration
from l1kd.runs.search_study import NAME, STUDY, Judged, Place, Worker, describe, propose

if TYPE_CHECKING:
    from tensorflow import keras

    from l1kd.training.frozen_teacher import LabelledEvents

_CHANCE = 0.5  # AUC of a score that tells nothing


def search(
    argument: str,
    directory: Path | None = None,
    *,
    trials: int | None = None,
    workers: int = 1,
    overrides: Sequence[str] = (),
) -> Path:
    """Work at a study, by default `runs/<name>-study`, until it has its trials; write its front."""
    console = plain_console()
    config = config_file.load(config_file.find(argument), overrides)
    if config.imported:
        raise UserError(f"{argument}: an imported network has no teacher to search with")
    place = Place(directory or Path("runs") / f"{config.name}-study")
    if not (place.directory / "study.json").exists():
        STUDY.check(place.directory)
        console.print(f"{config.name}: reading the events of {config.data.source}")
        _check(config)
    with place.locked("prepare"):
        place.claim(config)
        if not (place.references.exists() and place.targets.exists()):
            console.print("the teacher, once for all trials:")
            _prepare(place)
    _employ(place, trials or (config.search or Search()).trials, workers, console)
    with place.locked("ask"):
        study = place.open()
    with place.locked("prepare"):
        console.print(write_front(place, study))
    return place.directory


def _check(config: Config) -> None:
    """Find what is wrong before anything is written."""
    dataset = open_dataset(config.data, config.seed)
    if not dataset.signals:
        raise UserError(
            "a search judges students on the validation halves of signals, and these events have "
            "none; add data.signals"
        )
    space = (config.search or Search()).space
    of_images = [name for name in space.architectures if name != "dense"]
    if len(dataset.shape) not in (2, 3) and of_images:
        raise UserError(
            f"search.space.architectures: {of_images[0]!r} reads images, and these events have the "
            f"shape {dataset.shape}; use [dense]"
        )


def _prepare(place: Place) -> None:
    """Make the teacher, its targets and the references."""
    run_configuration(str(place.directory / "config.yaml"), place.teacher, until="evaluate")
    import l1kd
    from l1kd.training.frozen_teacher import LabelledEvents
    from l1kd.training.target_transform import load_target

    config, context = place.config, place.context()
    LabelledEvents.label(
        config.distillation, config.seed, context.dataset,
        l1kd.load_model(context.teacher_file), load_target(place.teacher),
        draws=place.search.exposures, limit=place.search.events,
    ).save(place.targets)  # fmt: skip
    references = {}
    for student in config.students:
        with contextlib.suppress(UserError):  # too large to be drawn as parallel logic
            model = l1kd.load_model(context.student_file(student.name))
            references[student.name] = judge(model, context).model_dump()
    files.write_json(place.references, references)


def _employ(place: Place, trials: int, workers: int, console: Console) -> None:
    """Let processes work until there are `trials`; what others do is left to them."""
    with Worker(place, trials) as worker:
        if worker.counts()[0] >= trials:
            return
    work = ["search", str(place.directory), "--join", "--trials", str(trials)]
    codes = run_side_by_side([[sys.executable, "-m", "l1kd", *work]] * workers)
    with Worker(place, trials) as worker:
        worker.bury()
        done, running = worker.counts()
    if done >= trials:
        return
    for code in codes:
        if code > 0:
            sys.exit(code)  # it has said why
        if code < 0:
            raise UserError(
                f"a worker was ended by signal {-code} with {done} of {trials} trials done; "
                "the same command goes on"
            )
    console.print(f"{running} trials are still running elsewhere")


def join(directory: Path, trials: int) -> None:
    """Take trials until the study has enough, or the process that started this one has ended."""
    from l1kd.networks.tensorflow_setup import prepare_tensorflow
    from l1kd.training.frozen_teacher import LabelledEvents

    # One thread each: results do not depend on how many work, and small networks gain nothing.
    prepare_tensorflow(1)
    console, place = plain_console(), Place(directory)
    context, labelled = place.context(), LabelledEvents.load(place.targets)
    _ = context.dataset
    parent = os.getppid()
    with Worker(place, trials) as worker:
        while os.getppid() == parent and (trial := worker.ask()) is not None:
            started = time.monotonic()
            try:
                judged = _run(place, context, trial, labelled)
            except (FloatingPointError, UserError, CheckFailed) as error:
                worker.give_up(trial, str(error))
                console.print(f"trial {trial.number}: given up: {error}")
                continue
            except BaseException:
                worker.give_up(trial, None)
                raise
            seconds = round(time.monotonic() - started, 1)
            trial.set_user_attr("seconds", seconds)
            values = [judged.objective(name) for name in place.search.objectives]
            worker.study.tell(trial, values)
            console.print(
                f"trial {trial.number} ({worker.counts()[0]} of {trials}): {judged}; "
                f"{trial.user_attrs['describes']}; {seconds:.0f} s"
            )


def _run(place: Place, context: Context, trial: optuna.Trial, labelled: LabelledEvents) -> Judged:
    """Train and judge the student that a trial proposes."""
    from tensorflow import keras

    from l1kd.networks.load import save_model
    from l1kd.training.frozen_teacher import train_students

    search, config = place.search, context.config
    student = propose(trial, search.space)
    trial.set_user_attr("student", student.model_dump(mode="json", exclude_defaults=True))
    trial.set_user_attr("describes", describe(student))
    keras.backend.clear_session()
    grid, epochs, seed = context.dataset.grid, search.epochs, config.seed
    model = train_students([student], labelled, config, grid, epochs=epochs, seed=seed)[NAME]
    judged = judge(model, context)
    save_model(model, place.directory / "students" / f"{trial.number:04d}.keras")
    for key, value in judged:
        trial.set_user_attr(key, value)
    return judged


def judge(model: keras.Model, context: Context) -> Judged:
    """Judge a network, by no test event.

    Normal events are the training and the validation ones together: a threshold at 1e-3 wants a
    tail, and a student learns its teacher's scores, not who is normal.
    """
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    dataset, clock_ns = context.dataset, context.config.firmware.clock_ns
    signals = {name: signal.val for name, signal in dataset.signals.items()}
    samples = {"train": dataset.train, "val": dataset.val, **signals}
    arrays = score_samples({"candidate": scorer(model, dataset.shape)}, samples)
    scored = {name: arrays[f"candidate_{name}"] for name in samples}
    normal = np.concatenate([scored.pop("train"), scored.pop("val")])
    found = quality({"test": normal, **scored})
    network = read(model)
    network = network.at_port(stated_port(context, network))
    expected = alkaid_convert.estimate(network, clock_ns=clock_ns)
    kernels = [node.kernel for node in network.nodes if isinstance(node, Affine)]
    return Judged(
        auc=mean_over_signals(found.auc) or 0.0,
        efficiency=mean_over_signals(found.efficiency) or 0.0,
        band=mean_over_signals(found.band),
        lut=float(round(expected.lut)),
        ff=float(round(expected.ff)),
        latency_cycles=expected.latency_cycles,
        latency_ns=expected.latency_cycles * clock_ns,
        weights=sum(kernel.size for kernel in kernels),
        zeros=sum(int(np.sum(kernel == 0)) for kernel in kernels),
    )


class Point(Judged):
    """A student with its quality and cost."""

    label: str  # its number on the front, or the name of a reference
    trial: int | None  # none for a reference
    student: Student

    def as_json(self) -> dict[str, Any]:
        """As `front.json` has it."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return {"label": self.label, "trial": self.trial, **values}


COLUMNS = (
    text("", "label"),
    Column("trial", "trial", lambda trial: "" if trial is None else str(trial)),
    Column("AUC", "auc", "{:.4f}".format),
    Column("efficiency", lambda point: 100 * point.efficiency, "{:.1f} %".format),
    Column("LUT", "lut", "{:,.0f}".format),
    Column("FF", "ff", "{:,.0f}".format),
    Column("cycles", "latency_cycles", str),
    Column("ns", "latency_ns", "{:g}".format),
    Column("zeros", lambda point: 100 * point.zeros / point.weights, "{:.0f} %".format),
    text("what", lambda point: describe(point.student)),
)


def points(place: Place, study: optuna.Study) -> tuple[list[Point], list[Point], list[Point]]:
    """The front, cheapest first and better than chance; every finished trial; the references."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    every = [
        Point.model_validate(
            {**trial.user_attrs, "label": f"trial {trial.number}", "trial": trial.number}
        )
        for trial in finished
    ]
    best = {trial.number for trial in study.best_trials} if finished else set()
    ordered = sorted(
        (point for point in every if point.trial in best and point.auc > _CHANCE),
        key=lambda point: (point.lut, -point.auc, point.trial),
    )
    width = max(len(str(len(ordered))), 2)
    front = [
        point.model_copy(update={"label": f"{number:0{width}}"})
        for number, point in enumerate(ordered, 1)
    ]
    known = {student.name: student for student in place.config.students}
    references = [
        Point(label=name, trial=None, student=known[name], **judged.model_dump())
        for name, judged in _references(place).items()
    ]
    return front, every, references


def _references(place: Place) -> dict[str, Judged]:
    """The configuration's own students, judged."""
    missing, remedy = f"{place.references} is gone", "delete it, and search again"
    found: dict[str, Judged] = read_as(dict[str, Judged], place.references, missing, remedy)
    return found


def write_front(place: Place, study: optuna.Study) -> str:
    """Write `front.json`, `front.md`, the plots and `front/`; the table, for the terminal."""
    front, every, references = points(place, study)
    directory = place.directory
    found = {
        "objectives": list(place.search.objectives),
        "trials": len(every),
        "clock_ns": place.config.firmware.clock_ns,
        "references": [point.as_json() for point in references],
        "front": [point.as_json() for point in front],
    }
    files.write_json(directory / "front.json", found)
    table = Table.of(COLUMNS, [*references, *front]).markdown()
    with files.atomic(directory / "front.md") as temporary:
        temporary.write_text(
            f"{table}\n\n{len(every)} trials. AUC and efficiency (at a false-positive rate of "
            "1e-3): means over the signals' validation halves. LUT, FF and cycles: estimates of "
            "adder-only logic.\n",
            encoding="utf-8",
        )
    files.check_replaceable(directory / "front")
    with files.atomic_directory(directory / "front") as temporary:
        files.write_json(temporary / files.MARKERS[-1], {"kind": "front"})
        for point in front:
            path = temporary / f"{point.label}.yaml"
            path.write_text(_configuration(place.config, point), encoding="utf-8")
    _plot(directory, front, every, references)
    title = "Pareto front: means over the signals' validation halves, estimates of logic"
    return f"{title}\n{table}"


def _configuration(config: Config, point: Point) -> str:
    """The study's configuration with a point's student alone, for `l1kd run`."""
    raw = config.model_dump(mode="json", exclude={"search", "students"})
    raw["name"] = f"{config.name[:56]}-{point.label}"
    raw["students"] = [point.student.model_dump(mode="json", exclude_defaults=True)]
    return (
        f"# Trial {point.trial} of a search. There, on validation halves, its mean AUC was\n"
        f"# {point.auc:.4f}, its mean efficiency {point.efficiency:.3f}; expected are "
        f"{point.lut:.0f} LUT, {point.ff:.0f} FF\n# and {point.latency_cycles} cycles. "
        "`l1kd run` trains teacher and student anew.\n"
    ) + yaml.safe_dump(raw, sort_keys=False, width=100)


def _plot(directory: Path, front: list[Point], every: list[Point], references: list[Point]) -> None:
    """Quality against LUTs, for both measures of it."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    styles: list[tuple[list[Point], dict[str, Any]]] = [
        (every, {"color": "0.75", "s": 10, "label": f"{len(every)} trials"}),
        (front, {"color": "#0072b2", "s": 22, "label": "Pareto front"}),
    ]
    for point, marker in zip(references, "*DsP^v<>X" * len(references), strict=False):
        style = {"color": "#d55e00", "marker": marker, "s": 60, "label": point.label}
        styles.append(([point], style))
    names = (("auc", "mean AUC"), ("efficiency", "mean efficiency at 1e-3"))
    for axes, (name, label) in zip(panels, names, strict=True):
        for group, style in styles:
            luts = [max(point.lut, 1) for point in group]
            axes.scatter(luts, [getattr(point, name) for point in group], **style)
        axes.set(xscale="log", xlabel="LUT (estimate)", ylabel=f"{label}, validation halves")
    panels[0].legend(fontsize="small", loc="lower right")
    with mpl.rc_context({"svg.hashsalt": "l1kd"}):
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            with files.atomic(directory / f"front.{suffix}") as temporary:
                figure.savefig(temporary, metadata=metadata, dpi=150)
