"""Somebody else's trained network as a run: from outside, by the command line."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from qkeras import QActivation, QDense
from tensorflow import keras

from l1kd import cli
from l1kd.core.config_types import NAME_PATTERN
from l1kd.evaluation import import_network
from tests.conftest import call_l1kd, copy_of_run, killed_before, made_once, tiny_arrays
from tests.networks.foreign import cicada_v1, network, trained

Call = Callable[..., subprocess.CompletedProcess[str]]
layers = keras.layers
W = "quantized_bits(6,1,0,alpha=1)"
PARALLEL = "firmware.io_type=io_parallel"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is unseeded and being called:UserWarning"),
]


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CICADA's first network, as its authors define it, for 24 inputs: a run with all stages.

    Beside it `mine.yaml`, data of images (6, 4, 1), and `their-v1.h5`. Read only.
    """

    def make(directory: Path) -> None:
        verilog = {"simulate": "none", "synthesize": "none"}
        config = {"data": tiny_arrays(directory / "data"), "rtl": verilog}
        (directory / "mine.yaml").write_text(yaml.safe_dump(config))
        saved(trained(cicada_v1(24, 4), spread=0.5), directory / "their-v1.h5")
        words = ["import", "their-v1.h5", "mine.yaml", "--run", "run", "--set", PARALLEL]
        done = call_l1kd(directory, *words)
        assert done.returncode == 0, done.stderr
        (directory / "said").write_text(done.stderr)

    return made_once(tmp_path_factory, "imported", make) / "run"


@pytest.fixture
def config(imported: Path) -> Path:
    """Data of images (6, 4, 1); nothing of teacher, students and training."""
    return imported.parent / "mine.yaml"


@pytest.fixture
def theirs(imported: Path) -> Path:
    """CICADA's first network for 24 inputs."""
    return imported.parent / "their-v1.h5"


def saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def arrays(run: Path) -> dict[str, bytes]:
    with np.load(run / "scores.npz") as file:
        return {key: file[key].tobytes() for key in file.files}


def normalised(x: Any) -> Any:
    x = QDense(4, kernel_quantizer=W, bias_quantizer=W, name="d")(layers.Flatten()(x))
    x = QActivation("quantized_relu(8,4)")(layers.BatchNormalization(name="bn")(x))
    x = QDense(1, kernel_quantizer=W, bias_quantizer=W, name="last")(x)
    return QActivation("quantized_relu(12,6)", name="score")(x)


@pytest.mark.csim
def test_a_run_from_a_foreign_network(
    l1kd: Call, imported: Path, config: Path, theirs: Path, tmp_path: Path
) -> None:
    assert "0 of 250 scores differ" in (imported.parent / "said").read_text()
    run = copy_of_run(imported, tmp_path / "run")
    facts = read(run, "manifest.json")
    assert [*facts["stages"]] == ["import", "evaluate", "convert", "verify", "synth", "report"]
    assert facts["imported"]["student"] == "their-v1" and facts["imported"]["findings"] == []
    assert facts["imported"]["price"]["different"] == 0
    assert {each["kind"] for each in facts["imported"]["repairs"]} == {"exact"}
    assert [path.name for path in (run / "students").iterdir()] == ["their-v1.keras"]
    assert not (run / "teacher.keras").exists() and not (run / "target.json").exists()

    metrics = read(run, "metrics.json")
    assert metrics["teacher"] is None and metrics["best"] == "their-v1"
    student = metrics["students"]["their-v1"]
    assert student["emd"] is None and student["spearman"] is None
    assert set(student["auc"]) == {"hot", "wide", "all"}
    assert {key.partition("_")[0] for key in arrays(run)} == {"student", "baseline"}
    ladder = read(run, "fidelity.json")["their-v1"]
    assert {"qkeras", "csim"} <= {rung["stage"] for rung in ladder}
    assert "teacher" not in {rung["stage"] for rung in ladder}
    for record in read(run, "agreement.json"):
        assert record["pairs"] and not any(pair["mismatches"] for pair in record["pairs"])
    page = (run / "report.html").read_text()
    assert "There is no teacher" in page and "QDenseBatchnorm" not in page

    trained_ = l1kd("train", run)
    assert trained_.returncode == 2 and "nothing to train" in trained_.stderr
    assert l1kd("verify", run).returncode == 0
    table = l1kd("compare", run)
    assert table.returncode == 0 and "their-v1*" in table.stdout
    assert "| teacher " not in table.stdout
    again = l1kd("import", theirs, config, "--run", run, "--set", PARALLEL)
    assert again.returncode == 0 and "import: done already" in again.stderr


