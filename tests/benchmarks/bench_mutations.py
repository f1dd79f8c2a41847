"""Do the vectors that a project ships notice what breaks it? 200 random mutations of projects.

A mutation that changes an output of any of 10^5 random events, which have nothing to do with the
vectors, has to change one of theirs. `make bench` runs it and records `results/mutations.json`;
what is recorded there already is not done again, so it can be stopped and started.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.core.files import read_json, write_json
from l1kd.exact.network import Network, from_json
from l1kd.firmware.hls import c_simulation, testbench
from l1kd.firmware.hls.project import NETWORK, Project, counts_of, open_project
from tests.firmware.mutations import KINDS, mutate

RESULTS = Path(__file__).parent / "results" / "mutations.json"
EVENTS = 100_000
LIMIT_S = 600  # a mutant that runs longer does not end
SHARE = 0.95

_DENSE = ("dense", (12,), [("dense", 5), ("dense", 4)])
_CONV = ("conv", (6, 6, 1), [("conv", 3, 3, 1), ("pool",), ("flatten",), ("dense", 4)])
# Name: the network, the options of `hls.convert`, and how many mutants.
PROJECTS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "dense-parallel": (_DENSE, {}, 35),
    "dense-stream-resource": (
        _DENSE,
        {"io_type": "io_stream", "strategy": "resource", "reuse": 2},
        30,
    ),
    "dense-da": (_DENSE, {"strategy": "distributed_arithmetic"}, 25),
    "conv-parallel-vivado": (_CONV, {"backend": "Vivado"}, 35),
    "conv-stream": (_CONV, {"io_type": "io_stream"}, 30),
    "conv-resource": (_CONV, {"strategy": "resource", "reuse": 4}, 25),
    "student": ("student", {}, 20),
}
# Of each kind in turn, weights twice as often.
_TURN = ("weight", "code", "precision", "weight", "code", "precision", "weight", "bias")


def build(name: str, directory: Path) -> Project:
    """One of the projects."""
    from l1kd.firmware.hls import hls4ml_convert
    from tests.firmware.networks import conv_counts, network

    what, options, _ = PROJECTS[name]
    if what == "student":
        return hls4ml_convert.to_hls(conv_counts(name="student"), directory, **options)
    label, shape, steps = what
    model = network(
        shape,
        steps,
        port="quantized_bits(7,6,0,alpha=1)",
        activation="quantized_relu(7,4)",
        score="quantized_relu(12,6)",
        weights="quantized_bits(6,1,0,alpha=1)",
        name=label,
        scale=0.5,
        seed=3,
    )
    return hls4ml_convert.to_hls(model, directory, **options)


def usual(network: Network, count: int) -> np.ndarray:
    """Random events: falling spectra of every size, sparse and full; pile-up; flat ones."""
    random = np.random.default_rng(20)
    low, high = network.port.bounds
    row, size = (count, *(1 for _ in network.shape)), (count, *network.shape)
    mean = np.exp(random.uniform(0, np.log(high), row))
    falling = random.exponential(1, size) * mean * random.choice([-1, 1], size, p=[0.1, 0.9])
    flat = random.uniform(low, high + 1, size)
    kind = random.random(row)
    values = np.where(kind < 0.6, falling, np.where(kind < 0.85, random.poisson(mean, size), flat))
    values *= random.random(size) < random.choice([0.05, 0.2, 0.5, 1.0], row)
    events: np.ndarray = np.clip(np.floor(values), low, high) * network.port.lsb
    return events


def examine(directory: Path, before: Path) -> dict[str, Any]:
    """What a mutant does; run in a process of its own, for it may crash or never end."""
    project = open_project(directory)
    try:
        program = project.compile()
    except UserError:
        return {"outcome": "does not compile"}
    vectors, expected = testbench.read_vectors(directory)
    events, outputs = (np.load(before / name) for name in ("events.npy", "outputs.npy"))
    found: dict[str, Any] = {}
    ports = project.description.output.size
    for name, inputs, wanted in (("usual", events, outputs), ("vectors", vectors, expected)):
        try:
            given = c_simulation.simulate(program, inputs, ports, 2)
        except UserError:
            return {"outcome": "crashes"}
        found[name] = int((given != wanted).any(axis=1).sum())
    outcome = "differs" if found["usual"] else "same"
    return {"outcome": outcome, "differing": found["usual"], "noticed": found["vectors"]}


def certificate(directory: Path) -> dict[str, Any]:
    """Whether the certificate refuses a project, and why."""
    from l1kd.firmware.certificate.proof import follow
    from l1kd.firmware.certificate.shipped_files import contents

    project = open_project(directory)
    network = from_json(read_json(directory / NETWORK))
    found = follow(contents(directory), network, project.description).certificate
    return {"certified": found.certified, "certificate": found.summary}


def _examined(directory: Path, before: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_mutations", directory, before]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            answer, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the program that does not end, too
            return {"outcome": "does not end"}
    if process.returncode:
        raise RuntimeError(f"{directory} could not be examined: code {process.returncode}")
    result: dict[str, Any] = json.loads(answer)
    return result


def measured(name: str, directory: Path, done: list[dict[str, Any]]) -> Any:
    """The mutants of one project that are not in `done`, one after the other."""
    *_, count = PROJECTS[name]
    project = build(name, directory / name)
    network = from_json(read_json(project.directory / NETWORK))
    events = usual(network, EVENTS)
    kind = network.output_types[0]
    counts = counts_of(events, project.description.input, name)
    np.save(directory / "events.npy", counts)
    np.save(directory / "outputs.npy", kind.integers(network.predict(events)))
    assert _examined(project.directory, directory)["outcome"] == "same"
    assert certificate(project.directory)["certified"]
    for index in range(count):
        if any((each["project"], each["index"]) == (name, index) for each in done):
            continue
        mutant = directory / "mutant"
        shutil.rmtree(mutant, ignore_errors=True)
        shutil.copytree(project.directory, mutant, ignore=shutil.ignore_patterns("csim"))
        random = np.random.default_rng([list(PROJECTS).index(name), index])
        mutation = mutate(mutant, _TURN[index % len(_TURN)], random)  # type: ignore[arg-type]
        said = {**asdict(mutation), "before": _short(mutation.before, mutation.after)[0]}
        said["after"] = _short(mutation.before, mutation.after)[1]
        yield {
            "project": name,
            "index": index,
            **said,
            **_examined(mutant, directory),
            **certificate(mutant),
        }


def _short(before: str, after: str) -> tuple[str, str]:
    """The part of two texts that differs, with a little around it."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    first, last = max(0, start - 12), max(0, end - 12)
    return before[first : len(before) - last], after[first : len(after) - last]


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def summary(mutants: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over mutants."""
    differing = [each for each in mutants if each["outcome"] == "differs"]
    caught = [each for each in differing if each["noticed"]]
    broken = ("differs", "crashes", "does not end")
    holes = [each for each in mutants if each["outcome"] in broken and each["certified"]]
    return {
        "mutants": len(mutants),
        "do not compile": sum(each["outcome"] == "does not compile" for each in mutants),
        "crash": sum(each["outcome"] == "crashes" for each in mutants),
        "do not end": sum(each["outcome"] == "does not end" for each in mutants),
        "same on all events": sum(each["outcome"] == "same" for each in mutants),
        "of these noticed by the vectors": sum(
            each["outcome"] == "same" and each["noticed"] > 0 for each in mutants
        ),
        "differ": len(differing),
        "caught": len(caught),
        "caught_share": round(len(caught) / len(differing), 4) if differing else None,
        "broken and certified": len(holes),
    }


def record(mutants: list[dict[str, Any]]) -> None:
    """Write the results, whole or not at all."""
    kinds = {kind: [each for each in mutants if each["kind"] == kind] for kind in KINDS}
    write_json(
        RESULTS,
        {
            "environment": {
                "machine": platform.machine(),
                "python": platform.python_version(),
                "hls4ml": metadata.version("hls4ml"),
            },
            "events": EVENTS,
            "summary": summary(mutants),
            "by_kind": {kind: summary(each) for kind, each in kinds.items()},
            "mutants": mutants,
        },
    )


@pytest.mark.csim
@pytest.mark.filterwarnings("ignore")
def test_mutants_are_caught() -> None:
    mutants: list[dict[str, Any]] = read_json(RESULTS)["mutants"] if RESULTS.exists() else []
    for name, (*_, count) in PROJECTS.items():
        if sum(each["project"] == name for each in mutants) == count:
            continue
        with tempfile.TemporaryDirectory() as work:
            for mutant in measured(name, Path(work), mutants):
                mutants.append(mutant)
                record(mutants)
                print(time.strftime("%H:%M:%S"), mutant, flush=True)
    found = summary(mutants)
    assert found["mutants"] == 200 and found["differ"] > 100
    assert found["caught_share"] >= SHARE
    assert not found["broken and certified"]


if __name__ == "__main__":
    print(json.dumps(examine(Path(sys.argv[1]), Path(sys.argv[2]))))
