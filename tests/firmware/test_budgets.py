"""Budgets: chosen by an estimate, judged by the most trustworthy numbers, missed out loud."""

import io
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from rich.console import Console

from l1kd.core import run_files
from l1kd.core.config import Choose, Config, Firmware
from l1kd.core.context import Context
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Candidate, Metrics, Resources
from l1kd.data.dataset import Dataset, Sample, Signal
from l1kd.firmware import budgets, synth
from l1kd.runs.run import evaluate_within_budgets
from l1kd.training.target_transform import TargetTransform, save_target

PART = "xcvu13p-flga2577-2-e"
SHAPE = (4,)


def _record(source="estimate", implementation="alkaid", **given):
    io_type = None if implementation == "alkaid" else "io_stream"
    common = {"student": "best", "tool": f"a {source}", "part": PART, "clock_ns": 5.0}
    return Resources(
        **{
            **common,
            "source": source,
            "implementation": implementation,
            "io_type": io_type,
            **given,
        }
    )


ESTIMATE = _record(latency_ns=35.0, interval_cycles=1, lut=1_000.0, ff=900.0)
MATRICES = _record(implementation="hls4ml", lut=300.0)  # the matrices alone


def _context(directory, **choose):
    config = Config.model_validate(
        {
            "name": "small",
            "data": {"source": "arrays", "background": ["x.npz"]},
            "teacher": {"architecture": "dense"},
            "students": [{"name": name, "architecture": "dense"} for name in ("fine", "coarse")],
            "choose": choose,
        }
    )
    return Context(directory, config, Console(file=io.StringIO()))


def _check(directory, records, choice=(), **choose):
    metrics = Metrics(dataset={}, teacher=None, baselines={}, students={}, best="best")
    metrics.choice = list(choice)
    run_files.write(directory, "metrics.json", metrics)
    budgets.check(_context(directory, **choose), records)


def test_without_budgets_there_is_nothing_to_check(tmp_path):
    budgets.check(_context(tmp_path), [])  # not even metrics.json is read


@pytest.mark.parametrize(
    ("records", "lut"),
    [
        ([ESTIMATE], 1_000),
        ([ESTIMATE, MATRICES], 1_000),  # an estimate of matrices alone is less than a design's
        ([MATRICES], 300),
        ([ESTIMATE, _record("yosys", lut=1_200.0)], 1_200),
        ([_record("yosys", lut=1_200.0), _record("csynth", "hls4ml", lut=5_000.0)], 5_000),
        ([_record("csynth", "hls4ml", lut=5_000.0), _record("vsynth", "hls4ml", lut=2.0)], 2),
        ([_record("impl", "hls4ml", lut=3.0), _record("vsynth", "hls4ml", lut=2.0)], 3),
        ([_record("vsynth", "hls4ml", lut=2.0), _record("impl", "hls4ml")], 2),  # knows nothing
        ([_record("yosys", lut=9e9, student="other"), ESTIMATE], 1_000),
    ],
)
def test_the_most_trustworthy_number_is_judged(tmp_path, records, lut):
    for order in (records, records[::-1]):
        _check(tmp_path, order, max_lut=lut)
        with pytest.raises(CheckFailed, match="budget missed by the best student, 'best'"):
            _check(tmp_path, order, max_lut=lut * 0.99)


def test_a_miss_names_source_and_number(tmp_path):
    records = [ESTIMATE, _record("yosys", lut=1_500.0, ff=910.0)]
    with pytest.raises(CheckFailed) as error:
        _check(tmp_path, records, max_lut=1_200, max_latency_ns=25.0)
    assert str(error.value) == (
        "budget missed by the best student, 'best': LUT 1,500: 300 over max_lut 1,200 (1.25 times) "
        "(yosys (a yosys) of alkaid's Verilog); latency 35 ns: 10 ns over max_latency_ns 25 ns "
        "(1.4 times) (estimate (a estimate) of alkaid's Verilog)"
    )


