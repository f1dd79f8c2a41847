"""Samples hand out all their events, in orders that depend on nothing but what they should."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables
from l1kd.data.dataset import Block, Sample
from l1kd.data.event_tables import (
    Table,
    TemporaryEvents,
    assemble,
    concatenate,
    part_sizes,
    pieces,
    split,
    window,
)

GRID = FixedPoint(20, 20)
SHAPE = (2, 3)


def assembled(background, signals=(), seed=1, **others):
    tables = {"background": background, **others}
    tables |= {f"signals.{name}": table for name, table in dict(signals).items()}
    rows = {role: [table] for role, table in tables.items()}
    return assemble(rows, seed, GRID, {}, (0.5, 0.1, 0.4))


def numbered(events, first=0):
    """Events that can be told apart: every value of event i is i."""
    return np.repeat(np.arange(first, first + events, dtype=np.int32), 6).reshape(-1, *SHAPE)


def of_blocks(sizes, fresh=False):
    """A sample of blocks of these sizes; `fresh` ones are made at every load, as from a disk."""
    starts = np.cumsum([0, *sizes]).tolist()
    parts = []
    for size, start in zip(sizes, starts, strict=False):
        kept = numbered(size, start)
        parts.append(
            Block(size, (lambda n=size, s=start: numbered(n, s)) if fresh else (lambda a=kept: a))
        )
    return Sample("train", SHAPE, tuple(parts))


def table(events, first=0, name="table"):
    data = numbered(events, first)
    key = f"{first}:{events}"  # no two are of the same events
    return Table(name, Path(), key, events, SHAPE, data.dtype, lambda a, b: data[a:b].copy())


def identities(chunks):
    return [int(event.flat[0]) for chunk in chunks for event in chunk]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 9), max_size=5), size=st.integers(1, 12))
def test_chunks_are_the_events_in_order(sizes, size):
    sample = of_blocks(sizes)
    chunks = list(sample.chunks(size))
    assert identities(chunks) == list(range(sum(sizes)))
    assert all(chunk.dtype == np.float32 and chunk.shape[1:] == SHAPE for chunk in chunks)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    np.testing.assert_array_equal(sample.events(), numbered(sum(sizes)).astype(np.float32))
    assert len(sample) == sum(sizes)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=5),
    size=st.integers(1, 12),
    limit=st.integers(0, 60),
)
def test_a_limit_gives_the_first_events(sizes, size, limit):
    sample = of_blocks(sizes)
    first = list(range(min(limit, sum(sizes))))
    assert identities(sample.chunks(size, limit)) == first
    assert identities([sample.events(limit)]) == first


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=5),
    size=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 1000),
)
def test_shuffled_is_a_permutation_that_seed_and_epoch_decide(sizes, size, seed, epoch):
    chunks = list(of_blocks(sizes).shuffled(size, seed, epoch))
    order = identities(chunks)
    assert sorted(order) == list(range(sum(sizes)))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    # Again, with other chunks, and from blocks that are read anew each time: the same order.
    assert order == identities(of_blocks(sizes).shuffled(size + 3, seed, epoch))
    assert order == identities(of_blocks(sizes, fresh=True).shuffled(size, seed, epoch))


def test_epochs_and_seeds_differ():
    sample = of_blocks([50, 50])
    orders = [identities(sample.shuffled(7, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_events_in_memory_cannot_be_overwritten():
    events = np.zeros((3, *SHAPE), np.float32)
    chunk = next(Sample.of("train", events).chunks())
    with pytest.raises(ValueError, match="read-only"):
        chunk += 1


@settings(deadline=None)
@given(
    fractions=st.sampled_from([(0.5, 0.1, 0.4), (0.9, 0.05, 0.05), (0.5, 0.5), (1 / 3,) * 3]),
    sizes=st.lists(st.integers(0, 25), max_size=6),
    seed=st.integers(0, 1000),
)
def test_a_split_is_disjoint_complete_and_of_the_right_sizes(fractions, sizes, seed):
    whole = of_blocks(sizes).blocks
    kept, read = (
        split((block.load() for block in whole), fractions, (seed, 1), keep)
        for keep in (Block.of, TemporaryEvents().keep)
    )
    parts = [Sample("part", SHAPE, part) for part in kept]
    for part, other in zip(parts, read, strict=True):
        other = Sample("part", SHAPE, other)
        np.testing.assert_array_equal(part.events(), other.events())
        assert [block.events for block in part.blocks] == [len(b.load()) for b in other.blocks]
    everything = [identity for part in parts for identity in identities([part.events()])]
    assert sorted(everything) == list(range(sum(sizes)))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * sum(sizes)) <= 1


@settings(deadline=None)
@given(
    edges=st.lists(st.integers(0, 300), min_size=2, max_size=6).map(sorted),
    fractions=st.sampled_from([(0.5, 0.1, 0.4), (0.8, 0.2), (0.01, 0.01, 0.98)]),
)
def test_sizes_of_ranges_add_up(edges, fractions):
    parts = [part_sizes(fractions, low, high) for low, high in itertools.pairwise(edges)]
    assert np.min(parts) >= 0
    assert np.sum(parts, axis=0).tolist() == part_sizes(fractions, edges[0], edges[-1])


def test_a_seed_decides_the_split_and_nothing_else():
    whole = [block.load() for block in of_blocks([40, 40]).blocks]
    one, again, other = (
        identities([Sample("s", SHAPE, split(whole, (0.5, 0.5), key, Block.of)[0]).events()])
        for key in ((1, 1), (1, 1), (2, 1))
    )
    assert one == again != other
    # Blocks do not repeat each other's choices.
    assert [i for i in one if i < 40] != [i - 40 for i in one if i >= 40]


def test_a_split_is_the_same_on_every_machine():
    whole = [block.load() for block in of_blocks([8, 3]).blocks]
    train, rest = split(whole, (0.5, 0.5), (7, 1), Block.of)
    got = [identities([Sample("s", SHAPE, part).events()]) for part in (train, rest)]
    assert got == [[0, 1, 3, 6, 8, 10], [2, 4, 5, 7, 9]]


def test_concatenated_and_cut_tables():
    joined = concatenate([table(5), table(0, 5), table(7, 5), table(1, 12)])
    assert joined.rows == 13
    for start in range(13):
        for stop in range(start, 14):
            np.testing.assert_array_equal(joined.read(start, stop), numbered(stop - start, start))
    cut = window(joined, 3, 9)
    assert cut.rows == 6
    np.testing.assert_array_equal(cut.read(1, 4), numbered(3, 4))
    with pytest.raises(UserError, match=r"shape \(3,\).*one shape"):
        bad = Table("b.h5", Path(), "", 1, (3,), np.dtype(int), lambda a, b: np.zeros((b - a, 3)))
        concatenate([table(2), bad])


@pytest.mark.parametrize("held_out", [False, True])
def test_streamed_and_kept_are_the_same(monkeypatch, held_out):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 100)

    def opened():
        background = concatenate([table(333), table(222, 333)])
        given = {"signals": {"a": table(251, 2000)}, "exposure": table(101, 3000)}
        if held_out:
            given["test"] = table(150, 1000)
        return assembled(background, seed=3, **given)

    kept = opened()
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 1000)
    read = opened()
    pairs = [
        (kept.train, read.train),
        (kept.val, read.val),
        (kept.test, read.test),
        (kept.exposure, read.exposure),
        (kept.signals["a"].val, read.signals["a"].val),
        (kept.signals["a"].test, read.signals["a"].test),
    ]
    for one, other in pairs:
        assert identities(one.shuffled(16, 5, 2)) == identities(other.shuffled(16, 5, 2))
        for a, b in zip(one.chunks(30), other.chunks(30), strict=True):
            np.testing.assert_array_equal(a, b)
    sizes = [len(one) for one, _ in pairs]
    assert sizes == ([463, 92, 150, 101, 126, 125] if held_out else [278, 55, 222, 101, 126, 125])


def test_blocks_are_bounded(monkeypatch):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 10)
    monkeypatch.setattr(event_tables, "BLOCK_VALUES", 30)
    assert [len(part) for part in pieces(table(12))] == [5, 5, 2]
    assert math.prod(SHAPE) * 5 == 30


def test_too_few_events():
    with pytest.raises(UserError, match=r"table: one event left for 'train', at least 2 .*split"):
        assembled(table(2))
    with pytest.raises(UserError, match="one event left for 'val'"):
        assembled(table(10))
    with pytest.raises(UserError, match="no event left for 'test'"):
        assembled(table(100), test=table(0))
    with pytest.raises(UserError, match="1 events of the signal 'a', at least 2"):
        assembled(table(100), signals={"a": table(1)})
    with pytest.raises(UserError, match="for the exposure"):
        assembled(table(100), exposure=table(0))
    two = assembled(table(100), signals={"a": table(2)})
    assert len(two.signals["a"].val) == len(two.signals["a"].test) == 1


@pytest.mark.parametrize("name", ["train", "val", "test", "all", "Train"])
def test_a_signal_is_not_named_like_a_sample(name):
    with pytest.raises(UserError, match="choose another name"):
        assembled(table(100), signals={name: table(9)})


def test_roles_do_not_share_events():
    part, others = replace(table(9), name="x.h5"), table(100, 50)
    given = {"background": [others], "test": [table(9, 200)], "exposure": [table(9, 300)]}

    def opened(tables):
        return assemble(given | tables, 1, GRID, {}, (0.5, 0.1, 0.4))

    with pytest.raises(UserError, match=r"x.h5 stands twice in data.background"):
        opened({"background": [part, part]})
    for one, other in [
        ("background", "test"),
        ("background", "signals.a"),
        ("test", "exposure"),
        ("exposure", "signals.a"),
    ]:
        with pytest.raises(UserError, match=rf"in data\.{one} and in data\.{other}"):
            opened({one: [part], other: [part]})
    opened({"signals.a": [part], "signals.b": [part]})


def test_shapes_agree_across_roles():
    other = Table("b.h5", Path(), "", 9, (3,), np.dtype(int), lambda a, b: np.zeros((b - a, 3)))
    with pytest.raises(UserError, match=r"b.h5: events of shape \(3,\)"):
        assembled(table(100), signals={"a": other})
