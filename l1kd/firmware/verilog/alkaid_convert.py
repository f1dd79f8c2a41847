"""A network as pipelined Verilog without a multiplier, by alkaid: what open tools can judge.

Value i of an event lies at bits [i * word +: word] of a port; one event may enter per cycle.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd import __version__
from l1kd.core.errors import UserError
from l1kd.core.files import atomic_directory, check_replaceable, content_hash, write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import LayerCost, RtlRecord
from l1kd.exact.network import Network
from l1kd.firmware.hls.project import FILE, NETWORK, Port, counts_of
from l1kd.firmware.stimuli import corner_inputs
from l1kd.firmware.verilog import lut_ff_estimate
from l1kd.firmware.verilog.port_wrapper import texts, wrapper_text
from l1kd.firmware.verilog.project import FORMAT, MODEL, Description, Logic
from l1kd.firmware.verilog.trace_layers import UnfitError, draw, expected_lut
from l1kd.networks import inspect

if TYPE_CHECKING:
    from tensorflow import keras

MAX_LUT = 1.5e6  # the largest network that is drawn: most of a VU13P
_VECTORS = 500  # of the test bench, at most: simulators are slow
_PLAIN = 64  # where none are given
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Words = NDArray[np.int64]  # of a port, (N, values)


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a network's logic, before synthesis."""

    lut: float  # expected of Yosys, as `ff`: see `lut_ff_estimate`
    ff: float
    latency_cycles: int  # clock edges from sampling to result
    interval_cycles: int  # between two events
    # Longest path between registers by alkaid's delays: no timing is closed.
    estimated_clock_ns: float
    layers: list[LayerCost]  # shares of the LUTs


def estimate(network: Network, *, clock_ns: float = 5.0, max_lut: float = MAX_LUT) -> Estimate:
    """Estimate the cost of a network as logic; UserError if it is too large or cannot be drawn."""
    return _optimised(network, clock_ns, max_lut)[1]


