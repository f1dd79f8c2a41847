"""A worker's work: candidates against the study's frozen teacher."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from l1kd.context import Context
from l1kd.errors import CheckFailed, UserError
from l1kd.orchestrate.candidates import NAME, describe, propose
from l1kd.orchestrate.judge import Judged, judge
from l1kd.orchestrate.study import Place, Worker

if TYPE_CHECKING:
    import optuna

    from l1kd.distill.frozen import Lessons

__all__ = ["summary", "work"]


def work(place: Place, trials: int, console: Console) -> None:
    """Take trials until the study has as many as it is to have, or the parent process has ended.

    Raises
    ------
    UserError
        If the study lacks what trials need.
    """
    from l1kd.distill.frozen import Lessons
    from l1kd.models.runtime import prepare_tensorflow

    # One thread each: results do not depend on how many work, and small networks gain nothing.
    prepare_tensorflow(1)
    # QKeras' own: a seeded network has no unseeded weights.
    warnings.filterwarnings(
        "ignore", message="The initializer .* is unseeded", category=UserWarning
    )
    context, lessons = place.context(console), Lessons.load(place.targets)
    _ = context.dataset
    parent = os.getppid()
    with Worker(place, trials) as worker:
        while os.getppid() == parent and (trial := worker.ask()) is not None:
            started = time.monotonic()
            try:
                judged = _run(place, context, trial, lessons)
            except (FloatingPointError, UserError, CheckFailed) as error:
                worker.give_up(trial, str(error))
                console.print(f"trial {trial.number}: given up: {error}", markup=False)
                continue
            except BaseException:
                worker.give_up(trial, None)
                raise
            trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
            worker.finish(trial, [judged.objective(name) for name in place.search.objectives])
            done, _ = worker.counts()
            console.print(
                f"trial {trial.number} ({done} of {trials}): {summary(judged)}; "
                f"{trial.user_attrs['describes']}; {trial.user_attrs['seconds']:.0f} s",
                markup=False,
                highlight=False,
            )


def _run(place: Place, context: Context, trial: optuna.Trial, lessons: Lessons) -> Judged:
    from tensorflow import keras

    from l1kd.distill.frozen import learn
    from l1kd.models.load import save_model

    search, config = place.search, context.config
    student = propose(trial, search.space)
    trial.set_user_attr("student", student.model_dump(mode="json", exclude_defaults=True))
    trial.set_user_attr("describes", describe(student))
    keras.backend.clear_session()
    model = learn(
        [student],
        lessons,
        config,
        context.dataset.grid,
        epochs=search.epochs,
        draws=search.exposures,
        seed=config.seed,
    )[NAME]
    judged = judge(model, context)
    save_model(model, place.student(trial.number))
    for key, value in asdict(judged).items():
        trial.set_user_attr(key, value)
    return judged


def summary(judged: Judged) -> str:
    """In one line."""
    return (
        f"AUC {judged.auc:.4f}, efficiency {100 * judged.efficiency:.1f} %, "
        f"{judged.lut:,.0f} LUT, {judged.ff:,.0f} FF, {judged.latency_cycles} cycles"
    )
