"""Random QKeras networks over what the lint lets through, each with random options of hls4ml.

A seed is a network: its layers, widths, weights and options come from one generator. What the lint
refuses is drawn again, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint

__all__ = ["BACKENDS", "IO_TYPES", "STRATEGIES", "Specimen", "draw", "events_for", "measure"]

BACKENDS, IO_TYPES = ("Vitis", "Vivado"), ("io_parallel", "io_stream")
STRATEGIES = ("latency", "resource", "distributed_arithmetic")
_MOST = 40  # draws for one seed


@dataclass(frozen=True)
class Specimen:
    """A network that the lint lets through, and how to convert it.

    Parameters
    ----------
    seed
        What it was drawn from.
    model
        The QKeras network.
    layers
        Its layers in words, in their order.
    options
        Arguments of `hls.convert`.
    refused
        What the lint said of the draws before it, by construct.
    """

    seed: int
    model: Any
    layers: tuple[str, ...]
    options: dict[str, Any]
    refused: Counter[str] = field(default_factory=Counter)


def draw(seed: int) -> Specimen:
    """The network of a seed."""
    from l1kd.networks.lint.check import check

    refused: Counter[str] = Counter()
    for attempt in range(_MOST):
        random = np.random.default_rng([seed, attempt])
        weaver = _Weaver(random, seed)
        options = _options(random)
        model, changes = weaver.model()
        if not changes and random.random() < 0.95:
            continue  # a constant shows little
        problems = check(model, io_type=options["io_type"])
        if not problems:
            _fit(options, model, random)
            return Specimen(seed, model, tuple(weaver.said), options, refused)
        refused.update({problem.construct for problem in problems})
    raise AssertionError(f"seed {seed}: {_MOST} draws are refused: {refused}")


def events_for(port: FixedPoint, shape: tuple[int, ...], count: int, seed: int) -> NDArray[Any]:
    """Events on a port's grid: its corners, sparse and dense ones, ends and middles mixed."""
    random = np.random.default_rng([seed, 7])
    low, high = port.bounds
    size = (count, *shape)
    counts = random.integers(low, high + 1, size)
    kinds = random.integers(0, 5, count)
    ends = np.where(random.random(size) < 0.5, low, high)
    few = np.where(random.random(size) < 0.2, counts, 0)
    near = np.clip(np.rint(random.normal(0, 2, size)), low, high)
    mixed = np.where(random.random(size) < 0.5, ends, counts)
    for kind, values in enumerate((ends, few, near, mixed)):
        counts[kinds == kind] = values[kinds == kind]
    corners = [low, high, 0, min(1, high), max(-1, low)]
    counts[: len(corners)] = np.reshape(corners, (-1, *(1 for _ in shape)))
    return (counts * port.lsb).astype(np.float64)


def measure(specimen: Specimen, directory: Path, events: int) -> dict[str, Any]:
    """Firmware against the exact evaluator, and QKeras beside it, on one network.

    `mismatches` is None, and there is an `error`, if the network cannot be read exactly, converted
    or compiled.
    """
    from l1kd.core.errors import CheckFailed, UserError
    from l1kd.exact.layers import Affine
    from l1kd.firmware.hls import hls4ml_convert
    from l1kd.networks.to_exact import doubts, read

    model = specimen.model
    record: dict[str, Any] = {
        "layers": list(specimen.layers),
        **specimen.options,
        "refused": dict(specimen.refused),
        "events": events,
        "outputs": int(np.prod(model.output_shape[1:])),
        "mismatches": None,
    }
    try:
        network = read(model)
        inputs = events_for(network.port, network.shape, events, specimen.seed)
        expected = network.predict(inputs)
        qkeras = np.asarray(model(inputs.astype(np.float32)), np.float64).reshape(expected.shape)
        sums = [node.name for node in network.nodes if isinstance(node, Affine)]
        record |= {
            "changing": int((expected != expected[0]).any(axis=1).sum()),
            "accumulator_bits": max((network.bounds[name].bits for name in sums), default=0),
            "qkeras_doubted": len(doubts(model, network)),
            "qkeras_mismatches": int((qkeras != expected).any(axis=1).sum()),
        }
        project = hls4ml_convert.to_hls(model, directory, vectors=inputs[:8], **specimen.options)
        found = project.predict(inputs, processes=1)
        record["mismatches"] = int((found != expected).any(axis=1).sum())
    except (CheckFailed, UserError, KeyError, ValueError) as error:
        record["error"] = f"{type(error).__name__}: {error}"
    return record


