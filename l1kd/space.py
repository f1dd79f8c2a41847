"""The configuration of `l1kd search`: what it varies, and how candidates are judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from l1kd.fields import STRICT, Bits, Float, Int, Share, Sides, Size

__all__ = ["Objective", "Search", "Space"]

Objective = Literal["auc", "efficiency", "lut", "latency"]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("a range is [lowest, highest]")
    return value


Sizes = Annotated[tuple[Size, Size], AfterValidator(_rising)]
Widths = Annotated[tuple[Bits, Bits], AfterValidator(_rising)]


class Space(BaseModel):
    """What a search may vary. A pair is a range; equal ends, or one choice, fix a value."""

    model_config = STRICT

    architectures: Annotated[list[Literal["conv", "dense"]], Field(min_length=1)] = ["conv"]
    filters: Sizes = (1, 6)
    kernels: Annotated[list[Sides], Field(min_length=1)] = [(2, 2), (3, 2), (3, 3)]
    hidden_layers: Annotated[
        tuple[Annotated[Int, Field(ge=0, le=4)], Annotated[Int, Field(ge=0, le=4)]],
        AfterValidator(_rising),
    ] = (0, 1)
    hidden: Sizes = (2, 20)  # units of each
    # The next three are drawn for every layer on its own.
    weight_bits: Widths = (3, 8)
    weight_integer: Widths = (1, 2)
    activation_bits: Widths = (7, 10)
    # Of the first dense layer, which has nearly all weights.
    sparsity: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.0, 0.9)
    logic_penalty: Annotated[
        tuple[Annotated[Float, Field(gt=0, le=1000)], Annotated[Float, Field(gt=0, le=1000)]],
        AfterValidator(_rising),
    ] = (1e-3, 0.3)


class Search(BaseModel):
    """What `l1kd search` does: students of a space, judged by quality and cost."""

    model_config = STRICT

    trials: Annotated[Int, Field(ge=1, le=100_000)] = 60
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = None  # of the proposals; null: the run's
    # Means over the signals' validation halves, LUT estimate, latency in cycles.
    objectives: Annotated[list[Objective], Field(min_length=1)] = [
        "auc",
        "efficiency",
        "lut",
        "latency",
    ]
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 12  # of every candidate
    exposures: Annotated[Int, Field(ge=1, le=100)] = 2  # draws of exposure, used in turn
    events: Annotated[Int, Field(ge=2)] = 50_000  # normal events to train on, at most
    space: Space = Space()
