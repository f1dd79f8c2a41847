"""The typed configuration; unknown keys are errors, `data.sources` fills `SOURCES`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from l1kd.core.errors import did_you_mean
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.stages import Stage

_T = TypeVar("_T", int, float)
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _no_bool(value: Any) -> Any:
    # YAML's `true` is Python's 1; a number is meant here.
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _absolute(value: str, info: ValidationInfo) -> str:
    """Absolute `path` or `path:key`; a relative one is meant from here, or from beside the file."""
    if not info.context or not value:
        return value
    if "\0" in value:
        raise ValueError("no usable path (there is a null byte in it)")
    try:
        here, there = Path(value).expanduser(), Path(info.context["beside"], value)
        found_here, found_there = (
            Path(str(path).partition(":")[0]).exists() for path in (here, there)
        )
        return str((there if found_there and not found_here else here).absolute())
    except (OSError, RuntimeError) as error:
        # an unknown user's home, a name longer than any file's
        raise ValueError(f"no usable path ({getattr(error, 'strerror', None) or error})") from error


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
EventPath = Annotated[str, AfterValidator(_absolute)]
Paths = Annotated[list[Annotated[EventPath, Field(min_length=1)]], BeforeValidator(_one_or_many)]
Bits = Annotated[Int, Field(ge=1, le=24)]
Size = Annotated[Int, Field(ge=1, le=4096)]
Share = Annotated[Float, Field(ge=0, lt=1)]
Part = Annotated[Float, Field(ge=0, le=1)]
Sides = Annotated[
    tuple[Annotated[Int, Field(ge=1, le=64)], Annotated[Int, Field(ge=1, le=64)]],
    BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value, value]),
]


def _split(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
        raise ValueError("train, validation and test are three positive fractions that add up to 1")
    return value


def _rising(value: tuple[_T, _T]) -> tuple[_T, _T]:
    if value[0] > value[1]:
        raise ValueError("a range is [lowest, highest]")
    return value


Split = Annotated[tuple[Float, Float, Float], AfterValidator(_split)]
Range = Annotated[tuple[_T, _T], AfterValidator(_rising)]

Backend = Literal["Vitis", "Vivado"]  # of hls4ml; `firmware.hls.backends` has an object for each
VendorTool = Literal["vitis", "vivado"]  # the same in lower case, on the command line
IoType = Literal["io_parallel", "io_stream"]
Strategy = Literal["latency", "resource", "distributed_arithmetic"]


class Strict(BaseModel):
    """A section of the configuration: values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _no_other_keys(cls, value: Any) -> Any:
        known, given = list(cls.model_fields), value if isinstance(value, dict) else {}
        errors: list[InitErrorDetails] = []
        for key in map(str, given):
            if key not in known:
                near = did_you_mean(key[:80], known)
                text = f"unknown key{near}; known are {', '.join(known)}"
                said = PydanticCustomError("unknown_key", "{text}", {"text": text})
                errors.append({"type": said, "loc": (key,), "input": key})
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return value


class _Type(Strict):
    """A fixed-point type: bits in all, bits left of the point, sign."""

    word: Bits
    integer: Int
    signed: bool

    @property
    def type(self) -> FixedPoint:
        """As the type that everything computes with."""
        return FixedPoint(self.word, self.integer, self.signed)


class DataSection(Strict):
    """The section `data`; every source has its own subclass, with `source` as a Literal."""

    source: str


@dataclass(frozen=True)
class Source:
    """A source of events: all that l1kd has to know of it."""

    name: str  # as `data.source`
    about: str  # for `l1kd data list`
    section: type[DataSection]
    defaults: dict[str, Any]  # the configuration that suits these events
    port: FixedPoint | None  # of a value as hardware sends it; None: the grid of the data
    crossings_mhz: float | None  # of the normal events; None: they are no bunch crossings
    open: Callable[[Any, int], Any]  # (section, seed) -> l1kd.data.dataset.Dataset
    # Where its events are (None: nowhere, or where the configuration says), and what to do then.
    find: Callable[[], tuple[str | None, str]]
    # Opens a file of events without a label, (path, port) -> l1kd.data.event_tables.Table; None:
    # as an array of values on the port's grid.
    table: Callable[[Path, FixedPoint], Any] | None = None


