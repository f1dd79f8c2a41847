"""The vendors' programs: which are there, and how they are called.

They are called as hls4ml's backends call them: `vitis-run` (Vitis 2023 and newer), the older
`vitis_hls`, and `vivado_hls` for projects of the Vivado backend.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from l1kd.core.errors import UserError
from l1kd.core.processes import Program
from l1kd.firmware.hls.project import Project

Step = Literal["csim", "csynth", "cosim", "vsynth"]
STEPS: tuple[Step, ...] = get_args(Step)
OPTIONS = "build_opt.tcl"  # where the projects of the Vitis backend have their options
_SCRIPT = "build_prj.tcl"
PROGRAMS = {
    "Vitis": Program(("vitis-run", "vitis_hls"), "AMD Vitis HLS on the PATH"),
    "Vivado": Program(("vivado_hls",), "AMD Vivado HLS on the PATH"),
}
VIVADO = Program(("vivado",), "AMD Vivado on the PATH")
_SAID = {
    "vitis-run": "Vitis 2023 and newer",
    "vitis_hls": "Vitis HLS, before",
    "vivado_hls": "Vivado HLS",
}
# The scripts' options in hls4ml's order, and the step that sets each. Of Vivado's text the script
# takes the first that ends in a name: `synth` has to stand before `vsynth`. `validation` compares
# the logs of both simulations; our test bench compares with the network and needs no second look.
_OPTIONS: dict[str, Step | None] = {
    "reset": None,
    "csim": "csim",
    "synth": "csynth",
    "cosim": "cosim",
    "validation": None,
    "export": None,
    "vsynth": "vsynth",
    "fifo_opt": None,
}


@dataclass(frozen=True)
class Tool:
    """A vendor's program that is on the PATH."""

    program: str

    def command(self, steps: Sequence[Step]) -> list[str]:
        """What runs the steps, in the project's directory; `options_tcl` has to be there."""
        return [self.program, *_arguments(self.program, steps)]


def parse_steps(text: str) -> list[Step]:
    """Steps by their names, joined by commas, in the tools' order."""
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - set(STEPS)):
        raise UserError(
            f"--steps: there is no step {unknown[0]!r}; the steps are {', '.join(STEPS)}, joined "
            "by commas"
        )
    return [step for step in STEPS if step in names]


def tool_for(project: Project, steps: Sequence[Step]) -> Tool | None:
    """The program for a project's backend that is on the PATH, if there is one."""
    if (found := PROGRAMS[project.record.backend].find()) is None:
        return None
    if "vsynth" in steps and VIVADO.find() is None:
        raise UserError(
            f"{found[0]} is on the PATH and vivado is not, which vsynth needs; source Vivado's "
            "settings64.sh too, or leave vsynth out of --steps"
        )
    return Tool(found[0])


def programs(backend: str) -> str:
    """Names of the programs for a backend, for messages."""
    return " nor ".join(PROGRAMS[backend].names)


def options_tcl(steps: Sequence[Step]) -> str:
    """The text of `build_opt.tcl` that asks for these steps."""
    return "array set opt {" + " ".join(f"{k} {v}" for k, v in _switches(steps).items()) + "}\n"


def instructions(
    run: Path, projects: Sequence[Project], steps: Sequence[Step], tarball: str = "results"
) -> Iterator[str]:
    """What to type on a machine that has the tools, and then here, a line at a time."""
    yield "On a machine that has the vendor's tools:"
    for project in projects:
        name = project.directory.name
        yield f"  # copy the directory {project.directory} there, then"
        yield f"  cd {shlex.quote(name)}"
        if project.record.backend == "Vitis":
            yield f"  echo {shlex.quote(options_tcl(steps).strip())} > {OPTIONS}"
        for program in PROGRAMS[project.record.backend].names:
            call = shlex.join([program, *_arguments(program, steps)])
            yield f"  {call}   # {_SAID[program]}"
        yield "  cd .."
    yield f"Copy the directories back, into one directory {tarball} for instance, and here:"
    yield f"  l1kd synth {shlex.quote(str(run))} --collect {tarball}"


def _arguments(program: str, steps: Sequence[Step]) -> list[str]:
    if program == "vitis-run":
        return ["--mode", "hls", "--tcl", _SCRIPT]
    if program == "vitis_hls":
        return ["-f", _SCRIPT]
    return ["-f", _SCRIPT, " ".join(f"{k}={v}" for k, v in _switches(steps).items())]


def _switches(steps: Sequence[Step]) -> dict[str, int]:
    return {name: int(step in steps) for name, step in _OPTIONS.items()}
