"""The typed configuration; unknown keys are errors, `data.sources` fills `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from l1kd.core import fpga_parts
from l1kd.core.config_types import (
    PART_PATTERN,
    Bits,
    Float,
    Int,
    ModelPath,
    Name,
    OneOf,
    Part,
    Range,
    Share,
    Sides,
    Size,
    Strict,
)
from l1kd.core.errors import did_you_mean
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.sweep_config import Search, Sweep
from l1kd.core.teacher_config import Exposure, Jets, Soft, Teacher, from_file, nothing_else

Backend = Literal["Vitis", "Vivado"]  # of hls4ml; `firmware.hls.backends` has an object for each
VendorTool = Literal["vitis", "vivado"]  # the same in lower case, on the command line
IoType = Literal["io_parallel", "io_stream"]
Strategy = Literal["latency", "resource", "distributed_arithmetic"]


class _Type(Strict):
    """A fixed-point type: bits in all, bits left of the point, sign."""

    word: Bits
    """Bits in all, the sign included."""
    integer: Int
    """Bits left of the binary point, the sign included."""
    signed: bool
    """True for a type with a sign bit."""

    @property
    def type(self) -> FixedPoint:
        """As the type that everything computes with."""
        return FixedPoint(self.word, self.integer, self.signed)


class DataSection(Strict):
    """The section `data`; every source has its own subclass, with `source` as a Literal."""

    source: str
    """Where the events come from: `l1kd list sources`."""


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
    find: Callable[[], tuple[str | None, str]] = lambda: (None, "")
    # Opens a file of events without a label, (section, path, port) ->
    # l1kd.data.event_tables.Table; None: as an array of values on the port's grid.
    table: Callable[[Any, Path, FixedPoint], Any] | None = None
    keyed: bool = False  # its files may be given as `path:key`


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
    """Bits in all of the output type."""
    integer: Annotated[Int, Field(ge=0, le=24)] = 8
    """Bits left of the binary point, fewer than `word`."""
    signed: bool = False
    """True for a type with a sign bit; only of imported networks."""

    @model_validator(mode="after")
    def _has_fraction(self) -> Score:
        # hls4ml loses rounding and saturation of integer-only types.
        if self.integer >= self.word:
            raise ValueError("the score type needs at least one bit right of the binary point")
        return self


class Distillation(Strict):
    """Settings of the training of teacher and students."""

    mode: Literal["sequential", "colearning"] = "colearning"
    """Students learn beside their teacher (colearning) or after it (sequential)."""
    epochs: Annotated[Int, Field(ge=1, le=100_000)] = 40
    """Epochs in which the teacher learns; with mode: sequential, as many again for the students."""
    head_start: Annotated[Int, Field(ge=0, le=100_000)] = 0
    """Epochs of these that the teacher learns alone, at most all but the last; colearning only."""
    final_epochs: Annotated[Int, Field(ge=0, le=100_000)] = 10
    """Epochs after these in which students learn from the best teacher, frozen; colearning only."""
    patience: Annotated[Int, Field(ge=1, le=100_000)] | None = None
    """Epochs without a lower validation loss of any student, the teacher frozen, after which
    training ends; null: never before the last one."""
    batch: Annotated[Int, Field(ge=1, le=1_000_000)] = 128
    """Normal events per step of training."""
    learning_rate: Annotated[Float, Field(gt=0, le=1)] = 1e-3
    """First learning rate of the teacher (Adam); it falls to 1 % along a cosine."""
    student_learning_rate: Annotated[Float, Field(gt=0, le=1)] = 1e-3
    """First learning rate of the students (Adam); it falls likewise."""
    warm_up: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    """Epochs over which the students' rate rises: an untrained teacher's targets are wild."""
    pruning: Range[Part] = (0.2, 0.7)
    """Shares of the students' epochs between which their `sparsity` rises from 0 to its value."""
    exposure: list[Exposure] = []
    """Kinds of other events that students also see, labelled by the teacher; shared evenly."""
    exposure_ratio: Annotated[Float, Field(gt=0, le=100)] = 1.0
    """Exposure events per normal event."""
    jets: Jets = Jets()
    """Events `jets`, of the exposure or of a classifier."""
    soft: Soft = Soft()
    """Events `soft`, likewise."""
    draws: Annotated[Int, Field(ge=1, le=1000)] = 4
    """Draws of exposure against a frozen teacher, each labelled once; epochs take turns."""
    average: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    """Memory, per step, of a moving average of the students' weights, which is then judged and
    kept; 0: the weights themselves."""
    float_epochs: Annotated[Int, Field(ge=0, le=100_000)] = 0
    """First of the students' epochs, in which nothing of theirs is quantized."""
    raw_weight: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    """Weight of the students' error on the raw score (the tail), beside that on its logarithm."""
    feature_weight: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    """Weight of auxiliary heads that predict the teacher's latent from a student's last layer."""
    target: Annotated[str, OneOf("distillation.target")] = "fitted"
    """Transform of the teacher's raw score that students learn."""
    score: Score = Score()
    """Fixed-point type of the students' output."""
    tensorboard: bool = False
    """Losses are also written for TensorBoard, into `tensorboard/` of the run."""

    @field_validator("exposure")
    @classmethod
    def _unique(cls, value: list[Exposure]) -> list[Exposure]:
        if len(set(value)) < len(value):
            raise ValueError("an exposure is listed twice")
        return value

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Distillation:
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
        middle, start = self.epochs, min(self.head_start, self.epochs - 1)
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


