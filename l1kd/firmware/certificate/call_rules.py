"""Rules for calls of hls4ml's functions: which layer of the exact network a call computes.

A rule finds the layer that a call has to be, demands the layer's conditions, and notes the meaning
of the result. The argument for the conditions, for the files of `library.json`:

- *Dense layers and convolutions*, in every strategy, add products of the full width of their
  factors and the bias in variables of `accum_t`, and convert the sum once, to the result's type.
  Where `accum_t` has every fraction bit of a product and of the bias, nothing is dropped; where it
  wraps, sums are right modulo its range in any order, so that it is enough that the
  final sum is in range; where it saturates, every partial sum has to be.
- *Pooling* takes the highest value as it is, or adds in `accum_t` and divides by a power of two,
  which is exact where `accum_t` has the quotient's fraction bits.
- *Activations* are functions of one value (`findings`); transpositions move values by strides.
- *Merges* compute in full width and convert once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import Step
from l1kd.exact import layers
from l1kd.exact.arithmetic import NO_PADS, windows
from l1kd.exact.layers import (
    Bound,
    Conv,
    Dense,
    Merge,
    Node,
    Pad,
    Pool,
    Quantize,
    Rectify,
    Reshape,
    Sum,
)
from l1kd.firmware.certificate.cpp_reader import Call, Config, Form, Unreadable
from l1kd.firmware.certificate.findings import SUMS, Meaning, Walk, reached, settled, unsettled
from l1kd.firmware.hls.hls4ml_convert import reusable

# Constants that are demanded elsewhere, or belong to tables that nothing reads.
_FREE = {"reuse_factor", "n_zeros", "n_partitions", "n_pixels", "table_size"}
# What a configuration may choose; `kernel` and `fill_buffer` are demanded where they are used.
_CHOICES = {
    "product": ("nnet::product::mult",),
    **dict.fromkeys(
        ("scale_index", "scale_index_height", "scale_index_width"),
        ("nnet::scale_index_regular", "nnet::scale_index_unscaled"),
    ),
}
# Names of hls4ml's constants for the two axes of an image.
_SIDES = (("height", "pad_top", "pad_bottom"), ("width", "pad_left", "pad_right"))
Handler = Callable[[Walk, Call, list[str], list[str]], None]  # arrays read, arrays written


class Doubt(Exception):  # noqa: N818 - it is the project that is doubted
    """A condition does not hold; `known` if that is a fault, not only beyond the argument."""

    layer = ""  # of the network, where it is known

    def __init__(self, step: Step, reason: str, *, known: bool = True) -> None:
        super().__init__(reason)
        self.step, self.known = step, known


def as_convolution(node: Dense | Conv | Sum, shape: tuple[int, ...]) -> Conv:
    """A convolution, or the one that a dense layer on the last of several axes or a sum is."""
    if isinstance(node, Conv):
        return node
    if isinstance(node, Sum):
        return node.convolution(shape)
    given = {each.name: getattr(node, each.name) for each in fields(node)}
    return Conv(**given | {"kernel": node.kernel[None, None]}, strides=(1, 1))


def image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of a shape; a sequence has height 1."""
    height, width, channels = shape if len(shape) > 2 else (1, *shape)
    return height, width, channels


