"""The stage `convert`: every student is made exact, once, and written as HLS and Verilog."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from l1kd.core import run_files
from l1kd.core.config import IoType
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.files import check_replaceable, file_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.network import Network
from l1kd.firmware.hls.backends import backend_named
from l1kd.firmware.hls.hls4ml_convert import check_size, to_hls
from l1kd.firmware.hls.project import NETWORK
from l1kd.firmware.run_firmware import chosen, hls_path, stated_port, verilog_path
from l1kd.firmware.stimuli.test_vectors import choose
from l1kd.firmware.verilog import alkaid_convert
from l1kd.networks.inspect import model_hash, multiplications

if TYPE_CHECKING:
    from tensorflow import keras

PARALLEL = 65_536  # multiplications of a network up to which `auto` writes an io_parallel project
_OWN = 1000  # of the run's events that a student's test bench may take


@dataclass(frozen=True)
class _Student:
    """A Keras model and its exact network, read once."""

    name: str
    model: keras.Model
    hash: str
    network: Network  # at the port that its first quantizer says
    port: FixedPoint | None  # the data's type, where it says more
    exact: Network  # at the port of its firmware


def convert(context: Context) -> None:
    """Check all students, then write `firmware/<student>/`, `firmware.json` and `rtl.json`."""
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
    students = {name: _read(context, name) for name in names}
    plan = [
        (each, kind) for each in students.values() for kind in io_types(each.model, config.io_type)
    ]
    for student, kind in plan:
        check_size(student.model, backend_named(config.backend), kind, config.strategy)
    for student in students.values():
        _store(context, student)
    options = config.model_dump(include={"backend", "strategy", "reuse", "part", "clock_ns"})
    records, vectors = [], {}  # of the test benches: corners, and some of the run's test events
    with context.progress("HLS projects", len(plan)) as advance:
        for student, kind in plan:
            path = hls_path(student.name, config.backend, kind, config.strategy)
            check_replaceable(context.directory / path, inside=context.directory)
            if student.name not in vectors:
                own = context.dataset.test.events(limit=_OWN)
                vectors[student.name] = choose(student.exact, own)
            project = to_hls(
                student.model,
                context.directory / path,
                io_type=kind,
                name=student.name,
                port=student.port,
                vectors=vectors[student.name],
                network=student.network,
                **options,
            )
            records.append(project.record.model_copy(update={"directory": path}))
            advance(1)
    run_files.write(context.directory, "firmware.json", records)
    context.say(f"{len(records)} HLS projects in {context.directory / 'firmware'}")
    wanted = chosen(context, context.config.rtl.students, names)
    logics = [_write_verilog(context, students[name], vectors[name]) for name in wanted]
    run_files.write(context.directory, "rtl.json", logics)


def _read(context: Context, name: str) -> _Student:
    """Load a student and make it exact; the lint may refuse it."""
    import l1kd
    from l1kd.networks.to_exact import read

    model = l1kd.load_model(context.student_file(name))
    network = read(model)
    port = stated_port(context, network)
    return _Student(name, model, model_hash(model), network, port, network.at_port(port))


def _store(context: Context, student: _Student) -> None:
    """Write `network.json` and `student.json`: what every later stage reads of the student."""
    from l1kd.networks.to_exact import doubts

    directory = context.firmware(student.name)
    check_replaceable(directory, inside=context.directory)
    record = run_files.StudentRecord(
        student=student.name,
        file=file_hash(context.student_file(student.name)),
        model=student.hash,
        float32=doubts(student.model, student.exact),
    )
    run_files.write(directory, "student.json", record)  # first: it marks the directory as ours
    student.exact.save(directory / NETWORK)


def _write_verilog(
    context: Context, student: _Student, vectors: NDArray[np.float64]
) -> run_files.RtlRecord:
    """Write a student's Verilog project, or say why there is none."""
    name, path = student.name, verilog_path(student.name)
    directory, exact = context.directory / path, student.exact
    device = context.config.firmware.model_dump(include={"part", "clock_ns"})
    options = device | {"name": name, "max_lut": context.config.rtl.max_lut}
    check_replaceable(directory, inside=context.directory)
    try:
        with context.progress(f"{name}: Verilog", len(exact.nodes)) as advance:
            logic = alkaid_convert.to_verilog(
                exact,
                directory,
                vectors=vectors,
                advance=advance,
                model_hash=student.hash,
                **options,
            )
    except UserError as error:
        shutil.rmtree(directory, ignore_errors=True)
        context.say(f"{name}: no Verilog: {error}")
        types = {"input_type": exact.port.text, "output_type": exact.output_types[0].text}
        return run_files.RtlRecord(
            student=name, directory=None, refused=str(error), **device, **types
        )
    record = logic.record
    context.say(f"{name}: Verilog of about {record.lut:,.0f} LUTs, {record.latency_cycles} cycles")
    return record.model_copy(update={"directory": path})


def io_types(model: keras.Model, wanted: str) -> tuple[IoType, ...]:
    """The kinds of project that are written of a network for `firmware.io_type`."""
    # Vendor tools take hours over logic for every multiplication of a large network. Of students of
    # 28x28 pixels s4 (35 thousand) qualifies, s3 (126 thousand) does not; all of 18x14 regions do.
    if wanted == "io_parallel":
        return ("io_parallel",)
    size = sum(multiplications(layer) or 0 for layer in model.layers)
    if wanted == "io_stream" or (wanted == "auto" and size > PARALLEL):
        return ("io_stream",)
    return ("io_parallel", "io_stream")