class Grid(_Type):
    """The fixed-point grid of the input."""

    integer: Annotated[Int, Field(ge=0, le=48)]
    """Bits left of the binary point, the sign included."""
    signed: bool = True
    """True for a type with a sign bit."""

    @model_validator(mode="after")
    def _quantizable(self) -> Grid:
        # QKeras cannot compute a quantizer with negative integer bits (its sign not counted).
        if self.signed and self.integer < 1:
            raise ValueError("a signed grid needs integer >= 1; scale the inputs by a power of two")
        return self


class LayerWidths(Strict):
    """Settings of one layer of a student; null: as the student's."""

    weight_bits: Bits | None = None
    """Bits of each weight."""
    weight_integer: Annotated[Int, Field(ge=1, le=12)] | None = None
    """Bits of each weight left of the binary point, with the sign."""
    bias_bits: Bits | None = None
    """Bits of each bias."""
    activation_bits: Bits | None = None
    """Bits of each activation."""
    size: Size | None = None
    """Filters of a convolution, or units of a dense layer."""
    sparsity: Share | None = None
    """Share of the weights that training sets to 0."""


class Student(Strict):
    """A quantized network."""

    name: Name
    """Name in files, tables and firmware; by default the architecture's."""
    architecture: Annotated[str, OneOf("students.architecture")]
    """Layers of the network: `l1kd list students`; `imported` is of `l1kd import` alone."""
    file: ModelPath | None = None
    """A QKeras network of yours, .keras or .h5, in place of an architecture; weights that it has
    are where training starts."""
    weight_bits: Bits | None = None
    """Bits of each weight; null: the architecture's own, here and below."""
    weight_integer: Annotated[Int, Field(ge=1, le=12)] | None = None
    """Bits of each weight left of the binary point, with the sign."""
    bias_bits: Bits | None = None
    """Bits of each bias."""
    activation_bits: Bits | None = None
    """Bits of each activation."""
    hidden: list[Size] = [32, 16]
    """Units of the dense layers before the output; `conv`, `dense` and `set` only."""
    filters: Size | None = None
    """Filters of the convolution; `conv` and `set` only; null: 4, of `set` 6."""
    kernel: Sides | None = None
    """Inputs of a filter, rows and columns; `conv` and `set` only; null: 2 x 2."""
    stride: Sides | None = None
    """Inputs between two windows, rows and columns; `conv` and `set` only; null: as the kernel."""
    pointwise: Size | None = None
    """Filters of a second convolution, which sees each window by itself; `set` only; null: none."""
    sum: Literal["phi", "eta", "all"] | None = None
    """Axes that are summed over; `set` only: phi (rows, also null), eta (columns), or all."""
    layers: dict[str, LayerWidths] = {}
    """Settings of single layers (conv1, dense1, output ...), over the student's."""
    sparsity: Share = 0.0
    """Share of every layer's weights that training sets to 0 for good: `distillation.pruning`."""
    starts: Annotated[Int, Field(ge=1, le=100)] = 1
    """Drawings of the first weights; the one with the lowest validation loss is kept."""
    logic_penalty: Annotated[Float, Field(ge=0, le=1000)] = 0.0
    """Weight in the loss of the adders that the weights need in logic."""
    learning_rate: Annotated[Float, Field(gt=0, le=1)] | None = None
    """First learning rate; null: `distillation.student_learning_rate`."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "architecture": value}
        if isinstance(value, dict) and "name" not in value and "architecture" in value:
            return {"name": value["architecture"], **value}
        return from_file(value)

    @model_validator(mode="after")
    def _of_a_convolution(self) -> Student:
        for key in ("filters", "kernel", "stride", "sum", "pointwise"):
            of = ("set",) if key in ("sum", "pointwise") else ("conv", "set")
            if getattr(self, key) is not None and self.architecture not in of:
                named = " and ".join(map(repr, of))
                raise ValueError(f"{key!r} is for {named}; other architectures have their own")
        return nothing_else(self, ())


class PartHas(Strict):
    """Resources of an FPGA that l1kd does not know."""

    lut: Annotated[Int, Field(ge=1)]
    """LUTs of six inputs."""
    ff: Annotated[Int, Field(ge=1)]
    """Flip-flops."""
    dsp: Annotated[Int, Field(ge=0)] = 0
    """DSP slices."""
    bram: Annotated[Int, Field(ge=0)] = 0
    """Block RAMs of 18 kbit."""
    uram: Annotated[Int, Field(ge=0)] = 0
    """URAMs of 288 kbit."""


class Firmware(Strict):
    """Settings of the HLS projects."""

    backend: Backend = "Vitis"
    """HLS tool that the projects are written for."""
    part_has: PartHas | None = None
    """Resources of the part; null: l1kd knows it."""
    part: Annotated[str, Field(pattern=PART_PATTERN, max_length=64)] = "xcvu13p-flga2577-2-e"
    """Full name of the FPGA: `l1kd list parts`; of another one {name, lut, ff, dsp, bram, uram}."""
    clock_ns: Annotated[Float, Field(gt=0, le=1000)] = 5.0
    """Target clock period in ns."""
    io_type: Literal["auto", "both", "io_parallel", "io_stream"] = "auto"
    """Interface of the HLS projects; auto: io_stream, and io_parallel too where the unrolled
    network is small enough."""
    strategy: Strategy = "latency"
    """Strategy of hls4ml for matrix products."""
    reuse: Annotated[Int, Field(ge=1, le=65536)] = 1
    """Times that a multiplier is used per event (hls4ml's reuse factor)."""
    students: Literal["all", "best"] = "all"
    """Students that become HLS projects."""

    @model_validator(mode="before")
    @classmethod
    def _with_resources(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(part := value.get("part"), dict):
            has = {key: each for key, each in part.items() if key != "name"}
            return {**value, "part": part.get("name"), "part_has": has}
        return value

    @field_validator("part")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        # A run that exists may have been made with any part.
        if info.context and not info.data.get("part_has") and fpga_parts.part(value) is None:
            near = did_you_mean(value.partition("-")[0].lower(), fpga_parts.PARTS)
            raise ValueError(
                f"unknown part {value!r}{near}; known are {', '.join(fpga_parts.PARTS)}; say what "
                f"another one has: part: {{name: {value}, lut: N, ff: N, dsp: N, bram: N}}"
            )
        return value


Which = Literal["all", "best", "none"]


class Rtl(Strict):
    """Verilog of the students, beside the HLS projects: what open tools can judge."""

    students: Which = "all"
    """Students that become Verilog, whose interpreter is compared with the network."""
    simulate: Which = "best"
    """Students whose Verilog is simulated, cycle by cycle."""
    events: Annotated[Int, Field(ge=1)] = 2000
    """Events of the test samples in the simulator."""
    simulator: Literal["auto", "icarus", "verilator"] = "auto"
    """Simulator of Verilog; auto: Verilator if it is there, else Icarus."""
    synthesize: Which = "best"
    """Students whose Verilog is synthesised by Yosys."""
    time_limit_s: Annotated[Float, Field(gt=0)] = 1800.0
    """Time limit of Yosys for one student, in s."""
    max_lut: Annotated[Float, Field(gt=0)] = 1.5e6
    """Estimated LUTs above which no Verilog is written."""
    tools_max_lut: Annotated[Float, Field(gt=0)] = 250_000.0
    """Estimated LUTs above which Verilog is neither simulated nor synthesised: it takes hours, and
    more memory than Yosys' wheel may have."""


class Choose(Strict):
    """Criterion and budgets by which the best student is chosen."""

    by: Annotated[str, OneOf("choose.by")] = "auc"
    """Mean over the signals' validation halves that decides; at thresholds of the normals of
    training and validation."""
    max_lut: Annotated[Float, Field(gt=0)] | None = None
    """Most LUTs that a student may take; null: no limit, here and below."""
    max_latency_ns: Annotated[Float, Field(gt=0)] | None = None
    """Longest latency in ns."""
    max_interval_ns: Annotated[Float, Field(gt=0)] | None = None
    """Longest time between two events in ns; 25 follows every bunch crossing of the LHC."""
    max_share: Annotated[Float, Field(gt=0, le=1)] | None = None
    """Largest share of the part's LUT, FF, DSP and BRAM, whichever is largest; 0.021 is 2.1 %."""

    @property
    def budgets(self) -> dict[str, float]:
        """The limits that are set, by key."""
        given = self.model_dump(exclude_none=True)
        return {key: value for key, value in given.items() if key.startswith("max_")}


class Rates(Strict):
    """Crossing frequency and working points of the trigger."""

    crossings_mhz: Annotated[Float, Field(gt=0, le=1e6)] | None = None
    """Crossings per second of the normal events, in MHz; null: the source's, MNIST has none."""
    khz: list[Annotated[Float, Field(gt=0)]] = [3.0, 10.0, 30.0]
    """Rates of accepted crossings, in kHz, that get a threshold each."""


class Verify(Strict):
    """Limits that the firmware has to meet."""

    events: Annotated[Int, Field(ge=1)] | None = None
    """Events of the test samples that are compared; null: all of them."""
    corners: bool = True
    """Inputs at rounding ties and range ends are searched for and compared, too."""
    max_auc_loss: Annotated[Float, Field(ge=0, le=1)] = 0.05
    """Largest loss of mean AUC from the float teacher to the C simulation."""
    certificate: Literal["required", "optional"] = "required"
    """Required: an HLS project without a certificate fails; optional: tests are enough."""


class Config(Strict):
    """A whole configuration."""

    name: Name
    """Name of the run; by default the file's, without its ending."""
    seed: Annotated[Int, Field(ge=0, lt=2**31)] = 7
    """Seed of everything random."""
    threads: Annotated[Int, Field(ge=1, le=1024)] | None = None
    """Processor cores to use; null: all."""
    data: Data
    """Events: normal ones to learn, signals to judge by."""
    teacher: Teacher
    """The float network whose score students learn; by default what suits the source."""
    students: Annotated[list[Student], Field(min_length=1)]
    """The quantized networks that learn its score; by default what suits the source."""
    distillation: Distillation = Distillation()
    """Training of teacher and students."""
    firmware: Firmware = Firmware()
    """HLS projects of the students."""
    rtl: Rtl = Rtl()
    """Verilog of the students."""
    rates: Rates = Rates()
    """Crossing frequency and rates of the working points."""
    choose: Choose = Choose()
    """Choice of the best student."""
    verify: Verify = Verify()
    """Limits that the firmware has to meet."""
    search: Search | None = None
    """Search of `l1kd search`; null: its defaults."""
    sweep: Sweep | None = None
    """Grid of runs of `l1kd sweep`."""

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
        """Phases of the training; with a teacher that is finished students learn in all of them."""
        phases = self.distillation.phases
        if not self.teacher.finished:
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
        if any(student.file for student in self.students):
            self._plainly_trained()
        return self

    def _plainly_trained(self) -> None:
        """Refuse what needs the layers of an architecture to learn by."""
        of_training = ("average", "float_epochs", "raw_weight", "feature_weight")
        asked = [f"distillation.{key}" for key in of_training if getattr(self.distillation, key)]
        for number, own in enumerate(self.students):
            defaults = {"sparsity": 0.0, "starts": 1, "logic_penalty": 0.0, "learning_rate": None}
            given = [key for key, value in defaults.items() if getattr(own, key) != value]
            asked += [f"students.{number}.{key}" for key in given]
        if asked:
            raise ValueError(
                f"{asked[0]} is not for a run with students from files; leave it out, or train "
                "the others in a run of their own"
            )