def test_designs_are_not_mixed_and_unknown_is_a_miss(tmp_path):
    # C synthesis knows LUTs of the C++; the latency that is known is the Verilog's.
    records = [ESTIMATE, _record("csynth", "hls4ml", lut=500.0)]
    _check(tmp_path, records, max_lut=500)
    with pytest.raises(CheckFailed, match="latency not known: max_latency_ns 100 ns"):
        _check(tmp_path, records, max_lut=500, max_latency_ns=100)
    with pytest.raises(CheckFailed, match="LUT not known"):
        _check(tmp_path, [], max_lut=500)


def test_of_designs_known_equally_well_the_one_within_the_budgets_counts(tmp_path):
    parallel = _record("csynth", "hls4ml", io_type="io_parallel", lut=9_000.0, interval_cycles=1)
    stream = _record("csynth", "hls4ml", io_type="io_stream", lut=2_000.0, interval_cycles=252)
    for order in ([parallel, stream], [stream, parallel]):
        _check(tmp_path, order, max_lut=3_000)
        _check(tmp_path, order, max_interval_ns=25)
        with pytest.raises(CheckFailed):
            _check(tmp_path, order, max_lut=3_000, max_interval_ns=25)


def test_the_estimate_that_chose_the_student_counts_where_there_is_no_other(tmp_path):
    choice = [Candidate(student="best", quality=1.0, tool="alkaid 0", lut=700.0, ratio=0.7)]
    _check(tmp_path, [MATRICES], choice, max_lut=800)
    with pytest.raises(CheckFailed, match=r"LUT 700.*estimate \(alkaid 0\) of alkaid's Verilog"):
        _check(tmp_path, [MATRICES], choice, max_lut=600)
    _check(tmp_path, [_record("yosys", lut=500.0)], choice, max_lut=600)


def test_the_largest_share_is_of_what_is_known():
    recorded = _record("yosys", lut=1.0, ff=1.0, share={"lut": 0.1, "ff": 0.02, "uram": 0.9})
    assert recorded.largest_share == 0.1
    assert _record(lut=1.0, share={"lut": 0.1}).largest_share is None  # FFs are not known
    assert _record(lut=1.0, ff=1.0, part="xcnothing").largest_share is None


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), True, "many"])
@pytest.mark.parametrize("key", ["max_lut", "max_latency_ns", "max_interval_ns", "max_share"])
def test_bad_budgets_are_refused(key, bad):
    with pytest.raises(ValueError, match=key):
        Choose.model_validate({key: bad})


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match="max_share"):
        Choose.model_validate({"max_share": 2.1})


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A run: `fine` is the better student, with more logic than `coarse`."""
    import qkeras
    from tensorflow import keras

    directory = tmp_path_factory.mktemp("run")
    save_target(TargetTransform("log1p", 40.0, 0.0, FixedPoint(16, 8, signed=False)), directory)
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(1, use_bias=False, activation="relu")
    teacher = keras.Model(inputs, dense(inputs))
    dense.set_weights([np.array([[1.0], [0.6875], [0.4375], [0.8125]])])
    teacher.save(directory / "teacher.keras")
    (directory / "students").mkdir()
    kernels = {"fine": [1.0, 0.6875, 0.4375, 0.8125], "coarse": [0.0, 0.0, 0.0, 0.5]}
    for name, kernel in kernels.items():
        inputs = keras.Input(SHAPE)
        bits = "quantized_bits(8, 1, alpha=1)"
        port = qkeras.QActivation("quantized_bits(8, 7, alpha=1)", name="port")(inputs)
        layer = qkeras.QDense(1, kernel_quantizer=bits, bias_quantizer=bits, name="dense")
        score = qkeras.QActivation("quantized_relu(16, 8)", name="score")
        model = keras.Model(inputs, score(layer(port)), name=name)
        layer.set_weights([np.array(kernel)[:, None], np.zeros(1)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # QKeras' quantizers are no Keras constraints
            model.save(directory / "students" / f"{name}.keras")
    return directory


def _dataset():
    grid = FixedPoint(8, 8, signed=True)

    def sample(name, seed, count, scale):
        events = np.random.default_rng(seed).normal(0, scale, (count, *SHAPE))
        return Sample.of(name, grid.quantize(events).astype(np.float32))

    return Dataset(
        train=sample("train", 0, 300, 2),
        val=sample("val", 1, 300, 2),
        test=sample("test", 2, 300, 2),
        signals={"far": Signal(sample("far", 3, 200, 9), sample("far", 4, 200, 9))},
        grid=grid,
        description={"source": "test"},
    )


def _evaluate(networks, **choose):
    context = _context(networks, **choose)
    context.__dict__["dataset"] = _dataset()
    try:
        evaluate_within_budgets(context)
    finally:
        said = context.console.file.getvalue()
    return run_files.read(networks, "metrics.json"), said


def _costs(monkeypatch, **found):
    """In place of alkaid's estimates, by student: LUTs and latency, or why they are not known."""
    asked = []

    def estimate(network, *, clock_ns, max_lut):
        asked.append(network.name)
        if isinstance(found[network.name], str):
            raise UserError(found[network.name])
        lut, cycles = found[network.name]
        return SimpleNamespace(lut=lut, ff=lut, latency_cycles=cycles, interval_cycles=1)

    monkeypatch.setattr("l1kd.firmware.verilog.alkaid_convert.estimate", estimate)
    return asked