SOURCES: dict[str, Source] = {}  # filled by l1kd.data.sources
LHC_CROSSINGS_MHZ = 28.61  # filled bunch crossings: 2,544 bunches x 11.246 kHz


def _of_its_source(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return value
    if not SOURCES:
        raise RuntimeError("no source of events is known yet: import l1kd.data.sources")
    known, name = ", ".join(SOURCES), value.get("source")
    if name is None:
        raise ValueError(f"needs a `source`, one of {known}")
    if name not in list(SOURCES):
        near = did_you_mean(str(name), SOURCES)
        raise ValueError(f"unknown source {str(name)[:80]!r}{near}; known are {known}")
    return SOURCES[name].section.model_validate(value, context=info.context)


Data = Annotated[SerializeAsAny[DataSection], BeforeValidator(_of_its_source)]

Exposure = Literal["dataset", "noise", "shuffle", "patch", "warp", "pieces"]
TargetTransform = Literal["fitted", "paper", "cicada"]


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same networks learn."""

    name: str
    first: int  # epoch, all phases counted
    last: int  # the next phase's first
    teacher: bool  # whether it learns
    students: bool


class Score(_Type):
    """The students' output type; that of an imported network may be signed."""

    word: Bits = 16
    integer: Annotated[Int, Field(ge=0, le=24)] = 8
    signed: bool = False

    @model_validator(mode="after")
    def _has_fraction(self) -> Score:
        # hls4ml loses rounding and saturation of integer-only types.
        if self.integer >= self.word:
            raise ValueError("the score type needs at least one bit right of the binary point")
        return self


class Distillation(Strict):
    """Settings of the training of teacher and students."""

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
    pruning: Range[Part] = (0.2, 0.7)
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
    # Of the auxiliary heads that tell the teacher's latent: see `l1kd.training.student_losses`.
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

    @property
    def phases(self) -> list[Phase]:
        """Phases of the training, in order."""
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


TeacherArchitecture = Literal["paper", "cicada", "dense", "pca", "mahalanobis"]
StudentArchitecture = Literal[
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "cicada_v1", "cicada_v2", "conv", "dense", "set"
]


class Grid(_Type):
    """The fixed-point grid of the input."""

    integer: Annotated[Int, Field(ge=0, le=48)]
    signed: bool = True

    @model_validator(mode="after")
    def _quantizable(self) -> Grid:
        # QKeras cannot compute a quantizer with negative integer bits (its sign not counted).
        if self.signed and self.integer < 1:
            raise ValueError("a signed grid needs integer >= 1; scale the inputs by a power of two")
        return self


class Teacher(Strict):
    """The float autoencoder, and what its residual is measured in."""

    architecture: TeacherArchitecture
    latent: Annotated[Int, Field(ge=1, le=4096)] = 20
    hidden: list[Annotated[Int, Field(ge=1, le=4096)]] = [128, 64]  # `dense` only
    # Inputs are counts: sqrt(x + this), whose spread hardly depends on pile-up; null: as they are.
    square_root: Annotated[Float, Field(ge=0, le=1e6)] | None = None
    standardise: bool = False
    residual_power: Annotated[Float, Field(gt=0, le=16)] = 2.0
    # Weight of each input in the score: its standard deviation over training normals to this power.
    residual_scale: Annotated[Float, Field(ge=-4, le=4)] = 0.0
    components: Annotated[Int, Field(ge=1, le=2048)] = 1  # `pca` only

    @property
    def closed_form(self) -> bool:
        """Fitted, not trained: `square_root` and `components` apply, nothing else does."""
        return self.architecture in ("pca", "mahalanobis")


class LayerWidths(Strict):
    """Settings of one layer of a student; null: as the student's."""

    weight_bits: Bits | None = None
    weight_integer: Annotated[Int, Field(ge=1, le=12)] | None = None
    bias_bits: Bits | None = None
    activation_bits: Bits | None = None
    size: Size | None = None  # filters or units
    sparsity: Share | None = None


class Student(Strict):
    """A quantized network."""

    name: Name
    architecture: Literal[StudentArchitecture, "imported"]  # imported: the model file says
    weight_bits: Bits | None = None  # null: the architecture's own, here and below
    weight_integer: Annotated[Int, Field(ge=1, le=12)] | None = None  # of these, with the sign
    bias_bits: Bits | None = None
    activation_bits: Bits | None = None
    hidden: list[Size] = [32, 16]  # `conv`, `dense` and `set` only
    filters: Size | None = None  # these three: `conv` and `set` only; null: 4, of `set` 6
    kernel: Sides | None = None  # null: 2 x 2
    stride: Sides | None = None  # null: as the kernel
    sum: Literal["phi", "eta", "all"] | None = None  # `set` only: over rows (null), columns, both
    layers: dict[str, LayerWidths] = {}
    # Share of every layer's weights that training sets to 0 for good: see `distillation.pruning`.
    sparsity: Share = 0.0
    # Drawings of the first weights; what is kept is the one with the lowest validation loss.
    starts: Annotated[Int, Field(ge=1, le=100)] = 1
    # Of the adders that the weights need, in the loss: see `l1kd.training.student_losses`.
    logic_penalty: Annotated[Float, Field(ge=0, le=1000)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "architecture": value}
        if isinstance(value, dict) and "name" not in value and "architecture" in value:
            return {"name": value["architecture"], **value}
        return value

    @model_validator(mode="after")
    def _of_a_convolution(self) -> Student:
        for key in ("filters", "kernel", "stride", "sum"):
            of = ("set",) if key == "sum" else ("conv", "set")
            if getattr(self, key) is not None and self.architecture not in of:
                named = " and ".join(map(repr, of))
                raise ValueError(f"{key!r} is for {named}; other architectures have their own")
        return self


class Firmware(Strict):
    """Settings of the HLS projects."""

    backend: Backend = "Vitis"
    part: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] = (
        "xcvu13p-flga2577-2-e"
    )
    clock_ns: Annotated[Float, Field(gt=0, le=1000)] = 5.0
    # auto: io_stream, and io_parallel too where the unrolled network is small enough
    io_type: Literal["auto", "both", "io_parallel", "io_stream"] = "auto"
    strategy: Strategy = "latency"
    reuse: Annotated[Int, Field(ge=1, le=65536)] = 1
    students: Literal["all", "best"] = "all"


