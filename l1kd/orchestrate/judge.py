"""What a candidate is worth and what it costs, on events that no test has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.context import Context
from l1kd.data.dataset import Dataset, Sample
from l1kd.evaluation.evaluate import scorer
from l1kd.evaluation.metrics import mean_over_signals, quality
from l1kd.evaluation.scores import score_samples
from l1kd.space import Objective

if TYPE_CHECKING:
    from tensorflow import keras

__all__ = ["Judged", "judge"]


@dataclass(frozen=True)
class Judged:
    """A student's quality and cost.

    Parameters
    ----------
    auc, efficiency
        Means over the signals' validation halves; efficiency at a false-positive rate of 1e-3.
    lut, ff, latency_cycles, latency_ns
        By the estimate of its adder-only logic.
    weights, zeros
        Weights of its kernels, and how many of them are 0.
    """

    auc: float
    efficiency: float
    lut: float
    ff: float
    latency_cycles: int
    latency_ns: float
    weights: int
    zeros: int

    def objective(self, name: Objective) -> float:
        """Its value for a search."""
        return float(self.latency_cycles if name == "latency" else getattr(self, name))


def judge(model: keras.Model, context: Context) -> Judged:
    """Judge a network.

    Normal events are the training and the validation ones together: a threshold at 1e-3 wants a
    tail, and a student learns its teacher's scores, not who is normal. No test event is read.

    Raises
    ------
    UserError
        If its scores are not finite, or its logic is too large to be drawn.
    """
    from l1kd.exact.graph import Affine
    from l1kd.firmware import rtl
    from l1kd.firmware.convert import stated_port
    from l1kd.models.exact import read

    dataset, clock_ns = context.dataset, context.config.firmware.clock_ns
    signals = {name: signal.val for name, signal in dataset.signals.items()}
    scored = _scores(model, dataset, {"train": dataset.train, "val": dataset.val})
    found = quality(np.concatenate(list(scored.values())), _scores(model, dataset, signals))
    network = read(model)
    port = stated_port(context, model)
    expected = rtl.estimate(network.at_port(port) if port else network, clock_ns=clock_ns)
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
