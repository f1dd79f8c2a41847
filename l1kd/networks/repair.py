"""Makes other people's trained networks exact where that is possible, ready for the lint.

Kinds of repair: `exact` (the same value for every event on the data's grid), `settled` (the value
that the quantizers define, where QKeras' float32 arithmetic missed it), `lossy` (another value, on
request only), `offered` (a lossy repair that was not asked for), `impossible` (no repair is known
that keeps the values; the lint says whether the layer can stay).

Once trained, only quantized weights matter: a quantizer that scales (alpha, powers of two), leaves
out a value (symmetric) or knows few (ternary) is as good as the plain type that holds them all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import qkeras
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras

from l1kd.core.config import Grid
from l1kd.core.errors import CheckFailed, UserError, first_fault
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import quantizer
from l1kd.networks.lint import check as lint
from l1kd.networks.lint.check import PARTS
from l1kd.networks.load import FOLDED, Graph, Node, Repair, fold
from l1kd.networks.quantizers import (
    MOST_BITS,
    Quantizer,
    on_a_grid,
    plain_grid,
    reading,
    settled,
    text_of,
    type_of,
)
from l1kd.networks.to_exact import doubts, read

logger = logging.getLogger("l1kd")

_IDLE = {  # layers that do nothing in inference
    *("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
    *("SpatialDropout1D", "SpatialDropout2D"),
}
_EVENTS = 256  # of the sample on which exact repairs are checked
# Weights with a quantizer by the class of their layer, in the order in which they are stored.
SLOTS = {**PARTS, "QConv2DTranspose": ("kernel", "bias")}
# Bits of weights that are rounded to a new grid: what it costs in quality is little.
KERNEL_BITS, BIAS_BITS = 16, 18
_MOST = 18  # bits of a type whose values are all tried
_INSIDE = tuple(kind for kind in SLOTS if "Separable" not in kind)  # with an activation inside
_WORDS = ("quantized_bits", "quantized_relu")  # the words that reload and convert


@dataclass(frozen=True)
class Repaired:
    """A network and what was done to it."""

    model: keras.Model
    repairs: list[Repair]

    @property
    def exact(self) -> bool:
        """True if it gives the values of the network it was made of, event by event."""
        return not any(each.kind in ("settled", "lossy") for each in self.repairs)


def repair(
    model: keras.Model, *, grid: FixedPoint | Mapping[str, Any], lossy: bool = False
) -> keras.Model:
    """Make a trained network exact where that is possible; the given model stays as it is.

    Every repair is logged on the logger `l1kd` at level INFO, with its layer and its kind. Exact
    repairs are checked on a sample of events on the grid: no score may change.

    Parameters
    ----------
    model
        Any network of Keras and QKeras layers that `l1kd.load_model` would read.
    grid
        The fixed-point grid of the events, as in the configuration: `{word, integer, signed}`, or
        a `FixedPoint`. A network without a quantizer at its input gets one of this type.
    lossy
        Also make repairs that change the network's values: fold a batch normalization that is a
        layer, round weights that are on no grid.

    Returns
    -------
    keras.Model
        The repaired network, for `l1kd.check` to judge.

    Raises
    ------
    UserError
        If the grid is not a fixed-point type, or the model holds layers that are not on the list.
    RuntimeError
        If a repair that is claimed exact changed a score: a fault of l1kd.
    """
    if not isinstance(grid, FixedPoint):
        try:
            grid = Grid.model_validate(dict(grid)).type
        except (TypeError, ValueError) as error:
            raise UserError(
                f"grid {grid!r}: {first_fault(error)}; "
                "give {'word': ..., 'integer': ..., 'signed': ...} or a FixedPoint"
            ) from error
    repaired = apply_repairs(model, grid=grid)
    _check_scores(model, repaired, grid)
    if lossy:
        repaired = apply_repairs(model, grid=grid, lossy=True)
    for each in repaired.repairs:
        logger.info("%s: %s (%s)", each.layer, each.what, each.kind)
    return repaired.model


def apply_repairs(
    model: keras.Model,
    *,
    grid: FixedPoint,
    shape: tuple[int, ...] | None = None,
    lossy: bool = False,
    name: str | None = None,
) -> Repaired:
    """Repair a copy of a network, for events on a `grid` and of a `shape`; unchecked."""
    graph = Graph.of(model)
    graph.name = re.sub(r"\W", "_", name or graph.name)
    steps = (  # each starts when the one before is done
        _simplified(graph),
        _store_weights(graph, lossy),
        _fold_layers(graph, lossy),
        _averages(graph),
        _rectified(graph),
        _plain(graph),
        shaped(graph, shape),
        ported(graph, grid),
        _repeated(graph),
        _flattened(graph),
        _symmetric(graph, grid),
        _renamed(graph),
        _typed(graph),
    )
    repairs = [each for step in steps for each in step]
    return Repaired(graph.build(), repairs)


def _simplified(graph: Graph) -> Iterator[Repair]:
    """Remove layers that do nothing in inference; fold those that bring a batch normalization."""
    for node in list(graph.nodes):
        linear = node.config.get("activation") in (None, "linear")
        if node.kind in _IDLE:
            graph.remove(node.name)
            yield Repair(node.name, f"{node.kind} removed: it does nothing in inference")
        elif node.kind in ("Activation", "QActivation") and linear:
            graph.remove(node.name)
            yield Repair(node.name, "linear activation removed")
        elif node.kind in FOLDED:
            yield fold(node)


def _check_scores(model: keras.Model, repaired: Repaired, grid: FixedPoint) -> None:
    """Compare a network before and after its exact repairs on random events and extreme ones."""
    if not repaired.repairs or not repaired.exact:
        return
    random, (low, high) = np.random.default_rng(0), grid.bounds
    events = []
    for tensor in model.inputs:
        counts = random.integers(low, high, (_EVENTS, *tensor.shape[1:]), endpoint=True)
        counts[: _EVENTS // 4] = np.where(counts[: _EVENTS // 4] * 2 < low + high, low, high)
        counts[0], counts[1], counts[2] = low, high, np.clip(0, low, high)
        events.append((counts * grid.lsb).astype(np.float32))
    given = events if len(events) > 1 else events[0]
    before, after = (
        np.concatenate([np.reshape(each, (_EVENTS, -1)) for each in tf.nest.flatten(scores)], 1)
        for scores in (model(given, training=False), repaired.model(given, training=False))
    )
    changed = int((before != after).any(axis=1).sum())
    try:
        # QKeras' float32 may be inexact, so that two forms of a network may differ.
        sure = not changed or not doubts(repaired.model)
    except CheckFailed:
        sure = True
    if changed and sure:
        raise RuntimeError(
            f"{model.name}: {changed} of {_EVENTS} scores changed, by repairs that are to change "
            "none; please report it with the model"
        )


def _store_weights(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Store every layer's quantized weights; round those that have no grid if `lossy`."""
    model = graph.build()
    for node in [each for each in graph.nodes if each.kind in SLOTS and each.weights]:
        layer, strayed = model.get_layer(node.name), 0
        renamed: list[str] = []
        for place, slot in enumerate(SLOTS[node.kind][: len(node.weights)]):
            quantizer = getattr(layer, f"{slot}_quantizer_internal", None)
            found = None if quantizer is None else settled(quantizer, node.weights[place])
            if found is None:
                yield _on_some_grid(node, place, slot, quantizer, lossy)
                continue
            strayed += int(found.strayed.sum())
            if found.text is not None:
                if reworded(quantizer, found.text):
                    renamed.append(f"{slot} {quantizer} -> {found.text}")
                node.config[f"{slot}_quantizer"] = found.text
            node.weights[place] = found.values.astype(np.float32)
        if renamed:
            what = f"weights keep their values on a plain grid: {'; '.join(renamed)}"
            yield Repair(node.name, what)
        pairs = zip(layer.get_weights(), node.weights, strict=True)
        if strayed:
            what = f"{strayed} weights, so far out of range that float32 left the grid, are on it"
            yield Repair(node.name, what, "settled")
        elif not renamed and any((np.asarray(old) != new).any() for old, new in pairs):
            yield Repair(node.name, "weights stored as the values that their quantizers give")


