"""QKeras network to HLS project: hls4ml, exact by `granularity='name'` and `bit_exact=True`."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l1kd import __version__
from l1kd.core.config import IoType, Strategy
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import atomic_directory, check_replaceable, content_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import FirmwareRecord, LayerRecord
from l1kd.exact.layers import Conv, Quantize, Sum
from l1kd.exact.network import Network
from l1kd.firmware.certificate.cpp_reader import TAKEN
from l1kd.firmware.hls import canonical_cpp, project, testbench
from l1kd.firmware.hls.backends import Backend, backend_named
from l1kd.firmware.stimuli.test_vectors import choose
from l1kd.networks.inspect import model_hash, multiplications

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tensorflow import keras

logger = logging.getLogger("l1kd")

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
UNROLLED = 16_384  # multiplications up to which io_parallel unrolls convolutions
_WIDEST = 53  # bits of a port that a float64 holds
_STRATEGIES = {"latency": "Latency", "resource": "Resource"}  # hls4ml's spelling


def to_hls(
    model: keras.Model,
    directory: Path | str,
    *,
    backend: str = "Vitis",
    io_type: IoType = "io_parallel",
    strategy: Strategy = "latency",
    reuse: int = 1,
    part: str = "xcvu13p-flga2577-2-e",
    clock_ns: float = 5.0,
    name: str | None = None,
    unroll: bool | None = None,
    port: FixedPoint | None = None,
    vectors: NDArray[Any] | None = None,
    network: Network | None = None,
) -> project.Project:
    """Write the HLS project of a QKeras network, whole or not at all.

    Parameters
    ----------
    model
        A `quantized_bits` QActivation first, a QActivation last, layers that convert exactly.
    directory
        The project's; an existing one is replaced.
    backend
        `Vitis` or `Vivado`.
    io_type
        hls4ml's name of the ports: whole events at once, or streams.
    strategy
        hls4ml's name; it holds for dense layers and convolutions.
    reuse
        Uses of one multiplier per event.
    part
        The device.
    clock_ns
        Its clock period in nanoseconds.
    name
        The network's, by default `model.name`; the top function is `l1kd_<name>`.
    unroll
        For io_parallel: compute a convolution at all positions at once, so that an event enters
        every `reuse` clock cycles, or (hls4ml's default) at one position per cycle. By default
        networks of at most 16,384 multiplications are unrolled.
    port
        The type of the events, where it is narrower than the network's first layer says (QKeras
        has no unsigned type): each of its values is one of that layer's.
    vectors
        Events (N, *shape) for the test bench; by default corner inputs of the network.
    network
        The exact network, if `l1kd.read` has read the model already.

    Returns
    -------
    Project
        The written project.

    Raises
    ------
    UserError
        If an argument is wrong, or hls4ml cannot convert the network.
    CheckFailed
        If the lint refuses the network, or it is beyond a limit of the vendor tools.
    """
    directory, name = Path(directory), name or model.name
    check_replaceable(directory)
    target = backend_named(backend)
    _check_arguments(target, io_type, strategy, part, reuse, clock_ns)
    check_size(model, target, io_type, strategy)
    from l1kd.networks.lint.check import demand
    from l1kd.networks.to_exact import read

    if network is None or io_type == "io_stream":  # it has rules of its own
        demand(model, io_type=io_type)
    exact = network or read(model)
    own, (result,) = exact.port, exact.output_types
    if port and (port.fraction > own.fraction or port.low < own.low or port.high > own.high):
        raise UserError(
            f"{name}: the stated input port {port.text} has values that the network's own, "
            f"{own.text}, does not have; state a part of it, or train with a wider one"
        )
    if max(own.word, result.word) > _WIDEST:
        raise UserError(f"{name}: ports wider than {_WIDEST} bits cannot be simulated")
    if vectors is not None and not len(vectors):
        raise UserError(f"{name}: a test bench needs at least one event in its vectors")
    port, stated = port or own, port
    exact = exact.at_port(port)
    if unroll is None:
        unroll = sum(multiplications(layer) or 0 for layer in model.layers) <= UNROLLED
    unroll = unroll and io_type == "io_parallel"
    top, digest = "l1kd_" + re.sub(r"\W", "_", name, flags=re.ASCII), model_hash(model)
    versions = {"l1kd": __version__, "hls4ml": metadata.version("hls4ml")}
    options = [backend, io_type, strategy, reuse, part, clock_ns, unroll, port.text]
    # Two versions of hls4ml write two programs, so theirs is part of the name; ours is not.
    namespace = f"{top}_v{content_hash([digest, versions['hls4ml'], options])[:8]}"
    model, given = _renamed(model)
    with atomic_directory(directory) as written:
        with _hls4ml(name):
            import hls4ml

            config = _configuration(model, target, strategy, reuse, unroll, own, stated)
            graph = hls4ml.converters.convert_from_keras_model(
                model,
                hls_config=config,
                bit_exact=True,
                io_type=io_type,
                output_dir=str(written),
                project_name=top,
                namespace=namespace,
                **target.hls4ml_options(part, clock_ns),
            )
            graph.config.trace_output = True  # without it no layer is shown, `Trace` or not
            graph.config.config.pop("KerasModel")  # would be saved into the project, by its path
            graph.write()
        (source,), (sink,) = graph.get_input_variables(), graph.get_output_variables()
        if not isinstance(exact[exact.outputs[0]], Quantize):
            # Sums that are not quantized: hls4ml's own type of them, if it holds them all.
            found = FixedPoint.parse(_text(sink.type.precision))
            result = replace(found, rounding="RND_CONV", overflow="SAT")
        _check_ports(name, port, source, result, sink)
        canonical_cpp.write(written, top, namespace)
        target.rewrite(written)
        record = FirmwareRecord(
            student=name,
            backend=backend,
            io_type=io_type,
            strategy=strategy,
            reuse=reuse,
            part=part,
            clock_ns=clock_ns,
            directory=".",
            top=top,
            input_type=_text(source.type.precision),
            output_type=_text(sink.type.precision),
            layers=[_layer(layer, model, given) for layer in graph.get_layers()],
        )
        description = project.Description(
            versions=versions,
            model=digest,
            namespace=namespace,
            record=record,
            unrolled=unroll,
            # Elsewhere the design leaves a choice.
            interval_cycles=1 if reuse == 1 and graph.config.pipeline_style == "pipeline" else None,
            input=project.Port(shape=tuple(model.input_shape[1:]), type=record.input_type),
            output=project.Port(shape=tuple(model.output_shape[1:]), type=record.output_type),
            layers=tuple(_traced(graph, model, given)),
            arrays={
                variable.name: _original(layer.name, given)
                for layer in graph.get_layers()
                if layer.get_attr("function_cpp")
                for variable in layer.get_variables()
            },
        )
        project.save(written, description)
        events = choose(exact) if vectors is None else vectors
        counts = project.counts_of(events, description.input, name)
        expected = exact.predict(counts * port.lsb)
        exact.save(written / project.NETWORK)
        testbench.write(written, description, (source.type.name, sink.type.name))
        testbench.write_vectors(written, counts, result.integers(expected))
    return project.Project(directory, description)


def _check_arguments(
    backend: Backend, io_type: str, strategy: str, part: str, reuse: int, clock_ns: float
) -> None:
    """Raise UserError for an unknown name, a number that is not positive, or no part's name."""
    for what, value, known in (
        ("io_type", io_type, backend.io_types),
        ("strategy", strategy, backend.strategies),
    ):
        if value not in known:
            raise UserError(f"{backend.name} has no {what} {value!r}, but {', '.join(known)}")
    if reuse < 1 or not clock_ns > 0:
        raise UserError(f"reuse ({reuse}) and clock_ns ({clock_ns}) are positive")
    if not _PART.fullmatch(part):
        raise UserError(f"{part!r} is no name of a device; an example is xcvu13p-flga2577-2-e")


