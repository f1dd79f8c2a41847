"""Reads and builds Keras networks as plain data: layers with configurations, sources and weights.

Keras' own loaders import modules that a file names and rebuild Python functions from its bytes,
"safe mode" or not. Here layers and quantizers come from the tables of `allowed_layers`, weights are
arrays, sizes are limited, links and external data are not followed; all else is refused by name.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.files import atomic, check_regular
from l1kd.core.run_files import RepairKind
from l1kd.data.array_files import inside, judge
from l1kd.exact.network import MAX_VALUES
from l1kd.networks.allowed_layers import LAYERS, arguments, function_of

Weights = dict[str, list[NDArray[Any]]]

# Layers with a batch normalisation inside.
FOLDED = ("QDenseBatchnorm", "QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm")
# The order of their weights here; a file of a frozen layer has another. `iteration` counts training
# steps, and not every version stores it.
_ORDER = ("kernel", "bias", "gamma", "beta", "iteration", "moving_mean", "moving_variance")

_MAX_CONFIG = 16 << 20
_MAX_WEIGHTS = 1 << 29  # bytes of all of them
_MAX_LAYERS = 1000
# Names that Keras builds a layer of, and an input.
_NAMES = (re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]{0,199}"), re.compile(".{1,200}"))
# Where `.keras` files have the layers' weights: since Keras 2.15, and up to 2.14.
_FOLDERS = ("layers", "_layer_checkpoint_dependencies")
_MODELS = ("Functional", "Model", "Sequential")  # classes without code, also inside another model
_PRUNED = "; strip the pruning from the model before it is saved"
_CODE = (
    ": code computes with tensors; use a layer (Add, Multiply, Cropping1D, ...), put a factor "
    "into the weights before, or end the network before it (`l1kd import --cut LAYER`)"
)
_HINTS = {
    "PruneLowMagnitude": _PRUNED,
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"), _CODE),
}
# Arguments of the batch normalization inside a layer, besides those of `_PREFIXES`.
_NORMALISATION = {
    *("axis", "momentum", "epsilon", "center", "scale", "ema_freeze_delay", "folding_mode"),
    *("renorm", "renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size"),
    *("adjustment", "synchronized"),
}
_PREFIXES = ("beta_", "gamma_", "moving_")


def read_file(path: Path) -> tuple[Any, Weights]:
    """Configuration (parsed JSON) and weights by layer name, ordered as in an unfrozen layer."""
    if path.is_dir():
        remedy = "save the model as .keras or .h5"
        raise UserError(f"{path} is a directory: a SavedModel is a program, not loaded; {remedy}")
    check_regular(path, f"no model file at {path}")
    return _read_keras(path) if zipfile.is_zipfile(path) else _read_h5(path)


def layer_list(config: Any, where: object) -> list[dict[str, Any]]:
    """The layers of a stored configuration; a model class that brings code is refused."""
    kind = config["class_name"]
    if kind not in _MODELS:
        raise UserError(
            f"{where}: a model of class {kind!r} carries its own code; "
            "only Functional and Sequential models are loaded"
        )
    stored: list[dict[str, Any]] = config["config"]["layers"]
    if len(stored) > _MAX_LAYERS:
        raise UserError(f"{where}: {len(stored)} layers; at most {_MAX_LAYERS} are read")
    for layer in stored:
        name, pattern = layer["config"]["name"], _NAMES[layer["class_name"] == "InputLayer"]
        if not (isinstance(name, str) and pattern.fullmatch(name) and name.isprintable()):
            raise UserError(
                f"{where}: a layer is named {str(name)[:80]!r}, which Keras does not build; "
                "use letters, digits and _"
            )
    if any("batch_shape" in layer["config"] for layer in stored):
        raise UserError(f"{where} was written by Keras 3; QKeras' models are saved with Keras 2")
    return stored


def _read_keras(path: Path) -> tuple[Any, Weights]:
    with zipfile.ZipFile(path) as archive:
        for name, limit in (("config.json", _MAX_CONFIG), ("model.weights.h5", _MAX_WEIGHTS)):
            if archive.getinfo(name).file_size > limit:
                raise UserError(f"{path}: {name} unpacks to more than {limit >> 20} MiB")
        config = json.loads(archive.read("config.json"))
        layers = layer_list(config, path)
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored, "r") as file:
        folder = next((each for each in _FOLDERS if inside(file, path, each)), _FOLDERS[0])
        return config, _arrays(dict(_keras_weights(file, layers, path, folder)), path)


def _keras_weights(
    file: Any, layers: list[Any], path: Path, folder: str, above: str = "", before: str = ""
) -> Iterator[tuple[str, list[Any]]]:
    """Weights by layer, those of a model inside named behind it, from a group `above`."""
    counts: Counter[str] = Counter()
    for layer in layers:
        # Keras files weights under the class's name in snake case, counted.
        kind = re.sub(r"\W+", "", str(layer["class_name"]))
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        key = (
            f"{above}{folder}/{kind}_{counts[kind]}" if counts[kind] else f"{above}{folder}/{kind}"
        )
        counts[kind] += 1
        name = before + layer["config"]["name"]
        if layer["class_name"] in _MODELS:
            inner = layer_list(layer, path)
            yield from _keras_weights(file, inner, path, folder, f"{key}/", f"{name}_")
            continue
        own = _variables(file, f"{key}/vars", path)
        if layer["class_name"] in FOLDED:
            given = layer["config"]
            names = ["kernel"] + ["bias"] * bool(given["use_bias"]) + ["iteration"]
            within = ["gamma"] * bool(given["scale"]) + ["beta"] * bool(given["center"])
            within += ["moving_mean", "moving_variance"]
            inner = _variables(file, f"{key}/batchnorm/vars", path)
            own = _ordered(dict([*zip(names, own), *zip(within, inner)]))  # noqa: B905
        if own:
            yield name, own


def _variables(file: Any, key: str, path: Path) -> list[Any]:
    group = inside(file, path, key)
    names = [] if group is None else sorted(group, key=int)
    return [_weight(file, f"{key}/{name}", path) for name in names]


def _ordered(named: dict[str, Any]) -> list[Any]:
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
        found: dict[str, list[Any]] = {}
        for layer in layer_list(config, path):
            name = layer["config"]["name"]
            if (group := inside(file, path, f"model_weights/{name}")) is None:
                continue
            names = [_text(item) for item in group.attrs.get("weight_names", [])]
            own = [_weight(file, f"model_weights/{name}/{item}", path) for item in names]
            found |= _h5_weights(layer, dict(zip(names, own, strict=True)), path, "")
        return config, _arrays(found, path)


def _h5_weights(
    layer: Any, stored: dict[str, Any], path: Path, before: str
) -> dict[str, list[Any]]:
    """A layer's weights, or those of the layers of a model inside, named behind it."""
    name, own = before + layer["config"]["name"], list(stored.values())
    if layer["class_name"] in _MODELS:
        found: dict[str, list[Any]] = {}
        for inner in layer_list(layer, path):
            wanted, nested = inner["config"]["name"], inner["class_name"] in _MODELS
            within = {
                item: weight
                for item, weight in stored.items()
                if nested or item.split("/")[-2:-1] == [wanted]
            }
            found |= _h5_weights(inner, within, path, f"{name}_")
        return found
    if layer["class_name"] in FOLDED:
        last = [re.sub(r":\d+$", "", item).rpartition("/")[2] for item in stored]
        keys = [key.removeprefix("depthwise_") for key in last]
        own = _ordered(dict(zip(keys, own, strict=True)))
    return {name: own}


