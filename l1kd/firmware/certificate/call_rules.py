"""Rules for calls of hls4ml's functions: which layer of the exact network a call computes.

A rule finds the layer that a call has to be, demands the layer's conditions, and notes the meaning
of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from l1kd.exact.layers import (
    Conv,
    Dense,
    Input,
    Merge,
    Node,
    Pad,
    Permute,
    Pool,
    Quantize,
    Rectify,
    Reshape,
)
from l1kd.firmware.certificate import layer_conditions
from l1kd.firmware.certificate.cpp_reader import Call, Config
from l1kd.firmware.certificate.findings import NO_PADS, SUMS, Meaning, Walk, settled, unsettled
from l1kd.firmware.certificate.layer_conditions import Doubt, geometry, image

# Names of hls4ml's constants for the two axes of an image.
_SIDES = (("height", "pad_top", "pad_bottom"), ("width", "pad_left", "pad_right"))
Handler = Callable[[Walk, Call, list[str], list[str]], None]  # arrays read, arrays written


def config_of(walk: Walk, call: Call) -> Config:
    found = next((name for name in call.template if name in walk.program.configs), None)
    if found is None:
        raise Doubt("code", f"{call.function} has no configuration")
    return walk.program.configs[found]


def behind(walk: Walk, call: Call, source: str, kinds: tuple[type, ...]) -> tuple[Any, str]:
    """The layer of some kind that reads what an array holds, and the layer that it reads."""
    meaning = walk.meanings[source]
    held = settled(walk.network, meaning)
    if not held:
        unsettled(walk, meaning)
        # Go on as if it were right, so that what is behind it is judged too.
        held = {meaning.node}
        for node in walk.network.nodes:
            if isinstance(node, (Quantize, Reshape)) and set(node.sources) & held:
                held.add(node.name)
    found = [
        node
        for node in walk.network.nodes
        if isinstance(node, kinds) and node.sources[0] in held and node.name not in walk.matched
    ]
    if not found:
        raise Doubt("code", f"no layer of the network is what {call.function} should be here")
    node = next((each for each in found if each.name.removesuffix(SUMS) == walk.label), found[0])
    walk.matched += [name for name in (*held, node.name) if name not in walk.matched]
    return node, node.sources[0]


def sized(walk: Walk, name: str, node: Node, pack: int | None) -> None:
    """Demand that an array has the size of a layer, a stream in packs of a size."""
    array = walk.program.arrays[name]
    if array.size not in (None, node.size) or (array.pack or pack) != pack:
        found, wanted = f"{array.size} values, by {array.pack}", f"{node.size}, by {pack}"
        raise Doubt("code", f"{name} has {found}, {node.name!r} has {wanted}")


@contextmanager
def computes(walk: Walk, result: str, node: Node) -> Iterator[None]:
    """Note that an array holds a layer; the block demands its conditions, and doubts name it."""
    walk.meanings[result] = Meaning(node.name).then(walk.program.arrays[result].type)
    try:
        sized(walk, result, node, node.shape[-1])
        yield
    except Doubt as doubt:
        doubt.layer = node.name
        raise


def dense(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    node, source = behind(walk, call, sources[0], (Dense,))
    with computes(walk, results[0], node):
        code = "" if call.space else call.function  # `dense_da_3<a_t, b_t>(a, b)`
        if not code:
            config = config_of(walk, call)
            code = config.templates.get("dense_da", "")
            sizes = {"n_in": node.kernel.shape[0], "n_out": node.kernel.shape[1]}
            geometry(walk, config, "" if code else "nnet::dense_config", sizes)
        if node.shape != (node.kernel.shape[1],):
            raise Doubt("code", "a dense layer on more than one axis", known=False)
        if code:
            _adders(walk, code, node, source)
        else:
            layer_conditions.kernel_known(config, walk.description.record.reuse)
            _matrix(walk, config, call, node, source)


def _adders(walk: Walk, code: str, node: Any, source: str) -> None:
    """Demand that generated code is the matrix of a layer that reads the layer `source`."""
    generated = walk.program.generated
    name = generated.wrappers.get(code, code)
    if name not in generated.adders:
        raise Doubt("code", f"{code} is not there")
    layer_conditions.adders_are(generated.adders[name], node, walk.network.bounds[source])


def _matrix(
    walk: Walk, config: Config, call: Call, node: Any, source: str, *, depthwise: bool = False
) -> None:
    """Weights, biases and accumulators of a call with tables."""
    program, bounds, name = walk.program, walk.network.bounds, config.types["accum_t"]
    if len(call.arguments) != 4:
        raise Doubt("code", f"{call.function} has {len(call.arguments)} arguments")
    layer_conditions.numbers(program, config, *call.arguments[2:], node, depthwise=depthwise)
    layer_conditions.sums(program.types[name][0], node, bounds[source], bounds[node.name], name)


def convolution(
    walk: Walk,
    call: Call,
    sources: list[str],
    results: list[str],
    *,
    rank: int,
    depthwise: bool = False,
) -> None:
    kinds = (Conv,) if depthwise else (Conv, Dense)
    node, source = behind(walk, call, sources[0], kinds)
    with computes(walk, results[0], node):
        _check_convolution(walk, call, sources[0], node, source, rank, depthwise)


def _check_convolution(
    walk: Walk, call: Call, array: str, node: Any, source: str, rank: int, depthwise: bool
) -> None:
    config, before = config_of(walk, call), walk.meanings[array].padding
    conv = layer_conditions.as_convolution(node)
    shape = walk.network[source].shape
    height, width, channels = image(shape)
    rows, columns, filters = image(conv.shape)
    sizes: dict[str, int | str] = {"n_chan": channels, "n_filt": filters}
    cells = ((height, rows), (width, columns))
    for axis, (side, first, last) in list(enumerate(_SIDES))[2 - rank :]:
        sizes |= {
            f"in_{side}": cells[axis][0] + sum(before[axis]),
            f"filt_{side}": conv.kernel.shape[axis],
            f"stride_{side}": conv.strides[axis],
            f"out_{side}": cells[axis][1],
            first: conv.padding[axis][0] - before[axis][0],
            last: conv.padding[axis][1] - before[axis][1],
            "dilation" if rank == 1 else f"dilation_{side}": 1,
        }
    if rank == 1 and (height, rows) != (1, 1):
        raise Doubt("code", f"{call.function} for an image")
    if depthwise and filters != channels:
        raise Doubt("code", "a depth multiplier above 1", known=False)
    if conv.dilation != (1, 1):
        raise Doubt("code", "a dilated convolution", known=False)
    stream = walk.program.arrays[array].pack is not None
    if stream and conv.kernel.shape[0] == 1 < conv.kernel.shape[1] and conv.strides[0] > 1:
        # Found by random networks: what is written of each row is not only every second row's.
        raise Doubt("code", f"{call.function} of a stream skips no rows for a kernel of height 1")
    adders = config.templates.get("dense_da")
    base = "" if adders and not stream else f"nnet::conv{rank}d_config"
    # Without a base it has no defaults: what it does not say, no code reads.
    said = {k: v for k, v in sizes.items() if k in config.constants or (base and "dil" not in k)}
    geometry(walk, config, base, said)
    _check_windows(walk, config, conv, shape, rank, stream=stream)
    if adders:
        _adders(walk, adders, conv, source)
        return
    mult = walk.program.configs.get(config.types.get("mult_config", ""))
    if mult is None:
        raise Doubt("code", f"{config.name} has no mult_config")
    for role in ("accum_t", "weight_t", "bias_t"):
        if mult.types.get(role) != config.types.get(role):
            raise Doubt("code", f"{config.name} and {mult.name} have two types for {role}")
    wanted = {"n_in": int(np.prod(conv.kernel.shape[:3])), "n_out": filters}
    geometry(walk, mult, "nnet::dense_config", wanted)
    if str(mult.templates.get("kernel", "")).startswith("dense_da_wrapper_"):
        _adders(walk, mult.templates["kernel"], conv, source)
        return
    layer_conditions.kernel_known(mult, walk.description.record.reuse, depthwise=depthwise)
    style = str(config.constants.get("strategy")).removeprefix("nnet::").capitalize()
    windows = f"nnet::Conv{rank}D{style}"
    if config.templates.get("conv_kernel", windows) != windows:
        raise Doubt("code", f"{config.name}: {config.templates['conv_kernel']} is not {windows}")
    if mult.constants.get("strategy") != config.constants.get("strategy"):
        raise Doubt("code", f"{config.name} and {mult.name} have two strategies")
    _matrix(walk, config, call, node if depthwise else conv, source, depthwise=depthwise)


def _check_windows(
    walk: Walk, config: Config, conv: Conv, shape: tuple[int, ...], rank: int, *, stream: bool
) -> None:
    """Demand the inputs that every window sees: a table for arrays, a line buffer for streams."""
    name, generated = config.templates.get("fill_buffer", ""), walk.program.generated
    count, pixels = (config.constants.get(each) for each in ("n_partitions", "n_pixels"))
    if stream:
        _line_buffer(config)
        if name != f"nnet::FillConv{rank}DBuffer" or pixels != 1:
            raise Doubt("code", f"{config.name}: {name or 'no fill_buffer'} for a stream")
        return
    parts = generated.buffers.get(name)
    wanted = layer_conditions.window_table(conv, shape)
    if parts is None or generated.ranks[name] != rank:
        raise Doubt("code", f"{config.name}: {name or 'no fill_buffer'}", known=False)
    if not np.array_equal(np.concatenate(parts), wanted):
        raise Doubt("code", f"{name} shows windows other inputs than the network sees")
    if count != len(parts) or {len(part) for part in parts} != {pixels}:
        reason = f"asks for {count} times {pixels} windows, {name} has other parts"
        raise Doubt("code", f"{config.name} {reason}")


def _activation(
    walk: Walk, call: Call, sources: list[str], results: list[str], *, step: Any = None
) -> None:
    meaning, config = walk.meanings[sources[0]], config_of(walk, call)
    node = walk.network[meaning.node]
    steps = [step] if step else []
    walk.meanings[results[0]] = meaning.then(*steps, walk.program.arrays[results[0]].type)
    base = "nnet::activ_config"
    wanted: dict[str, int | str] = {"n_in": node.size}
    if step in ("hard_tanh", "hard_sigmoid"):
        base, wanted = "", {**wanted, "slope": "0.5", "shift": "0.5"}
        for name in ("slope_t", "shift_t"):
            if not walk.program.types[config.types[name]][0].holds(0.5):
                raise Doubt("code", f"{config.name}::{name} does not hold 0.5")
    geometry(walk, config, base, wanted)
    sized(walk, results[0], node, walk.program.arrays[sources[0]].pack)


def _pool(
    walk: Walk,
    call: Call,
    sources: list[str],
    results: list[str],
    *,
    rank: int,
    whole: bool = False,
) -> None:
    node, source = behind(walk, call, sources[0], (Pool,))
    with computes(walk, results[0], node):
        config, bounds = config_of(walk, call), walk.network.bounds
        name = config.types.get("accum_t", "")
        if name not in walk.program.types:
            raise Doubt("code", f"{config.name} has no accum_t")
        _check_pool(walk, config, node, source, rank, whole)
        kind = walk.program.types[name][0]
        layer_conditions.pool_sums(kind, node, bounds[source], bounds[node.name], name)
        if walk.program.streams and not whole:
            _line_buffer(config)


def _line_buffer(config: Config) -> None:
    """Demand that windows of a stream are seen by hls4ml's line buffer."""
    implementation = config.constants.get("implementation")
    if implementation != "nnet::conv_implementation::linebuffer":
        raise Doubt("code", f"{config.name}: {implementation}", known=False)


