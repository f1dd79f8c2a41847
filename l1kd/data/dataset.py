"""Events as every part of l1kd sees them: named samples, handed out in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint

Events = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """Some events of a sample, in memory or read from disk when their turn comes."""

    events: int  # how many
    # Returns them as an array (events, *shape) of any real type; called whenever they are needed
    load: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, events: NDArray[Any]) -> Block:
        """Events in memory, (events, *shape); read-only, as chunks may be views of them."""
        kept = events.view()
        kept.flags.writeable = False
        return cls(len(events), lambda: kept)


@dataclass(frozen=True)
class Sample:
    """Events of one kind, in a fixed order."""

    name: str  # as in the files of a run: `train`, `val`, `test`, or a signal's name
    shape: tuple[int, ...]  # of one event
    blocks: tuple[Block, ...]  # the events

    def __len__(self) -> int:
        return sum(block.events for block in self.blocks)

    def chunks(self, size: int = 8192, limit: int | None = None) -> Iterator[Events]:
        """The events in their order, at most `size` at a time and `limit` in all, as float32."""
        left = len(self) if limit is None else min(limit, len(self))
        for block in self.blocks:
            if left <= 0:
                return
            events = self._floats(block.load()[:left])
            left -= len(events)
            for start in range(0, len(events), size):
                yield events[start : start + size]

    def shuffled(self, size: int, seed: int, epoch: int) -> Iterator[Events]:
        """All events once in an order that depends on (seed, epoch) alone, `size` at a time."""
        # Blocks come in random order, events are shuffled inside theirs: memory holds one block.
        random = np.random.default_rng([seed, epoch, 0x5A])
        rest = np.empty((0, *self.shape), np.float32)
        for index in random.permutation(len(self.blocks)):
            block = self.blocks[index]
            # Reordered while still in its narrow type, float32 only then.
            events = self._floats(block.load()[random.permutation(block.events)])
            if len(rest):
                events = np.concatenate([rest, events])
            whole = len(events) - len(events) % size
            for start in range(0, whole, size):
                yield events[start : start + size]
            rest = events[whole:]
        if len(rest):
            yield rest

    def events(self, limit: int | None = None) -> Events:
        """The first `limit` events, or all of them, as one array (events, *shape)."""
        parts = list(self.chunks(limit=limit))
        return np.concatenate(parts) if parts else np.empty((0, *self.shape), np.float32)

    def _floats(self, events: NDArray[Any]) -> Events:
        return np.asarray(events, np.float32).reshape(-1, *self.shape)

    @classmethod
    def of(cls, name: str, events: NDArray[Any]) -> Sample:
        """A sample of events that are in memory, (events, *shape)."""
        return cls(name, tuple(events.shape[1:]), (Block.of(events),))


@dataclass(frozen=True)
class Signal:
    """A named kind of anomaly: one half to choose with, the other to judge with."""

    val: Sample
    test: Sample


@dataclass(frozen=True)
class Dataset:
    """Everything a run knows of its events."""

    train: Sample  # normal events
    val: Sample
    test: Sample
    signals: Mapping[str, Signal]  # anomalies by name; may be empty
    grid: FixedPoint  # the fixed-point type every input value is a value of
    exposure: Sample | None = None  # another data set's *training* events
    # The axes of an event along which inputs are of one kind and share mean and spread (phi of a
    # calorimeter: rings of equal eta); empty if every input is a kind of its own
    standardise_axes: tuple[int, ...] = ()
    # Highest value of each kind of input where the last axis has several (a count and bits; energy
    # and angles): exposure stays below; None: all inputs are of one kind
    highest: tuple[float, ...] | None = None
    # What stands beside every number made with these events: source, files, whether the acceptance
    # flag was applied and what it means, numbers of distinct collisions
    description: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # the files that were read, for the manifest's hashes
    port: FixedPoint | None = None  # of a value as hardware sends it; None: the grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event."""
        return self.train.shape

    @property
    def judged(self) -> dict[str, Sample]:
        """The samples of all results: `test`, and each signal's test half by its name."""
        return {"test": self.test, **{name: own.test for name, own in self.signals.items()}}

    @property
    def samples(self) -> dict[str, Sample]:
        """All but the exposure, by the names that `scores.npz` gives them."""
        samples = {"train": self.train, "val": self.val, "test": self.test}
        for name, signal in self.signals.items():
            samples |= {name: signal.test, f"val_{name}": signal.val}
        return samples