def _text(stored: Any) -> str:
    return str(stored.decode() if isinstance(stored, bytes) else stored)


def _weight(file: Any, key: str, path: Path) -> h5py.Dataset:
    """A weight's data set, judged and not read."""
    dataset = inside(file, path, key)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise UserError(f"{path}: the weight {key!r} is not there, or not numeric")
    judge(dataset, path, f"the weight {key!r}")
    return dataset


def _arrays(found: dict[str, list[Any]], path: Path) -> Weights:
    """The values of data sets, whose sizes are judged together before any is read."""
    size = sum(int(each.size) * each.dtype.itemsize for own in found.values() for each in own)
    if size > _MAX_WEIGHTS:
        raise UserError(
            f"{path}: weights of {size >> 20} MiB; at most {_MAX_WEIGHTS >> 20} are read"
        )
    return {name: [_values(each, name, path) for each in own] for name, own in found.items()}


def _values(dataset: Any, layer: str, path: Path) -> NDArray[Any]:
    """A weight as Keras keeps it: float32, but for counters."""
    array = np.asarray(dataset[()])
    with np.errstate(over="ignore", invalid="ignore"):
        kept = array.astype(np.float32 if array.ndim else array.dtype)
        held = np.isfinite(array).all() and (kept.astype(array.dtype) == array).all()
    if not held:
        found = f"a weight of layer {layer!r}, {array.dtype}, has NaN or what float32 does not hold"
        raise UserError(f"{path}: {found}; save the model with finite float32 weights")
    return kept


