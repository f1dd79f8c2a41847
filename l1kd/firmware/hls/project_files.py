"""The files of a project that follow from its description: all but the network's own C++.

They are rendered when a project is written, and again when it is certified: bench, Makefile,
scripts, README, licences, hls4ml's Python bridge, assertions on the ports, and the project in its
version namespace, so that two versions link into one program.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls.backends import LOG, backend_named
from l1kd.firmware.hls.project import Description
from l1kd.firmware.hls.testbench import BASE


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
        "base": f"0x{BASE:x}",
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
