"""Numbers out of HDF5 files that nobody has to trust: only what is in the file, only numbers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd.core.errors import UserError

# No compression of event data comes near: a file that declares more is not what it says.
_MAX_COMPRESSION = 5000
_MAX_CHUNK = 1 << 29


@dataclass(frozen=True)
class Numbers:
    """Shape (rows, ...) and value type of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; whatever h5py raises about it comes out as a UserError."""
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {found}; correct the path")
    try:
        # File systems without locks are common where data is kept; nobody writes here.
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise UserError(
            f"{path}: not an HDF5 file, or truncated or damaged ({error}); "
            "fetch or write the file again"
        ) from error


def names(path: Path) -> list[str]:
    """The names of all arrays in a file, those behind links left out."""
    found: dict[str, Any] = {}
    with opened(path) as file:
        file.visititems(found.__setitem__)
        return [name for name, node in found.items() if isinstance(node, h5py.Dataset)]


def inspect(path: Path, key: str) -> Numbers | None:
    """Shape and type of the array `key`; None if there is none."""
    with opened(path) as file:
        node = _node(file, path, key)
        if not isinstance(node, h5py.Dataset):
            return None
        shape, dtype = node.shape, node.dtype
        if shape is None or dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise UserError(
                f"{path}: {key} holds {'nothing' if shape is None else dtype}, real numbers are "
                "expected"
            )
        if node.is_virtual or node.external:
            raise UserError(
                f"{path}: {key} is kept in other files; l1kd reads only data in the file itself: "
                "copy it there"
            )
        declared, stored = math.prod(shape) * dtype.itemsize, node.id.get_storage_size()
        if declared > (1 << 20) + _MAX_COMPRESSION * stored:
            raise UserError(
                f"{path}: {key} declares {declared} bytes and stores {stored}: "
                "never filled, or damaged; write the file again"
            )
        chunk = math.prod(node.chunks or (0,)) * dtype.itemsize
        if chunk > _MAX_CHUNK:
            raise UserError(
                f"{path}: {key} is stored in pieces of {chunk / 2**20:.0f} MiB, which have to be "
                f"read as a whole; write it with chunks of at most {_MAX_CHUNK >> 20} MiB"
            )
        return Numbers(tuple(shape), dtype)


def read_rows(path: Path, key: str, start: int, stop: int) -> NDArray[Any]:
    """Rows of an array that `inspect` has seen."""
    with opened(path) as file:
        node = _node(file, path, key)
        if not isinstance(node, h5py.Dataset):
            raise UserError(f"{path}: {key} is gone; was the file replaced meanwhile?")
        rows = np.asarray(node[start:stop])
    if len(rows) != stop - start:
        raise UserError(f"{path}: shorter than it was; was the file replaced meanwhile?")
    return rows


def _node(file: h5py.File, path: Path, key: str) -> Any:
    node: Any = file
    for part in key.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            # A link may lead out of the file, to anything the user can read.
            raise UserError(
                f"{path}: {key} is a link; l1kd reads only data in the file itself: copy it there"
            )
        node = node[part]
    return node
