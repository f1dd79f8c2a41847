"""The paper's figures from a sweep: both sets of points, and no trouble with what is missing."""

import re
from xml.etree import ElementTree

import pytest

from l1kd.report import paper_numbers
from l1kd.report.sweep_tables import draw


def cell(data="mnist", mode="exposure", model="s1", bits=8, **other):
    return {
        "data": data,
        "mode": mode,
        "model": model,
        "weight_bits": bits,
        "classes": list(range(10)),
        "seeds": [7],
        "epochs": 60,
        "auc_mean": 0.9,
        "auc_std": 0.06,
        "auc_se": 0.02,
        "emd_anomalous": None if model == "teacher" else 0.006,
        "emd_normal": None if model == "teacher" else 0.001,
        "mae": 0.01,
        "spearman": 0.8,
        "group": mode,
        **other,
    }


def labels(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [text for element in root.iter() if (text := (element.text or "").strip())]


def whole():
    return [
        cell(each.data, each.mode, each.model, 32 if each.model == "teacher" else 8)
        for each in paper_numbers.CELLS
    ]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of a whole sweep; read only."""
    return draw([*whole(), cell(bits=4, group="narrow")], tmp_path_factory.mktemp("drawn"))


def test_both_sets_of_points(drawn):
    assert {path.name for path in drawn} == {
        f"{quantity}-{data}.svg" for quantity in ("auc", "emd") for data in paper_numbers.DATA
    }
    texts = labels(drawn[0].parent / "auc-mnist.svg")
    for mode in paper_numbers.MODES:
        assert f"{mode}, 8 bits" in texts
        assert f"{mode}, the paper's float students" in texts
    assert "exposure, 4 bits" in texts
    assert "teacher" in texts and "19,357" in texts and "77" in texts
    assert "teacher" not in labels(drawn[0].parent / "emd-mnist.svg")


def test_equal_cells_give_equal_figures(drawn, tmp_path):
    again = draw([*whole(), cell(bits=4, group="narrow")], tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in drawn]


def test_other_data_have_our_points_alone(tmp_path):
    own = [
        cell("l1toy", "exposure", "conv", classes=[], auc_std=None, auc_se=None),
        cell("l1toy", "exposure", "teacher", 32, classes=[], auc_std=None, auc_se=None),
    ]
    assert [path.name for path in draw(own, tmp_path)] == ["auc-l1toy.svg", "emd-l1toy.svg"]
    texts = labels(tmp_path / "auc-l1toy.svg")
    assert {"conv", "teacher", "exposure, 8 bits"} <= set(texts)
    assert not [text for text in texts if "paper" in text]


def test_what_is_missing_is_left_out(tmp_path):
    assert draw([], tmp_path) == []
    assert draw([cell(auc_mean=None, emd_anomalous=None)], tmp_path) == []
    only = draw([cell(emd_anomalous=None), cell(model="s3", emd_anomalous=None)], tmp_path)
    assert [path.name for path in only] == ["auc-mnist.svg"]
    assert "s2" not in labels(only[0])


def test_groups_that_differ_in_nothing_else_are_told_apart(tmp_path):
    draw([cell(group="plain"), cell(group="warm"), cell(model="teacher", bits=32)], tmp_path)
    texts = labels(tmp_path / "auc-mnist.svg")
    assert "exposure, 8 bits (plain)" in texts and "exposure, 8 bits (warm)" in texts


def test_fewer_classes_than_the_papers_are_said(tmp_path):
    draw([cell(classes=[0, 4, 8]), cell("fashion_mnist", classes=[4], auc_se=None)], tmp_path)
    assert "exposure, 8 bits, 3 classes" in labels(tmp_path / "auc-mnist.svg")
    assert "exposure, 8 bits, 1 class" in labels(tmp_path / "auc-fashion_mnist.svg")


def test_many_series_keep_to_their_model(tmp_path):
    many = [
        cell(bits=bits, group=f"g{number}", model=model)
        for bits in (4, 6, 8)
        for number in range(8)
        for model in ("s1", "s2")
    ]
    texts = labels(draw(many, tmp_path)[0])
    assert len([text for text in texts if re.match(r"exposure, \d bits \(g\d\)", text)]) == 24


def test_cells_without_a_group_are_drawn(tmp_path):
    bare = [{k: v for k, v in each.items() if k != "group"} for each in whole()]
    assert len(draw(bare, tmp_path)) == 4
    assert "teacher" in labels(tmp_path / "auc-mnist.svg")


def test_labels_keep_their_digits(drawn):
    """`inline` shortens numbers, in texts too: no axis may need three decimals."""
    for path in drawn:
        ticks = [text for text in labels(path) if re.fullmatch(r"[\d.]+", text)]
        assert len(ticks) == len(set(ticks)), path
