"""The user's own arrays, good ones and all the others."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l1kd.core.config import Grid
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables
from l1kd.data.array_files import npz_array
from l1kd.data.event_tables import Table
from l1kd.data.sources import open_dataset
from l1kd.data.user_arrays import ArraysData, _narrowest

RNG = np.random.default_rng(5)
GRID = {"word": 8, "integer": 3}  # steps of 1/32 from -4 up to 4


def on_grid(events, shape=(4,), dtype=np.float64):
    return (RNG.integers(-128, 128, (events, *shape)) / 32).astype(dtype)


def configured(background, grid=GRID, **more):
    return ArraysData(source="arrays", background=background, grid=grid and Grid(**grid), **more)


def opened(*arguments, **more):
    return open_dataset(configured(*arguments, **more), 3)


def save(path, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return str(path)


def everything(dataset):
    parts = [dataset.train.events(), dataset.val.events(), dataset.test.events()]
    return np.concatenate(parts)


def in_order(events):
    flat = np.asarray(events, np.float64).reshape(len(events), -1)
    return flat[np.lexsort(flat.T)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f8", ">f4"])
@pytest.mark.parametrize("shape", [(4,), (57,), (3, 2), (5, 4, 3, 2)])
def test_npz_and_hdf5_of_any_shape(tmp_path, dtype, shape):
    events = on_grid(40, shape, dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/down"] = events
    paths = [
        save(tmp_path / "one.npz", x=events),
        save(tmp_path / "two.npz", compressed=True, x=events, y=events[:, :1]) + ":x",
        save(tmp_path / "three.npz", x=np.asfortranarray(events)) + ":x",
        str(tmp_path / "a.h5"),
        str(tmp_path / "a.h5:deep/down"),
        str(tmp_path / "a.h5:/deep/down"),
    ]
    for path in paths:
        dataset = opened([path])
        assert dataset.shape == shape
        assert dataset.grid == FixedPoint(8, 3)
        assert dataset.standardise_axes == ()
        got = everything(dataset)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(in_order(got), in_order(events))


def test_roles(tmp_path):
    parts = {name: on_grid(n) for name, n in {"a": 20, "b": 10, "t": 8, "s": 7, "e": 5}.items()}
    paths = {name: save(tmp_path / f"{name}.npz", x=x) for name, x in parts.items()}
    dataset = opened(
        [paths["a"], paths["b"]],
        test=[paths["t"]],
        signals={"odd": [paths["s"]]},
        exposure=[paths["e"]],
        split=(0.4, 0.2, 0.4),
    )
    assert [len(dataset.train), len(dataset.val)] == [20, 10]
    np.testing.assert_array_equal(dataset.test.events(), parts["t"])
    np.testing.assert_array_equal(dataset.exposure.events(), parts["e"])
    assert len(dataset.files) == 5
    with pytest.raises(UserError, match=r"in data\.background and in data.test"):
        opened([paths["a"]], test=[paths["a"] + ":x"])


def test_one_file_may_hold_several_roles(tmp_path):
    path = save(tmp_path / "all.npz", normal=on_grid(30), odd=on_grid(9))
    dataset = opened([path + ":normal"], signals={"odd": [path + ":odd"]})
    assert len(dataset.signals["odd"].test) == 4
    assert dataset.files == (path,)


def test_a_colon_in_a_directory_s_name(tmp_path):
    (tmp_path / "run:3").mkdir()
    path = save(tmp_path / "run:3" / "a.npz", x=on_grid(20))
    assert len(opened([path]).train) == len(opened([path + ":x"]).train) == 10


@pytest.mark.parametrize(
    ("values", "word"),
    [([0, 1], 2), ([0, 0], 2), ([-1, 0], 2), ([-2, 1], 2), ([0, 1023], 11), ([-1024, 1023], 11),
     ([-1025, 0], 12), ([0, 2**23 - 1], 24)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_narrowest_integer_type(tmp_path, values, word, dtype):
    events = np.tile(np.array(values, dtype), (20, 3))
    dataset = opened([save(tmp_path / "a.npz", x=events)], grid=None)
    assert dataset.grid == FixedPoint(word, word, signed=True)
    np.testing.assert_array_equal(in_order(everything(dataset)), in_order(events))


@settings(deadline=None)
@given(values=st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=20))
def test_the_narrowest_type_holds_all_and_no_narrower_one_does(values):
    data = np.array(values)[:, None]
    table = Table("t", Path(), "", len(data), (1,), data.dtype, lambda a, b: data[a:b])
    grid = _narrowest([table])
    assert grid.holds(data).all()
    assert grid.word == 2 or not FixedPoint(grid.word - 1, grid.word - 1).holds(data).all()


def test_the_narrowest_type_looks_at_every_role(tmp_path):
    a, b = np.ones((20, 2), np.uint8), np.full((20, 2), 200, np.uint8)
    dataset = opened(
        [save(tmp_path / "a.npz", x=a)], grid=None, signals={"s": [save(tmp_path / "b.npz", x=b)]}
    )
    assert dataset.grid == FixedPoint(9, 9)
    np.testing.assert_array_equal(dataset.signals["s"].val.events(), 200)


def test_integers_that_are_too_wide(tmp_path):
    for high in (2**23, 2**62, 2**64 - 1):
        path = save(tmp_path / "a.npz", x=np.full((20, 2), high, np.uint64))
        with pytest.raises(UserError, match="24 are the most"):
            opened([path], grid=None)


def test_floats_need_a_grid(tmp_path):
    with pytest.raises(UserError, match=r"float64 values need a fixed-point grid: set data.grid"):
        opened([save(tmp_path / "a.npz", x=on_grid(20))], grid=None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "value nan; every value must be a finite number"),
        (-np.inf, "value -inf; every value"),
        (4.0, r"value 4.0, out of the range -4 to 3.96875 of the grid fixed<8,3>"),
        (-5.0, "out of the range"),
        (0.3, r"value 0.3, which is not on the grid fixed<8,3> with steps of 0.03125; round"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_values_off_the_grid(tmp_path, monkeypatch, value, message, kind):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 8)
    events = on_grid(30)
    events[21, 2] = value
    if kind == "npz":
        path = save(tmp_path / "a.npz", x=events)
    else:
        path = str(tmp_path / "a.h5")
        with h5py.File(path, "w") as file:
            file["x"] = events
    with pytest.raises(UserError, match=message) as caught:
        opened([path])
    assert f"a.{kind}: event 21 has the" in str(caught.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


def test_pickles_are_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([Bomb(), Bomb()], dtype=object))
    with pytest.raises(UserError, match="pickled Python objects, which l1kd never opens"):
        opened([str(path)])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x80\x04\x95cbuiltins\nexit\n(tR.")
    with pytest.raises(UserError, match=r"a\.npz: not an NPZ file, or truncated or damaged"):
        opened([str(path)])


@pytest.mark.parametrize(
    ("arrays", "argument", "message"),
    [
        ({"x": np.zeros((0, 4))}, "", "no events in it"),
        ({"x": np.zeros(9)}, "", r"shape \(9,\); events are \(events, \.\.\.\)"),
        ({"x": np.float64(3)}, "", r"shape \(\)"),
        ({"x": np.zeros((9, 0))}, "", r"shape \(9, 0\)"),
        ({"x": np.zeros((9, 2), complex)}, "", "complex128, real numbers"),
        ({"x": np.zeros((9, 2), "U3")}, "", "real numbers are expected"),
        ({"x": np.zeros((9, 2), [("a", "f4")])}, "", "real numbers are expected"),
        ({"x": np.zeros((9, 2), "M8[s]")}, "", "real numbers are expected"),
        ({"x": np.zeros((9, 2), np.longdouble)}, "", "real numbers are expected"),
        ({"x": np.zeros((9, 2)), "y": np.zeros((9, 2))}, "", r"2 arrays in it \(x, y\).*npz:KEY"),
        ({"x": np.zeros((9, 2))}, ":z", "no array 'z' in it; there is x"),
        ({}, "", "no arrays in it"),
        ({}, ":z", "no array 'z' in it; there is none"),
    ],
)
def test_arrays_that_are_no_events(tmp_path, arrays, argument, message):
    with pytest.raises(UserError, match=message) as caught:
        opened([save(tmp_path / "a.npz", **arrays) + argument])
    assert "a.npz" in str(caught.value)


def test_hdf5_that_holds_no_events(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((9, 2))
        file["g/y"] = np.zeros((9, 2))
    with pytest.raises(UserError, match=r"2 arrays in it \(g/y, x\)"):
        opened([path])
    with pytest.raises(UserError, match="no array 'g' in it; there is g/y, x"):
        opened([path + ":g"])
    with pytest.raises(UserError, match="no array 'x/z'"):
        opened([path + ":x/z"])


def test_mixed_shapes(tmp_path):
    a, b = save(tmp_path / "a.npz", x=on_grid(20)), save(tmp_path / "b.npz", x=on_grid(20, (5,)))
    for more in ({"test": [b]}, {"signals": {"s": [b]}}, {"exposure": [b]}):
        with pytest.raises(UserError, match=r"b.npz: events of shape \(5,\)"):
            opened([a], **more)
    with pytest.raises(UserError, match="one shape"):
        opened([a, b])


def test_files_that_are_no_arrays(tmp_path):
    for name in ("a.npy", "a.csv", "a"):
        with pytest.raises(UserError, match=r"neither \.npz nor \.h5"):
            opened([str(tmp_path / name)])
    for name in ("a.npz", "a.h5", "a.npz:x"):
        with pytest.raises(UserError, match="no such file"):
            opened([str(tmp_path / name)])
    for name in ("a.npz", "a.h5"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(UserError, match=rf"{name}: not an"):
            opened([str(tmp_path / name)])


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_and_damaged_npz(tmp_path, compressed):
    path = tmp_path / "a.npz"
    save(path, compressed, x=on_grid(200))
    whole = path.read_bytes()
    refused = 0
    for position in np.linspace(0, len(whole) - 16, 40).astype(int):
        damaged = bytearray(whole)
        damaged[position : position + 8] = bytes(255 - b for b in damaged[position : position + 8])
        for content in (bytes(damaged), whole[:position]):
            path.write_bytes(content)
            try:
                opened([str(path)])
            except UserError as error:
                assert "a.npz" in str(error)
                refused += 1
    assert refused > 70  # the rest hit times and the like


def npy(shape, data, dtype="<f8"):
    """An array file whose header says what it likes."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data


