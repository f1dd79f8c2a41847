"""Loading: what we store comes back the same; nothing in a file runs."""

from __future__ import annotations

import functools
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import qkeras
from tensorflow import keras
from tensorflow.python.autograph.core import ag_ctx

import l1kd
from l1kd.core.config import Score, Student, Teacher
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Sample
from l1kd.data.moments import measure_spread
from l1kd.networks.load import read_model, save_model
from l1kd.networks.students import STUDENTS, build_student
from l1kd.networks.teachers import build_teacher
from tests.networks.foreign import QDenseBatchnorm, cicada_v1, cicada_v2, network, trained

SHAPE = (28, 28, 1)
EVENTS = np.random.default_rng(3).integers(0, 256, (32, *SHAPE)).astype(np.float32) / 256

pytestmark = [
    # Keras warns of QKeras' constraints when it stores them, and of .h5 as such.
    pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is unseeded and being called:UserWarning"),
]


@pytest.fixture(autouse=True)
def _without_autograph() -> Iterator[None]:
    """AutoGraph takes most of the time of building a network, and changes nothing here."""
    with ag_ctx.ControlStatusCtx(ag_ctx.Status.DISABLED):
        yield


SIZES = {"s1", "s3", "s4", "s5", "s6"}  # of the same layers as s2 and s7


@functools.cache
def student(architecture: str = "s7") -> keras.Model:
    keras.utils.set_random_seed(4)
    return build_student(
        Student(name="x", architecture=architecture),  # type: ignore[arg-type]
        SHAPE,
        FixedPoint(9, 1),
        Score(),
    )


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(n, marks=pytest.mark.full if n in SIZES else ()) for n in STUDENTS],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_students_come_back_the_same(architecture: str, suffix: str, tmp_path: Path) -> None:
    model = student(architecture)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    again = l1kd.load_model(path)
    assert (again(EVENTS).numpy() == model(EVENTS).numpy()).all()
    save_model(again, tmp_path / "twice.keras")
    twice = l1kd.load_model(tmp_path / "twice.keras")
    assert (twice(EVENTS).numpy() == model(EVENTS).numpy()).all()


@pytest.mark.parametrize("architecture", ["paper", "cicada", "dense"])
def test_teachers_come_back_the_same(architecture: str, tmp_path: Path) -> None:
    config = Teacher(architecture=architecture, standardise=True, residual_scale=1.0)  # type: ignore[arg-type]
    model = build_teacher(config, SHAPE, measure_spread(Sample.of("train", EVENTS), ()))
    save_model(model, tmp_path / "teacher.keras")
    again = l1kd.load_model(tmp_path / "teacher.keras")
    assert (again(EVENTS).numpy() == model(EVENTS).numpy()).all()


