"""A written Verilog project as an object: interpreted, and simulated cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RtlRecord, read_as
from l1kd.exact.network import Network, load_network
from l1kd.firmware.hls.project import FILE, NETWORK, Port, counts_of
from l1kd.firmware.verilog.port_wrapper import Interface, packed, unpacked
from l1kd.firmware.verilog.simulate import find_simulator, simulate

MODEL = "model/comb.json.gz"  # the interpreter's program
FORMAT = 2


class Description(BaseModel, extra="forbid", frozen=True):
    """A Verilog project's `l1kd.json`."""

    format_version: int = FORMAT
    kind: Literal["rtl"] = "rtl"
    versions: dict[str, str]
    model: str  # hash of the network that it was made from; empty if it was given exactly
    record: RtlRecord
    input: Port
    output: Port


@dataclass(frozen=True)
class Logic:
    """A written Verilog project."""

    directory: Path
    description: Description

    @property
    def record(self) -> RtlRecord:
        """Ports, latency, estimated cost; its entry of `rtl.json`, but for the directory."""
        return self.description.record

    @property
    def output_type(self) -> FixedPoint:
        """The output port's type."""
        return FixedPoint.parse(self.description.output.type)

    @property
    def input_type(self) -> FixedPoint:
        """The input port's type."""
        return FixedPoint.parse(self.description.input.type)

    @property
    def latency(self) -> int:
        """Reported clock edges from sampling to result."""
        assert self.record.latency_cycles is not None
        return self.record.latency_cycles

    @property
    def outside(self) -> Interface:
        """Ports and latency."""
        given, made = self.description.input, self.description.output
        types = self.input_type, self.output_type
        return Interface(self.record.top, given.shape, types[0], made.size, types[1], self.latency)

    @cached_property
    def network(self) -> Network:
        """The exact network that it was written from."""
        return load_network(self.directory / NETWORK)

    @property
    def sources(self) -> list[Path]:
        """The Verilog files."""
        return sorted((self.directory / "src").rglob("*.v"))

    @cached_property
    def _program(self) -> Any:
        from alkaid.types import CombLogic

        return CombLogic.load(self.directory / MODEL)

    def counts(self, events: ArrayLike) -> NDArray[np.int64]:
        """Events as counts of the port's LSB, (N, inputs); UserError for other values."""
        return counts_of(events, self.description.input, self.record.top)

    def predict(self, events: ArrayLike) -> NDArray[np.float64]:
        """Run events through alkaid's interpreter of the logic.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), every value one of the input port's type.

        Returns
        -------
        ndarray
            (N, outputs), exact values of the output type.

        Raises
        ------
        UserError
            If events have another shape, or a value is off the port's grid or range.
        """
        counts = self.counts(events)
        if not len(counts):
            return np.zeros((0, self.description.output.size))
        return np.asarray(self._program.predict(counts * self.input_type.lsb), np.float64)

    def simulate(
        self, events: ArrayLike, simulator: str = "auto", processes: int | None = None
    ) -> NDArray[np.float64]:
        """Run events through the written Verilog in a simulator, cycle by cycle.

        Between the events are random gaps of `valid_in`; now and then comes a reset that takes
        events in the pipeline away, which then come again. `valid_out` is compared at every edge.

        Parameters
        ----------
        events
            As for `predict`.
        simulator
            `icarus`, `verilator`, or `auto`: the faster one that is there.
        processes
            How many to use; by default one per core.

        Returns
        -------
        ndarray
            (N, outputs), exact values of the output type.

        Raises
        ------
        UserError
            As `predict`, or if there is no simulator.
        CheckFailed
            If the measured latency is not the reported one, of data or of valid.
        """
        counts = self.counts(events)
        tool = find_simulator(simulator)
        outputs = self.description.output.size
        if not len(counts):
            return np.zeros((0, outputs))
        bits, place = packed(counts, self.input_type), self.directory
        probes = bits[self._probes(counts)]
        shown = simulate(self.outside, self.sources, place, tool, probes, bits, processes)
        return unpacked(shown, self.output_type, outputs) * self.output_type.lsb

    def measure_latency(self, events: ArrayLike, simulator: str = "auto") -> int | None:
        """Measured latency in clock edges; None if all events (N, inputs) have the same result."""
        if not (probes := self._probes(self.counts(events))):
            return None
        self.simulate(np.asarray(events)[probes], simulator)
        return self.latency

    def _probes(self, counts: NDArray[np.int64]) -> list[int]:
        """Two events with different results, to see a change; none if all results are the same."""
        if not len(counts):
            return []
        results = self.predict(counts[:1024] * self.input_type.lsb)
        other = int(np.argmax((results != results[0]).any(axis=1)))
        return [0, other] if other else []


def open_logic(directory: Path | str) -> Logic:
    """Open a written Verilog project; UserError if it is none, or one of another format."""
    directory = Path(directory)
    missing = f"{directory} is no Verilog project of l1kd: it has no {FILE}"
    description: Description = read_as(
        Description, directory / FILE, missing, "convert the student again", version=FORMAT
    )
    return Logic(directory, description)
