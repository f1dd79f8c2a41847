"""The sources `mnist` and `fashion_mnist`, with one class as the normal one: the paper's protocol.

The first 90 % of the normal class's training images train, the last 10 % validate; the test set is
all normal test images and as many random test images of the other classes. Pixels are n/256, which
9-bit fixed point holds exactly.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from l1kd.core.config import DataSection, EventPath, Int, Source
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Block, Dataset, Sample, Signal
from l1kd.data.mnist_files import KNOWN, find, load, not_found

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
    normal: Annotated[Int, Field(ge=0, le=9)] = 0
    directory: EventPath | None = None  # null: where `mnist_files.find` looks


def open_images(data: ImagesData, seed: int) -> Dataset:
    """The data set of one normal class."""
    known = KNOWN[data.source]
    files = find(data.source, data.directory)
    if files is None:
        raise UserError(f"{known.title} was not found; {not_found(data.source)}")
    images = load(data.source, files)
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
    title = KNOWN[other].title
    try:
        files = find(other, beside=data.directory)
        if files is None:
            return None, f"{title} was not found; {not_found(other)}", ()
        images = load(other, files)
    except UserError as error:
        return None, str(error), ()
    return _sample("exposure", images.train), f"all training images of {title}", images.files[:2]


def _find(name: str) -> tuple[str | None, str]:
    try:
        files = find(name)
    except UserError as error:
        return None, str(error)
    return (str(files[0].parent), "") if files else (None, not_found(name))


SOURCES = [
    Source(
        name=name,
        about=f"{known.title}, one class normal",
        section=ImagesData,
        defaults=DEFAULTS,
        port=PORT,
        crossings_mhz=None,
        open=open_images,
        find=functools.partial(_find, name),
    )
    for name, known in KNOWN.items()
]
