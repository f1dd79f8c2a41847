"""Many networks in one C simulation: what is compiled for each of them is compiled once.

Most of what g++ reads are hls4ml's headers. Here every network is a project in a namespace and a
directory of its own, and one source file includes them all.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls import c_simulation, hls4ml_convert, project
from l1kd.networks.lint.check import PARTS

TOP = "together"
_LIBRARY = """#pragma once
{includes}
#include <cstdio>
#include <cstdlib>
"""
_SOURCE = """#include "library.h"

typedef ap_int<64> word;

template <class T> void set(T &port, const word &bits) {{
    port.range(T::width - 1, 0) = bits.to_int64();
}}
template <class T> word get(T &port) {{ return word(port.range(T::width - 1, 0).to_uint64()); }}

template <int N, int M, class X, class Y>
void run(void (*top)(X *, Y *), const word *in, word *out) {{
    static X x[N];
    static Y y[M];
    for (int i = 0; i < N; i++)
        set(x[i], in[i]);
    top(x, y);
    for (int i = 0; i < M; i++)
        out[i] = get(y[i]);
}}

template <int N, int M, class X, class Y>
void run(void (*top)(hls::stream<X> &, hls::stream<Y> &), const word *in, word *out) {{
    static hls::stream<X> x("input");
    static hls::stream<Y> y("output");
    for (int i = 0; i < N; i += X::size) {{
        X pack;
        for (unsigned j = 0; j < X::size; j++)
            set(pack[j], in[i + j]);
        x.write(pack);
    }}
    top(x, y);
    bool ended = false;
    for (int i = 0; i < M; i += Y::size) {{
        ended = ended || y.empty();
        Y pack = y.read();
        for (unsigned j = 0; j < Y::size; j++)
            out[i + j] = get(pack[j]);
    }}
    if (ended || !x.empty() || !y.empty()) {{
        std::fprintf(stderr, "a port's stream ended early, or values are left in it\\n");
        std::_Exit(3);
    }}
}}