def _check_pool(
    walk: Walk, config: Config, node: Pool, source: str, rank: int, whole: bool
) -> None:
    height, width, channels = image(walk.network[source].shape)
    operation = {"max": "nnet::Max", "average": "nnet::Average"}[node.operation]
    sizes: dict[str, int | str] = {"n_filt": channels, "n_chan": channels, "pool_op": operation}
    for axis, (side, cells) in list(enumerate((("height", height), ("width", width))))[2 - rank :]:
        sizes[f"in_{side}"] = cells
        sizes[f"pool_{side}"] = sizes[f"filt_{side}"] = node.window[axis]
        sizes[f"stride_{side}"] = node.strides[axis]
        if not whole:
            sizes[f"out_{side}"] = node.shape[:-1][-1 if side == "width" else 0]
    for (_, *names), padding in zip(_SIDES, node.padding, strict=True):
        sizes |= dict(zip(names, padding, strict=True))
    if rank == 1:
        sizes["n_in"] = sizes.pop("in_width")
        if not whole:
            sizes["n_out"] = sizes.pop("out_width")
    optional = ("filt_", "n_chan", *(("pool_", "stride_") if whole else ()))  # they repeat others
    for name in [name for name in sizes if name not in config.constants]:
        if name.startswith(optional):
            del sizes[name]
    geometry(walk, config, f"nnet::pooling{rank}d_config", sizes)
    if not whole and any(f"pool_{side}" not in config.constants for side, *_ in _SIDES[2 - rank :]):
        raise Doubt("code", f"{config.name} does not say its window")


