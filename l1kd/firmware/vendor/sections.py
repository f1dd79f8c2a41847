"""What vendors' tools report of a project, as numbers.

The sections are those of hls4ml's own reader, whose names stand in the classes' first lines; it
gives strings, and shows the best latency where it writes "worst". Block RAM is counted in halves of
18 kbit everywhere: a tile of logic synthesis is two.

Written for Vivado HLS 2020.1, of which recorded reports are at hand, and, by published reports and
hls4ml's reader, for Vitis HLS; neither tool was ever run with this code.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from l1kd.schemas import LayerCost

__all__ = ["Cosim", "Csynth", "Implementation", "Reports", "Simulated", "Timing", "Vsynth"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Csynth(_Record):
    """`CSynthesisReport`: the C synthesis's estimates."""

    version: str | None
    part: str | None
    top: str | None
    target_clock_ns: float | None
    estimated_clock_ns: float | None
    best_latency: int | None  # clock cycles
    worst_latency: int | None
    interval_min: int | None
    interval_max: int | None
    pipeline: str | None
    used: dict[str, float]  # lut, ff, dsp, bram (of 18 kbit), uram
    available: dict[str, float]
    layers: list[LayerCost] = []


class Vsynth(_Record):
    """`VivadoSynthReport`: the netlist of the logic synthesis."""

    version: str | None
    part: str | None
    state: str | None  # of the design
    used: dict[str, float]
    available: dict[str, float]


class Cosim(_Record):
    """`CosimReport`: the simulated RTL."""

    rtl: str
    status: str
    latency_min: int | None
    latency_avg: float | None
    latency_max: int | None
    interval_min: int | None
    interval_avg: float | None
    interval_max: int | None

    @property
    def passed(self) -> bool:
        """Whether the simulation ran to its end and its test bench found no difference."""
        return self.status.lower() == "pass"


class Implementation(_Record):
    """`ImplementationReport`: the placed and routed design."""

    version: str | None
    part: str | None
    state: str | None
    used: dict[str, float]  # as above; logic_lut, lutram, srl, ramb36, ramb18 beside them
    share: dict[str, float]  # of what the part has


class Timing(_Record):
    """`TimingReport`: slack in ns: worst and total, of setup, hold and pulse width."""

    wns: float | None
    tns: float | None
    whs: float | None
    ths: float | None
    wpws: float | None
    tpws: float | None


class Simulated(_Record):
    """`CSimResults`, `CosimResults`: the test bench's log against what the exact network gives."""

    events: int
    mismatches: int


class Reports(_Record):
    """All that was found."""

    csynth: Csynth | None = None
    vsynth: Vsynth | None = None
    cosim: Cosim | None = None
    implementation: Implementation | None = None
    timing: Timing | None = None
    csim_results: Simulated | None = None
    cosim_results: Simulated | None = None

    @property
    def sections(self) -> list[str]:
        """Names of what is there."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]
