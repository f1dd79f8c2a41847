"""The lint: names every construct of a QKeras network that hls4ml 1.3.0 cannot convert exactly.

A kind registers its rule with `@rule`; the evidence is in `tests/networks/lint_cases.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from importlib import resources
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from l1kd.core.errors import CheckFailed
from l1kd.networks.quantizers import fraction_bits, reading, settled, type_of

if TYPE_CHECKING:
    from tensorflow import keras

# Layers with quantized weights, and what their quantizers are called.
PARTS = {
    "QDense": ("kernel", "bias"),
    "QConv1D": ("kernel", "bias"),
    "QConv2D": ("kernel", "bias"),
    "QDepthwiseConv2D": ("depthwise", "bias"),
    "QSeparableConv1D": ("depthwise", "pointwise", "bias"),
    "QSeparableConv2D": ("depthwise", "pointwise", "bias"),
}
# Layers that hand values on as they are, in the same order or another.
SAME = frozenset({"Flatten", "Reshape", "Permute", "Dropout"})
DROPOUT = frozenset({"Dropout"})  # the layers that hls4ml's graph does not have


def kind(layer: Any) -> str:
    """The name of a layer's class."""
    return type(layer).__name__


@dataclass(frozen=True)
class Graph:
    """The layers of a network and their connections."""

    layers: tuple[Any, ...]  # each after the layers that it reads
    # By a layer's name: the layers that it reads, call by call (a shared layer has several calls).
    calls: dict[str, list[list[Any]]]
    # By a layer's name: the layers that read it, as often as they do.
    readers: dict[str, list[Any]]

    @classmethod
    def of(cls, model: keras.Model) -> Graph:
        used = getattr(model, "_network_nodes", None)
        calls: dict[str, list[list[Any]]] = {}
        layers = []
        for layer in getattr(model, "_self_tracked_trackables", model.layers):
            if layer.name in calls or not hasattr(layer, "inbound_nodes"):
                continue
            layers.append(layer)
            calls[layer.name] = [
                [parent.layer for parent in node.parent_nodes]
                for place, node in enumerate(layer.inbound_nodes)
                if used is None or f"{layer.name}_ib-{place}" in used
            ]
        readers: dict[str, list[Any]] = {name: [] for name in calls}
        for layer in layers:
            for call in calls[layer.name]:
                for parent in call:
                    readers.setdefault(parent.name, []).append(layer)
        return cls(tuple(layers), calls, readers)

    def parents(self, layer: Any) -> list[Any]:
        """The layers that a layer reads, in the order of its arguments; in its first call."""
        calls = self.calls[layer.name]
        return calls[0] if calls else []

    def source(self, layer: Any, through: Set[str] = SAME) -> Any:
        """The one layer that a layer reads, seen through some kinds, or None."""
        parents = self.parents(layer)
        while len(parents) == 1 and kind(parents[0]) in through:
            parents = self.parents(parents[0])
        return parents[0] if len(parents) == 1 else None

    def reached(self, layer: Any, through: Set[str] = SAME) -> list[Any]:
        """The layers that read a layer, seen through some kinds."""
        found = []
        for reader in self.readers[layer.name]:
            found += self.reached(reader, through) if kind(reader) in through else [reader]
        return found

    def is_port(self, layer: Any) -> bool:
        """True for a quantizer that reads the network's input."""
        return kind(layer) == "QActivation" and kind(self.source(layer)) == "InputLayer"


def weights_of(layer: Any) -> list[tuple[str, Any, NDArray[Any]]]:
    """Names of a layer's weights as in `PARTS`, their quantizers (or None), stored values."""
    parts = zip(PARTS.get(kind(layer), ()), layer.get_weights(), strict=False)
    return [
        (part, getattr(layer, f"{part}_quantizer_internal", None), np.asarray(values))
        for part, values in parts
    ]


def own_activation(layer: Any) -> Any:
    """The activation inside a layer, None if it is linear."""
    activation = getattr(layer, "activation", None)
    if activation is None or kind(layer) not in PARTS:
        return None
    return None if getattr(activation, "__name__", "") == "linear" else activation


