"""The stage on networks of a few weights: what it writes is what the networks say."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from l1kd.core import run_files
from l1kd.core.config import Choose, Config
from l1kd.core.context import Context
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Sample, Signal
from l1kd.evaluation.evaluate import Calibration, evaluate, summarise
from l1kd.evaluation.metrics import auc, band
from l1kd.evaluation.scores import Scores
from l1kd.training.target_transform import TargetTransform, save_target

SCORE = FixedPoint(16, 8, signed=False)
GRID = FixedPoint(8, 8, signed=True)
SHAPE = (4,)
TRANSFORM = TargetTransform("log1p", 40.0, 0.0, SCORE)


class Line:
    """score = 10 raw, on the grid."""

    def forward(self, raw):
        return SCORE.quantize(10 * np.asarray(raw))

    def inverse(self, score):
        return np.asarray(score) / 10


def _events(seed, count, scale):
    random = np.random.default_rng(seed)
    return GRID.quantize(random.normal(0, scale, (count, *SHAPE))).astype(np.float32)


def _dataset(*, signals=True):
    samples = {
        name: Sample.of(name, _events(index, count, 2))
        for index, (name, count) in enumerate({"train": 500, "val": 200, "test": 1_000}.items())
    }
    anomalies = {
        name: Signal(
            Sample.of(name, _events(10 + scale, 150, scale)),
            Sample.of(name, _events(20 + scale, 150, scale)),
        )
        for name, scale in {"near": 3, "far": 9}.items()
    }
    description = {"source": "test", "distinct_collisions": {"test": {"1e-3": np.int64(12)}}}
    return Dataset(
        **samples, signals=anomalies if signals else {}, grid=GRID, description=description
    )


def _config(students=("a", "b"), by="auc"):
    return Config.model_validate(
        {
            "name": "small",
            "data": {"source": "arrays", "background": ["x.npz"]},
            "teacher": {"architecture": "dense"},
            "students": [{"name": name, "architecture": "dense"} for name in students],
            "choose": {"by": by},
        }
    )


def _scores(dataset, students):
    """Scores of `students`, functions of the teacher's raw score, mean |x|."""
    arrays = {}
    samples = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    for name, signal in dataset.signals.items():
        samples |= {name: signal.test, f"val_{name}": signal.val}
    for name, sample in samples.items():
        raw = np.abs(sample.events().astype(np.float64)).mean(1)
        arrays[f"teacher_{name}"] = raw
        for student, function in students.items():
            arrays[f"student_{student}_{name}"] = SCORE.quantize(function(raw))
        for baseline in ("sum", "top4"):
            arrays[f"baseline_{baseline}_{name}"] = raw
    return Scores(arrays)


def _summarise(dataset, students, params, choose=None, **known):
    return summarise(
        _scores(dataset, students),
        Line(),
        SCORE,
        dataset,
        params={"teacher": 99, **params},
        weight_bits=dict.fromkeys(students, 8),
        choose=choose or Choose(),
        baselines={"sum": {}, "top4": {"cut": 2}},
        **known,
    )


def test_a_student_like_the_teacher_is_the_best_and_no_distance_away():
    dataset = _dataset()
    metrics = _summarise(
        dataset,
        {"like": lambda raw: 10 * raw, "blind": np.zeros_like},
        {"like": 7, "blind": 3},
    )
    assert metrics.best == "like"
    like, blind = metrics.students["like"], metrics.students["blind"]
    raw = {name: np.abs(s.test.events()).mean(1) for name, s in dataset.signals.items()}
    normal = np.abs(dataset.test.events()).mean(1)
    assert metrics.teacher.auc["far"] == pytest.approx(auc(normal, raw["far"]))
    assert like.auc == pytest.approx(metrics.teacher.auc, abs=1e-3)
    # at most half a step of the output type, in raw units
    assert like.emd.normal < 1e-3 and like.emd.anomalous < 1e-3
    assert like.spearman == pytest.approx(1, abs=1e-3)
    assert blind.spearman is None
    assert blind.auc == {"near": 0.5, "far": 0.5, "all": 0.5}
    assert blind.efficiency == {"near": 0.0, "far": 0.0}
    assert [point.target_fpr for point in like.working_points] == [1e-2, 1e-3]
    assert metrics.dataset["events"]["signals"]["far"] == {"val": 150, "test": 150}
    assert metrics.dataset["distinct_collisions"] == {"test": {"1e-3": 12}}