@dataclass(frozen=True)
class Repair:
    """A change of a layer: one that was made, could be made, or cannot; kinds in `repair`."""

    layer: str
    what: str
    kind: RepairKind = "exact"


@dataclass
class Node:
    """A layer; its configuration is `get_config()` after JSON."""

    kind: str  # the name of its class; `InputLayer` for an input
    name: str
    config: dict[str, Any]
    sources: list[str]  # names of the layers it reads
    weights: list[NDArray[Any]] = field(default_factory=list)  # in the order of `layer.weights`


@dataclass
class Graph:
    """Layers, inputs among them, ordered so that each follows its sources."""

    name: str
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]
    where: str  # for messages: the file, as a rule

    @classmethod
    def read(cls, config: Any, weights: Weights, where: str, cut: str | None = None) -> Graph:
        """The graph of a stored configuration, to the layer `cut`; shared layers are refused.

        Layers of a model inside are named behind it: `encoder_dense`.
        """
        nodes: list[Node] = []
        inputs, outputs = _add(nodes, config, weights, where)
        name = re.sub(r"\W", "_", str(config["config"].get("name", "model")))
        graph = cls(name, nodes, inputs, outputs, where)
        if cut is not None:
            graph._end_in(cut)
        for node in graph.nodes:
            if node.kind not in LAYERS and node.kind not in ("InputLayer", *FOLDED):
                raise UserError(
                    f"{where}: layer {node.name!r} is of class {node.kind!r}, which is not on the "
                    "list of classes that are loaded without running code"
                    + _HINTS.get(node.kind, "")
                )
        return graph

    @classmethod
    def of(cls, model: keras.Model) -> Graph:
        """The graph of a model in memory, which has to be Functional or Sequential."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras' doubts about QKeras' constraints
                config = json.loads(model.to_json())
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UserError(f"the model {model.name!r} cannot be described ({error})") from error
        return cls.read(config, dict(_weights_of(model)), f"the model {model.name!r}")

    def _end_in(self, name: str) -> None:
        """End in a layer; a softmax or another plain function that it is or has is left out."""
        names = [node.name for node in self.nodes]
        if name not in names:
            raise UserError(f"{self.where}: no layer is named {name!r}{did_you_mean(name, names)}")
        last = self.node(name)
        if last.kind == "Softmax" or function_of(last.config.get("activation")):
            if last.kind in ("Activation", "QActivation", "Softmax"):
                (name,) = last.sources
            last.config["activation"] = "linear"
        kept = {name}
        for node in reversed(self.nodes):
            if node.name in kept:
                kept.update(node.sources)
        self.nodes = [node for node in self.nodes if node.name in kept]
        self.inputs = [each for each in self.inputs if each in kept]
        self.outputs = [name]

    def node(self, name: str) -> Node:
        """The layer of that name."""
        return next(node for node in self.nodes if node.name == name)

    def readers(self, name: str) -> list[Node]:
        """The layers that read the layer `name`."""
        return [node for node in self.nodes if name in node.sources]

    def remove(self, name: str) -> None:
        """Take a layer with one source out; its readers read its source."""
        (source,) = self.node(name).sources
        self._redirect(name, source)
        self.nodes = [node for node in self.nodes if node.name != name]

    def unique(self, name: str) -> str:
        """The name, or the name and a number if a layer has it."""
        taken = {node.name for node in self.nodes}
        tried = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(each for each in tried if each not in taken)

    def insert_after(self, source: str, kind: str, name: str, config: dict[str, Any]) -> Node:
        """Put a layer without weights between a layer and everything that reads it."""
        unique = self.unique(name)
        self._redirect(source, unique)
        node = Node(kind, unique, {**config, "name": unique}, [source])
        self.nodes.insert(self.nodes.index(self.node(source)) + 1, node)
        return node

    def rename(self, new: dict[str, str]) -> None:
        """Give layers other names, by the old ones."""
        for node in self.nodes:
            node.name = node.config["name"] = new.get(node.name, node.name)
            node.sources = [new.get(source, source) for source in node.sources]
        self.inputs = [new.get(name, name) for name in self.inputs]
        self.outputs = [new.get(name, name) for name in self.outputs]

    def swap(self, node: Node, after: Node) -> None:
        """Put a layer with one reader behind that reader."""
        self.nodes.remove(node)
        self._redirect(after.name, node.name)
        after.sources, node.sources = node.sources, [after.name]
        self.nodes.insert(self.nodes.index(after) + 1, node)

    def _redirect(self, old: str, new: str) -> None:
        for node in self.nodes:
            node.sources = [new if source == old else source for source in node.sources]
        self.outputs = [new if output == old else output for output in self.outputs]

    # AutoGraph takes most of the time of building a layer, to rewrite Python that needs none here:
    # these calls give shapes only. Layers that are traced later are rewritten.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def build(self) -> keras.Model:
        """The network, with its weights."""
        tensors: dict[str, Any] = {}
        with warnings.catch_warnings():
            # Of initial weights, which the network does not keep.
            warnings.filterwarnings("ignore", message=".*is unseeded and being called")
            for node in self.nodes:
                tensors[node.name] = self._call(node, tensors)
            ins, outs = ([tensors[end] for end in ends] for ends in (self.inputs, self.outputs))
            if len(ins) == len(outs) == 1:
                (ins,), (outs,) = ins, outs
            model = keras.Model(ins, outs, name=self.name)
        layers = {layer.name: layer for layer in model.layers}
        for node in self.nodes:
            # Others lead to no output.
            if node.kind != "InputLayer" and node.name in layers:
                wanted = [tuple(weight.shape) for weight in layers[node.name].weights]
                found = [np.shape(array) for array in node.weights]
                if found != wanted:
                    raise UserError(
                        f"{self.where}: layer {node.name!r} needs weights of the shapes {wanted}, "
                        f"the file has {found}"
                    )
                layers[node.name].set_weights(node.weights)
        return model

    def _call(self, node: Node, tensors: dict[str, Any]) -> Any:
        place = f"{self.where}: layer {node.name!r}"
        if node.kind == "InputLayer":
            shape = node.config["batch_input_shape"][1:]
            if None in shape:
                raise UserError(f"{self.where}: input {node.name!r} has no fixed shape: {shape}")
            shape = tuple(int(side) for side in shape)
            _check_size(shape, place)
            return keras.Input(shape, name=node.name)
        try:
            layer = LAYERS[node.kind](**arguments(node.kind, node.config, place))
        except (TypeError, ValueError) as error:
            raise UserError(f"{place}: {error}; save the model again with Keras 2") from error
        if missing := [source for source in node.sources if source not in tensors]:
            raise UserError(f"{place} reads {missing[0]!r}, which is not before it")
        values = [tensors[source] for source in node.sources]
        given: Any = values if len(values) > 1 else values[0]
        if node.kind.startswith("UpSampling"):  # its call makes a list of all cells
            _check_size(layer.compute_output_shape(given.shape)[1:], place)
        found, add = {np.shape(array) for array in node.weights}, layer.add_weight

        def checked(name: Any = None, shape: Any = None, *rest: Any, **options: Any) -> Any:
            # A weight is allocated here, before it gets the file's values.
            if tuple(shape or ()) not in found:
                wanted = f"{name} of the shape {tuple(shape or ())}"
                raise UserError(f"{place} needs weights {wanted}, the file has {sorted(found)}")
            return add(name, shape, *rest, **options)

        vars(layer)["add_weight"] = checked
        made = layer(given)
        del vars(layer)["add_weight"]
        _check_size(made.shape[1:], place)
        return made


def _add(
    nodes: list[Node],
    config: Any,
    weights: Weights,
    where: str,
    before: str = "",
    source: str | None = None,
) -> tuple[list[str], list[str]]:
    """Append a stored model's layers to the nodes; its inputs and outputs.

    A model inside another reads the node `source`, and its layers are named behind `before`.
    """
    chain, at = config["class_name"] == "Sequential", dict[str, str]()  # node by own name
    first, last, stored = source, source, layer_list(config, where)
    models = {str(each["config"]["name"]) for each in stored if each["class_name"] in _MODELS}
    for layer in stored:
        kind, own = str(layer["class_name"]), dict(layer["config"])
        plain = str(own["name"])
        own["name"] = name = before + plain
        if chain and last is None and kind != "InputLayer":
            shape, last = own["batch_input_shape"], f"{name}_input"
            nodes.append(Node("InputLayer", last, {"batch_input_shape": shape}, []))
            first = last
        sources: list[str] = []
        if kind in LAYERS or kind in FOLDED or kind in _MODELS:
            given = [str(last)] if chain else _sources(layer, name, where, models)
            sources = given if chain else [at.get(each, before + each) for each in given]
        if kind == "InputLayer" and source is not None:
            name = source
        elif kind in _MODELS:
            ends = [_add(nodes, layer, weights, where, f"{name}_", each) for each in sources]
            if len(ends) != 1 or [len(end) for end in ends[0]] != [1, 1]:
                raise UserError(f"{where}: the model {name!r} inside has not one input, one output")
            name = ends[0][1][0]
        else:
            nodes.append(Node(kind, name, own, sources, list(weights.get(name, []))))
        if len(nodes) > _MAX_LAYERS:
            raise UserError(f"{where}: more than {_MAX_LAYERS} layers, the most that are read")
        at[plain], last = name, name
        first = first or last
    if chain:
        return [str(first)], [str(last)]
    named = (_ends(config["config"][f"{end}_layers"]) for end in ("input", "output"))
    inputs, outputs = ([at.get(each, before + each) for each in names] for names in named)
    return inputs, outputs


def _weights_of(model: keras.Model, before: str = "") -> Iterator[tuple[str, list[NDArray[Any]]]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weights_of(layer, f"{before}{layer.name}_")
        else:
            yield before + layer.name, layer.get_weights()


def _check_size(shape: Any, place: str) -> None:
    if (size := math.prod(side or 1 for side in shape)) > MAX_VALUES:
        raise UserError(f"{place} gives {size} values for an event; at most {MAX_VALUES} are read")


def _ends(stored: Any) -> list[str]:
    flat = stored and isinstance(stored[0], str)  # one end; several are a list of lists
    return [str(stored[0])] if flat else [str(end[0]) for end in stored]


def _sources(layer: Any, name: str, where: str, models: set[str]) -> list[str]:
    """Names of the layers that a layer reads; of `models`, which are used once, any call."""
    nodes = layer["inbound_nodes"]
    if len(nodes) != 1:
        raise UserError(
            f"{where}: layer {name!r} is used {len(nodes)} times; shared layers are not read"
        )
    for source in nodes[0]:
        first = source[1] == 0 or source[0] in models
        if not first or source[2] != 0 or (len(source) > 3 and source[3]):
            raise UserError(f"{where}: layer {name!r} is called with more than its input")
    return [str(source[0]) for source in nodes[0]]


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model to a `.keras` file, whole or not at all."""
    with atomic(path) as temporary:
        model.save(temporary, save_format="keras")


