"""A run's numbers for other programs."""

import csv
import io
import json

import pytest

from l1kd.core import run_files
from l1kd.core.errors import UserError
from l1kd.report.export import export


def test_json_has_costs_with_layers_and_unknown_is_null(whole_run):
    found = json.loads(export(whole_run, "json"))
    assert found["state"] == "passed" and found["best"] in found["students"]
    assert found["timing"].startswith("Timing is not closed")
    assert len(found["resources"]) == 10 and len(found["verilog"]) == 3
    first = found["resources"][0]
    assert (first["student"], first["source"]) == (found["best"], "estimate")
    assert first["dsp"] is None and first["latency_ns"] == 35.0 and first["interval_ns"] == 5.0
    assert [layer["name"] for layer in first["layers"]] == ["conv1", "dense1"]
    assert found["resources"][1]["lut_over_estimate"] == 1.25
    assert found["resources"][1]["dsp"] == 0.0


def test_csv_has_a_row_for_each_record_and_each_layer(whole_run):
    rows = list(csv.DictReader(io.StringIO(export(whole_run, "csv"))))
    whole = [row for row in rows if not row["layer"]]
    layers = [row for row in rows if row["layer"]]
    assert len(whole) == 10 and len(layers) == 6
    assert all(row["source"] and row["implementation"] and row["tool"] for row in rows)
    assert {row["timing_closed"] for row in whole} == {"False"}
    for estimate in (row for row in whole if row["tool"] == "alkaid 0.8.2"):
        own = [float(row["lut"]) for row in layers if row["student"] == estimate["student"]]
        assert sum(own) == float(estimate["lut"])
        assert estimate["dsp"] == ""


def test_markdown_is_tables_with_their_labels(whole_run):
    text = export(whole_run, "markdown")
    assert text.startswith("# whole: Verified")
    for title in ("Agreement", "Verilog", "Logic and latency", "Fidelity ladder"):
        assert f"## {title}\n" in text
    assert "## Estimate beside synthesis, Verilog (alkaid)" in text and "(1.25 x)" in text
    assert "Timing is not closed: ns are cycles times the target clock." in text
    assert "rtlsim" in text


@pytest.mark.parametrize("stages", [(), ("train", "evaluate")])
@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_what_has_not_run_is_absent_not_zero(make, stages, form):
    text = export(make(stages=stages), form)
    if form == "json":
        found = json.loads(text)
        assert found["resources"] is None and found["verilog"] is None
        assert found["state"] == "open"
    elif form == "csv":
        assert text == ""
    else:
        assert "The stage “synth” has not run." in text


def test_a_damaged_file_and_a_directory_that_is_no_run(make, tmp_path):
    run = make()
    (run / "rtl.json").write_text("[{}]")
    with pytest.raises(UserError, match=r"rtl\.json"):
        export(run, "json")
    with pytest.raises(UserError, match="is not a run"):
        export(tmp_path, "csv")


def test_nothing_is_written(make):
    run = make()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for form in ("json", "csv", "markdown"):
        export(run, form)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert run_files.read(run, "manifest.json").name == "fixture"


def test_the_command_line_prints_them(l1kd, whole_run):
    answer = l1kd("report", whole_run, "--format", "json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["run"] == "whole" and not answer.stderr
    answer = l1kd("report", whole_run, "--format", "yaml")
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    answer = l1kd("compare", whole_run, "--implementation", "hls4ml", "--format", "csv")
    assert answer.returncode == 0 and "io_stream" in answer.stdout
    answer = l1kd("compare", whole_run, "--implementation", "alkaid", "--io-type", "io_stream")
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
