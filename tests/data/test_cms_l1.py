"""The CMS Level-1 set in both of its layouts, its traps, and what is wrong with other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.data import event_tables, parquet_rows
from l1kd.data.cms_l1 import CmsL1Data, Objects, object_table
from l1kd.data.sources import open_dataset, open_table
from tests.data.event_files import (
    Event,
    cms_events,
    cms_features,
    write_hugging_face,
    write_zenodo,
)

NUMBERS = {"met": 1, "muons": 4, "jets": 10, "egammas": 12}
EVENTS = cms_events(120)
GRID = FixedPoint(13, 9)
POINT = 1 << 4  # counts of 1/16


def configured(background: Path | list[Path], **more: Any) -> CmsL1Data:
    paths = [str(path) for path in (background if isinstance(background, list) else [background])]
    return CmsL1Data(source="cmsl1", background=paths, **more)


def everything(dataset: Any) -> Any:
    parts = [sample.events() for sample in (dataset.train, dataset.val, dataset.test)]
    return np.concatenate(parts)


def in_order(events: Any) -> Any:
    flat = np.asarray(events, np.int64).reshape(len(events), -1)
    return flat[np.lexsort(flat.T)]


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    return write_hugging_face(tmp_path / "data" / "ZB" / "train-00000-of-00001.parquet", EVENTS)


@pytest.fixture
def zenodo(tmp_path: Path) -> Path:
    return write_zenodo(tmp_path / "zerobias" / "396102" / "train", [EVENTS[:70], EVENTS[70:]])


@pytest.mark.parametrize("layout", ["hugging_face", "zenodo"])
def test_both_layouts_give_the_integers_of_the_schema(
    layout: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(layout)
    table = open_table(configured(path), str(path), GRID)
    assert (table.rows, table.shape) == (120, (27, 3))
    got = table.read(0, 120) * POINT
    np.testing.assert_array_equal(got, cms_features(EVENTS, NUMBERS))
    np.testing.assert_array_equal(
        table.read(67, 74) * POINT, got[67:74]
    )  # over the edge of two files
    dataset = open_dataset(configured(path), 3)
    assert (dataset.shape, dataset.grid, dataset.port) == ((27, 3), GRID, None)
    assert [len(dataset.train), len(dataset.val), len(dataset.test)] == [60, 12, 48]
    np.testing.assert_array_equal(in_order(everything(dataset) * POINT), in_order(got))
    whole = open_dataset(configured(path, fraction_bits=0), 3)
    np.testing.assert_array_equal(everything(whole), everything(dataset) * POINT)
    assert whole.grid == FixedPoint(13, 13)
    assert dataset.grid.holds(everything(dataset)).all()


def test_numbers_of_objects(hugging_face: Path) -> None:
    numbers = {"met": 0, "muons": 8, "jets": 2, "egammas": 0, "taus": 3}
    data = configured(hugging_face, objects=Objects(**numbers))
    got = object_table(data, hugging_face, GRID).read(0, 120) * POINT
    wanted = {kind: number for kind, number in numbers.items() if number}
    np.testing.assert_array_equal(got, cms_features(EVENTS, wanted))
    assert Objects(met=0, jets=0).grid(0) == FixedPoint(11, 11)  # muons' phi reaches 1023
    assert Objects(met=0).grid(3) == FixedPoint(12, 9)  # jets' Et 2047
    none = configured(hugging_face, objects=Objects(met=0, muons=0, jets=0, egammas=0))
    with pytest.raises(UserError, match="no object is left"):
        open_dataset(none, 1)


def one(**changes: Any) -> list[Event]:
    """Thirty events of which the first is changed."""
    events = cms_events(30, seed=4)
    events[0] = events[0] | changes
    return events


def read(path: Path, **more: Any) -> Any:
    return (object_table(configured(path, **more), path, GRID).read(0, 10)[0] * POINT).tolist()


def test_muons_are_sorted_and_one_count_means_nothing(tmp_path: Path) -> None:
    muons = [(1, 5, 6), (40, -7, 500), (0, 9, 9), (511, 8, 1), (40, 3, 2)]
    path = write_hugging_face(tmp_path / "a.parquet", one(muons=muons))
    expected = [[510, 8, 1], [39, -7, 500], [39, 3, 2], [0, 5, 6]]
    assert read(path, objects=Objects(met=0, jets=0, egammas=0)) == expected


def test_an_overflow_of_the_total_energy_is_left_out(tmp_path: Path) -> None:
    path = write_hugging_face(tmp_path / "a.parquet", one(ET=4095))
    dataset = open_dataset(configured(path), 1)
    assert len(everything(dataset)) == 29
    assert "1 ET_Et = 4095, an overflow" in dataset.description["acceptance"]
    # new events keep their places: all of them get a score
    assert len(object_table(configured(path), path, GRID).read(0, 30)) == 30


@pytest.mark.parametrize(
    "changes",
    [{"jets": [(2047, 1, 2)]}, {"egammas": [(511, 1, 2)]}, {"muons": [(511, 0, 0)]},
     {"MET": (4095, 3)}],
)  # fmt: skip
def test_saturated_objects_stay_as_the_hardware_has_them_or_go(
    changes: Any, tmp_path: Path
) -> None:
    path = write_hugging_face(tmp_path / "a.parquet", one(**changes))
    kept = open_dataset(configured(path), 1)
    assert len(everything(kept)) == 30
    assert "1 kept with a saturated object" in kept.description["acceptance"]
    left = open_dataset(configured(path, saturated="drop"), 1)
    assert len(everything(left)) == 29
    assert "1 a saturated object" in left.description["acceptance"]


@pytest.mark.parametrize("layout", [write_hugging_face, None])
def test_seeds_are_found_by_name_whatever_their_order(layout: Any, tmp_path: Path) -> None:
    """Data and simulation have other seeds in other places."""
    data, simulation = cms_events(40, seed=1, seeds=8), cms_events(40, seed=2, seeds=5)
    for event in simulation:
        event["seeds"] = dict(reversed(event["seeds"].items()))
    paths = []
    for name, events in (("data", data), ("simulation", simulation)):
        if layout:
            paths.append(layout(tmp_path / f"{name}.parquet", events))
        else:
            paths.append(write_zenodo(tmp_path / name, [events]))
    dataset = open_dataset(configured(paths, without_seeds=["L1_Seed1", "L1_Seed4"]), 1)
    wanted = [
        event
        for event in data + simulation
        if not event["seeds"]["L1_Seed1"] and not event["seeds"]["L1_Seed4"]
    ]
    assert len(wanted) < 75
    got = in_order(everything(dataset) * POINT)
    np.testing.assert_array_equal(got, in_order(cms_features(wanted, NUMBERS)))
    with pytest.raises(UserError, match=r"simulation.*no seed 'L1_Seed7'.*share only some"):
        open_dataset(configured(paths, without_seeds=["L1_Seed7"]), 1)


def test_the_menu_as_a_whole(hugging_face: Path) -> None:
    dataset = open_dataset(configured(hugging_face, without_seeds=["L1bit"]), 1)
    wanted = [event for event in EVENTS if not any(event["seeds"].values())]
    assert len(everything(dataset)) == len(wanted) < 120


def test_pile_up_is_float_in_data_and_an_integer_in_simulation(tmp_path: Path) -> None:
    data = write_hugging_face(tmp_path / "a.parquet", EVENTS[:60], pyarrow.float32())
    simulation = write_hugging_face(tmp_path / "b.parquet", EVENTS[60:], pyarrow.int32())
    dataset = open_dataset(configured([data, simulation], npv=(30, 50)), 1)
    wanted = [event for event in EVENTS if 30 <= event["nPV_True"] <= 50]
    got = in_order(everything(dataset) * POINT)
    np.testing.assert_array_equal(got, in_order(cms_features(wanted, NUMBERS)))


def test_raw_energies_of_jets_and_lists_of_one_do_not_matter(tmp_path: Path) -> None:
    path = write_hugging_face(tmp_path / "a.parquet", EVENTS)
    whole = parquet.read_table(path)
    plain = {name: whole[name] for name in whole.column_names if name != "jets_jetRawEt"}
    for name in ("MET_Et", "MET_phi", "ET_Et"):
        plain[name] = pyarrow.array([each[0] for each in whole[name].to_pylist()], pyarrow.int16())
    parquet.write_table(pyarrow.table(plain), tmp_path / "b.parquet")
    tables = [object_table(configured(path), tmp_path / f"{name}.parquet", GRID) for name in "ab"]
    np.testing.assert_array_equal(tables[0].read(0, 120), tables[1].read(0, 120))
    assert len(everything(open_dataset(configured(tmp_path / "b.parquet"), 1))) == 120


@pytest.mark.parametrize("layout", ["hugging_face", "zenodo"])
def test_the_published_split_is_kept(layout: str, tmp_path: Path) -> None:
    parts = {"train": EVENTS[:60], "valid": EVENTS[60:80], "test": EVENTS[80:]}
    directory = tmp_path / "set"
    for name, events in parts.items():
        if layout == "zenodo":
            write_zenodo(directory / name, [events])
        else:
            write_hugging_face(directory / f"{name}-00000-of-00002.parquet", events[:10])
            write_hugging_face(directory / f"{name}-00001-of-00002.parquet", events[10:])
    signal = write_hugging_face(tmp_path / "signal" / "valid-0.parquet", cms_events(9, 5)).parent
    write_hugging_face(signal / "test-0.parquet", cms_events(11, 6))
    dataset = open_dataset(configured(directory, signals={"s": [str(signal)]}), 1)
    for sample, events in zip(
        (dataset.train, dataset.val, dataset.test), parts.values(), strict=True
    ):
        np.testing.assert_array_equal(sample.events() * POINT, cms_features(events, NUMBERS))
    assert len(dataset.signals["s"].val) + len(dataset.signals["s"].test) == 20
    other = write_hugging_face(tmp_path / "other.parquet", cms_events(30, 7))
    held_out = open_dataset(configured(directory, test=[str(other)]), 1)
    assert [len(held_out.train), len(held_out.val), len(held_out.test)] == [60, 20, 30]
    # without training events of their own they are split like any others
    simulation = open_dataset(configured(signal), 1)
    assert [len(simulation.train), len(simulation.val), len(simulation.test)] == [10, 2, 8]
    assert all(Path(file).is_file() for file in dataset.files)


def test_rows_in_any_order_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "PIECE", 7)
    path = write_hugging_face(tmp_path / "a.parquet", EVENTS, group=33)
    table, wanted = object_table(configured(path), path, GRID), cms_features(EVENTS, NUMBERS)
    random = np.random.default_rng(0)
    for _ in range(60):
        start, stop = np.sort(random.integers(0, 121, 2)).tolist()
        if start < stop:
            np.testing.assert_array_equal(table.read(start, stop) * POINT, wanted[start:stop])


def test_a_file_is_decoded_once_by_whoever_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "PIECE", 10)
    opened: list[int] = []
    batches = parquet_rows.ParquetFile.batches

    def counted(self: Any, columns: Any, start: int) -> Any:
        opened.append(start)
        return batches(self, columns, start)

    monkeypatch.setattr(parquet_rows.ParquetFile, "batches", counted)
    path = write_hugging_face(tmp_path / "a.parquet", EVENTS, group=1000)
    table = object_table(configured(path), path, GRID)
    for start in (10, 0, 30, 20, 40, 60, 50):  # as two threads ask
        table.read(start, start + 10)
    assert opened == [10, 0]


def test_streamed_is_as_kept(hugging_face: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_tables, "BLOCK_EVENTS", 16)
    kept = open_dataset(configured(hugging_face), 3)
    monkeypatch.setattr(event_tables, "MEMORY_LIMIT", 0)
    streamed = open_dataset(configured(hugging_face), 3)
    for one, other in zip(
        kept.train.shuffled(8, 9, 4), streamed.train.shuffled(8, 9, 4), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def rewritten(path: Path, **columns: Any) -> Path:
    """The same file with other columns; None: without one."""
    table = parquet.read_table(path)
    for name, array in columns.items():
        table = table.drop_columns(name)
        if array is not None:
            table = table.append_column(name, array)
    parquet.write_table(table, path)
    return path


def values_of(path: Path, name: str) -> list[list[Any]]:
    found: list[list[Any]] = parquet.read_table(path)[name].to_pylist()
    return found


def with_value(path: Path, name: str, event: int, value: Any) -> Any:
    values = values_of(path, name)
    values[event] = [value, *values[event][1:]]
    return pyarrow.array(values, pyarrow.large_list(pyarrow.float64()))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("jets_jetIEt", np.nan, "has jets_jetIEt = nan; whole numbers from 0 to 2047"),
        ("jets_jetIEt", 22.5, "= 22.5; whole"),
        ("jets_jetIEt", 2048, "= 2048.0; whole"),
        ("jets_jetIEta", 1e300, r"= 1e\+300; whole numbers from -128 to 127"),
        ("jets_jetIPhi", -1, "= -1.0; whole numbers from 0 to 255"),
        ("muons_muonIEt", 512, "0 to 511"),
        ("MET_Et", np.inf, "= inf; whole"),
    ],
)
def test_values_that_the_hardware_does_not_have(
    name: str, value: float, words: str, tmp_path: Path
) -> None:
    events = cms_events(30, seed=2)
    events[17] |= {"jets": [(9, 1, 1)], "muons": [(9, 1, 1)]}
    path = write_hugging_face(tmp_path / "a.parquet", events)
    rewritten(path, **{name: with_value(path, name, 17, value)})
    with pytest.raises(UserError, match=rf"a\.parquet: event 17 .*{words}") as caught:
        open_dataset(configured(path), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: {"jets_jetIEt": None}, r"no column jets_jetIEt or jetIEt; is it of the CMS"),
        (lambda path: {"ET_Et": None}, "no column ET_Et"),
        (
            lambda path: {"jets_jetIEt": pyarrow.array([["a"]] * 120)},
            "holds .*string, real numbers",
        ),
        (lambda path: {"jets_jetIEt": pyarrow.array([["1"]] * 120)}, "real numbers"),
        (
            lambda path: {
                "jets_jetIEt": pyarrow.array([None, *values_of(path, "jets_jetIEt")[1:]])
            },
            "1 missing lists",
        ),
        (
            lambda path: {"jets_jetIEt": pyarrow.array([[1, None], *[[]] * 119])},
            "1 missing values",
        ),
        (
            lambda path: {"jets_jetIPhi": pyarrow.array([[1] * 13, *[[]] * 119])},
            r"event \d+ has \d+ jets_jetIEt and \d+ jets_jetIPhi",
        ),
        (lambda path: {"ET_Et": pyarrow.array([[1]] * 11 + [[]] * 109)}, "event 11 has 0 ET_Et"),
        (
            lambda path: {"ET_Et": pyarrow.array([[[1]]] * 120)},
            "ET_Et holds .*list.*, real numbers",
        ),
    ],
)
def test_other_columns(change: Any, words: str, hugging_face: Path) -> None:
    rewritten(hugging_face, **change(hugging_face))
    with pytest.raises(UserError, match=words) as caught:
        open_dataset(configured(hugging_face), 1)
    assert str(hugging_face) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files(kept: float, hugging_face: Path) -> None:
    whole = hugging_face.read_bytes()
    hugging_face.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"parquet: not a Parquet file") as caught:
        open_dataset(configured(hugging_face), 1)
    assert "\n" not in str(caught.value)


def test_damage_anywhere_is_an_error_of_one_line_or_harmless(hugging_face: Path) -> None:
    whole = hugging_face.read_bytes()
    refused = 0
    for position in np.linspace(4, len(whole) - 40, 60).astype(int):
        damaged = bytearray(whole)
        damaged[position : position + 32] = bytes(255 - b for b in whole[position : position + 32])
        hugging_face.write_bytes(damaged)
        try:
            open_dataset(configured(hugging_face), 1)
        except UserError as error:
            assert str(hugging_face) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_other_files(tmp_path: Path, hugging_face: Path, zenodo: Path) -> None:
    with pytest.raises(UserError, match="no such file or directory"):
        open_dataset(configured(tmp_path / "none"), 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither Parquet files nor folders"):
        open_dataset(configured(tmp_path / "empty"), 1)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match=r"text\.parquet: not a Parquet file"):
        open_dataset(configured(tmp_path / "text.parquet"), 1)
    with pytest.raises(UserError, match=r"stands in data.background and in data.test"):
        open_dataset(configured(hugging_face, test=[str(hugging_face)]), 1)
    next((zenodo / "jets").iterdir()).unlink()
    with pytest.raises(UserError, match=r"120 rows in MET and (50|70) in jets.*fetch what"):
        open_dataset(configured(zenodo), 1)
    for file in (zenodo / "jets").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no Parquet files in its folder 'jets'"):
        open_dataset(configured(zenodo), 1)
    with pytest.raises(UserError, match="several splits or files"):
        write_hugging_face(hugging_face.parent / "test-0.parquet", EVENTS)
        object_table(configured(hugging_face), hugging_face.parent, GRID)