def _on_some_grid(node: Node, place: int, slot: str, quantizer: Any, lossy: bool) -> Repair:
    """Weights without a quantizer, or with one whose values are on no grid."""
    stored = np.asarray(node.weights[place], np.float32)
    given = stored if quantizer is None else np.asarray(quantizer(stored))
    why = "has no quantizer" if quantizer is None else f"is on no binary grid: {quantizer}"
    bits = BIAS_BITS if slot == "bias" else KERNEL_BITS
    held = on_a_grid(given)
    exact = held is not None and plain_grid(held).word <= bits
    if not exact and not lossy:
        return Repair(node.name, f"its {slot} {why}; it can be rounded to {bits} bits", "offered")
    kind = plain_grid(held) if held is not None and exact else requantized(given, bits)
    text = node.config[f"{slot}_quantizer"] = text_of(kind)
    node.weights[place] = kind.quantize(given).astype(np.float32)
    if exact:
        return Repair(node.name, f"its {slot} {why}; all its values are on that of {text}")
    return Repair(node.name, f"its {slot} {why}; rounded to {text}", "lossy")


def reworded(given: Any, text: str) -> bool:
    """True if a quantizer's text is more than another spelling of it."""
    ours, theirs = qkeras.get_quantizer(text), given.get_config()
    return type(given) is not type(ours) or any(
        theirs[key] != value
        for key, value in ours.get_config().items()
        if key in theirs and not (key == "alpha" and theirs[key] is None)
    )