@pytest.mark.parametrize(
    "shape", [(10**15, 4), (3, 4), (-2, 4), (2**63, 2), (4,) * 40, "x", (1.5, 2), (True, 8)]
)
def test_headers_that_lie(tmp_path, shape):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(shape, bytes(8 * 16)))
    with pytest.raises(UserError, match=r"a\.npz"):
        opened([str(path)])


def test_zip_bombs_are_not_unpacked(tmp_path, monkeypatch):
    # The directory of the archive promises little, the compressed data are much.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = npy((40, 4), b"")
    content = head + bytes(40 * 4 * 8)
    bomb = packer.compress(content + bytes(1 << 24)) + packer.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("x.npy")
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, content)
    raw = bytearray(buffer.getvalue())
    start, end = 30 + len("x.npy"), raw.index(b"PK\x01\x02")
    directory = raw[end:]
    directory[20:24] = struct.pack("<I", len(bomb))
    tail = directory.index(b"PK\x05\x06")
    directory[tail + 16 : tail + 20] = struct.pack("<I", start + len(bomb))
    raw[18:22] = struct.pack("<I", len(bomb))
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(raw[:start]) + bomb + bytes(directory))
    array = npz_array(path, "x")
    assert array.size == 40 * 4 * 8
    rows = array.read(0, 40)
    assert rows.shape == (40, 4)  # and not a byte more was kept


