"""The C simulation: a written project compiled with g++ and run as a filter, one process per core.

What is compiled is the C++ that is synthesised: the project's sources and the weights in its
`weights/*.h`. Two rewrites of a copy make it fast and change no value (a test compiles both ways):

- `T w[N] = {0.5, ...};` becomes a table of doubles that is converted by a loop: compiling thousands
  of constructor calls takes minutes, the loop calls the same constructor.
- `ap_private` declares its one inner helper `volatile`, which sends every intermediate value
  through memory. For objects that are not volatile a second, plain one is put beside it.

Programs live in a cache of the user's (`cache_directory`), never in a project: nothing that came
with a copied project is run. A program's name carries the hash of everything it is made of, and of
itself: an unchanged project is not compiled twice, a changed one never meets a stale program, a
damaged program is compiled again. It is renamed into place when it is whole, and two processes that
want the same one wait for each other. Events go through pipes, one process per core and slice of
events: code for io_stream keeps static buffers, so threads could not share it, and two projects
never share a process's symbols.
Nothing here needs TensorFlow or hls4ml.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
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
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import file_hash

_BRIDGE = Path(__file__).parents[1] / "templates" / "csim.cpp"
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
_ROOM = 2 << 30  # bytes of programs in the cache; beyond them the least recently used are deleted
_RECENT = 3600.0  # seconds after its last use in which a program is not deleted
_PROGRAM = re.compile(r"[0-9a-f]{40}-[0-9a-f]{32}")  # nothing else in the cache is deleted
_REMEMBERED = 512  # texts of calls that one process remembers
# They would bring files into a program that its key does not know.
_DISTRACTING = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "LD_RUN_PATH",
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
)


@dataclass(frozen=True)
class Ports:
    """What the bridge has to know of a project: the top function and its ports' sizes."""

    top: str
    namespace: str
    inputs: int
    outputs: int


def compiler() -> tuple[str, ...]:
    """The C++ compiler's command: $CXX, or g++ from the PATH."""
    command = tuple(shlex.split(os.environ.get("CXX", ""))) or ("g++",)
    if shutil.which(command[0]) is None:
        raise UserError(
            f"no C++ compiler: {command[0]!r} is not found; install g++ (Debian, Ubuntu: apt "
            "install g++; Fedora: dnf install gcc-c++), or set CXX to one"
        )
    return command


def compiler_environment() -> dict[str, str]:
    """The environment of a C++ compiler: ours, without variables that add files to a program."""
    return {name: value for name, value in os.environ.items() if name not in _DISTRACTING}


def cache_directory() -> Path:
    """Where compiled programs are kept: a directory that belongs to the user alone.

    `$L1KD_CSIM_CACHE`, or `l1kd/csim` in `$XDG_CACHE_HOME` or `~/.cache`; without a usable home, a
    temporary directory of this process.
    """
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
    """Make a directory that only its owner may write to, or see that an existing one is."""
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
    """Compile a project's C simulation, if the same has not been compiled already."""
    command = compiler()
    files = {**dict(sources(directory)), "l1kd_csim.cpp": _BRIDGE.read_bytes()}
    arguments = (
        *_FLAGS,
        f'-DL1KD_SOURCE="{ports.top}.cpp"',
        f"-DL1KD_TOP={ports.namespace}::{ports.top}",
        f"-DL1KD_INPUTS={ports.inputs}",
        f"-DL1KD_OUTPUTS={ports.outputs}",
    )
    files["l1kd_calls.h"] = _calls(directory, files, calls).encode()
    key = _hash(files, (*command, *arguments))
    cache = cache_directory()
    if found := _cached(cache, key):
        return found
    with _locked(cache, key):
        if found := _cached(cache, key):
            return found  # somebody else compiled it while this process waited
        _forget(cache, key)
        program = _compile(cache, key, files, (*command, *arguments), directory)
    _make_room(cache)
    return program


_CALLS: dict[str, str] = {}


def _calls(directory: Path, files: dict[str, bytes], calls: Callable[[], str] | None) -> str:
    """The text of the calls, from memory where these very files were read before."""
    if calls is None:
        return NO_CALLS
    read = dict(files)
    for name in ("network.json", "l1kd.json"):
        path = directory / name
        read[name] = path.read_bytes() if path.is_file() else b""
    key = _digest(read)
    if key not in _CALLS:
        while len(_CALLS) >= _REMEMBERED:
            _CALLS.pop(next(iter(_CALLS)))
        _CALLS[key] = calls()
    return _CALLS[key]


