"""Models from files, without running anything that is in the file.

Keras' own loaders import modules that a file names and rebuild Python functions from its bytes,
"safe mode" or not. Here the stored configuration is read as plain data: layer classes come from a
table, their arguments are numbers, texts, lists and quantizers from another table, and weights are
read as arrays. What is not in the tables is refused by name.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import qkeras
from tensorflow import keras

from l1kd.errors import UserError
from l1kd.files import atomic
from l1kd.models.layers import PowerMean, SquareRoot

__all__ = ["load_model", "save_model"]

_MAX_CONFIG = 16 << 20
_MAX_WEIGHTS = 2 << 30

_LAYERS: dict[str, Any] = {
    **{
        name: getattr(keras.layers, name)
        for name in (
            "Activation",
            "Add",
            "AveragePooling2D",
            "Concatenate",
            "Conv1D",
            "Conv2D",
            "Conv2DTranspose",
            "Dense",
            "Dropout",
            "Flatten",
            "GlobalAveragePooling2D",
            "GlobalMaxPooling2D",
            "LeakyReLU",
            "MaxPooling2D",
            "Normalization",
            "ReLU",
            "Reshape",
            "UpSampling2D",
            "ZeroPadding2D",
        )
    },
    **{name: getattr(qkeras, name) for name in ("QActivation", "QConv1D", "QConv2D", "QDense")},
    "PowerMean": PowerMean,
    "SquareRoot": SquareRoot,
}
_QUANTIZERS: dict[str, Any] = {
    name: getattr(qkeras, name)
    for name in ("quantized_bits", "quantized_relu", "quantized_tanh", "quantized_sigmoid")
}
_ACTIVATIONS = {"linear", "relu", "sigmoid", "tanh", "softplus", "elu", "leaky_relu"}
# They matter to training only, and QKeras chooses its own again.
_DROPPED = re.compile(r".*_(initializer|regularizer|constraint)$|^(dtype|trainable)$")
_QUANTIZER_KEYS = {"kernel_quantizer", "bias_quantizer", "activation"}
_CALL = re.compile(r"^\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*$", re.DOTALL)


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model to a `.keras` file, whole or not at all."""
    with atomic(path) as temporary:
        model.save(temporary, save_format="keras")


