"""Call by call: what a function of hls4ml makes of what it reads.

A handler finds the layer of the exact network that a call has to be, demands what `layers` says it
needs, and notes what the result then holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from l1kd.exact.graph import Merge, Pad, Pool
from l1kd.firmware.certificate import layers
from l1kd.firmware.certificate.following import behind, config_of, doubt_of, meaning_of, sized
from l1kd.firmware.certificate.layers import Doubt, geometry, image
from l1kd.firmware.certificate.matrices import convolution, dense, matrix_code
from l1kd.firmware.certificate.meaning import NO_PADS, Meaning, settled
from l1kd.firmware.certificate.source import Call, Config
from l1kd.firmware.certificate.walk import Walk, unsettled

__all__ = ["HANDLERS", "matrix_code"]


def _activation(*steps: Any) -> Callable[..., None]:
    def handler(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
        meaning, config = meaning_of(walk, sources[0]), config_of(walk, call)
        node = walk.network[meaning.node]
        wanted: dict[str, int | str] = {"n_in": node.size}
        if steps and steps[0] in ("hard_tanh", "hard_sigmoid"):
            wanted |= {"slope": "0.5", "shift": "0.5"}
        walk.meanings[results[0]] = meaning.then(*steps, walk.program.array(results[0]).type)
        geometry(config, wanted)
        sized(walk, results[0], node)

    return handler


def _pool(rank: int, *, whole: bool = False) -> Callable[..., None]:
    def handler(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
        node, source = behind(walk, call, sources[0], (Pool,))
        kind = walk.program.array(results[0]).type
        config = config_of(walk, call)
        accumulator = walk.program.types.get(config.types.get("accum_t", ""))
        walk.meanings[results[0]] = Meaning(node.name).then(kind)
        try:
            sized(walk, results[0], node)
            if accumulator is None:
                raise Doubt("code", f"{config.name} has no accum_t")
            _check_pool(walk, config, node, source, rank, whole)
            bounds = walk.network.bounds
            name = config.types["accum_t"]
            layers.pool_sums(accumulator[0], node, bounds[source], bounds[node.name], name)
            stream = walk.program.array(sources[0]).pack is not None
            if stream and not whole:
                implementation = config.constants.get("implementation")
                if implementation != "nnet::conv_implementation::linebuffer":
                    raise Doubt("code", f"{config.name}: {implementation}", known=False)
        except Doubt as doubt:
            raise doubt_of(node, doubt) from doubt

    return handler


def _check_pool(
    walk: Walk, config: Config, node: Pool, source: str, rank: int, whole: bool
) -> None:
    height, width, channels = image(walk.network[source].shape)
    operation = {"max": "nnet::Max", "average": "nnet::Average"}[node.operation]
    sizes: dict[str, int | str] = {"n_filt": channels, "n_chan": channels, "pool_op": operation}
    sides = [("width", width, 1)] if rank == 1 else [("height", height, 0), ("width", width, 1)]
    for side, cells, axis in sides:
        sizes[f"in_{side}"] = cells
        sizes[f"pool_{side}"] = sizes[f"filt_{side}"] = node.window[axis]
        sizes[f"stride_{side}"] = node.strides[axis]
        if not whole:
            out = node.shape[:-1]
            sizes[f"out_{side}"] = out[-1] if side == "width" else out[0]
    names = (("pad_top", "pad_bottom"), ("pad_left", "pad_right"))
    for axis, pair in enumerate(names):
        sizes |= dict(zip(pair, node.padding[axis], strict=True))
    if rank == 1:
        sizes["n_in"] = sizes.pop("in_width")
        if not whole:
            sizes["n_out"] = sizes.pop("out_width")
    present = {
        k: v for k, v in sizes.items() if k in config.constants or not _optional(k, v, whole)
    }
    geometry(config, present)
    if not whole and any(f"pool_{side}" not in config.constants for side, _, _ in sides):
        raise Doubt("code", f"{config.name} does not say its window")


def _optional(name: str, value: int | str, whole: bool) -> bool:
    """What need not be said: what only repeats, no padding, and the window of a global pooling."""
    if name.startswith("pad_"):
        return value == 0
    return name.startswith(("filt_", "n_chan")) or (whole and name.startswith(("pool_", "stride_")))


def _merge(operation: str) -> Callable[..., None]:
    def handler(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
        held = [settled(walk.network, meaning_of(walk, name)) for name in sources]
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
                    unsettled(walk, meaning_of(walk, name))
            raise Doubt("code", f"no layer of the network is this {operation}")
        node = next((each for each in found if each.name == call.label), found[0])
        walk.matched += [name for each in held for name in each if name not in walk.matched]
        walk.matched.append(node.name)
        walk.meanings[results[0]] = Meaning(node.name).then(walk.program.array(results[0]).type)
        try:
            sized(walk, results[0], node)
            _check_merge(walk, config_of(walk, call), node)
        except Doubt as doubt:
            raise doubt_of(node, doubt) from doubt

    return handler


def _check_merge(walk: Walk, config: Config, node: Merge) -> None:
    one, two = (walk.network[name] for name in node.sources)
    if node.operation != "concatenate":
        if one.size != node.size or two.size != node.size:
            raise Doubt("code", f"{node.operation} of different shapes", known=False)
        geometry(config, {"n_elem": node.size, "n_elem1": one.size, "n_elem2": two.size})
        return
    wanted: dict[str, int | str] = {}
    for number, part in enumerate((one, two), 1):
        sides = (*part.shape, 0, 0)[:3]  # hls4ml writes three of them, whatever the rank
        wanted |= {f"n_elem{number}_{axis}": side for axis, side in enumerate(sides)}
    axis = config.constants.get("axis")
    rank = len(node.shape)
    # hls4ml counts from the batch, or from behind.
    if axis not in (node.axis, node.axis - rank if node.axis >= 0 else node.axis + rank + 1):
        raise Doubt("code", f"{config.name}::axis is {axis}")
    if node.axis % rank != rank - 1:
        raise Doubt("code", "a concatenation along an inner axis", known=False)
    geometry(config, {**wanted, "axis": axis})


def _clone(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    meaning = meaning_of(walk, sources[0])
    for name in results:
        walk.meanings[name] = meaning.then(walk.program.array(name).type)
    if call.template[2:] != (str(walk.network[meaning.node].size),):
        raise Doubt("code", f"{call.function} of {call.template[2:]} values")


def _repack(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    _clone(walk, call, sources, results)


def _zero_padding(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    meaning, config = meaning_of(walk, sources[0]), config_of(walk, call)
    sides = []
    for names in (("pad_top", "pad_bottom"), ("pad_left", "pad_right")):
        values = [config.constants.get(name, 0) for name in names]
        if not all(isinstance(value, int) for value in values):
            raise Doubt("code", f"{config.name} pads by {values}")
        sides.append((int(values[0]), int(values[1])))
    pads = (sides[0], sides[1])
    held = settled(walk.network, meaning)
    kind = walk.program.array(results[0]).type
    node = walk.network[meaning.node]
    height, width, channels = image(node.shape)
    padded = Meaning(meaning.node, (*meaning.steps, kind), pads)
    walk.meanings[results[0]] = padded
    if meaning.padding != NO_PADS or not held:
        raise Doubt("code", f"{call.function} of what is no layer")
    sizes: dict[str, int | str] = {
        "in_width": width,
        "n_chan": channels,
        "out_width": width + sum(pads[1]),
        "pad_left": pads[1][0],
        "pad_right": pads[1][1],
    }
    if "in_height" in config.constants:
        sizes |= {
            "in_height": height,
            "out_height": height + sum(pads[0]),
            "pad_top": pads[0][0],
            "pad_bottom": pads[0][1],
        }
    geometry(config, sizes)
    for node in walk.network.nodes:
        if isinstance(node, Pad) and node.sources[0] in held and node.padding == pads:
            walk.meanings[results[0]] = Meaning(node.name).then(kind)


HANDLERS: dict[str, Callable[..., None]] = {
    "relu": _activation("relu"),
    "linear": _activation(),
    "hard_tanh": _activation("hard_tanh"),
    "hard_sigmoid": _activation("hard_sigmoid"),
    "dense": dense,
    "conv_1d_cl": convolution(1),
    "conv_2d_cl": convolution(2),
    "conv1d_cl": convolution(1),
    "conv2d_cl": convolution(2),
    "pointwise_conv_1d_cl": convolution(1),
    "pointwise_conv_2d_cl": convolution(2),
    "depthwise_conv_1d_cl": convolution(1, depthwise=True),
    "depthwise_conv_2d_cl": convolution(2, depthwise=True),
    "pooling1d_cl": _pool(1),
    "pooling2d_cl": _pool(2),
    "global_pooling1d_cl": _pool(1, whole=True),
    "global_pooling2d_cl": _pool(2, whole=True),
    "add": _merge("add"),
    "subtract": _merge("subtract"),
    "multiply": _merge("multiply"),
    "average": _merge("average"),
    "maximum": _merge("maximum"),
    "minimum": _merge("minimum"),
    **{f"concatenate{rank}d": _merge("concatenate") for rank in (1, 2, 3)},
    "clone_stream": _clone,
    "repack_stream": _repack,
    "zeropad1d_cl": _zero_padding,
    "zeropad2d_cl": _zero_padding,
}
