"""What an event costs: every number with its method, products that a calculator confirms."""

import json

import pytest

from l1kd.core import run_files
from l1kd.report.energy import (
    BIT_OPERATION_FJ,
    FABRICS,
    FLOAT_MAC_PJ,
    QUANTITIES,
    energy_notes,
    energy_table,
    quantities,
)
from l1kd.report.export import export
from l1kd.report.load_run import read_run
from l1kd.report.number_format import DASH
from l1kd.report.page import render

ENERGIES = ("toggles_nj", "clock_nj", "static_nj", "firmware_nj", "low_nj", "high_nj")


def _row(table, key):
    found = [row for row in table.rows if row.cells[0].text == QUANTITIES[key][0]]
    return dict(zip(table.columns, (cell.text for cell in found[0].cells), strict=True))


def test_energies_are_what_was_counted_times_what_is_stated(whole_run):
    run = read_run(whole_run, scores=False)
    fabric = FABRICS["UltraScale+"]
    teacher, v1, *_ = (quantities(run, cost) for cost in run.energy)
    design = max(
        (e for e in run.costs if e.student == "v1" and e.implementation == "alkaid"),
        key=lambda each: each.trust,
    )
    # An event per crossing of 25 ns, at 5 ns: five cycles.
    wanted = {
        "toggles_nj": 6_000 * fabric.toggle_pj / 1_000,
        "clock_nj": 4_000 * 5 * fabric.clock_fj / 1e6,
        "static_nj": design.lut * fabric.static_uw * 25 / 1e6,
    }
    assert {name: v1[name] for name in wanted} == pytest.approx(wanted)
    assert v1["firmware_nj"] == pytest.approx(sum(wanted.values()))
    assert v1["high_nj"] - v1["low_nj"] == pytest.approx(6 * (fabric.high_pj - fabric.low_pj))
    assert v1["low_nj"] < v1["firmware_nj"] < v1["high_nj"]
    assert v1["latency_ns"] == design.latency_ns
    assert teacher["arithmetic_nj"] == pytest.approx(2_000_000 * FLOAT_MAC_PJ / 1_000)
    assert v1["arithmetic_nj"] == pytest.approx(500_000 * BIT_OPERATION_FJ / 1e6)
    assert not any(teacher[name] for name in (*ENERGIES, "toggled", "latency_ns"))


def test_every_row_has_its_method_and_what_is_unknown_is_a_dash(whole_run):
    run = read_run(whole_run, scores=False)
    table = energy_table(run)
    assert table.columns == [
        "one event",
        "teacher",
        "v1",
        "v2",
        "small",
        "teacher / best",
        "method",
    ]
    assert all(row.cells[-1].text for row in table.rows) and len(table.rows) == len(QUANTITIES)
    assert _row(table, "macs")["teacher / best"] == "400"
    assert _row(table, "cpu_one_us")["teacher"] == "800"
    assert _row(table, "cpu_many_us")["v1"] == "5.00"
    assert _row(table, "exact_many_us")["teacher"] == DASH
    assert _row(table, "cpu_many_uj")["teacher"] == DASH
    for key in ("toggled", "firmware_nj"):
        row = _row(table, key)
        assert (row["teacher"], row["small"], row["teacher / best"]) == (DASH,) * 3
        assert float(row["v1"].replace(",", "")) > 0
    assert energy_notes(run) == ["small: toggles are not known: no Verilog that can be read."]


def test_page_and_formats_have_it(whole_run):
    page = render(read_run(whole_run))
    assert "What compression buys" in page and "glitches are not seen" in page
    assert "## What compression buys, per event" in export(whole_run, "markdown")
    rows = json.loads(export(whole_run, "json"))["energy"]
    assert [row["student"] for row in rows] == [None, "v1", "v2", "small"]
    assert [row["firmware_nj"] is None for row in rows] == [True, False, False, True]
    assert rows[1]["toggled"] == 6_000 and rows[1]["toggles"]["nets"] == 20_000
    assert rows[3]["toggled"] is None and rows[3]["toggles"] is None


def test_a_part_without_a_sourced_energy_and_a_run_without_synthesis(make):
    directory = make()
    records = run_files.read(directory, "resources.json")
    others = [each.model_copy(update={"part": "xc7vx690tffg1927-2"}) for each in records]
    run_files.write(directory, "resources.json", others)
    run = read_run(directory, scores=False)
    for cost in run.energy:
        found = quantities(run, cost)
        assert not any(found[name] for name in ENERGIES)
        assert (found["toggled"] is None) == (cost.toggles is None)
    assert "a part whose energy per toggle has a source (UltraScale+)" in energy_notes(run)[0]

    early = read_run(make("early", stages=("train", "evaluate", "convert")), scores=False)
    assert early.energy is None and not energy_table(early).rows and not energy_notes(early)


def test_a_counter_of_the_processor_is_shown(make):
    directory = make()
    records = run_files.read(directory, "energy.json")
    for record in records:
        for each in record.cpu:
            each.joules = 1e-5
    run_files.write(directory, "energy.json", records)
    row = _row(energy_table(read_run(directory, scores=False)), "cpu_many_uj")
    assert (row["teacher"], row["teacher / best"]) == ("10.0", "1.00")
    assert row["method"].startswith("RAPL, all packages")
