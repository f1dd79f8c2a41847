"""The front of small students: who is on it, and that docs and record agree."""

from __future__ import annotations

from typing import Any

from l1kd.core.files import read_json
from tests.benchmarks.bench_front import PAGE, RESULTS, front, in_page


def row(lut: float, band: float) -> dict[str, Any]:
    return {"summary": {"lut": lut, "validation": {"band": band}}}


def test_nobody_on_the_front_is_beaten() -> None:
    students = {
        "large": row(900, 0.35),
        "worse": row(800, 0.30),
        "alike": row(500, 0.32),
        "small": row(300, 0.32),
        "least": row(100, 0.1),
    }
    assert front(students) == ["least", "small", "large"]


def test_the_page_is_the_record() -> None:
    found = read_json(RESULTS)
    assert found["front"] == front(found["students"])
    text = PAGE.read_text(encoding="utf-8")
    assert in_page(text, found) == text