Which = Literal["all", "best", "none"]


class Rtl(Strict):
    """Verilog of the students, beside the HLS projects: what open tools can judge."""

    students: Which = "all"  # Verilog is written and its interpreter compared
    simulate: Which = "best"  # the written Verilog is simulated, cycle by cycle
    events: Annotated[Int, Field(ge=1)] = 2000  # of the test samples, in the simulator
    simulator: Literal["auto", "icarus", "verilator"] = "auto"
    synthesize: Which = "best"  # Yosys
    time_limit_s: Annotated[Float, Field(gt=0)] = 1800.0  # of Yosys, for one student
    max_lut: Annotated[Float, Field(gt=0)] = 1.5e6  # larger networks are not written
    # Larger designs are neither simulated nor synthesised: hours, and more than Yosys' wheel holds.
    tools_max_lut: Annotated[Float, Field(gt=0)] = 250_000.0


class Choose(Strict):
    """Criterion and budgets by which the best student is chosen."""

    by: Literal["auc", "efficiency", "band"] = "auc"
    max_lut: Annotated[Float, Field(gt=0)] | None = None
    max_latency_ns: Annotated[Float, Field(gt=0)] | None = None
    max_interval_ns: Annotated[Float, Field(gt=0)] | None = None
    # Of LUT, FF, DSP and BRAM that the part has, whichever share is largest: 0.021 is 2.1 %.
    max_share: Annotated[Float, Field(gt=0, le=1)] | None = None

    @property
    def budgets(self) -> dict[str, float]:
        """The limits that are set, by key."""
        given = self.model_dump(exclude_none=True)
        return {key: value for key, value in given.items() if key.startswith("max_")}


class Rates(Strict):
    """Crossing frequency and working points of the trigger."""

    # Of the normal events; null: the source's, which MNIST does not have.
    crossings_mhz: Annotated[Float, Field(gt=0, le=1e6)] | None = None
    khz: list[Annotated[Float, Field(gt=0)]] = [3.0, 10.0, 30.0]