def test_students_are_compared_with_teacher_and_baselines_on_test_halves():
    dataset = _dataset()
    # Like the teacher among accepted events, in another unit; and blind to what is hot.
    students = {"like": lambda raw: 9 * raw, "blind": lambda raw: 200 - 9 * raw}
    metrics = _summarise(dataset, students, {"like": 7, "blind": 3})
    raw = {name: np.abs(s.test.events()).mean(1) for name, s in dataset.signals.items()}
    normal = np.abs(dataset.test.events()).mean(1)
    bands = {name: band(normal, own) for name, own in raw.items()}
    assert metrics.teacher.band == pytest.approx(bands)
    assert metrics.baselines["top4"].band == metrics.teacher.band
    assert metrics.baselines["top4"].settings == {"cut": 2}
    assert metrics.teacher.error["band"] > 0 and metrics.teacher.error["efficiency"] > 0
    apart = metrics.students["blind"].difference
    assert set(apart) == {"teacher", "sum", "top4"}
    assert apart["sum"] == apart["teacher"]
    own = metrics.students["blind"].band
    for name, value in bands.items():
        assert apart["teacher"]["band"][name].value == pytest.approx(own[name] - value)
    assert metrics.validation["like"].band.keys() == bands.keys()


def test_calibrated_scores_are_nearer_and_decide_alike():
    students = {"low": lambda raw: 5 * raw, "like": lambda raw: 10 * raw}
    own = Calibration(np.array([0.0, 100.0]), np.array([0.0, 150.0]))
    metrics = _summarise(_dataset(), students, {"low": 1, "like": 2}, calibrations={"low": own})
    low = metrics.students["low"]
    assert low.emd_calibrated.anomalous < 0.7 * low.emd.anomalous
    assert low.calibration == [(0.0, 0.0), (100.0, 150.0)]
    free = _summarise(_dataset(), students, {"low": 1, "like": 2}).students
    assert (free["low"].auc, free["low"].emd) == (low.auc, low.emd)
    assert free["low"].emd_calibrated is None and metrics.students["like"].calibration == []


def test_ties_go_to_the_smaller_student():
    students = {"large": lambda raw: 10 * raw, "small": lambda raw: 10 * raw}
    assert _summarise(_dataset(), students, {"large": 70, "small": 20}).best == "small"


@pytest.mark.parametrize(
    ("by", "best"), [("auc", "ranks"), ("efficiency", "tail"), ("band", "tail")]
)
def test_the_best_is_chosen_by_what_the_configuration_says(by, best):
    students = {
        "ranks": lambda raw: np.minimum(10 * raw, 30),  # the tail saturates: nothing is accepted
        "tail": lambda raw: np.where(raw > 4, 10 * raw, 0),  # blind to all but the tail
    }
    metrics = _summarise(_dataset(), students, {"ranks": 1, "tail": 1}, Choose(by=by))
    assert metrics.best == best


@pytest.mark.parametrize("by", ["efficiency", "band"])
def test_one_hot_validation_normal_does_not_decide(by):
    """A rate of 1e-3 of the validation normals alone is less than one event."""
    students = {"good": lambda raw: 10 * raw, "poor": lambda raw: 60 + 4 * raw}
    dataset, weak = _dataset(), np.random.default_rng(3)
    scores = _scores(dataset, students)
    arrays = {**scores.arrays}
    arrays["student_poor_val_near"] = weak.permutation(arrays["student_poor_val"])[:150]
    for name in ("good", "poor"):
        arrays[f"student_{name}_train"] = np.tile(arrays[f"student_{name}_train"], 20)
    arrays["student_good_val"][7] = SCORE.high

    def summary(**changed):
        own = {
            "params": {"teacher": 99, "good": 1, "poor": 1},
            "weight_bits": {"good": 8, "poor": 8},
        }
        given = Scores({**arrays, **changed})
        return summarise(given, Line(), SCORE, dataset, **own, choose=Choose(by=by))

    metrics = summary()
    assert metrics.best == "good"
    assert metrics.validation["good"].efficiency["far"] > 0.5
    alone = summary(**{f"student_{n}_train": arrays[f"student_{n}_val"] for n in students})
    assert alone.validation["good"].efficiency["far"] == 0 and alone.best == "poor"
    assert alone.validation["good"].auc == metrics.validation["good"].auc


def test_the_best_by_quality_gives_way_to_the_best_within_the_budgets():
    students = {"like": lambda raw: 10 * raw, "coarse": lambda raw: np.floor(raw) * 10}
    params, dataset = {"like": 9, "coarse": 1}, _dataset()
    costs = {
        name: run_files.Resources(
            student=name, source="estimate", implementation="alkaid", tool="alkaid", part=None,
            clock_ns=5.0, lut=lut,
        )
        for name, lut in (("like", 2_000.0), ("coarse", 1_000.0))
    }  # fmt: skip
    free = _summarise(dataset, students, params)
    assert free.best == "like" and free.choice == []
    within = _summarise(dataset, students, params, Choose(max_lut=1_500.0), costs=costs)
    assert within.best == "coarse"
    assert [each.student for each in within.choice] == ["coarse", "like"]
    assert within.choice[1].quality > within.choice[0].quality
    assert within.choice[1].excluded and not within.choice[0].excluded
    # the choice apart, all numbers are the same
    assert within.model_copy(update={"best": "like", "choice": []}) == free


