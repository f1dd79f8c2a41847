"""Which quantizers are inside, which of their values are looked at, and what is aimed at."""

from __future__ import annotations

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Quantize
from l1kd.firmware.stimuli.corner_inputs import Search, hits, inner, mixed
from tests.firmware.stimuli.test_corner_inputs import RELU, dense, image, layered, linear, quantize

PORT = FixedPoint(6, 6)


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (FixedPoint(6, 6), ["score"]),  # the port's own type
        (FixedPoint(9, 7), ["score"]),  # all of the port's values are its own
        (FixedPoint(5, 5), ["first", "score"]),
        (FixedPoint(6, 6, False), ["first", "score"]),
        (FixedPoint(6, 7), ["first", "score"]),
    ],
)
def test_a_quantizer_that_sees_the_port_s_values_and_keeps_them_is_no_inner_one(
    first: FixedPoint, names: list[str]
) -> None:
    network = layered(
        PORT,
        (4,),
        quantize("first", "in", (4,), first),
        dense("d", "first", np.ones((4, 2)), 1),
        quantize("score", "d", (2,), RELU),
    )
    assert [node.name for node in inner(network)] == names


def test_of_many_units_every_channel_has_its_share() -> None:
    network = image(PORT, filters=5)
    search = Search(network, np.random.default_rng(0))
    conv = network["conv"]
    assert isinstance(conv, Conv)
    assert (search.units(conv, 1000) == np.arange(125)).all()
    units = search.units(conv, 20)
    assert len(np.unique(units)) == 20
    assert (np.bincount(units % 5) == 4).all()


def test_what_is_aimed_at_is_met() -> None:
    network = linear(FixedPoint(8, 8))
    search = Search(network, np.random.default_rng(0))
    pool = mixed(FixedPoint(8, 8), (24,), np.random.default_rng(1), 300)
    node = network["score"]
    assert isinstance(node, Quantize)
    ties, edges = hits(search, node, pool, search.values(pool, ["d"])["d"], 10)
    step, high = 2**8, 2**16 - 2**8
    counts = search.values(ties, ["d"])["d"].astype(np.int64)
    near = np.abs(counts % step - step // 2) <= 1
    assert len(ties) > 30 and near.any(axis=1).all()
    counts = search.values(edges, ["d"])["d"].astype(np.int64)
    ends = np.array([0, step // 2, -step // 2, high, high + step // 2])
    assert len(edges) > 30
    assert (np.abs(counts[..., None] - ends) <= 1).any(axis=(1, 2)).all()
