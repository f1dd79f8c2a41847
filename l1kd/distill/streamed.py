"""Epochs on events as they come: while the teacher learns, and where memory does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from l1kd.distill.distiller import Distiller
from l1kd.distill.feed import AT_ONCE, Feed
from l1kd.distill.schedules import Cosine, Pruning

__all__ = ["Streamed"]


class Streamed:
    """Epochs of steps in which the teacher looks at every event.

    Parameters
    ----------
    distiller
        Who learns.
    feed
        From what.
    teacher, students
        Which of them learn.
    float_until
        The first epoch in which students are quantized.
    """

    def __init__(
        self,
        distiller: Distiller,
        feed: Feed,
        *,
        teacher: bool = True,
        students: bool = True,
        float_until: int = 0,
    ) -> None:
        self.distiller, self.feed = distiller, feed if students else feed.alone()
        self.teacher, self.students, self.float_until = teacher, students, float_until
        self.names = ["teacher"] * teacher + distiller.learners.names * students
        steps = {
            (True, True): distiller.step,
            (True, False): distiller.teacher_step,
            (False, True): distiller.student_step,
        }
        self._step: Callable[..., Any] = steps[teacher, students]
        self._losses = distiller.losses if students else distiller.teacher_losses

    def epoch(
        self, number: int, schedules: Sequence[Cosine | Pruning], advance: Callable[[int], None]
    ) -> dict[str, float]:
        """Make the steps of an epoch; mean losses by network."""
        total = 0.0
        for step, (events, exposure) in enumerate(self.feed.training(number)):
            for schedule in schedules:
                schedule.before(number, step)
            batch = tf.constant(events), tf.constant(exposure)
            total += self._step(*batch, number >= self.float_until)
            for schedule in schedules:
                schedule.after(number, step)
            advance(1)
        return self._named(total / self.feed.steps)

    def validate(self) -> dict[str, float]:
        """Mean losses over the validation events, by network."""
        total: Any = 0.0
        events = 0
        for normal, exposure in self._judged:
            found = self._losses(normal, exposure).numpy().astype(np.float64)
            total, events = total + len(normal) * found, events + len(normal)
        return self._named((total / events)[-len(self.names) :])

    @cached_property
    def _judged(self) -> list[tuple[Any, Any]]:
        """The validation events and their exposure, in parts."""
        parts = []
        for normal, exposure in self.feed.validation():
            # No part without exposure, if there is any.
            pieces = min(-(-len(normal) // AT_ONCE), len(exposure) or len(normal))
            both = (np.array_split(own, pieces) for own in (normal, exposure))
            parts += [(tf.constant(a), tf.constant(b)) for a, b in zip(*both, strict=True)]
        return parts

    def _named(self, losses: Any) -> dict[str, float]:
        return dict(zip(self.names, map(float, losses), strict=True))
