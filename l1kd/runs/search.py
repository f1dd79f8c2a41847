"""`l1kd search`: students that are good and cheap, by trials against a frozen teacher."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

import l1kd.data.sources  # noqa: F401 - configurations know the sources by it
from l1kd.core import config_file
from l1kd.core.config import Config, Search
from l1kd.core.errors import UserError
from l1kd.core.files import write_json
from l1kd.core.processes import run_side_by_side
from l1kd.runs.pareto_front import table, write_front
from l1kd.runs.search_study import Place, Worker


def search(
    argument: str,
    directory: Path | None = None,
    *,
    trials: int | None = None,
    workers: int = 1,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Work at a study, by default `runs/<name>-study`, until it has its trials; write its front."""
    console = console or Console(stderr=True, soft_wrap=True)
    config = config_file.load(config_file.find(argument), overrides)
    if config.imported:
        raise UserError(f"{argument}: an imported network has no teacher to search with")
    place = Place(directory or Path("runs") / f"{config.name}-study")
    if place.directory.exists() and not place.directory.is_dir():
        raise UserError(f"{place.directory} is a file; name another directory with --study")
    if not (place.directory / "study.json").exists():
        _check(config)
    with place.locked("prepare"):
        place.claim(config)
        _prepare(place, console)
    _employ(place, trials or (config.search or Search()).trials, workers, console)
    with place.locked("ask"):
        study = place.open()
    with place.locked("prepare"):
        front, references = write_front(place, study)
    # A file has no width of its own.
    wide = Console(file=console.file, width=None if console.is_terminal else 120)
    wide.print(table(front, references))
    return place.directory


def join(directory: Path, trials: int, console: Console | None = None) -> None:
    """Work for a study in this process; what `search` starts."""
    from l1kd.runs.search_candidates import work

    work(Place(directory), trials, console or Console(stderr=True, soft_wrap=True))


def _check(config: Config) -> None:
    """Find what is wrong before anything is written."""
    from l1kd.data.sources import open_dataset

    dataset = open_dataset(config.data, config.seed)
    if not dataset.signals:
        raise UserError(
            "a search judges students on the validation halves of signals, and these events have "
            "none; add data.signals"
        )
    space = (config.search or Search()).space
    if len(dataset.shape) not in (2, 3) and "conv" in space.architectures:
        raise UserError(
            f"search.space.architectures: 'conv' reads images, and these events have the shape "
            f"{dataset.shape}; use [dense]"
        )


def _prepare(place: Place, console: Console) -> None:
    """Teacher, targets and references, unless they are there."""
    if place.references.exists() and place.targets.exists():
        return
    import l1kd
    from l1kd.runs.run import run_configuration
    from l1kd.runs.search_candidates import judge
    from l1kd.training.frozen_teacher import LabelledEvents
    from l1kd.training.target_transform import load_target

    config, own = place.config, place.search
    console.print("the teacher, once for all trials:", highlight=False)
    path = str(place.directory / "config.yaml")
    run_configuration(path, place.teacher, until="evaluate")
    context = place.context(console)
    LabelledEvents.label(
        config.distillation, config.seed, context.dataset,
        l1kd.load_model(context.teacher_file), load_target(place.teacher),
        draws=own.exposures, limit=own.events,
    ).save(place.targets)  # fmt: skip
    references = {}
    for student in config.students:
        with contextlib.suppress(UserError):  # too large to be drawn as parallel logic
            model = l1kd.load_model(context.student_file(student.name))
            references[student.name] = asdict(judge(model, context))
    write_json(place.references, references)


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
    console.print(f"{running} trials are still running elsewhere", highlight=False)
