"""The stage `convert`: students to HLS projects, and to Verilog beside them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from l1kd.core import run_files
from l1kd.core.config import Which
from l1kd.core.config_types import IoType
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.hls.backends import backend_named
from l1kd.firmware.hls.limits import check_size
from l1kd.firmware.stimuli.test_vectors import choose
from l1kd.firmware.verilog import alkaid_convert
from l1kd.networks.inspect import multiplications

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from tensorflow import keras

# Multiplications of a network up to which `auto` writes an io_parallel project.
PARALLEL = 65_536
_OWN = 1000  # of the run's events that a student's test bench may take


def convert(context: Context) -> None:
    """Write the projects of a run's students, `firmware.json` and `rtl.json`.

    Which students: all, or the best one (`firmware.students`; `rtl.students` of these). Which HLS
    projects: `firmware.io_type`, see `io_types`. All students are loaded and checked before the
    first project is written. A student that is too large as fully parallel logic gets no Verilog,
    and `rtl.json` says why.
    """
    import l1kd

    config = context.config.firmware
    names = [student.name for student in context.config.students]
    if config.students == "best":
        best = run_files.read(context.directory, "metrics.json").best
        if best not in names:
            raise UserError(
                f"metrics.json calls {best!r} the best student and the configuration has no such; "
                "run the evaluate stage again"
            )
        names = [best]
    models = {name: l1kd.load_model(context.student_file(name)) for name in names}
    plan = [(name, kind) for name in names for kind in io_types(models[name], config.io_type)]
    for name, kind in plan:
        check_size(models[name], backend_named(config.backend), kind, config.strategy)
    records = []
    vectors: dict[str, NDArray[np.float64]] = {}  # of both kinds of project the same
    with context.progress("HLS projects", len(plan)) as advance:
        for name, kind in plan:
            directory = context.projects / project_name(name, config.backend, kind, config.strategy)
            _sweep(directory)
            port = stated_port(context, models[name])
            if name not in vectors:
                vectors[name] = _vectors(context, models[name], port)
            project = hls4ml_convert.to_hls(
                models[name],
                directory,
                backend=config.backend,
                io_type=kind,
                strategy=config.strategy,
                reuse=config.reuse,
                part=config.part,
                clock_ns=config.clock_ns,
                name=name,
                port=port,
                vectors=vectors[name],
            )
            records.append(project.record)
            advance(1)
    run_files.write(context.directory, "firmware.json", records)
    context.say(f"{len(records)} HLS projects in {context.projects}")
    wanted = chosen(context, context.config.rtl.students, names)
    _write_rtl(context, {name: models[name] for name in wanted})


def chosen(context: Context, which: Which, names: Sequence[str]) -> list[str]:
    """Of some students those that `all`, `best` or `none` means; the best one first."""
    best = run_files.read(context.directory, "metrics.json").best
    ordered = sorted(names, key=lambda name: name != best)
    return [name for name in ordered if which == "all" or (which == "best" and name == best)]


def _write_rtl(context: Context, models: dict[str, keras.Model]) -> None:
    """Write the Verilog projects and `rtl.json`."""
    from l1kd.networks.to_exact import read

    config, records = context.config.firmware, []
    for name, model in models.items():
        directory = context.projects / rtl_name(name)
        _sweep(directory)
        port = stated_port(context, model)
        network = read(model)
        try:
            with context.progress(f"{name}: Verilog", len(network.nodes)) as advance:
                logic = alkaid_convert.convert(
                    model,
                    directory,
                    clock_ns=config.clock_ns,
                    part=config.part,
                    max_lut=context.config.rtl.max_lut,
                    name=name,
                    port=port,
                    advance=advance,
                )
        except UserError as error:
            shutil.rmtree(directory, ignore_errors=True)
            context.say(f"{name}: no Verilog: {error}")
            (result, *_) = network.output_types
            records.append(
                run_files.RtlRecord(
                    student=name,
                    directory=None,
                    refused=str(error),
                    part=config.part,
                    clock_ns=config.clock_ns,
                    input_type=(port or network.port).text,
                    output_type=result.text,
                )
            )
            continue
        records.append(logic.record)
        context.say(
            f"{name}: Verilog of about {logic.record.lut:,.0f} LUTs, "
            f"{logic.record.latency_cycles} cycles"
        )
    run_files.write(context.directory, "rtl.json", records)


def io_types(model: keras.Model, wanted: str) -> tuple[IoType, ...]:
    """The kinds of project that are written of a network.

    `auto` is io_stream for every network, and io_parallel too for one of at most 65,536
    multiplications: a project in which every multiplication of a layer's position is logic of its
    own is for small networks, and the vendor tools take hours over large ones. Of the shipped
    students all of 18x14 regions and s4-s7 of 28x28 pixels qualify (s4: 35 thousand), s1-s3 do not
    (s3: 126 thousand).
    """
    if wanted == "io_parallel":
        return ("io_parallel",)
    if wanted == "io_stream":
        return ("io_stream",)
    size = sum(multiplications(layer) or 0 for layer in model.layers)
    if wanted == "auto" and size > PARALLEL:
        return ("io_stream",)
    return ("io_parallel", "io_stream")


def rtl_name(student: str) -> str:
    """The directory of a student's Verilog among a run's projects."""
    return f"{student}-rtl"


def project_name(student: str, backend: str, io_type: str, strategy: str) -> str:
    """The directory of a project among a run's projects."""
    return f"{student}-{backend}-{io_type}-{strategy}"


def stated_port(context: Context, model: keras.Model) -> FixedPoint | None:
    """The data's type as a port, where it says more than the network's own and fits into it."""
    from l1kd.networks.to_exact import read

    own, grid = read(model).port, context.dataset.port or context.dataset.grid
    if grid.fraction > own.fraction or grid.low < own.low or grid.high > own.high:
        return None
    same = (grid.word, grid.integer, grid.signed) == (own.word, own.integer, own.signed)
    return None if same else grid


def _vectors(context: Context, model: keras.Model, port: FixedPoint | None) -> NDArray[np.float64]:
    """Events for a student's test bench: corners, and some of the run's own test events."""
    from l1kd.networks.to_exact import read

    network = read(model)
    events = context.dataset.test.events(limit=_OWN)
    return choose(network.at_port(port) if port else network, events)


def _sweep(directory: Path) -> None:
    """Delete what a conversion that was killed left of this project; the run is locked."""
    for ending in (".part", ".old"):
        for left in directory.parent.glob(f".{directory.name}.*{ending}"):
            shutil.rmtree(left, ignore_errors=True)
