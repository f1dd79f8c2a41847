"""Candidates of a search: trained on the study's frozen teacher, judged on events no test sees."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.sweep_config import Objective
from l1kd.data.dataset import Dataset, Sample
from l1kd.evaluation.evaluate import scorer
from l1kd.evaluation.metrics import mean_over_signals, quality
from l1kd.evaluation.scores import score_samples
from l1kd.runs.search_study import NAME, Place, Worker, describe, propose

if TYPE_CHECKING:
    import optuna
    from tensorflow import keras

    from l1kd.training.frozen_teacher import LabelledEvents


@dataclass(frozen=True)
class Judged:
    """A student's quality (means over the signals' validation halves) and estimated cost."""

    # means over the signals' validation halves; efficiency at a false-positive rate of 1e-3
    auc: float
    efficiency: float
    lut: float  # by the estimate of its adder-only logic
    ff: float
    latency_cycles: int
    latency_ns: float
    weights: int  # weights of its kernels, and how many of them are 0
    zeros: int

    def objective(self, name: Objective) -> float:
        """Its value for a search."""
        return float(self.latency_cycles if name == "latency" else getattr(self, name))


def judge(model: keras.Model, context: Context) -> Judged:
    """Judge a network.

    Normal events are the training and the validation ones together: a threshold at 1e-3 wants a
    tail, and a student learns its teacher's scores, not who is normal. No test event is read.
    """
    from l1kd.exact.layers import Affine
    from l1kd.firmware.run_firmware import stated_port
    from l1kd.firmware.verilog import alkaid_convert
    from l1kd.networks.to_exact import read

    dataset, clock_ns = context.dataset, context.config.firmware.clock_ns
    signals = {name: signal.val for name, signal in dataset.signals.items()}
    scored = _scores(model, dataset, {"train": dataset.train, "val": dataset.val})
    normal = np.concatenate(list(scored.values()))
    found = quality({"test": normal, **_scores(model, dataset, signals)})
    network = read(model)
    network = network.at_port(stated_port(context, network))
    expected = alkaid_convert.estimate(network, clock_ns=clock_ns)
    kernels = [node.kernel for node in network.nodes if isinstance(node, Affine)]
    return Judged(
        auc=mean_over_signals(found.auc) or 0.0,
        efficiency=mean_over_signals(found.efficiency) or 0.0,
        lut=float(round(expected.lut)),
        ff=float(round(expected.ff)),
        latency_cycles=expected.latency_cycles,
        latency_ns=expected.latency_cycles * clock_ns,
        weights=sum(kernel.size for kernel in kernels),
        zeros=sum(int(np.sum(kernel == 0)) for kernel in kernels),
    )


def _scores(
    model: keras.Model, dataset: Dataset, samples: dict[str, Sample]
) -> dict[str, NDArray[Any]]:
    arrays = score_samples({"candidate": scorer(model, dataset.shape)}, samples)
    return {name: arrays[f"candidate_{name}"] for name in samples}


def work(place: Place, trials: int, console: Console) -> None:
    """Take trials until the study has as many as it is to have, or the parent process has ended."""
    from l1kd.networks.tensorflow_setup import prepare_tensorflow
    from l1kd.training.frozen_teacher import LabelledEvents

    # One thread each: results do not depend on how many work, and small networks gain nothing.
    prepare_tensorflow(1)
    # QKeras' own: a seeded network has no unseeded weights.
    warnings.filterwarnings(
        "ignore", message="The initializer .* is unseeded", category=UserWarning
    )
    context, labelled = place.context(console), LabelledEvents.load(place.targets)
    _ = context.dataset
    parent = os.getppid()
    with Worker(place, trials) as worker:
        while os.getppid() == parent and (trial := worker.ask()) is not None:
            started = time.monotonic()
            try:
                judged = _run(place, context, trial, labelled)
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


def _run(place: Place, context: Context, trial: optuna.Trial, labelled: LabelledEvents) -> Judged:
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
