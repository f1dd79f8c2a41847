"""The JSON files of a run as types; None is what is unknown or does not apply, never 0."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from l1kd.core.errors import UserError
from l1kd.core.files import DirectoryKind, read_json, reading, write_json

FORMAT_VERSION = 1
RUN = DirectoryKind(
    "run",
    "manifest.json",
    damaged="make a new run",
    version=FORMAT_VERSION,
    begun=r"\.lock|l1kd\.log",
)

PerSignal = dict[str, float]
Source = Literal["estimate", "yosys", "csynth", "vsynth", "impl"]
# Who says what a design costs, from the least to the best founded, in words.
SOURCES: dict[Source, str] = {
    "estimate": "estimate",
    "yosys": "synthesis, Yosys",
    "csynth": "C synthesis",
    "vsynth": "logic synthesis",
    "impl": "place and route",
}
MOST_DRAWN = 1 << 14  # values of an event
COUNTS = ("lut", "ff", "dsp", "bram", "uram")  # `bram` in blocks of 18 Kb
RepairKind = Literal["exact", "settled", "lossy", "offered", "impossible"]
Step = Literal["port", "code", "weights", "sums", "quantizer", "compiled"]  # of a certificate
State = Literal["refused", "open"]  # of a finding: shown wrong; or no argument is known
IN_WORDS: dict[State, str] = {"refused": "refused", "open": "open (tested, not proved)"}
Implementation = Literal["exact", "qkeras", "csim", "rtl", "rtlsim", "emulator"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class StageRecord(_Record):
    """State of a stage in the manifest."""

    state: Literal["running", "done", "failed"]
    duration_s: float | None = None
    inputs: str  # hash of the configuration and the files the stage read
    message: str | None = None


class RepairRecord(_Record):
    """A change of an imported network: done, offered or impossible."""

    layer: str
    what: str
    # settled: exact by the definition of its quantizer, which QKeras' float32 missed; offered:
    # lossy and not asked for; impossible: no exact counterpart is known
    kind: RepairKind


class Finding(_Record):
    """A construct that the lint refuses."""

    layer: str
    found: str  # the construct
    reason: str
    remedy: str


class Price(_Record):
    """Scores of an imported network compared with those of its file, on test events."""

    events: int
    different: int  # events with another score
    max_lsb: float  # of the output type
    mean_lsb: float
    auc_file: PerSignal  # of the network in the file; empty without signals
    auc: PerSignal  # of the network as it was imported


class Imported(_Record):
    """Origin of the network of a run without a teacher."""

    file: str
    sha256: str
    student: str
    lossy: bool  # whether lossy repairs were asked for
    cut: str | None = None  # the layer that the network was ended in, on request
    repairs: list[RepairRecord] = []
    findings: list[Finding] = []
    price: Price | None = None


class Manifest(_Record):
    """`manifest.json`: versions, hashes and the state of every stage."""

    format_version: int = FORMAT_VERSION
    name: str
    created: str
    versions: dict[str, str]
    git_commit: str | None
    seed: int
    threads: int
    machine: str
    data: dict[str, str]  # file -> SHA-256
    stages: dict[str, StageRecord] = {}
    imported: Imported | None = None  # null: the run's students were trained
    # `<student>-<backend>-<io_type>-<strategy>` -> directory in the run
    firmware: dict[str, str] = {}


class Quality(_Record):
    """Separation of signals from normal events by a score, on test halves."""

    auc: PerSignal  # per signal, and `all`: the signals pooled
    efficiency: PerSignal  # per signal, at false-positive rate 1e-3
    band: PerSignal = {}  # mean efficiency over false-positive rates 3e-4 to 3e-3, by logarithm
    # of the means over signals of `efficiency` and `band`, by bootstrap; empty: not estimated
    error: dict[str, float] = {}


class BaselineMetrics(Quality):
    """A baseline's quality, and what was tuned for it on validation halves."""

    settings: dict[str, float] = {}


class Measured(_Record):
    """A number and its standard error."""

    value: float
    error: float


# A score minus another: by `band` and `efficiency`, then by signal and `mean` over them.
Difference = dict[str, dict[str, Measured]]


class TeacherMetrics(Quality):
    """The teacher's quality and size."""

    params: int


class Emd(_Record):
    """Earth mover's distance of a student's scores to the teacher's, on log(1 + raw score)."""

    normal: float
    anomalous: float | None


