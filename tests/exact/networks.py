"""Exact networks of every kind of layer, written down by hand or at random: no framework."""

from __future__ import annotations

from typing import Any

import numpy as np

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact import layers as graph
from l1kd.exact.network import Network


def integers(random: np.random.Generator, shape: tuple[int, ...], bits: int) -> Any:
    """Weights of `bits` bits, a third of them zero."""
    values = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    return np.where(random.random(shape) < 1 / 3, 0, values).astype(np.int64)


def everything(seed: int = 0, weight_bits: int = 5) -> Network:
    """Every kind of node: convolutions, pools, padding, a branch, merges, a hard sigmoid."""
    random = np.random.default_rng(seed)

    def node(kind: Any, name: str, sources: tuple[str, ...], shape: Any, **more: Any) -> Any:
        return kind(name=name, sources=sources, shape=shape, **more)

    def weights(*shape: int) -> dict[str, Any]:
        return {
            "kernel": integers(random, shape, weight_bits),
            "kernel_fraction": 3,
            "bias": integers(random, shape[-1:], weight_bits),
            "bias_fraction": int(random.integers(0, 8)),
        }

    relu, signed = FixedPoint(6, 3, False), FixedPoint(7, 3)
    same = ((1, 1), (0, 1))
    return Network(
        "everything",
        (
            node(graph.Input, "in", (), (6, 5, 2), type=FixedPoint(5, 3)),
            node(graph.Quantize, "port", ("in",), (6, 5, 2), type=FixedPoint(5, 3)),
            node(
                graph.Conv,
                "a",
                ("port",),
                (6, 5, 3),
                **weights(3, 2, 2, 3),
                strides=(1, 1),
                padding=same,
            ),
            node(graph.Quantize, "aq", ("a",), (6, 5, 3), type=relu),
            node(graph.Pad, "wide", ("port",), (8, 7, 2), padding=((1, 1), (2, 0))),
            node(
                graph.Conv,
                "b",
                ("wide",),
                (6, 5, 3),
                **weights(2, 2, 2, 3),
                strides=(1, 1),
                dilation=(2, 2),
            ),
            node(graph.Quantize, "bq", ("b",), (6, 5, 3), type=signed),
            node(graph.Merge, "sum", ("aq", "bq"), (6, 5, 3), operation="add"),
            node(graph.Merge, "less", ("sum", "bq"), (6, 5, 3), operation="subtract"),
            node(graph.Merge, "most", ("less", "aq"), (6, 5, 3), operation="maximum"),
            node(graph.Merge, "both", ("most", "bq"), (6, 5, 6), operation="concatenate"),
            node(graph.Quantize, "cq", ("both",), (6, 5, 6), type=FixedPoint(6, 4)),
            node(
                graph.Pool,
                "mean",
                ("cq",),
                (3, 2, 6),
                operation="average",
                window=(2, 2),
                strides=(2, 2),
            ),
            node(graph.Quantize, "mq", ("mean",), (3, 2, 6), type=signed),
            node(
                graph.Pool,
                "top",
                ("mq",),
                (2, 1, 6),
                operation="max",
                window=(2, 2),
                strides=(1, 1),
            ),
            node(
                graph.Quantize,
                "half",
                ("top",),
                (2, 1, 6),
                type=FixedPoint(5, 0, False),
                halved=True,
            ),
            node(graph.Reshape, "flat", ("half",), (12,)),
            node(graph.Dense, "d", ("flat",), (3,), **weights(12, 3)),
            node(graph.Quantize, "out", ("d",), (3,), type=FixedPoint(8, 2)),
        ),
        ("out",),
    )


def chain(
    kernel: Any, kind: FixedPoint, output: FixedPoint, *, bias: Any = None, fraction: int = 0
) -> Network:
    """One matrix between a port and a quantizer."""
    kernel = np.asarray(kernel, np.int64)
    size, units = kernel.shape
    bias = np.zeros(units, np.int64) if bias is None else np.asarray(bias, np.int64)
    return Network(
        "chain",
        (
            graph.Input(name="in", sources=(), shape=(size,), type=kind),
            graph.Dense(
                name="d",
                sources=("in",),
                shape=(units,),
                kernel=kernel,
                kernel_fraction=fraction,
                bias=bias,
                bias_fraction=0,
            ),
            graph.Quantize(name="out", sources=("d",), shape=(units,), type=output),
        ),
        ("out",),
    )


def events_of(network: Network, count: int, seed: int = 1) -> Any:
    """Events on a network's port: full range, small, and sparse."""
    random = np.random.default_rng(seed)
    low, high = network.port.bounds
    size = (count, *network.shape)
    counts = random.integers(low, high, size, endpoint=True)
    counts = np.where(
        random.random(size) < random.random((count, *(1,) * len(network.shape))), counts, 0
    )
    counts = np.clip(counts, low, high)
    return counts * network.port.lsb
