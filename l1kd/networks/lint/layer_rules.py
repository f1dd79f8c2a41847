"""Lint rules for layers: those of each kind, of sums that are too wide, of pooling, of io_stream.

A new layer kind registers its rule with `@rule("ItsClass")`; a kind without one is refused.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.networks.lint import quantizer_rules as quantizers
from l1kd.networks.lint.keras_graph import PARTS, Graph, Problem, kind, own_activation, sides
from l1kd.networks.lint.quantizer_rules import Finding, finding
from l1kd.networks.quantizers import reading

_WIDEST = 53  # bits that a float64 holds
Rule = Callable[[Graph, Any], Iterator[Finding]]
RULES: dict[str, Rule] = {}  # by the name of a layer's class


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a rule for layers of some kinds."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


@dataclass(frozen=True)
class _Reach:
    """Values are at most `most` in size, in steps of 2^-`fraction`."""

    most: float
    fraction: int

    @property
    def bits(self) -> int:
        return math.ceil(math.log2(self.most)) + self.fraction + 1 if self.most else 1


def too_wide(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Sums of a dense layer or a convolution that need more bits than hls4ml can bound.

    Its bounds are intervals in float64. Past 53 bits such a bound is rounded, and a sum that is
    exactly a power of two has one bit too few: it wraps around.
    """
    if kind(layer) not in PARTS:
        return
    reach = _reach(graph, graph.parents(layer)[0])
    found = None if reach is None else _sum(layer, reach)
    if found is not None and found.bits > _WIDEST:
        yield finding("too wide", bits=found.bits, widest=_WIDEST)


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
    if kind(layer) in PARTS:
        return _sum(layer, known[0])
    most, fraction = [each.most for each in known], max(each.fraction for each in known)
    if kind(layer) == "Multiply":
        return _Reach(math.prod(most), sum(each.fraction for each in known))
    return _Reach(sum(most) if kind(layer) in ("Add", "Subtract") else max(most), fraction)


def _sum(layer: Any, before: _Reach) -> _Reach | None:
    """The sums of a layer with weights; None if QKeras cannot quantize them."""
    reach = before
    for part, stored in zip(PARTS[kind(layer)], layer.get_weights(), strict=False):
        quantizer = getattr(layer, f"{part}_quantizer_internal", None)
        if float(getattr(quantizer, "integer", 0)) < 0:
            return None
        stored = np.asarray(stored, np.float32)
        values = np.asarray(stored if quantizer is None else quantizer(stored), np.float64)
        if part == "bias":
            size = float(np.abs(values).max(initial=0))
            reach = _Reach(reach.most + size, max(reach.fraction, fraction_bits(values)))
            continue
        kept = values.ndim - (2 if part == "depthwise" else 1)
        axes = tuple(range(kept))
        largest = float(np.abs(values).sum(axis=axes).max(initial=0))
        reach = _Reach(reach.most * largest, reach.fraction + fraction_bits(values))
    return reach


def fraction_bits(values: NDArray[np.float64]) -> int:
    """Fraction bits of the finest of some values."""
    present = np.abs(values[(values != 0) & np.isfinite(values)])
    if not present.size:
        return 0
    mantissas, exponents = np.frexp(present)
    counts = np.ldexp(mantissas, 53).astype(np.int64)
    spare = np.log2((counts & -counts).astype(np.float64)).astype(int)
    return int((53 - exponents - spare).max())


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


@rule("Flatten")
def _channels(graph: Graph, layer: Any) -> Iterator[Finding]:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        yield finding("channels first")


def cells_seen(layer: Any) -> set[int]:
    """Numbers of cells that windows of a pooling layer see: several where some are cut."""
    return {int(rows * columns) for rows, columns in itertools.product(*_window_counts(layer))}


def _window_counts(layer: Any) -> list[set[int]]:
    """Numbers of cells in a window, for rows and for columns."""
    cells = [int(side) for side in layer.input_shape[1:-1]]
    if not hasattr(layer, "pool_size"):
        return [set(cells[:1]), set(cells[1:]) or {1}]
    sizes, steps = sides(layer.pool_size), sides(layer.strides)
    seen = []
    for side, size, step in zip(cells, sizes, steps, strict=True):
        first = -(pads(side, size, step)[0] if layer.padding == "same" else 0)
        last = side if layer.padding == "same" else side - size + 1
        starts = range(first, last, step)
        seen.append({min(start + size, side) - max(start, 0) for start in starts})
    return seen if len(seen) == 2 else [seen[0], {1}]