def requantized(values: NDArray[Any], word: int) -> FixedPoint:
    """The plain type of `word` bits (or more) with the finest step that holds `values`, rounded."""
    high = float(np.abs(values).max(initial=0.0))
    integer = 1 if high == 0 else int(np.floor(np.log2(high))) + 2  # and the sign
    kind = FixedPoint(word, integer)
    if high > kind.high + kind.lsb / 2 or (kind.quantize(high) < high - kind.lsb / 2):
        kind = FixedPoint(word, integer + 1)
    return plain_grid(kind)


def _fold_layers(graph: Graph, lossy: bool) -> Iterator[Repair]:
    """Fold batch normalizations that are layers into the layer before, and round its weights."""
    found = [node for node in graph.nodes if node.kind.endswith("BatchNormalization")]
    model: Any = graph.build() if found else None
    for node in found:
        (source,) = node.sources
        layer = model.get_layer(node.name)
        obstacle = _obstacle(graph, graph.node(source))
        if list(layer.axis) != [len(layer.input_shape) - 1]:
            obstacle = "of another axis than the channels"
        if obstacle:
            yield Repair(node.name, f"a batch normalisation {obstacle}", "impossible")
        elif lossy:
            yield _fold(graph, node, layer)
        else:
            text = f"can be folded into {source!r}, whose weights are rounded"
            yield Repair(node.name, text, "offered")


def _obstacle(graph: Graph, before: Node) -> str:
    name = before.name
    if before.kind not in SLOTS or "Separable" in before.kind or "Transpose" in before.kind:
        return f"behind {name!r}, which is not a quantized dense layer or convolution"
    if before.config.get("activation") not in (None, "linear"):
        return f"behind the activation inside of {name!r}"
    if len(graph.readers(name)) > 1:
        return f"behind {name!r}, which others read too"
    quantized = before.config.get(f"{SLOTS[before.kind][0]}_quantizer")
    return "" if quantized else f"behind {name!r}, which has no quantized weights"


def _fold(graph: Graph, node: Node, layer: keras.layers.Layer) -> Repair:
    names = ["gamma"] * bool(layer.scale) + ["beta"] * bool(layer.center) + ["mean", "variance"]
    held: dict[str, Any] = {"gamma": 1.0, "beta": 0.0}
    for name, array in zip(names, layer.get_weights(), strict=True):
        quantizer = getattr(layer, f"{name}_quantizer_internal", None)
        held[name] = np.asarray(array if quantizer is None else quantizer(array), np.float64)
    scale = held["gamma"] / np.sqrt(held["variance"] + float(node.config.get("epsilon", 1e-3)))
    shift = held["beta"] - held["mean"] * scale

    before = graph.node(node.sources[0])
    first = SLOTS[before.kind][0]
    kernel, *rest = (np.asarray(array, np.float64) for array in before.weights)
    bias = rest[0] if rest else 0.0
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if first == "depthwise" else scale)
    texts = []
    before.weights = []
    for values, bits in ((kernel, KERNEL_BITS), (bias * scale + shift, BIAS_BITS)):
        kind = requantized(values, bits)
        before.weights.append(kind.quantize(values).astype(np.float32))
        texts.append(text_of(kind))
    before.config |= dict(zip((f"{first}_quantizer", "bias_quantizer"), texts, strict=True))
    before.config["use_bias"] = True
    graph.remove(node.name)
    what = f"folded into {before.name!r}, whose weights are rounded to {' and '.join(texts)}"
    return Repair(node.name, what, "lossy")


