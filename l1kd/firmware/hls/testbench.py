"""The files of a project beside the network's own C++: bench, scripts, licences, test vectors.

All but the vectors follow from its description: they are rendered when a project is written, and
again when it is certified. The bench ends with 0 if, and only if, every bit of every output is the
expected one; plain g++, the vendor's C simulation and RTL co-simulation run it.

`tb_data/inputs.dat` and `outputs.dat` are text, integers in LSBs of the port: a first line with the
number of events, one event a line, a last line with a checksum, the polynomial of all integers
(modulo 2^64) at `_BASE`, the first integer with the highest power.
"""

from __future__ import annotations

import io
import re
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import atomic, read_bytes
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls.backends import LOG, backend_named
from l1kd.firmware.hls.project import Description

INPUTS, OUTPUTS = Path("tb_data", "inputs.dat"), Path("tb_data", "outputs.dat")
_BASE = 0x100000001B3
_AGAIN = "convert the student again"
_FIRST = re.compile(r"^# l1kd vectors 1: (\d+) events of (\d+) integers$")
_LAST = re.compile(r"^# end ([0-9a-f]{16})$")


def template(name: str, /, **values: object) -> str:
    """The text of a file in `templates`, each @KEY@ replaced by its value."""
    text = (resources.files("l1kd.firmware") / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", str(value))
    if left := re.search(r"@[A-Z_]+@", text):
        raise RuntimeError(f"the template {name} needs a value for {left[0]}")
    return text


def rendered(description: Description, types: tuple[str, str]) -> dict[str, str]:
    """Texts by path; `types` are the names of the ports' types in `defines.h`."""
    record = description.record
    top, backend = record.top, backend_named(record.backend)
    values: dict[str, object] = {
        "top": top,
        "namespace": description.namespace,
        "log": LOG,
        "input_t": types[0],
        "output_t": types[1],
        "inputs": description.input.size,
        "outputs": description.output.size,
        "base": f"0x{_BASE:x}",
        "student": record.student,
        "kind": f"{record.backend}, {record.io_type}, {record.strategy} strategy",
        "backend": record.backend,
        "tool": backend.tool,
        "io_type": record.io_type,
        "part": record.part,
        "clock": f"{record.clock_ns:g}",
        "period": backend.hls4ml_options(record.part, record.clock_ns)["clock_period"],
        "uncertainty": backend.clock_uncertainty,
        "version": ", ".join(f"{name} {text}" for name, text in description.versions.items()),
        "input": f"{description.input.size} x `{description.input.type}`",
        "output": f"{description.output.size} x `{description.output.type}`",
        "shape": " x ".join(map(str, description.input.shape)),
        "command": backend.programs[0].typed,
        "options": backend.options_place,
    }
    for name, port in (("input", description.input), ("output", description.output)):
        kind = FixedPoint.parse(port.type)
        values |= {
            f"{name}_word": kind.word,
            f"{name}_integer": kind.integer,
            f"{name}_signed": str(kind.signed).lower(),
            f"{name}_text": kind.text,
        }
    values["run"] = template(f"run_{record.io_type}.cpp", **values).strip()
    for real in ("float", "double"):
        bridge = template(f"bridge_{record.io_type}.cpp", real=real, **values)
        values[f"bridge_{real}"] = bridge.strip()
    sources = {
        f"{top}_test.cpp": "test.cpp",
        f"{top}_bridge.cpp": "bridge.cpp",
        f"{top}_version.cpp": "version.cpp",
        f"{top}_version.h": "version.h",
        "firmware/ports.h": "ports.h",
        "build_lib.sh": "build_lib.sh",
        "hls4ml_config.yml": "hls4ml_config.yml",
        "project.tcl": "project.tcl",
        "Makefile": "project.mk",
        "README.md": "project.md",
        "NOTICE": "NOTICE",
        "LICENSE-Apache-2.0.txt": "LICENSE-Apache-2.0.txt",
    }
    return {path: template(name, **values) for path, name in sources.items()}


def write(directory: Path, description: Description, types: tuple[str, str]) -> None:
    """Write the files into a project."""
    for name, text in rendered(description, types).items():
        (directory / name).write_text(text, encoding="utf-8")


def write_vectors(directory: Path, inputs: NDArray[np.int64], outputs: NDArray[np.int64]) -> None:
    """Write inputs (N, inputs) and expected outputs (N, outputs), in LSBs of their ports."""
    if len(inputs) != len(outputs) or not len(inputs):
        raise ValueError(f"{len(inputs)} events and {len(outputs)} outputs are no vectors")
    for name, array in ((INPUTS, inputs), (OUTPUTS, outputs)):
        with atomic(directory / name) as temporary:
            temporary.write_text(vectors_text(array), encoding="utf-8")


def vectors_text(array: NDArray[np.int64]) -> str:
    """The text of a file of vectors (N, values)."""
    text, first = io.StringIO(), f"l1kd vectors 1: {len(array)} events of {array.shape[1]} integers"
    np.savetxt(text, array, "%d", header=first, footer=f"end {checksum(array):016x}")
    return text.getvalue()


def read_vectors(directory: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs (N, inputs) and expected outputs (N, outputs) of a project, in LSBs of their ports."""
    paths = (directory / INPUTS, directory / OUTPUTS)
    if missing := [path for path in paths if not path.exists()]:
        raise UserError(f"{missing[0]} is missing; {_AGAIN}")
    inputs, outputs = (parse(read_bytes(path).decode(errors="replace"), path) for path in paths)
    if len(inputs) != len(outputs):
        raise UserError(
            f"{directory}: {len(inputs)} events and {len(outputs)} expected outputs; {_AGAIN}"
        )
    return inputs, outputs


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
    powers = np.full(len(values), _BASE, np.uint64)
    powers[:1] = 1
    # Unsigned integers of NumPy's arrays wrap around, as those of C++ do.
    return int(np.sum(values * np.cumprod(powers, dtype=np.uint64)[::-1], dtype=np.uint64))