def _options(random: np.random.Generator) -> dict[str, Any]:
    io_type = str(random.choice(IO_TYPES))
    strategy = str(random.choice(STRATEGIES, p=(0.46, 0.42, 0.12)))
    options: dict[str, Any] = {
        "backend": str(random.choice(BACKENDS)),
        "io_type": io_type,
        "strategy": strategy,
        "reuse": int(random.choice((1, 2, 3, 4, 6, 8))) if strategy == "resource" else 1,
    }
    if io_type == "io_parallel" and random.random() < 0.3:
        options["unroll"] = False
    return options


def _fit(options: dict[str, Any], model: Any, random: np.random.Generator) -> None:
    """Options that hls4ml's C++ has code for.

    With the resource strategy, hls4ml 1.3.0 leaves the reuse factor of a convolution whose kernel
    is a single cell as it was asked for, and the nearest factor that it finds for others can be
    larger than their windows: such projects do not compile, abort, or compute from beyond the end
    of their weights. A depthwise convolution has no resource strategy with io_parallel.
    """
    if options["strategy"] != "resource":
        return
    kinds = {type(layer).__name__ for layer in model.layers}
    if "QDepthwiseConv2D" in kinds and options["io_type"] == "io_parallel":
        options.update(strategy="latency", reuse=1)
        return
    factors = [factor for factor in (1, 2, 3, 4, 6, 8) if _reuses(model, factor)]
    options["reuse"] = int(random.choice(factors))


