"""Batches of a training: normal events and the exposure that goes with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from l1kd.data.dataset import Dataset, Events
from l1kd.distill.exposure import Mixer

__all__ = ["AT_ONCE", "Feed"]

Batch = tuple[Events, Events]

_VALIDATION = 1 << 30  # as an epoch's number: validation exposure is the same in every epoch
_VALIDATION_EVENTS = 20_000
AT_ONCE = 256  # events in a forward pass that is no step: more do not fit a cache
_AHEAD = 4  # batches that are made while the networks learn


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

    def training(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: events and their exposure, both (batch, \\*shape)."""
        chunks = self.dataset.train.shuffled(self.batch, self.seed, epoch)
        batches = (
            (events, self.mixer(events, np.random.default_rng([self.seed, epoch, step])))
            for step, events in enumerate(chunks)
        )
        with ThreadPoolExecutor(1) as thread:
            waiting = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, batches, None))
                yield batch

    def validation(self) -> list[Batch]:
        """Validation normals with an exposure that never changes."""
        parts = []
        for step, events in enumerate(self.dataset.val.chunks(1024, _VALIDATION_EVENTS)):
            random = np.random.default_rng([self.seed, _VALIDATION, step])
            parts.append((events, self.mixer(events, random)))
        return parts
