"""Grids: how many points, which settings, what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l1kd.core import config_file
from l1kd.core.errors import UserError
from l1kd.core.sweep_config import LIMIT, Group, Sweep

KEYS = st.text("abcdefgh", min_size=1, max_size=3)
VALUES = st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True)
TREES = st.dictionaries(
    KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=2)), max_size=2
)


def flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{above}.{key}" if above else key
        found |= flat(value, dotted) if isinstance(value, dict) else {dotted: value}
    return found


@given(TREES)
def test_a_grid_is_the_product_of_its_lists(grid: dict[str, Any]) -> None:
    group, axes = Group(grid=grid), flat(grid)
    points = list(group.points("any"))
    assert len(points) == group.size
    assert [tuple(point.varied.values()) for point in points] == list(
        itertools.product(*axes.values())
    )
    for point in points:
        assert list(point.varied) == list(axes)
        for setting in point.settings:
            inside: Any = {"sweep": {"groups": {"any": {"grid": grid}}}}
            for step in setting.origin:
                inside = inside[step]
            assert inside == setting.value


def test_what_a_group_sets_comes_before_what_it_varies() -> None:
    group = Group(set={"distillation": {"mode": "sequential"}}, grid={"seed": [3, 4]})
    (first, second) = group.points("some")
    assert [(s.key, s.value) for s in first.settings] == [
        (("distillation", "mode"), "sequential"),
        (("seed",), 3),
    ]
    assert first.varied == {"seed": 3}
    assert second.settings[1].origin == ("sweep", "groups", "some", "grid", "seed", 1)


def test_a_group_without_a_grid_is_one_run() -> None:
    sweep = Sweep(groups={"one": Group(set={"seed": 3}), "two": Group(grid={"seed": [1, 2]})})
    assert [point.group for point in sweep.points()] == ["one", "two", "two"]


def test_a_list_may_be_a_value() -> None:
    group = Group(grid={"distillation": {"exposure": [[], ["noise"], ["noise", "patch"]]}})
    assert [p.varied["distillation.exposure"] for p in group.points("x")][1] == ["noise"]


BAD = [
    ({"groups": {}}, ["sweep.groups", "at least 1"]),
    ({}, ["sweep.groups", "required"]),
    ({"groups": {"a/b": {}}}, ["sweep.groups", "'a/b'"]),
    ({"groups": {"a": {}}, "gruops": 1}, ["sweep.gruops", "did you mean 'groups'"]),
    ({"groups": {"a": {"gird": {}}}}, ["sweep.groups.a.gird", "did you mean 'grid'"]),
    ({"groups": {"a": {}}, "until": "end"}, ["sweep.until", "'end'", "known are train"]),
    ({"groups": {"a": {"grid": {"seed": 3}}}}, ["sweep.groups.a", "seed needs a list"]),
    ({"groups": {"a": {"grid": {"seed": []}}}}, ["seed needs a list"]),
    ({"groups": {"a": {"grid": {"seed": [1, 2, 1]}}}}, ["seed lists a value twice"]),
    ({"groups": {"a": {"set": {"seed": 1}, "grid": {"seed": [1]}}}}, ["`set` and in `grid`"]),
    (
        {"groups": {"a": {"set": {"data": [1]}, "grid": {"data": {"normal": [1]}}}}},
        ["data.normal is in `set` and in `grid`"],
    ),
    ({"groups": {"a": {"set": {"name": "x"}}}}, ["sweep.groups.a.set", "'name'"]),
    ({"groups": {"a": {"grid": {"sweep": {"until": ["train"]}}}}}, ["'sweep'"]),
    (
        {"groups": {"a": {"grid": {"seed": list(range(101)), "threads": list(range(1, 101))}}}},
        ["10100 runs", str(LIMIT)],
    ),
]


@pytest.mark.parametrize(("section", "words"), BAD, ids=[words[-1] for _, words in BAD])
def test_bad_sections(tmp_path: Path, section: dict[str, Any], words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"data": {"source": "mnist"}, "sweep": section}))
    with pytest.raises(UserError) as caught:
        config_file.load(path)
    assert all(word in str(caught.value) for word in ["bad.yaml:", *words]), caught.value