def test_without_budgets_nothing_is_traced(networks, monkeypatch):
    asked = _costs(monkeypatch)
    metrics, _ = _evaluate(networks)
    assert metrics.best == "fine" and metrics.choice == [] and asked == []


def test_the_better_student_is_too_large_and_the_other_is_chosen(networks, monkeypatch):
    asked = _costs(monkeypatch, fine=(2_000.0, 3), coarse=(100.0, 1))
    metrics, said = _evaluate(networks, max_lut=1_000, max_latency_ns=20)
    assert metrics.best == "coarse" and sorted(asked) == ["coarse", "fine"]
    chosen, other = metrics.choice
    assert (chosen.student, chosen.lut, chosen.latency_ns) == ("coarse", 100.0, 5.0)
    assert chosen.interval_ns == 5.0 and chosen.tool.startswith("alkaid ")
    assert other.excluded == ["LUT 2,000: 1,000 over max_lut 1,000 (2 times)"]
    assert "fine: over budget: LUT 2,000" in said
    assert _evaluate(networks, max_lut=2_000)[0].best == "fine"


def test_if_none_is_within_the_nearest_miss_is_written_and_the_check_fails(networks, monkeypatch):
    _costs(monkeypatch, fine=(2_000.0, 3), coarse=(100.0, 1))
    with pytest.raises(CheckFailed) as error:
        _evaluate(networks, max_lut=80, max_interval_ns=4)
    assert "the nearest miss is 'coarse'" in str(error.value)
    assert "LUT 100: 20 over max_lut 80 (1.25 times)" in str(error.value)
    assert "interval 5 ns: 1 ns over max_interval_ns 4 ns (1.25 times)" in str(error.value)
    metrics = run_files.read(networks, "metrics.json")
    assert metrics.best == "coarse" and metrics.choice[0].ratio == 1.25


def test_a_student_whose_cost_is_unknown_is_not_chosen(networks, monkeypatch):
    _costs(monkeypatch, fine="fine: about 2,000,000 LUTs", coarse=(100.0, 1))
    metrics, _ = _evaluate(networks, max_lut=1_000)
    assert metrics.best == "coarse"
    assert metrics.choice[1].note == "fine: about 2,000,000 LUTs"
    _costs(monkeypatch, fine="too large", coarse="too large")
    with pytest.raises(CheckFailed, match=r"LUT not known: max_lut 1,000 \(too large\)"):
        _evaluate(networks, max_lut=1_000)
    assert run_files.read(networks, "metrics.json").best == "fine"  # then quality alone


