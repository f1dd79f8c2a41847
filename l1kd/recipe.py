"""The configuration of a training: how teacher and students learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from l1kd.fields import STRICT, Bits, Float, Int
from l1kd.fixedpoint import FixedPoint

__all__ = ["Distillation", "Phase", "Score"]

Exposure = Literal["dataset", "noise", "shuffle", "patch", "warp", "pieces"]
TargetTransform = Literal["fitted", "paper", "cicada"]


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same networks learn.

    Parameters
    ----------
    name
        For the history.
    first, last
        Epochs, all phases counted; `last` is the next phase's first.
    teacher, students
        Who learns.
    """

    name: str
    first: int
    last: int
    teacher: bool
    students: bool


class Score(BaseModel):
    """The students' output type; that of an imported network may be signed."""

    model_config = STRICT

    word: Bits = 16
    integer: Annotated[Int, Field(ge=0, le=24)] = 8
    signed: bool = False

    @model_validator(mode="after")
    def _has_fraction(self) -> Score:
        # hls4ml loses rounding and saturation of integer-only types.
        if self.integer >= self.word:
            raise ValueError("the score type needs at least one bit right of the binary point")
        return self

    @property
    def type(self) -> FixedPoint:
        """As the type that everything computes with."""
        return FixedPoint(self.word, self.integer, self.signed)


class Distillation(BaseModel):
    """How teacher and students are trained."""

    model_config = STRICT

    mode: Literal["sequential", "colearning"] = "colearning"
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 40
    head_start: Annotated[Int, Field(ge=0, le=100_000)] = 0  # of these, the teacher's alone
    final_epochs: Annotated[Int, Field(ge=0, le=100_000)] = 10  # best teacher frozen
    # Epochs without a better validation loss of any student, the teacher frozen, after which
    # training ends; null: never before the last one.
    patience: Annotated[Int, Field(ge=1, le=100_000)] | None = None
    batch: Annotated[Int, Field(ge=1, le=1_000_000)] = 128
    learning_rate: Annotated[Float, Field(gt=0, le=1)] = 1e-3
    student_learning_rate: Annotated[Float, Field(gt=0, le=1)] = 1e-3
    # Epochs over which the students' rate rises: an untrained teacher's targets are wild.
    warm_up: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    # Between which shares of the students' epochs their `sparsity` rises from 0 to what is asked.
    pruning: tuple[Annotated[Float, Field(ge=0, le=1)], Annotated[Float, Field(ge=0, le=1)]] = (
        0.2,
        0.7,
    )
    exposure: list[Exposure] = []
    exposure_ratio: Annotated[Float, Field(gt=0, le=100)] = 1.0  # exposure events per normal one
    # Draws of exposure against a frozen teacher, each labelled once; epochs take turns.
    draws: Annotated[Int, Field(ge=1, le=1000)] = 4
    # Memory, per step, of a moving average of the students' weights; what is judged and kept is the
    # average. 0: the weights themselves.
    average: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    # The first of the students' epochs, in which nothing of theirs is quantized.
    float_epochs: Annotated[Int, Field(ge=0, le=100_000)] = 0
    # Of what the students miss of the raw score itself, besides of its logarithm: of the tail.
    raw_weight: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    # Of the auxiliary heads that tell the teacher's latent: see `l1kd.distill.features`.
    feature_weight: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    target: TargetTransform = "fitted"
    score: Score = Score()
    tensorboard: bool = False

    @field_validator("exposure")
    @classmethod
    def _unique(cls, value: list[Exposure]) -> list[Exposure]:
        if len(set(value)) < len(value):
            raise ValueError("an exposure is listed twice")
        return value

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Distillation:
        if self.mode == "colearning" and self.head_start >= self.epochs:
            raise ValueError(
                f"'head_start' is {self.head_start} of {self.epochs} 'epochs': students would "
                "never learn with their teacher; use mode: sequential, or fewer"
            )
        if self.mode == "sequential" and self.head_start:
            raise ValueError("'head_start' is for mode: colearning; sequential is all of it")
        learning = sum(phase.last - phase.first for phase in self.phases if phase.students)
        if self.float_epochs >= learning:
            raise ValueError(
                f"'float_epochs' is {self.float_epochs} of the {learning} epochs in which students "
                "learn: they would never be quantized"
            )
        return self

    @field_validator("pruning")
    @classmethod
    def _forward(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("pruning begins before it ends")
        return value

    @property
    def phases(self) -> list[Phase]:
        """What happens when."""
        start, middle = self.head_start, self.epochs
        if self.mode == "sequential":
            return [
                Phase("teacher", 0, middle, teacher=True, students=False),
                Phase("students", middle, 2 * middle, teacher=False, students=True),
            ]
        # Without a last phase of its own the students still need a fixed target to be chosen on.
        last = middle + max(self.final_epochs, 1)
        found = [
            # An untrained teacher's targets are wild.
            Phase("teacher", 0, start, teacher=True, students=False),
            Phase("together", start, middle, teacher=True, students=True),
            Phase("frozen", middle, last, teacher=False, students=True),
        ]
        return found if start else found[1:]