def load_model(path: str | Path, *, cut: str | None = None) -> keras.Model:
    """Read a `.keras` or `.h5` model of Keras 2 and QKeras layers; no code in the file runs.

    Parameters
    ----------
    path
        The file.
    cut
        Name of the layer in which the network is to end, for a part of what is stored. A softmax,
        sigmoid or the like that this layer is, or has inside, is left out.

    Returns
    -------
    keras.Model
        The network with its stored weights, for inference. A `QDenseBatchnorm`, which the installed
        QKeras does not have, becomes the `QDense` that it is in inference.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds a layer, a quantizer or an argument that is not
        on the list of those known to be harmless (a Lambda, a user's own class, ...).
    """
    return read_model(path, cut)[0]


def read_model(
    path: str | Path, cut: str | None = None, change: Callable[[Graph], None] = lambda graph: None
) -> tuple[keras.Model, list[Repair]]:
    """A model as `load_model` returns it, `change` applied, and what was folded."""
    path = Path(path)
    try:
        graph = Graph.read(*read_file(path), str(path), cut)
        folded = [fold(node) for node in graph.nodes if node.kind == "QDenseBatchnorm"]
        change(graph)
        return graph.build(), folded
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: not a model that can be read ({type(error).__name__}: {error}); "
            "save it again as .keras with Keras 2"
        ) from error
    except (zipfile.BadZipFile, RecursionError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: a damaged model file ({error})") from error
    except (tf.errors.OpError, MemoryError, OverflowError, AssertionError) as error:
        raise UserError(
            f"{path}: a model that cannot be built ({type(error).__name__}: {error})"
        ) from error


def fold(node: Node) -> Repair:
    r"""Fold a layer that brings a batch normalization, in either folding mode.

    In inference it defines :math:`y = x \cdot Q_k(s W) + Q_b(s (b - m) + \beta)` with
    :math:`s = \gamma / \sqrt{v + \epsilon}`, the moving mean m and variance v. Copies of a first
    draft of QDenseBatchnorm, which scaled what it had quantized, are read as the final proposal.
    """
    # In float32 and in QKeras' order, so that a weight half way between two values of its grid
    # falls on the same side.
    config = node.config
    weights = [tf.constant(array, tf.float32) for array in node.weights]
    given = ("use_bias", "scale", "center")  # which of bias, gamma and beta are stored
    kernel, present = weights.pop(0), [config.get(key, True) for key in given]
    bias, gamma, beta = (weights.pop(0) if each else None for each in present)
    _, mean, variance = weights
    factor = tf.math.rsqrt(variance + config.get("epsilon", 1e-3))
    if gamma is not None:
        factor *= gamma
    shifted = factor * ((0.0 if bias is None else bias) - mean)
    if beta is not None:
        shifted += beta
    if node.kind == "QDepthwiseConv2DBatchnorm":
        # (height, width, channels, copies): the channels of the output are the last two together.
        factor = tf.reshape(factor, (kernel.shape[2], kernel.shape[3]))
    node.kind = node.kind.removesuffix("Batchnorm")
    node.weights = [(factor * kernel).numpy(), shifted.numpy()]
    node.config = {
        key: value
        for key, value in config.items()
        if key not in _NORMALISATION and not key.startswith(_PREFIXES)
    }
    node.config["use_bias"] = True
    return Repair(node.name, "its own batch normalisation folded into its weights, as it defines")
