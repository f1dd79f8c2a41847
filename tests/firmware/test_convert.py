"""The stage `convert`: which students become which projects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from l1kd.core import run_files
from l1kd.core.config import Score, Student
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.sources import SOURCES
from l1kd.firmware.convert import convert, io_types
from l1kd.firmware.hls.project import open_project
from l1kd.firmware.run_firmware import stated_port
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read
from tests.firmware.networks import copy_of, little


def test_every_student_becomes_its_projects(run: Context) -> None:
    records = run_files.read(run.directory, "firmware.json")
    assert [(record.student, record.io_type) for record in records] == [
        (student, kind) for student in ("flat", "image") for kind in ("io_parallel", "io_stream")
    ]
    for record in records:
        assert record.directory == f"firmware/{record.student}/hls/Vitis-{record.io_type}-latency"
        stored = open_project(run.directory / record.directory).record
        assert stored == record.model_copy(update={"directory": "."})
        assert record.top == f"l1kd_{record.student}"
        assert record.input_type == "ap_int<6>"


def test_the_best_student_alone(run: Context, tmp_path: Path) -> None:
    mine = copy_of(run, tmp_path / "r", firmware={"students": "best", "io_type": "io_stream"})
    best = run_files.read(mine.directory, "metrics.json").best
    convert(mine)
    (record,) = run_files.read(mine.directory, "firmware.json")
    assert (record.student, record.io_type) == (best, "io_stream")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "shape", "parallel"),
    [(f"s{index}", (28, 28, 1), index > 3) for index in range(1, 8)]
    + [("cicada_v1", (18, 14), True), ("cicada_v2", (18, 14), True), ("dense", (18, 14), True)],
)
def test_small_networks_are_parallel_too(name: str, shape: tuple[int, ...], parallel: bool) -> None:
    grid = FixedPoint(9, 1) if shape == (28, 28, 1) else FixedPoint(11, 11)
    student = Student(name="x", architecture=name)  # type: ignore[arg-type]
    model = build_student(student, shape, grid, Score())
    assert io_types(model, "auto") == (("io_parallel",) if parallel else ()) + ("io_stream",)
    assert io_types(model, "both") == ("io_parallel", "io_stream")
    assert io_types(model, "io_parallel") == ("io_parallel",)


def test_a_student_beyond_the_vendor_s_limit_stops_it_before_the_first_project(
    tmp_path: Path,
) -> None:
    from tests.firmware.networks import make_run

    wide = {"size": 2048}
    students = [{"name": "a", "architecture": "dense", "hidden": [2]}]
    students += [{"name": "wide", "architecture": "cicada_v2", "layers": {"conv1": wide}}]  # type: ignore[list-item]
    context = make_run(tmp_path, students=students)
    with pytest.raises(CheckFailed, match="wide: layer 'conv1' has 8192 weights"):
        convert(context)
    assert not (tmp_path / "firmware").exists() and not (tmp_path / "firmware.json").exists()


def test_a_missing_student_is_said(run: Context, tmp_path: Path) -> None:
    mine = copy_of(run, tmp_path / "r")
    mine.student_file("image").unlink()
    with pytest.raises(UserError, match=r"image\.keras"):
        convert(mine)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("source", "grid", "port"),
    [
        ("calo", FixedPoint(11, 11), FixedPoint(10, 10, False)),
        ("mnist", FixedPoint(9, 1), FixedPoint(8, 0, False)),
        ("arrays", FixedPoint(11, 11), None),
        ("arrays", FixedPoint(8, 8, False), FixedPoint(8, 8, False)),
        ("arrays", FixedPoint(14, 14), None),
    ],
)
def test_the_data_s_type_is_the_port_where_it_fits(
    source: str, grid: FixedPoint, port: FixedPoint | None
) -> None:
    kind = FixedPoint(9, 1) if grid.word == 9 else FixedPoint(11, 11)
    model = little(port=f"quantized_bits({kind.word},{kind.integer - 1},0,alpha=1)")
    dataset = SimpleNamespace(grid=grid, port=SOURCES[source].port)
    context: Any = SimpleNamespace(dataset=dataset)
    assert stated_port(context, read(model)) == port
