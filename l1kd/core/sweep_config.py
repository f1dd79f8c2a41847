"""The sections `sweep` (grids of runs) and `search` (space, objectives) of a configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from l1kd.core.config_types import STRICT, Bits, Float, Int, Name, Share, Sides, Size
from l1kd.core.stages import Stage

LIMIT = 10_000  # runs of a sweep
# A run is named by the sweep, and is no sweep and no search itself.
_OWN = ("name", "search", "sweep")

Place = tuple[str | int, ...]  # of a value in a configuration


class Setting(NamedTuple):
    """A value that a point lays over the configuration."""

    key: Place  # where in the run's configuration
    value: Any  # as YAML has it
    origin: Place  # where in the sweep's configuration it is said


@dataclass(frozen=True)
class Point:
    """A run of a grid."""

    group: str  # its group
    # all that it lays over the configuration; a grid's after its group's `set`
    settings: tuple[Setting, ...]
    varied: dict[str, Any]  # the grid's values by dotted key, in the grid's order


class Group(BaseModel):
    """Runs that have something in common: every combination of the grid's lists."""

    model_config = STRICT

    # Both are trees like the configuration's own: {distillation: {batch: 100}}, and
    # {data: {normal: [0, 1]}} with a list of values where the configuration has one.
    set: dict[str, Any] = {}
    grid: dict[str, Any] = {}

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


class Sweep(BaseModel):
    """Runs of `l1kd sweep`."""

    model_config = STRICT

    until: Stage = "verify"  # the last stage of every run
    groups: Annotated[dict[Name, Group], Field(min_length=1)]

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


Objective = Literal["auc", "efficiency", "lut", "latency"]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("a range is [lowest, highest]")
    return value


Sizes = Annotated[tuple[Size, Size], AfterValidator(_rising)]
Widths = Annotated[tuple[Bits, Bits], AfterValidator(_rising)]
_Layers = Annotated[Int, Field(ge=0, le=4)]
_Penalty = Annotated[Float, Field(gt=0, le=1000)]


class Space(BaseModel):
    """Space of students. A pair is a range; equal ends, or one choice, fix a value."""

    model_config = STRICT

    architectures: Annotated[list[Literal["conv", "dense"]], Field(min_length=1)] = ["conv"]
    filters: Sizes = (1, 6)
    kernels: Annotated[list[Sides], Field(min_length=1)] = [(2, 2), (3, 2), (3, 3)]
    hidden_layers: Annotated[tuple[_Layers, _Layers], AfterValidator(_rising)] = (0, 1)
    hidden: Sizes = (2, 20)  # units of each
    # The next three are drawn for every layer on its own.
    weight_bits: Widths = (3, 8)
    weight_integer: Widths = (1, 2)
    activation_bits: Widths = (7, 10)
    # Of the first dense layer, which has nearly all weights.
    sparsity: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.0, 0.9)
    logic_penalty: Annotated[tuple[_Penalty, _Penalty], AfterValidator(_rising)] = (1e-3, 0.3)


class Search(BaseModel):
    """Search of `l1kd search`: students of a space, judged by quality and cost."""

    model_config = STRICT

    trials: Annotated[Int, Field(ge=1, le=100_000)] = 60
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = None  # of the proposals; null: the run's
    # Means over the signals' validation halves, LUT estimate, latency in cycles.
    objectives: Annotated[list[Objective], Field(min_length=1)] = list(get_args(Objective))
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 12  # of every candidate
    exposures: Annotated[Int, Field(ge=1, le=100)] = 2  # draws of exposure, used in turn
    events: Annotated[Int, Field(ge=2)] = 50_000  # normal events to train on, at most
    space: Space = Space()