def _merge(
    walk: Walk, call: Call, sources: list[str], results: list[str], *, operation: str
) -> None:
    held = [settled(walk.network, walk.meanings[name]) for name in sources]
    found = [
        node
        for node in walk.network.nodes
        if isinstance(node, Merge)
        and node.operation == operation
        and len(node.sources) == len(sources)
        and all(name in each for name, each in zip(node.sources, held, strict=True))
        and node.name not in walk.matched
    ]
    if not found:
        for name, each in zip(sources, held, strict=True):
            if not each:
                unsettled(walk, walk.meanings[name])
        raise Doubt("code", f"no layer of the network is this {operation}")
    node = next((each for each in found if each.name == walk.label), found[0])
    names = (*(name for each in held for name in each), node.name)
    walk.matched += [name for name in dict.fromkeys(names) if name not in walk.matched]
    with computes(walk, results[0], node):
        _check_merge(walk, config_of(walk, call), node)


def _check_merge(walk: Walk, config: Config, node: Merge) -> None:
    one, two = (walk.network[name] for name in node.sources)
    if node.operation != "concatenate":
        if one.size != node.size or two.size != node.size:
            raise Doubt("code", f"{node.operation} of different shapes", known=False)
        elements = {"n_elem": node.size, "n_elem1": one.size, "n_elem2": two.size}
        geometry(walk, config, "nnet::merge_config", elements)
        return
    wanted: dict[str, int | str] = {}
    for number, part in enumerate((one, two), 1):
        sides = (*part.shape, 0, 0)[:3]  # hls4ml writes three of them for any rank
        wanted |= {f"n_elem{number}_{axis}": side for axis, side in enumerate(sides)}
    axis = config.constants.get("axis")
    rank = len(node.shape)
    # hls4ml counts from the batch, or from behind.
    if axis not in (node.axis, node.axis - rank if node.axis >= 0 else node.axis + rank + 1):
        raise Doubt("code", f"{config.name}::axis is {axis}")
    if node.axis % rank != rank - 1:
        raise Doubt("code", "a concatenation along an inner axis", known=False)
    geometry(walk, config, "nnet::concat_config", {**wanted, "axis": axis})