class Verify(Strict):
    """Limits that the firmware has to meet."""

    events: Annotated[Int, Field(ge=1)] | None = None  # null: the whole test split
    corners: bool = True
    max_auc_loss: Annotated[Float, Field(ge=0, le=1)] = 0.05
    certificate: Literal["required", "optional"] = "required"  # optional: tests are enough


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


class Sweep(Strict):
    """Runs of `l1kd sweep`."""

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


class Space(Strict):
    """Space of students. A pair is a range; equal ends, or one choice, fix a value."""

    architectures: Annotated[list[Literal["conv", "dense"]], Field(min_length=1)] = ["conv"]
    filters: Range[Size] = (1, 6)
    kernels: Annotated[list[Sides], Field(min_length=1)] = [(2, 2), (3, 2), (3, 3)]
    hidden_layers: Range[Annotated[Int, Field(ge=0, le=4)]] = (0, 1)
    hidden: Range[Size] = (2, 20)  # units of each
    # The next three are drawn for every layer on its own.
    weight_bits: Range[Bits] = (3, 8)
    weight_integer: Range[Bits] = (1, 2)
    activation_bits: Range[Bits] = (7, 10)
    # Of the first dense layer, which has nearly all weights.
    sparsity: Range[Share] = (0.0, 0.9)
    logic_penalty: Range[Annotated[Float, Field(gt=0, le=1000)]] = (1e-3, 0.3)


class Search(Strict):
    """Search of `l1kd search`: students of a space, judged by quality and cost."""

    trials: Annotated[Int, Field(ge=1, le=100_000)] = 60
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = None  # of the proposals; null: the run's
    # Means over the signals' validation halves, LUT estimate, latency in cycles.
    objectives: Annotated[list[Objective], Field(min_length=1)] = list(get_args(Objective))
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 12  # of every candidate
    exposures: Annotated[Int, Field(ge=1, le=100)] = 2  # draws of exposure, used in turn
    events: Annotated[Int, Field(ge=2)] = 50_000  # normal events to train on, at most
    space: Space = Space()


class Config(Strict):
    """A whole configuration."""

    name: Name
    seed: Annotated[Int, Field(ge=0, lt=2**31)] = 7
    threads: Annotated[Int, Field(ge=1, le=1024)] | None = None  # null: all cores
    data: Data
    teacher: Teacher
    students: Annotated[list[Student], Field(min_length=1)]
    distillation: Distillation = Distillation()
    firmware: Firmware = Firmware()
    rtl: Rtl = Rtl()
    rates: Rates = Rates()
    choose: Choose = Choose()
    verify: Verify = Verify()
    search: Search | None = None  # null: `l1kd search` takes the defaults
    sweep: Sweep | None = None

    @field_validator("students")
    @classmethod
    def _distinct(cls, value: list[Student], info: ValidationInfo) -> list[Student]:
        names = [student.name.lower() for student in value]
        for student in value:  # case does not make a difference on every file system
            if names.count(student.name.lower()) > 1:
                raise ValueError(f"two students are named {student.name!r}; names are unique")
            if student.name.lower() == "teacher":
                raise ValueError("a student cannot be named 'teacher'")
        return value

    @property
    def imported(self) -> bool:
        """The run was made by `l1kd import`: it has no teacher."""
        return self.students[0].architecture == "imported"

    @property
    def phases(self) -> list[Phase]:
        """Phases of the training; with a teacher in closed form students learn in all of them."""
        phases = self.distillation.phases
        if not self.teacher.closed_form:
            return phases
        epochs = sum(phase.last - phase.first for phase in phases if phase.students)
        return [Phase("students", 0, epochs, teacher=False, students=True)]

    @property
    def crossings_mhz(self) -> float | None:
        """Frequency of the normal events' crossings; None: they are no bunch crossings."""
        return self.rates.crossings_mhz or SOURCES[self.data.source].crossings_mhz

    @model_validator(mode="after")
    def _trainable(self) -> Config:
        if self.imported and len(self.students) > 1:
            raise ValueError("an imported network is the only student of its run")
        if self.distillation.score.signed and not self.imported:
            raise ValueError("distillation.score: a student's last activation is an unsigned ReLU")
        return self