def _given(graph: Graph, node: Node) -> Any:
    """The quantizer of a layer's activation."""
    return quantizer(node.config["activation"], f"{graph.where}: activation of layer {node.name!r}")


def _averages(graph: Graph) -> Iterator[Repair]:
    """QKeras' own average pooling as Keras', where its quantized 1 / area is 1 / area."""
    found = [n for n in graph.nodes if n.kind in ("QAveragePooling2D", "QGlobalAveragePooling2D")]
    model: Any = graph.build() if found else None
    for node in found:
        layer = model.get_layer(node.name)
        sides = layer.input_shape[1:3] if "Global" in node.kind else layer.pool_size
        factor = 1.0 / float(np.prod(sides))
        average = layer.average_quantizer_internal
        given = factor if average is None else float(np.asarray(average(np.float32(factor))))
        if given != factor or np.log2(factor) % 1:
            reason = f"averages with {given:g} for 1/{1 / factor:g}"
            yield Repair(node.name, reason, "impossible")
            continue
        activation = node.config.pop("activation", None)
        node.config.pop("average_quantizer", None)
        node.kind = node.kind.removeprefix("Q")
        yield Repair(node.name, f"{node.kind}: its 1/{1 / factor:g} is exact")
        if activation not in (None, "linear"):
            config = {"activation": activation}
            graph.insert_after(node.name, "QActivation", f"{node.name}_q", config)


