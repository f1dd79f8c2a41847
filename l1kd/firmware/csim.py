"""The C simulation: a written project compiled with g++ and run as a filter, one process per core.

What is compiled is the C++ that is synthesised: the project's sources and the weights in its
`weights/*.h`. Two rewrites of a copy make it fast and change no value (a test compiles both ways):

- `T w[N] = {0.5, ...};` becomes a table of doubles that is converted by a loop: compiling thousands
  of constructor calls takes minutes, the loop calls the same constructor.
- `ap_private` declares its one inner helper `volatile`, which sends every intermediate value
  through memory. For objects that are not volatile a second, plain one is put beside it.

The program's name carries the hash of everything it is made of, so an unchanged project is not
compiled twice and a changed one never meets a stale program; it is renamed into place when it is
whole. Events go through pipes, one process per core and slice of events: code for io_stream keeps
static buffers, so threads could not share it, and two projects never share a process's symbols.
Nothing here needs TensorFlow or hls4ml.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.errors import UserError

__all__ = [
    "NO_CALLS",
    "Ports",
    "build",
    "compiler",
    "first_error",
    "run_call",
    "simulate",
    "sources",
    "trace",
]

_BRIDGE = Path(__file__).parent / "templates" / "csim.cpp"
# -O1: -O3 compiles three times longer and runs no faster. Vendors compile as C++14 too.
_FLAGS = ("-std=c++14", "-O1", "-fwrapv", "-w")
_WEIGHTS = re.compile(
    r"^(?P<type>\w+) (?P<name>\w+)\[(?P<size>\d+)\] = \{(?P<values>[-+0-9., eE]+)\};$", re.MULTILINE
)
_TABLE = """static const double {name}_values[{size}] = {{{values}}};
{type} {name}[{size}];
static const bool {name}_set = [] {{
    for (unsigned i = 0; i < {size}; i++)
        {name}[i] = {type}({name}_values[i]);
    return true;
}}();"""
_VOLATILE = "  INLINE void clearUnusedBits(void) volatile\n"
_PLAIN = """  INLINE void clearUnusedBits(void) volatile {
    const_cast<ap_private *>(this)->clearUnusedBits();
  }
  INLINE void clearUnusedBits(void)
"""
NO_CALLS = "static const l1kd::call l1kd_calls[] = {{0, 0, 0}};\n"
_BLOCK = 16384  # events in a process's hands at a time
_ALONE = 16  # events that are not worth a second process


@dataclass(frozen=True)
class Ports:
    """What the bridge has to know of a project: the top function and its ports' sizes."""

    top: str
    namespace: str
    inputs: int
    outputs: int


def compiler() -> tuple[str, ...]:
    """The C++ compiler's command: $CXX, or g++ from the PATH.

    Raises
    ------
    UserError
        If there is none.
    """
    command = tuple(shlex.split(os.environ.get("CXX", ""))) or ("g++",)
    if shutil.which(command[0]) is None:
        raise UserError(
            f"no C++ compiler: {command[0]!r} is not found; install g++ (Debian, Ubuntu: apt "
            "install g++; Fedora: dnf install gcc-c++), or set CXX to one"
        )
    return command


def build(directory: Path, ports: Ports, calls: Callable[[], str] | None = None) -> Path:
    """Compile a project's C simulation, if this very project has not been compiled already.

    Parameters
    ----------
    directory
        The project; its program is kept in its directory `csim`.
    ports
        Its top function.
    calls
        Gives the C++ that runs single calls of the top function (`certificate.compiled`), from the
        project's own files: it is asked when something is compiled.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    UserError
        If there is no compiler, or it does not accept the project.
    """
    command = compiler()
    files = {**dict(sources(directory)), "l1kd_csim.cpp": _BRIDGE.read_bytes()}
    network = directory / "network.json"
    hashed = {**files, network.name: network.read_bytes() if network.is_file() else b""}
    arguments = (
        *_FLAGS,
        f'-DL1KD_SOURCE="{ports.top}.cpp"',
        f"-DL1KD_TOP={ports.namespace}::{ports.top}",
        f"-DL1KD_INPUTS={ports.inputs}",
        f"-DL1KD_OUTPUTS={ports.outputs}",
    )
    program = directory / "csim" / f"{ports.top}-{_hash(hashed, (*command, *arguments))}"
    if not os.access(program, os.X_OK):
        files["l1kd_calls.h"] = (calls() if calls else NO_CALLS).encode()
        _compile(program, files, (*command, *arguments), directory)
        _forget_others(program)
    return program


