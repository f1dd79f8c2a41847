"""The grid of a sweep and the space of a search, as a configuration has them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from l1kd.core.config_types import Bits, Float, Int, Name, Range, Share, Sides, Size, Strict
from l1kd.core.stages import Stage

LIMIT = 10_000  # runs of a sweep
# A run is named by the sweep, and is no sweep and no search itself.
_OWN = ("name", "search", "sweep")

Place = tuple[str | int, ...]  # of a value in a configuration


class Setting(NamedTuple):
    """A value that a point of a grid, or `--set`, lays over the configuration."""

    key: Place  # where in the run's configuration
    value: Any  # as YAML has it
    origin: Place = ()  # where in the sweep's configuration it is said; empty: by `--set`


@dataclass(frozen=True)
class Point:
    """A run of a grid."""

    group: str  # its group
    # all that it lays over the configuration; a grid's after its group's `set`
    settings: tuple[Setting, ...]
    varied: dict[str, Any]  # the grid's values by dotted key, in the grid's order


class Group(Strict):
    """Runs that have something in common: every combination of the grid's lists."""

    set: dict[str, Any] = {}
    """Keys of all its runs, a tree like the configuration: {distillation: {batch: 100}}."""
    grid: dict[str, Any] = {}
    """Keys that vary, with a list of values each: {data: {normal: [0, 1]}}."""

    @field_validator("set", "grid")
    @classmethod
    def _of_a_run(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := [key for key in _OWN if key in value]:
            raise ValueError(f"{own[0]!r} is the sweep's own: no run of a grid can set it")
        return value

    @model_validator(mode="after")
    def _a_grid(self) -> Group:
        for key, values in leaves(self.grid):
            dotted = ".".join(map(str, key))
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid: {dotted} needs a list of values")
            if any(value in values[:number] for number, value in enumerate(values)):
                raise ValueError(f"grid: {dotted} lists a value twice")
            if any(key[: len(chosen)] == chosen for chosen, _ in leaves(self.set)):
                raise ValueError(f"{dotted} is in `set` and in `grid`")
        return self

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(len(values) for _, values in leaves(self.grid))

    def points(self, name: str) -> Iterator[Point]:
        """Every combination of the grid's lists, the last one varying fastest."""
        at = ("sweep", "groups", name)
        common = [Setting(key, value, (*at, "set", *key)) for key, value in leaves(self.set)]
        axes = [
            [Setting(key, each, (*at, "grid", *key, number)) for number, each in enumerate(values)]
            for key, values in leaves(self.grid)
        ]
        for chosen in itertools.product(*axes):
            varied = {".".join(map(str, setting.key)): setting.value for setting in chosen}
            yield Point(name, (*common, *chosen), varied)


class Sweep(Strict):
    """Runs of `l1kd sweep`."""

    until: Stage = "verify"
    """Last stage of every run."""
    groups: Annotated[dict[Name, Group], Field(min_length=1)]
    """Groups of runs by name."""

    @model_validator(mode="after")
    def _finite(self) -> Sweep:
        if (runs := sum(group.size for group in self.groups.values())) > LIMIT:
            raise ValueError(f"{runs} runs are more than a sweep has ({LIMIT})")
        return self

    def points(self) -> list[Point]:
        """All points, group by group."""
        return [point for name, group in self.groups.items() for point in group.points(name)]


def leaves(tree: dict[str, Any], above: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Places and values of a tree of mappings."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def differences(*trees: dict[str, Any]) -> dict[str, list[Any]]:
    """Values, tree by tree, of the dotted keys in which trees differ; None where there is none."""
    flat = [{".".join(map(str, key)): value for key, value in leaves(tree)} for tree in trees]
    every = {key: [each.get(key) for each in flat] for each in flat for key in each}
    return {key: values for key, values in every.items() if values.count(values[0]) < len(values)}


Objective = Literal["auc", "efficiency", "band", "lut", "latency"]


class Space(Strict):
    """Space of students. A pair is a range; equal ends, or one choice, fix a value."""

    architectures: Annotated[list[Literal["conv", "dense", "set"]], Field(min_length=1)] = ["conv"]
    """Architectures to choose from."""
    filters: Range[Size] = (1, 6)
    """Filters of the convolution."""
    pointwise: Range[Annotated[Int, Field(ge=0, le=64)]] = (0, 0)
    """Filters of the second convolution of `set`; 0: none."""
    kernels: Annotated[list[Sides], Field(min_length=1)] = [(2, 2), (3, 2), (3, 3)]
    """Kernels to choose from; the stride is the same."""
    hidden_layers: Range[Annotated[Int, Field(ge=0, le=4)]] = (0, 1)
    """Dense layers before the output."""
    hidden: Range[Size] = (2, 20)
    """Units of each of them."""
    weight_bits: Range[Bits] = (3, 8)
    """Bits of weights, drawn for every layer by itself, as the next two."""
    weight_integer: Range[Bits] = (1, 2)
    """Bits of weights left of the binary point, with the sign."""
    activation_bits: Range[Bits] = (7, 10)
    """Bits of activations."""
    sparsity: Range[Share] = (0.0, 0.9)
    """Share of zero weights of the first dense layer, which has nearly all weights."""
    logic_penalty: Range[Annotated[Float, Field(gt=0, le=1000)]] = (1e-3, 0.3)
    """Weight in the loss of the adders that the weights need; drawn on a logarithmic scale."""


class Search(Strict):
    """Search of `l1kd search`: students of a space, judged by quality and cost."""

    trials: Annotated[Int, Field(ge=1, le=100_000)] = 60
    """Candidates that are trained, in all."""
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = None
    """Seed of the proposals; null: the configuration's."""
    objectives: Annotated[list[Objective], Field(min_length=1)] = [
        "auc",
        "efficiency",
        "lut",
        "latency",
    ]
    """Goals of the front: means over the signals' validation halves, LUT estimate, latency in
    cycles."""
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 12
    """Epochs of every candidate, the teacher frozen."""
    exposures: Annotated[Int, Field(ge=1, le=100)] = 2
    """Draws of exposure, used in turn."""
    events: Annotated[Int, Field(ge=2)] = 50_000
    """Normal events to train on, at most."""
    space: Space = Space()
    """Students to choose from."""
