"""Loading: what we store comes back the same; nothing in a file runs."""

from __future__ import annotations

import functools
import io
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
from l1kd.core.config import Score, Student
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.teacher_config import Teacher
from l1kd.data.dataset import Dataset, Sample
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.load import Graph, read_model, save_model
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


@pytest.mark.parametrize("architecture", ["paper", "cicada", "dense", "contrast"])
def test_teachers_come_back_the_same(architecture: str, tmp_path: Path) -> None:
    config = Teacher(architecture=architecture, standardise=True, residual_scale=1.0)  # type: ignore[arg-type]
    sample = Sample.of("train", EVENTS)
    model = build_teacher(config, Dataset(sample, sample, sample, {}, FixedPoint(9, 1)))
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
        (set_argument(2, nonesuch=3), "layer '.*nonesuch.*save the model again"),
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
        (set_argument(1, activation="quantized_bits(99999999,1)"), "bits is 99999999"),
        (set_layer(3, class_name="PruneLowMagnitude"), "strip the pruning"),
        (set_argument(0, batch_shape=[None, 28, 28, 1]), "Keras 3"),
        (set_argument(2, filters=10**9), "needs weights kernel of the shape"),
    ],
)
def test_files_of_others_that_are_refused(
    stored: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        l1kd.load_model(rewritten(stored, change))


# --- judged before it is built --------------------------------------------------------------------


@functools.cache
def small() -> keras.Model:
    """Two dense layers with a softmax behind them."""

    def body(x: Any) -> Any:
        w = "quantized_bits(6,1,0,alpha=1)"
        x = qkeras.QDense(3, kernel_quantizer=w, bias_quantizer=w, name="first")(x)
        x = qkeras.QActivation("quantized_relu(8,4)", name="middle")(x)
        x = qkeras.QDense(2, kernel_quantizer=w, activation="softmax", name="last")(x)
        return keras.layers.Activation("sigmoid", name="end")(x)

    return network(body, (5,))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small.keras` and `small.h5`."""
    directory = tmp_path_factory.mktemp("small")
    small().save(directory / "small.keras")
    small().save(directory / "small.h5")
    return directory


def put(index: int, kind: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Put a layer without weights in front of one that reads the layer before it."""

    def change(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        (((source, *_),),) = layers[index]["inbound_nodes"]
        layers[index]["inbound_nodes"] = [[["new", 0, 0, {}]]]
        new = {"class_name": kind, "name": "new", "config": {"name": "new", **values}}
        layers.insert(index, {**new, "inbound_nodes": [[[source, 0, 0, {}]]]})

    return change


def repeat(number: int) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        for place in range(number):
            own = {"class_name": "ReLU", "config": {"name": f"r{place}"}}
            layers.append({**own, "inbound_nodes": [[[layers[-1]["config"]["name"], 0, 0, {}]]]})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            set_argument(1, units=12_000_000),
            r"'first' needs weights kernel of the shape \(5, 12000000\)",
        ),
        (set_argument(0, batch_input_shape=[None, 10**9]), "'events' gives 1000000000 values"),
        (put(1, "RepeatVector", n=10**8), "'new' gives 500000000 values"),
        (repeat(4000), "4005 layers; at most 1000"),
        (set_argument(1, name="x\x1b]0;title\x07"), r"named 'x\\x1b\]0;title\\x07'"),
        (set_argument(0, name="x\x1b]0;title\x07"), r"named 'x\\x1b\]0;title\\x07'"),
        (set_argument(1, name="n" * 300), "'nnn.*letters, digits"),
        (set_argument(1, axis=functools.reduce(lambda x, _: [x], range(900), 1)), "damaged"),
        (set_layer(2, class_name="TFOpLambda"), "'middle' is of class 'TFOpLambda'.*use a layer"),
        (set_layer(2, class_name="SlicingOpLambda"), "Cropping1D.*--cut LAYER"),
    ],
)
def test_a_configuration_is_judged_before_it_is_built(
    files: Path, change: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(files / "small.keras", tmp_path))
    with pytest.raises(UserError, match=words) as caught:
        l1kd.load_model(rewritten(path, change))
    assert "changed.keras" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ZeroPadding1D", {"padding": 10**7}),
        ("UpSampling1D", {"size": 10**9}),
        ("UpSampling1D", {"size": 10**7}),
    ],
)
def test_layers_that_blow_up_a_sequence(kind: str, values: Any, files: Path) -> None:
    with zipfile.ZipFile(files / "small.keras") as archive:
        config = json.loads(archive.read("config.json"))
    put(1, "Reshape", target_shape=[5, 1])(config)
    last = {"class_name": kind, "config": {"name": "blown", **values}}
    config["config"]["layers"][2:] = [{**last, "inbound_nodes": [[["new", 0, 0, {}]]]}]
    config["config"]["output_layers"] = [["blown", 0, 0]]
    with pytest.raises(UserError, match="'blown' gives"):
        Graph.read(config, {}, "here").build()


def test_json_too_deep_to_read(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 200_000 + "]" * 200_000)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(UserError, match=r"deep\.keras: a damaged model file"):
        l1kd.load_model(path)
    path.write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UserError, match=r"give a network\.json"):
        l1kd.load_network(path)


def first_kernel(file: h5py.File, array: Any = None, **options: Any) -> None:
    """Another kernel of the first layer."""
    group = file["model_weights/first/first"]
    del group["kernel:0"]
    group.create_dataset("kernel:0", data=array, **options)


def sixty_times(file: h5py.File) -> None:
    zeros = np.zeros((1000, 10_000), np.float32)
    file.create_dataset("big", data=zeros, compression="gzip")
    group = file["model_weights/first"]
    for number in range(60):
        group[f"w{number}"] = file["big"]
    group.attrs["weight_names"] = [f"w{number}" for number in range(60)]


def linked(place: str, link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.move(place, "moved")
        file[place] = link

    return change


def virtual(file: h5py.File) -> None:
    group = file["model_weights/first/first"]
    layout = h5py.VirtualLayout((5, 3), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (5, 3))
    del group["kernel:0"]
    group.create_virtual_dataset("kernel:0", layout)


DEEP = np.full((5, 3), 2**53 + 1, np.uint64)
FIRST = "model_weights/first"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: first_kernel(file, shape=(5, 10**8), dtype="f4"), "never filled"),
        (sixty_times, "weights of 2288 MiB; at most 512"),
        (linked(FIRST, h5py.ExternalLink("other.h5", "/first")), f"{FIRST} is a link"),
        (linked("model_weights", h5py.SoftLink("/moved")), "h5: model_weights is a link"),
        (linked(f"{FIRST}/first/kernel:0", h5py.SoftLink("/moved")), "kernel:0 is a link"),
        (virtual, "kernel:0' is kept in other files"),
        (
            lambda file: first_kernel(file, DEEP),
            "'first', uint64, has NaN or what float32 does not hold",
        ),
        (lambda file: first_kernel(file, np.full((5, 3), 1e300)), "'first', float64"),
        (lambda file: first_kernel(file, np.full((5, 3), b"x")), "not numeric"),
    ],
)
def test_stored_weights_are_judged_before_they_are_read(
    change: Callable[[h5py.File], None], words: str, files: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(files / "small.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=words):
        l1kd.load_model(path)


def test_weights_of_integers_that_are_float32(files: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(files / "small.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        first_kernel(file, np.arange(15, dtype=np.uint64).reshape(5, 3))
    kernel = l1kd.load_model(path).get_layer("first").get_weights()[0]
    assert kernel.dtype == np.float32 and (kernel == np.arange(15).reshape(5, 3)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quantized_bits(-6,1)", "bits is -6"),
        ("quantized_bits(5.5,1,alpha=1)", "bits is 5.5"),
        ("quantized_bits(1000000,1)", "bits is 1000000"),
        ("quantized_bits(True and 1,1)", "no quantizer"),
        ("quantized_bits(None,1)", "bits is None"),
        ("quantized_bits('six',1)", "bits is 'six'"),
        ("quantized_bits(6,-1)", "integer is -1"),
        ("quantized_bits(6,1.5)", "integer is 1.5"),
        ("quantized_bits(6,1000000)", "integer is 1000000"),
        ("quantized_relu(0,0)", "bits is 0"),
        ("quantized_ulaw(-4,2)", "bits is -4"),
        ("quantized_po2(4,max_value=-2)", "max_value should be non-negative"),
        ("quantized_bits(6,1,alpha=1e999)", "alpha is inf"),
        ("quantized_bits(6,1,alpha='much')", "alpha is 'much'"),
        ("quantized_bits(6,1,much=1)", "unexpected keyword argument 'much'"),
        ("quantized_bits(" + "-" * 5000 + "6)", "no quantizer"),
        ({"class_name": "quantized_bits", "config": {"bits": 6, "alpha": float("nan")}}, "is nan"),
        ({"class_name": "ternary", "config": {"alpha": [1.0, float("nan")]}}, "is nan"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_quantizers_that_no_type_is_like(text: Any, words: str, as_text: bool) -> None:
    with pytest.raises(UserError, match=words):
        quantizer(text, "m.h5: layer 'a'", as_text=as_text)


# --- other layouts, parts -------------------------------------------------------------------------


@pytest.mark.parametrize("build", [of_others, student, cicada_v1])
def test_the_layout_of_another_keras(build: Callable[[], keras.Model], tmp_path: Path) -> None:
    model = build()
    model.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        old.writestr("config.json", new.read("config.json"))
        weights = io.BytesIO(new.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            own, other = "layers", "_layer_checkpoint_dependencies"
            file.move(*((own, other) if own in file else (other, own)))
        old.writestr("model.weights.h5", weights.getvalue())
    again, expected = (l1kd.load_model(tmp_path / f"{name}.keras") for name in ("old", "new"))
    pairs = zip(again.get_weights(), expected.get_weights(), strict=True)
    assert all((ours == theirs).all() for ours, theirs in pairs)


@pytest.mark.parametrize(
    ("cut", "names"),
    [
        ("end", ["events", "first", "middle", "last"]),
        ("last", ["events", "first", "middle", "last"]),
        ("middle", ["events", "first", "middle"]),
    ],
)
def test_a_network_can_be_cut(cut: str, names: list[str], files: Path) -> None:
    part = l1kd.load_model(files / "small.h5", cut=cut)
    assert [layer.name for layer in part.layers] == names
    softmax = part.layers[-1].name == "last" and part.layers[-1].activation.__name__ == "softmax"
    assert softmax == (cut == "end")  # it is its own function that a layer loses
    events = np.random.default_rng(0).integers(-64, 64, (50, 5)).astype(np.float32) / 16
    if cut == "last":
        given = keras.activations.softmax(part(events)).numpy()
        whole = l1kd.load_model(files / "small.h5", cut="end")
        assert (given == whole(events).numpy()).all()
    if cut == "middle":
        inner = keras.Model(small().inputs, small().get_layer("middle").output)
        assert (part(events).numpy() == inner(events).numpy()).all()


def test_what_is_cut_off_may_be_of_any_class(files: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(files / "small.keras", tmp_path))
    path = rewritten(path, set_layer(4, class_name="TFOpLambda"))
    assert l1kd.load_model(path, cut="last").output_shape == (None, 2)
    with pytest.raises(UserError, match=r"named .lats. \(did you mean .last.\?\)"):
        l1kd.load_model(path, cut="lats")
