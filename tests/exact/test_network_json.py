"""An exact network as JSON: the same network, or an error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from l1kd.core import files
from l1kd.core.errors import UserError
from l1kd.exact.network import from_json, load_network
from tests.exact.networks import events_of, everything


def test_it_comes_back_the_same() -> None:
    network = everything()
    stored = json.loads(json.dumps(network.to_json()))
    again = from_json(stored)
    assert again.to_json() == stored
    events = events_of(network, 20)
    assert (again.predict(events) == network.predict(events)).all()


def change(value: Any, path: list[Any], new: Any) -> Any:
    value = copy.deepcopy(value)
    target = value
    for step in path[:-1]:
        target = target[step]
    if new is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = new
    return value


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (["format_version"], 2),
        (["nodes"], 3),
        (["nodes", 0, "type"], "float"),
        (["nodes", 2, "kind"], "lambda"),
        (["nodes", 2, "kernel", "values", 0], 0.5),
        (["nodes", 2, "kernel", "values", 0], True),
        (["nodes", 2, "kernel", "shape"], [1]),
        (["nodes", 2, "strides"], "11"),
        (["nodes", 2, "sources"], ["nobody"]),
        (["nodes", 2, "sources"], ["a"]),
        (["nodes", 2, "shape"], [6, 5, 0]),
        (["nodes", 2, "name"], "in"),
        (["nodes", 2, "bias"], KeyError),
        (["nodes", 2, "more"], 1),
        (["nodes", 7, "operation"], "divide"),
        (["outputs"], ["nobody"]),
        (["outputs"], []),
        (["nodes", 16, "shape"], [13]),
        (["nodes", 0, "shape"], [1 << 20, 1 << 20, 2]),
        (["nodes", 0, "type"], "fixed<100000000,3>"),
        (["nodes", 2, "kernel_fraction"], -(1 << 40)),
        (["nodes", 2, "kernel", "values", 0], 1 << 70),
        (["nodes", 2, "padding"], [[1, 1], [1 << 30, 1 << 30]]),
        (["nodes", 2, "padding"], [[1, -1], [0, 1]]),
        (["nodes", 2, "strides"], [0, 1]),
    ],
)
def test_what_is_no_network_is_refused(path: list[Any], new: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(change(everything().to_json(), path, new))


@pytest.mark.parametrize("value", [None, [], "text", {"format_version": 1}])
def test_other_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no network"):
        from_json(value)


def test_a_saved_network_is_loaded_the_same(tmp_path: Path) -> None:
    network = everything()
    network.save(tmp_path / "network.json")
    again = load_network(tmp_path / "network.json")
    assert again.to_json() == network.to_json()
    events = events_of(network, 20)
    assert (again.counts(events) == network.counts(events)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format_version": 9}', "format 9 is not read, 1 is"),
        ("\x00\xff", "Expecting value"),
    ],
)
def test_a_file_that_is_no_network_is_the_user_s_error(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "n.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"n\.json is damaged.*{message}"):
        load_network(tmp_path / "n.json")


def test_a_missing_or_large_file_is_the_user_s_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"n\.json cannot be read"):
        load_network(tmp_path / "n.json")
    everything().save(tmp_path / "n.json")
    monkeypatch.setattr(files, "_MOST_BYTES", 100)
    with pytest.raises(UserError, match="more than the 100 that a file of its kind"):
        load_network(tmp_path / "n.json")
