"""The C simulation: a written project compiled with g++ and run as a filter, without TensorFlow.

Programs live in the user's own cache, never in a project, named by the hashes of all that they are
made of and of themselves: changed projects and damaged programs are compiled again.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import re
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

from l1kd.core.errors import UserError
from l1kd.core.files import file_hash, read_bytes
from l1kd.core.processes import Program, call, held, scratch

COMPILER = Program(
    ("g++",),
    "install g++ (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++), or set CXX to one",
    variable="CXX",
)
_TRIAL = b"#include <cstdint>\n#include <vector>\nint main() { return 0; }\n"
_BRIDGE = Path(__file__).parents[1] / "templates" / "csim.cpp"
# -O1: -O3 compiles three times longer and runs no faster. Vendors compile as C++14 too.
_FLAGS = ("-std=c++14", "-O1", "-fwrapv", "-w")
# Thousands of constructor calls take minutes to compile; a loop over a table calls the same one.
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
# `volatile` sends every intermediate value through memory; a plain helper is put beside it.
_VOLATILE = "  INLINE void clearUnusedBits(void) volatile\n"
_PLAIN = """  INLINE void clearUnusedBits(void) volatile {
    const_cast<ap_private *>(this)->clearUnusedBits();
  }
  INLINE void clearUnusedBits(void)
"""
OWN = ("calls.h:", "csim.cpp:")  # what is generated here; a project has no such names
# What every project includes, parsed once for all of them: a third of the time of a compilation.
_PRELUDE = "".join(
    f"#include {name}\n"
    for name in (
        *("<array>", "<cmath>", "<cstddef>", "<cstdio>", "<cstdlib>", "<cstring>", "<iostream>"),
        *("<map>", "<string>", "<tuple>", "<utility>", "<vector>"),
        *('"ap_fixed.h"', '"ap_int.h"', '"hls_stream.h"'),
    )
)
NO_CALLS = "static const l1kd::call l1kd_calls[] = {{0, 0, 0}};\n"
_BLOCK = 16384  # events in a process's hands at a time
_ALONE = 16  # events that are not worth a second process
_ROOM = 2 << 30  # bytes of programs in the cache; beyond them the least recently used are deleted
_RECENT = 3600.0  # seconds after its last use in which a program is not deleted
_PROGRAM = re.compile(r"[0-9a-f]{40}-[0-9a-f]{32}")  # nothing else in the cache is deleted
_REMEMBERED = 512  # texts of calls that one process remembers
# Variables that would bring files into a program that its key does not know.
_DISTRACTING = (
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX",
    "COMPILER_PATH", "LD_RUN_PATH", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES",
)  # fmt: skip


@dataclass(frozen=True)
class Ports:
    """The top function of a project and the values of one event at its ports."""

    top: str
    namespace: str
    inputs: int
    outputs: int
    traced: tuple[tuple[str, str, int], ...] = ()  # arrays that can be shown: layer, size


def compiler() -> tuple[str, ...]:
    """The C++ compiler's command: $CXX, or g++ from the PATH."""
    if (command := COMPILER.find()) is None:
        sought = COMPILER.commands[0][0]
        raise UserError(f"no C++ compiler: {sought!r} is not found; {COMPILER.remedy}")
    _try(command, os.environ.get("PATH"))
    return command