def _clone(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    meaning = walk.meanings[sources[0]]
    for name in results:
        walk.meanings[name] = meaning.then(walk.program.arrays[name].type)
    if call.template[2:] != (str(walk.network[meaning.node].size),):
        raise Doubt("code", f"{call.function} of {call.template[2:]} values")


def _zero_padding(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    meaning, config = walk.meanings[sources[0]], config_of(walk, call)
    sides = []
    for _, *names in _SIDES:
        values = [config.constants.get(name, 0) for name in names]
        if not all(isinstance(value, int) for value in values):
            raise Doubt("code", f"{config.name} pads by {values}")
        sides.append((int(values[0]), int(values[1])))
    pads = (sides[0], sides[1])
    held = settled(walk.network, meaning)
    kind = walk.program.arrays[results[0]].type
    node = walk.network[meaning.node]
    height, width, channels = image(node.shape)
    walk.meanings[results[0]] = Meaning(meaning.node, (*meaning.steps, kind), pads)
    if meaning.padding != NO_PADS or not held:
        raise Doubt("code", f"{call.function} of an array that is not a layer")
    cells = (height + sum(pads[0])) * (width + sum(pads[1])) * channels
    if walk.program.arrays[results[0]].size != cells:
        raise Doubt("code", f"{results[0]} does not have {cells} values")
    sizes: dict[str, int | str] = {"n_chan": channels}
    for (side, first, last), cells, pad in zip(_SIDES, (height, width), pads, strict=True):
        if side == "width" or "in_height" in config.constants:
            sizes |= {f"in_{side}": cells, f"out_{side}": cells + sum(pad)}
            sizes |= {first: pad[0], last: pad[1]}
    rank = 2 if "in_height" in config.constants else 1
    geometry(walk, config, f"nnet::padding{rank}d_config", sizes)
    for node in walk.network.nodes:
        if isinstance(node, Pad) and node.sources[0] in held and node.padding == pads:
            walk.meanings[results[0]] = Meaning(node.name).then(kind)


def _ranks(form: str, rule: Callable[..., None], ranks: Iterable[int] = (1, 2), **more: Any) -> Any:
    return {form.format(rank): partial(rule, rank=rank, **more) for rank in ranks}


_MERGES = ("add", "subtract", "multiply", "average", "maximum", "minimum")
# By layer kind: the functions of hls4ml that compute it.
CALLS: dict[type[Node], dict[str, Handler]] = {
    Quantize: {
        "linear": _activation,
        **{name: partial(_activation, step=name) for name in ("relu", "hard_tanh", "hard_sigmoid")},
    },
    Rectify: {"relu": partial(_activation, step="relu")},
    Dense: {"dense": dense},
    Conv: {
        **_ranks("conv{}d_cl", convolution),
        **_ranks("conv_{}d_cl", convolution),
        **_ranks("pointwise_conv_{}d_cl", convolution),
        **_ranks("depthwise_conv_{}d_cl", convolution, depthwise=True),
    },
    Pool: {
        **_ranks("pooling{}d_cl", _pool),
        **_ranks("global_pooling{}d_cl", _pool, whole=True),
    },
    Merge: {
        **{name: partial(_merge, operation=name) for name in _MERGES},
        **{f"concatenate{rank}d": partial(_merge, operation="concatenate") for rank in (1, 2, 3)},
    },
    Pad: {f"zeropad{rank}d_cl": _zero_padding for rank in (1, 2)},
}
NO_CALLS: dict[type[Node], str] = {
    Input: "it is the port",
    Reshape: "it moves no value in memory, so that hls4ml calls nothing for it",
    Permute: "no rule covers values in another order",
}
HANDLERS: dict[str, Handler] = {"clone_stream": _clone, "repack_stream": _clone}
for _calls in CALLS.values():
    HANDLERS |= _calls
