"""Tables of quality and agreement, and numbers as people read them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from l1kd.core import run_files
from l1kd.report import number_format
from l1kd.report.export import compare
from l1kd.report.load_run import read_run
from l1kd.report.tables import (
    QUALITIES,
    Column,
    Table,
    agreement_table,
    certificate_table,
    float32_table,
    ladder_table,
    quality_table,
    text,
    value_of,
)
from l1kd.report.verdict import judge


def test_markdown_lines_up():
    columns = [text("name", 0), Column("n", lambda _, number: number)]
    table = Table.of(columns, [("a|b", 1), ("c", 1000)])
    assert table.markdown().splitlines() == [
        "| name |     n |",
        "|------|------:|",
        "| a/b  |     1 |",
        "| c    | 1,000 |",
    ]


def test_a_value_is_found_by_place_or_function_or_name():
    one, other = SimpleNamespace(a=1, b=2), SimpleNamespace(b=3)
    assert value_of((one, other), 1) is other
    assert value_of((one, other), lambda first, last: first.b + last.b) == 5
    assert value_of((one, other), "a") == 1 and value_of((one, other), "b") == 3
    assert value_of((one, None), "b") == 2 and value_of((other, None), "a") is None
    with pytest.raises(AttributeError, match="has no 'c'"):
        value_of((one, other), "c")


def test_the_best_of_each_group_is_marked_and_the_chosen_student_too(whole_run):
    run = read_run(whole_run)
    table = quality_table(run, QUALITIES[0])
    assert [each.kind for each in table.rows] == ["teacher"] + ["student"] * 3 + ["baseline"] * 14
    (chosen,) = [each for each in table.rows if each.chosen]
    assert chosen.cells[0].text == run.metrics.best
    for kind in ("student", "baseline"):
        members = [each for each in table.rows if each.kind == kind]
        for column in (
            place for place, title in enumerate(table.columns) if title not in "score ±"
        ):
            assert any(each.cells[column].mark == "best" for each in members)


def test_mismatches_are_marked(make):
    table = agreement_table(read_run(make(mismatches=2)))
    assert sum(each.cells[6].mark == "bad" for each in table.rows) == 2
    assert len(ladder_table(read_run(make("other"))).rows) == 15


def certified(directory, **certificate):
    """Give every student's record one certificate."""
    records = run_files.read(directory, "agreement.json")
    given = {
        "backend": "Vitis",
        "io_type": "io_parallel",
        "strategy": "latency",
        "certified": True,
        "layers": ["port", "dense1"],
        "findings": [],
        **certificate,
    }
    for record in records:
        record.certificates = [run_files.CertificateRecord.model_validate(given)]
    run_files.write(directory, "agreement.json", records)
    return read_run(directory)


def test_certificates_speak_for_all_inputs(make):
    run = certified(make("certified"))
    verdict = judge(run)
    assert verdict.state == "passed" and "certified for all inputs" in verdict.detail
    assert {each.cells[2].text for each in certificate_table(run).rows} == {
        "certified for all inputs"
    }
    assert "certified, 0 of" in compare([run.directory])


def test_a_refused_certificate_fails_the_run(make):
    finding = {"layer": "dense1", "step": "sums", "state": "refused", "reason": "one bit short"}
    run = certified(make("refused"), certified=False, findings=[finding])
    verdict = judge(run)
    assert verdict.state == "failed"
    (gate, *_) = [each for each in verdict.gates if each.state == "failed"]
    assert "layer dense1, sums: one bit short" in gate.detail
    assert all(each.cells[2].text == "refused" for each in certificate_table(run).rows)


def test_what_is_not_proved_is_left_to_tests(make):
    finding = {"layer": "dense1", "step": "code", "state": "open", "reason": "not covered"}
    run = certified(make("open"), certified=False, findings=[finding])
    told = "open (tested, not proved): layer dense1"
    assert judge(run).state == "failed"  # it is required, and `verify` fails too
    config = run.config.model_dump(mode="json")
    config["verify"]["certificate"] = "optional"
    verdict = judge(replace(run, config=type(run.config).model_validate(config)))
    assert verdict.state == "passed" and "certified" not in verdict.detail
    assert any(told in each.detail for each in verdict.gates)


def test_an_inexact_qkeras_is_said_and_fails_nothing(make):
    directory = make("inexact", mismatches=2)
    records = run_files.read(directory, "agreement.json")
    for record in records:
        record.float32 = {"dense1": "its sums need 30 bits"}
        for pair in record.pairs:
            pair.excused = "dense1: its sums need 30 bits" if pair.mismatches else None
    run_files.write(directory, "agreement.json", records)
    run = read_run(directory)
    gates = [each for each in judge(run).gates if each.name.startswith("Agreement")]
    assert {each.state for each in gates} == {"passed"}
    assert any("QKeras, whose float32 is inexact" in each.detail for each in gates)
    assert not any(each.cells[6].mark for each in agreement_table(run).rows)
    assert {each.cells[1].text for each in float32_table(run).rows} == {"dense1"}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number_format.count(None), number_format.DASH),
        (number_format.count(16384.0), "16,384"),
        (number_format.percent(0.3784), "37.8 %"),
        (number_format.quantity(0.0), "0"),
        (number_format.quantity(0.016849), "0.0168"),
        (number_format.quantity(2.861), "2.86"),
        (number_format.quantity(286.1), "286"),
        (number_format.quantity(26318.4), "26,318"),
        (number_format.share(0.0213), "2.1 %"),
        (number_format.share(0.000568), "0.057 %"),
        (number_format.share(None), number_format.DASH),
        (number_format.rate(1.05e-4), "1.05e-4"),
        (number_format.rate(1e-2), "1e-2"),
        (number_format.rate(0), "0"),
        (number_format.score(1.5, 0.25), "1.50"),
        (number_format.score(3, 1.0), "3"),
        (number_format.score(1 / 256, 1 / 256), "0.0039"),
        (number_format.duration(4.21), "4.2 s"),
        (number_format.duration(192), "3 min 12 s"),
        (number_format.duration(7500), "2 h 5 min"),
        (number_format.plural(1, "pair"), "1 pair"),
        (number_format.plural(2, "mismatch", "mismatches"), "2 mismatches"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert shown == expected
