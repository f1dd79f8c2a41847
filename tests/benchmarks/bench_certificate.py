"""Fifty projects broken in ways that ten thousand usual events do not notice: refused, by layer?

A breakage counts if it is real (an event of the corner search, or one compiled call on inputs that
its layer can be given, shows a difference) and 10,000 usual events show none. `make bench` runs it,
resumes where it was stopped, and records `results/certificate.json`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.core.files import write_json
from l1kd.exact.network import Network
from l1kd.firmware.certificate.certify import calls_code, compare_calls
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.hls.project import Project, open_project
from l1kd.firmware.hls.testbench import read_vectors
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.networks.to_exact import read
from tests.firmware.breakages import Breakage, quiet, usual
from tests.firmware.networks import network

RESULTS = Path(__file__).parent / "results" / "certificate.json"
WANTED, REQUIRED = 50, 48
EVENTS = 10_000
STEPS: list[tuple[Any, ...]] = [("conv", 2, 2, 2), ("flatten",), ("dense", 4)]
PROJECTS: dict[str, tuple[tuple[int, ...], list[tuple[Any, ...]], dict[str, Any]]] = {
    "dense": ((24,), [("dense", 6)], {}),
    "conv": ((6, 8, 1), STEPS, {}),
    "stream": ((6, 8, 1), STEPS, {"io_type": "io_stream", "backend": "Vivado"}),
    "resource": ((16,), [("dense", 4)], {"strategy": "resource", "reuse": 4}),
    "adders": ((6, 8, 1), STEPS, {"strategy": "distributed_arithmetic"}),
}


def candidates(directory: Path) -> Iterator[tuple[str, Project, Network, Breakage]]:
    """Breakages of all projects, turn by turn, so that every kind gets its share."""
    waiting = []
    for name, (shape, steps, options) in PROJECTS.items():
        model = network(shape, steps, name=name, scale=0.2)
        project = hls4ml_convert.to_hls(model, directory / name, **options)
        project.compile()
        exact = read(model)
        # The library's parts that are not this project's strategy change nothing.
        own = [each for each in quiet(project, exact) if _used(each, options)]
        # Ties come often enough that usual events notice most changes of rounding: last.
        order = own[::3] + own[1::3] + own[2::3]
        order.sort(key=lambda each: each.kind == "rounding")
        waiting.append([(name, project, exact, each) for each in order])
    for turn in range(max(map(len, waiting))):
        yield from (group[turn] for group in waiting if turn < len(group))


def _used(breakage: Breakage, options: dict[str, Any]) -> bool:
    strategy = options.get("strategy", "latency")
    return not (
        ("latency" in breakage.file and strategy != "latency")
        or ("resource" in breakage.file and strategy != "resource")
    )


def judge(project: Project, exact: Network, breakage: Breakage, copy: Path) -> dict[str, Any]:
    """What tests and the certificate say of a broken copy."""
    shutil.copytree(project.directory, copy)
    whole = follow(contents(project.directory), exact, project.description)
    vectors, _ = read_vectors(project.directory)
    assert whole.certificate.certified
    if not breakage.apply(copy):
        return {"state": "nothing to edit"}
    broken = open_project(copy)
    try:
        program = replace(broken, calls=lambda _: calls_code(whole)).compile()
        events = usual(exact, EVENTS)
        noticed = int((broken.predict(events) != exact.predict(events)).any(axis=1).sum())
        corner, _ = corners(exact.port, exact.shape, exact)
        shown = bool((broken.predict(corner) != exact.predict(corner)).any())
        shown = shown or bool(compare_calls(whole, program, vectors))
    except UserError as error:
        return {
            "state": "does not compile or run",
            "message": str(error).replace(str(copy), "copy")[:200],
        }
    certificate = follow(contents(copy), exact, project.description).certificate
    first = certificate.refused[0] if certificate.refused else None
    return {
        "state": "judged",
        "noticed_by_usual_events": noticed,
        "real": shown,
        "refused": first is not None,
        "certified": certificate.certified,
        "layer": first.layer if first else None,
        "step": first.step if first else None,
        "layer_is_right": first is not None and first.layer == breakage.layer,
    }


@pytest.mark.csim
def test_broken_projects_are_refused(tmp_path: Path) -> None:
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"cases": {}}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())
    for name, project, exact, breakage in candidates(tmp_path):
        if len(counted(found)) >= WANTED:
            break
        key = f"{name}: {breakage.kind}, {breakage.layer}, {breakage.file}"
        number = 1
        while f"{key} #{number}" in SEEN:
            number += 1
        key = f"{key} #{number}"
        SEEN.add(key)
        if key in found["cases"]:
            continue
        copy = tmp_path / "copy"
        started = time.perf_counter()
        found["cases"][key] = judge(project, exact, breakage, copy)
        found["cases"][key]["seconds"] = round(time.perf_counter() - started, 1)
        shutil.rmtree(copy)
        found["environment"] = {
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "machine": platform.machine(),
            "hls4ml": metadata.version("hls4ml"),
        }
        found["summary"] = summary(found)
        write_json(RESULTS, found)
    assert len(counted(found)) >= WANTED
    assert found["summary"]["refused"] >= REQUIRED
    assert found["summary"]["with_the_right_layer"] >= REQUIRED
    # Nothing real is certified, whether usual events notice it or not.
    assert not found["summary"]["real_and_certified"]


SEEN: set[str] = set()


def counted(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Real breakages that usual events do not notice, the first fifty."""
    judged = [case for case in found["cases"].values() if case["state"] == "judged"]
    real = [case for case in judged if case["real"] and not case["noticed_by_usual_events"]]
    return real[:WANTED]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures."""
    chosen = counted(found)
    judged = [case for case in found["cases"].values() if case["state"] == "judged"]
    return {
        "usual_events": EVENTS,
        "broken": len(chosen),
        "refused": sum(case["refused"] for case in chosen),
        "with_the_right_layer": sum(case["layer_is_right"] for case in chosen),
        "tried": len(found["cases"]),
        "noticed_by_usual_events": sum(bool(case["noticed_by_usual_events"]) for case in judged),
        "real_and_certified": sum(case["real"] and case["certified"] for case in judged),
        "certified_no_difference_found": sum(
            case["certified"] and not case["real"] for case in judged
        ),
    }
