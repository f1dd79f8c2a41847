"""CICADA's files in all their variants, and what is wrong with the others."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data import calorimeter, event_tables
from l1kd.data.calorimeter import CaloData
from l1kd.data.sources import open_dataset, open_table

RNG = np.random.default_rng(1)


def regions(events, dtype=np.int16):
    return np.minimum(RNG.exponential(20, (events, 18, 14)), 1023).astype(np.int16).astype(dtype)


def write(path, arrays, **options):
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, **options)
    return str(path)


def configured(background, **more):
    more.setdefault("exposure", [])
    return CaloData(source="calo", background=[background], **more)


@pytest.fixture
def events():
    return regions(60)


@pytest.fixture(autouse=True)
def no_embedded_sample(monkeypatch, tmp_path):
    # These tests are about the files they write.
    monkeypatch.setattr("l1kd.data.calorimeter.embedded_directory", lambda: tmp_path / "nothing")


def everything(dataset):
    parts = [dataset.train.events(), dataset.val.events(), dataset.test.events()]
    return np.concatenate(parts)


def in_order(events):
    flat = np.asarray(events, np.float64).reshape(len(events), -1)
    return flat[np.lexsort(flat.T)]


@pytest.mark.parametrize(
    "variant",
    [
        lambda x: {"CaloRegions": x},
        lambda x: {"CaloRegions": x.astype(np.float64), "AcceptanceFlag": np.zeros(0, bool)},
        lambda x: {"CaloRegions": x.astype(np.float32), "run": np.zeros(60), "nPV": np.zeros(60)},
        lambda x: {"CaloRegions": x.astype(np.uint16), "AcceptanceFlag": np.ones(60, bool)},
        lambda x: {"CaloRegions": x.astype(">i8")},
        lambda x: {"CaloRegions": x[..., None]},
        lambda x: {"CaloRegions": x.reshape(-1, 252)},
        lambda x: {"et": x, "tauBits": np.zeros((60, 18, 14)), "egBits": np.zeros((60, 18, 14))},
        lambda x: {"CaloRegions/et": x, "CaloRegions/taubit": x, "PV_npvs": np.zeros(60)},
    ],
)
def test_every_variant_gives_the_same_events(tmp_path, events, variant):
    dataset = open_dataset(configured(write(tmp_path / "a.h5", variant(events))), 3)
    assert dataset.shape == (18, 14, 1)
    assert dataset.grid == calorimeter.GRID
    assert dataset.standardise_axes == (0,)
    assert [len(dataset.train), len(dataset.val), len(dataset.test)] == [30, 6, 24]
    got = everything(dataset)
    assert got.dtype == np.float32
    assert dataset.grid.holds(got).all()
    np.testing.assert_array_equal(in_order(got), in_order(events))


def test_files_of_a_role_are_one_after_another(tmp_path):
    parts = [regions(7), regions(4, np.float64)]
    paths = [write(tmp_path / f"{i}.h5", {"CaloRegions": x}) for i, x in enumerate(parts)]
    data = configured(
        write(tmp_path / "b.h5", {"CaloRegions": regions(20)}),
        test=paths,
        signals={"s": [write(tmp_path / "s.h5", {"et": regions(5)})]},
        exposure=[write(tmp_path / "e.h5", {"et": regions(3)})],
    )
    dataset = open_dataset(data, 3)
    np.testing.assert_array_equal(dataset.test.events()[..., 0], np.concatenate(parts))
    assert [len(dataset.train), len(dataset.val)] == [17, 3]  # 0.5 to 0.1 of all 20
    assert [len(dataset.signals["s"].val), len(dataset.signals["s"].test)] == [3, 2]
    assert len(dataset.exposure) == 3
    assert len(dataset.files) == 5


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 256)
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 1 << 20)

    def peak(events):
        path = write(
            tmp_path / f"{events}.h5",
            {"CaloRegions": regions(events)},
            chunks=(128, 18, 14),
            compression="gzip",
        )
        tracemalloc.start()
        dataset = open_dataset(configured(path), 3)
        seen = sum(len(chunk) for chunk in dataset.train.shuffled(64, 1, 0))
        seen += sum(len(chunk) for chunk in dataset.test.chunks(64))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == round(0.9 * events)
        return highest

    peak(2000)  # imports, caches
    small, large = peak(3000), peak(24000)
    # The large set has 12 MB as int16.
    assert large < small + 1_000_000


def test_streaming_gives_what_memory_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 100)
    flags = RNG.random(1000) < 0.5
    path = write(tmp_path / "a.h5", {"CaloRegions": regions(1000), "AcceptanceFlag": flags})
    data = configured(path, acceptance="require")
    kept = open_dataset(data, 3)
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 0)
    read = open_dataset(data, 3)
    assert len(kept.train) + len(kept.val) + len(kept.test) == np.count_nonzero(flags)
    for one, other in zip(
        kept.train.shuffled(32, 9, 4), read.train.shuffled(32, 9, 4), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_acceptance(tmp_path):
    events = regions(40)
    flags = np.arange(40) % 4 == 0
    background = write(tmp_path / "b.h5", {"CaloRegions": regions(30), "AcceptanceFlag": []})
    signal = write(tmp_path / "s.h5", {"CaloRegions": events, "AcceptanceFlag": flags})
    given = {"signals": {"s": [signal]}}

    ignored = open_dataset(configured(background, **given), 3)
    assert len(ignored.signals["s"].val) + len(ignored.signals["s"].test) == 40
    words = ignored.description["acceptance"]
    assert words.startswith("the AcceptanceFlag was ignored")
    assert "background: no flags (30 events); signals.s: 10 of 40 flags true (40 events)" in words

    required = open_dataset(configured(background, acceptance="require", **given), 3)
    kept = required.signals["s"]
    got = np.concatenate([kept.val.events(), kept.test.events()])
    np.testing.assert_array_equal(in_order(got), in_order(events[flags]))
    assert required.description["acceptance"].startswith("only events whose AcceptanceFlag is true")
    # Recorded data has no flags: all of it stays.
    assert len(required.train) == 15


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (np.zeros(0, bool), "no acceptance flags, and data.acceptance is `require`"),
        (np.zeros(40, bool), "no flag that is true"),
        (np.ones(39, bool), r"AcceptanceFlag has the shape \(39,\) for 40 events"),
    ],
)
def test_acceptance_that_cannot_be_required(tmp_path, flags, message):
    background = write(tmp_path / "b.h5", {"CaloRegions": regions(30)})
    signal = write(tmp_path / "s.h5", {"CaloRegions": regions(40), "AcceptanceFlag": flags})
    with pytest.raises(UserError, match=message) as caught:
        open_dataset(configured(background, signals={"s": [signal]}, acceptance="require"), 3)
    assert "s.h5" in str(caught.value)


@pytest.mark.parametrize("flags", [np.ones(39, bool), np.ones((40, 2)), np.array([b"yes"] * 40)])
def test_flags_that_are_ignored_may_be_anything(tmp_path, flags):
    path = write(tmp_path / "b.h5", {"CaloRegions": regions(40), "AcceptanceFlag": flags})
    dataset = open_dataset(configured(path), 3)
    assert "background: no flags (40 events)" in dataset.description["acceptance"]
    with pytest.raises(UserError, match="AcceptanceFlag"):
        open_dataset(configured(path, acceptance="require"), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1, 1024, 0.5, 1e300, 65536 + 5])
def test_values_that_are_no_counts(tmp_path, value):
    events = regions(50, np.float64)
    events[41, 3, 5] = value
    events[44, 0, 0] = -7
    path = write(tmp_path / "a.h5", {"CaloRegions": events})
    with pytest.raises(UserError, match=r"a\.h5: event 41 has a region of ") as caught:
        open_dataset(configured(path), 3)
    assert f"of {value:g};" in str(caught.value)


def test_a_bad_value_in_a_later_block_has_the_file_s_event_number(tmp_path, monkeypatch):
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 16)
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 0)
    events = regions(50)
    events[41, 3, 5] = 2000
    path = write(tmp_path / "a.h5", {"CaloRegions": events})
    with pytest.raises(UserError, match="event 41 has a region of 2000"):
        open_dataset(configured(path), 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"CaloRegions": np.zeros((9, 14, 18))}, r"shape \(9, 14, 18\).*\(events, 18, 14\)"),
        ({"CaloRegions": np.zeros((9, 18))}, r"shape \(9, 18\)"),
        ({"Regions": np.zeros((9, 18, 14))}, "neither CaloRegions nor et.*there is: Regions"),
        ({}, "no arrays"),
        ({"CaloRegions": np.zeros((9, 18, 14), complex)}, "complex128, real numbers"),
        ({"CaloRegions": np.array([b"x"] * 9)}, "real numbers"),
        ({"CaloRegions": np.float64(3)}, r"shape \(\)"),
        ({"CaloRegions": np.zeros((0, 18, 14))}, "no event left"),
    ],
)
def test_arrays_that_are_no_regions(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as caught:
        open_dataset(configured(write(tmp_path / "a.h5", arrays)), 3)
    assert "a.h5" in str(caught.value)


def test_strings_of_any_length_are_not_opened(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("CaloRegions", data=["a", "b"], dtype=h5py.string_dtype())
    with pytest.raises(UserError, match="real numbers are expected"):
        open_dataset(configured(str(path)), 3)


def test_files_that_are_no_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_dataset(configured(str(tmp_path / "none.h5")), 3)
    with pytest.raises(UserError, match="a directory"):
        open_dataset(configured(str(tmp_path)), 3)
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UserError, match=r"text\.h5: not an HDF5 file"):
        open_dataset(configured(str(tmp_path / "text.h5")), 3)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files(tmp_path, kept):
    path = tmp_path / "a.h5"
    write(path, {"CaloRegions": regions(300)}, chunks=(50, 18, 14), compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"a\.h5"):
        open_dataset(configured(str(path)), 3)


def test_damage_anywhere_is_an_error_of_one_line_or_harmless(tmp_path):
    path = tmp_path / "a.h5"
    write(
        path,
        {"CaloRegions": regions(100)},
        chunks=(50, 18, 14),
        compression="gzip",
        fletcher32=True,
    )
    whole = path.read_bytes()
    refused = 0
    for position in np.linspace(0, len(whole) - 64, 60).astype(int):
        damaged = bytearray(whole)
        damaged[position : position + 32] = bytes(
            255 - b for b in damaged[position : position + 32]
        )
        path.write_bytes(damaged)
        try:
            open_dataset(configured(str(path)), 3)
        except UserError as error:
            assert "a.h5" in str(error)
            refused += 1
    assert refused > 40  # the rest hit bytes that mean nothing


def test_data_in_other_files_is_refused(tmp_path, events):
    target = write(tmp_path / "target.h5", {"CaloRegions": events})
    linked, virtual, raw = tmp_path / "l.h5", tmp_path / "v.h5", tmp_path / "r.h5"
    with h5py.File(linked, "w") as file:
        file["CaloRegions"] = h5py.ExternalLink(target, "CaloRegions")
    with pytest.raises(UserError, match="is a link"):
        open_dataset(configured(str(linked)), 3)
    layout = h5py.VirtualLayout((60, 18, 14), np.int16)
    layout[:] = h5py.VirtualSource(target, "CaloRegions", (60, 18, 14))
    with h5py.File(virtual, "w") as file:
        file.create_virtual_dataset("CaloRegions", layout)
    with pytest.raises(UserError, match="kept in other files"):
        open_dataset(configured(str(virtual)), 3)
    (tmp_path / "raw.bin").write_bytes(events.tobytes())
    with h5py.File(raw, "w") as file:
        file.create_dataset(
            "CaloRegions",
            (60, 18, 14),
            np.int16,
            external=[(str(tmp_path / "raw.bin"), 0, events.nbytes)],
        )
    with pytest.raises(UserError, match="kept in other files"):
        open_dataset(configured(str(raw)), 3)


def test_an_array_that_only_claims_to_be_there(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("CaloRegions", (10**9, 18, 14), np.int16, chunks=(100, 18, 14))
    with pytest.raises(UserError, match="declares 504000000000 bytes and stores 0"):
        open_dataset(configured(str(tmp_path / "a.h5")), 3)


def test_a_file_in_two_roles(tmp_path, events):
    path = write(tmp_path / "a.h5", {"CaloRegions": events})
    (tmp_path / "again.h5").symlink_to(path)
    with pytest.raises(UserError, match=r"again.h5 stands in data.background and in data.test"):
        open_dataset(configured(path, test=[str(tmp_path / "again.h5")]), 3)


def test_a_file_that_shrinks_while_it_is_used(tmp_path, monkeypatch):
    """What was read and checked stays; whoever reads on says so."""
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 0)
    path = write(tmp_path / "a.h5", {"CaloRegions": regions(60)})
    dataset, table = open_dataset(configured(path), 3), calorimeter.region_table(tmp_path / "a.h5")
    before = dataset.train.events()
    write(path, {"CaloRegions": regions(50)})
    np.testing.assert_array_equal(dataset.train.events(), before)
    with pytest.raises(UserError, match="replaced meanwhile"):
        table.read(0, 60)


def bits(events):
    return RNG.random((events, 18, 14)) < 0.1


@pytest.mark.parametrize(
    "names",
    [
        ("et", "taubit", "egbit"),
        ("et", "tauBits", "egBits"),
        ("CaloRegions/et", "CaloRegions/taubit", "CaloRegions/egbit"),
    ],
)
def test_channels(tmp_path, events, names):
    given = (events, bits(60), bits(60).astype(np.float32))
    arrays = dict(zip(names, given, strict=True))
    arrays |= {"PV_npvs": np.zeros(60), "AcceptanceFlag": np.zeros(0, bool)}
    path = write(tmp_path / "a.h5", arrays)
    wanted = np.stack([np.asarray(own, np.int64) for own in given], axis=-1)
    data = configured(path, channels=["et", "taubit", "egbit"])
    dataset = open_dataset(data, 3)
    assert (dataset.shape, dataset.grid) == ((18, 14, 3), calorimeter.GRID)
    assert dataset.port == calorimeter.PORT
    np.testing.assert_array_equal(in_order(everything(dataset)), in_order(wanted))
    table = open_table(data, path, calorimeter.PORT)
    np.testing.assert_array_equal(table.read(7, 31), wanted[7:31])
    one = open_table(configured(path, channels=["et", "egbit"]), path, calorimeter.PORT)
    np.testing.assert_array_equal(one.read(0, 60), wanted[..., [0, 2]])
    assert open_dataset(configured(path), 3).shape == (18, 14, 1)


def test_channels_that_are_not_as_they_should_be(tmp_path, events):
    def refused(message, **arrays):
        path = write(tmp_path / "a.h5", arrays)
        with pytest.raises(UserError, match=message) as caught:
            open_dataset(configured(path, channels=["et", "taubit"]), 3)
        assert "a.h5" in str(caught.value)

    refused("no taubit is in it .there is: CaloRegions.*data.channels", CaloRegions=events)
    refused("60 events in et and 59 in taubit", et=events, taubit=bits(59))
    refused(r"taubit has the shape \(60, 14, 18\)", et=events, taubit=bits(60).reshape(60, 14, 18))
    refused(
        "has a taubit of 2; taubits are whole numbers from 0 to 1", et=events, taubit=bits(60) * 2
    )
    for channels in (["taubit"], ["et", "et"], []):
        with pytest.raises(ValueError, match="channels"):
            configured("x.h5", channels=channels)


def test_exposure_without_a_sample_says_why(tmp_path, events):
    dataset = open_dataset(configured(write(tmp_path / "a.h5", {"CaloRegions": events})), 3)
    assert dataset.exposure is None
    assert dataset.description["exposure"].startswith("none: ")