def load_model(path: str | Path) -> keras.Model:
    """Read a `.keras` or `.h5` model of Keras 2 and QKeras layers; no code in the file runs.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    keras.Model
        With the stored weights, for inference.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds a layer, a quantizer or an argument that is not
        on the list of those known to be harmless (a Lambda, a class of somebody's own, ...).
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"{path} is a directory: a SavedModel is a program and is not loaded; "
            "save the model as .keras or .h5"
        )
    if not path.is_file():
        raise UserError(f"no model file at {path}")
    try:
        config, weights = _read_keras(path) if zipfile.is_zipfile(path) else _read_h5(path)
        model = _rebuild(config, path)
        _set_weights(model, weights, path)
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: not a model that can be read ({type(error).__name__}: {error}); "
            "save it again as .keras with Keras 2"
        ) from error
    except (zipfile.BadZipFile, RecursionError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: a damaged model file ({error})") from error
    return model


Weights = dict[str, list[np.ndarray[Any, Any]]]


def _read_keras(path: Path) -> tuple[Any, Weights]:
    with zipfile.ZipFile(path) as archive:
        for name, limit in (("config.json", _MAX_CONFIG), ("model.weights.h5", _MAX_WEIGHTS)):
            if archive.getinfo(name).file_size > limit:
                raise UserError(f"{path}: {name} unpacks to more than {limit >> 20} MiB")
        config = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as member, h5py.File(member, "r") as file:
            weights: Weights = {}
            counts: dict[str, int] = {}
            for layer in _layer_list(config, path):
                # Keras files weights under the class's name in snake case, counted.
                kind = re.sub(r"\W+", "", str(layer["class_name"]))
                kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
                kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
                number = counts.get(kind, 0)
                counts[kind] = number + 1
                key = f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"
                group = file.get(key)
                if group is not None:
                    order = sorted(group, key=int)
                    weights[layer["config"]["name"]] = [_array(group, item, path) for item in order]
    return config, weights


def _read_h5(path: Path) -> tuple[Any, Weights]:
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise UserError(f"{path}: no Keras model (weights alone, or another kind of HDF5 file)")
        text = file.attrs["model_config"]
        config = json.loads(text.decode() if isinstance(text, bytes) else text)
        weights: Weights = {}
        stored = file["model_weights"]
        for layer in _layer_list(config, path):
            name = layer["config"]["name"]
            if name in stored:
                names = [
                    str(n.decode() if isinstance(n, bytes) else n)
                    for n in stored[name].attrs.get("weight_names", [])
                ]
                weights[name] = [_array(stored[name], item, path) for item in names]
    return config, weights


def _array(group: Any, key: str, path: Path) -> np.ndarray[Any, Any]:
    link = group.get(key, getlink=True)
    dataset = group[key] if isinstance(link, h5py.HardLink) else None
    # A link to another file, or data that live in one, would read what the user did not give.
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UserError(f"{path}: the weight {key!r} is not stored in the file itself")
    if dataset.dtype.kind not in "fiu" or dataset.size * dataset.dtype.itemsize > _MAX_WEIGHTS:
        raise UserError(f"{path}: the weight {key!r} is no array of numbers of a model's size")
    array = np.asarray(dataset[()])
    if not np.isfinite(array).all():
        raise UserError(f"{path}: the weight {key!r} holds NaN or infinity")
    return array


def _layer_list(config: Any, path: Path) -> list[dict[str, Any]]:
    kind = config["class_name"]
    if kind not in ("Functional", "Model", "Sequential"):
        raise UserError(
            f"{path}: a model of class {kind!r} carries code of its own; "
            "only Functional and Sequential models are loaded"
        )
    stored: list[dict[str, Any]] = config["config"]["layers"]
    return stored


def _rebuild(config: Any, path: Path) -> keras.Model:
    stored = _layer_list(config, path)
    tensors: dict[str, Any] = {}
    previous: str | None = None
    inputs: list[str] = []
    for layer in stored:
        kind, arguments = layer["class_name"], dict(layer["config"])
        name = str(arguments["name"])
        if kind == "InputLayer":
            shape = arguments["batch_input_shape"][1:]
            tensors[name] = keras.Input(tuple(int(side) for side in shape), name=name)
            inputs.append(name)
            previous = name
            continue
        if kind not in _LAYERS:
            raise UserError(
                f"{path}: layer {name!r} is of class {kind!r}, which is not on the list of classes "
                "that are loaded without running code"
            )
        built = _LAYERS[kind](**_arguments(arguments, name, path))
        if config["class_name"] == "Sequential":
            if previous is None:
                shape = arguments["batch_input_shape"][1:]
                previous = f"{name}_input"
                tensors[previous] = keras.Input(tuple(int(side) for side in shape), name=previous)
                inputs.append(previous)
            tensors[name] = built(tensors[previous])
            previous = name
            continue
        sources = _sources(layer["inbound_nodes"], name, path)
        missing = [source for source in sources if source not in tensors]
        if missing:
            raise UserError(f"{path}: layer {name!r} reads {missing[0]!r}, which is not before it")
        values = [tensors[source] for source in sources]
        tensors[name] = built(values if len(values) > 1 else values[0])
    if config["class_name"] == "Sequential":
        return keras.Model(tensors[inputs[0]], tensors[str(previous)], name=_name(config))
    ins = [tensors[name] for name in _ends(config["config"]["input_layers"])]
    outs = [tensors[name] for name in _ends(config["config"]["output_layers"])]
    single = len(ins) == 1 and len(outs) == 1
    return keras.Model(ins[0] if single else ins, outs[0] if single else outs, name=_name(config))


def _name(config: Any) -> str:
    return re.sub(r"\W", "_", str(config["config"].get("name", "model")))


def _ends(stored: Any) -> list[str]:
    # One end is written flat, several as a list of lists.
    return (
        [str(stored[0])] if stored and isinstance(stored[0], str) else [str(e[0]) for e in stored]
    )


def _sources(nodes: Any, name: str, path: Path) -> list[str]:
    if len(nodes) != 1:
        raise UserError(
            f"{path}: layer {name!r} is used {len(nodes)} times; shared layers are not read"
        )
    sources = []
    for source in nodes[0]:
        if source[1] != 0 or source[2] != 0 or (len(source) > 3 and source[3]):
            raise UserError(f"{path}: layer {name!r} is called with more than its input")
        sources.append(str(source[0]))
    return sources


def _arguments(stored: dict[str, Any], layer: str, path: Path) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for key, value in stored.items():
        if _DROPPED.match(key) or key in ("batch_input_shape", "kernel_range", "bias_range"):
            continue
        if key in _QUANTIZER_KEYS:
            arguments[key] = _quantizer(value, key, layer, path, as_text=_is_activation(stored))
        elif _plain(value):
            arguments[key] = tuple(value) if isinstance(value, list) and key != "weights" else value
        else:
            raise UserError(
                f"{path}: layer {layer!r} has an argument {key!r} that is no plain value"
            )
    return arguments


def _is_activation(stored: dict[str, Any]) -> bool:
    return "kernel_quantizer" not in stored


def _quantizer(value: Any, key: str, layer: str, path: Path, *, as_text: bool) -> Any:
    """A quantizer from its stored form; an activation's stays text, so that it is stored again."""
    where = f"{path}: {key} of layer {layer!r}"
    if value is None or (isinstance(value, str) and value in _ACTIVATIONS):
        return value
    if isinstance(value, dict):
        name, stored = value.get("class_name"), value.get("config")
        if not isinstance(stored, dict):
            raise UserError(f"{where} is no quantizer")
        parts: tuple[list[Any], dict[str, Any]] = ([], dict(stored))
    elif isinstance(value, str) and (match := _CALL.match(value)):
        name, parts = match[1], _call_arguments(match[2] or "", where)
    else:
        raise UserError(f"{where} is no quantizer")
    if name not in _QUANTIZERS:
        raise UserError(f"{where} is {str(name)[:80]!r}; known are {', '.join(_QUANTIZERS)}")
    positional, named = parts
    named.pop("qnoise_factor", None)
    if not all(_scalar(item) for item in (*positional, *named.values())):
        raise UserError(f"{where} has an argument that is no number, text or truth value")
    quantizer = _QUANTIZERS[name](*positional, **named)
    if not as_text:
        return quantizer
    texts = [repr(item) for item in positional] + [f"{k}={v!r}" for k, v in named.items()]
    return value if isinstance(value, str) else f"{name}({','.join(texts)})"


def _call_arguments(text: str, where: str) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.rpartition("=")
        literal = _literal(value.strip(), where)
        if equals:
            named[key.strip()] = literal
        else:
            positional.append(literal)
    return positional, named


def _literal(text: str, where: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    if match := re.fullmatch(r"'(\w*)'|\"(\w*)\"", text):
        return match[1] or match[2] or ""
    raise UserError(f"{where} has an argument {text[:80]!r} that is no number, text or truth value")


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _plain(value: Any) -> bool:
    return _scalar(value) or (isinstance(value, list) and all(_plain(item) for item in value))


def _set_weights(model: keras.Model, weights: Weights, path: Path) -> None:
    for layer in model.layers:
        stored = weights.get(layer.name, [])
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in stored] != shapes:
            raise UserError(
                f"{path}: layer {layer.name!r} needs weights of the shapes {shapes}, the file has "
                f"{[array.shape for array in stored]}"
            )
        if stored:
            layer.set_weights(stored)
