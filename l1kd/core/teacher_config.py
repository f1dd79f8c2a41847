"""Settings of teachers, and of the events that are made of normal ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from l1kd.core.config_types import Float, Int, ModelPath, OneOf, Range, Strict

Exposure = Annotated[str, OneOf("distillation.exposure")]
Made = Annotated[str, OneOf("distillation.exposure", but=("dataset",))]
_CLOSED_FORM = ("pca", "mahalanobis")

_Number = Annotated[Int, Field(ge=1, le=64)]
_Energy = Annotated[Float, Field(gt=0, le=1e9)]
_Width = Annotated[Float, Field(gt=0, le=64)]


class Jets(Strict):
    """Deposits cut out of other normal events, their mean taken off, and added to a normal one."""

    number: Range[_Number] = (1, 6)
    """Jets of an event, drawn evenly."""
    energy: Range[_Energy] | None = None
    """Sum of a jet's inputs, drawn evenly on a logarithmic scale; null: from 3 times the inputs'
    spread to 3 times the largest input."""
    width: Annotated[Int, Field(ge=1, le=15)] = 3
    """Sides of the window that is cut out around the highest input, odd."""

    @model_validator(mode="after")
    def _with_a_middle(self) -> Jets:
        if self.width % 2 == 0:
            raise ValueError("'width' is odd: a window has its middle at the highest input")
        return self


class Soft(Strict):
    """Wide blobs of many small deposits, added to a normal event."""

    number: Range[_Number] = (1, 3)
    """Blobs of an event, drawn evenly."""
    energy: Range[_Energy] | None = None
    """Sum of a blob's inputs, drawn evenly on a logarithmic scale; null: from 10 times the inputs'
    spread to the sum of a mean normal event."""
    width: Range[_Width] = (1.0, 6.0)
    """Standard deviation of a blob in inputs, drawn evenly on a logarithmic scale for each side."""
    deposit: Range[_Energy] | None = None
    """Value of one deposit, drawn likewise for each blob; null: from a quarter of the inputs'
    spread to the spread."""


def from_file(value: Any) -> Any:
    """A network's settings, their architecture `file` where a file is given."""
    if isinstance(value, dict) and value.get("file") and "architecture" not in value:
        return {**value, "architecture": "file"}
    return value


_Network = TypeVar("_Network", bound=Strict)


def nothing_else(network: _Network, allowed: tuple[str, ...]) -> _Network:
    """Refuse settings of an architecture beside a file, which has its own."""
    own: Any = network
    if (own.architecture == "file") != (own.file is not None):
        raise ValueError("'file' takes the place of 'architecture': give one of them")
    for key, field in type(network).model_fields.items() if own.file else ():
        changed = getattr(own, key) != field.get_default(call_default_factory=True)
        if changed and key not in ("name", "architecture", "file", *allowed):
            raise ValueError(f"{key!r} is of an architecture; a file has its own")
    return network


class TeacherNetwork(Strict):
    """A teacher, or a member of an ensemble."""

    architecture: Annotated[str, OneOf("teacher.architecture", but=("ensemble", "file"))]
    """Layers of the teacher: `l1kd list teachers`."""
    latent: Annotated[Int, Field(ge=1, le=4096)] = 20
    """Numbers in the latent space of an autoencoder."""
    hidden: list[Annotated[Int, Field(ge=1, le=4096)]] = [128, 64]
    """Units of the encoder's layers, mirrored in the decoder, of `dense`; of the dense layers of
    `contrast`."""
    filters: list[Annotated[Int, Field(ge=1, le=512)]] = [16]
    """Filters of the convolutions 3 x 3 before them; `contrast` only, and images only."""
    against: Annotated[list[Made], Field(min_length=1)] = ["jets", "soft"]
    """Kinds of events, made of normal ones, that the classifier learns to tell from them;
    `contrast` only."""
    square_root: Annotated[Float, Field(ge=0, le=1e6)] | None = None
    """Inputs are counts, and the teacher sees sqrt(x + this), whose spread hardly depends on
    pile-up; null: it sees them as they are."""
    standardise: bool = False
    """Each input is shifted and scaled to mean 0 and spread 1 of the training normals."""
    residual_power: Annotated[Float, Field(gt=0, le=16)] = 2.0
    """Power of the residual that the score is the mean of; 2: the mean square."""
    residual_scale: Annotated[Float, Field(ge=-4, le=4)] = 0.0
    """Weight of each input in the score: its standard deviation over training normals to this
    power; 0: all alike."""
    components: Annotated[Int, Field(ge=1, le=2048)] = 1
    """Principal components that are kept; `pca` only."""

    @property
    def closed_form(self) -> bool:
        """Fitted, not trained: `square_root` and `components` apply, nothing else does."""
        return self.architecture in _CLOSED_FORM


class Teacher(TeacherNetwork):
    """The float network that says how abnormal an event is."""

    architecture: Annotated[str, OneOf("teacher.architecture")]
    """Layers of the teacher: `l1kd list teachers`."""
    file: ModelPath | None = None
    """A trained Keras network of yours, .keras or .h5, in place of an architecture: events to
    events (the score is its residual) or to a score. It stays as it is."""
    of: list[TeacherNetwork] = []
    """Members of an `ensemble`, each with keys of its own, which learn side by side; of other
    architectures it is dropped."""
    combine: Literal["soft_maximum", "mean"] = "soft_maximum"
    """The score of an `ensemble` out of its members' log scores, median and spread of the normals
    removed."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_ensemble(cls, value: Any) -> Any:
        value = from_file(value)
        # A source's default may be an ensemble, where a file says `architecture: cicada`.
        if isinstance(value, dict) and value.get("architecture") != "ensemble":
            return {key: each for key, each in value.items() if key != "of"}
        return value

    @model_validator(mode="after")
    def _of_several(self) -> Teacher:
        if self.architecture == "ensemble" and len(self.of) < 2:
            raise ValueError("an ensemble needs two members or more, in 'of'")
        return nothing_else(self, ("residual_power", "residual_scale"))

    @property
    def members(self) -> list[TeacherNetwork]:
        """Of an ensemble; else the teacher alone."""
        return self.of or [self]

    @property
    def kinds(self) -> list[Made]:
        """Kinds of events that its classifiers learn to tell from normal ones."""
        every = [
            kind for own in self.members if own.architecture == "contrast" for kind in own.against
        ]
        return list(dict.fromkeys(every))

    @property
    def closed_form(self) -> bool:
        """No member learns."""
        return all(own.architecture in _CLOSED_FORM for own in self.members)

    @property
    def finished(self) -> bool:
        """It does not learn: in closed form, or trained before."""
        return self.closed_form or self.file is not None
