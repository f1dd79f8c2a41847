"""Reads `.keras` and `.h5` model files as a configuration and arrays of weights; nothing runs.

Sizes are limited; links and external data are not followed.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError

Weights = dict[str, list[NDArray[Any]]]

# Layers with a batch normalisation inside.
FOLDED = ("QDenseBatchnorm", "QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm")
# The order of their weights here; a file of a frozen layer has another. `iteration` counts training
# steps, and not every version stores it.
_ORDER = ("kernel", "bias", "gamma", "beta", "iteration", "moving_mean", "moving_variance")

_MAX_CONFIG = 16 << 20
_MAX_WEIGHTS = 2 << 30


def read_file(path: Path) -> tuple[Any, Weights]:
    """Configuration (parsed JSON) and weights by layer name, ordered as in an unfrozen layer."""
    if path.is_dir():
        remedy = "save the model as .keras or .h5"
        raise UserError(f"{path} is a directory: a SavedModel is a program, not loaded; {remedy}")
    if not path.is_file():
        raise UserError(f"no model file at {path}")
    return _read_keras(path) if zipfile.is_zipfile(path) else _read_h5(path)


def layer_list(config: Any, where: object) -> list[dict[str, Any]]:
    """The layers of a stored configuration; a model class that brings code is refused."""
    kind = config["class_name"]
    if kind not in ("Functional", "Model", "Sequential"):
        raise UserError(
            f"{where}: a model of class {kind!r} carries its own code; "
            "only Functional and Sequential models are loaded"
        )
    stored: list[dict[str, Any]] = config["config"]["layers"]
    if any("batch_shape" in layer["config"] for layer in stored):
        raise UserError(f"{where} was written by Keras 3; QKeras' models are saved with Keras 2")
    return stored


def _read_keras(path: Path) -> tuple[Any, Weights]:
    with zipfile.ZipFile(path) as archive:
        for name, limit in (("config.json", _MAX_CONFIG), ("model.weights.h5", _MAX_WEIGHTS)):
            if archive.getinfo(name).file_size > limit:
                raise UserError(f"{path}: {name} unpacks to more than {limit >> 20} MiB")
        config = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as member, h5py.File(member, "r") as file:
            weights: Weights = {}
            counts: Counter[str] = Counter()
            for layer in layer_list(config, path):
                # Keras files weights under the class's name in snake case, counted.
                kind = re.sub(r"\W+", "", str(layer["class_name"]))
                kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
                kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
                key = f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"
                counts[kind] += 1
                own = _variables(file, f"{key}/vars", path)
                if layer["class_name"] in FOLDED:
                    stored = layer["config"]
                    names = ["kernel"] + ["bias"] * bool(stored["use_bias"]) + ["iteration"]
                    inside = ["gamma"] * bool(stored["scale"]) + ["beta"] * bool(stored["center"])
                    inside += ["moving_mean", "moving_variance"]
                    inner = _variables(file, f"{key}/batchnorm/vars", path)
                    own = _ordered(dict([*zip(names, own), *zip(inside, inner)]))  # noqa: B905
                if own:
                    weights[layer["config"]["name"]] = own
    return config, weights


def _variables(file: Any, key: str, path: Path) -> list[NDArray[Any]]:
    group = file.get(key)
    return [] if group is None else [_array(group, item, path) for item in sorted(group, key=int)]


def _ordered(named: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    named.setdefault("iteration", np.array(-1, np.int64))
    return [named[name] for name in _ORDER if name in named]


def _read_h5(path: Path) -> tuple[Any, Weights]:
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise UserError(f"{path}: not a Keras model (weights alone, or other HDF5 data)")
        text = file.attrs["model_config"]
        if len(text) > _MAX_CONFIG:
            raise UserError(f"{path}: a configuration of more than {_MAX_CONFIG >> 20} MiB")
        config = json.loads(_text(text))
        weights: Weights = {}
        stored = file["model_weights"]
        for layer in layer_list(config, path):
            name = layer["config"]["name"]
            if name not in stored:
                continue
            names = [_text(item) for item in stored[name].attrs.get("weight_names", [])]
            arrays = [_array(stored[name], item, path) for item in names]
            if layer["class_name"] in FOLDED:
                last = [re.sub(r":\d+$", "", item).rpartition("/")[2] for item in names]
                keys = [key.removeprefix("depthwise_") for key in last]
                arrays = _ordered(dict(zip(keys, arrays, strict=True)))
            weights[name] = arrays
    return config, weights


def _text(stored: Any) -> str:
    return str(stored.decode() if isinstance(stored, bytes) else stored)


def _array(group: Any, key: str, path: Path) -> NDArray[Any]:
    link = group.get(key, getlink=True)
    dataset = group[key] if isinstance(link, h5py.HardLink) else None
    # A link to another file, or data that live in one, would read what the user did not give.
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UserError(f"{path}: the weight {key!r} is not stored in the file itself")
    if dataset.dtype.kind not in "fiu" or dataset.size * dataset.dtype.itemsize > _MAX_WEIGHTS:
        raise UserError(f"{path}: the weight {key!r} is not numeric, or too large for a model")
    array = np.asarray(dataset[()])
    if not np.isfinite(array).all():
        raise UserError(f"{path}: the weight {key!r} holds NaN or infinity")
    return array
