"""Numbers in HDF5 and NPZ files that nobody has to trust: no links, no pickles, no bombs."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError
from l1kd.core.files import check_regular
from l1kd.data.event_tables import Table

# No compression of event data comes near: a file that declares more is not what it says.
_MAX_COMPRESSION = 5000
_MAX_CHUNK = 1 << 29
_NPY = ".npy"
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: ..., name length, extra length
# Of a damaged file; RuntimeError includes NotImplementedError and RecursionError.
_DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError, SyntaxError, TypeError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
_File = TypeVar("_File")


@contextlib.contextmanager
def opened(
    path: Path, kind: str, opener: Callable[[Path], contextlib.AbstractContextManager[_File]]
) -> Iterator[_File]:
    """Open a file for reading; whatever a library raises about it comes out as a UserError."""
    check_regular(path, f"{path}: no such file; correct the path")
    try:
        with opener(path) as file:
            yield file
    except UserError:
        raise
    except _DAMAGED as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not {kind} file, or truncated or damaged ({why}); "
            "fetch or write the file again"
        ) from error


def _check_rows_of_numbers(path: Path, key: str, dtype: np.dtype[Any], shape: Any) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UserError(f"{path}: {key} holds {dtype}, real numbers are expected")
    if not shape:
        raise UserError(f"{path}: {key} has the shape {shape}; events are (events, ...)")


def replaced(path: Path) -> UserError:
    return UserError(f"{path}: shorter than it was; was the file replaced meanwhile?")


def hdf5(path: Path) -> contextlib.AbstractContextManager[h5py.File]:
    """Open an HDF5 file for reading; errors are UserErrors."""
    # File systems without locks are common where data is kept; nobody writes here.
    return opened(path, "an HDF5", lambda path: h5py.File(path, "r", locking="best-effort"))


def hdf5_names(path: Path) -> list[str]:
    """The names of all arrays in an HDF5 file, those behind links left out."""
    found: dict[str, Any] = {}
    with hdf5(path) as file:
        file.visititems(found.__setitem__)
        return [name for name, node in found.items() if isinstance(node, h5py.Dataset)]


def hdf5_array(path: Path, key: str) -> Table | None:
    """The rows of the array `key` of an HDF5 file; None if there is none."""
    with hdf5(path) as file:
        node = inside(file, path, key)
        if not isinstance(node, h5py.Dataset):
            return None
        _check_rows_of_numbers(path, key, node.dtype, node.shape)
        judge(node, path, key)
        rows, *shape = node.shape
        read = functools.partial(_hdf5_rows, path, key)
        return Table(str(path), path, key, rows, tuple(shape), node.dtype, read)


def judge(node: h5py.Dataset, path: Path, key: str) -> None:
    """Refuse an array by its description: kept elsewhere, never filled, or of a missing filter."""
    if node.is_virtual or node.external:
        raise UserError(
            f"{path}: {key} is kept in other files; l1kd reads only data in the file itself: "
            "copy it there"
        )
    size, stored = math.prod(node.shape or (0,)) * node.dtype.itemsize, node.id.get_storage_size()
    if size > (1 << 20) + _MAX_COMPRESSION * stored:
        raise UserError(
            f"{path}: {key} declares {size} bytes and stores {stored}: "
            "never filled, or damaged; write the file again"
        )
    chunk = math.prod(node.chunks or (0,)) * node.dtype.itemsize
    if chunk > _MAX_CHUNK:
        raise UserError(
            f"{path}: {key} is stored in pieces of {chunk / 2**20:.0f} MiB, which have to be "
            f"read as a whole; write it with chunks of at most {_MAX_CHUNK >> 20} MiB"
        )
    properties = node.id.get_create_plist()
    for place in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(place)
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                importlib.import_module("hdf5plugin")  # registers its filters
        if not h5py.h5z.filter_avail(code):
            raise UserError(
                f"{path}: {key} is compressed by the HDF5 filter {code} "
                f"({name.decode(errors='replace') or 'without a name'}), which is not installed; "
                "`pip install 'l1kd[hdf5plugin]'`, or where the filter is there "
                f"`h5repack -f GZIP=4 {path.name} NEW`"
            )


def _hdf5_rows(path: Path, key: str, start: int, stop: int) -> NDArray[Any]:
    with hdf5(path) as file:
        if not isinstance(node := inside(file, path, key), h5py.Dataset):
            raise UserError(f"{path}: {key} is gone; was the file replaced meanwhile?")
        rows = np.asarray(node[start:stop])
    if len(rows) != stop - start:
        raise replaced(path)
    return rows


def inside(file: h5py.File, path: Path, key: str) -> h5py.Group | h5py.Dataset | None:
    """The group or array `key` of an HDF5 file; None if there is none, links are refused."""
    node: Any = file
    parts = key.strip("/").split("/")
    for place, part in enumerate(parts, 1):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            # A link may lead out of the file, to anything the user can read.
            raise UserError(
                f"{path}: {'/'.join(parts[:place])} is a link; l1kd reads only data in the file "
                "itself: copy it there"
            )
        node = node[part]
    return node


def _npz(path: Path) -> contextlib.AbstractContextManager[zipfile.ZipFile]:
    return opened(path, "an NPZ", zipfile.ZipFile)


def npz_names(path: Path) -> list[str]:
    """The names of all arrays in an NPZ file."""
    with _npz(path) as archive:
        return [name.removesuffix(_NPY) for name in archive.namelist() if name.endswith(_NPY)]


def npz_array(path: Path, key: str) -> Table | None:
    """The rows of the array `key` of an NPZ file; None if there is none."""
    with _npz(path) as archive:
        if f"{key}{_NPY}" not in archive.namelist():
            return None
        info = archive.getinfo(f"{key}{_NPY}")
        with archive.open(info) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are fine
            header: Any = np.lib.format
            readers = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}
            whole_shape, fortran, dtype = readers[header.read_magic(stream)](stream)
            offset = stream.tell()
        if dtype.hasobject:
            raise UserError(
                f"{path}: {key} holds pickled Python objects, which l1kd never opens; "
                "save an array of numbers"
            )
        _check_rows_of_numbers(path, key, dtype, whole_shape)
        rows, *row_shape = whole_shape
        table = functools.partial(Table, str(path), path, key, rows, tuple(row_shape), dtype)
        size = math.prod(whole_shape) * dtype.itemsize
        if size != (found := info.file_size - offset):
            raise UserError(
                f"{path}: {key} announces {size} bytes and has {found}: "
                "truncated or damaged; write the file again"
            )
        if info.compress_type != zipfile.ZIP_STORED or fortran:
            how = "in Fortran order" if info.compress_type == zipfile.ZIP_STORED else "compressed"

            @functools.cache
            def whole() -> NDArray[Any]:
                with _npz(path) as archive, archive.open(info) as stream:
                    # Read to its end: only then the archive's checksum is verified.
                    flat = np.frombuffer(stream.read()[offset:], dtype)
                # The transpose of an array in Fortran order is in C order.
                return flat.reshape(whole_shape[::-1]).T if fortran else flat.reshape(whole_shape)

            return table(lambda start, stop: whole()[start:stop], how)
        with archive.open(info) as stream:
            # The archive's checksum covers all of it: once, without keeping any.
            while stream.read(1 << 22):
                pass
    with path.open("rb") as file:
        file.seek(info.header_offset)
        lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    first = info.header_offset + _LOCAL_HEADER.size + sum(lengths) + offset

    def read(start: int, stop: int) -> NDArray[Any]:
        row = math.prod(row_shape)
        with _npz(path), path.open("rb") as file:
            file.seek(first + start * row * dtype.itemsize)
            flat = np.fromfile(file, dtype, (stop - start) * row)
        if flat.size != (stop - start) * row:
            raise replaced(path)
        return flat.reshape(stop - start, *row_shape)

    return table(read)
