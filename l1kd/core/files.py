"""Files that are either whole or absent, their hashes, and directories that l1kd may replace."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l1kd import __version__
from l1kd.core.errors import UserError

# A directory of a run with one of these was made by l1kd, which may replace it.
MARKERS = ("student.json", "l1kd.json")
# Names of what is not finished, or is being replaced.
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.(part(\.\w+)?|old)")


def _sync(path: Path) -> None:
    """Let a file or directory reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same suffix; rename it onto `path` if all went well.

    A process killed inside the block leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files private; what we leave behind has the permissions any program gives.
        mask = os.umask(0)
        os.umask(mask)
        program = temporary.stat().st_mode & 0o100
        temporary.chmod((0o777 if program else 0o666) & ~mask)
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
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old / "old")
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


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(Path(path).read_bytes())


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
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
    begun: str = r"config\.yaml|\..*"  # names in one that was stopped as it began

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
        if strange := [name for name in names if not re.fullmatch(self.begun, name)]:
            raise UserError(
                f"{directory} exists and is not a {self.noun} (it has {strange[0]}); "
                f"name {option}, or empty it"
            )

    def check_version(self, directory: Path) -> None:
        """Refuse one of another version of the format."""
        try:
            version = read_json(directory / self.record)["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{directory / self.record} is damaged ({error}); {self.damaged}"
            ) from error
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


def sweep(run: Path) -> None:
    """Delete what killed processes had begun to write into a run that this process holds."""
    for place in _places(run):
        for left in [path for path in place.iterdir() if LEFTOVER.fullmatch(path.name)]:
            if left.is_symlink():
                raise UserError(f"{left} is a symbolic link that l1kd did not make; remove it")
            if left.is_dir():
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
