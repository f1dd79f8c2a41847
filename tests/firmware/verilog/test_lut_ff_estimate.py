"""The estimate's coefficients are those that its recorded benchmark gives, and they are good."""

from __future__ import annotations

from typing import Any

import pytest

from l1kd.firmware.verilog.lut_ff_estimate import FF_PER_REGISTER, LUT_PER_COST
from tests.benchmarks import bench_estimates as bench

ROWS: list[dict[str, Any]] = bench.recorded()["students"]
JUDGED, CALIBRATED = bench.of_set(ROWS, "judged"), bench.of_set(ROWS, "calibration")


def test_two_sets_of_thirty_that_share_no_student() -> None:
    assert (len(CALIBRATED), len(JUDGED)) == (30, 30)
    assert len({row["network"] for row in ROWS}) == 60


@pytest.mark.parametrize("rows", [CALIBRATED, JUDGED], ids=["calibration", "judged"])
def test_the_students_are_varied(rows: list[dict[str, Any]]) -> None:
    assert {row["student"].partition("_")[2] for row in rows} == {"dense", "conv", "small", "deep"}
    assert len({row["clock_ns"] for row in rows}) >= 5
    assert min(row["lut"] for row in rows) < 1_000
    assert max(row["lut"] for row in rows) > 10_000
    assert all(row["ff"] for row in rows)


def test_the_coefficients_are_the_recorded_fit() -> None:
    assert bench.fitted(CALIBRATED) == {"lut": LUT_PER_COST, "ff": FF_PER_REGISTER}


def test_students_that_did_not_calibrate_are_estimated_closely() -> None:
    found = bench.errors(JUDGED)
    assert found["lut"]["median_absolute"] <= bench.MAX_LUT_ERROR
    assert found["ff"]["median_absolute"] <= bench.MAX_FF_ERROR
    assert found == bench.recorded()["errors"]["judged"]


def test_the_recorded_students_are_those_that_the_benchmark_draws() -> None:
    """Seeds give the same networks; two of them, drawn again."""
    for number in (4, 17):
        network, clock_ns = bench.student(number)
        row = next(row for row in ROWS if row["student"] == network.name)
        assert row["clock_ns"] == clock_ns
        assert row["network"] == bench.content_hash(network.to_json())


def test_factors_are_on_the_right_side_of_one() -> None:
    assert LUT_PER_COST > 1, "Yosys packs less tightly"
    assert FF_PER_REGISTER < 1, "constant bits are left out"
