"""Exposure: events that students see besides normal ones, on the input's grid; training batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from l1kd.core.config import Distillation
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.teacher_config import Jets, Soft
from l1kd.data.dataset import Dataset, Events


@dataclass(frozen=True)
class InputRange:
    """Range and spread of the training inputs, and settings of events that are made of them."""

    grid: FixedPoint
    low: float  # the lowest value seen
    high: Any  # the grid's highest, or that of each kind of input along the last axis
    spread: float  # root mean square of the inputs around their mean
    largest: float  # the largest value seen
    mean: np.ndarray | float = 0.0  # type: ignore[type-arg] # of the first kind, (rows, columns)
    ring: bool = False  # rows: the last is beside the first
    jets: Jets = field(default_factory=Jets)
    soft: Soft = field(default_factory=Soft)
    kinds: int = 1  # of inputs, along the last axis

    def round(self, events: np.ndarray) -> Events:  # type: ignore[type-arg]
        """Events rounded to the grid and clipped to the range."""
        clipped = np.clip(events, self.low, self.high)
        return self.grid.quantize(clipped).astype(np.float32)


def measure_inputs(dataset: Dataset, recipe: Distillation) -> InputRange:
    """Read the training events once."""
    low, high, square = np.inf, -np.inf, 0.0
    total = np.zeros(dataset.shape)
    for chunk in dataset.train.chunks():
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        values = chunk.astype(np.float64)
        total += values.sum(0)
        square += np.square(values).sum()
    mean, count = total / len(dataset.train), len(dataset.train) * total.size
    spread = max(float(np.sqrt(max(square / count - mean.mean() ** 2, 0))), dataset.grid.lsb)
    top = dataset.grid.high if dataset.highest is None else np.array(dataset.highest)
    ring, kinds = 0 in dataset.standardise_axes, np.size(top)
    first = _planes(mean[None], kinds)[0, :, :, 0]
    limits = dataset.grid, low, top, spread, high
    return InputRange(*limits, first, ring, recipe.jets, recipe.soft, kinds)


def noise(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Gaussian noise of 0.1 of the largest value: the paper's `clip(x + 0.1 N(0, 1), 0, 1)`."""
    sigma = 0.1 * inputs.largest
    return inputs.round(events + sigma * random.standard_normal(events.shape, np.float32))