def test_a_student_that_the_lint_refuses_costs_nobody_knows_what(networks, monkeypatch):
    def refuse(model):
        raise CheckFailed(f"{model.name}: alpha is auto")

    _costs(monkeypatch)
    monkeypatch.setattr("l1kd.networks.to_exact.read", refuse)
    with pytest.raises(CheckFailed, match="the nearest miss is 'fine'"):
        _evaluate(networks, max_lut=1_000)
    notes = [each.note for each in run_files.read(networks, "metrics.json").choice]
    assert notes == ["fine: alpha is auto", "coarse: alpha is auto"]


def test_a_share_of_an_unknown_part_is_the_users_to_mend(networks, monkeypatch):
    asked = _costs(monkeypatch)
    context = _context(networks, max_share=0.01)
    firmware = context.config.firmware.model_copy(update={"part": "xcnothing"})
    context = context.configured(context.config.model_copy(update={"firmware": firmware}))
    with pytest.raises(UserError, match=r"xcnothing.*xcvu13p"):
        evaluate_within_budgets(context)
    assert asked == []
    # of a part that is known, it limits
    _costs(monkeypatch, fine=(20_000.0, 3), coarse=(100.0, 1))
    assert _evaluate(networks, max_share=0.01)[0].best == "coarse"
    assert _evaluate(networks, max_share=0.02)[0].best == "fine"


def test_alkaids_own_estimates_tell_the_students_apart(networks):
    metrics, _ = _evaluate(networks, max_lut=1e6)
    by_name = {each.student: each for each in metrics.choice}
    assert by_name["fine"].lut > by_name["coarse"].lut >= 0
    between = (by_name["fine"].lut + by_name["coarse"].lut) / 2
    assert _evaluate(networks, max_lut=between)[0].best == "coarse"


def test_a_missed_budget_ends_with_1_and_the_page_says_so(l1kd, tiny, tmp_path):
    config = yaml.safe_load(tiny.read_text())
    tiny.write_text(yaml.safe_dump({**config, "choose": {"max_lut": 1}}))
    answer = l1kd("run", tiny, "--until", "evaluate")
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.splitlines()[-1].startswith(
        "l1kd: check failed: budget missed: no student"
    )
    run = tmp_path / "runs" / "tiny"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best"] == metrics["choice"][0]["student"]
    assert all(each["excluded"] and each["lut"] > 1 for each in metrics["choice"])
    assert l1kd("report", run).returncode == 0
    page = (run / "report.html").read_text()
    assert "chosen as the nearest miss" in page and "Budget: max_lut" in page
    assert "over max_lut 1" in l1kd("compare", run).stdout
    again = l1kd("run", tiny, "--until", "evaluate", "--set", "choose.max_lut=1e6")
    assert again.returncode == 0, again.stderr


def test_shares_are_of_what_the_user_says_that_a_part_has(tmp_path):
    context = _context(tmp_path, max_share=0.05)
    firmware = Firmware(part={"name": PART, "lut": 10_000, "ff": 20_000})
    context = context.configured(context.config.model_copy(update={"firmware": firmware}))
    stored = [_record(lut=1_000.0, ff=900.0), _record(part="xc7z020clg400-1", lut=532.0)]
    synth._store(context, stored)
    mine, other = run_files.read(tmp_path, "resources.json")
    assert (mine.share, other.share) == ({"lut": 0.1, "ff": 0.045}, {"lut": 0.01})
    metrics = Metrics(dataset={}, teacher=None, baselines={}, students={}, best="best")
    run_files.write(tmp_path, "metrics.json", metrics)
    with pytest.raises(CheckFailed, match=r"10\.0 %|share"):
        budgets.check(context, [mine])
