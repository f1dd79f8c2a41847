"""An exact network as JSON: the same network, or an error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from l1kd.exact.json_format import from_json
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
    ],
)
def test_what_is_no_network_is_refused(path: list[Any], new: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(change(everything().to_json(), path, new))


@pytest.mark.parametrize("value", [None, [], "text", {"format_version": 1}])
def test_other_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no network"):
        from_json(value)