def simulate(
    program: Path, bits: NDArray[np.int64], outputs: int, processes: int
) -> NDArray[np.int64]:
    """Run events through a compiled project.

    `bits`: events as counts of the input's LSB, (N, inputs).
    Returns counts of the output's LSB, (N, outputs).
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

    Returns counts of the output's LSB, (N, outputs), and every layer's values, (N, size).
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

    `bits`: what its arrays hold, as counts of their LSB, (N, inputs).
    Returns counts of the LSB of what it writes, (N, outputs).
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


def _digest(files: dict[str, bytes], start: bytes = b"") -> str:
    digest = hashlib.sha256(start)
    for name, content in files.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _hash(files: dict[str, bytes], command: Sequence[str]) -> str:
    """The key of a program: what it is made of, and by which compiler."""
    version = subprocess.run(
        [*command[:1], "--version"], capture_output=True, check=False, stdin=subprocess.DEVNULL
    ).stdout
    place = Path(shutil.which(command[0]) or command[0]).resolve()
    held = place.stat()  # another program of the same name and version: a wrapper that was edited
    known = (platform.machine(), str(place), held.st_size, held.st_mtime_ns, *command)
    return _digest(files, repr(known).encode() + version)[:40]


def _cached(cache: Path, key: str) -> Path | None:
    """The program of a key, if it is whole: its name ends in the hash of its bytes."""
    for program in cache.glob(f"{key}-*"):
        with contextlib.suppress(OSError):
            whole = file_hash(program).startswith(program.name.removeprefix(f"{key}-"))
            if whole and os.access(program, os.X_OK):
                os.utime(program)  # it is in use: the last to be deleted
                return program
    return None


@contextlib.contextmanager
def _locked(cache: Path, key: str, timeout: float = -1) -> Iterator[None]:
    """One process for a key at a time; a killed one lets go.

    One of 4,096 files, so that they need not be deleted: two keys rarely share one.
    """
    with FileLock(cache / f".{key[:3]}.lock", timeout=timeout):
        yield


def _compile(
    cache: Path, key: str, files: dict[str, bytes], command: Sequence[str], directory: Path
) -> Path:
    with tempfile.TemporaryDirectory(prefix="l1kd-csim-") as work:
        for name, content in files.items():
            target = Path(work, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        descriptor, name = tempfile.mkstemp(prefix=f".{key}.", suffix=".part", dir=cache)
        os.close(descriptor)
        unfinished = Path(name)
        try:
            done = subprocess.run(
                [*command, "-I.", "-Iap_types", "l1kd_csim.cpp", "-o", str(unfinished)],
                cwd=work,
                env=compiler_environment(),
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
            unfinished.chmod(0o700)
            return unfinished.replace(cache / f"{key}-{file_hash(unfinished)[:32]}")
        finally:
            unfinished.unlink(missing_ok=True)


def first_error(stderr: str) -> str:
    """The line of a compiler's messages that says what is wrong."""
    lines = stderr.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


def _forget(cache: Path, key: str) -> None:
    """Delete damaged programs of a key, whose lock is held."""
    for program in cache.glob(f"{key}-*"):
        program.unlink(missing_ok=True)


def _make_room(cache: Path) -> None:
    """Delete what killed compilers left, and of too many programs the least recently used ones."""
    now, programs = time.time(), []
    for path in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deletes it too
            held = path.stat()
            idle = now - held.st_mtime > _RECENT
            if path.suffix == ".part" and idle:
                path.unlink()
            elif _PROGRAM.fullmatch(path.name):
                programs.append((held.st_mtime, held.st_size, idle, path))
    too_much = sum(size for _, size, _, _ in programs) - _ROOM
    for _, size, idle, path in sorted(programs, key=lambda entry: entry[0]):
        if too_much <= 0 or not idle:
            return
        with contextlib.suppress(Timeout), _locked(cache, path.name.partition("-")[0], timeout=0):
            path.unlink(missing_ok=True)
            too_much -= size


def _run(command: list[str], bits: NDArray[np.int64]) -> bytes:
    try:
        done = subprocess.run(
            command, input=np.ascontiguousarray(bits).tobytes(), capture_output=True, check=False
        )
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be run ({error.strerror}); set L1KD_CSIM_CACHE to a directory "
            "on a file system that programs can be run from"
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
