"""Arrays out of `.npz` files that nobody has to trust: no pickles, no bombs, streamed if large."""

from __future__ import annotations

import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError

_SUFFIX = ".npy"
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: ..., name length, extra length
_LOCAL_HEADER_SIZE = 30
# Of a damaged file; RuntimeError includes NotImplementedError and RecursionError.
_DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError, SyntaxError, TypeError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class Member:
    """Header of one array in a `.npz`."""

    key: str  # the array's name
    shape: tuple[int, ...]  # of the whole array
    fortran: bool  # its first axis runs fastest
    dtype: np.dtype[Any]
    offset: int  # where in the uncompressed member the values start

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {found}; correct the path")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(
            f"{path}: not an NPZ file, or truncated or damaged ({error}); write the file again"
        ) from error


def names(path: Path) -> list[str]:
    """The names of all arrays in a file."""
    with _opened(path) as archive:
        return [name.removesuffix(_SUFFIX) for name in archive.namelist() if name.endswith(_SUFFIX)]


def inspect(path: Path, key: str) -> Member | None:
    """Shape and type of the array `key`; None if there is none."""
    with _opened(path) as archive:
        if f"{key}{_SUFFIX}" not in archive.namelist():
            return None
        info = archive.getinfo(f"{key}{_SUFFIX}")
        with archive.open(info) as stream:
            member = Member(key, *_header(stream), stream.tell())
        if member.dtype.hasobject:
            raise UserError(
                f"{path}: {key} holds pickled Python objects, which l1kd never opens; "
                "save an array of numbers"
            )
        if member.dtype.kind not in "biuf" or member.dtype.itemsize > 8:
            raise UserError(f"{path}: {key} holds {member.dtype}, real numbers are expected")
        if member.size != (found := info.file_size - member.offset):
            raise UserError(
                f"{path}: {key} announces {member.size} bytes and has {found}: "
                "truncated or damaged; write the file again"
            )
        return member


def reader(path: Path, member: Member, stream: bool) -> Callable[[int, int], NDArray[Any]]:
    """A function that reads a range of rows.

    `stream`: from their place in the file, which needs an array stored without compression and in
    C order; otherwise the array is decompressed as a whole and kept.
    """
    with _opened(path) as archive:
        info = archive.getinfo(f"{member.key}{_SUFFIX}")
    if not stream:
        return _whole(path, member, info)
    if info.compress_type != zipfile.ZIP_STORED or member.fortran:
        how = "compressed" if info.compress_type != zipfile.ZIP_STORED else "in Fortran order"
        raise UserError(
            f"{path}: {member.key} ({member.size / 2**20:.0f} MiB) is {how}: too much data in all "
            "to keep in memory, and this cannot be streamed; write it with numpy.savez in C order, "
            "or as HDF5"
        )
    return _streamed(path, member, info)


def _whole(path: Path, member: Member, info: zipfile.ZipInfo) -> Callable[[int, int], NDArray[Any]]:
    kept: list[NDArray[Any]] = []

    def read(start: int, stop: int) -> NDArray[Any]:
        if not kept:
            with _opened(path) as archive, archive.open(info) as stream:
                # Read to its end: only then the archive's checksum is verified.
                data = stream.read()[member.offset :]
                flat, order = np.frombuffer(data, member.dtype), "F" if member.fortran else "C"
                kept.append(flat.reshape(member.shape, order=order))  # type: ignore[call-overload]
        return kept[0][start:stop]

    return read


def _streamed(
    path: Path, member: Member, info: zipfile.ZipInfo
) -> Callable[[int, int], NDArray[Any]]:
    row = math.prod(member.shape[1:])
    with _opened(path) as archive:
        stream = archive.open(info)
        # The archive's checksum covers all of it: once, without keeping any.
        while stream.read(1 << 22):
            pass
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER_SIZE))
    first = info.header_offset + _LOCAL_HEADER_SIZE + name_length + extra_length + member.offset

    def read(start: int, stop: int) -> NDArray[Any]:
        with _opened(path), path.open("rb") as file:
            file.seek(first + start * row * member.dtype.itemsize)
            flat = np.fromfile(file, member.dtype, (stop - start) * row)
        if flat.size != (stop - start) * row:
            raise UserError(f"{path}: shorter than it was; was the file replaced meanwhile?")
        return flat.reshape(stop - start, *member.shape[1:])

    return read


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    header: Any = np.lib.format
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2 are fine
        readers = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = readers[header.read_magic(stream)](
            stream
        )
    return found
