"""Test vectors, C++ test bench, Makefile and README of a project: checks without Python.

`tb_data/inputs.dat` and `outputs.dat` are text, integers in LSBs of the port: a first line with the
number of events, one event a line, a last line with a checksum, the polynomial of all integers
(modulo 2^64) at `_BASE`, the first integer with the highest power.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import atomic
from l1kd.firmware.hls.backends import backend_named
from l1kd.firmware.hls.namespace_and_ports import GLOBAL, template
from l1kd.firmware.hls.project import Description

INPUTS, OUTPUTS = Path("tb_data", "inputs.dat"), Path("tb_data", "outputs.dat")
_BASE = 0x100000001B3
_AGAIN = "convert the student again"
_FIRST = re.compile(r"^# l1kd vectors 1: (\d+) events of (\d+) integers$")
_LAST = re.compile(r"^# end ([0-9a-f]{16})$")


def write(directory: Path, description: Description, types: tuple[str, str]) -> None:
    """Write bench, Makefile and README; `types` are the ports' type names in `defines.h`."""
    record = description.record
    backend = backend_named(record.backend)
    values = {
        "top": record.top,
        "namespace": description.namespace,
        "global": GLOBAL,
        "input_t": types[0],
        "output_t": types[1],
        "inputs": description.input.size,
        "outputs": description.output.size,
        "base": f"0x{_BASE:x}",
        "run": template(f"run_{record.io_type}.cpp", top=record.top).strip(),
        "student": record.student,
        "kind": f"{record.backend}, {record.io_type}, {record.strategy} strategy",
        "part": record.part,
        "clock": f"{record.clock_ns:g}",
        "version": ", ".join(f"{name} {text}" for name, text in description.versions.items()),
        "input": f"{description.input.size} x `{description.input.type}`",
        "output": f"{description.output.size} x `{description.output.type}`",
        "shape": " x ".join(map(str, description.input.shape)),
        "tool": backend.programs[0].typed,
        "options": backend.options_place,
    }
    bench = f"{record.top}_test.cpp"
    files = {bench: "test.cpp", "Makefile": "project.mk", "README.md": "project.md"}
    for path, name in files.items():
        (directory / path).write_text(template(name, **values))


def write_vectors(directory: Path, inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> None:
    """Write inputs (N, inputs) and expected outputs (N, outputs), in LSBs of their ports."""
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"{len(inputs)} events and {len(outputs)} outputs are no vectors")
    for name, array in ((INPUTS, inputs), (OUTPUTS, outputs)):
        first = f"l1kd vectors 1: {len(array)} events of {array.shape[1]} integers"
        with atomic(directory / name) as temporary:
            np.savetxt(temporary, array, "%d", header=first, footer=f"end {checksum(array):016x}")


def read_vectors(directory: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs (N, inputs) and expected outputs (N, outputs) of a project, in LSBs of their ports."""
    inputs, outputs = _read(directory / INPUTS), _read(directory / OUTPUTS)
    if len(inputs) != len(outputs):
        raise UserError(
            f"{directory}: {len(inputs)} events and {len(outputs)} expected outputs; {_AGAIN}"
        )
    return inputs, outputs


def _read(path: Path) -> NDArray[np.int64]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {_AGAIN}") from error
    first, last = _FIRST.match(lines[0] if lines else ""), _LAST.match(lines[-1] if lines else "")
    if not first or not last:
        raise UserError(f"{path} is no whole file of vectors; {_AGAIN}")
    try:
        rows = [[int(value) for value in line.split(" ")] for line in lines[1:-1]]
        array = np.array(rows, np.int64).reshape(int(first[1]), int(first[2]))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {_AGAIN}") from error
    if checksum(array) != int(last[1], 16):
        raise UserError(f"{path} is damaged: the checksum differs; {_AGAIN}")
    return array


def checksum(counts: ArrayLike) -> int:
    """The checksum of a file of vectors (see the module)."""
    values = np.ascontiguousarray(counts, np.int64).reshape(-1).view(np.uint64)
    powers = np.full(len(values), _BASE, np.uint64)
    powers[:1] = 1
    # Unsigned integers of NumPy's arrays wrap around, as those of C++ do.
    return int(np.sum(values * np.cumprod(powers, dtype=np.uint64)[::-1], dtype=np.uint64))