def sides(value: Any) -> tuple[int, ...]:
    """An argument that is one number or several, as several."""
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)


def pads(side: int, size: int, step: int) -> tuple[int, int]:
    """Cells that `same` adds before and behind: TensorFlow puts the odd one behind."""
    missing = max((-(-side // step) - 1) * step + size - side, 0)
    return missing // 2, missing - missing // 2


def cells_seen(layer: Any) -> set[int]:
    """Numbers of cells that windows of a pooling layer see: several where some are cut."""
    cells = [int(side) for side in layer.input_shape[1:-1]]
    if not hasattr(layer, "pool_size"):
        return {int(np.prod(cells))}
    found = {1}
    for side, size, step in zip(cells, sides(layer.pool_size), sides(layer.strides), strict=True):
        same = layer.padding == "same"
        starts = range(-pads(side, size, step)[0] * same, side if same else side - size + 1, step)
        seen = {min(start + size, side) - max(start, 0) for start in starts}
        found = {rows * columns for rows in found for columns in seen}
    return found


IoType = Literal["io_parallel", "io_stream"]
Finding = tuple[str, str, str]  # a problem without its layer: construct, reason, remedy
Rule = Callable[[Graph, Any], Iterator[Finding]]
RULES: dict[str, Rule] = {}  # by the name of a layer's class
_TEXTS = yaml.safe_load((resources.files("l1kd.networks.lint") / "problems.yaml").read_bytes())


def finding(key: str, **values: Any) -> Finding:
    """A problem of `problems.yaml` with the values that its texts name."""
    construct, reason, remedy = (text.format(**values) for text in _TEXTS[key])
    return construct, reason, remedy


@dataclass(frozen=True)
class Problem:
    """A construct that does not convert exactly.

    Attributes
    ----------
    layer
        Name of the layer; the network's if it is not about one layer.
    construct
        As in the network's code: `quantized_bits(symmetric=1)`.
    reason
        The result of hls4ml.
    remedy
        The change that removes the problem.
    """

    layer: str
    construct: str
    reason: str
    remedy: str

    def refusal(self, model: keras.Model) -> str:
        """One line for the user."""
        return f"{model.name}: layer {self.layer!r}, {self.construct}: {self.reason}; {self.remedy}"


def check(model: keras.Model, *, io_type: IoType = "io_parallel") -> list[Problem]:
    """List the constructs of a network that hls4ml cannot convert exactly.

    Parameters
    ----------
    model
        A built Keras 2 model of QKeras layers: Functional or Sequential. It is not run.
    io_type
        `io_stream` also lists constructs that are exact with `io_parallel` only.

    Returns
    -------
    list of Problem
        In the network's order, each with `layer`, `construct`, `reason` and `remedy`; empty for a
        network that converts exactly.
    """
    graph, found = Graph.of(model), []
    for layer in graph.layers:
        name, calls = kind(layer), len(graph.calls[layer.name])
        own = [finding("shared", calls=calls)] if calls > 1 else []
        if name in RULES:
            own += RULES[name](graph, layer)
        else:
            own.append((name, *_REFUSED.get(name, _ANY)))
        own += _name(layer)
        if not own:
            own += _too_wide(graph, layer)
        if io_type == "io_stream":
            own += _stream(graph, layer)
        found += [Problem(layer.name, *each) for each in own]
    return found


def demand(model: keras.Model, *, io_type: IoType = "io_parallel") -> None:
    """Refuse (CheckFailed) a network with problems: the first in one line, and how many others."""
    if found := check(model, io_type=io_type):
        others = len(found) - 1
        more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
        raise CheckFailed(found[0].refusal(model) + more)


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for layers of some kinds."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


_WIDEST = 53  # bits that a float64 holds


@dataclass(frozen=True)
class _Reach:
    """Values are at most `most` in size, in steps of 2^-`fraction`."""

    most: float
    fraction: int


def _too_wide(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Sums that need more bits than hls4ml can bound."""
    # Its bounds are intervals in float64. Past 53 bits such a bound is rounded, and a sum that is
    # exactly a power of two has one bit too few: it wraps around.
    summed = kind(layer) in PARTS or kind(layer) == "AxisSum"
    reach = _reach(graph, graph.parents(layer)[0]) if summed else None
    sums = None if reach is None else _sum(layer, reach)
    if sums is not None and sums.most:
        bits = math.ceil(math.log2(sums.most)) + sums.fraction + 1
        if bits > _WIDEST:
            yield finding("too wide", bits=bits, widest=_WIDEST)


def _reach(graph: Graph, layer: Any) -> _Reach | None:
    """Size and step of a layer's output; None where that is not known."""
    quantizer = layer.quantizer if kind(layer) == "QActivation" else own_activation(layer)
    if quantizer is not None and getattr(quantizer, "__name__", "") != "relu":
        found = reading(quantizer)
        if found is None:
            return None
        return _Reach(max(-found.type.low, found.type.high), found.type.fraction)
    before = [_reach(graph, parent) for parent in graph.parents(layer)]
    known = [each for each in before if each is not None]
    if not known or len(known) < len(before):
        return None
    if kind(layer) in PARTS or kind(layer) == "AxisSum":
        return _sum(layer, known[0])
    most, fraction = [each.most for each in known], max(each.fraction for each in known)
    if kind(layer) == "Multiply":
        return _Reach(math.prod(most), sum(each.fraction for each in known))
    return _Reach(sum(most) if kind(layer) in ("Add", "Subtract") else max(most), fraction)


def _sum(layer: Any, reach: _Reach) -> _Reach | None:
    """The sums of a layer; None if QKeras cannot quantize its weights."""
    if kind(layer) == "AxisSum":
        cells = math.prod(int(layer.input_shape[axis]) for axis in layer.axes)
        return _Reach(reach.most * cells, reach.fraction)
    for part, quantizer, stored in weights_of(layer):
        if float(getattr(quantizer, "integer", 0)) < 0:
            return None
        stored = stored.astype(np.float32)
        values = np.asarray(stored if quantizer is None else quantizer(stored), np.float64)
        if part == "bias":
            size = float(np.abs(values).max(initial=0))
            reach = _Reach(reach.most + size, max(reach.fraction, fraction_bits(values)))
            continue
        summed = tuple(range(values.ndim - (2 if part == "depthwise" else 1)))
        largest = float(np.abs(values).sum(axis=summed).max(initial=0))
        reach = _Reach(reach.most * largest, reach.fraction + fraction_bits(values))
    return reach


_COPIES = 7  # of a stream


def _stream(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Problems of io_stream alone."""
    if (readers := len(graph.readers[layer.name])) > _COPIES:
        yield finding("stream read often", readers=readers, copies=_COPIES)
    if misread(graph, layer):
        yield finding("stream flat", kind=kind(layer))
    shapes = {tuple(each.output_shape) for each in graph.parents(layer)}
    if len(shapes) > 1 and kind(layer) != "Concatenate":
        yield finding("stream of shapes", kind=kind(layer))
    if kind(layer) in ("QConv1D", "QSeparableConv1D") and layer.padding != "valid":
        side, size, step = int(layer.input_shape[1]), layer.kernel_size[0], layer.strides[0]
        padded = size > 1 if layer.padding == "causal" else any(pads(side, size, step))
        source = graph.source(layer)
        if padded and source is not None and len(graph.reached(source)) > 1:
            yield finding("stream padded", layer=layer)
    if kind(layer) in ("QConv2D", "QDepthwiseConv2D", "QSeparableConv2D"):
        size, strides = sides(layer.kernel_size), sides(layer.strides)
        if size[0] == 1 < size[1] and strides[0] > 1:
            yield finding("stream skips rows", size=size, strides=strides)
    if hasattr(layer, "pool_size"):
        size, step = sides(layer.pool_size), sides(layer.strides)
        if len(size) == 2 and size != step:
            yield finding("stream pool overlaps", size=size, step=step)
        axes = zip(layer.input_shape[1:-1], size, step, strict=True)
        if layer.padding == "same" and any(any(pads(*each)) for each in axes):
            yield finding("stream pool padded")


_READ_IN_PACKS = frozenset({"QDense", "Concatenate", "Flatten", "Reshape", "Dropout"})


def misread(graph: Graph, layer: Any) -> bool:
    """True if a stream goes on in the packs from before a Flatten, and its readers cannot tell."""
    readers = graph.readers[layer.name]
    if not readers or _pack(graph, layer) == _sides(layer)[-1]:
        return False
    reader = readers[0]
    typed = kind(reader) == "QActivation" and _class(reader.quantizer) == "quantized_bits"
    return len(readers) > 1 or not (typed or kind(reader) in _READ_IN_PACKS)


def _sides(layer: Any) -> tuple[int, ...]:
    shape = layer.output_shape
    return tuple((shape[0] if isinstance(shape, list) else shape)[1:])


def _pack(graph: Graph, layer: Any) -> int:
    """Values that a stream carries at a time: hls4ml leaves them where a layer makes it flat."""
    parents, flat = graph.parents(layer), len(_sides(layer)) == 1
    typed = kind(layer) == "QActivation" and _class(layer.quantizer) == "quantized_bits"
    if parents and flat and (typed or kind(layer) in ("Flatten", "Reshape", "Dropout")):
        return _pack(graph, parents[0])
    return _sides(layer)[-1]


_FLOAT = "use {}, with kernel_quantizer='quantized_bits(bits,integer,alpha=1)'"
_OWN = "run l1kd.repair, which folds it exactly into a {}"
_LAYER = "run l1kd.repair, which folds it into the layer before"
_FUSED = "hls4ml fuses it into weights that are no longer on their quantizer's grid"
_ACTIVATION = "use QActivation('quantized_relu(bits,integer)') or another quantizer"
_NESTED = ("a model inside a model", "put the inner model's layers into the outer one")
# Kinds that are refused with any arguments: reason, remedy.
_REFUSED: dict[str, tuple[str, str]] = {
    "BatchNormalization": (_FUSED, _LAYER),
    "QBatchNormalization": ("hls4ml does not quantize its parts as QKeras does", _LAYER),
    "QConv2DBatchnorm": ("hls4ml cannot convert it", _OWN.format("QConv2D")),
    "QDepthwiseConv2DBatchnorm": ("hls4ml cannot convert it", _OWN.format("QDepthwiseConv2D")),
    "Dense": ("its weights are float32", _FLOAT.format("QDense")),
    "Conv1D": ("its weights are float32", _FLOAT.format("QConv1D")),
    "Conv2D": ("its weights are float32", _FLOAT.format("QConv2D")),
    "PReLU": ("its slopes are float32, which QKeras rounds after", _ACTIVATION),
    "ELU": ("hls4ml looks it up in a table", _ACTIVATION),
    "Softmax": (_TEXTS["function"][1], _TEXTS["function"][2]),
    "Functional": _NESTED,
    "Sequential": _NESTED,
}
_ANY = ("hls4ml has no exact form of it", "leave it out of the network for the firmware")


@rule("InputLayer")
def _input(graph: Graph, layer: Any) -> Iterator[Finding]:
    readers = graph.reached(layer)
    if len(readers) == 1 and graph.is_port(readers[0]):
        return
    found = "no quantizer behind the input" if len(readers) < 2 else f"{len(readers)} readers"
    yield finding("port not alone", found=found)


@rule("QActivation")
def _activation(graph: Graph, layer: Any) -> Iterator[Finding]:
    quantizer, port = layer.quantizer, graph.is_port(layer)
    yield from _of_activation(quantizer, port=port)
    if port and not graph.reached(layer):
        yield finding("port alone")
    if type(quantizer).__name__ != "quantized_bits":
        return
    reshaped = port and kind(graph.parents(layer)[0]) not in ("InputLayer", "Dropout")
    # A port without fraction bits is an integer in hls4ml, which it cannot hand on.
    if reshaped and quantizer.bits - quantizer.integer == 1:
        yield finding("port reshaped", q=quantizer)
    if not port:
        yield from _fused(graph, layer)


def _fused(graph: Graph, layer: Any) -> Iterator[Finding]:
    """hls4ml makes a `quantized_bits` the type of the layer before, if no other reads that one."""
    before = graph.source(layer, DROPOUT)
    if before is None or len(graph.reached(before, DROPOUT)) > 1:
        return
    while kind(before) in ("Flatten", "Reshape", "Permute"):
        further = graph.source(before, DROPOUT)
        if further is None:
            return
        if len(graph.reached(further, DROPOUT)) > 1:
            if kind(before) != "Permute":
                yield finding("type lost in reshape", kind=kind(before), before=before.name)
            return
        before = further
    own = own_activation(before)
    if kind(before) == "QActivation" or getattr(own, "__name__", own) not in (None, "relu"):
        yield finding("type lost", before=before.name, layer=layer)


@rule("QDense")
def _dense(graph: Graph, layer: Any) -> Iterator[Finding]:
    rank = len(layer.input_shape) - 1
    if rank > 1:
        same = f"QConv{rank - 1}D with kernel_size=1" if rank < 4 else "a Flatten before it"
        yield finding("dense of axes", rank=rank, same=same)
    yield from _weighted(layer)


def _weighted(layer: Any) -> Iterator[Finding]:
    for part, quantizer, values in weights_of(layer):
        yield from _of_weights(quantizer, values, part=part)
    scale = getattr(getattr(layer, "kernel_quantizer_internal", None), "alpha", 1)
    bias = getattr(layer, "bias_quantizer_internal", None)
    if scale != 1 and type(bias).__name__ == "quantized_sigmoid":
        yield finding("bias quantized twice")
    activation = own_activation(layer)
    # Plain functions of Keras; that of a name is exact, as a separate layer is.
    if activation is not None and getattr(activation, "__name__", "") != "relu":
        yield from _of_activation(activation)


@rule("QConv1D", "QConv2D", "QDepthwiseConv2D", "QSeparableConv1D", "QSeparableConv2D")
def _convolution(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from _channels(graph, layer)
    if any(step != 1 for step in sides(layer.dilation_rate)):
        yield finding("dilation", rate=sides(layer.dilation_rate))
    if getattr(layer, "groups", 1) != 1:
        yield finding("groups", layer=layer)
    if getattr(layer, "depth_multiplier", 1) != 1:
        yield finding("depth multiplier", layer=layer)
    if layer.padding == "causal":
        side, size, step = int(layer.input_shape[1]), layer.kernel_size[0], layer.strides[0]
        theirs = max(size - (side % step or step), 0)
        if theirs != size - 1:
            yield finding("causal", step=step, theirs=theirs, ours=size - 1)
    yield from _weighted(layer)


@rule("Flatten", "Permute")
def _channels(graph: Graph, layer: Any) -> Iterator[Finding]:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        yield finding("channels first")
    before = graph.source(layer, DROPOUT | {"QActivation", "Activation", "ReLU", "LeakyReLU"})
    if kind(layer) != "Flatten" and getattr(before, "keepdims", False):
        yield finding("sides lost", before=before.name)


@rule(
    *("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    *("AveragePooling1D", "AveragePooling2D"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
)
def _pool(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from _channels(graph, layer)
    same = getattr(layer, "padding", "valid") == "same"
    if same and "Max" in kind(layer) and not _signed(graph, graph.parents(layer)[0]):
        yield finding("pool padded")
    readers = graph.reached(layer)
    quantized = readers and all(kind(reader) == "QActivation" for reader in readers)
    odd = [count for count in cells_seen(layer) if count & (count - 1)]
    if "Average" in kind(layer) and odd and not quantized:
        yield finding("quotient", cells=min(odd))
    if kind(layer) in ("GlobalMaxPooling2D", "GlobalAveragePooling2D") and any(
        kind(reader) == "Concatenate" for reader in readers
    ):
        yield finding("pool joined", kind=kind(layer))


def _signed(graph: Graph, layer: Any) -> bool:
    """True if hls4ml gives a layer's output a sign."""
    if kind(layer) in ("InputLayer", "Subtract"):
        return True
    quantizer = layer.quantizer if kind(layer) == "QActivation" else own_activation(layer)
    if quantizer is not None:
        return type(quantizer).__name__ not in ("quantized_relu", "quantized_sigmoid")
    if any((values < 0).any() for _, _, values in weights_of(layer)):
        return True
    return any(_signed(graph, parent) for parent in graph.parents(layer))


@rule("Activation")
def _float_activation(graph: Graph, layer: Any) -> Iterator[Finding]:
    name = str(getattr(layer.activation, "__name__", layer.activation))
    if name not in ("relu", "linear"):
        yield finding("function", construct=f"Activation({name!r})")


@rule("ReLU")
def _float_relu(graph: Graph, layer: Any) -> Iterator[Finding]:
    for argument, plain in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        value = getattr(layer, argument)
        if (None if value is None else float(value)) != plain:
            yield finding("float relu", argument=argument, value=value)


@rule("LeakyReLU")
def _leaky_relu(graph: Graph, layer: Any) -> Iterator[Finding]:
    if np.frexp(slope := float(layer.alpha))[0] != 0.5:
        yield finding("leaky relu", slope=slope)


@rule("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
def _merge(graph: Graph, layer: Any) -> Iterator[Finding]:
    parents = graph.parents(layer)
    if (count := len(parents)) > 2:
        yield finding("merge of many", kind=kind(layer), count=count, fewer=count - 1)
    if kind(layer) == "Concatenate" and layer.axis >= 0:
        yield finding("axis", layer=layer, axis=layer.axis - len(parents[0].output_shape))


@rule("Reshape")
def _reshape(graph: Graph, layer: Any) -> Iterator[Finding]:
    target = tuple(layer.target_shape)
    if len(target) > 1 and any(side < 0 for side in target):
        shape = tuple(int(side) for side in layer.output_shape[1:])
        yield finding("open shape", target=target, shape=shape)


@rule("Dropout")
def _dropout(graph: Graph, layer: Any) -> Iterator[Finding]:
    if not graph.readers[layer.name]:
        yield finding("dropout last")


@rule("AxisSum")
def _axis_sum(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from ()


def _name(layer: Any) -> Iterator[Finding]:
    """Names become types and variables of the C++."""
    if not (layer.name.isascii() and layer.name.isidentifier()):
        yield finding("name not in C++")


def _of_activation(quantizer: Any, *, port: bool = False) -> Iterator[Finding]:
    """Problems of an activation's quantizer; at the `port` it becomes the input port's type."""
    name = _class(quantizer)
    if name in ("softmax", "sigmoid", "tanh", "softplus", "elu"):
        yield finding("function", construct=name)
        return
    if name not in _ACTIVATIONS:
        reason = _UNKNOWN.get(name, "hls4ml has no such activation")
        yield finding("unknown", name=name, reason=reason)
        return
    if port and name != "quantized_bits":
        yield finding("port of another kind", name=name)
    found = []
    if (factor := float(getattr(quantizer, "qnoise_factor", 1.0))) != 1:
        found.append(finding("noise", name=name, factor=factor))
    found += _exponents(quantizer)
    for key, has in _ACTIVATIONS[name].items():
        if has(quantizer):
            alpha = _shown(getattr(quantizer, "alpha", None))
            found.append(finding(key, q=quantizer, bits=int(quantizer.bits), alpha=alpha))
    found = found or list(_integer_only(quantizer, name, port=port))
    if not found and reading(quantizer) is None:  # the rules above say why; this is their net
        found = [finding("more than a type", name=name)]
    yield from found


def _of_weights(quantizer: Any, values: NDArray[Any], *, part: str) -> Iterator[Finding]:
    """Problems of a quantizer of stored weights; `part` is bias, kernel, depthwise or pointwise."""
    name = _class(quantizer)
    if not np.isfinite(values).all():
        yield finding("weights not finite", part=part)
    elif quantizer is None:
        yield finding("weights unquantized", part=part)
    elif name not in _WEIGHTS:
        yield finding("weights of no type", part=part, name=name)
    else:
        found = [*_exponents(quantizer, f"{part}: ")]
        if not _scale_fits(quantizer, name, part):
            alpha = _shown(quantizer.alpha)
            found.insert(0, finding("weights scaled", part=part, name=name, alpha=alpha))
        yield from found
        if not found and type_of(quantizer) is not None:
            given = settled(quantizer, values)
            if given is not None and (off := int(given.strayed.sum())):
                yield finding("weights strayed", part=part, off=off, size=values.size)


def _exponents(quantizer: Any, part: str = "") -> Iterator[Finding]:
    integer = float(getattr(quantizer, "integer", 0))
    if integer < 0 or integer % 1:
        yield finding("exponent", part=part, name=_class(quantizer), q=quantizer, integer=integer)


def _integer_only(quantizer: Any, name: str, *, port: bool) -> Iterator[Finding]:
    """A type without fraction bits; hls4ml makes ap_int of it, which truncates and wraps around."""
    if name not in ("quantized_bits", "quantized_relu"):
        return
    signed = name == "quantized_bits"
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    fraction = bits - integer - int(signed)
    given = {"name": name, "bits": bits, "integer": integer}
    if port and fraction < 0:
        yield finding("integer port", **given, word=integer + 1, step=2**-fraction)
    elif not port and fraction <= 0:
        alpha = ",alpha=1" if signed else ""
        yield finding("integer inside", **given, wider=bits + 1 - fraction, alpha=alpha)


def _scale_fits(quantizer: Any, name: str, part: str) -> bool:
    if not _WEIGHTS[name] or _is_one(alpha := quantizer.alpha):
        return True
    if alpha is None and part == "bias" and name == "quantized_bits":
        return True
    # Behind a kernel hls4ml multiplies with the scale; for a depthwise one it takes the products.
    if part in ("kernel", "depthwise") and name == "quantized_bits" and isinstance(alpha, Real):
        return bool(np.frexp(float(alpha))[0] == 0.5)  # a power of two
    return bool(part == "depthwise" and isinstance(alpha, str) and alpha == "auto_po2")


# By quantizer: keys of `problems.yaml`, and which quantizers have the problem.
_ACTIVATIONS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "quantized_bits": {
        "bits scaled": lambda q: not (q.alpha is None or _is_one(q.alpha)),
        "bits unsigned": lambda q: not q.keep_negative,
        "bits symmetric": lambda q: q.keep_negative and q.symmetric,
        "bits of a sign": lambda q: q.keep_negative and q.bits == 1,
    },
    "quantized_relu": {
        "relu with slope": lambda q: q.negative_slope,
        "relu of sigmoid": lambda q: q.use_sigmoid,
        "relu with bound": lambda q: q.relu_upper_bound is not None and not q.is_quantized_clip,
    },
    "quantized_tanh": {
        "tanh real": lambda q: q.use_real_tanh,
        "tanh of one bit": lambda q: not q.use_real_tanh and q.bits == 1,
    },
    "quantized_sigmoid": {
        "sigmoid real": lambda q: q.use_real_sigmoid,
        "sigmoid symmetric": lambda q: not q.use_real_sigmoid and q.symmetric,
    },
}
# hls4ml lets QKeras itself quantize the weights and then finds the type that holds them.
_WEIGHTS = {  # and whether they have a scale
    **{f"quantized_{name}": name == "bits" for name in ("bits", "relu", "sigmoid", "tanh")},
    **{"stochastic_ternary": True, "ternary": True},
}
_UNKNOWN = {
    "binary": "hls4ml computes it wrongly behind a Flatten with io_stream",
    "ternary": "hls4ml does not compile it with io_stream, and shifts its threshold",
    "linear": "it is not a quantizer",
}


def _class(quantizer: Any) -> str:
    return str(getattr(quantizer, "__name__", None) or type(quantizer).__name__)


def _is_one(alpha: Any) -> bool:
    return isinstance(alpha, Real) and not isinstance(alpha, bool) and float(alpha) == 1


def _shown(alpha: Any) -> str:
    return repr(alpha) if alpha is None or isinstance(alpha, (str, int, float)) else "<array>"