def test_without_signals_the_best_is_the_most_like_the_teacher():
    students = {"against": lambda raw: 200 - 10 * raw, "like": lambda raw: 10 * raw}
    metrics = _summarise(_dataset(signals=False), students, {"against": 1, "like": 9})
    assert metrics.best == "like"
    assert metrics.teacher.auc == {} and metrics.students["like"].emd.anomalous is None
    assert metrics.students["like"].difference == {} and metrics.teacher.error == {}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A run directory with a teacher (mean square) and two students of one dense layer."""
    keras = pytest.importorskip("tensorflow").keras
    import qkeras

    directory = tmp_path_factory.mktemp("run")
    save_target(TRANSFORM, directory)
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(1, use_bias=False, activation="relu", name="raw")
    teacher = keras.Model(inputs, dense(inputs))
    dense.set_weights([np.array([[1.0], [0.5], [0.0], [0.25]])])
    teacher.trainable = False
    teacher.save(directory / "teacher.keras")
    (directory / "students").mkdir()
    for name, weight in {"a": 0.5, "b": 0.25}.items():
        inputs = keras.Input(SHAPE)
        layer = qkeras.QDense(
            1,
            kernel_quantizer=qkeras.quantized_bits(6, 1, alpha=1),
            bias_quantizer=qkeras.quantized_bits(6, 1, alpha=1),
        )
        outputs = qkeras.QActivation("quantized_relu(16,8)")(layer(inputs))
        model = keras.Model(inputs, outputs)
        layer.set_weights([np.full((4, 1), weight), np.array([0.1])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # QKeras' quantizers are no Keras constraints
            model.save(directory / "students" / f"{name}.keras")
    return directory


@pytest.fixture
def context(networks):
    console = Console(file=io.StringIO())
    context = Context(networks, _config(), console)
    context.__dict__["dataset"] = _dataset()
    return context


def test_the_stage_writes_what_the_networks_say_and_the_same_again(context):
    evaluate(context)
    directory = context.directory
    scores = Scores.load(directory / "scores.npz")
    events = context.dataset.test.events().astype(np.float64)
    expected = np.maximum(events @ [1, 0.5, 0, 0.25], 0)
    np.testing.assert_allclose(scores.teacher("test"), expected, rtol=1e-6)
    np.testing.assert_array_equal(scores.target("test"), TRANSFORM.forward(scores.teacher("test")))
    bias = np.rint(0.1 * 16) / 16
    student = SCORE.quantize(np.maximum(events.sum(1) * 0.5 + bias, 0))
    np.testing.assert_array_equal(scores.student("a", "test"), student)
    assert set(scores.arrays) >= {"target_near", "student_b_val_far", "baseline_top4_far"}

    metrics = run_files.read(directory, "metrics.json")
    assert metrics.teacher.params == 4
    assert metrics.students["a"].params == 5
    assert metrics.students["a"].weight_bits == 6
    assert set(metrics.baselines) == {
        "sum", "max", "top4", "mean_square", "std_mean_square", "std_fourth",
    }  # fmt: skip
    assert metrics.baselines["sum"].auc["far"] == auc(
        events.sum(1), context.dataset.signals["far"].test.events().astype(float).sum(1)
    )
    said = " ".join(context.console.file.getvalue().split())
    assert "best student" in said
    assert "the sum of all inputs (" in said and "less than 2 standard errors" in said
    before = {name: (directory / name).read_bytes() for name in ("scores.npz", "metrics.json")}
    evaluate(context)
    assert before == {name: (directory / name).read_bytes() for name in before}

    # Exposure calibrates; scores stay what they are.
    assert metrics.students["a"].emd_calibrated is None
    own = context.config.model_dump() | {"distillation": {"exposure": ["patch"]}}
    exposed = replace(context, config=Config.model_validate(own))
    exposed.__dict__["dataset"] = context.dataset
    student = evaluate(exposed).students["a"]
    assert student.emd == metrics.students["a"].emd
    assert student.emd_calibrated != student.emd and len(student.calibration) > 10
    assert (directory / "scores.npz").read_bytes() == before["scores.npz"]


def test_a_student_off_its_output_type_is_refused_by_name(context):
    narrow = _config()
    narrow = narrow.model_copy(
        update={
            "distillation": narrow.distillation.model_copy(
                update={"score": type(narrow.distillation.score)(word=4, integer=2)}
            )
        }
    )
    other = Context(context.directory, narrow, context.console)
    other.__dict__["dataset"] = context.dataset
    with pytest.raises(UserError, match=r"student 'a': .* ufixed<4,2>"):
        evaluate(other)
