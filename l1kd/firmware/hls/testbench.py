"""Test vectors of a project, for checks without Python.

`tb_data/inputs.dat` and `outputs.dat` are text, integers in LSBs of the port: a first line with the
number of events, one event a line, a last line with a checksum, the polynomial of all integers
(modulo 2^64) at `BASE`, the first integer with the highest power.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import atomic

INPUTS, OUTPUTS = Path("tb_data", "inputs.dat"), Path("tb_data", "outputs.dat")
BASE = 0x100000001B3
_AGAIN = "convert the student again"
_FIRST = re.compile(r"^# l1kd vectors 1: (\d+) events of (\d+) integers$")
_LAST = re.compile(r"^# end ([0-9a-f]{16})$")


def write_vectors(directory: Path, inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> None:
    """Write inputs (N, inputs) and expected outputs (N, outputs), in LSBs of their ports."""
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"{len(inputs)} events and {len(outputs)} outputs are no vectors")
    for name, array in ((INPUTS, inputs), (OUTPUTS, outputs)):
        with atomic(directory / name) as temporary:
            temporary.write_text(vectors_text(array))


def vectors_text(array: NDArray[np.int64]) -> str:
    """The text of a file of vectors (N, values)."""
    text, first = io.StringIO(), f"l1kd vectors 1: {len(array)} events of {array.shape[1]} integers"
    np.savetxt(text, array, "%d", header=first, footer=f"end {checksum(array):016x}")
    return text.getvalue()


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
        return parse(path.read_text(), path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {_AGAIN}") from error


def parse(text: str, path: Path) -> NDArray[np.int64]:
    """The vectors in the text of a file, (N, values); UserError if it is damaged."""
    lines = text.splitlines()
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
    powers = np.full(len(values), BASE, np.uint64)
    powers[:1] = 1
    # Unsigned integers of NumPy's arrays wrap around, as those of C++ do.
    return int(np.sum(values * np.cumprod(powers, dtype=np.uint64)[::-1], dtype=np.uint64))
