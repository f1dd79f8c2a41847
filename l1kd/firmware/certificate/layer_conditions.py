"""Conditions under which hls4ml's functions compute layers of the exact network.

The argument, for the files of `library.json`:

- *Dense layers and convolutions*, in every strategy, add products of the full width of their
  factors and the bias in variables of `accum_t`, and convert the sum once, to the result's type.
  Where `accum_t` has every fraction bit of a product and of the bias, nothing is dropped; where it
  wraps, sums are right modulo its range in any order, so that it is enough that the
  final sum is in range; where it saturates, every partial sum has to be.
- *Pooling* takes the highest value as it is, or adds in `accum_t` and divides by a power of two,
  which is exact where `accum_t` has the quotient's fraction bits.
- *Activations* are functions of one value: see `findings`.
- *Merges* compute in full width and convert once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from itertools import count

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.arithmetic import windows
from l1kd.exact.layers import Bound, Conv, Dense, Pool
from l1kd.firmware.certificate.cpp_reader import Adders, Config, Form, Program, Unreadable
from l1kd.firmware.certificate.findings import Step, Walk, lossless
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


class Doubt(Exception):  # noqa: N818 - it is the project that is doubted
    """A condition does not hold; `known` if that is a fault, not only beyond the argument."""

    layer = ""  # of the network, where it is known

    def __init__(self, step: Step, reason: str, *, known: bool = True) -> None:
        super().__init__(reason)
        self.step, self.known = step, known


def as_convolution(node: Dense | Conv) -> Conv:
    """A dense layer on the last of several axes as the convolution of size 1 that it is."""
    if isinstance(node, Conv):
        return node
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


def numbers(
    program: Program,
    config: Config,
    weights: str,
    biases: str,
    node: Dense | Conv,
    *,
    depthwise: bool,
) -> None:
    """Demand that the tables of a call are the network's weights."""
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


def sums(kind: FixedPoint, node: Dense | Conv, source: Bound, bound: Bound, name: str) -> None:
    """Demand that accumulators of a type lose nothing."""
    fraction, left, bias_left = node.aligned(source.fraction)
    used = int(np.bitwise_or.reduce(abs(node.kernel), axis=None)) << left
    used |= int(np.bitwise_or.reduce(abs(node.bias), axis=None)) << max(bias_left, 0)
    spare = max((used & -used).bit_length() - 1, 0)  # zeros at the end of every term
    fraction -= spare
    low, high = int(bound.low.min()) >> spare, int(bound.high.max()) >> spare
    if low == high == 0 and not bound.magnitude:
        return
    if kind.fraction < fraction:
        dropped = f"{fraction - kind.fraction} of the {fraction} fraction bits of its sums"
        raise Doubt("sums", f"{name} ({kind.text}) drops {dropped}")
    if kind.overflow != "WRAP":
        low, high = -(bound.magnitude >> spare), bound.magnitude >> spare
    if not lossless(kind, low, high, fraction):
        needed = FixedPoint.holding(low, high, fraction).integer
        ends = f"from {low * 2.0**-fraction:g} to {high * 2.0**-fraction:g}"
        reason = f"overflows: the sums go {ends} and need {needed} integer bits"
        raise Doubt("sums", f"{name} ({kind.text}) {reason}")


def pool_sums(kind: FixedPoint, node: Pool, source: Bound, bound: Bound, name: str) -> None:
    """Demand that a pooling's variables lose nothing."""
    low, high = int(source.low.min()), int(source.high.max())
    cells = int(np.prod(node.window)) if node.operation == "average" else 1
    ends = (min(low * cells, low, 0), max(high * cells, high, 0))
    if not lossless(kind, *ends, source.fraction) or kind.fraction < bound.fraction:
        raise Doubt("sums", f"{name} ({kind.text}) does not hold every sum and quotient")


def window_table(node: Conv, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The cells in every window of a convolution: (windows, cells), flat inputs, -1 for a zero."""
    height, width, channels = image(shape)
    places = np.arange(height * width * channels).reshape(1, height, width, channels)
    padded = np.pad(places, ((0, 0), *node.padding, (0, 0)), constant_values=-1)
    seen = windows(padded, node.kernel.shape[:2], node.strides, node.dilation)  # type: ignore[arg-type]
    return seen[0].transpose(0, 1, 3, 4, 2).reshape(-1, int(np.prod(node.kernel.shape[:3])))


def adders_are(adders: Adders, node: Dense | Conv, source: Bound) -> None:
    """Demand that straight-line code is a layer's matrix and bias, for every input."""
    matrix = node.kernel.reshape(-1, node.kernel.shape[-1]).astype(object)
    if (adders.inputs, adders.outputs) != matrix.shape:
        raise Doubt("code", f"{adders.name} has another size than the layer")
    if isinstance(node, Dense):
        low, high = source.low.reshape(-1), source.high.reshape(-1)
    else:  # the same code at every position, where padding shows zeros
        low = np.full(len(matrix), min(int(source.low.min()), 0), object)
        high = np.full(len(matrix), max(int(source.high.max()), 0), object)
    try:
        forms = adders.forms(source.fraction, low, high)
    except ValueError as error:
        raise Doubt("sums", f"{adders.name}: {error}") from error
    except (Unreadable, KeyError, IndexError) as error:
        raise Doubt("code", f"{adders.name}: {error}") from error
    for place, form in enumerate(forms):
        fraction, left, bias_left = node.aligned(source.fraction)
        wanted = np.append(
            matrix[:, place] * (1 << left), int(node.bias[place]) * (1 << max(bias_left, 0))
        )
        ours, theirs = form.reduced(), Form(wanted, fraction).reduced()
        same = np.array_equal(ours.coefficients, theirs.coefficients)
        if ours.fraction != theirs.fraction or not same:
            raise Doubt("weights", f"{adders.name}: output {place} is not the network's sum")