def to_verilog(
    model: keras.Model | Network,
    directory: Path | str,
    *,
    clock_ns: float = 5.0,
    part: str = "xcvu13p-flga2577-2-e",
    max_lut: float = MAX_LUT,
    name: str | None = None,
    port: FixedPoint | None = None,
    vectors: ArrayLike | None = None,
    advance: Callable[[int], None] = lambda steps: None,
    model_hash: str = "",
) -> Logic:
    """Write the Verilog project of a network, whole or not at all.

    Parameters
    ----------
    model
        A QKeras network that the lint lets through, or an exact network.
    directory
        Where; an existing project is replaced, nothing else is.
    clock_ns
        The clock period in nanoseconds that the logic is cut for, by alkaid's estimate of delays:
        no timing is closed.
    part
        The device, for constraints and scripts.
    max_lut
        Networks above this estimate are refused before they are drawn.
    name
        The network's; default its own. Every module's name begins with `l1kd_<name>_v` and 8 digits
        of a hash of network and clock.
    port
        The type that events come in, where it is narrower than the network's first layer says.
    vectors
        Events (N, *shape) for the test bench, of which 500 or fewer are taken evenly; by default 64
        plain ones: constants, single inputs, random ones.
    advance
        Called with 1 for every layer that is drawn.
    model_hash
        Of the Keras model that an exact network is of.

    Returns
    -------
    Logic
        The written project.

    Raises
    ------
    UserError
        If the network is too large, or has something that the logic cannot compute.
    CheckFailed
        If the lint refuses the network.
    """
    directory = Path(directory)
    check_replaceable(directory)
    network = model
    if not isinstance(network, Network):
        from l1kd.networks.to_exact import read

        network, model_hash = read(model), inspect.model_hash(model)
    if port is not None:
        network = network.at_port(port)
    (result, *others) = network.output_types
    if any(other.text != result.text for other in others):
        raise UserError(f"{network.name}: outputs of several types are not written as Verilog")
    if not PART.fullmatch(part):
        raise UserError(f"{part!r} is no name of a device; an example is xcvu13p-flga2577-2-e")
    name, clock_ns = name or network.name, float(clock_ns)
    versions = {"l1kd": __version__, "alkaid": metadata.version("alkaid")}
    top = top_name(network, name, clock_ns, versions["alkaid"])
    with atomic_directory(directory) as written:
        built, expected = _optimised(network, clock_ns, max_lut, advance, written, top, part)
        outputs = sum(network[output].size for output in network.outputs)
        record = RtlRecord(
            student=name,
            directory=".",
            top=top,
            part=part,
            clock_ns=clock_ns,
            input_type=network.port.text,
            output_type=result.text,
            **vars(expected),
        )
        description = Description(
            versions=versions,
            model=model_hash,
            record=record,
            input=Port(shape=network.shape, type=network.port.text),
            output=Port(shape=(outputs,), type=result.text),
        )
        if vectors is None:
            random = np.random.default_rng(0)
            inputs = corner_inputs.plain(network.port, network.shape, random, _PLAIN)
        elif len(events := np.asarray(vectors)):
            inputs = counts_of(events[:: -(-len(events) // _VECTORS)], description.input, name)
        else:
            raise UserError(f"{name}: a test bench needs at least one event in its vectors")
        _write(built, Logic(written, description), network, inputs)
        network.save(written / NETWORK)
        write_json(written / FILE, description.model_dump(mode="json"))
    return Logic(directory, description)


def top_name(network: Network, name: str, clock_ns: float, alkaid: str) -> str:
    """The name of the top module, with which all others begin: the version of a student."""
    digits = content_hash([FORMAT, alkaid, network.to_json(), clock_ns])[:8]
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"l1kd_{plain}_v{digits}"


def _optimised(
    network: Network,
    clock_ns: float,
    max_lut: float,
    advance: Callable[[int], None] = lambda steps: None,
    path: Path = Path("unwritten"),
    top: str = "top",
    part: str = "",
) -> tuple[Any, Estimate]:
    """alkaid's model of a network's logic, cut into pipeline stages, and its expected cost."""
    rough = expected_lut(network)
    if rough > max_lut:
        raise UserError(
            f"{network.name}: about {rough:,.0f} LUTs as fully parallel logic, and at most "
            f"{max_lut:,.0f} are drawn (rtl.max_lut); use its io_stream HLS project, fewer or "
            "narrower weights, or rtl.students: none"
        )
    from alkaid.codegen import RTLModel
    from alkaid.trace import trace
    from alkaid.trace.passes import optimize

    try:
        inputs, outputs, costs = draw(network, advance)
    except UnfitError as error:
        raise UserError(f"{network.name} cannot be written as Verilog: {error}") from error
    # alkaid's own choice of passes retraces too: that saves nothing here, and gets clamps wrong
    # (three of 300 random networks differed after it, none before).
    model = RTLModel(
        optimize(trace(inputs, outputs, optimize=False), retrace=False),
        path,
        top,
        latency_cutoff=clock_ns,
        print_latency=False,
        part_name=part,
        clock_period=clock_ns,
    )
    cycles, lut = int(model.latency), lut_ff_estimate.LUT_PER_COST * float(model._comb.cost)
    scale = lut / (sum(costs.values()) or 1.0)
    return model, Estimate(
        lut=lut,
        ff=lut_ff_estimate.FF_PER_REGISTER * float(model.reg_bits),
        latency_cycles=cycles,
        interval_cycles=1,
        estimated_clock_ns=round(model._comb.latency[1] / max(cycles, 1), 3),
        layers=[LayerCost(name=name, lut=round(cost * scale, 1)) for name, cost in costs.items()],
    )


def _write(model: Any, logic: Logic, network: Network, inputs: Words) -> None:
    """Write the files of a project, with ports that follow from the types alone."""
    model.write()
    directory, top = logic.directory, logic.record.top
    sources = directory / "src"
    helpers = sorted((sources / "static").glob("*.v"))
    # Two networks in one design: no module has a general name.
    for path in helpers:
        text = path.read_text(encoding="utf-8")
        text = text.replace(f"module {path.stem} #(", f"module {top}_{path.stem} #(", 1)
        path.with_name(f"{top}_{path.name}").write_text(text, encoding="utf-8")
        path.unlink()
    general = re.compile(rf"\b({'|'.join(path.stem for path in helpers)})(?= #\()")
    for path in sorted(sources.glob("logic*.v")):
        text = re.sub(r"\b(logic\d+)\b", rf"{top}_\1", path.read_text(encoding="utf-8"), count=1)
        text = general.sub(rf"{top}_\1", text)
        (sources / f"{top}_{path.name}").write_text(text, encoding="utf-8")
        path.unlink()
    core = (sources / f"{top}.v").read_text(encoding="utf-8")
    core = re.sub(r"^(\s+)(logic\d+) _inst_", rf"\1{top}_\2 _inst_", core, flags=re.MULTILINE)
    core = core.replace(f"module {top} (", f"module {top}_core (", 1)
    (sources / f"{top}_core.v").write_text(core, encoding="utf-8")
    program = model._comb
    kifs = program.inp_kifs.T.tolist(), program.out_kifs.T.tolist()
    (sources / f"{top}.v").write_text(wrapper_text(logic.outside, *kifs), encoding="utf-8")
    left = [f"src/{top}_wrapper.v", f"src/{top}.xdc", f"src/{top}.sdc", "metadata.json"]
    for name in (*left, "build_vivado_prj.tcl", "build_quartus_prj.tcl", "model/fsm.json.gz"):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / "sim", ignore_errors=True)
    # Compressed again without the time: two writings are equal.
    interpreted = directory / MODEL
    interpreted.write_bytes(gzip.compress(gzip.decompress(interpreted.read_bytes()), mtime=0))
    outputs = logic.output_type.integers(network.predict(inputs * network.port.lsb))
    (directory / "test").mkdir()
    for name, text in texts(logic.outside, logic.record, inputs, outputs).items():
        (directory / name).write_text(text, encoding="utf-8")


def rewritten(logic: Logic, network: Network, inputs: Words) -> dict[str, bytes]:
    """The files, by path, that are written of the program that a project has for its interpreter.

    Raises whatever alkaid does if the program is none.
    """
    from alkaid.codegen import RTLModel
    from alkaid.types import CombLogic

    record = logic.record
    with TemporaryDirectory(prefix="l1kd-certify-") as work:
        model = RTLModel(
            CombLogic.load(logic.directory / MODEL),
            work,
            record.top,
            latency_cutoff=record.clock_ns,
            print_latency=False,
            part_name=record.part,
            clock_period=record.clock_ns,
            ternary_fuse=False,  # it was before
        )
        _write(model, Logic(Path(work), logic.description), network, inputs)
        files = (path for path in Path(work).rglob("*") if path.is_file())
        return {path.relative_to(work).as_posix(): path.read_bytes() for path in files}
