"""The HLS backends of hls4ml, one object each: limits, options, scripts, vendor's tool, reports."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from l1kd.core import config
from l1kd.core.config import IoType, Strategy
from l1kd.core.errors import UserError
from l1kd.core.processes import Program
from l1kd.firmware.vendor_tools import tool_reports
from l1kd.firmware.vendor_tools.tool_reports import Folder, Reports

LOG = "L1KD_LOG"  # defined for the test bench alone, by the vendors' scripts
Step = Literal["csim", "csynth", "cosim", "vsynth"]
STEPS: tuple[Step, ...] = get_args(Step)
# The files that a step leaves, by their keys in `Backend.reports`; the first says that it is done.
LEFT_BY: dict[Step, tuple[str, ...]] = {
    "csim": ("csim_results",),
    "csynth": ("csynth", "layers"),
    "cosim": ("cosim", "cosim_results"),
    "vsynth": ("vsynth",),
}

# hls4ml's scripts for AMD's tools: their options in hls4ml's order, and the step that sets each. Of
# Vivado's text the script takes the first that ends in a name: `synth` has to stand before
# `vsynth`. `validation` compares the logs of both simulations; our test bench compares with the
# network itself.
_SWITCHES: dict[str, Step | None] = {
    "reset": None,
    "csim": "csim",
    "synth": "csynth",
    "cosim": "cosim",
    "validation": None,
    "export": None,
    "vsynth": "vsynth",
    "fifo_opt": None,
}
_SOLUTION = "{top}_prj/solution1"
# The test bench leaves its log in the project, or in a copy of `tb_data`. The first of `timing` is
# where hls4ml's accelerator flow leaves it.
_REPORTS = {
    "csynth": (f"{_SOLUTION}/syn/report/{{top}}_csynth.xml",),
    "layers": (f"{_SOLUTION}/syn/report/{{top}}_csynth.rpt",),
    "vsynth": ("vivado_synth.rpt",),
    "cosim": (f"{_SOLUTION}/sim/report/{{top}}_cosim.rpt",),
    "transactions": tuple(
        f"{_SOLUTION}/sim/{rtl}/{{top}}.performance.result.transaction.xml"
        for rtl in ("verilog", "vhdl")
    ),
    "implementation": ("util.rpt",),
    "timing": (
        "timing.rpt",
        "{start}_vivado_accelerator/project_1.runs/impl_1/"
        "design_1_wrapper_timing_summary_routed.rpt",
    ),
    "csim_results": (
        "tb_data/csim_results.log",
        f"{_SOLUTION}/csim/build/tb_data/csim_results.log",
    ),
    "cosim_results": (
        "tb_data/rtl_cosim_results.log",
        f"{_SOLUTION}/sim/wrapc_pc/tb_data/rtl_cosim_results.log",
    ),
}


@dataclass(frozen=True)
class ToolProgram:
    """A vendor's program and the arguments that make it run a project's script."""

    name: str
    version: str  # as people say it
    arguments: tuple[str, ...]

    @property
    def typed(self) -> str:
        """The command as a person types it in the project's directory."""
        return shlex.join([self.name, *self.arguments])


