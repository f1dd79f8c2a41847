"""What an event costs: every number with its method, products that a calculator confirms."""

import json

import pytest

from l1kd.core import run_files
from l1kd.report.energy import (
    BIT_OPERATION_FJ,
    FABRICS,
    FLOAT_MAC_PJ,
    arithmetic_nj,
    energy_notes,
    energy_table,
    firmware_energy,
)
from l1kd.report.export import export
from l1kd.report.load_run import read_run
from l1kd.report.number_format import DASH
from l1kd.report.page import render


def _row(table, name):
    found = [row for row in table.rows if row.cells[0].text == name]
    return dict(zip(table.columns, (cell.text for cell in found[0].cells), strict=True))


def test_the_energy_of_the_firmware_is_what_was_counted_times_what_is_stated(whole_run):
    run = read_run(whole_run, scores=False)
    fabric = FABRICS["UltraScale+"]
    costs = {cost.student: cost for cost in run.energy}
    found = firmware_energy(run, costs["v1"])
    design = max(
        (e for e in run.costs if e.student == "v1" and e.implementation == "alkaid"),
        key=lambda each: each.trust,
    )
    assert found.time_ns == 25  # between two crossings, at 5 ns: five cycles
    assert found.toggles_nj == pytest.approx(6_000 * fabric.toggle_pj / 1_000)
    assert found.clock_nj == pytest.approx(4_000 * 5 * fabric.clock_fj / 1e6)
    assert found.static_nj == pytest.approx(design.lut * fabric.static_uw * 25 / 1e6)
    assert found.total_nj == found.toggles_nj + found.clock_nj + found.static_nj
    assert found.total_nj - found.low_nj == pytest.approx(
        6_000 * (fabric.toggle_pj - fabric.low_pj) / 1_000
    )
    assert found.low_nj < found.total_nj < found.high_nj
    assert arithmetic_nj(costs[None]) == pytest.approx(2_000_000 * FLOAT_MAC_PJ / 1_000)
    assert arithmetic_nj(costs["v1"]) == pytest.approx(500_000 * BIT_OPERATION_FJ / 1e6)


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
    assert all(row.cells[-1].text for row in table.rows)
    assert _row(table, "multiply-accumulates")["teacher / best"] == "400"
    assert _row(table, "CPU time, batch 1 [us]")["teacher"] == "800"
    assert _row(table, "CPU time, batch 1,024 [us]")["v1"] == "5.00"
    assert _row(table, "CPU time, exact, batch 1,024 [us]")["teacher"] == DASH
    joules = _row(table, "CPU energy, batch 1,024 [uJ]")
    assert joules["teacher"] == DASH and "cannot be read" in joules["method"]
    for name in ("firmware toggles", "firmware energy [nJ]"):
        row = _row(table, name)
        assert (row["teacher"], row["small"], row["teacher / best"]) == (DASH,) * 3
        assert float(row["v1"].replace(",", "")) > 0
    assert energy_notes(run) == ["small: toggles are not known: no Verilog that can be read."]


def test_page_and_formats_have_it(whole_run):
    run = read_run(whole_run)
    page = render(run)
    assert "What compression buys" in page and "glitches are not seen" in page
    assert "## What compression buys, per event" in export(whole_run, "markdown")
    rows = json.loads(export(whole_run, "json"))["energy"]
    assert rows[0]["student"] is None and rows[0]["firmware_energy"] is None
    assert rows[1]["firmware_energy"]["total_nj"] > 0
    assert rows[1]["firmware_energy"]["fabric"]["source"]
    assert rows[3]["toggles"] is None and rows[3]["firmware_energy"] is None


def test_a_part_without_a_sourced_energy_and_a_run_without_synthesis(make):
    directory = make()
    records = run_files.read(directory, "resources.json")
    others = [each.model_copy(update={"part": "xc7vx690tffg1927-2"}) for each in records]
    run_files.write(directory, "resources.json", others)
    run = read_run(directory, scores=False)
    assert all(firmware_energy(run, cost) is None for cost in run.energy)
    assert "a part whose energy per toggle has a source (UltraScale+)" in energy_notes(run)[0]
    names = [row.cells[0].text for row in energy_table(run).rows]
    assert "firmware toggles" in names and "firmware energy [nJ]" not in names

    early = read_run(make("early", stages=("train", "evaluate", "convert")), scores=False)
    assert early.energy is None and not energy_table(early).rows and not energy_notes(early)


def test_a_counter_of_the_processor_is_named_as_the_source(make):
    directory = make()
    records = run_files.read(directory, "energy.json")
    for record in records:
        for each in record.cpu:
            each.joules = 1e-5
    run_files.write(directory, "energy.json", records)
    row = _row(energy_table(read_run(directory, scores=False)), "CPU energy, batch 1,024 [uJ]")
    assert (row["teacher"], row["teacher / best"]) == ("10.0", "1.00")
    assert row["method"].startswith("RAPL, all packages")
