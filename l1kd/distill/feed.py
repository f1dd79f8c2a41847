"""Batches for `fit`: normal events and the exposure that goes with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from l1kd.data.dataset import Dataset, Events
from l1kd.distill.exposure import Mixer

__all__ = ["Feed"]

_VALIDATION = 1 << 30  # as an epoch's number: validation exposure is the same in every epoch
_VALIDATION_EVENTS = 20_000


class Feed:
    """The training and validation batches of a run.

    Everything random follows from (seed, epoch, step), so that a restarted run sees what an
    uninterrupted one would have seen.
    """

    def __init__(self, dataset: Dataset, mixer: Mixer, batch: int, seed: int) -> None:
        self.dataset, self.mixer, self.batch, self.seed = dataset, mixer, batch, seed

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset.train) // self.batch)

    def alone(self) -> Feed:
        """The same normal events, without exposure."""
        return Feed(self.dataset, lambda events, random: events[:0], self.batch, self.seed)

    def training(self, epoch: int) -> tf.data.Dataset:
        """The batches of an epoch."""

        def batches() -> Iterator[tuple[Events, Events]]:
            chunks = self.dataset.train.shuffled(self.batch, self.seed, epoch)
            for step, events in enumerate(chunks):
                yield events, self.mixer(events, np.random.default_rng([self.seed, epoch, step]))

        return self._pipeline(batches, self.steps)

    def validation(self) -> tf.data.Dataset:
        """Validation normals with an exposure that never changes."""
        parts = self.validation_parts()
        return self._pipeline(lambda: iter(parts), len(parts))

    def validation_parts(self) -> list[tuple[Events, Events]]:
        """The same as arrays."""
        parts = []
        for step, events in enumerate(self.dataset.val.chunks(1024, _VALIDATION_EVENTS)):
            random = np.random.default_rng([self.seed, _VALIDATION, step])
            parts.append((events, self.mixer(events, random)))
        return parts

    def _pipeline(self, batches: object, steps: int) -> tf.data.Dataset:
        one = tf.TensorSpec((None, *self.dataset.shape), tf.float32)
        pipeline = tf.data.Dataset.from_generator(batches, output_signature=(one, one))
        # Without a known length Keras asks for one batch too many in the first epoch of every
        # `fit`, and the optimizers count a step that never was: a resumed training would differ.
        known = tf.data.experimental.assert_cardinality(steps)
        return pipeline.apply(known).prefetch(4)
