"""What one event costs: operations counted by hand, energy counters, what is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from l1kd.core import run_files
from l1kd.core.context import Context
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Dense, Input, Sum
from l1kd.exact.network import Network
from l1kd.firmware import costs
from l1kd.firmware.run_firmware import open_student, projects_of
from tests.firmware.networks import copy_of


def test_bit_operations_of_a_product_and_its_sum() -> None:
    # 8 outputs of 4 products of 6 by 3 bits: 18 for the product, 6 + 3 + log2(4) for the sum.
    assert costs.bit_operations(32, 8, 6, 3) == 32 * (18 + 11)
    assert costs.bit_operations(32, 8, 6, 3, zeros=0.5) == 32 * (9 + 11)
    assert costs.bit_operations(0, 8, 6, 3) == 0


def test_an_exact_network_counted_by_hand() -> None:
    """A convolution 2x2 with stride 2 of 4x4, a sum over rows, a dense layer."""
    kernel = np.array([3, -4, 0, 0, 1, 1, 1, 1]).reshape(2, 2, 1, 2)  # 3 bits; 2 of 8 are zero
    nodes = (
        Input(name="in", sources=(), shape=(4, 4, 1), type=FixedPoint(6, 6, False)),
        Conv(name="conv", sources=("in",), shape=(2, 2, 2), kernel=kernel, kernel_fraction=0,
             bias=np.array([0, 0]), bias_fraction=0, strides=(2, 2)),
        Sum(name="sum", sources=("conv",), shape=(1, 2, 2), axes=(0,)),
        Dense(name="dense", sources=("sum",), shape=(1, 2, 1), kernel=np.array([[1], [1]]),
              kernel_fraction=0, bias=np.array([5]), bias_fraction=0),
    )  # fmt: skip
    network = Network("small", nodes, ("dense",))
    inner, summed = (network.bounds[name].type.word for name in ("conv", "sum"))
    macs, bits, params, size = costs.operations(network)
    assert macs == 4 * 2 * 4 + 2 * 2
    assert params == 8 + (2 + 1)
    assert size == (8 * 3 + 2 * 1 + 1 * 3) / 8
    assert bits == pytest.approx(
        32 * (0.75 * 6 * 3 + 6 + 3 + 2)
        + 8 * (inner + 1)  # 4 outputs of 2 values: additions alone
        + 4 * (summed * 1 + summed + 1 + 1)
    )


def test_a_keras_network_counted_by_hand() -> None:
    from tensorflow.keras import Input, Model, layers

    events = x = Input((4, 4, 1))
    x = layers.Conv2D(2, 3)(x)  # 2x2 positions
    x = layers.Conv2DTranspose(3, 2, strides=2)(x)  # at 2x2 inputs
    model = Model(events, layers.Dense(5)(layers.Flatten()(x)))
    products = [9 * 2 * 4, 2 * 2 * 2 * 3 * 4, 4 * 4 * 3 * 5]
    outputs = [8, 48, 5]
    macs, bits = costs.float_operations(model)
    assert macs == sum(products)
    assert bits == sum(
        each * (1024 + 64 + np.log2(each / out))
        for each, out in zip(products, outputs, strict=True)
    )


def package(root: Path, name: str, energy: int, largest: int = 1 << 32) -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "energy_uj").write_text(f"{energy}\n")
    (directory / "max_energy_range_uj").write_text(f"{largest}\n")
    return directory / "energy_uj"


def test_joules_of_all_packages_that_start_again_at_their_end(tmp_path: Path) -> None:
    first = package(tmp_path, "intel-rapl:0", 1_000_000)
    second = package(tmp_path, "intel-rapl:1", 990_000, largest=999_999)
    package(tmp_path, "intel-rapl:0:0", 5)  # the cores of the first, which has them already
    joules = costs.processor_joules(tmp_path)
    assert joules is not None and joules() == 0
    first.write_text("3500000")
    second.write_text("10000")
    assert joules() == pytest.approx(2.5 + 0.02)


def test_joules_that_nobody_may_read_are_unknown(tmp_path: Path) -> None:
    assert costs.processor_joules(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert costs.processor_joules(tmp_path) is None


def test_teacher_and_students_of_a_run(run: Context, tmp_path: Path) -> None:
    teacher = costs.teacher_cost(run)
    assert teacher.student is None and teacher.toggles is None
    # dense: 24 inputs, 8, 2, 8, 24
    assert teacher.macs == 24 * 8 + 8 * 2 + 2 * 8 + 8 * 24
    assert teacher.weight_bytes == 4 * (teacher.macs + 8 + 2 + 8 + 24)
    groups = projects_of(run.directory)
    student = costs.student_cost(run, open_student(run, "flat", groups["flat"]))
    assert student.macs == 24 * 4 + 4 and student.bit_operations < teacher.bit_operations
    kinds = [(each.implementation, each.batch > 1) for each in student.cpu]
    assert kinds == [
        (name, large) for name in (costs.EXACT, costs.KERAS) for large in (False, True)
    ]
    assert all(each.seconds > 0 for each in (*teacher.cpu, *student.cpu))
    assert student.toggles is not None and student.note is None
    assert 0 < student.toggles.net_toggles < student.toggles.nets
    assert 0 < student.toggles.register_toggles < student.toggles.registers

    limited = copy_of(run, tmp_path / "r", rtl={"tools_max_lut": 1})
    large = costs.student_cost(limited, open_student(limited, "flat", groups["flat"]))
    assert large.toggles is None and "tools_max_lut" in (large.note or "")
    run_files.write(limited.directory, "energy.json", [teacher, large])
    assert run_files.read(limited.directory, "energy.json") == [teacher, large]