@dataclass(frozen=True)
class Backend:
    """An HLS backend whose projects AMD's tools build from hls4ml's scripts."""

    name: config.Backend
    writer: str  # hls4ml's backend that writes its projects
    suite: str  # the vendor's name of the tool
    programs: tuple[ToolProgram, ...]  # the newest first
    window: str  # the program that opens a built project
    options_file: str | None  # the file with the script's options; None: they are an argument
    options_place: str  # for people
    clock_uncertainty: str  # hls4ml's
    io_types: tuple[IoType, ...] = get_args(IoType)
    strategies: tuple[Strategy, ...] = get_args(Strategy)
    # Elements from which the tool does not partition an array; io_stream's latency convolutions
    # need that.
    partition: int = 4096
    scripts: tuple[str, ...] = ("project.tcl", "build_prj.tcl", "vivado_synth.tcl")
    reports: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _REPORTS)
    reader: Callable[..., Reports] = tool_reports.read
    netlist_tool: str = "vivado"  # has to be beside the program for `vsynth`

    @property
    def tool(self) -> str:
        """The tool's name on the command line."""
        return self.name.lower()

    def hls4ml_options(self, part: str, clock_ns: float) -> dict[str, Any]:
        """Options of hls4ml's conversion beside the network's."""
        return {
            "backend": self.writer,
            "part": part,
            "clock_period": clock_ns if clock_ns % 1 else int(clock_ns),
            "write_weights_txt": False,  # the C simulation reads the weights that synthesis reads
        }

    def rewrite(self, directory: Path) -> None:
        """Let a written project's test bench log its outputs, which the scripts compare."""
        path, bench = directory / "build_prj.tcl", '_test.cpp -cflags "-std=c++0x'
        path.write_bytes(path.read_bytes().replace(bench.encode(), f"{bench} -D{LOG}".encode()))

    def find(self, steps: Sequence[Step]) -> ToolProgram | None:
        """The first program on the PATH; UserError if `vsynth` is asked for without its tool."""
        found = Program(tuple(program.name for program in self.programs), "").find()
        if found is None:
            return None
        if "vsynth" in steps and Program((self.netlist_tool,), "").find() is None:
            raise UserError(
                f"{found[0]} is on the PATH and {self.netlist_tool} is not, which vsynth needs; "
                f"source {self.netlist_tool.capitalize()}'s settings64.sh too, or leave vsynth out "
                "of --steps"
            )
        return next(program for program in self.programs if program.name == found[0])

    def arguments(self, program: ToolProgram, steps: Sequence[Step]) -> list[str]:
        """The program's arguments that run these steps; `options` has to be in its file, if any."""
        if self.options_file:
            return [*program.arguments]
        return [*program.arguments, " ".join(f"{k}={v}" for k, v in _switches(steps).items())]

    def options(self, steps: Sequence[Step]) -> str:
        """The text of the options file that asks for these steps."""
        text = " ".join(f"{name} {value}" for name, value in _switches(steps).items())
        return f"array set opt {{{text}}}\n"

    def typed(self, directory: str, steps: Sequence[Step]) -> list[str]:
        """Lines that a person types to run steps of a project, with any one of the programs."""
        lines = [f"cd {shlex.quote(directory)}"]
        if self.options_file:
            lines.append(f"echo {shlex.quote(self.options(steps).strip())} > {self.options_file}")
        for program in self.programs:
            call = shlex.join([program.name, *self.arguments(program, steps)])
            lines.append(f"{call}   # {program.version}")
        return lines

    def commands(self, directory: str, top: str) -> list[tuple[str, str]]:
        """Commands for the report's page, each after its purpose."""
        enter = f"cd {shlex.quote(directory)}\n"
        return [
            *(
                (
                    f"C synthesis, {program.version}",
                    enter + shlex.join([program.name, *self.arguments(program, ["csynth"])]),
                )
                for program in self.programs
            ),
            (f"open in {self.suite}", f"{enter}{self.window} -p {top}_prj"),
        ]

    def report_files(self, top: str) -> dict[str, tuple[str, ...]]:
        """Paths of the tool's reports in a project's directory; of each kind the first counts."""
        names = {"top": top, "start": top.split("_")[0]}
        return {
            key: tuple(path.format(**names) for path in paths)
            for key, paths in self.reports.items()
        }

    def read(self, folder: Folder, top: str, expected: NDArray[np.int64] | None = None) -> Reports:
        """The reports in a project's directory; `expected` (N, outputs) in LSBs of the output."""
        return self.reader(folder, self.report_files(top), expected)

    def rtl(self, top: str) -> str:
        """The directory in a project's that the C synthesis writes Verilog to."""
        return _SOLUTION.format(top=top) + "/syn/verilog"


VITIS = Backend(
    name="Vitis",
    writer="Vitis",
    suite="Vitis HLS",
    programs=(
        ToolProgram(
            "vitis-run", "Vitis 2023 and newer", ("--mode", "hls", "--tcl", "build_prj.tcl")
        ),
        ToolProgram("vitis_hls", "Vitis HLS before 2023", ("-f", "build_prj.tcl")),
    ),
    window="vitis_hls",
    options_file="build_opt.tcl",
    options_place="`build_opt.tcl`",
    clock_uncertainty="27%",
)
VIVADO = Backend(
    name="Vivado",
    writer="Vivado",
    suite="Vivado HLS",
    programs=(ToolProgram("vivado_hls", "Vivado HLS", ("-f", "build_prj.tcl")),),
    window="vivado_hls",
    options_file=None,
    options_place="the first lines of `build_prj.tcl`",
    clock_uncertainty="12.5%",
)
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (VITIS, VIVADO)}


def backend_named(name: str) -> Backend:
    """The backend of a name."""
    if name not in BACKENDS:
        raise UserError(f"no backend is named {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name]


def parse_steps(text: str) -> list[Step]:
    """Steps by their names, joined by commas, in the tools' order."""
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - set(STEPS)):
        raise UserError(
            f"--steps: there is no step {unknown[0]!r}; the steps are {', '.join(STEPS)}, joined "
            "by commas"
        )
    return [step for step in STEPS if step in names]


def _switches(steps: Sequence[Step]) -> dict[str, int]:
    return {name: int(step in steps) for name, step in _SWITCHES.items()}
