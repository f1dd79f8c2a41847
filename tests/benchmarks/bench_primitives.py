"""What TensorFlow keeps of a convolution's gradient: the same bits, and what a step costs.

`make bench` runs it and records `results/primitives.json`: processor time of a step of the paper's
seven students on 40 events, in turns with and without `TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE=false`,
which importing `l1kd` sets. Processes of their own: TensorFlow reads it when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core import config_file
from l1kd.core.context import cores
from l1kd.core.files import write_json

RESULTS = Path(__file__).parent / "results" / "primitives.json"
VARIABLE = "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE"
EVENTS, EPOCHS, TURNS, SEED = 1000, 2, 3, 7


def trained() -> dict[str, Any]:
    """The students' weights after some steps on random events, as a hash, and a step's time."""
    from l1kd.core.fixed_point import FixedPoint
    from l1kd.networks.tensorflow_setup import prepare_tensorflow
    from l1kd.training.frozen_teacher import LabelledEvents, train_students

    prepare_tensorflow(1)
    config = config_file.load(config_file.find("paper"), ["distillation.exposure=[dataset]"])
    grid, random = FixedPoint(9, 1), np.random.default_rng(SEED)

    def sample() -> tuple[Any, Any, Any]:
        counts = random.integers(0, 256, (EVENTS, 28, 28, 1)).astype(np.int16)
        targets = random.uniform(0, 16, EVENTS).astype(np.float32)
        return counts, targets, np.empty((EVENTS, 0), np.float32)

    (normal, wanted, latents), (exposure, also, others) = sample(), sample()
    val = normal[:100], wanted[:100]
    gain = np.float32(1)
    labelled = LabelledEvents(
        normal,
        wanted,
        exposure,
        also,
        *val,
        latents,
        others,
        np.asarray(gain),
        np.asarray(1),
        np.asarray(grid.lsb),
    )
    ticks: list[float] = []
    models = train_students(
        config.students,
        labelled,
        config,
        grid,
        epochs=EPOCHS,
        seed=SEED,
        advance=lambda steps: ticks.append(time.process_time()),
    )
    last = ticks[len(ticks) // EPOCHS :]  # the first epoch traces and compiles
    found = hashlib.sha256()
    for model in models.values():
        for weights in model.get_weights():
            found.update(weights.tobytes())
    return {"weights": found.hexdigest(), "step_ms": statistics.median(np.diff(last)) * 1e3}


def measured(value: str) -> dict[str, Any]:
    """`trained` in a process that sets the variable to a value."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_primitives"]
    environment = {**os.environ, VARIABLE: value}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_what_is_kept_changes_no_bit_and_saves_time() -> None:
    turns = [(measured("false"), measured("true")) for _ in range(TURNS)]
    assert len({each["weights"] for turn in turns for each in turn}) == 1
    kept, anew = (
        statistics.median(each["step_ms"] for each in own) for own in zip(*turns, strict=True)
    )
    found = {
        "environment": {
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "machine": platform.machine(),
            "tensorflow": metadata.version("tensorflow"),
            "turns": TURNS,
        },
        "kept_step_ms": round(kept, 1),
        "anew_step_ms": round(anew, 1),
        "ratio": round(kept / anew, 3),
    }
    write_json(RESULTS, found)
    sys.stdout.write(f"a step: {kept:.1f} ms kept, {anew:.1f} ms anew\n")
    assert kept < anew


if __name__ == "__main__":
    sys.stdout.write(json.dumps(trained()))