class WorkingPoint(_Record):
    """A threshold on the integer score; an event is accepted when its score is `>=` it."""

    target_fpr: float
    threshold: int  # in LSBs of the output type
    fpr: float  # reached on the test normals
    rate_khz: float | None  # at the configured frequency; null: no bunch crossings
    efficiency: PerSignal


class StudentMetrics(Quality):
    """A student's separation, its likeness to the teacher, its size and its thresholds."""

    emd: Emd | None  # null without a teacher, as `spearman`
    emd_calibrated: Emd | None = None  # of calibrated scores; null without exposure, too
    calibration: list[tuple[float, float]] = []  # score -> calibrated score, in output units
    spearman: float | None
    params: int
    weight_bits: int
    working_points: list[WorkingPoint] = []
    difference: dict[str, Difference] = {}  # to `teacher` and to each baseline


class Candidate(_Record):
    """A student that was considered as the best one, its cost compared with the budgets."""

    student: str
    quality: float | None  # mean by `choose.by` on validation halves, or rank correlation
    tool: str  # that estimated the cost, of alkaid's Verilog
    lut: float | None = None
    latency_ns: float | None = None
    interval_ns: float | None = None
    share: float | None = None  # of the part: the largest of its resources' shares
    note: str | None = None  # why the cost is not known
    ratio: float | None = None  # the largest of cost over budget; null: a cost is not known
    excluded: list[str] = []  # the budgets that it misses, in words


class Metrics(_Record):
    """`metrics.json`."""

    dataset: dict[str, Any]
    teacher: TeacherMetrics | None  # null in a run of an imported network
    baselines: dict[str, BaselineMetrics]
    students: dict[str, StudentMetrics]
    # per student, on validation halves: `best` is chosen on these
    validation: dict[str, Quality] = {}
    best: str
    choice: list[Candidate] = []  # with budgets: who was considered, the nearest first

    @property
    def distinct(self) -> dict[str, float]:
        """Effective distinct collisions in the test normals accepted at some rates, if known."""
        known = self.dataset.get("distinct_collisions")
        return dict(known.get("test") or {}) if isinstance(known, dict) else {}


class Pair(_Record):
    """Two implementations of one student on the same events."""

    reference: Implementation
    candidate: Implementation
    backend: str | None
    io_type: str | None
    strategy: str | None
    inputs: Literal["test", "corner"]
    events: int
    mismatches: int
    max_lsb: int
    first_layer: str | None = None  # the first layer whose output differs
    excused: str | None = None  # why mismatches are no fault: QKeras' float32 is inexact, by layer
    reproducer: str | None = None  # a file of the run with the smallest event that shows it


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Doubted:
    """A layer that a certificate does not prove."""

    layer: str
    step: Step
    state: State
    reason: str


class CertificateRecord(_Record):
    """Proof that a project equals the exact network for every input, or where it fails."""

    backend: str | None  # null, as the next two, of the Verilog
    io_type: str | None
    strategy: str | None
    certified: bool
    layers: list[str]  # proved, in order
    findings: list[Doubted]
    content: str = ""  # hash of every file that it is about

    @property
    def project(self) -> str:
        """`Vitis io_stream latency`, or `Verilog`."""
        return " ".join(filter(None, (self.backend, self.io_type, self.strategy))) or "Verilog"


class Simulated(_Record):
    """Simulation of the written Verilog."""

    simulator: str  # with its version
    latency_cycles: int | None  # as measured; null: every event has the same result


class AgreementRecord(_Record):
    """`agreement.json` is a list of these."""

    student: str
    lsb: float
    pairs: list[Pair]
    float32: dict[str, str] = {}  # layers that QKeras may not compute exactly, and why
    certificates: list[CertificateRecord] = []
    simulated: Simulated | None = None


class Rung(Quality):
    """One step of the ladder from the float teacher to the firmware."""

    stage: Literal["teacher", "float", "qkeras", "csim", "rtl"]
    emd: Emd | None  # null without a teacher, as `spearman`
    spearman: float | None


Fidelity = dict[str, list[Rung]]


class LayerCost(_Record):
    """Cost of one layer of a design."""

    name: str  # as the network names it, or as the tool does
    lut: float | None = None
    ff: float | None = None
    dsp: float | None = None
    bram: float | None = None
    latency_cycles: int | None = None


