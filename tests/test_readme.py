"""The page of results says what was recorded; README is short."""

from __future__ import annotations

import json
import re

import pytest

from l1kd.evaluation.baselines import BASELINES
from l1kd.report import paper_numbers
from tests.benchmarks import (
    bench_baselines,
    bench_colearning,
    bench_paper,
    bench_search,
    bench_zoo,
    readme,
)


def test_the_table_of_students_is_the_recorded_one() -> None:
    text, found = bench_zoo.PAGE.read_text(), json.loads(bench_zoo.RESULTS.read_text())
    assert bench_zoo.in_page(text, found) == text
    assert len(found["cases"]) == len(list(bench_zoo.cases()))
    assert {(c["backend"], c["strategy"]) for c in found["cases"]} == set(bench_zoo.COMBINATIONS)
    assert all(case["certified"] and not case["mismatches"] for case in found["cases"])


def test_the_tables_of_the_search_are_the_recorded_ones_and_hold_what_was_asked() -> None:
    text, found = bench_search.PAGE.read_text(), json.loads(bench_search.RESULTS.read_text())
    assert bench_search.in_page(text, found) == text
    verdict = found["compared"][found["chosen"]]
    assert len(found["seeds"]) == 3
    assert verdict["auc"]["not_worse"] and verdict["efficiency"]["not_worse"]
    assert verdict["lut_ratio"] <= 0.5 and verdict["latency_cycles_ratio"] <= 1


def test_the_tables_of_the_paper_are_the_recorded_ones_and_hold_what_was_asked() -> None:
    text, found = bench_paper.PAGE.read_text(), json.loads(bench_paper.RESULTS.read_text())
    assert bench_paper.in_page(text, found) == text
    assert not [bar for bar in bench_paper.bars(found) if not bar.met]


def test_the_table_of_baselines_is_the_recorded_one_and_what_was_measured_before() -> None:
    text, found = bench_zoo.PAGE.read_text(), json.loads(bench_baselines.RESULTS.read_text())
    assert "\n".join(bench_baselines.table(found)) in text
    assert list(found["baselines"]) == list(BASELINES)
    for name, efficiency in {"pus_top16": 0.350, "pca": 0.358, "mahalanobis": 0.357}.items():
        row = found["baselines"][name]
        assert abs(row["mean_efficiency"] - efficiency) < row["error"]["efficiency"]


def test_the_recorded_epoch_is_of_the_same_networks_and_takes_half_of_the_peers() -> None:
    found = json.loads(bench_colearning.RESULTS.read_text())
    assert found["peer_parameters"] == paper_numbers.PARAMETERS
    assert found["students"] == dict.fromkeys(paper_numbers.STUDENTS, bench_colearning.BITS)
    assert found["ratio"] == pytest.approx(
        found["ours"]["median_s"] / found["peer"]["median_s"], abs=1e-3
    )
    assert found["ratio"] <= bench_colearning.BAR
    assert found["environment"]["taken_by_others"] <= bench_colearning.QUIET


def test_the_table_and_the_pictures_of_the_demo_are_the_recorded_run() -> None:
    found = json.loads(readme.RESULTS.read_text())
    texts = [page.read_text(encoding="utf-8") for page in readme.PAGES]
    assert [readme.in_page(text, found) for text in texts] == texts
    assert {path.name: readme.hash_in(path) for path in readme.PICTURES} == {
        path.name: readme.hash_of(found) for path in readme.PICTURES
    }
    assert found["mismatches"] == 0 and len(set(found["certified"])) == 1
    assert f"runs/demo/students/{found['best']}.keras" in texts[0]


def test_other_figures_in_readme_are_recorded_ones() -> None:
    text = readme.PAGES[0].read_text(encoding="utf-8")
    random = json.loads((readme.RESULTS.parent / "random_networks.json").read_text())["summary"]
    broken = json.loads((readme.RESULTS.parent / "certificate.json").read_text())["summary"]
    said = re.findall(r"(\d+) of (\d+) (random networks equal|broken projects refused)", text)
    assert said == [
        (str(random["equal"]), str(random["networks"]), "random networks equal"),
        (str(broken["with_the_right_layer"]), str(broken["broken"]), "broken projects refused"),
    ]


def test_the_rows_about_verilog_are_the_recorded_ones() -> None:
    text, records = bench_zoo.PAGE.read_text(), bench_zoo.RESULTS.parent
    found = json.loads((records / "verilog_mutations.json").read_text())["summary"]
    assert f"{found['refused']} of {found['unnoticed']} refused" in text
    assert found["unnoticed"] - found["refused"] <= 2 and not found["real_and_proved_equal"]
    students = json.loads((records / "verilog_certificates.json").read_text())["students"]
    written = [name for name, each in students.items() if each["written"]]
    certified = [name for name in written if students[name]["certified"]]
    told = f"{len(certified)} of {len(written)} certified for all inputs: {', '.join(certified)}"
    assert told in text and certified == written


def test_readme_fits_on_a_few_screens() -> None:
    assert len(readme.PAGES[0].read_text(encoding="utf-8").splitlines()) <= 200