def check_size(model: keras.Model, backend: Backend, io_type: str, strategy: str) -> None:
    """Raise CheckFailed for a layer that hls4ml has no code for, or the vendor's tool refuses."""
    for layer in model.layers:
        kind = type(layer).__name__
        depthwise = kind == "QDepthwiseConv2D" or "QSeparable" in kind
        if depthwise and (io_type, strategy) == ("io_parallel", "resource"):
            raise CheckFailed(
                f"{model.name}: layer {layer.name!r} has a depthwise convolution, which has no "
                "resource strategy with io_parallel in hls4ml; use io_stream, or "
                "`strategy: latency`"
            )
        if kind == "AxisSum":
            if io_type == "io_stream" and _as_convolution(layer).kernel.size >= backend.partition:
                raise CheckFailed(
                    f"{model.name}: layer {layer.name!r} sums too many values of too many channels "
                    "for io_stream; sum over fewer axes at a time, or use io_parallel"
                )
            continue
        if (io_type, strategy) != ("io_stream", "latency") or "Conv" not in kind:
            continue
        weights = math.prod(layer.kernel.shape) if getattr(layer, "kernel", None) is not None else 0
        if weights >= backend.partition:
            raise CheckFailed(
                f"{model.name}: layer {layer.name!r} has {weights} weights; a convolution with "
                f"io_stream and the latency strategy has to stay below {backend.partition}: use "
                "fewer filters, or `strategy: resource`"
            )


