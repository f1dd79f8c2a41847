"""Files that are either whole or absent, their hashes, and directories that l1kd may replace."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from l1kd import __version__
from l1kd.core.errors import CheckFailed, UserError, first_fault

# A directory of a run with one of these was made by l1kd, which may replace it.
MARKERS = ("student.json", "l1kd.json")
_PASSING = re.compile(r"\.l1kd-([0-9a-f]{12})-([0-9a-f]{8})(\..+)")
_MOST_BYTES = 1 << 28  # of a file that is read whole


def _sync(path: Path) -> None:
    """Let a file or directory reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def passing_name(ending: str, token: str | None = None) -> str:
    """A name for what does not stay; it holds a checksum, so that nobody else's file is named so.

    Endings: `.part` of what is not finished, `.old` of what is being replaced.
    """
    token = token or secrets.token_hex(6)
    return f".l1kd-{token}-{hashlib.sha256(token.encode()).hexdigest()[:8]}{ending}"


def is_passing(name: str, *endings: str) -> bool:
    """True of a `passing_name` with one of these endings, a suffix such as `.npz` aside."""
    if (found := _PASSING.fullmatch(name)) is None or not found[3].startswith(endings):
        return False
    return name == passing_name(found[3], found[1])


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same suffix; rename it onto `path` if all went well.

    A process killed inside the block leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / passing_name(f".part{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        # A failed write does not say of which file; the user has to know where space is short.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """As `atomic`, for a directory; `path` may be absent for a moment, never half-written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / passing_name(".part")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            old = path.replace(path.parent / passing_name(".old"))
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically. NaN and infinities are refused: JSON has none."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as `.npz`, atomically."""
    archive = io.BytesIO()  # on a full disk NumPy's writer of files prints a traceback as it goes
    np.savez(archive, **arrays)
    with atomic(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


@contextlib.contextmanager
def regular(path: Path, most: int | None = None, flags: int = 0) -> Iterator[IO[bytes]]:
    """Open a file to be read; UserError if it is a pipe or device, or has over `most` bytes."""

    def opener(name: str, given: int) -> int:
        return os.open(name, given | flags | os.O_NONBLOCK)  # a pipe must not hold us up

    with open(path, "rb", opener=opener) as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is not a regular file, and is not read; remove it")
        if most is not None and status.st_size > most:
            raise UserError(
                f"{path} has {status.st_size} bytes, more than the {most} that a file of its kind "
                "is read up to; is it the right file?"
            )
        yield handle


def check_regular(path: Path, missing: str) -> None:
    """Refuse what is no regular file: UserError, `missing` if there is nothing at all."""
    if not path.is_file():
        found = "a directory" if path.is_dir() else "a pipe, a socket or a device"
        reason = f"{path} is {found}, not a regular file; name a file, or copy it into one"
        raise UserError(reason if path.exists() else missing)


def check_free(out: Path) -> None:
    """Refuse to write a file where something is."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already, and is not replaced; name another --out")


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Blame a file for whatever a reader raises of it: UserError with a remedy."""
    try:
        yield
    except (UserError, CheckFailed, MemoryError):
        raise
    except Exception as error:
        fault = f"is damaged, or not as l1kd writes it ({first_fault(error)})"
        if isinstance(error, OSError) and error.strerror:
            fault = f"cannot be read ({error.strerror})"
        raise UserError(f"{path} {fault}; {remedy}") from error


def read_bytes(path: Path) -> bytes:
    """Content of a regular file."""
    with regular(path, _MOST_BYTES) as handle:
        return handle.read(_MOST_BYTES)


def read_json(path: Path) -> Any:
    """The value of a JSON file; ValueError if it holds none."""
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an `.npz` file as `write_arrays` writes it."""
    with regular(path) as handle, np.load(handle, allow_pickle=False) as file:
        if any(each.compress_type for each in file.zip.infolist()):
            raise ValueError("compressed, and may unfold without bound")
        return dict(file)


def file_hash(path: Path) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with regular(path) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON value with its keys sorted, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class DirectoryKind:
    """A kind of directory that l1kd makes and goes on with: run, study, sweep."""

    noun: str
    record: str  # its JSON file with the `format_version`
    damaged: str  # what to do if the record is damaged
    version: int = 1
    begun: str = r"\..*"  # names in one that was stopped as it began

    def write_record(self, directory: Path, **more: Any) -> None:
        """Make the directory one of this kind."""
        own = {"format_version": self.version, "l1kd": __version__}
        write_json(directory / self.record, {**own, **more})

    def check(self, directory: Path) -> None:
        """Refuse one of another version, and what is something else."""
        option = f"another directory with --{self.noun}"
        if directory.exists() and not directory.is_dir():
            raise UserError(f"{directory} is a file and not a {self.noun}; name {option}")
        if (directory / self.record).exists():
            self.check_version(directory)
            return
        names = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
        begun = re.compile(self.begun)
        if strange := [n for n in names if not (begun.fullmatch(n) or is_passing(n, ".part"))]:
            raise UserError(
                f"{directory} exists and is not a {self.noun} (it has {strange[0]}); "
                f"name {option}, or empty it"
            )

    def check_version(self, directory: Path) -> None:
        """Refuse one of another version of the format."""
        with reading(directory / self.record, self.damaged):
            version = read_json(directory / self.record)["format_version"]
        if version != self.version:
            raise UserError(
                f"{directory} was made in format {version}; this is l1kd {__version__}, which "
                f"reads format {self.version}: use the version that made it, or make a new "
                f"{self.noun}"
            )


def check_replaceable(
    path: Path, markers: tuple[str, ...] = MARKERS, *, inside: Path | None = None
) -> None:
    """Refuse what l1kd did not make: a file, no marker, a link (from `inside` down to `path`)."""
    above = [] if inside is None else [p for p in path.parents if inside in p.parents]
    for each in (path, *above):
        if each.is_symlink():
            raise UserError(
                f"{each} is a symbolic link, and l1kd would replace what is behind it; remove the "
                "link, or name another place"
            )
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a directory is to be written there; move it away")
    if any(path.iterdir()) and not any((path / marker).is_file() for marker in markers):
        raise UserError(
            f"{path} exists and was not made by l1kd (it has no {' or '.join(markers)}), so that "
            "it is not replaced; move it away, or name another place"
        )


def check_own_files(run: Path) -> None:
    """Refuse links and pipes in a run by which l1kd would write elsewhere, or wait for ever."""
    for path in run.iterdir():
        # What is replaced, not opened to be written, may be a link to a file.
        replaced = path.is_file() and path.name not in (".lock", "l1kd.log")
        if not replaced and (path.is_symlink() or not (path.is_file() or path.is_dir())):
            raise UserError(
                f"{path} is a link or no file, and not of l1kd, which would write through it; "
                "remove it"
            )


def sweep(run: Path) -> None:
    """Delete what killed processes had begun to write into a run that this process holds."""
    for place in _places(run):
        # Only who holds a run has `processes.scratch` directories right in it.
        endings = (".part", ".old", ".scratch") if place == run else (".part", ".old")
        for left in [path for path in place.iterdir() if is_passing(path.name, *endings)]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _places(run: Path) -> Iterator[Path]:
    """Directories of a run that stages write into; links are not followed."""
    yield run
    inside = [path for path in run.iterdir() if path.is_dir() and not path.is_symlink()]
    yield from inside
    for directory, names, _ in os.walk(run / "firmware") if run / "firmware" in inside else ():
        yield from (path for each in names if not (path := Path(directory, each)).is_symlink())