def simulate(
    program: Path, bits: NDArray[np.int64], outputs: int, processes: int
) -> NDArray[np.int64]:
    """Run events through a compiled project.

    Parameters
    ----------
    program
        From `build`.
    bits
        Events as counts of the input's LSB, (N, inputs).
    outputs
        Per event.
    processes
        How many to run at a time, at most.

    Returns
    -------
    ndarray
        Counts of the output's LSB, (N, outputs).
    """
    processes = max(1, min(processes, len(bits) // _ALONE))
    share = min(_BLOCK, -(-len(bits) // processes)) if len(bits) else 1
    parts = [bits[start : start + share] for start in range(0, len(bits), share)]

    def run(part: NDArray[np.int64]) -> NDArray[np.int64]:
        answer = _run([str(program)], part)
        return np.frombuffer(_whole(answer, len(part), outputs * 8, program), np.int64)

    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(run, parts))
    return np.concatenate([np.empty(0, np.int64), *done]).reshape(-1, outputs)


def trace(
    program: Path, bits: NDArray[np.int64], outputs: int, layers: Sequence[tuple[str, int]]
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Run events through a compiled project and look into it.

    Parameters
    ----------
    program, bits, outputs
        As for `simulate`.
    layers
        Names and sizes of the layers to see, as the project names them.

    Returns
    -------
    tuple
        Counts of the output's LSB, (N, outputs), and every layer's values, (N, size).
    """
    sizes = [size for _, size in layers]
    row = np.dtype([("out", np.int64, (outputs,)), ("layers", np.float64, (sum(sizes),))])
    command = [str(program), *(f"{name}:{size}" for name, size in layers)]
    answer = _whole(_run(command, bits), len(bits), row.itemsize, program)
    rows = np.frombuffer(answer, row)
    return rows["out"].copy(), np.split(rows["layers"], np.cumsum(sizes)[:-1], axis=1)


def run_call(
    program: Path, number: int, bits: NDArray[np.int64], outputs: int
) -> NDArray[np.int64]:
    """Run one call of the top function alone.

    Parameters
    ----------
    program
        From `build`, with `calls`.
    number
        Which call.
    bits
        What its arrays hold, as counts of their LSB, (N, inputs).
    outputs
        Values that it writes.

    Returns
    -------
    ndarray
        Counts of the LSB of what it writes, (N, outputs).
    """
    answer = _run([str(program), "--call", str(number)], bits)
    whole = _whole(answer, len(bits), outputs * 8, program)
    return np.frombuffer(whole, np.int64).reshape(-1, outputs)


def rewrite(path: str, text: str) -> str:
    """A source file as it is compiled (see the module); what does not match stays as it is."""
    if path.startswith("weights/"):
        return _WEIGHTS.sub(lambda match: _TABLE.format(**match.groupdict()), text)
    if path.endswith("etc/ap_private.h"):
        return text.replace(_VOLATILE, _PLAIN, 1)
    return text


def sources(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Path in `firmware/` and content, rewritten, of every file of a project that is compiled."""
    firmware = directory / "firmware"
    for path in sorted(firmware.rglob("*")):
        if path.suffix in (".h", ".hpp", ".cpp"):
            name = path.relative_to(firmware).as_posix()
            yield name, rewrite(name, path.read_text()).encode()


def _hash(files: dict[str, bytes], command: Sequence[str]) -> str:
    version = subprocess.run(
        [*command[:1], "--version"], capture_output=True, check=False, stdin=subprocess.DEVNULL
    ).stdout
    digest = hashlib.sha256(f"{platform.machine()} {command}".encode() + version)
    for name, content in files.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _compile(
    program: Path, files: dict[str, bytes], command: Sequence[str], directory: Path
) -> None:
    program.parent.mkdir(exist_ok=True)
    # The copy lies outside of the project: one that a killed process leaves is no part of it.
    with tempfile.TemporaryDirectory(prefix="l1kd-csim-") as work:
        for name, content in files.items():
            target = Path(work, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        descriptor, name = tempfile.mkstemp(prefix=f".{program.name}.", dir=program.parent)
        os.close(descriptor)
        unfinished = Path(name)
        try:
            done = subprocess.run(
                [*command, "-I.", "-Iap_types", "l1kd_csim.cpp", "-o", str(unfinished.resolve())],
                cwd=work,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                raise UserError(
                    f"{directory}: {command[0]} does not compile the project: "
                    f"{first_error(done.stderr)}; convert the student again if you did not edit it"
                )
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            unfinished.chmod(0o755)
            unfinished.replace(program)
        finally:
            unfinished.unlink(missing_ok=True)


def first_error(stderr: str) -> str:
    """The line of a compiler's messages that says what is wrong."""
    lines = stderr.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


def _forget_others(program: Path) -> None:
    """Delete programs of earlier contents, and what killed compilers left an hour ago."""
    for other in program.parent.iterdir():
        unfinished = other.name.startswith(".")
        with contextlib.suppress(FileNotFoundError):
            if other != program and (not unfinished or other.stat().st_mtime < time.time() - 3600):
                other.unlink()


def _run(command: list[str], bits: NDArray[np.int64]) -> bytes:
    try:
        done = subprocess.run(
            command, input=np.ascontiguousarray(bits).tobytes(), capture_output=True, check=False
        )
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be run ({error.strerror}); the project's directory has to be on "
            "a file system that programs can be run from"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise UserError(
            f"{command[0]}: the C simulation failed with code {done.returncode} ({said[-1]}); "
            "convert the student again if you did not edit its project"
        )
    return done.stdout


def _whole(answer: bytes, events: int, size: int, program: Path) -> bytes:
    if len(answer) != events * size:
        raise UserError(
            f"{program}: {len(answer)} bytes came back for {events} events of {size}; "
            "convert the student again if you did not edit its project"
        )
    return answer