def test_what_else_the_directory_may_hold(
    l1kd: Call, imported: Path, config: Path, theirs: Path, tmp_path: Path
) -> None:
    run = copy_of_run(imported, tmp_path / "run")
    (run / "metrics.json").unlink()
    before = (run / "manifest.json").read_bytes()
    other = saved(trained(cicada_v1(24, 4), seed=1), tmp_path / "other.h5")
    refused = l1kd("import", other, config, "--run", run)
    assert refused.returncode == 2 and "another file" in refused.stderr
    refused = l1kd("import", theirs, config, "--run", run, "--set", "seed=3")
    assert refused.returncode == 2 and "seed" in refused.stderr
    refused = l1kd("run", config, "--run", run)
    assert refused.returncode == 2 and "another configuration" in refused.stderr
    refused = l1kd("convert", run)
    assert refused.returncode == 2 and "'evaluate'" in refused.stderr
    assert (run / "manifest.json").read_bytes() == before
    inside = yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "stolen.yaml").write_text(yaml.safe_dump(inside))
    refused = l1kd("run", tmp_path / "stolen.yaml", "--run", tmp_path / "new")
    assert refused.returncode == 2 and "l1kd import" in refused.stderr


@pytest.mark.parametrize(
    ("until", "moments"),
    [
        ("evaluate", [("their-v1.keras", 1)]),
        pytest.param(
            "convert",
            [
                ("manifest.json", 1),  # nothing is there but the log
                ("config.yaml", 1),  # the manifest is there already
                ("manifest.json", 1),  # the stage `import` is not yet said to run
                ("their-v1.keras", 1),
                ("manifest.json", 2),  # the student is there, and `import` not done
                ("scores.npz", 1),
                ("metrics.json", 1),
                ("-latency", 1),
                ("firmware.json", 1),
            ],
            marks=pytest.mark.full,
        ),
    ],
    ids=["as the student is stored", "anywhere"],
)
def test_kill_9_and_the_same_command_gives_the_same(
    until: str,
    moments: list[tuple[str, int]],
    l1kd: Call,
    imported: Path,
    config: Path,
    theirs: Path,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    words = ["import", theirs, config, "--set", PARALLEL, "--run", broken]
    for file, number in moments:
        killed_before(file, number, tmp_path, *words)
    done = l1kd(*words, "--until", until)
    assert done.returncode == 0, done.stderr
    assert [*read(broken, "manifest.json")["stages"]][-1] == until
    assert arrays(imported) == arrays(broken)
    assert read(imported, "metrics.json") == read(broken, "metrics.json")
    assert read(imported, "manifest.json")["imported"] == read(broken, "manifest.json")["imported"]
    assert [path.name for path in (broken / "students").iterdir()] == ["their-v1.keras"]


def test_the_lint_refuses_and_lossy_repairs_are_offered_at_their_price(
    l1kd: Call, config: Path, tmp_path: Path
) -> None:
    model = network(normalised, (6, 4, 1))
    run = tmp_path / "run"
    words = ["import", saved(model, tmp_path / "m.keras"), config, "--run", run]
    refused = l1kd(*words)
    assert refused.returncode == 1, refused.stderr
    *_, last = refused.stderr.splitlines()
    assert last.startswith("l1kd: check failed: ") and "'bn'" in last and "--lossy" in last
    assert re.search(r"scores differ", last) and "refused: bn" in refused.stderr
    assert not list((run / "students").glob("*")) and not (run / "metrics.json").exists()
    assert "BatchNormalization" in (run / "report.html").read_text()
    facts = read(run, "manifest.json")
    assert facts["imported"]["findings"][0]["layer"] == "bn"
    assert facts["stages"]["import"]["state"] == "failed"
    assert l1kd("report", run).returncode == 0
    assert l1kd("evaluate", run).returncode == 2

    taken = l1kd(*words, "--lossy", "--until", "evaluate")
    assert taken.returncode == 0, taken.stderr
    price = read(run, "manifest.json")["imported"]["price"]
    assert price["events"] == 250 and price["max_lsb"] < 64
    assert set(price["auc"]) == set(price["auc_file"]) == {"hot", "wide", "all"}
    assert price == {**price, **facts["imported"]["price"]}  # as it was offered


def test_a_signed_score(l1kd: Call, config: Path, tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        x = QDense(1, kernel_quantizer=W, bias_quantizer=W, name="d")(layers.Flatten()(x))
        return QActivation("quantized_bits(12,7,0,alpha=1)", name="score")(x)

    model = saved(network(body, (6, 4, 1)), tmp_path / "m.keras")
    run = tmp_path / "run"
    done = l1kd("import", model, config, "--run", run, "--until", "evaluate")
    assert done.returncode == 0, done.stderr
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["distillation"]["score"] == {"word": 12, "integer": 8, "signed": True}
    with np.load(run / "scores.npz") as scores:
        assert scores["student_m_test"].min() < 0


def test_a_part_of_a_network_without_a_type(l1kd: Call, config: Path, tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        x = QDense(1, kernel_quantizer=W, bias_quantizer=W, name="dense-1")(layers.Flatten()(x))
        return layers.Activation("sigmoid", name="probability")(x)

    model, run = saved(network(body, (6, 4, 1)), tmp_path / "m.keras"), tmp_path / "run"
    words = ["import", model, config, "--run", run, "--until", "evaluate"]
    refused = l1kd(*words)
    assert refused.returncode == 1, refused.stderr
    assert "'probability'" in refused.stderr.splitlines()[-1] and "--cut" in refused.stderr
    taken = l1kd(*words, "--cut", "probability")
    assert taken.returncode == 0, taken.stderr
    facts = read(run, "manifest.json")["imported"]
    assert facts["cut"] == "probability" and facts["price"]["different"] == 0
    assert {each["layer"]: each["kind"] for each in facts["repairs"]} == {
        "dense-1": "exact",
        "port": "exact",
        "score_type": "exact",
    }
    with np.load(run / "scores.npz") as scores:
        assert scores["student_m_test"].min() < 0  # not of the sigmoid
    assert "already" in l1kd(*words, "--cut", "probability").stderr


def lambda_in(path: Path) -> Path:
    model = keras.Sequential([keras.layers.Lambda(lambda x: x, input_shape=(24,))])
    return saved(model, path)


def text_in(path: Path) -> Path:
    path.write_text("no model", encoding="utf-8")
    return path


def directory_in(path: Path) -> Path:
    path.mkdir()
    return path


def outputs(number: int, ends: int = 1) -> keras.Model:
    events = keras.Input((24,))
    ends_ = [QDense(number, kernel_quantizer=W, bias_quantizer=W)(events) for _ in range(ends)]
    return keras.Model(events, ends_)


def narrow_port() -> keras.Model:
    def body(x: Any) -> Any:
        x = QActivation("quantized_bits(4,3,0,alpha=1)")(x)
        x = QDense(1, kernel_quantizer=W, bias_quantizer=W)(layers.Flatten()(x))
        return QActivation("quantized_relu(12,6)")(x)

    return network(body, (6, 4, 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, ["no model file"]),
        (text_in, ["not a model"]),
        (directory_in, ["SavedModel"]),
        (lambda_in, ["'Lambda'"]),
        (lambda path: saved(cicada_v1(25, 4), path), ["(25,)", "(6, 4, 1)"]),
        (lambda path: saved(outputs(2), path), ["one score"]),
        (lambda path: saved(outputs(1, 2), path), ["2 outputs", "--cut LAYER"]),
        (lambda path: saved(narrow_port(), path), ["ap_fixed<4,4", "ap_fixed<6,6"]),
    ],
)
def test_what_is_refused_before_anything_is_written(
    make: Callable[[Path], Path],
    words: list[str],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make(tmp_path / "m.h5")
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["import", str(model), str(config)])
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    *begun, said = said.splitlines()
    assert said.startswith("l1kd: error: ") and len(begun) <= 1
    assert "m.h5" in said and all(word in said for word in words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("cicada_v1.h5", "cicada_v1"),
        ("my model (1).keras", "my_model__1_"),
        ("_hidden.h5", "hidden"),
        ("Teacher.h5", "imported"),
        ("über.h5", "ber"),
        ("...h5", "imported"),
        ("x" * 99 + ".h5", "x" * 64),
    ],
)
def test_names_of_files_become_names_of_students(file: str, name: str) -> None:
    assert import_network.student_name(Path("somewhere") / file) == name
    assert re.match(NAME_PATTERN, name)


def test_an_exact_repair_that_is_none_is_found(config: Path, theirs: Path, tmp_path: Path) -> None:
    from l1kd.core import config_file
    from l1kd.runs.run import context_of

    context = context_of(tmp_path / "run", config_file.load(config))
    found = import_network.prepare(theirs, "0" * 64, context, lossy=False)
    context = context.configured(import_network.configuration(context.config, found))
    wrong = keras.models.clone_model(found.repaired.model)
    wrong.set_weights(found.repaired.model.get_weights())
    kernel, bias = wrong.get_layer("dense1").get_weights()
    kernel[0, 0] += 0.25
    wrong.get_layer("dense1").set_weights([kernel, bias])
    with pytest.raises(RuntimeError, match="of 250 scores changed"):
        repaired = replace(found.repaired, model=wrong)
        import_network.import_(context, replace(found, repaired=repaired))
    assert not context.student_file("their-v1").exists()
