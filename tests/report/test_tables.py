"""Tables for the terminal, and numbers as people read them."""

import pytest

from l1kd import schemas
from l1kd.errors import UserError
from l1kd.report import numbers
from l1kd.report.files import read_run
from l1kd.report.table import Table, row
from l1kd.report.tables import agreement_table, compare, cost_of, efficiency_table, ladder_table


def test_markdown_lines_up():
    table = Table(["name", "n"], [row("a|b", "1"), row("c", "1,000")])
    assert table.markdown().splitlines() == [
        "| name |     n |",
        "|------|------:|",
        "| a/b  |     1 |",
        "| c    | 1,000 |",
    ]


def test_compare_has_a_line_for_every_network(make, whole_run):
    bare = make("bare", stages=("train", "evaluate"))
    empty = make("empty", stages=("train",))
    broken = make("broken", mismatches=3)
    lines = compare([whole_run, bare, empty, broken]).splitlines()
    assert len(lines) == 2 + 4 + 4 + 1 + 4
    assert len({len(line) for line in lines}) == 1
    best = schemas.read(whole_run, "metrics.json").best
    (chosen,) = [line for line in lines if str(whole_run) in line and f"{best}*" in line]
    assert "exact, 0 of 102,622 differ" in chosen and "26,318" in chosen
    assert "estimate, hls4ml" in chosen
    assert sum("not verified" in line for line in lines) == 3
    assert sum("FAILED, 6 of 102,622 differ" in line for line in lines) == 1
    assert sum("not evaluated" in line for line in lines) == 1


def test_compare_refuses_what_is_no_run(tmp_path, whole_run):
    with pytest.raises(UserError, match="is not a run"):
        compare([whole_run, tmp_path])
    with pytest.raises(UserError, match="is not a run"):
        compare([tmp_path / "nowhere"])


def test_the_best_of_each_group_is_marked_and_the_chosen_student_too(whole_run):
    run = read_run(whole_run)
    table = efficiency_table(run)
    assert [each.kind for each in table.rows] == ["teacher"] + ["student"] * 3 + ["baseline"] * 6
    (chosen,) = [each for each in table.rows if each.chosen]
    assert chosen.cells[0].text == run.metrics.best
    for kind in ("student", "baseline"):
        members = [each for each in table.rows if each.kind == kind]
        for column in range(1, len(table.columns)):
            assert any(each.cells[column].mark == "best" for each in members)


def test_mismatches_are_marked(make):
    table = agreement_table(read_run(make(mismatches=2)))
    assert sum(each.cells[6].mark == "bad" for each in table.rows) == 2
    assert len(ladder_table(read_run(make("other"))).rows) == 12


def test_the_best_founded_cost_is_quoted(whole_run):
    run = read_run(whole_run)
    known = {"student": "v1", "implementation": "hls4ml", "tool": "t", "part": None}
    run.resources.append(
        schemas.Resources(**known, source="csynth", clock_ns=5.0, lut=1.0, latency_ns=30.0)
    )
    run.resources.append(schemas.Resources(**known, source="impl", clock_ns=5.0))  # knows nothing
    assert cost_of(run, "v1").source == "csynth"
    assert cost_of(run, "nobody") is None


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.count(None), numbers.DASH),
        (numbers.count(16384.0), "16,384"),
        (numbers.percent(0.3784), "37.8 %"),
        (numbers.quantity(0.0), "0"),
        (numbers.quantity(0.016849), "0.0168"),
        (numbers.quantity(2.861), "2.86"),
        (numbers.quantity(286.1), "286"),
        (numbers.quantity(26318.4), "26,318"),
        (numbers.rate(1.05e-4), "1.05e-4"),
        (numbers.rate(1e-2), "1e-2"),
        (numbers.rate(0), "0"),
        (numbers.score(1.5, 0.25), "1.50"),
        (numbers.score(3, 1.0), "3"),
        (numbers.score(1 / 256, 1 / 256), "0.0039"),
        (numbers.duration(4.21), "4.2 s"),
        (numbers.duration(192), "3 min 12 s"),
        (numbers.duration(7500), "2 h 5 min"),
        (numbers.plural(1, "pair"), "1 pair"),
        (numbers.plural(2, "mismatch", "mismatches"), "2 mismatches"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert shown == expected
