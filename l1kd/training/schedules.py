"""Learning rates and sparsities as functions of the step, and of nothing else.

An epoch's number counts over all phases; a step's number counts inside its epoch, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class Cosine:
    """A rate that rises from 0 over `warm_up` epochs and falls along half a cosine to 1 %."""

    def __init__(
        self, optimizer: Any, rate: float, first: int, last: int, steps: int, warm_up: float = 0.0
    ) -> None:
        self.optimizer, self.rate, self.warm_up = optimizer, rate, warm_up
        self.first, self.last, self.steps = first, last, steps

    def before(self, epoch: int, step: int) -> None:
        """Set the rate of a step."""
        passed = epoch + step / self.steps - self.first
        done = passed / max(self.last - self.first, 1)
        share = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        risen = min((passed + 1 / self.steps) / self.warm_up, 1.0) if self.warm_up else 1.0
        self.optimizer.learning_rate.assign(self.rate * risen * (0.01 + 0.99 * share))

    def after(self, epoch: int, step: int) -> None:
        """Nothing."""


class Pruning:
    """Sparsity by a cubic law (arXiv 1710.01878) between two shares of the epochs first to last."""

    def __init__(
        self,
        prune: Callable[[float], None],
        between: tuple[float, float],
        first: int,
        last: int,
        steps: int,
    ) -> None:
        self.prune, self.steps = prune, steps
        self.begin, self.end = (first + share * (last - first) for share in between)

    def settled(self, epoch: int) -> bool:
        """True if all sparsity is reached at the end of an epoch, by its number from 0."""
        return epoch + 1 >= self.end

    def before(self, epoch: int, step: int) -> None:
        """Nothing."""

    def after(self, epoch: int, step: int) -> None:
        """Prune to the sparsity of a step."""
        passed = epoch + (step + 1) / self.steps
        if passed >= self.end:
            self.prune(1.0)
        elif passed > self.begin:
            self.prune(1 - (1 - (passed - self.begin) / (self.end - self.begin)) ** 3)


class Epochs:
    """Epochs of steps by networks `names`, whose students are quantized from `float_until` on.

    `batches` gives an epoch's batches by its number, `make(quantize, *batch)` a step's losses.
    """

    names: list[str]
    steps: int
    float_until: int
    batches: Callable[[int], Iterable[tuple[Any, ...]]]
    make: Callable[..., Any]

    def epoch(
        self, number: int, schedules: Sequence[Cosine | Pruning], advance: Callable[[int], None]
    ) -> dict[str, float]:
        """Make the steps of an epoch; mean losses by network."""
        total: Any = 0.0
        for step, batch in enumerate(self.batches(number)):
            for schedule in schedules:
                schedule.before(number, step)
            total += self.make(number >= self.float_until, *batch)
            for schedule in schedules:
                schedule.after(number, step)
            advance(1)
        return self.named(total / self.steps)

    def named(self, losses: Any) -> dict[str, float]:
        """Losses by network."""
        return dict(zip(self.names, map(float, losses), strict=True))