@functools.lru_cache(maxsize=8)
def _try(command: tuple[str, ...], path: str | None) -> None:
    """Compile three lines, so that a compiler that lacks a part does not blame a project."""
    arguments = ["-x", "c++", "-std=c++14", "-", "-o", "program"]
    with tempfile.TemporaryDirectory(prefix="l1kd-compiler-") as place:
        environment = compiler_environment()
        done = call([*command, *arguments], Path(place), given=_TRIAL, environment=environment)
    if done.returncode:
        raise UserError(
            f"{command[0]} does not compile three lines of C++: {_said(done)}; a part of the "
            f"compiler is missing or broken: {COMPILER.remedy}"
        )


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The first error of a compiler, or its last line."""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


def compiler_environment() -> dict[str, str]:
    """The environment without variables that bring further files into a compilation."""
    return {name: text for name, text in os.environ.items() if name not in _DISTRACTING}


def compile_cpp(
    command: Sequence[str], arguments: Sequence[str], place: Path, project: Path, what: str
) -> None:
    """Run the C++ compiler in a directory; UserError if it does not accept `what` of a project."""
    done = call([*command, *arguments], place, environment=compiler_environment())
    if done.returncode:
        said = _said(done)
        if said.startswith(OWN):  # it is not of the project that the user may have edited
            raise RuntimeError(f"{project}: l1kd's own code for {what} does not compile: {said}")
        raise UserError(
            f"{project}: {command[0]} does not compile {what}: {said}; convert the student "
            "again if you did not edit it"
        )


def cache_directory() -> Path:
    """The directory of compiled programs; UserError if `$L1KD_CSIM_CACHE` names no private one."""
    if stated := os.environ.get("L1KD_CSIM_CACHE"):
        try:
            return _private(Path(stated).absolute())
        except OSError as error:
            raise UserError(
                f"L1KD_CSIM_CACHE={stated}: {error.strerror}; compiled programs are kept in it and "
                "run from it; set it to a directory that you own and that only you may write to"
            ) from error
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        home = base if base.is_absolute() else Path.home() / ".cache"
        return _private(home / "l1kd" / "csim")
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return _temporary_cache(os.getpid())


def _private(directory: Path) -> Path:
    """Make a directory that only its owner may write to, or check an existing one."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = directory.stat()
    if held.st_uid != os.geteuid():
        raise PermissionError(0, f"the directory belongs to the user number {held.st_uid}")
    if held.st_mode & 0o022:
        raise PermissionError(
            0, f"others may write to the directory (mode {held.st_mode & 0o777:o})"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(0, "the directory is not writable")
    return directory


@functools.cache
def _temporary_cache(_process: int) -> Path:
    directory = tempfile.mkdtemp(prefix="l1kd-csim-cache-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def build(directory: Path, ports: Ports, calls: Callable[[], str] | None = None) -> Path:
    """The program of a C simulation, cached or compiled; `calls`: C++ that runs single calls."""
    command = compiler()
    files = {**dict(sources(directory)), "csim.cpp": _BRIDGE.read_bytes()}
    arguments = (
        *_FLAGS,
        f'-DL1KD_SOURCE="{ports.top}.cpp"',
        f"-DL1KD_NAMESPACE={ports.namespace}",
        f"-DL1KD_TOP={ports.top}",
        f"-DL1KD_INPUTS={ports.inputs}",
        f"-DL1KD_OUTPUTS={ports.outputs}",
    )
    files["calls.h"] = _calls(directory, files, calls).encode()
    files["traced.h"] = _traced(files.get(f"{ports.top}.cpp", b"").decode(), ports).encode()
    files["prelude.h"] = _PRELUDE.encode()
    key = _hash(files, (*command, *arguments))
    if found := _cached(cache_directory(), key):
        return found
    headers = {name: files[name] for name in files if name.startswith("ap_types/")}
    headers["prelude.h"] = files["prelude.h"]
    parsed = (*_FLAGS, "-x", "c++-header", "prelude.h")

    def compiled(
        work: Path, files: dict[str, bytes], given: Sequence[str], output: str, what: str
    ) -> Path:
        for name, content in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        including = ("-I.", "-Iap_types", "-o", output)
        compile_cpp(command, (*given, *including), work, directory, what)
        return work / output

    prelude = program_of(
        _hash(headers, (*command, *parsed)),
        lambda work: compiled(work, headers, parsed, "prelude.h.gch", "the headers"),
    )

    def project(work: Path) -> Path:
        (work / "prelude.h.gch").symlink_to(prelude)
        given = (*arguments, "csim.cpp")
        return compiled(work, files, given, "l1kd_csim", "the project")

    return program_of(key, project)


def _traced(source: str, ports: Ports) -> str:
    """A copy of the top function, `traced`, which shows arrays once they are written."""
    waiting = {array: (layer, size) for array, layer, size in ports.traced}
    lines: list[str] = []
    for line in source.partition(f"void {ports.top}(")[2].splitlines():
        lines.append(line)
        for array in re.findall(r"\w+", line.partition(">(")[2]):
            if array in waiting:
                layer, size = waiting.pop(array)
                lines.append(f'    nnet::save_layer_output({array}, "{layer}", {size});')
    return "\n".join([f"void traced({lines[0] if lines else ') {}'}", *lines[1:], ""])


_CALLS: dict[str, str] = {}


def _calls(directory: Path, files: dict[str, bytes], calls: Callable[[], str] | None) -> str:
    """The text of the calls, from memory if these very files were read before."""
    if calls is None:
        return NO_CALLS
    further = [
        path for name in ("network.json", "l1kd.json") if (path := directory / name).is_file()
    ]
    key = _digest(files | {path.name: path.read_bytes() for path in further})
    if key not in _CALLS:
        if len(_CALLS) >= _REMEMBERED:
            _CALLS.clear()
        _CALLS[key] = calls()
    return _CALLS[key]


def simulate(
    program: Path, bits: NDArray[np.int64], outputs: int, processes: int
) -> NDArray[np.int64]:
    """Outputs (N, outputs) of a program for events (N, inputs), in LSBs of the ports."""
    # Code for io_stream keeps static buffers: processes, not threads.
    processes = max(1, min(processes, len(bits) // _ALONE))
    share = min(_BLOCK, -(-len(bits) // processes)) if len(bits) else 1
    parts = [bits[start : start + share] for start in range(0, len(bits), share)]

    def run(part: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.frombuffer(_answer(program, (), part, outputs * 8), np.int64)

    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(run, parts))
    return np.concatenate([np.empty(0, np.int64), *done]).reshape(-1, outputs)


def trace(
    program: Path, bits: NDArray[np.int64], outputs: int, layers: Sequence[tuple[str, int]]
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """As `simulate`, and the values (N, size) of every layer, given as (name in C++, size)."""
    sizes = [size for _, size in layers]
    row = np.dtype([("out", np.int64, (outputs,)), ("layers", np.float64, (sum(sizes),))])
    shown = [f"{name}:{size}" for name, size in layers]
    rows = np.frombuffer(_answer(program, shown, bits, row.itemsize), row)
    return rows["out"].copy(), np.split(rows["layers"], np.cumsum(sizes)[:-1], axis=1)


def run_call(
    program: Path, number: int, bits: NDArray[np.int64], outputs: int
) -> NDArray[np.int64]:
    """Outputs (N, outputs) of one call of the top function, for its arrays joined, (N, inputs)."""
    answer = _answer(program, ("--call", str(number)), bits, outputs * 8)
    return np.frombuffer(answer, np.int64).reshape(-1, outputs)


def rewrite(path: str, text: str) -> str:
    """A source file as it is compiled; text that does not match stays."""
    if path.startswith("weights/"):
        return _WEIGHTS.sub(lambda match: _TABLE.format(**match.groupdict()), text)
    if path.endswith("etc/ap_private.h"):
        return text.replace(_VOLATILE, _PLAIN, 1)
    return text


def sources(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Path in `firmware/` and rewritten content of every file that is compiled."""
    firmware = directory / "firmware"
    for path in sorted(firmware.rglob("*")):
        if path.suffix in (".h", ".hpp", ".cpp"):
            name = path.relative_to(firmware).as_posix()
            text = read_bytes(path).decode(errors="surrogateescape")
            yield name, rewrite(name, text).encode(errors="surrogateescape")


def _digest(files: dict[str, bytes], start: bytes = b"") -> str:
    digest = hashlib.sha256(start)
    for name, content in files.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _hash(files: dict[str, bytes], command: Sequence[str]) -> str:
    """The key of a program: what it is made of, and by which compiler."""
    version = call([*command[:1], "--version"]).stdout
    place = Path(shutil.which(command[0]) or command[0]).resolve()
    status = place.stat()  # another program of the same name and version: a wrapper that was edited
    known = (platform.machine(), str(place), status.st_size, status.st_mtime_ns, *command)
    return _digest(files, repr(known).encode() + version)[:40]


def program_of(key: str, compiled: Callable[[Path], Path]) -> Path:
    """The program of a key (40 hexadecimal digits): from the cache, or compiled in a directory."""
    cache = cache_directory()
    if found := _cached(cache, key):
        return found
    with held(_lock(cache, key)):
        if found := _cached(cache, key):
            return found  # somebody else compiled it while this process waited
        for damaged in cache.glob(f"{key}-*"):
            damaged.unlink(missing_ok=True)
        with scratch(cache / "compile") as work:
            unfinished = compiled(work)
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            unfinished.chmod(0o700)
            program = unfinished.replace(cache / f"{key}-{file_hash(unfinished)[:32]}")
    _make_room(cache)
    return program


def _cached(cache: Path, key: str) -> Path | None:
    """The program of a key, if it is whole: its name ends in the hash of its bytes."""
    for program in cache.glob(f"{key}-*"):
        with contextlib.suppress(OSError):
            whole = file_hash(program).startswith(program.name.removeprefix(f"{key}-"))
            if whole and os.access(program, os.X_OK):
                os.utime(program)  # it is in use: the last to be deleted
                return program
    return None


def _lock(cache: Path, key: str) -> Path:
    """The lock of a key: one of 4,096, so that they need not be deleted; two rarely share one."""
    return cache / f".{key[:3]}.lock"


def _make_room(cache: Path) -> None:
    """Delete the least recently used programs, if there are too many."""
    now, programs = time.time(), []
    for path in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deletes it too
            status = path.stat()
            if _PROGRAM.fullmatch(path.name):
                idle = now - status.st_mtime > _RECENT
                programs.append((status.st_mtime, status.st_size, idle, path))
    too_much = sum(size for _, size, _, _ in programs) - _ROOM
    for _, size, idle, path in sorted(programs, key=lambda entry: entry[0]):
        if too_much <= 0 or not idle:
            return
        lock = _lock(cache, path.name)
        with contextlib.suppress(UserError), held(lock, "somebody compiles it"):
            path.unlink(missing_ok=True)
            too_much -= size


def _answer(program: Path, arguments: Sequence[str], bits: NDArray[np.int64], size: int) -> bytes:
    """A program's output, `size` bytes for each event of `bits`."""
    try:
        done = call([str(program), *arguments], given=np.ascontiguousarray(bits).tobytes())
    except UserError as error:
        raise UserError(
            f"{error}; set L1KD_CSIM_CACHE to a directory on a file system that programs can be "
            "run from"
        ) from error
    if not done.returncode and len(done.stdout) == len(bits) * size:
        return done.stdout
    fault = f"{len(done.stdout)} bytes came back for {len(bits)} events of {size}"
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        fault = f"the C simulation failed with code {done.returncode} ({said[-1]})"
    again = "convert the student again if you did not edit its project"
    raise UserError(f"{program}: {fault}; {again}")