def _rectified(graph: Graph) -> Iterator[Repair]:
    """A plain ReLU before a quantizer and that quantizer as one quantized ReLU."""
    for node in list(graph.nodes):
        if node.kind == "Activation" or node.kind in _INSIDE:
            relu = node.config.get("activation") == "relu"
        else:
            bent = any(node.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
            relu = node.kind == "ReLU" and not bent
        readers = graph.readers(node.name)
        if not relu or len(readers) != 1 or node.name in graph.outputs:
            continue
        (after,) = readers
        kind = type_of(_given(graph, after)) if after.kind == "QActivation" else None
        # A single bit beside the sign is all fraction or all integer: not worth the care.
        if kind is None or kind.word < 3:
            continue
        if kind.signed:
            kind = FixedPoint(kind.word - 1, kind.integer - 1, False)
        after.config["activation"] = text_of(kind)
        if node.kind in _INSIDE:
            node.config["activation"] = "linear"
        else:
            graph.remove(node.name)
        yield Repair(node.name, f"its ReLU is in {after.name!r}: {text_of(kind)}")


def _repeated(graph: Graph) -> Iterator[Repair]:
    """Remove a quantizer right behind another one all of whose values it keeps."""
    for node in list(graph.nodes):
        before = graph.node(node.sources[0]) if node.sources else node
        if {node.kind, before.kind} != {"QActivation"}:
            continue
        first, second = reading(_given(graph, before)), type_of(_given(graph, node))
        if first is None or second is None or second.fraction < first.type.fraction:
            continue
        ends = first.type.integers([first.type.low, first.type.high]).astype(object)
        kept = second.requantize(ends, first.type.fraction)
        if all(second.lsb * kept == first.type.lsb * ends):
            graph.remove(node.name)
            yield Repair(node.name, f"removed: every value of {before.name!r} passes it as it is")


_SINGLE = ("QActivation", "Activation", "ReLU", "LeakyReLU")  # functions of single values


def _flattened(graph: Graph) -> Iterator[Repair]:
    """Let nothing read a flat stream that cannot: activations go before the Flatten."""
    while any(node.kind in ("Flatten", "Reshape") for node in graph.nodes):
        model = graph.build()
        seen = lint.Graph.of(model)
        found = next((each for each in seen.layers if lint.misread(seen, each)), None)
        if found is None:
            return
        node, readers = graph.node(found.name), graph.readers(found.name)
        if node.kind in _SINGLE:  # the type of what is before the Flatten
            node, readers = graph.node(node.sources[0]), [node]
        if len(readers) == 1 and readers[0].kind in _SINGLE:
            (moved,) = readers
            graph.swap(node, moved)
            yield Repair(moved.name, f"moved before {node.name!r}, which streams read")
            continue
        (source,) = node.sources
        size = int(np.prod(found.output_shape[1:]))
        name = f"{node.name}_row"
        row = Node("Reshape", name, {"name": name, "target_shape": [1, size]}, [source])
        graph.nodes.insert(graph.nodes.index(node), row)
        node.sources = [row.name]
        yield Repair(node.name, f"its values are one row before it, {row.name!r}, in a stream too")


def _activations(graph: Graph) -> Iterator[tuple[Node, Any, Quantizer | None]]:
    """Layers with a quantizer for an activation: it as stored, and as it is read."""
    for node in graph.nodes:
        stored = node.config.get("activation")
        if node.kind in ("QActivation", *_INSIDE) and stored not in (None, "linear"):
            given = _given(graph, node)
            yield node, given, reading(given)


def _plain(graph: Graph) -> Iterator[Repair]:
    """Activations in the words of `_WORDS`."""
    for node, given, kind in _activations(graph):
        stored = node.config["activation"]
        if isinstance(stored, str) and stored.partition("(")[0] not in _WORDS:
            continue
        if kind is None or kind.halved or kind.type.overflow == "SAT_SYM":
            if isinstance(stored, dict) and node.kind == "QActivation":
                node.config["activation"] = quantizer(stored, node.name, as_text=True)
            if kind is None:
                reason = f"{given}: scales, slopes and the like stay"
                yield Repair(node.name, reason, "impossible")
        elif type(given).__name__ in _WORDS:
            text = text_of(kind.type)
            if not _same(given, text, kind.type):
                yield Repair(node.name, f"{given} is not {text} for all values", "impossible")
                continue
            node.config["activation"] = text
            if reworded(given, text):
                yield Repair(node.name, f"{given} is {text}")


def _same(given: Any, text: str, kind: FixedPoint) -> bool:
    """True if a quantizer equals that of a text."""
    if kind.word > _MOST:
        # Too many values to try: only another spelling of the same class is believed.
        return not reworded(given, text)
    low, high = kind.bounds
    points = np.arange(4 * min(low, -high) - 16, 4 * high + 17, dtype=np.float64) * (kind.lsb / 4)
    values = points.astype(np.float32)
    ours = qkeras.get_quantizer(text)
    return bool((np.asarray(given(values)) == np.asarray(ours(values))).all())


def _symmetric(graph: Graph, grid: FixedPoint) -> Iterator[Repair]:
    """Symmetric activations as plain ones, where the value that they lack is out of reach."""
    found: list[tuple[Node, Any, FixedPoint]] = []
    for node, given, kind in list(_activations(graph)):
        if kind is None or kind.halved or kind.type.overflow != "SAT_SYM":
            continue
        found.append((node, node.config["activation"], kind.type))
        tanh = type(given).__name__ == "quantized_tanh"
        text = f"quantized_tanh({kind.type.word})" if tanh else ""
        node.config["activation"] = text or text_of(replace(kind.type, overflow="SAT"))
    if not found:
        return
    # As long as none meets its lowest value with all of them replaced, the networks cannot differ.
    reachable = _reachable(graph, {node.name: kind for node, _, kind in found}, grid)
    for node, stored, _ in found:
        if node.name in reachable:
            node.config["activation"] = stored
            yield Repair(node.name, f"symmetric: {reachable[node.name]}", "impossible")
        else:
            text = node.config["activation"]
            yield Repair(node.name, f"symmetric no more: its lowest value is out of reach; {text}")


def _renamed(graph: Graph) -> Iterator[Repair]:
    """Names that cannot stand in hls4ml's C++, in letters, digits and _."""
    for node in list(graph.nodes):
        old, new = node.name, re.sub(r"\W", "_", node.name, flags=re.ASCII)
        new = new if new.isidentifier() else f"layer_{new}"
        if new != old:
            new = graph.unique(new)
            graph.rename({old: new})
            yield Repair(old, f"renamed to {new!r}: hls4ml's C++ cannot have its name")


def _typed(graph: Graph) -> Iterator[Repair]:
    """The exact type of the sums that a network ends in, as a quantizer behind them."""
    ends = [graph.node(name) for name in graph.outputs]
    while ends[0].kind in ("Flatten", "Permute", "Reshape"):
        ends[0] = graph.node(ends[0].sources[0])
    if len(ends) > 1 or ends[0].config.get("activation") not in (None, "linear", "relu"):
        return
    try:
        (kind,) = read(graph.build()).output_types
    except CheckFailed:  # the lint says why
        return
    integer, fraction = max(kind.integer, int(kind.signed)), max(kind.fraction, 1)
    kind = FixedPoint(max(integer + fraction, 2), integer, kind.signed)
    if kind.word <= MOST_BITS:
        text = text_of(kind)
        node = graph.insert_after(ends[0].name, "QActivation", "score_type", {"activation": text})
        yield Repair(node.name, f"{text} appended: the exact type of what {ends[0].name!r} gives")


def _reachable(graph: Graph, types: dict[str, FixedPoint], grid: FixedPoint) -> dict[str, str]:
    """Reasons by layer, of layers that may meet the lowest value of their type."""
    try:
        network = read(graph.build())
    except CheckFailed:
        return dict.fromkeys(types, "what reaches it is not known")
    reachable = {}
    for name, kind in types.items():
        (source,), lowest = network[name].sources, replace(kind, overflow="SAT")
        if source in graph.inputs:
            if lowest.quantize(grid.low) <= kind.low:
                reachable[name] = "events may have its lowest value"
            continue
        bound = network.bounds[source]
        ends = (each.requantize(bound.low, bound.fraction) for each in (kind, lowest))
        if np.not_equal(*ends).any():
            reachable[name] = "it may meet its lowest value"
    return reachable


def contains(outer: FixedPoint, inner: FixedPoint) -> bool:
    """True if every value of `inner` is a value of `outer`."""
    return outer.lsb <= inner.lsb and outer.low <= inner.low and inner.high <= outer.high


def shaped(graph: Graph, shape: tuple[int, ...] | None) -> Iterator[Repair]:
    """Let a network that reads flat events read images, and the other way round."""
    added = ""
    first = graph.node(graph.inputs[0])
    own = tuple(int(side) for side in first.config["batch_input_shape"][1:])
    if shape is not None and len(graph.inputs) == 1 and own != shape:
        flat = len(own) == 1 or len(shape) == 1
        same_order = flat or [s for s in own if s > 1] == [s for s in shape if s > 1]
        if np.prod(own, dtype=int) != np.prod(shape, dtype=int) or not same_order:
            raise UserError(
                f"{graph.where} reads events of the shape {own}, the data's are {shape}; "
                "give the data that shape, or the right model"
            )
        first.config["batch_input_shape"] = [None, *shape]
        config: dict[str, Any] = {} if len(own) == 1 else {"target_shape": list(own)}
        kind = "Reshape" if config else "Flatten"
        added = graph.insert_after(first.name, kind, "events_as_" + kind.lower(), config).name
        yield Repair(first.name, f"events of shape {shape} are read as {own}")
    yield from (each for each in _without_detours(graph) if each.layer != added)


def _without_detours(graph: Graph) -> Iterator[Repair]:
    """Remove a reshape that is reshaped again, or to the shape it has."""
    for node in list(graph.nodes):
        if node.kind not in ("Flatten", "Reshape"):
            continue
        before = graph.node(node.sources[0])
        if before.kind in ("Flatten", "Reshape") and len(graph.readers(before.name)) == 1:
            graph.remove(before.name)
            yield Repair(before.name, f"{before.kind} removed: {node.name!r} gives its own shape")
            before = graph.node(node.sources[0])
        if before.kind == "InputLayer" and node.name not in graph.outputs:
            events = [int(side) for side in before.config["batch_input_shape"][1:]]
            target = node.config.get("target_shape")
            flat = node.kind == "Flatten" and len(events) == 1
            if flat or (target is not None and list(target) == events):
                graph.remove(node.name)
                yield Repair(node.name, f"{node.kind} removed: events have that shape")


def ported(graph: Graph, grid: FixedPoint) -> Iterator[Repair]:
    """Quantize events right at the input, and nowhere else on the way to the first layer."""
    if len(graph.inputs) != 1:
        return
    start = name = graph.inputs[0]
    while len(readers := graph.readers(name)) == 1:
        if readers[0].kind not in ("Flatten", "Permute", "Reshape"):
            break
        name = readers[0].name
    own: FixedPoint | None = None
    if len(readers) == 1 and readers[0].kind == "QActivation":
        own = type_of(_given(graph, readers[0]))
    if own is not None and own.signed:
        if name != start:
            inner = readers[0].name
            graph.remove(inner)
            graph.insert_after(start, "QActivation", inner, {"activation": text_of(own)})
            yield Repair(inner, "moved before the reshape, to the port")
        return
    if own is not None and contains(own, grid):
        graph.remove(readers[0].name)
        yield Repair(readers[0].name, f"removed: events on {grid.text} pass it as they are")
    text = text_of(plain_grid(grid))
    node = graph.insert_after(start, "QActivation", "port", {"activation": text})
    yield Repair(node.name, f"{text} inserted at the input: events are on that grid already")