def geometry(walk: Walk, config: Config, base: str, wanted: Mapping[str, int | str]) -> None:
    """Demand a configuration's base and constants: these, and others as the project asks."""
    if config.base != base:
        raise Doubt("code", f"{config.name} is a {config.base}, not a {base}")
    for name, choices in _CHOICES.items():
        if (chosen := config.templates.get(name, choices[0])) not in choices:
            raise Doubt("code", f"{config.name}: {name} is {chosen}")
    record, constants = walk.description.record, config.constants
    known: dict[str, int | str] = {
        "io_type": "nnet::io_stream" if walk.program.streams else "nnet::io_parallel",
        **dict.fromkeys(("store_weights_in_bram", "count_pad"), "false"),
        "implementation": "nnet::conv_implementation::linebuffer",
        "pixels": "0",
        "strategy": f"nnet::{record.strategy}",
    }
    if record.strategy == "distributed_arithmetic" and constants.get("strategy") == "nnet::latency":
        known["strategy"] = "nnet::latency"  # of layers that hls4ml has no adders for
    for side in ("height", "width"):  # of inputs that no code of a line buffer reads
        known[f"min_{side}"] = constants.get(f"in_{side}", 0)
    if constants.get("strategy") != "nnet::resource":
        known["reuse_factor"] = record.reuse
    size = _number(constants, "n_in") * _number(constants, "n_out")
    if "kernel_size" in constants:
        cells = _number(constants, "filt_height", 1) * _number(constants, "filt_width")
        known["kernel_size"] = cells
        size = cells * _number(constants, "n_chan") * _number(constants, "n_filt")
    if "multiplier_limit" in constants:
        reuse = max(1, _number(constants, "reuse_factor"))
        zeros = _number(constants, "n_zeros")
        known["multiplier_limit"] = -(-size // reuse) - zeros // reuse
        known["n_nonzeros"] = size - zeros
    known |= wanted
    for name, value in constants.items():
        if name in known:
            if value != known[name]:
                raise Doubt("code", f"{config.name}::{name} is {value}, not {known[name]}")
        elif name not in _FREE:
            raise Doubt("code", f"{config.name}::{name} is not known", known=False)
    for name, value in wanted.items():
        if name not in constants and not (name.startswith("pad_") and value == 0):
            raise Doubt("code", f"{config.name} does not say {name}")


def _number(constants: Mapping[str, int | str], name: str, default: int = 0) -> int:
    value = constants.get(name, default)
    return value if isinstance(value, int) else 0


def _same(
    stored: NDArray[np.float64], counts: NDArray[np.int64], fraction: int, table: str
) -> None:
    wanted = counts.reshape(-1) * 2.0**-fraction
    if stored.shape != wanted.shape:
        raise Doubt("weights", f"{table} has {stored.size} values, the network {wanted.size}")
    off = np.flatnonzero(stored != wanted)
    if len(off):
        first = int(off[0])
        reason = (
            f"{len(off)} of {stored.size} values of {table} differ, the first at {first}: "
            f"{stored[first]:g} in the project, {wanted[first]:g} in the network"
        )
        raise Doubt("weights", reason)


def kernel_known(config: Config, reuse: int, *, depthwise: bool = False) -> None:
    """Demand a strategy that the argument covers, with hls4ml's function for it."""
    strategy, kernel = str(config.constants.get("strategy")), config.templates.get("kernel")
    inputs, outputs, factor = (
        _number(config.constants, name) for name in ("n_in", "n_out", "reuse_factor")
    )
    wanted = "nnet::DepthwiseDenseLatency" if depthwise else "nnet::DenseLatency"
    if strategy == "nnet::resource" and not depthwise:
        if not factor or not inputs or not reusable(inputs, outputs, factor):
            reason = f"hls4ml has no code for a reuse factor of {factor}"
            raise Doubt("code", f"{config.name}: {reason}")
        near = (near for step in count() for near in (reuse - step, reuse + step) if near > 0)
        if factor > next(each for each in near if reusable(inputs, outputs, each)):
            raise Doubt("code", f"{config.name}: a reuse factor of {factor}, not about {reuse}")
        kind = "leq_nin" if factor <= inputs else "gt_nin" if factor % inputs else "gt_nin_rem0"
        wanted = f"nnet::DenseResource_rf_{kind}"
    elif strategy != "nnet::latency":
        raise Doubt("code", f"{config.name}: {kernel} for {strategy}", known=False)
    if kernel != wanted:
        raise Doubt("code", f"{config.name}: {kernel}, not {wanted}")


def sums(
    kind: FixedPoint, node: Dense | Conv, source: Bound, bound: Bound, name: str, *, fine: bool
) -> None:
    """Demand that accumulators of a type lose nothing; `fine`: inputs have every step they may."""
    fraction, left, bias_left = node.aligned(source.fraction)
    used = int(np.bitwise_or.reduce(abs(node.kernel), axis=None)) << left
    used |= int(np.bitwise_or.reduce(abs(node.bias), axis=None)) << max(bias_left, 0)
    spare = max((used & -used).bit_length() - 1, 0)  # zeros at the end of every term
    fraction -= spare
    low, high = bound.lowest >> spare, bound.highest >> spare
    if low == high == 0 and not bound.magnitude:
        return
    if kind.fraction < fraction:
        dropped = f"{fraction - kind.fraction} of the {fraction} fraction bits of its sums"
        raise Doubt("sums", f"{name} ({kind.text}) drops {dropped}", known=fine)
    if kind.overflow != "WRAP":
        low, high = -(bound.magnitude >> spare), bound.magnitude >> spare
    if not kind.carries(low, high, fraction):
        needed = FixedPoint.holding(low, high, fraction).integer
        ends = f"from {low * 2.0**-fraction:g} to {high * 2.0**-fraction:g}"
        reason = f"overflows: the sums go {ends} and need {needed} integer bits"
        raise Doubt("sums", f"{name} ({kind.text}) {reason}")


def window_table(node: Conv, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The cells in every window of a convolution: (windows, cells), flat inputs, -1 for a zero."""
    height, width, channels = image(shape)
    places = np.arange(height * width * channels).reshape(1, height, width, channels)
    padded = np.pad(places, ((0, 0), *node.padding, (0, 0)), constant_values=-1)
    seen = windows(padded, node.kernel.shape[:2], node.strides, node.dilation)  # type: ignore[arg-type]
    return seen[0].transpose(0, 1, 3, 4, 2).reshape(-1, int(np.prod(node.kernel.shape[:3])))


def config_of(walk: Walk, call: Call) -> Config:
    found = next((name for name in call.template if name in walk.program.configs), None)
    if found is None:
        raise Doubt("code", f"{call.function} has no configuration")
    return walk.program.configs[found]


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


def _layer(
    walk: Walk,
    call: Call,
    sources: list[str],
    results: list[str],
    *,
    kinds: tuple[type, ...],
    check: Callable[..., None],
) -> None:
    """Find the layer of some kind that a call has to be; `check` demands its conditions."""
    meaning = walk.meanings[sources[0]]
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
    with computes(walk, results[0], node):
        check(walk, call, sources[0], node)


def _dense(walk: Walk, call: Call, _: str, node: Dense) -> None:
    code = "" if call.space else call.function  # `dense_da_3<a_t, b_t>(a, b)`
    if not code:
        config = config_of(walk, call)
        code = config.templates.get("dense_da", "")
        sizes = {"n_in": node.kernel.shape[0], "n_out": node.kernel.shape[1]}
        geometry(walk, config, "" if code else "nnet::dense_config", sizes)
    if node.shape != (node.kernel.shape[1],):
        raise Doubt("code", "a dense layer on more than one axis", known=False)
    if code:
        _adders(walk, code, node)
    else:
        kernel_known(config, walk.description.record.reuse)
        _matrix(walk, config, call, node)


def _adders(walk: Walk, code: str, node: Dense | Conv) -> None:
    """Demand that generated code is the matrix and bias of a layer."""
    program, before = walk.program, walk.network.bounds[node.sources[0]]
    adders = program.adders.get(program.wrappers.get(code, code))
    if adders is None:
        raise Doubt("code", f"{code} is not there")
    matrix = node.kernel.reshape(-1, node.kernel.shape[-1]).astype(object)
    if (adders.inputs, adders.outputs) != matrix.shape:
        raise Doubt("code", f"{adders.name} has another size than the layer")
    if isinstance(node, Dense):
        low, high = before.low.reshape(-1), before.high.reshape(-1)
    else:  # the same code at every position, where padding shows zeros
        low = np.full(len(matrix), min(before.lowest, 0), object)
        high = np.full(len(matrix), max(before.highest, 0), object)
    try:
        forms = adders.forms(before.fraction, low, high)
    except ValueError as error:
        raise Doubt("sums", f"{adders.name}: {error}") from error
    except (Unreadable, KeyError, IndexError) as error:
        raise Doubt("code", f"{adders.name}: {error}") from error
    for place, form in enumerate(forms):
        fraction, left, bias_left = node.aligned(before.fraction)
        wanted = np.append(
            matrix[:, place] * (1 << left), int(node.bias[place]) * (1 << max(bias_left, 0))
        )
        ours, theirs = form.reduced(), Form(wanted, fraction).reduced()
        same = np.array_equal(ours.coefficients, theirs.coefficients)
        if ours.fraction != theirs.fraction or not same:
            raise Doubt("weights", f"{adders.name}: output {place} is not the network's sum")


def _matrix(
    walk: Walk, config: Config, call: Call, node: Dense | Conv, *, depthwise: bool = False
) -> None:
    """Demand that a call's tables are the network's weights, and that its sums lose nothing."""
    program, bounds, name = walk.program, walk.network.bounds, config.types["accum_t"]
    if len(call.arguments) != 4:
        raise Doubt("code", f"{call.function} has {len(call.arguments)} arguments")
    weights, biases = call.arguments[2:]
    for table, role in ((weights, "weight_t"), (biases, "bias_t")):
        if table not in program.weights:
            raise Doubt("weights", f"there is no table {table}")
        if program.types[config.types[role]][0] != program.weights[table].type:
            raise Doubt("weights", f"{config.name}::{role} is not the type of {table}")
    kernel = node.kernel
    if depthwise:
        channels = np.arange(kernel.shape[2])
        kernel = kernel[:, :, channels, channels]
    elif config.constants.get("strategy") == "nnet::resource":
        kernel = np.moveaxis(kernel, -1, 0)
    stored = program.weights[weights].values
    _same(stored, kernel, node.kernel_fraction, weights)
    if (zeros := int((stored == 0).sum())) != config.constants.get("n_zeros"):
        raise Doubt("code", f"{config.name}::n_zeros is not {zeros}")
    _same(program.weights[biases].values, node.bias, node.bias_fraction, biases)
    kind, fine = program.types[name][0], reached(walk.network, node.sources[0])
    sums(kind, node, bounds[node.sources[0]], bounds[node.name], name, fine=fine)


def _convolution(
    walk: Walk,
    call: Call,
    array: str,
    node: Dense | Conv | Sum,
    *,
    rank: int,
    depthwise: bool = False,
) -> None:
    config, before = config_of(walk, call), walk.meanings[array].padding
    shape = walk.network[node.sources[0]].shape
    conv = as_convolution(node, shape)
    height, width, channels = image(shape)
    rows, columns, filters = image(conv.shape)
    sizes: dict[str, int | str] = {"n_chan": channels, "n_filt": filters}
    # Ones cost no multiplier in this strategy only.
    strategy: dict[str, int | str] = {"strategy": "nnet::latency"} if isinstance(node, Sum) else {}
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
    geometry(walk, config, base, said | strategy)
    _check_windows(walk, config, conv, shape, rank, stream=stream)
    if adders:
        _adders(walk, adders, conv)
        return
    mult = walk.program.configs.get(config.types.get("mult_config", ""))
    if mult is None:
        raise Doubt("code", f"{config.name} has no mult_config")
    for role in ("accum_t", "weight_t", "bias_t"):
        if mult.types.get(role) != config.types.get(role):
            raise Doubt("code", f"{config.name} and {mult.name} have two types for {role}")
    wanted = {"n_in": int(np.prod(conv.kernel.shape[:3])), "n_out": filters}
    style = str(config.constants.get("strategy")).removeprefix("nnet::").capitalize()
    windows = f"nnet::Conv{rank}D{style}"
    if (rank, call.function) == (1, "pointwise_conv_1d_cl"):
        # One cell is a window, read where it is: all of them at once.
        whole = "nnet::BatchedDenseForConv1D"
        if config.templates.get("conv_kernel") == whole and style == "Latency":
            windows, wanted = whole, {"n_in": width * channels, "n_out": width * filters}
            if config.constants.get("n_partitions") != 1:
                raise Doubt("code", f"{config.name}: {whole} in parts", known=False)
    geometry(walk, mult, "nnet::dense_config", wanted | strategy)
    if str(mult.templates.get("kernel", "")).startswith("dense_da_wrapper_"):
        _adders(walk, mult.templates["kernel"], conv)
        return
    kernel_known(mult, walk.description.record.reuse, depthwise=depthwise)
    if config.templates.get("conv_kernel", windows) != windows:
        raise Doubt("code", f"{config.name}: {config.templates['conv_kernel']} is not {windows}")
    if mult.constants.get("strategy") != config.constants.get("strategy"):
        raise Doubt("code", f"{config.name} and {mult.name} have two strategies")
    _matrix(walk, config, call, conv, depthwise=depthwise)


def _check_windows(
    walk: Walk, config: Config, conv: Conv, shape: tuple[int, ...], rank: int, *, stream: bool
) -> None:
    """Demand the inputs that every window sees: a table for arrays, a line buffer for streams."""
    name, program = config.templates.get("fill_buffer", ""), walk.program
    count, pixels = (config.constants.get(each) for each in ("n_partitions", "n_pixels"))
    if stream:
        _line_buffer(config)
        if name != f"nnet::FillConv{rank}DBuffer" or pixels != 1:
            raise Doubt("code", f"{config.name}: {name or 'no fill_buffer'} for a stream")
        return
    parts = program.buffers.get(name)
    wanted = window_table(conv, shape)
    if parts is None or program.ranks[name] != rank:
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
    if step == "leaky":
        step = _slope(walk, call, config)
    steps = [] if step is None else [step]
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


def _slope(walk: Walk, call: Call, config: Config) -> int:
    """The shift of a leaky ReLU, whose slope is an argument of the call."""
    kind, slope = config.types["param_t"], float(call.arguments[1])
    mantissa, exponent = np.frexp(slope)
    held = call.template[1] == kind and walk.program.types[kind][0].holds(slope)
    if mantissa != 0.5 or not held:
        raise Doubt("code", f"{config.name}: a slope of {slope:g} in {kind}", known=not held)
    return 1 - int(exponent)


def _transpose(walk: Walk, call: Call, sources: list[str], results: list[str]) -> None:
    meaning, config = walk.meanings[sources[0]], config_of(walk, call)
    held = settled(walk.network, meaning)
    nodes = [node for node in walk.network.nodes if isinstance(node, layers.Permute)]
    node = next((n for n in nodes if {*held, meaning.node}.intersection(n.sources)), None)
    if node is None or node.name in walk.matched:
        raise Doubt("code", f"no layer of the network is this {call.function}", known=bool(held))
    walk.matched += [name for name in (*held, node.name) if name not in walk.matched]
    before = walk.network[node.sources[0]].shape
    listed = {"from_shape": before, "to_shape": node.shape, "perm": node.axes}
    listed["perm_strides"] = tuple(int(np.prod(before[axis + 1 :])) for axis in node.axes)
    wanted = {name: ", ".join(map(str, values)) for name, values in listed.items()}
    with computes(walk, results[0], node):
        geometry(walk, config, "", {"dims": len(before), "N": node.size, **wanted})
        if walk.program.streams and len(before) == 2 and node.axes != (1, 0):
            raise Doubt("code", f"{call.function} of a stream swaps two axes, whatever it is told")
    if node.sources[0] not in held:  # a quantizer may stand before it, where values are the same
        after = Meaning(node.name, meaning.steps)
        walk.meanings[results[0]] = after.then(walk.program.arrays[results[0]].type)


def _line_buffer(config: Config) -> None:
    """Demand that windows of a stream are seen by hls4ml's line buffer."""
    implementation = config.constants.get("implementation")
    if implementation != "nnet::conv_implementation::linebuffer":
        raise Doubt("code", f"{config.name}: {implementation}", known=False)


def _pool(walk: Walk, call: Call, _: str, node: Pool, *, rank: int, whole: bool = False) -> None:
    config, bounds = config_of(walk, call), walk.network.bounds
    name, before = config.types.get("accum_t", ""), bounds[node.sources[0]]
    if name not in walk.program.types:
        raise Doubt("code", f"{config.name} has no accum_t")
    height, width, channels = image(walk.network[node.sources[0]].shape)
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
    for key in [key for key in sizes if key not in config.constants]:
        if key.startswith(optional):
            del sizes[key]
    geometry(walk, config, f"nnet::pooling{rank}d_config", sizes)
    if not whole and any(f"pool_{side}" not in config.constants for side, *_ in _SIDES[2 - rank :]):
        raise Doubt("code", f"{config.name} does not say its window")
    kind = walk.program.types[name][0]
    cells = int(np.prod(node.window)) if node.operation == "average" else 1
    low, high = before.lowest, before.highest
    held = kind.carries(min(low * cells, low, 0), max(high * cells, high, 0), before.fraction)
    if not held or kind.fraction < bounds[node.name].fraction:
        raise Doubt("sums", f"{name} ({kind.text}) does not hold every sum and quotient")
    if walk.program.streams and not whole:
        _line_buffer(config)


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
        raise Doubt("code", f"no layer of the network is this {operation}", known=all(held))
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
    stated = config.constants.get("in_height", 1), config.constants.get("in_width")
    shapes = {name: walk.network[name].shape for name in held}
    fit = [name for name, own in shapes.items() if len(own) > 1 and image(own)[:2] == stated]
    if fit and meaning.node not in fit:  # it is a reshape that is padded
        meaning = walk.meanings[sources[0]] = Meaning(fit[0])
        node = walk.network[fit[0]]
    if len(node.shape) < 2:
        raise Doubt("code", f"{call.function} of {node.name!r}, which is no image")
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


def _ranks(form: str, kinds: tuple[type, ...], check: Callable[..., None], **more: Any) -> Any:
    """Rules of the functions for sequences and for images."""
    return {
        form.format(rank): partial(_layer, kinds=kinds, check=partial(check, rank=rank, **more))
        for rank in (1, 2)
    }


DENSE: Handler = partial(_layer, kinds=(Dense,), check=_dense)
# hls4ml has no sum: it is a convolution of ones.
_CONVOLUTIONS: dict[str, Handler] = {
    **_ranks("conv{}d_cl", (Conv, Dense, Sum), _convolution),
    **_ranks("conv_{}d_cl", (Conv, Dense, Sum), _convolution),
    **_ranks("pointwise_conv_{}d_cl", (Conv, Dense, Sum), _convolution),
}
_MERGES = ("add", "subtract", "multiply", "average", "maximum", "minimum")
# By layer kind: the functions of hls4ml that compute it.
CALLS: dict[type[Node], dict[str, Handler]] = {
    Quantize: {
        "linear": _activation,
        **{name: partial(_activation, step=name) for name in ("relu", "hard_tanh", "hard_sigmoid")},
    },
    Rectify: {
        "relu": partial(_activation, step="relu"),
        "leaky_relu": partial(_activation, step="leaky"),
    },
    layers.Permute: {"transpose": _transpose},
    Dense: {"dense": DENSE},
    Sum: _CONVOLUTIONS,
    Conv: {
        **_CONVOLUTIONS,
        **_ranks("depthwise_conv_{}d_cl", (Conv,), _convolution, depthwise=True),
    },
    Pool: {
        **_ranks("pooling{}d_cl", (Pool,), _pool),
        **_ranks("global_pooling{}d_cl", (Pool,), _pool, whole=True),
    },
    Merge: {
        **{name: partial(_merge, operation=name) for name in _MERGES},
        **{f"concatenate{rank}d": partial(_merge, operation="concatenate") for rank in (1, 2, 3)},
    },
    Pad: {f"zeropad{rank}d_cl": _zero_padding for rank in (1, 2)},
}
NO_CALLS: dict[type[Node], str] = {
    layers.Input: "it is the port",
    Reshape: "it moves no value in memory, so that hls4ml calls nothing for it",
}
PAIRED = CALLS[Merge].keys()  # functions that read two arrays
HANDLERS: dict[str, Handler] = {"clone_stream": _clone, "repack_stream": _clone}
for _calls in CALLS.values():
    HANDLERS |= _calls