def _as_convolution(layer: Any) -> Conv:
    """The convolution of ones that an AxisSum is."""
    axes = tuple(axis - 1 for axis in layer.axes)
    summed = Sum(name=layer.name, sources=(), shape=tuple(layer.output_shape[1:]), axes=axes)
    return summed.convolution(tuple(layer.input_shape[1:]))


def _parse_sum(layer: Any, names: Any, shapes: Any, reader: Any) -> Any:
    """hls4ml's description of an AxisSum, which it has no layer for."""
    from hls4ml.converters.keras import convolution

    class Ones:
        """In place of the reader of a Keras model's weights."""

        def get_weights_data(self, name: str, part: str) -> Any:
            return kernel if part == "kernel" else None

    kernel = _as_convolution(reader.model.get_layer(layer["config"]["name"])).kernel
    rank = len(shapes[0]) - 2
    kernel = kernel if rank == 2 else kernel[0]
    parse = convolution.parse_conv2d_layer if rank == 2 else convolution.parse_conv1d_layer
    config = {
        "name": layer["config"]["name"],
        "filters": kernel.shape[-1],
        "kernel_size": kernel.shape[:rank],
        "strides": (1,) * rank,
        "padding": "valid",
        "use_bias": False,
    }
    return parse({"class_name": f"Conv{rank}D", "config": config}, names, shapes, Ones())


def reuse_for(layer: Any, reuse: int) -> int:
    """The largest reuse factor up to `reuse` that hls4ml's resource strategy has code for."""
    # hls4ml 1.3.0 does not correct the factor of a convolution whose kernel is one cell, and may
    # choose one above a window's inputs: such a project aborts, or reads beyond its weights.
    if "Conv" not in type(layer).__name__ or getattr(layer, "kernel", None) is None:
        return reuse
    *window, outputs = (int(side) for side in layer.kernel.shape)
    inputs = math.prod(window)
    return max(
        factor for factor in range(1, min(reuse, inputs) + 1) if reusable(inputs, outputs, factor)
    )