// The first value says which network is meant.
void {top}(word *in, word *out) {{
    switch (in[0].to_int64()) {{
{cases}
    }}
}}
"""


@dataclass(frozen=True)
class Project:
    """What hls4ml has written for a network."""

    name: str
    port: FixedPoint
    inputs: int
    output: FixedPoint
    outputs: int
    library: str  # includes of what is shared
    source: str  # includes of what is its own
    function: str


def port_of(model: Any) -> FixedPoint:
    """The type that the network gives its input; that of most tests if it does not say."""
    quantizers = [layer.quantizer for layer in model.layers if hasattr(layer, "quantizer")]
    if not quantizers or type(quantizers[0]).__name__ != "quantized_bits":
        return FixedPoint(6, 4)
    first = quantizers[0]
    signed = bool(first.keep_negative)
    return FixedPoint(int(first.bits), int(first.integer) + signed, signed)


def write(
    model: Any,
    name: str,
    directory: Path,
    io_type: str,
    backend: str = "Vitis",
    strategy: str = "latency",
) -> Project:
    """Have hls4ml write a project into `directory/firmware/<name>`, where many fit side by side.

    The recipe is that of `l1kd.firmware.hls.hls4ml_convert`.
    """
    import hls4ml
    from hls4ml.converters.keras_v2_to_hls import layer_handlers

    layer_handlers["AxisSum"] = hls4ml_convert._parse_sum
    written = directory / f"{name}.project"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend=backend)
        config["Model"]["Strategy"] = "Resource" if strategy == "resource" else "Latency"
        for layer in model.layers:
            if type(layer).__name__ in PARTS and layer.name in config["LayerName"]:
                config["LayerName"][layer.name]["Strategy"] = strategy
        graph = hls4ml.converters.convert_from_keras_model(
            model,
            hls_config=config,
            bit_exact=True,
            backend=backend,
            io_type=io_type,
            output_dir=str(written),
            project_name=name,
            namespace=name,
            write_weights_txt=False,
        )
        graph.config.config.pop("KerasModel")
        graph.write()
    (sink,) = graph.get_output_variables()
    _move(written / "firmware", directory / "firmware", name)
    shutil.rmtree(written)
    return Project(
        name,
        port_of(model),
        int(np.prod(model.input_shape[1:])),
        FixedPoint.parse(str(sink.type.precision)),
        int(np.prod(sink.shape)),
        "",
        f'#include "{name}/{name}.cpp"\n',
        f"{name}::{name}",
    )


def gathered(project: project.Project, name: str, directory: Path) -> Project:
    """Move a project of `to_hls` to where many fit side by side."""
    told, top = project.description, project.record.top
    written = project.directory / "firmware"
    for path in sorted(written.rglob("*.*")):
        relative = path.relative_to(written).as_posix()
        shared = (
            relative.startswith(("ap_types/", "nnet_utils/")) and path.name != "nnet_code_gen.h"
        )
        target = directory / "firmware" / ("" if shared else name) / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        if not shared:
            text = c_simulation.rewrite(relative, text)
        else:
            assert not target.exists() or target.read_text() == text, "a library is the same"
        target.write_text(text)
    shutil.rmtree(project.directory)
    return Project(
        name,
        FixedPoint.parse(told.input.type),
        told.input.size,
        FixedPoint.parse(told.output.type),
        told.output.size,
        f'#include "{name}/library.h"\n',
        f'namespace {told.namespace} {{\n#include "{name}/{top}.cpp"\n}}\n',
        f"{told.namespace}::{top}",
    )


def _move(written: Path, together: Path, name: str) -> None:
    """What is the network's own goes to `together/<name>`, with include guards of its own."""
    for path in sorted(written.rglob("*.*")):
        relative = path.relative_to(written).as_posix()
        text = re.sub(r"(?<![\w:])bit_shift<(?=-?\d)", "nnet::bit_shift<", path.read_text())
        if relative.startswith(("ap_types/", "nnet_utils/")) and path.name != "nnet_code_gen.h":
            target = together / relative
            assert not target.exists() or target.read_text() == text, "a library is the same"
        else:
            target = together / name / relative
            text = c_simulation.rewrite(relative, text).replace(
                '#include "nnet_', '#include "nnet_utils/nnet_'
            )
            # hls4ml's code for distributed arithmetic takes its own names to be in `nnet`.
            text = re.sub(r"\bnnet::(?=(?:dense_da|fill_buffer)_\d)", "", text)
            text = text.replace("nnet_utils/nnet_utils/", "nnet_utils/")
            lines = [
                f"{line}{name}_" if line.startswith(("#ifndef ", "#define ")) else line
                for line in text.splitlines()
            ]
            text = "\n".join([*lines, ""])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class Together:
    """The compiled program of some projects."""

    def __init__(self, projects: Iterable[Project], directory: Path) -> None:
        self.projects = {project.name: project for project in projects}
        self.size = max(project.outputs for project in self.projects.values())
        inputs = 1 + max(project.inputs for project in self.projects.values())
        _write_source(self.projects.values(), directory)
        with pytest.MonkeyPatch.context() as patch:
            # A few hundred events: what is optimised away takes longer to compile than to run.
            patch.setattr(c_simulation, "_FLAGS", ("-std=c++14", "-O0", "-fwrapv", "-w"))
            self.program = c_simulation.build(
                directory, c_simulation.Ports(TOP, TOP, inputs, self.size)
            )
        self.inputs = inputs

    def values(self, name: str, events: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of one network; a trigger system sends the bits of the type that it says."""
        project = self.projects[name]
        bits = np.zeros((len(events), self.inputs), np.int64)
        bits[:, 0] = list(self.projects).index(name)
        bits[:, 1 : 1 + project.inputs] = project.port.integers(events.reshape(len(events), -1))
        raw = c_simulation.simulate(self.program, bits, self.size, 1)[:, : project.outputs]
        if project.output.signed:
            half = 1 << (project.output.word - 1)
            raw = (raw ^ half) - half
        return raw * project.output.lsb


def refusals(projects: Iterable[Project], directory: Path) -> dict[str, str]:
    """The projects that the compiler does not accept, and what it says of each first."""
    _write_source(projects, directory)
    done = subprocess.run(
        [
            *c_simulation.compiler(),
            *("-std=c++14", "-w", "-fmax-errors=0", "-fsyntax-only", "-I.", "-Iap_types"),
            f"{TOP}.cpp",
        ],
        cwd=directory / "firmware",
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, str] = {}
    for name, said in re.findall(r"^(\w+)/\S+: error: (.*)$", done.stderr, re.MULTILINE):
        found.setdefault(name, said)
    return found


def _write_source(projects: Iterable[Project], directory: Path) -> None:
    includes = "".join([each.library for each in projects] + [each.source for each in projects])
    cases = "".join(
        f"    case {number}:\n        return run<{each.inputs}, {each.outputs}>"
        f"({each.function}, in + 1, out);\n"
        for number, each in enumerate(projects)
    )
    texts = {
        "library.h": _LIBRARY.format(includes=includes),
        f"{TOP}.cpp": _SOURCE.format(top=TOP, cases=cases),
    }
    for file, text in texts.items():
        (directory / "firmware" / file).write_text(text)