def test_sequential_models_load(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(4,)), keras.layers.ReLU()])
    model.save(tmp_path / "m.keras")
    x = np.ones((2, 4), np.float32)
    assert (l1kd.load_model(tmp_path / "m.keras")(x).numpy() == model(x).numpy()).all()


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a `.keras` file with its configuration changed."""
    new = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            archive.writestr(name, content)
    return new


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load") / "s7.keras"
    save_model(student(), path)
    return path


@pytest.fixture
def stored(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(saved, tmp_path))


def set_layer(index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["config"]["layers"][index].update(values)


def set_argument(index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["config"]["layers"][index]["config"].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_layer(3, class_name="Lambda"), "'Lambda'"),
        (set_layer(3, class_name="TFOpLambda", module="os"), "'TFOpLambda'"),
        (lambda config: config.update(class_name="Mine", module="mine"), "'Mine'"),
        (set_argument(1, activation="__import__('os').abort()"), "not a number"),
        (set_argument(1, activation="quantized_bits(__import__('os').abort())"), "not a number"),
        (set_argument(1, activation="quantized_bits([1,2],3)"), "not a number"),
        (set_argument(2, kernel_quantizer={"class_name": "Popen", "config": {}}), "'Popen'"),
        (set_argument(2, filters={"module": "os", "class_name": "abort"}), "not a plain value"),
        (set_argument(2, filters=3), "needs weights"),
        (set_argument(2, nonesuch=3), "not a model"),
        (lambda config: config["config"].pop("layers"), "not a model"),
    ],
)
def test_what_is_not_on_the_list_is_refused(
    stored: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        l1kd.load_model(rewritten(stored, change))


def test_modules_that_a_file_names_are_not_imported(stored: Path) -> None:
    changed = rewritten(stored, set_layer(2, module="antigravity", registered_name="antigravity"))
    l1kd.load_model(changed)
    import sys

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_refused_and_does_not_run(suffix: str, tmp_path: Path) -> None:
    flag, name = tmp_path / "ran", str(tmp_path / "ran")  # a Lambda stores texts, not paths
    model = keras.Sequential(
        [keras.layers.Lambda(lambda x: (Path(name).touch(), x)[1], input_shape=(4,))]
    )
    model.save(tmp_path / f"m{suffix}")
    flag.unlink()
    with pytest.raises(UserError, match="'Lambda'"):
        l1kd.load_model(tmp_path / f"m{suffix}")
    assert not flag.exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "nan", "link", "directory"])
def test_damaged_files_are_said_to_be(stored: Path, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.keras"
    if damage == "truncated":
        path.write_bytes(stored.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("not a model")
    elif damage == "empty":
        path.touch()
    elif damage == "directory":
        path.mkdir()
    else:
        path = tmp_path / "damaged.h5"
        student().save(path)
        with h5py.File(path, "r+") as file:
            group = file["model_weights/conv1/conv1"]
            if damage == "nan":
                group["kernel:0"][...] = np.nan
            else:
                del group["kernel:0"]
                group["kernel:0"] = h5py.ExternalLink("elsewhere.h5", "/x")
    with pytest.raises(UserError) as caught:
        l1kd.load_model(path)
    assert str(path) in str(caught.value)


def test_a_failed_save_leaves_the_old_model(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored.read_bytes()
    model = student()

    def fail(path: Path, **_: object) -> None:
        shutil.copy(stored, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="space"):
        save_model(model, stored)
    assert stored.read_bytes() == before


# --- other people's networks ----------------------------------------------------------------------


@functools.cache
def of_others() -> keras.Model:
    return network(everything, (10, 10, 1))


def everything(x: Any) -> Any:
    """Layers and quantizers that trained networks hold, whether they can be firmware or not."""
    layers, w = keras.layers, "quantized_bits(6,1,0,alpha=1)"
    x = qkeras.QActivation(qkeras.quantized_bits(8, 3, alpha=1), name="object")(x)
    x = qkeras.QConv2DBatchnorm(3, 3, kernel_quantizer=w, bias_quantizer=w)(x)
    x = qkeras.QActivation("quantized_relu(6,2)")(x)
    x = qkeras.QDepthwiseConv2D(2, depthwise_quantizer="quantized_bits(6,1)", activation=w)(x)
    x = qkeras.QDepthwiseConv2DBatchnorm(2, depthwise_quantizer=w, use_bias=False)(x)
    x = qkeras.QAveragePooling2D(2, average_quantizer=w, activation=w)(x)
    x = qkeras.QBatchNormalization()(x)
    x = layers.BatchNormalization(center=False)(layers.Permute((2, 1, 3))(x))
    y = layers.Multiply()([x, layers.Dropout(0.1)(x)])
    x = layers.Concatenate()([x, layers.Subtract()([layers.Maximum()([x, y]), y])])
    x = layers.Flatten()(layers.ZeroPadding2D(1)(x))
    x = layers.Reshape((-1, 2))(x)
    x = qkeras.QConv1D(2, 2, kernel_quantizer="ternary()", bias_quantizer="quantized_po2(4)")(x)
    x = layers.MaxPooling1D(2)(layers.AveragePooling1D(2)(x))
    x = qkeras.QActivation("quantized_tanh(6)")(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = qkeras.QDense(2, kernel_quantizer="binary(alpha=1)", use_bias=False)(x)
    return qkeras.QActivation("hard_sigmoid")(layers.GaussianNoise(0.1)(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("frozen", [False, True])
def test_networks_of_others_come_back_the_same(suffix: str, frozen: bool, tmp_path: Path) -> None:
    model = of_others()
    for layer in model.layers:
        layer.trainable = not frozen  # their weights are stored in another order
    model.save(tmp_path / f"m{suffix}")
    again = l1kd.load_model(tmp_path / f"m{suffix}")
    events = np.random.default_rng(0).integers(-64, 64, (50, 10, 10, 1)).astype(np.float32) / 16
    assert (again(events).numpy() == model(events).numpy()).all()
    assert again.get_layer("object").activation.startswith("quantized_bits(bits=8,integer=3,")


@pytest.mark.parametrize("build", [cicada_v1, cicada_v2])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_dense_batch_normalisation_is_folded_while_reading(
    build: Callable[[], keras.Model], suffix: str, tmp_path: Path
) -> None:
    model = trained(build(), spread=0.05)
    assert not hasattr(qkeras, "QDenseBatchnorm")
    model.save(tmp_path / f"m{suffix}")
    again, folded = read_model(tmp_path / f"m{suffix}")
    assert [each.layer for each in folded] == ["dense1"]
    assert type(again.get_layer("dense1")) is qkeras.QDense
    events = np.random.default_rng(0).poisson(3, (200, 252)).astype(np.float32)
    assert (again(events).numpy() == model(events).numpy()).all()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False},
        {"scale": False},
        {"center": False, "epsilon": 0.25},
        {"scale": False, "center": False, "use_bias": False},
        {"bias_quantizer": None, "folding_mode": "batch_stats_folding"},
        {"activation": "quantized_relu(6,2)"},
    ],
)
def test_folding_with_parts_left_out(options: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    w = "quantized_bits(6,1,1,alpha=1)"
    given = {"kernel_quantizer": w, "bias_quantizer": w, "name": "d", **options}
    model = network(lambda x: QDenseBatchnorm(3, **given)(x), (5,))
    model.save(tmp_path / f"m{suffix}")
    again = l1kd.load_model(tmp_path / f"m{suffix}")
    events = np.random.default_rng(0).integers(-64, 64, (200, 5)).astype(np.float32) / 16
    assert (again(events).numpy() == model(events).numpy()).all()


@pytest.mark.parametrize(
    "form",
    [
        "quantized_bits(6, 1, 1, alpha=1.0)",
        {"class_name": "quantized_bits", "config": {"bits": 6, "integer": 1, "symmetric": 1}},
        {
            "module": "qkeras.quantizers",
            "class_name": "quantized_bits",
            "config": {"bits": 6, "integer": 1, "symmetric": 1, "alpha": 1.0, "qnoise_factor": 1.0},
            "registered_name": "qkeras.quantizers>quantized_bits",
        },
    ],
)
def test_quantizers_in_every_form(form: Any, stored: Path) -> None:
    layer = l1kd.load_model(rewritten(stored, set_argument(2, kernel_quantizer=form))).layers[2]
    found = layer.kernel_quantizer_internal
    assert (found.bits, found.integer, int(found.symmetric)) == (6, 1, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_argument(1, activation="quantized_bits(99999999,1)"), "beyond"),
        (set_layer(3, class_name="PruneLowMagnitude"), "strip the pruning"),
        (set_argument(0, batch_shape=[None, 28, 28, 1]), "Keras 3"),
        (set_argument(2, filters=10**9), "cannot be (built|read)|needs weights|not a model"),
    ],
)
def test_files_of_others_that_are_refused(
    stored: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        l1kd.load_model(rewritten(stored, change))