def _reuses(model: Any, factor: int) -> bool:
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None or "Conv" not in type(layer).__name__:
            continue
        inputs, outputs = int(np.prod(kernel.shape[:-1])), int(kernel.shape[-1])
        valid = [
            each
            for each in range(1, inputs * outputs + 1)
            if inputs * outputs % each == 0
            and (
                each % inputs == 0
                if each >= inputs
                else -(-inputs * outputs // each) % outputs == 0
            )
        ]
        single = all(side == 1 for side in kernel.shape[:-2])
        if single and factor not in valid:
            return False
        if min(valid, key=lambda each: (abs(each - factor), each)) > inputs:
            return False
    return True


@dataclass(frozen=True)
class _Wire:
    """A tensor of the network, and what some events give there."""

    tensor: Any
    sample: Any

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(int(side) for side in self.tensor.shape[1:])

    @property
    def changes(self) -> bool:
        sample = np.asarray(self.sample)
        return bool((sample != sample[:1]).any())

    @property
    def largest(self) -> float:
        """The 90th percentile of the magnitude."""
        return float(np.quantile(np.abs(np.asarray(self.sample)), 0.9))


class _Weaver:
    """Makes one network."""

    def __init__(self, random: np.random.Generator, seed: int) -> None:
        self.random, self.seed = random, seed
        self.said: list[str] = []
        self.count = 0

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def pick(self, *choices: Any, p: tuple[float, ...] | None = None) -> Any:
        return choices[int(self.random.choice(len(choices), p=p))]

    def number(self, low: int, high: int) -> int:
        """From `low` to `high`, both possible."""
        return int(self.random.integers(low, high + 1))

    def name(self, kind: str, text: str) -> str:
        self.count += 1
        self.said.append(f"{kind}{self.count}: {text}" if text else f"{kind}{self.count}")
        return f"{kind}{self.count}"

    def model(self) -> tuple[Any, bool]:
        """The network, and whether its output depends on its input."""
        from tensorflow import keras

        form = self.pick("vector", "image", "sequence", p=(0.4, 0.4, 0.2))
        shape: tuple[int, ...] = (self.number(1, 8),)
        if form == "image":
            shape = (self.number(3, 7), self.number(3, 7), self.number(1, 3))
        elif form == "sequence":
            shape = (self.number(4, 10), self.number(1, 3))
        self.said.append(f"input {'x'.join(map(str, shape))}")
        events = keras.Input(shape, name="events")
        bits = self.number(2, 12)
        integer = self.number(0, bits + 2) if self.chance(0.1) else self.number(0, min(bits - 1, 6))
        text = f"quantized_bits({bits},{integer},0,alpha=1)"
        sample = events_for(FixedPoint(bits, integer + 1), shape, 64, self.seed)
        x = self.quantize(_Wire(events, sample.astype(np.float32)), text, "port")
        if form != "vector":
            x = self.stack(x, self.number(1, 3))
            if self.chance(0.9):
                x = self.flat(x)
        if len(x.sides) == 1:
            x = self.dense_stack(x)
        last = self.pick(self.relu_text, self.bits_text)
        x = self.quantize(x, lambda: last(x, 1, 16), "score")
        return keras.Model(events, x.tensor, name=f"random{self.seed}"), x.changes

    def through(self, layer: Any, *wires: _Wire) -> _Wire:
        """What a layer without weights makes of tensors and of the events."""
        tensors, samples = [w.tensor for w in wires], [w.sample for w in wires]
        if len(wires) == 1:
            return _Wire(layer(tensors[0]), layer(samples[0]))
        return _Wire(layer(tensors), layer(samples))

    # Quantizers

    def integer(self, x: _Wire, bits: int, most: int) -> int:
        """Integer bits: most often what the values need or nearly so, now and then any number."""
        if self.chance(0.1):
            return self.number(0, bits + 3)
        need = int(np.ceil(np.log2(x.largest))) if x.largest > 0 else 0
        return max(0, min(most, need + self.number(-2, 1)))

    def bits_text(self, x: _Wire, low: int = 2, high: int = 12) -> str:
        bits = self.number(max(low, 2), high)
        symmetric = int(self.chance(0.03))
        return f"quantized_bits({bits},{self.integer(x, bits, bits - 2)},{symmetric},alpha=1)"

    def relu_text(self, x: _Wire, low: int = 1, high: int = 12) -> str:
        bits = self.number(low, high)
        bound = ",relu_upper_bound=1.5" if self.chance(0.05) else ""
        return f"quantized_relu({bits},{self.integer(x, bits, bits - 1)}{bound})"

    def activation_text(self, x: _Wire) -> str:
        return str(
            self.pick(
                lambda: self.relu_text(x),
                lambda: self.bits_text(x),
                lambda: f"quantized_tanh({self.number(2, 10)})",
                lambda: f"quantized_sigmoid({self.number(2, 10)})",
                p=(0.45, 0.31, 0.12, 0.12),
            )()
        )

    def lively(self, x: _Wire, text: Callable[[], str]) -> str:
        """A quantizer behind which something still changes, if a few tries find one."""
        from qkeras.quantizers import get_quantizer

        for _ in range(5):
            found = text()
            if not x.changes or _Wire(None, get_quantizer(found)(x.sample)).changes:
                break
        return found

    def quantize(
        self, x: _Wire, text: str | Callable[[], str] | None = None, name: str | None = None
    ) -> _Wire:
        from qkeras import QActivation

        if not isinstance(text, str):
            text = self.lively(x, text or (lambda: self.activation_text(x)))
        if name is None:
            name = self.name("act", text)
        else:
            self.said.append(f"{name}: {text}")
        return self.through(QActivation(text, name=name), x)

    def weight_text(self) -> str:
        bits = self.number(1, 12)
        integer = self.number(0, max(0, min(bits - 1, 3)))
        if self.chance(0.1):
            integer = self.number(0, bits + 2)
        return f"quantized_bits({bits},{integer},{int(self.chance(0.1))},alpha=1)"

    # Layers

    def affine(
        self, make: Callable[..., Any], kind: str, text: str, x: _Wire, *, last: bool = False
    ) -> _Wire:
        """A layer with weights, and its activation: inside of it or behind it."""
        kernel, bias = self.weight_text(), self.weight_text()
        use_bias, fill = self.chance(0.85), self.filling()
        which = "depthwise_quantizer" if kind == "depthwise" else "kernel_quantizer"
        parts = [text, kernel, f"bias {bias}" if use_bias else "no bias", fill]
        own = {"use_bias": use_bias, "bias_quantizer": bias if use_bias else None, which: kernel}
        trial = make(**own)
        trial(x.tensor)
        values = [self.filled(stored, fill, kernel, bias) for stored in trial.get_weights()]
        trial.set_weights(values)
        sums = _Wire(None, trial(x.sample))
        inside = None
        if not last and self.chance(0.4):
            inside = self.lively(sums, lambda: self.activation_text(sums))
            parts.append(f"activation {inside}")
        layer = make(name=self.name(kind, ", ".join(parts)), activation=inside, **own)
        tensor = layer(x.tensor)
        layer.set_weights(values)
        made = _Wire(tensor, layer(x.sample))
        return made if last or inside else self.quantize(made)

    def filling(self) -> str:
        return str(
            self.pick(
                "normal",
                "sparse",
                "saturated",
                "lowest",
                "empty filters",
                "zero",
                p=(0.45, 0.15, 0.15, 0.08, 0.15, 0.02),
            )
        )

    def filled(self, stored: NDArray[Any], fill: str, kernel: str, bias: str) -> NDArray[Any]:
        """Float32 weights, of which their quantizer makes what it will."""
        text = bias if stored.ndim == 1 else kernel
        top = 2.0 ** int(text.split(",")[1])
        new = self.random.normal(0, top * self.pick(0.1, 0.4, 1.0), stored.shape)
        if fill == "sparse":
            new *= self.random.random(stored.shape) < 0.25
        elif fill == "saturated":
            new = np.where(self.random.random(stored.shape) < 0.5, -1.3, 1.3) * top
        elif fill == "lowest":
            new = np.full(stored.shape, -top)
        elif fill == "empty filters":
            new *= self.random.random(stored.shape[-1]) < 0.5
        elif fill == "zero":
            new *= 0
        return new.astype(np.float32)

    def dense(self, x: _Wire, units: int, *, last: bool = False) -> _Wire:
        from qkeras import QDense

        def make(**own: Any) -> Any:
            return QDense(units, **own)

        return self.affine(make, "dense", f"{units} units", x, last=last)

    def conv(self, x: _Wire) -> _Wire:
        from qkeras import QConv1D, QConv2D, QDepthwiseConv2D

        *sides, _ = x.sides
        size = [self.number(1, min(3, side)) for side in sides]
        stride, filters = self.number(1, 2), self.number(1, 4)
        padding = self.pick("valid", "same")
        text = f"{'x'.join(map(str, size))}, stride {stride}, {padding}"
        options = {"strides": stride, "padding": padding}
        if len(sides) == 2 and self.chance(0.15):

            def make(**own: Any) -> Any:
                return QDepthwiseConv2D(size, **options, **own)

            return self.affine(make, "depthwise", text, x)

        def make(**own: Any) -> Any:
            if len(sides) == 1:
                return QConv1D(filters, size[0], **options, **own)
            return QConv2D(filters, size, **options, **own)

        return self.affine(make, "conv", f"{filters} filters of {text}", x)

    def pool(self, x: _Wire) -> _Wire:
        from tensorflow.keras import layers

        *sides, _ = x.sides
        kind = self.pick("Max", "Average")
        average = kind == "Average"  # exact where it divides by a power of two
        known = (1, 2, 4) if average else (1, 2, 3, 4)
        size = tuple(self.pick(*(n for n in known if n <= side)) for side in sides)
        strides = size if self.chance(0.8) else tuple(self.number(1, 2) for _ in sides)
        padding = "valid" if average else self.pick("valid", "same", p=(0.8, 0.2))
        text = f"{kind} {'x'.join(map(str, size))}, stride {'x'.join(map(str, strides))}, {padding}"
        name = self.name("pool", text)
        layer = getattr(layers, f"{kind}Pooling{len(sides)}D")
        if len(sides) == 1:
            size, strides = size[0], strides[0]
        return self.quantize(
            self.through(layer(size, strides=strides, padding=padding, name=name), x)
        )

    def whole_pool(self, x: _Wire) -> _Wire:
        from tensorflow.keras import layers

        *sides, _ = x.sides
        cells = int(np.prod(sides))
        operation = self.pick("Max", "Average") if cells & (cells - 1) == 0 else "Max"
        kind = f"Global{operation}Pooling{len(sides)}D"
        return self.quantize(self.through(getattr(layers, kind)(name=self.name("pool", kind)), x))

    def stack(self, x: _Wire, depth: int) -> _Wire:
        for _ in range(depth):
            x = self.pick(self.conv, self.pool, self.branches, p=(0.55, 0.33, 0.12))(x)
        return x

    def flat(self, x: _Wire) -> _Wire:
        from tensorflow.keras import layers

        if self.chance(0.2):
            return self.whole_pool(x)
        return self.through(layers.Flatten(name=self.name("flatten", "")), x)

    def dense_stack(self, x: _Wire) -> _Wire:
        for _ in range(self.number(0, 2)):
            x = (
                self.branches(x)
                if x.sides[0] <= 8 and self.chance(0.12)
                else self.dense(x, self.number(1, 6))
            )
        return self.dense(x, self.number(1, 4), last=True)

    def branches(self, x: _Wire) -> _Wire:
        """Two ways from one place, merged; one of them may be empty."""
        from tensorflow.keras import layers

        units = x.sides[-1]
        ways = [self.side(x, units), x if self.chance(0.3) else self.side(x, units)]
        if self.chance(0.5):
            ways.reverse()
        kind = self.pick("Add", "Subtract", "Concatenate", "Maximum", "Minimum")
        return self.quantize(
            self.through(getattr(layers, kind)(name=self.name("merge", kind)), *ways)
        )

    def side(self, x: _Wire, units: int) -> _Wire:
        from qkeras import QConv1D, QConv2D

        if len(x.sides) == 1:
            return self.dense(x, units)

        def make(**own: Any) -> Any:
            return (QConv1D if len(x.sides) == 2 else QConv2D)(units, 1, **own)

        return self.affine(make, "conv", f"{units} filters of 1", x)