def shuffle(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Every event's inputs in random order, those of each kind among themselves."""
    flat = events.reshape(len(events), -1, inputs.kinds)
    return random.permuted(flat, axis=1).reshape(events.shape)


def patch(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Deposits (a third of the events), windows or thinned sums of other events on a normal one."""
    count = len(events)
    made = events.astype(np.float32, copy=True)
    kind = random.integers(0, 3, count)
    planes = made.reshape(count, *_plane(events.shape[1:]))
    others = planes[random.permutation(count)].copy()
    top = max(inputs.largest, 2 * inputs.spread)
    for index in range(count):
        if kind[index] == 0:
            for _ in range(random.integers(1, 7)):  # log-uniform up to the largest input
                size = np.exp(random.uniform(np.log(inputs.spread), np.log(top)))
                rows, columns = _window(planes.shape[1:], random, 3)
                shares = random.random((rows.stop - rows.start, columns.stop - columns.start))
                planes[index, rows, columns] += size * shares / shares.max()
        elif kind[index] == 1:
            rows, columns = _window(planes.shape[1:], random, max(planes.shape[1:]))
            factor = np.exp(random.uniform(0, np.log(8)))
            planes[index, rows, columns] += factor * others[index, rows, columns]
        else:
            for _ in range(random.integers(1, 5)):
                other = others[random.integers(count)]
                planes[index] += other * (random.random(other.shape) < random.random())
    return inputs.round(made)


def warp(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Every event turned, stretched, sheared, mirrored and moved as a plane, in lowest values."""
    count = len(events)
    planes = events.reshape(count, *_plane(events.shape[1:]))
    rows, columns = planes.shape[1:]
    flat = min(rows, columns) == 1  # one row cannot be turned
    angle = np.zeros(count) if flat else random.uniform(-np.pi, np.pi, count)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.zeros((2, 2, count))
    stretch[0, 0], stretch[1, 1] = np.exp(random.uniform(-0.5, 0.5, (2, count)))
    stretch[1, 1] *= random.choice([-1.0, 1.0], count)
    stretch[0, 1] = 0 if flat else random.uniform(-0.5, 0.5, count)
    matrix = np.einsum("ijn,jkn->nik", turn, stretch).astype(np.float32)
    sides = np.array([rows, columns], np.float32)
    middle = (sides - 1) / 2
    move = random.uniform(-0.1, 0.1, (count, 2)).astype(np.float32) * sides
    grid = np.indices((rows, columns), np.float32).reshape(2, -1) - middle[:, None]
    places = matrix @ grid + (middle + move)[:, :, None]
    made = inputs.low + _between(planes - inputs.low, places[:, 0], places[:, 1])
    return inputs.round(made.reshape(events.shape))


def _between(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Planes (N, rows, columns) interpolated at (N, places); 0 outside."""
    height, width = planes.shape[1:]
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    event = np.arange(len(planes))[:, None]
    top, left = np.floor(rows), np.floor(columns)
    down, right = rows - top, columns - left
    found = np.zeros(rows.shape, np.float32)
    for row, share in ((top, 1 - down), (top + 1, down)):
        for column, part in ((left, 1 - right), (left + 1, right)):
            at = np.clip(row + 1, 0, height + 1).astype(int)
            across = np.clip(column + 1, 0, width + 1).astype(int)
            found += share * part * padded[event, at, across]
    return found


def pieces(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """One to four windows of an event replaced: by another's, its own, or the lowest value."""
    count = len(events)
    planes = events.reshape(count, *_plane(events.shape[1:]))
    foreign = (random.random(count) < 0.7)[:, None, None]
    others = np.where(foreign, planes[random.permutation(count)], planes)
    made = planes.astype(np.float32, copy=True)
    windows = random.integers(1, 5, count)
    event = np.arange(count)[:, None, None]
    for window in range(4):
        inside, source = [], []
        for side in planes.shape[1:]:
            size = random.integers(max(side // 6, 1), max(2 * side // 3, 1) + 1, count)[:, None]
            to, of = (np.floor(random.random((count, 1)) * (side - size + 1)) for _ in range(2))
            place = np.arange(side) - to
            mirrored = np.where(random.random((count, 1)) < 0.5, size - 1 - place, place)
            inside.append((place >= 0) & (place < size))
            source.append(np.clip(of + mirrored, 0, side - 1).astype(int))
        taken = others[event, source[0][:, :, None], source[1][:, None, :]]
        taken = np.where((random.random(count) < 0.2)[:, None, None], inputs.low, taken)
        here = inside[0][:, :, None] & inside[1][:, None, :]
        made = np.where(here & (windows > window)[:, None, None], taken, made)
    return inputs.round(made.reshape(events.shape))


def jets(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Jets of other events, of random energies at random places, added to a normal one."""
    own, count = inputs.jets, len(events)
    made = events.astype(np.float32)
    first = _planes(made, inputs.kinds)[..., 0]
    sides, event = first.shape[1:], np.arange(count)[:, None, None]
    above = np.maximum(first - inputs.mean, 0)
    peaks = above.reshape(count, -1)
    energy = own.energy or (3 * inputs.spread, 3 * max(inputs.largest, 2 * inputs.spread))
    # Hard jets look unlike bumps of the pile-up that are scaled up: they are taken more often.
    chance = np.cumsum(peaks.max(1) + 1e-6)
    number = random.integers(own.number[0], own.number[1] + 1, count)
    window = np.arange(own.width) - own.width // 2
    for jet in range(own.number[1]):
        source = np.searchsorted(chance, random.random(count) * chance[-1])
        peak = np.unravel_index(peaks[source].argmax(1), sides)
        place = [random.integers(0, side, count) for side in sides]
        (rows, columns), inside = _window_at(peak, window, sides, inputs.ring)
        cut = above[source[:, None, None], rows, columns] * inside
        scale = _between_logs(random, energy, count) / np.maximum(cut.sum((1, 2)), 1e-6)
        cut *= (scale * (number > jet))[:, None, None]
        (rows, columns), inside = _window_at(place, window, sides, inputs.ring)
        np.add.at(first, (event, rows, columns), cut * inside)
    return inputs.round(made)


def soft(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """Wide blobs added to a normal event: deposits of one value, a Poisson number in each input."""
    own, count = inputs.soft, len(events)
    made = events.astype(np.float32)
    first = _planes(made, inputs.kinds)[..., 0]
    usual = max(float(np.sum(inputs.mean)), 20 * inputs.spread)
    energy = own.energy or (10 * inputs.spread, usual)
    deposit = own.deposit or (max(inputs.spread / 4, inputs.grid.lsb), inputs.spread)
    number = random.integers(own.number[0], own.number[1] + 1, count)
    for blob in range(own.number[1]):
        profile = np.ones((count, 1, 1))
        for axis, side in enumerate(first.shape[1:]):
            apart = np.abs(np.arange(side) - random.integers(0, side, count)[:, None])
            if inputs.ring and axis == 0:
                apart = np.minimum(apart, side - apart)
            width = _between_logs(random, own.width, count)
            shape = np.exp(-0.5 * np.square(apart / width[:, None]))
            profile = profile * np.expand_dims(shape, 2 - axis)
        profile /= profile.sum((1, 2), keepdims=True)
        value = _between_logs(random, deposit, count)
        deposits = _between_logs(random, energy, count) / value * (number > blob)
        first += random.poisson(deposits[:, None, None] * profile) * value[:, None, None]
    return inputs.round(made)


def turn(events: Events, random: np.random.Generator, inputs: InputRange) -> Events:
    """A normal event with its columns mirrored in half of the cases, its rows turned if a ring."""
    planes = _planes(events, inputs.kinds)
    rows, columns = (np.tile(np.arange(side), (len(events), 1)) for side in planes.shape[1:3])
    if inputs.ring:
        rows = (rows + random.integers(0, rows.shape[1], len(events))[:, None]) % rows.shape[1]
    mirrored = (random.random(len(events)) < 0.5)[:, None]
    columns = np.where(mirrored, columns[:, ::-1], columns)
    event = np.arange(len(events))[:, None, None]
    return planes[event, rows[:, :, None], columns[:, None, :]].reshape(events.shape)


def _between_logs(
    random: np.random.Generator, limits: tuple[float, float], count: int
) -> np.ndarray:  # type: ignore[type-arg]
    """Numbers (count,), even on a logarithmic scale."""
    return np.exp(random.uniform(np.log(limits[0]), np.log(limits[1]), count))


def _window_at(
    middle: Sequence[np.ndarray],  # type: ignore[type-arg]
    window: np.ndarray,  # type: ignore[type-arg]
    sides: Sequence[int],
    ring: bool,
) -> tuple[list[np.ndarray], np.ndarray]:  # type: ignore[type-arg]
    """Rows (N, w, 1) and columns (N, 1, w) of windows around middles, and which are inside."""
    places: list[np.ndarray] = []  # type: ignore[type-arg]
    inside = np.array(True)
    for axis, (centre, side) in enumerate(zip(middle, sides, strict=True)):
        place = np.expand_dims(np.asarray(centre)[:, None] + window, 2 - axis)
        inside = inside & ((place >= 0) & (place < side) | (ring and axis == 0))
        places.append(place % side)
    return places, inside


def _planes(events: np.ndarray, kinds: int) -> np.ndarray:  # type: ignore[type-arg]
    """Events as (N, rows, columns, kinds of inputs), the same memory."""
    rows, columns = _plane(events.shape[1:])
    return events.reshape(len(events), rows, columns // kinds, kinds)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """An event as rows and columns: an image, or one row."""
    size = int(np.prod(shape))
    return (shape[0], size // shape[0]) if len(shape) > 1 else (1, size)


def _window(shape: tuple[int, ...], random: np.random.Generator, largest: int) -> list[slice]:
    sides = [int(random.integers(1, min(largest, side) + 1)) for side in shape]
    room = [side - own for side, own in zip(shape, sides, strict=True)]
    starts = [int(random.integers(0, left + 1)) for left in room]
    return [slice(start, start + own) for start, own in zip(starts, sides, strict=True)]


EXPOSURES: dict[str, Callable[[Events, np.random.Generator, InputRange], Events]] = {
    own.__name__: own for own in (noise, shuffle, patch, warp, pieces, jets, soft, turn)
}
Mixer = Callable[[Events, np.random.Generator], Events]


def mixer(
    kinds: Sequence[str], ratio: float, dataset: Dataset, recipe: Distillation | None = None
) -> Mixer:
    """A function that makes `ratio` events per normal one, evenly of all `kinds` of exposure."""
    if "dataset" in kinds and dataset.exposure is None:
        reason = dataset.description.get("exposure", "this source has no other data set")
        raise UserError(
            f"distillation.exposure 'dataset': {reason}; use noise, shuffle or patch, or give "
            "data.exposure where the source takes it"
        )

    @cache  # what is not needed is not read
    def inputs() -> InputRange:
        return measure_inputs(dataset, recipe or Distillation())

    @cache
    def others() -> Events:
        assert dataset.exposure is not None
        return dataset.exposure.events(1 << 16)

    def make(events: Events, random: np.random.Generator) -> Events:
        parts = [events[:0]]
        for position, kind in enumerate(kinds):
            # Whole events per kind that add up to ratio * batch.
            total = round(len(events) * ratio)
            count = (position + 1) * total // len(kinds) - position * total // len(kinds)
            if kind == "dataset":
                parts.append(others()[random.integers(0, len(others()), count)])
            else:
                picked = events[random.integers(0, len(events), count)]
                parts.append(EXPOSURES[kind](picked, random, inputs()) if count else picked)
        return np.concatenate(parts)

    return make


Batch = tuple[Events, ...]

_VALIDATION = 1 << 30  # as an epoch's number: validation exposure is the same in every epoch
_VALIDATION_EVENTS = 20_000
_AGAINST = 0xC7  # random stream of the events that a classifier tells from normal ones
AT_ONCE = 256  # events in a forward pass that is no step: more do not fit a cache
_AHEAD = 4  # batches that are made while the networks learn


class Batches:
    """Batches of normal events, their exposure, and events of the kinds `against`, one a normal.

    All random follows from (seed, epoch, step).
    """

    def __init__(
        self, dataset: Dataset, recipe: Distillation, seed: int, against: Sequence[str] = ()
    ) -> None:
        self.dataset, self.batch, self.seed = dataset, recipe.batch, seed
        self.mixer = mixer(recipe.exposure, recipe.exposure_ratio, dataset, recipe)
        self.against = mixer(against, 1.0, dataset, recipe)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset.train) // self.batch)

    def exposed(self, chunks: Iterable[Events], epoch: int) -> Iterator[Batch]:
        """Chunks of normal events with the other events of an epoch's steps."""
        for step, events in enumerate(chunks):
            place = [self.seed, epoch, step]
            exposure = self.mixer(events, np.random.default_rng(place))
            made = self.against(events, np.random.default_rng([*place, _AGAINST]))
            yield events, exposure, made

    def training(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: events, exposure, made events, each (batch, \\*shape)."""
        batches = self.exposed(self.dataset.train.shuffled(self.batch, self.seed, epoch), epoch)
        with ThreadPoolExecutor(1) as thread:
            waiting = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, batches, None))
                yield batch

    def validation(self) -> list[Batch]:
        """Validation normals with other events that never change."""
        chunks = self.dataset.val.chunks(1024, _VALIDATION_EVENTS)
        return list(self.exposed(chunks, _VALIDATION))