def test_large_archives_stream_or_say_how(tmp_path, monkeypatch):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 32)
    events = on_grid(200)
    stored, packed = save(tmp_path / "a.npz", x=events), save(tmp_path / "b.npz", True, x=events)
    fortran = save(tmp_path / "c.npz", x=np.asfortranarray(events))
    kept = opened([stored])
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(event_tables, "KEPT_LIMIT", 1000)
    read = opened([stored])
    for one, other in zip(kept.train.shuffled(8, 1, 1), read.train.shuffled(8, 1, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match=r"b.npz: x \(0 MiB\) is compressed.*HDF5"):
        opened([packed])
    with pytest.raises(UserError, match="in Fortran order"):
        opened([fortran])
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[3000] ^= 0x10
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.npz"):
        opened([stored])
    assert len(read.train) == len(read.train.events())  # what was read and checked stays


def test_hdf5_in_one_huge_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("l1kd.data.array_files._MAX_CHUNK", 1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=on_grid(200), chunks=(200, 4))
    with pytest.raises(UserError, match="chunks of at most"):
        opened([str(tmp_path / "a.h5")])


def filtered(path, number):
    """Events behind a filter of that number, in a chunk that says it went through it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((40, 4))
    properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((40, 4))
        node = h5py.h5d.create(file.id, b"events", h5py.h5t.IEEE_F32LE, space, properties)
        node.write_direct_chunk((0, 0), np.zeros((40, 4), "<f4").tobytes(), 0)
    return str(path)


def test_a_filter_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"f\.h5: events .* filter 40000 .*hdf5plugin.*h5repack"):
        opened([filtered(tmp_path / "f.h5", 40_000)])


def test_filters_of_hdf5plugin(tmp_path, monkeypatch):
    plugin = pytest.importorskip("hdf5plugin")
    events = on_grid(40)
    with h5py.File(tmp_path / "z.h5", "w") as file:
        file.create_dataset("events", data=events, **plugin.Zstd())
    found = everything(opened([str(tmp_path / "z.h5")]))
    assert (in_order(found) == in_order(events)).all()


def test_the_seed_decides_who_trains(tmp_path):
    """Of background and signals alike; one seed gives one split, another seed another."""
    events = np.arange(2000, dtype=np.int16).reshape(1000, 2)
    for name in ("normal", "odd"):
        np.savez(tmp_path / f"{name}.npz", events=events)
    data = {
        "source": "arrays",
        "background": [str(tmp_path / "normal.npz")],
        "signals": {"odd": [str(tmp_path / "odd.npz")]},
        "grid": {"word": 12, "integer": 12},
    }
    section = ArraysData.model_validate(data)
    one, same, other = (open_dataset(section, seed) for seed in (1, 1, 2))
    for sample in (lambda d: d.train, lambda d: d.test, lambda d: d.signals["odd"].test):
        first, again, third = (np.sort(sample(d).events()[:, 0]) for d in (one, same, other))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, third)
