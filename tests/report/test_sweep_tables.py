"""Tables of a sweep: arithmetic against numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from l1kd.core.config import Distillation
from l1kd.report.sweep_tables import markdown, mode_of, rows, summarise, write_parquet, write_tables


def record(normal: int | None, auc: float, **own: Any) -> dict[str, Any]:
    return {
        "group": "exposure",
        "run": f"exposure-{normal}",
        "data": "mnist",
        "normal": normal,
        "seed": 7,
        "mode": "exposure",
        "model": "s1",
        "weight_bits": 8,
        "epochs": 28,
        "auc": auc,
        "efficiency": 0.5,
        "emd_anomalous": 0.01,
        "emd_normal": 0.02,
        "emd_anomalous_calibrated": 0.005,
        "mae": 0.03,
        "spearman": 0.9,
        "params": 100,
        "chosen": True,
        "mismatches": 0,
        "compared": 1000,
        "seconds": 10.0,
        "recipe": "abc",
        **own,
    }


def test_a_cell_is_a_mean_over_classes() -> None:
    (cell,) = summarise(
        [
            record(0, 0.90, emd_anomalous=0.010, epochs=20),
            record(4, 0.80, emd_anomalous=0.020, mismatches=2),
            record(8, 0.85, emd_anomalous=None, compared=None, mismatches=None),
        ]
    )
    assert cell["classes"] == [0, 4, 8]
    assert (cell["seeds"], cell["epochs"], cell["weight_bits"]) == ([7], 28, 8)
    assert cell["auc_mean"] == pytest.approx(0.85)
    assert cell["auc_std"] == pytest.approx(0.05)  # (0.05^2 + 0.05^2 + 0) / 2 = 0.05^2
    assert cell["auc_se"] == pytest.approx(0.05 / math.sqrt(3))
    assert cell["auc_seed_std"] is None
    assert cell["emd_anomalous"] == pytest.approx(0.015)
    assert (cell["emd_anomalous_calibrated"], cell["emd_normal_calibrated"]) == (0.005, None)
    assert (cell["mismatches"], cell["compared"]) == (2, 2000)


def test_a_class_s_value_is_its_mean_over_seeds() -> None:
    (cell,) = summarise(
        [
            record(0, 0.9, seed=1),
            record(0, 0.7, seed=2),
            record(4, 0.6, seed=1),
            record(4, 0.6, seed=2),
            record(4, 0.6, seed=3),
        ]
    )
    assert cell["seeds"] == [1, 2, 3]
    assert cell["auc_mean"] == pytest.approx(0.7)  # of 0.8 and 0.6, not of five
    assert cell["auc_std"] == pytest.approx(math.sqrt(0.02))
    assert cell["auc_se"] == pytest.approx(0.1)
    assert cell["auc_seed_std"] == pytest.approx(0.1)  # variances 0.02 and 0


def test_what_differs_is_another_cell() -> None:
    others = [
        record(4, 0.8, **{name: value})
        for name, value in (
            ("data", "fashion_mnist"),
            ("mode", "noise"),
            ("model", "s2"),
            ("weight_bits", 4),
            ("recipe", "xyz"),
        )
    ]
    cells = summarise([record(0, 0.9), *others])
    assert len(cells) == 6
    assert all(cell["auc_std"] is None and cell["auc_se"] is None for cell in cells)


def test_a_teacher_of_two_groups_is_one() -> None:
    """The same recipe, class and seed twice: counted once."""
    teacher = {"model": "teacher", "weight_bits": 32, "emd_anomalous": None}
    (cell,) = summarise(
        [
            record(0, 0.9, **teacher),
            record(4, 0.8, **teacher),
            record(0, 0.9, **teacher, group="four_bits"),
        ]
    )
    assert cell["auc_mean"] == pytest.approx(0.85)
    assert cell["group"] == "exposure, four_bits"
    assert cell["emd_anomalous"] is None


def test_events_without_classes() -> None:
    (cell,) = summarise([record(None, 0.9, seed=1), record(None, 0.8, seed=2)])
    assert (cell["classes"], cell["auc_std"], cell["auc_se"]) == ([], None, None)
    assert cell["auc_mean"] == pytest.approx(0.85)
    assert cell["auc_seed_std"] == pytest.approx(0.1 / math.sqrt(2))


@pytest.mark.parametrize(
    ("mode", "exposure", "name"),
    [
        ("sequential", [], "sequential"),
        ("sequential", ["dataset"], "sequential"),
        ("colearning", [], "colearning"),
        ("colearning", ["dataset"], "exposure"),
        ("colearning", ["noise", "dataset"], "exposure"),
        ("colearning", ["noise"], "noise"),
        ("colearning", ["shuffle", "patch"], "noise"),
    ],
)
def test_modes(mode: Any, exposure: Any, name: str) -> None:
    assert mode_of(Distillation(mode=mode, exposure=exposure)) == name


def test_markdown() -> None:
    teacher = {"model": "teacher", "weight_bits": 32, "emd_anomalous": None, "mae": None}
    bare = {"mismatches": None, "compared": None}
    found = [
        record(0, 0.95, **teacher, **bare),
        record(4, 0.93, **teacher, **bare),
        record(0, 0.90, **{"data.k": 1}),
        record(4, 0.80, **{"data.k": 1}),
    ]
    text = markdown(summarise(found), 2, 3)
    assert text.startswith("2 of 3 runs are evaluated.")
    lines = [line for line in text.splitlines() if line.startswith("| mnist")]
    assert len(lines) == 4  # quality, distance of the anomalies, calibrated, difference
    assert "0.940 +- 0.010 (0.014)" in lines[0]
    assert "0.850 +- 0.050 (0.071)" in lines[0]
    assert "exposure; k 1" in lines[0]
    assert "0 mismatches of `exact` and `csim` in 2,000 comparisons" in text
    assert markdown([], 0, 3) == "0 of 3 runs are evaluated.\n"


def test_parquet_holds_what_it_is_given(tmp_path: Path) -> None:
    given = [
        {"a": 1, "mixed": 1, "list": [1, 2], "none": None},
        {"a": None, "mixed": "x", "list": [], "late": 0.5},
    ]
    write_parquet(tmp_path / "t.parquet", given)
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == [
        {"a": 1, "mixed": "1", "list": [1, 2], "none": None, "late": None},
        {"a": None, "mixed": '"x"', "list": [], "none": None, "late": 0.5},
    ]
    write_parquet(tmp_path / "empty.parquet", [])
    assert parquet.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_nothing_made_yet(tmp_path: Path) -> None:
    assert rows([tmp_path / "none"]) == []
    text = write_tables(tmp_path, [tmp_path / "none"])
    assert text == "0 of 1 runs are evaluated.\n"
    assert (tmp_path / "summary.md").read_text() == text
