"""A written HLS project as an object. After conversion its files are all there is to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import FirmwareRecord, read_as
from l1kd.firmware.hls import c_simulation

FILE = "l1kd.json"
NETWORK = "network.json"  # the exact network
_FORMAT = 3


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Port(_Record):
    """An input or output: its shape without the batch, and its type as `ap_fixed` text."""

    shape: tuple[int, ...]
    type: str

    @property
    def size(self) -> int:
        """Values of one event."""
        return int(np.prod(self.shape))


class Traced(_Record):
    """A layer that the C simulation can show, and the Keras layer that has the same output."""

    name: str
    keras: str
    shape: tuple[int, ...]
    type: str


class Description(_Record):
    """A project's `l1kd.json`."""

    format_version: int = _FORMAT
    versions: dict[str, str]
    model: str  # hash of the network that it was made from
    # Of its C++: top function, `_v`, 8 digits of a hash of network and options.
    namespace: Annotated[str, Field(pattern=r"^l1kd_[A-Za-z0-9_]+_v[0-9a-f]{8}$")]
    unrolled: bool  # convolutions are computed at all positions at once
    # Clock cycles between two events, where the design leaves no choice.
    interval_cycles: int | None
    record: FirmwareRecord
    input: Port
    output: Port
    layers: tuple[Traced, ...]
    arrays: dict[str, str]  # of the top function, by name: the layer that each holds

    @model_validator(mode="after")
    def _of_its_top(self) -> Description:
        if not self.namespace.startswith(f"{self.record.top}_v"):
            raise ValueError(f"{self.namespace} is not of {self.record.top}")
        return self


@dataclass(frozen=True)
class Project:
    """An HLS project."""

    directory: Path
    description: Description
    # Gives the C++ that runs single calls of the top function, from a project's directory: what a
    # certificate is held against (`certificate.certify.calls_of`) is in the same program.
    calls: Callable[[Path], str] | None = None

    @property
    def record(self) -> FirmwareRecord:
        """Backend, types, layers; its entry of `firmware.json`, but for the directory."""
        return self.description.record

    @property
    def label(self) -> str:
        """Its name in a run: `<student>-<backend>-<io_type>-<strategy>`."""
        record = self.record
        return f"{record.student}-{record.backend}-{record.io_type}-{record.strategy}"

    @cached_property
    def input_type(self) -> FixedPoint:
        """The input port's type."""
        return FixedPoint.parse(self.description.input.type)

    @cached_property
    def output_type(self) -> FixedPoint:
        """The output port's type."""
        return FixedPoint.parse(self.description.output.type)

    def compile(self) -> Path:
        """Compile the C simulation, unless these very files have been compiled already.

        Returns
        -------
        Path
            The program, in the user's cache.

        Raises
        ------
        UserError
            If there is no g++, or it does not accept the project.
        """
        ports = c_simulation.Ports(
            self.record.top,
            self.description.namespace,
            self.description.input.size,
            self.description.output.size,
            tuple(
                (array, layer.name, int(np.prod(layer.shape)))
                for layer in self.description.layers
                for array, name in self.description.arrays.items()
                if name == layer.name
            ),
        )
        calls = None if self.calls is None else partial(self.calls, self.directory)
        return c_simulation.build(self.directory, ports, calls)

    def predict(self, events: ArrayLike, processes: int | None = None) -> NDArray[np.float64]:
        """Run events through the C simulation.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), any real type, every value one of the input port's type.
        processes
            How many to use; by default one per core.

        Returns
        -------
        ndarray
            (N, outputs), exact values of the output type.

        Raises
        ------
        UserError
            If events have another shape, a value is off the port's grid or range, or the project
            does not compile.
        """
        bits = counts_of(events, self.description.input, self.directory.name)
        outputs = c_simulation.simulate(
            self.compile(), bits, self.description.output.size, processes or cores()
        )
        return outputs * self.output_type.lsb

    def trace(self, events: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Values of every layer in the C simulation, (N, *shape of the layer), in data's order."""
        layers = self.description.layers
        _, values = c_simulation.trace(
            self.compile(),
            counts_of(events, self.description.input, self.directory.name),
            self.description.output.size,
            [(layer.name, int(np.prod(layer.shape))) for layer in layers],
        )
        return {
            layer.name: part.reshape(len(part), *layer.shape)
            for layer, part in zip(layers, values, strict=True)
        }


def counts_of(events: ArrayLike, port: Port, name: str) -> NDArray[np.int64]:
    """Events (N, *shape) or (N, inputs) as counts of a port's LSB, (N, inputs); or UserError."""
    array: NDArray[Any] = np.asarray(events)
    kind, shape, size = FixedPoint.parse(port.type), port.shape, port.size
    if array.ndim < 1 or array.shape[1:] not in (shape, (size,)):
        raise UserError(
            f"{name} reads events of the shape {shape}; "
            f"these are {array.shape[1:] if array.ndim else 'a single number'}"
        )
    array = array.reshape(len(array), size)
    # One pass in place of `holds` and `integers`: this is what a simulation waits for.
    steps = np.multiply(array, 1 / kind.lsb, dtype=np.float64)
    low, high = kind.bounds
    with np.errstate(invalid="ignore"):
        bits = steps.astype(np.int64)
    held = (bits == steps) & (bits >= low) & (bits <= high)
    if not held.all():
        event, place = np.argwhere(~held)[0]
        where = tuple(int(i) for i in np.unravel_index(place, shape))
        raise UserError(
            f"event {event}, input {where}: {array[event, place]} is no value of the input "
            f"port of {name}, {kind.text} (steps of {kind.lsb:g} from {kind.low:g} to "
            f"{kind.high:g}); round and clip events before they are given"
        )
    return bits


def open_project(directory: Path | str, calls: Callable[[Path], str] | None = None) -> Project:
    """Open a written project; UserError if it is none, or one of another format."""
    directory = Path(directory)
    missing = f"{directory} is no HLS project of l1kd: it has no {FILE}"
    description: Description = read_as(
        Description, directory / FILE, missing, "convert the student again", version=_FORMAT
    )
    return Project(directory, description, calls)


def save(directory: Path, description: Description) -> None:
    """Write `l1kd.json`."""
    write_json(directory / FILE, description.model_dump(mode="json"))
