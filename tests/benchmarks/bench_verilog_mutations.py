"""Verilog edited in one place that 2,000 simulated events do not notice: refused, by its block?

A mutation counts if it is real (a corner input shows a difference in simulation) and 2,000 usual
events show none. It is judged twice: as it is, and by the proof alone, as if the interpreter's
program had been edited along. `make bench` runs it, resumes where it was stopped, and records
`results/verilog_mutations.json`.

Two of three places are drawn where a mutation has a chance to go unnoticed: lines whose wire no
usual event moves and a corner input does. The events go through the text as it is read back before
the simulator is asked; what is counted, Icarus Verilog has confirmed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.context import cores
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Conv, Dense, Input, Node, Pool, Quantize, Reshape
from l1kd.exact.network import Network
from l1kd.firmware.certificate import verilog_proof
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.symbolic import Unproved
from l1kd.firmware.stimuli.corner_inputs import corners
from l1kd.firmware.verilog import toggles
from l1kd.firmware.verilog.alkaid_convert import to_verilog
from l1kd.firmware.verilog.project import Logic, open_logic
from l1kd.firmware.verilog.simulate import ICARUS
from tests.firmware.breakages import usual

RESULTS = Path(__file__).parent / "results" / "verilog_mutations.json"
WANTED, REQUIRED, EVENTS = 50, 48, 2000
PORT, HIDDEN, SCORE = FixedPoint(9, 9), FixedPoint(8, 5, False), FixedPoint(12, 8, False)


def small(kind: str) -> Network:
    """A dense network of 24 counts, or a convolution of 6x8, with or without a pool behind it."""
    random = np.random.default_rng(len(kind))
    shape = (24,) if kind == "dense" else (6, 8, 1)
    nodes: list[Node] = [Input(name="in", sources=(), shape=shape, type=PORT)]

    def add(node: type[Node], name: str, shape: tuple[int, ...], **more: Any) -> None:
        nodes.append(node(name=name, sources=(nodes[-1].name,), shape=shape, **more))

    def affine(*size: int) -> dict[str, Any]:
        kernel, bias = random.integers(-15, 16, size), random.integers(-40, 41, size[-1])
        return {"kernel": kernel, "kernel_fraction": 4, "bias": bias, "bias_fraction": 4}

    if kind == "dense":
        add(Dense, "first", (6,), **affine(24, 6))
        add(Quantize, "first_relu", (6,), type=HIDDEN)
        flat = 6
    else:
        add(Conv, "first", (3, 4, 2), **affine(2, 2, 1, 2), strides=(2, 2))
        add(Quantize, "first_relu", (3, 4, 2), type=HIDDEN)
        shape, flat = (3, 4, 2), 24
        if kind == "pool":
            size = (3, 2)
            add(Pool, "pool", (1, 2, 2), operation="max", window=size, strides=size)
            flat = 4
        add(Reshape, "flat", (flat,))
    add(Dense, "last", (1,), **affine(flat, 1))
    add(Quantize, "score", (1,), type=SCORE)
    return Network(kind, tuple(nodes), ("score",))


# What of a line is edited: a sign or a switch, a shift, a slice, a constant, a reduction.
PATTERNS = (
    (r"(?<=[,(])[01](?=,)", lambda text, _: "10"[int(text)]),
    (r"(?<= = )v\d+\[\d+:[5-9]\d*\](?=;)", lambda text, step: _moved(text, step)),
    (r"(?<=,)-?\d+(?=,[01]\))", lambda text, step: str(int(text) + step)),
    (r"(?<= = )v\d+\[\d+:\d+\](?=;)", lambda text, step: _moved(text, step)),
    (r"(?<='b)[01]+", lambda text, _: text[:-1] + "10"[int(text[-1])]),
    (r"(?<= = )[|&](?=v)", lambda text, _: "|&"[text == "|"]),
    (r"(?<=\()v\d+\[", lambda text, step: f"v{int(text[1:-1]) + step}["),
)


def _moved(text: str, step: int) -> str:
    name, high, low = re.match(r"(v\d+)\[(\d+):(\d+)\]", text).groups()  # type: ignore[union-attr]
    return f"{name}[{int(high) + step}:{int(low) + step}]"


def quiet_lines(logic: Logic, name: str) -> list[str]:
    """Lines, `src/file:number`, whose wire corner inputs move and no usual event does."""
    moved: list[set[str]] = []
    for events in events_of(name):
        places: set[str] = set()

        class Places(toggles.Evaluation):
            def drives(self, text: str, value: Any, width: int, places: set[str] = places) -> None:
                if toggles._changes(value, width):
                    places.add(self.place)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(toggles, "Evaluation", Places)
            toggles.evaluate(logic, events)
        moved.append(places)
    return sorted(moved[1] - moved[0])


def mutate(directory: Path, random: np.random.Generator, quiet: list[str]) -> tuple[str, int, str]:
    """Edit one place of a stage; file, line, and the line as it is then."""
    while True:
        files = sorted((directory / "src").glob("*_logic*.v"))
        sizes = np.array([path.stat().st_size for path in files], float)
        path = files[random.choice(len(files), p=sizes / sizes.sum())]
        place = None
        if quiet and random.random() < 2 / 3:
            file, _, number = quiet[int(random.integers(len(quiet)))].rpartition(":")
            path, place = directory / file, int(number) - 1
        lines = path.read_text().split("\n")
        place = int(random.integers(len(lines))) if place is None else place
        pattern, edit = PATTERNS[int(random.integers(len(PATTERNS)))]
        found = list(re.finditer(pattern, lines[place]))
        if "model_" in lines[place] or not found:
            continue
        one = found[int(random.integers(len(found)))]
        new = edit(one[0], int(random.choice([-1, 1])))
        line = lines[place][: one.start()] + new + lines[place][one.end() :]
        if line != lines[place] and "-1" not in new:
            path.write_text("\n".join([*lines[:place], line, *lines[place + 1 :]]))
            return path.name, place + 1, line.strip()


@cache
def events_of(name: str) -> tuple[Any, Any]:
    """Usual events and corner inputs of a network."""
    exact = small(name)
    corner, _ = corners(exact.port, exact.shape, exact)
    return usual(exact, EVENTS), corner[:4000]


def differing(logic: Logic, events: Any) -> int:
    """How many simulated events have another score, or none."""
    try:
        found = logic.simulate(events, "icarus")
    except CheckFailed:
        return len(events)  # unknown bits, or another latency
    return int((found != logic.network.predict(events)).any(axis=1).sum())


def read_back(logic: Logic, events: Any) -> int | None:
    """As `differing`, by the text as it is read back; None if it is not in the subset."""
    try:
        found, _ = toggles.evaluate(logic, events)
    except (Unproved, Unreadable):
        return None
    return int((found != logic.network.predict(events)).any(axis=1).sum())


def judge(logic: Logic, name: str, file: str) -> dict[str, Any]:
    """What simulation and certificate say of a mutant."""
    exact = logic.network
    events, corner = events_of(name)
    if read_back(logic, events):
        return {"state": "noticed"}
    shown = read_back(logic, corner)
    try:
        if shown != 0 and differing(logic, events):
            return {"state": "noticed"}
        if shown != 0:
            shown = differing(logic, corner)
    except UserError as error:
        return {"state": "does not compile", "message": str(error)[-150:]}
    started = time.perf_counter()
    certificate = verilog_proof.prove(logic, exact)
    seconds = round(time.perf_counter() - started, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verilog_proof, "_faults", lambda *_: iter(()))
        proof = verilog_proof.prove(logic, exact)
    first = certificate.refused[0] if certificate.refused else None
    return {
        "state": "judged",
        "real": bool(shown),
        "refused": bool(certificate.refused),
        "names_the_block": any(file in found.reason for found in certificate.refused),
        "layer": first.layer if first else None,
        "refused_by_proof_alone": bool(proof.refused),
        "proved_equal": proof.certified,
        "reason": first.reason if first else None,
        "seconds": seconds,
    }


def counted(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The first fifty real mutations that usual events do not notice."""
    return [case for case in found["cases"].values() if case.get("real")][:WANTED]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures."""
    chosen, cases = counted(found), found["cases"].values()
    judged = [case for case in cases if case["state"] == "judged"]
    return {
        "events": EVENTS,
        "unnoticed": len(chosen),
        **{
            key: sum(case[key] for case in chosen)
            for key in ("refused", "names_the_block", "refused_by_proof_alone")
        },
        "tried": len(cases),
        "noticed": sum(case["state"] == "noticed" for case in cases),
        "real_and_proved_equal": sum(case["real"] and case["proved_equal"] for case in judged),
        "proved_equal": sum(case["proved_equal"] for case in judged),
    }


@pytest.mark.skipif(ICARUS.find() is None, reason="no Icarus Verilog here; see README")
def test_mutants_are_refused(tmp_path: Path) -> None:
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"cases": {}}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())
    whole = {name: to_verilog(small(name), tmp_path / name) for name in ("dense", "conv", "pool")}
    quiet = {name: quiet_lines(logic, name) for name, logic in whole.items()}
    number = 0
    while len(counted(found)) < WANTED:
        key, name = str(number), list(whole)[number % len(whole)]
        number += 1
        if key in found["cases"]:
            continue
        copy = tmp_path / "copy"
        shutil.copytree(whole[name].directory, copy)
        file, line, text = mutate(copy, np.random.default_rng([7, number - 1]), quiet[name])
        found["cases"][key] = {
            "place": f"{file}:{line}",
            "text": text,
            **judge(open_logic(copy), name, file),
        }
        shutil.rmtree(copy)
        found["environment"] = {
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "machine": platform.machine(),
        }
        found["summary"] = summary(found)
        write_json(RESULTS, found)
    assert found["summary"]["refused"] >= REQUIRED
    assert found["summary"]["names_the_block"] >= REQUIRED
    # Nothing real is proved.
    assert not found["summary"]["real_and_proved_equal"]
