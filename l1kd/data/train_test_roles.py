"""Tables to samples: a seeded split into train, validation and test, signals into halves."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd.core.config import DataSection, Name, Paths, Split
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Block, Dataset, Sample, Signal
from l1kd.data.event_tables import Table, blocks, check_shapes, fits_in_memory


def part_sizes(fractions: Sequence[float], start: int, stop: int) -> list[int]:
    """Number of the events `start` up to `stop` that each part gets.

    Cumulative, so that over consecutive ranges the sizes add up to what the whole would get, and a
    part of n events in all has its fraction of n to within one event.
    """
    sizes, left = [], 1.0
    for fraction in fractions[:-1]:
        share = fraction / left
        before, after = math.floor(start * share + 0.5), math.floor(stop * share + 0.5)
        sizes.append(after - before)
        # What follows divides what is left by the fractions that are left.
        start, stop, left = start - before, stop - after, left - fraction
    return [*sizes, stop - start]


def split(
    whole: Iterable[Block], fractions: Sequence[float], key: tuple[int, ...], in_memory: bool
) -> list[tuple[Block, ...]]:
    """Assign every event to one part, at random inside its block; returns each part's blocks.

    It depends on `key`, the block's number and the number of events alone; parts keep the events'
    order. Parts select anew from the block at every load unless `in_memory`.
    """
    fractions = [fraction / sum(fractions) for fraction in fractions]
    parts: list[list[Block]] = [[] for _ in fractions]
    start = 0
    for number, block in enumerate(whole):
        sizes = part_sizes(fractions, start, start + block.events)
        start += block.events
        edges = np.cumsum([0, *sizes]).tolist()
        for part, low, high in zip(parts, edges[:-1], edges[1:], strict=True):
            if high == low:
                continue
            load = functools.partial(_select, block, (*key, number), low, high)
            part.append(Block.of(load()) if in_memory else Block(high - low, load))
    return [tuple(part) for part in parts]


def _select(block: Block, key: tuple[int, ...], low: int, high: int) -> NDArray[Any]:
    # Drawn again at every load: kept, the choices would grow with the data.
    order = np.random.default_rng(key).permutation(block.events)
    events = block.load()[np.sort(order[low:high])]
    events.flags.writeable = False  # chunks may be views of it
    return events


# Different parts of a data set draw from different random streams of one seed.
_BACKGROUND, _SIGNAL = 0xB6, 0x51
_SIGNALS = "signals."
_RESERVED = ("train", "val", "test", "all")


class RolesSection(DataSection):
    """The section `data` of a source whose files are given by role."""

    background: Annotated[Paths, Field(min_length=1)]  # normal; split if no `test` is given
    test: Paths = Field([])
    signals: dict[Name, Annotated[Paths, Field(min_length=1)]] = Field({})
    exposure: Paths = Field([])  # training events of another data set
    split: Split = (0.5, 0.1, 0.4)  # train, validation, test

    def paths(self) -> dict[str, list[str]]:
        """Files by role: `background`, ..., `signals.<name>`; none is empty."""
        for name in self.signals:
            _check_name(name)
        roles = {
            "background": self.background,
            "test": self.test,
            "exposure": self.exposure,
            **{f"{_SIGNALS}{name}": paths for name, paths in self.signals.items()},
        }
        return {role: paths for role, paths in roles.items() if paths}


def assemble(
    tables: Mapping[str, Table],
    fractions: tuple[float, float, float],
    seed: int,
    grid: FixedPoint,
    standardise_axes: tuple[int, ...],
    description: Mapping[str, Any],
) -> Dataset:
    """Read, check and split the tables, by role as `RolesSection.paths` names them."""
    # Blocks are read in this order, whatever the order of the files.
    roles = ("background", "test", "exposure", *(r for r in tables if r.startswith(_SIGNALS)))
    tables = {role: tables[role] for role in roles if role in tables}
    background, shape = tables["background"], tables["background"].shape
    check_shapes(tables.values())
    in_memory = fits_in_memory(tables.values())
    given = fractions[:2] if "test" in tables else fractions
    parts = split(blocks(background, in_memory), given, (seed, _BACKGROUND), in_memory)
    if "test" in tables:
        parts.append(tuple(blocks(tables["test"], in_memory)))
    samples = {
        name: Sample(name, shape, part)
        for name, part in zip(("train", "val", "test"), parts, strict=True)
    }
    check_sizes(samples, {name: tables.get(name, background).name for name in samples})
    signals = {
        name: halves(name, table, seed, in_memory)
        for role, table in tables.items()
        if (name := role.removeprefix(_SIGNALS)) != role
    }
    exposure = None
    if "exposure" in tables:
        exposure = Sample("exposure", shape, tuple(blocks(tables["exposure"], in_memory)))
        if len(exposure) < 1:
            raise UserError(f"{tables['exposure'].name}: no event is left for the exposure")
    return Dataset(
        train=samples["train"],
        val=samples["val"],
        test=samples["test"],
        signals=signals,
        grid=grid,
        exposure=exposure,
        standardise_axes=standardise_axes,
        description=description,
        files=tuple(dict.fromkeys(str(file) for table in tables.values() for file in table.files)),
    )


def check_overlap(roles: Mapping[str, Sequence[tuple[Hashable, str]]]) -> None:
    """Refuse events that stand in two roles: who trains on an event cannot be judged by it.

    Each role's parts are (what identifies a file or array, its name); signals may share events.
    """
    seen: dict[Hashable, str] = {}
    for role, parts in roles.items():
        for identity, name in parts:
            before = seen.get(identity)
            seen[identity] = role
            if before == role:
                raise UserError(f"{name} stands twice in data.{role}; name it once")
            if before and not (before.startswith(_SIGNALS) and role.startswith(_SIGNALS)):
                raise UserError(
                    f"{name} stands in data.{before} and in data.{role}; events that are trained "
                    "on cannot judge: give it one role"
                )


def check_sizes(samples: Mapping[str, Sample], source: Mapping[str, str]) -> None:
    """Refuse samples too small to say anything: fewer than two events."""
    for name, sample in samples.items():
        if len(sample) < 2:
            found = {0: "no event", 1: "one event"}[len(sample)]
            raise UserError(
                f"{source[name]}: {found} left for {name!r}, at least 2 are needed; "
                "give more events or change data.split"
            )


def halves(name: str, table: Table, seed: int, in_memory: bool) -> Signal:
    """A signal's events, one random half to choose with and one to judge with."""
    _check_name(name)
    val, test = split(blocks(table, in_memory), [0.5, 0.5], (seed, _SIGNAL), in_memory)
    signal = Signal(Sample(name, table.shape, val), Sample(name, table.shape, test))
    if min(len(signal.val), len(signal.test)) < 1:
        raise UserError(
            f"{table.name}: {len(signal.val) + len(signal.test)} events of the signal {name!r}, "
            "at least 2 are needed: one to choose a student with, one to judge it"
        )
    return signal


def _check_name(signal: str) -> None:
    if signal.lower() in _RESERVED:
        raise UserError(
            f"data.signals: no signal can be named {signal!r}, a sample of every run is; "
            "choose another name"
        )