def pads(side: int, size: int, step: int) -> tuple[int, int]:
    """Cells that `same` adds before and behind: TensorFlow puts the odd one behind."""
    missing = max((-(-side // step) - 1) * step + size - side, 0)
    return missing // 2, missing - missing // 2


def _signed(graph: Graph, layer: Any) -> bool:
    """True if hls4ml gives a layer's output a sign."""
    name = kind(layer)
    if name in ("InputLayer", "Subtract"):
        return True
    quantizer = layer.quantizer if name == "QActivation" else own_activation(layer)
    if quantizer is not None:
        return type(quantizer).__name__ not in ("quantized_relu", "quantized_sigmoid")
    if name in PARTS and any((np.asarray(values) < 0).any() for values in layer.get_weights()):
        return True
    return any(_signed(graph, parent) for parent in graph.parents(layer))


_COPIES = 7  # of a stream
_CONV_2D = ("QConv2D", "QDepthwiseConv2D", "QSeparableConv2D")


def stream_problems(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Problems of io_stream alone."""
    if (readers := len(graph.readers[layer.name])) > _COPIES:
        yield finding("stream read often", readers=readers, copies=_COPIES)
    shapes = {tuple(each.output_shape) for each in graph.parents(layer)}
    if len(shapes) > 1 and kind(layer) != "Concatenate":
        yield finding("stream of shapes", kind=kind(layer))
    if kind(layer) in ("QConv1D", "QSeparableConv1D") and layer.padding != "valid":
        source = graph.source(layer)
        if _padded(layer) and source is not None and len(graph.reached(source)) > 1:
            yield finding("stream padded", layer=layer)
    if kind(layer) in _CONV_2D:
        size, strides = sides(layer.kernel_size), sides(layer.strides)
        if size[0] == 1 < size[1] and strides[0] > 1:
            yield finding("stream skips rows", size=size, strides=strides)
    if hasattr(layer, "pool_size"):
        size, step = sides(layer.pool_size), sides(layer.strides)
        if len(size) == 2 and size != step:
            yield finding("stream pool overlaps", size=size, step=step)
        cells = [int(side) for side in layer.input_shape[1:-1]]
        axes = zip(cells, size, step, strict=True)
        if layer.padding == "same" and any(any(pads(*each)) for each in axes):
            yield finding("stream pool padded")


def _padded(layer: Any) -> bool:
    side, size, step = int(layer.input_shape[1]), layer.kernel_size[0], layer.strides[0]
    return size > 1 if layer.padding == "causal" else any(pads(side, size, step))


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
    "Softmax": ("hls4ml looks it up in tables that are not exact", "end the network before it"),
    "Functional": _NESTED,
    "Sequential": _NESTED,
}
_ANY = ("hls4ml has no exact form of it", "leave it out of the network for the firmware")


def problems(graph: Graph, layer: Any, *, stream: bool) -> Iterator[Problem]:
    """Problems of a layer; with `stream`, also those of io_stream alone."""
    name, calls = kind(layer), len(graph.calls[layer.name])
    found = [finding("shared", calls=calls)] if calls > 1 else []
    found += (
        RULES[name](graph, layer) if name in RULES else [Finding(name, *_REFUSED.get(name, _ANY))]
    )
    found += _name(graph, layer)
    if not found:
        found += too_wide(graph, layer)
    if stream:
        found += stream_problems(graph, layer)
    return (Problem(layer.name, *each) for each in found)


@rule("InputLayer")
def _input(graph: Graph, layer: Any) -> Iterator[Finding]:
    readers = graph.reached(layer)
    if len(readers) == 1 and graph.is_port(readers[0]):
        return
    found = "no quantizer behind the input" if len(readers) < 2 else f"{len(readers)} readers"
    yield finding("port not alone", found=found)


@rule("QActivation")
def _activation(graph: Graph, layer: Any) -> Iterator[Finding]:
    port = graph.is_port(layer)
    yield from quantizers.activation(layer.quantizer, port=port)
    if port:
        yield from _reshaped_port(graph, layer)
    elif type(layer.quantizer).__name__ == "quantized_bits":
        yield from _fused(graph, layer)


def _fused(graph: Graph, layer: Any) -> Iterator[Finding]:
    """hls4ml makes a `quantized_bits` the type of the layer before, if no other reads that one."""
    before = graph.before(layer)
    if before is None or len(graph.after(before)) > 1:
        return
    while kind(before) in ("Flatten", "Reshape", "Permute"):
        further = graph.before(before)
        if further is None:
            return
        if len(graph.after(further)) > 1:
            if kind(before) != "Permute":
                yield finding("type lost in reshape", kind=kind(before), before=before.name)
            return
        before = further
    if _quantizes(before):
        yield finding("type lost", before=before.name, layer=layer)


def _reshaped_port(graph: Graph, layer: Any) -> Iterator[Finding]:
    """A port without fraction bits is an integer in hls4ml, which it cannot hand on."""
    quantizer, reshaped = layer.quantizer, kind(graph.parents(layer)[0])
    if type(quantizer).__name__ != "quantized_bits" or reshaped in ("InputLayer", "Dropout"):
        return
    if quantizer.bits - quantizer.integer == 1:
        yield finding("port reshaped", q=quantizer)


def _quantizes(layer: Any) -> bool:
    """True if a layer's output is that of a quantizer."""
    own = own_activation(layer)
    return kind(layer) == "QActivation" or getattr(own, "__name__", own) not in (None, "relu")


@rule("QDense")
def _dense(graph: Graph, layer: Any) -> Iterator[Finding]:
    rank = len(layer.input_shape) - 1
    if rank > 1:
        same = f"QConv{rank - 1}D with kernel_size=1" if rank < 4 else "a Flatten before it"
        yield finding("dense of axes", rank=rank, same=same)
    yield from _weighted(graph, layer)


def _weighted(graph: Graph, layer: Any) -> Iterator[Finding]:
    for part, values in zip(PARTS[kind(layer)], layer.get_weights(), strict=False):
        quantizer = getattr(layer, f"{part}_quantizer_internal", None)
        yield from quantizers.weights(quantizer, np.asarray(values), part=part)
    scale = getattr(getattr(layer, "kernel_quantizer_internal", None), "alpha", 1)
    bias = getattr(layer, "bias_quantizer_internal", None)
    if scale != 1 and type(bias).__name__ == "quantized_sigmoid":
        yield finding("bias quantized twice")
    activation = own_activation(layer)
    # Plain functions of Keras; that of a name is exact, as a separate layer is.
    if activation is not None and getattr(activation, "__name__", "") != "relu":
        yield from quantizers.activation(activation)


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
        yield from _causal(layer)
    yield from _weighted(graph, layer)


def _causal(layer: Any) -> Iterator[Finding]:
    side, size, step = int(layer.input_shape[1]), layer.kernel_size[0], layer.strides[0]
    theirs = max(size - (side % step or step), 0)
    if theirs != size - 1:
        yield finding("causal", step=step, theirs=theirs, ours=size - 1)


@rule("Activation")
def _float_activation(graph: Graph, layer: Any) -> Iterator[Finding]:
    name = str(getattr(layer.activation, "__name__", layer.activation))
    if name not in ("relu", "linear"):
        yield finding("float activation", name=name)


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


def _name(graph: Graph, layer: Any) -> Iterator[Finding]:
    """Names become types and variables of the C++."""
    name = layer.name
    if not _IDENTIFIER.match(name) or (kind(layer) == "InputLayer" and name in _RESERVED):
        yield finding("name not in C++")
    elif name == "input":
        yield finding("name kept")
    owner = next((each for each in graph.layers if name == f"{each.name}_linear"), None)
    if owner is not None and kind(owner) in PARTS and own_activation(owner) is None:
        yield finding("name taken", owner=owner.name)


@rule("Dropout", "Permute")
def _nothing(graph: Graph, layer: Any) -> Iterator[Finding]:
    yield from ()


_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_RESERVED = frozenset(
    ("bool", "char", "class", "const", "double", "float", "int", "long", "new", "short", "void")
)