class Resources(_Record):
    """`resources.json` is a list of these: a design's cost, by one source."""

    student: str
    source: Source
    implementation: Literal["hls4ml", "alkaid"]
    tool: str
    part: str | None
    clock_ns: float | None
    latency_cycles: int | None = None
    latency_ns: float | None = None
    interval_cycles: int | None = None
    lut: float | None = None
    ff: float | None = None
    dsp: float | None = None
    bram: float | None = None
    uram: float | None = None
    backend: str | None = None  # of hls4ml, as the next two
    io_type: str | None = None
    strategy: str | None = None
    note: str | None = None  # how the numbers came about
    # The tool's own estimate of the longest path; a bound on the clock period, not a closed timing.
    estimated_clock_ns: float | None = None
    share: dict[str, float] = {}  # lut, ff, dsp, bram, uram -> fraction of what the part has
    layers: list[LayerCost] = []

    @property
    def design(self) -> tuple[str, str, str, str]:
        """The implementation: records of one design compare with each other."""
        if self.implementation == "alkaid":
            return "alkaid", "", "", ""
        return "hls4ml", self.backend or "", self.io_type or "", self.strategy or ""

    @property
    def trust(self) -> tuple[int, bool]:
        """Rank of the source; an estimate of hls4ml's C++ counts its matrices alone."""
        whole = self.source != "estimate" or self.implementation == "alkaid"
        return list(SOURCES).index(self.source), whole

    @property
    def origin(self) -> str:
        """Source, tool and implementation: `yosys (Yosys 0.50) of alkaid's Verilog`."""
        language = "alkaid's Verilog" if self.implementation == "alkaid" else "hls4ml's C++"
        which = " ".join(filter(None, (self.backend, self.io_type)))
        return f"{self.source} ({self.tool}) of {language}" + (f", {which}" if which else "")

    def origin_of(self, amount: str) -> str:
        """Who says an amount: a netlist has no cycles, they come from what it was made of."""
        if amount in (*COUNTS, "share") or not self.of_netlist:
            return self.origin
        alkaid = self.implementation == "alkaid"
        return "pipeline of alkaid's Verilog" if alkaid else "cycles of the C synthesis"

    @property
    def of_netlist(self) -> bool:
        """True if the source sees gates: its cycles are another's."""
        return self.source in ("yosys", "vsynth", "impl")

    @property
    def counts(self) -> dict[str, float | None]:
        """LUT, FF, DSP, BRAM and URAM."""
        return {name: getattr(self, name) for name in COUNTS}

    @property
    def interval_ns(self) -> float | None:
        """Time between two events, at the target clock."""
        if self.interval_cycles is None or self.clock_ns is None:
            return None
        return self.interval_cycles * self.clock_ns

    @property
    def largest_share(self) -> float | None:
        """The largest share of LUT, FF, DSP and BRAM; unknown unless LUT and FF are known both."""
        found = {name: value for name, value in self.share.items() if name != "uram"}
        return max(found.values()) if {"lut", "ff"} <= set(found) else None

    @property
    def budgeted(self) -> dict[str, float | None]:
        """Amounts that budgets limit; None is unknown."""
        times = {"latency_ns": self.latency_ns, "interval_ns": self.interval_ns}
        return {"lut": self.lut, **times, "share": self.largest_share}


class Toggles(_Record):
    """Bits of written Verilog that change from an event to the next, without delays."""

    events: int  # consecutive ones of the test split
    nets: int  # bits that logic drives
    registers: int  # bits
    net_toggles: float  # per event
    register_toggles: float


class CpuTime(_Record):
    """CPU time of a network per event, summed over threads."""

    implementation: str
    batch: int
    seconds: float
    joules: float | None = None  # of the processor meanwhile, by RAPL; null: it cannot be read


class NetworkCost(_Record):
    """`energy.json` is a list of these: what one event costs in the teacher or in a student."""

    student: str | None  # null: the teacher
    params: int
    weight_bytes: float
    macs: int  # multiply-accumulates
    bit_operations: float
    cpu: list[CpuTime]
    toggles: Toggles | None = None  # of a student's Verilog
    note: str | None = None  # why there are none


class LayerRecord(_Record):
    """A layer of a written project, with its precisions as `ap_fixed` text."""

    name: str
    kind: str
    shape: list[int]  # of its output, without the batch
    weights: int | None = None
    zeros: int | None = None  # weights that are zero
    multiplications: int | None = None  # for one event
    weight_type: str | None = None
    bias_type: str | None = None
    accumulator_type: str | None = None
    result_type: str | None = None


