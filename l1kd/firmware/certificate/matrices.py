"""Calls of dense layers and convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l1kd.exact.graph import Conv, Dense
from l1kd.firmware.certificate import layers
from l1kd.firmware.certificate.following import behind, config_of, doubt_of, meaning_of, sized
from l1kd.firmware.certificate.layers import Doubt, geometry, image
from l1kd.firmware.certificate.meaning import Meaning
from l1kd.firmware.certificate.source import Call, Config
from l1kd.firmware.certificate.walk import Walk

__all__ = ["convolution", "dense", "matrix_code"]


def dense(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    node, source = behind(walk, call, sources[0], (Dense,))
    kind = walk.program.array(results[0]).type
    walk.meanings[results[0]] = Meaning(node.name).then(kind)
    bounds = walk.network.bounds
    config = config_of(walk, call)
    try:
        sized(walk, results[0], node)
        geometry(config, {"n_in": node.kernel.shape[0], "n_out": node.kernel.shape[1]})
        if node.shape != (node.kernel.shape[1],):
            raise Doubt("code", "a dense layer on more than one axis", known=False)
        if code := config.templates.get("dense_da"):
            layers.adders_are(_adders(walk, code), node, bounds[source])
            return
        layers.kernel_known(config)
        _matrix(walk, config, call, node, bounds[source], depthwise=False)
    except Doubt as doubt:
        raise doubt_of(node, doubt) from doubt


def matrix_code(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    """A dense layer in distributed arithmetic: `dense_da_3<a_t, b_t>(a, b)`."""
    node, source = behind(walk, call, sources[0], (Dense,))
    walk.meanings[results[0]] = Meaning(node.name).then(walk.program.array(results[0]).type)
    try:
        sized(walk, results[0], node)
        adders = walk.program.generated.adders[call.function]
        layers.adders_are(adders, node, walk.network.bounds[source])
    except Doubt as doubt:
        raise doubt_of(node, doubt) from doubt


def _adders(walk: Walk, code: str) -> Any:
    name = code.partition("<")[0]
    generated = walk.program.generated
    name = generated.wrappers.get(name, name)
    if name not in generated.adders:
        raise Doubt("code", f"{code} is not there")
    return generated.adders[name]


def _matrix(
    walk: Walk, config: Config, call: Call, node: Any, source: Any, *, depthwise: bool
) -> None:
    """Weights, biases and accumulators of a call with tables."""
    program = walk.program
    if len(call.arguments) != 4:
        raise Doubt("code", f"{call.function} has {len(call.arguments)} arguments")
    layers.numbers(program, config, *call.arguments[2:], node, depthwise=depthwise)
    name = config.types["accum_t"]
    layers.sums(program.types[name][0], node, source, walk.network.bounds[node.name], name)


def convolution(rank: int, *, depthwise: bool = False) -> Callable[..., None]:
    def handler(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
        kinds = (Conv,) if depthwise else (Conv, Dense)
        node, source = behind(walk, call, sources[0], kinds)
        walk.meanings[results[0]] = Meaning(node.name).then(walk.program.array(results[0]).type)
        try:
            sized(walk, results[0], node)
            _check_convolution(walk, call, sources[0], node, source, rank, depthwise)
        except Doubt as doubt:
            raise doubt_of(node, doubt) from doubt

    return handler


def _check_convolution(
    walk: Walk, call: Call, array: str, node: Any, source: str, rank: int, depthwise: bool
) -> None:
    config, before = config_of(walk, call), meaning_of(walk, array).padding
    conv = layers.as_convolution(node)
    shape = walk.network[source].shape
    height, width, channels = image(shape)
    rows, columns, filters = image(conv.shape)
    own = tuple(
        tuple(whole - already for whole, already in zip(*sides, strict=True))
        for sides in zip(conv.padding, before, strict=True)
    )
    sizes: dict[str, int | str] = {
        "in_width": width + sum(before[1]),
        "n_chan": channels,
        "filt_width": conv.kernel.shape[1],
        "stride_width": conv.strides[1],
        "out_width": columns,
        "n_filt": filters,
        "pad_left": own[1][0],
        "pad_right": own[1][1],
    }
    if rank == 2:
        sizes |= {
            "in_height": height + sum(before[0]),
            "filt_height": conv.kernel.shape[0],
            "stride_height": conv.strides[0],
            "out_height": rows,
            "pad_top": own[0][0],
            "pad_bottom": own[0][1],
        }
        sizes |= {"dilation_height": 1, "dilation_width": 1}
    else:
        sizes["dilation"] = 1
    if rank == 1 and (height, rows) != (1, 1):
        raise Doubt("code", f"{call.function} for an image")
    if depthwise and filters != channels:
        raise Doubt("code", "a depth multiplier above 1", known=False)
    if conv.dilation != (1, 1):
        raise Doubt("code", "a dilated convolution", known=False)
    stream = walk.program.array(array).pack is not None
    if stream and conv.kernel.shape[0] == 1 < conv.kernel.shape[1] and conv.strides[0] > 1:
        # Found by random networks: what is written of each row is not only every second row's.
        raise Doubt("code", f"{call.function} of a stream skips no rows for a kernel of height 1")
    geometry(config, {k: v for k, v in sizes.items() if k in config.constants or "dil" not in k})
    _check_windows(walk, config, conv, shape, stream=stream)
    bound = walk.network.bounds[source]
    if code := config.templates.get("dense_da"):
        layers.adders_are(_adders(walk, code), conv, bound)
        return
    mult = walk.program.configs.get(config.types.get("mult_config", ""))
    if mult is None:
        raise Doubt("code", f"{config.name} has no mult_config")
    for role in ("accum_t", "weight_t", "bias_t"):
        if mult.types.get(role) != config.types.get(role):
            raise Doubt("code", f"{config.name} and {mult.name} have two types for {role}")
    if not depthwise:
        geometry(mult, {"n_in": int(np.prod(conv.kernel.shape[:3])), "n_out": filters})
    if str(mult.templates.get("kernel", "")).startswith("dense_da_wrapper_"):
        layers.adders_are(_adders(walk, mult.templates["kernel"]), conv, bound)
        return
    layers.kernel_known(mult)
    if mult.constants.get("strategy") != config.constants.get("strategy"):
        raise Doubt("code", f"{config.name} and {mult.name} have two strategies")
    _matrix(walk, config, call, node if depthwise else conv, bound, depthwise=depthwise)


def _check_windows(
    walk: Walk, config: Config, conv: Conv, shape: tuple[int, ...], *, stream: bool
) -> None:
    """Which inputs every window sees: in a table for arrays, by a line buffer for streams."""
    if stream:
        implementation = config.constants.get("implementation")
        if implementation != "nnet::conv_implementation::linebuffer":
            raise Doubt("code", f"{config.name}: {implementation}", known=False)
        return
    name = str(config.templates.get("fill_buffer", "")).partition("<")[0]
    parts = walk.program.generated.buffers.get(name)
    wanted = layers.window_table(conv, shape)
    if parts is None:
        raise Doubt("code", f"{config.name}: {name or 'no fill_buffer'}", known=False)
    if not np.array_equal(np.concatenate(parts), wanted):
        raise Doubt("code", f"{name} shows windows other inputs than the network sees")
    count, pixels = config.constants.get("n_partitions"), config.constants.get("n_pixels")
    if count != len(parts) or {len(part) for part in parts} != {pixels}:
        raise Doubt(
            "code", f"{config.name} asks for {count} times {pixels} windows, {name} has other parts"
        )