def reusable(inputs: int, outputs: int, factor: int) -> bool:
    """True if hls4ml's resource strategy has code for this matrix and reuse factor."""
    if inputs * outputs % factor:
        return False
    if factor >= inputs:
        return factor % inputs == 0
    return (inputs * outputs // factor) % outputs == 0


# Parts of names that hls4ml makes of a layer's: two layers `a` and `a_bias` have one type's name.
_PARTS = "accum|bias|index|linear|param|result|shift|slope|table|weight"
# Words whose types, `<word>_t`, or whose ports are C++'s, the library's or hls4ml's own; and parts
# by which hls4ml finds a layer's weights, wherever in a variable's name they stand.
_WORDS = re.compile(
    rf"{_PARTS}|{TAKEN.pattern}|input|model_default|layer\d*|[wb]\d+|.*(?:kernel|bias).*|u?int\w*|"
    r"s?size|ptrdiff|max_align|time|clock|l?l?div|imaxdiv|f?pos|off|pid|mbstate|locale",
    re.ASCII,
)


def _renamed(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """The model with names that can be C++'s, and the given names by the new ones."""
    names = [layer.name for layer in model.layers]
    parts = {f"{name}_{part}" for name in names for part in _PARTS.split("|")}
    bad = [name for name in names if name in parts or _WORDS.fullmatch(name)]
    if not bad:
        return model, {}
    from l1kd.networks.load import Graph

    free = (name for name in map("own{}".format, itertools.count(1)) if name not in names)
    graph, new = Graph.of(model), dict(zip(bad, free, strict=False))
    graph.rename(new)
    return graph.build(), {ours: name for name, ours in new.items()}


def _original(name: str, given: dict[str, str]) -> str:
    """The name of a layer of the written code, as it was given."""
    for ours, theirs in given.items():
        if name == ours or name.startswith(f"{ours}_"):
            return theirs + name.removeprefix(ours)
    return name


def _configuration(
    model: keras.Model,
    backend: Backend,
    strategy: str,
    reuse: int,
    unroll: bool,
    own: FixedPoint,
    port: FixedPoint | None,
) -> dict[str, Any]:
    """hls4ml's configuration of the network; `own` is its input type, `port` the stated one."""
    adders = strategy == "distributed_arithmetic"
    if adders and find_spec("da4ml") is None:
        raise UserError("the strategy distributed_arithmetic needs da4ml; pip install 'l1kd[da]'")
    import hls4ml
    from hls4ml.converters.keras_v2_to_hls import layer_handlers

    layer_handlers["AxisSum"] = _parse_sum
    config: dict[str, Any] = hls4ml.utils.config_from_keras_model(
        model, granularity="name", backend=backend.writer, default_reuse_factor=reuse
    )
    # Set on an activation, distributed_arithmetic raises; the network's own is a real strategy.
    config["Model"]["Strategy"] = _STRATEGIES["latency" if adders else strategy]
    if port is None and adders and not own.fraction:
        # hls4ml's distributed arithmetic refuses `ap_int`; these are the same values.
        port = own
    if port is not None:
        # All that follows is derived from this type; a port on the layer's grid needs no mode.
        config["LayerName"][model.layers[1].name]["Precision"]["result"] = (
            f"{'' if port.signed else 'u'}fixed<{port.word},{port.integer},RND_CONV,SAT,0>"
        )
    for layer in model.layers:
        settings = config["LayerName"].get(layer.name)
        if settings is None:
            continue
        for name, other in config["LayerName"].items():
            if name == layer.name or name.startswith(f"{layer.name}_"):
                other["Trace"] = True
        summed = type(layer).__name__ == "AxisSum"
        if multiplications(layer) is None and not summed:
            continue
        # The strategy in which ones are no multipliers, whatever that of other layers.
        own_strategy = "latency" if summed else strategy
        settings["Strategy"] = _STRATEGIES.get(own_strategy, own_strategy)
        settings["ReuseFactor"] = reuse_for(layer, reuse) if strategy == "resource" else reuse
        # Of a sequence hls4ml computes sums over channels as one matrix, which is not argued for.
        if summed and (len(layer.output_shape), layer.axes) == (3, [2]):
            continue
        if unroll and ("Conv" in type(layer).__name__ or summed):
            settings["ParallelizationFactor"] = math.prod(map(int, layer.output_shape[1:-1]))
    return config


@contextlib.contextmanager
def _hls4ml(name: str) -> Iterator[None]:
    """Send hls4ml's output to the log, and turn its errors into one line."""
    said = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("ignore")
            yield
    except (UserError, OSError):  # OSError: a full disk is not the network's fault
        raise
    except Exception as error:
        raise UserError(
            f"hls4ml cannot convert {name}: {type(error).__name__}: {error}; use QDense, QConv2D, "
            "pooling, Flatten and QActivation as in l1kd's own students"
        ) from error
    finally:
        for line in said.getvalue().splitlines():
            logger.debug("hls4ml: %s", line)


def _check_ports(name: str, port: FixedPoint, source: Any, result: FixedPoint, sink: Any) -> None:
    """Raise UserError if hls4ml's ports have other bits than the network's."""
    for what, wanted, variable in (("input", port, source), ("output", result, sink)):
        given = FixedPoint.parse(_text(variable.type.precision))
        if (given.bounds, given.fraction) != (wanted.bounds, wanted.fraction):
            raise UserError(
                f"{name}: hls4ml makes the {what} port {given.text}, the network says "
                f"{wanted.text}; use quantizers as in l1kd's own students"
            )


def _text(precision: Any) -> str:
    return FixedPoint.parse(str(precision)).text


def _layer(layer: Any, model: keras.Model, given: dict[str, str]) -> LayerRecord:
    def kind_of(attribute: str) -> str | None:
        named = layer.get_attr(attribute)
        return None if named is None else _text(named.precision)

    weights = layer.weights.get("weight")
    names = {own.name: own for own in model.layers}
    return LayerRecord(
        name=_original(layer.name, given),
        kind=layer.class_name,
        shape=[int(side) for side in layer.get_output_variable().shape],
        weights=None if weights is None else int(weights.data.size),
        zeros=None if weights is None else int((weights.data == 0).sum()),
        multiplications=multiplications(names[layer.name]) if layer.name in names else None,
        weight_type=kind_of("weight_t"),
        bias_type=kind_of("bias_t"),
        accumulator_type=kind_of("accum_t"),
        result_type=_text(layer.get_output_variable().type.precision),
    )


def _traced(graph: Any, model: keras.Model, given: dict[str, str]) -> Iterator[project.Traced]:
    """The layers that the C simulation can trace, each with the Keras layer of equal output."""
    own = {layer.name: layer for layer in model.layers}
    for layer in graph.get_layers():
        if not layer.get_attr("function_cpp") or not layer.get_attr("trace"):
            continue
        variable = layer.get_output_variable()
        yield project.Traced(
            name=_original(layer.name, given),
            keras=_original(_keras_name(layer.name, own), given),
            shape=tuple(int(side) for side in variable.shape),
            type=_text(variable.type.precision),
        )


def _keras_name(name: str, own: dict[str, Any]) -> str:
    """The Keras layer with the output of a layer of the written code; empty if there is none."""
    fused = {key for key, layer in own.items() if _has_activation(layer)}
    if name in own:
        return "" if name in fused else name
    owner = next((key for key in own if name.startswith(f"{key}_")), None)
    if owner is None or owner in fused:
        # A layer with an activation of its own becomes two: the second has its output.
        return owner or ""
    # A linear quantizer is folded into the layer before it, as `<layer>_linear`.
    after = [node.outbound_layer for node in own[owner].outbound_nodes]
    return after[0].name if [type(layer).__name__ for layer in after] == ["QActivation"] else ""


def _has_activation(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    if multiplications(layer) is None or activation is None:
        return False
    return str(getattr(activation, "__name__", activation)) != "linear"