class StudentRecord(_Record):
    """`firmware/<student>/student.json`: the Keras model that `network.json` beside it is of."""

    student: str
    file: str  # SHA-256 of `students/<student>.keras`
    model: str  # hash of configuration and weights, as the projects' `l1kd.json` have it
    float32: dict[str, str]  # layers that QKeras may not compute exactly, and why


class FirmwareRecord(_Record):
    """`firmware.json` is a list of these: the projects that were written."""

    student: str
    backend: str
    io_type: str
    strategy: str
    reuse: int
    part: str
    clock_ns: float
    directory: str  # relative to the run; in the project itself `.`
    top: str  # the top function
    input_type: str
    output_type: str
    layers: list[LayerRecord]


class RtlRecord(_Record):
    """`rtl.json` is a list of these: Verilog that was written, or why it was not."""

    student: str
    directory: str | None  # relative to the run; null: refused
    refused: str | None = None
    top: str = ""
    part: str
    clock_ns: float
    input_type: str
    output_type: str
    latency_cycles: int | None = None  # clock edges, from the sampling one to the result's
    interval_cycles: int | None = None
    estimated_clock_ns: float | None = None  # longest path between registers, by alkaid's model
    lut: float | None = None  # estimates
    ff: float | None = None
    layers: list[LayerCost] = []


class DrawnEvent(_Record):
    """An event for the page, by its best student's score among those of its sample."""

    sample: str  # `test`, or a signal's name
    place: Literal["lowest", "median", "highest"]
    score: FiniteFloat  # in output units
    values: list[FiniteFloat]  # flat


class DrawnLayer(_Record):
    """A layer of a Keras network for the page."""

    name: str
    kind: str
    shape: list[int]  # of its output, without the batch
    params: int
    weight_bits: int | None = None  # null: no weights, or float ones
    output_bits: int | None = None


class Display(_Record):
    """`display.json`: events and networks that the page draws."""

    shape: list[Annotated[int, Field(ge=1, le=MOST_DRAWN)]]  # of an event
    events: list[DrawnEvent]  # none of more than `MOST_DRAWN` values
    networks: dict[str, list[DrawnLayer]]  # `teacher` and students

    @model_validator(mode="after")
    def _of_its_shape(self) -> Display:
        size = prod(self.shape)
        if any(len(event.values) != size for event in self.events) or size > MOST_DRAWN:
            raise ValueError(f"an event does not have the shape {self.shape}")
        return self


_FILES: dict[str, Any] = {
    "manifest.json": Manifest,
    "metrics.json": Metrics,
    "display.json": Display,
    "agreement.json": list[AgreementRecord],
    "fidelity.json": Fidelity,
    "resources.json": list[Resources],
    "firmware.json": list[FirmwareRecord],
    "rtl.json": list[RtlRecord],
    "student.json": StudentRecord,
    "energy.json": list[NetworkCost],
}


def check_run(directory: Path) -> None:
    """Refuse what is no run, or a run of another version."""
    if not all((directory / name).is_file() for name in ("manifest.json", "config.yaml")):
        raise UserError(
            f"{directory} is not a run (it lacks manifest.json or config.yaml); runs are made by "
            "`l1kd run CONFIG`"
        )
    RUN.check_version(directory)


def write(directory: Path, name: str, value: Any) -> None:
    """Check `value` against the type of the run's file `name` and write it, atomically."""
    kind: TypeAdapter[Any] = TypeAdapter(_FILES[name])
    write_json(directory / name, kind.dump_python(kind.validate_python(value), mode="json"))


def read(directory: Path, name: str) -> Any:
    """Read the run's file `name` as its type."""
    remedy = "delete it and run its stage again"
    if name == "manifest.json":
        remedy = "use the version of l1kd that made the run, or make a new one"
    missing = f"{directory} has no {name}: the stage that writes it has not run"
    return read_as(_FILES[name], directory / name, missing, remedy)


def read_as(kind: Any, path: Path, missing: str, remedy: str, *, version: int | None = None) -> Any:
    """A JSON file as a type; UserError says that it is `missing`, or what is wrong and a remedy."""
    if not path.exists():
        raise UserError(missing)
    with reading(path, remedy):
        value = read_json(path)
        written = value.get("format_version", version) if isinstance(value, dict) else version
        if version is not None and written != version:
            raise UserError(
                f"{path} was written in format {written}, this version reads {version}; {remedy}"
            )
        return TypeAdapter(kind).validate_python(value)
