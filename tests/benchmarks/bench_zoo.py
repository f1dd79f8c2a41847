"""Every student in every kind of project: certified for all inputs, and equal on whole test splits.

`make zoo` runs what is not recorded yet (`results/zoo.json`) and fills docs/results.md.
Students are trained for a few epochs on real events: weights as training leaves them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from l1kd.core.context import Context, cores
from l1kd.core.files import write_json

RESULTS = Path(__file__).parent / "results" / "zoo.json"
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
MARKS = ("<!-- zoo: made by `make zoo` -->\n", "<!-- end of zoo -->")
COMBINATIONS = [
    (backend, strategy)
    for strategy in ("latency", "resource", "distributed_arithmetic")
    for backend in ("Vitis", "Vivado")
]
SHORT = ("distillation.epochs=2", "distillation.final_epochs=1")
DATA: dict[str, tuple[str, ...]] = {
    "l1toy": (
        "cicada_v1",
        "cicada_v2",
        "conv",
        "dense",
    ),
    "fashion_mnist": tuple(f"s{number}" for number in range(1, 8)),
}
STUDENTS = (
    "students=[cicada_v1, cicada_v2, {architecture: conv, hidden: [16]}, "
    "{architecture: dense, hidden: [16, 8]}]"
)


def cases() -> Iterator[tuple[str, str, str, str, str]]:
    """(data, student, io_type, backend, strategy): every combination for both io types."""
    turn = 0
    for data, students in DATA.items():
        for student in students:
            for io_type in ("io_stream", "io_parallel"):
                if student in ("s1", "s2", "s3") and io_type == "io_parallel":
                    continue  # three hundred thousand multipliers
                for _ in range(2 if data == "l1toy" else 1):
                    yield (data, student, io_type, *COMBINATIONS[turn % len(COMBINATIONS)])
                    turn += 1
            turn += 1  # so that the io types do not always meet the same combinations


def trained(data: str, directory: Path) -> Context:
    """A run with its students trained, and no further."""
    from l1kd.runs.run import open_context, run_configuration

    overrides = [*SHORT, *([STUDENTS] if data == "l1toy" else [])]
    run_configuration(data, directory / data, until="evaluate", overrides=overrides)
    return open_context(directory / data)


def judge(context: Context, student: str, options: dict[str, Any], where: Path) -> dict[str, Any]:
    """One project: certificate, corners and the whole test split against the exact network."""
    import l1kd
    from l1kd.firmware.certificate.certify import certify
    from l1kd.firmware.hls import hls4ml_convert
    from l1kd.firmware.run_firmware import stated_port
    from l1kd.firmware.stimuli.corner_inputs import corners
    from l1kd.networks.to_exact import doubts, read

    model = l1kd.load_model(context.student_file(student))
    port = stated_port(context, read(model))
    reuse = 4 if options["strategy"] == "resource" else 1
    project = hls4ml_convert.to_hls(model, where, port=port, reuse=reuse, **options)
    own = read(model)
    exact = own.at_port(port) if port else own
    certificate = certify(project, exact)
    events, report = corners(exact.port, exact.shape, exact)
    wrong = int((project.predict(events) != exact.predict(events)).any(axis=1).sum())
    tested = 0
    for sample in context.dataset.judged.values():
        for chunk in sample.chunks(8192):
            found, expected = project.predict(chunk), exact.predict(chunk)
            wrong += int((found != expected).any(axis=1).sum())
            tested += len(chunk)
    return {
        "port": exact.port.text,
        "reuse": reuse,
        "certified": certificate.certified,
        "summary": certificate.summary,
        "layers": len(certificate.layers),
        "test_events": tested,
        "corner_events": len(events),
        "mismatches": wrong,
        "reached": round(report.fraction or 0.0, 3),
        "accumulator_bits": max(bound.bits for bound in exact.bounds.values()),
        "beyond_float32": sorted(doubts(model, exact)),
    }


def measure() -> dict[str, Any]:
    """Everything that is not recorded yet."""
    found: dict[str, Any] = {"cases": []}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())
    keys = ("data", "student", "io_type", "backend", "strategy")
    known = {tuple(case[key] for key in keys) for case in found["cases"]}
    with tempfile.TemporaryDirectory() as work:
        runs: dict[str, Context] = {}
        for data, student, io_type, backend, strategy in cases():
            case = dict(zip(keys, (data, student, io_type, backend, strategy), strict=True))
            if tuple(case.values()) in known:
                continue
            if data not in runs:
                runs[data] = trained(data, Path(work))
            started = time.perf_counter()
            options = {"backend": backend, "io_type": io_type, "strategy": strategy}
            case |= judge(runs[data], student, options, Path(work, "project"))
            case["seconds"] = round(time.perf_counter() - started, 1)
            found["cases"].append(case)
            found["environment"] = {
                "cores": cores(),
                "load": round(os.getloadavg()[0], 1),
                "machine": platform.machine(),
                "hls4ml": metadata.version("hls4ml"),
            }
            write_json(RESULTS, found)
            sys.stderr.write(
                f"{' '.join(map(str, list(case.values())[:5]))}: {case['summary']}, "
                f"{case['mismatches']} mismatches, {case['seconds']} s\n"
            )
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: a line per student and kind of project."""
    lines = [
        "| student | project | certificate | test + corner events | mismatches | bound reached |",
        "|---|---|---|---|---|---|",
    ]
    order = {name: place for place, name in enumerate(n for group in DATA.values() for n in group)}
    for case in sorted(found["cases"], key=lambda case: (order[case["student"]], case["io_type"])):
        proof = "all inputs" if case["certified"] else case["summary"]
        events = f"{case['test_events']:,} + {case['corner_events']:,}"
        kind = f"{case['backend']} {case['io_type']} {case['strategy']}"
        lines.append(
            f"| {case['student']} | {kind} | {proof} | {events} | {case['mismatches']} | "
            f"{100 * case['reached']:.0f} % |"
        )
    return "\n".join(lines) + "\n"


def in_page(text: str, found: dict[str, Any]) -> str:
    """The page of results with the table in its place."""
    start, end = MARKS
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit("docs/results.md has no place for the table of students")
    return pattern.sub(lambda _: f"{start}{table(found)}{end}", text)


def test_the_zoo() -> None:
    """What `make bench` runs; `make zoo` writes the table too."""
    found = measure()
    assert all(case["certified"] and not case["mismatches"] for case in found["cases"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    PAGE.write_text(in_page(PAGE.read_text(), measure()))
