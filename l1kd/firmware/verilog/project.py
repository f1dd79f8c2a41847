"""A written Verilog project as an object. After conversion its files are all there is to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from l1kd.core.errors import UserError
from l1kd.core.files import read_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RtlRecord
from l1kd.exact.json_format import from_json
from l1kd.exact.network import Network
from l1kd.firmware.hls.project import FILE, NETWORK, Port, counts_of
from l1kd.firmware.verilog.simulate import Design, measure
from l1kd.firmware.verilog.simulate import simulate as simulate_design

MODEL = "model/comb.json.gz"  # the interpreter's program
_FORMAT = 1


class Description(BaseModel):
    """A Verilog project's `l1kd.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = _FORMAT
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

    @cached_property
    def network(self) -> Network:
        """The exact network that it was written from."""
        return from_json(read_json(self.directory / NETWORK))

    @property
    def sources(self) -> list[Path]:
        """The Verilog files."""
        return sorted((self.directory / "src").rglob("*.v"))

    @cached_property
    def _program(self) -> Any:
        from alkaid.types import CombLogic

        return CombLogic.load(self.directory / MODEL)

    def counts(self, events: ArrayLike) -> NDArray[np.int64]:
        """Events (N, *shape) or (N, inputs) as counts of the input port's LSB, (N, inputs).

        UserError for other shapes and for values off the port's grid or range: alkaid's
        interpreter would floor them and wrap them around, silently.
        """
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
        return np.asarray(self._program.predict(counts * self._input_type.lsb), np.float64)

    def simulate(
        self, events: ArrayLike, simulator: str = "auto", processes: int | None = None
    ) -> NDArray[np.float64]:
        """Run events through the written Verilog in a simulator, one per clock cycle.

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
            If the measured latency is not the reported one.
        """
        counts = self.counts(events)
        return simulate_design(self._design, counts, self._probes(counts), simulator, processes)

    def measure_latency(self, events: ArrayLike, simulator: str = "auto") -> int | None:
        """Latency in clock edges, seen in events (N, inputs); None if all have the same result.

        UserError if there is no simulator, CheckFailed if the latency is not the reported one.
        """
        counts = self.counts(events)
        probes = self._probes(counts)
        return measure(self._design, counts[probes], simulator) if probes else None

    @property
    def _design(self) -> Design:
        record, given, shown = self.record, self.description.input, self.description.output
        assert record.latency_cycles is not None
        ports = self._input_type, given.size, self.output_type, shown.size
        return Design(self.directory, self.sources, record.top, record.latency_cycles, *ports)

    @property
    def _input_type(self) -> FixedPoint:
        return FixedPoint.parse(self.description.input.type)

    def _probes(self, counts: NDArray[np.int64]) -> list[int]:
        """Two events with different results, to see a change; none if all results are the same."""
        if not len(counts):
            return []
        results = self.predict(counts[:1024] * self._input_type.lsb)
        differing = np.flatnonzero((results != results[0]).any(axis=1))
        return [0, int(differing[0])] if len(differing) else []


def open_logic(directory: Path | str) -> Logic:
    """Open a written Verilog project; UserError if it is none."""
    directory = Path(directory)
    try:
        description = Description.model_validate(read_json(directory / FILE))
    except FileNotFoundError as error:
        raise UserError(f"{directory} is no Verilog project of l1kd: it has no {FILE}") from error
    except ValueError as error:  # pydantic's too
        raise UserError(
            f"{directory / FILE}: not as l1kd writes it ({str(error).splitlines()[0]}); "
            "convert the student again"
        ) from error
    return Logic(directory, description)
