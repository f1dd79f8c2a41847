"""An epoch of co-learning: our quantized students against float ones in PyTorch, turn by turn.

`L1KD_PEER_PYTHON=.../bin/python python -m tests.benchmarks.bench_colearning` trains the teacher and
seven students on 5,400 images, batch 100, no exposure, on 2 threads each: the stage `train` in this
process, `authors_loop.py` in another, an epoch of one, then an epoch of the other. The first epoch
of each is not counted. Records `results/colearning.json`; exit 1 if the bar is missed. Beside other
work it measures and prints but records nothing, exit 2: the peer's threads wait for each other, and
lose far more than ours to whoever takes a core.

Both end an epoch with the losses on 600 validation images; the books and the checkpoint that the
stage keeps count as ours, the peer keeps none. The peer computes every layer as it is written down;
ours leave out the rows and columns that no stride reads, with the same scores. The peer's Python
needs `requirements-peer.txt`, nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from l1kd.core import config_file
from l1kd.core.context import Context, cores
from l1kd.core.files import read_json, write_json
from l1kd.report.paper_numbers import STUDENTS

RESULTS = Path(__file__).parent / "results" / "colearning.json"
PEER = Path(__file__).parent / "authors_loop.py"
PEER_PYTHON = "L1KD_PEER_PYTHON"
CONFIGURATION = "paper"
IMAGES, BATCH, THREADS, REPEATS = 5400, 100, 2, 5
BITS = 8
BAR = 0.5  # of the peer's time
QUIET = 0.1  # the largest share of the cores that others may take
OVERRIDES = (
    "data.source=fashion_mnist",  # a class has 6,000 images: 5,400 train
    "data.normal=0",
    "distillation.mode=colearning",
    "distillation.head_start=0",
    "distillation.exposure=[]",
    # Each student once, as the peer's.
    f"students=[{', '.join(f'{{architecture: {s}, weight_bits: {BITS}}}' for s in STUDENTS)}]",
    f"distillation.batch={BATCH}",
    f"distillation.epochs={REPEATS + 1}",
    f"threads={THREADS}",
)


class Enough(Exception):  # noqa: N818
    """All epochs that count are over."""


class Peer:
    """The loop in PyTorch, an epoch at a time."""

    def __init__(self, python: str, images: Path) -> None:
        self.process = subprocess.Popen(
            [python, PEER, images, f"--epochs={REPEATS + 1}", f"--threads={THREADS}", "--wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._line()

    def epoch(self) -> dict[str, Any]:
        """Train for an epoch; its seconds."""
        asked: IO[str] = self.process.stdin  # type: ignore[assignment]
        asked.write("\n")
        asked.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        said: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = said.readline()
        if not line:
            raise SystemExit(f"{PEER.name} ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """No more epochs."""
        self.process.kill()
        self.process.communicate()


@dataclass
class Clock:
    """Seconds from epoch to epoch, without those in between that are the peer's.

    Parameters
    ----------
    steps
        In an epoch.
    between
        Called after every epoch's last step.
    """

    steps: int
    between: Callable[[], None]
    epochs: list[dict[str, float]] = field(default_factory=list)
    done: int = 0
    _started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """From here on."""
        self._started = time.perf_counter(), time.process_time()

    def tick(self, steps: int) -> None:
        """So many steps more."""
        self.done += steps
        if self.done < self.steps * (len(self.epochs) + 1):
            return
        wall, worked = self._started
        self.epochs.append(
            {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - worked}
        )
        self.between()
        if len(self.epochs) > REPEATS:
            raise Enough
        self.start()


@dataclass(frozen=True)
class Timed(Context):
    """A run whose progress is a clock's."""

    clock: Clock = field(kw_only=True)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Steps go to the clock: those of the teacher and the students together."""
        if not what.startswith("together"):
            raise SystemExit(f"an epoch of co-learning is meant, not one of {what!r}")
        yield self.clock.tick


def busy() -> float:
    """Seconds that all cores have worked, or were taken from us, since the machine started."""
    with Path("/proc/stat").open(encoding="utf-8") as handle:
        user, nice, system, _, _, interrupts, soft, stolen, *_ = map(
            int, handle.readline().split()[1:]
        )
    ticks = user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def paired(python: str, work: Path) -> dict[str, Any]:
    """Epochs of both, in turn."""
    from l1kd.training.train import train

    config = config_file.load(config_file.find(CONFIGURATION), OVERRIDES)
    assert [(s.weight_bits, s.starts) for s in config.students] == [(BITS, 1)] * 7
    before = os.getloadavg()[0]
    theirs: list[dict[str, Any]] = []
    marks: list[tuple[float, float]] = []  # time, and work of all cores, after every pair

    def between() -> None:
        theirs.append(peer.epoch())
        marks.append((time.perf_counter(), busy()))
        pair = clock.epochs[-1]["seconds"], theirs[-1]["seconds"]
        sys.stderr.write("epoch {}: ours {:.2f} s, peer {:.2f} s\n".format(len(theirs), *pair))

    clock = Clock(IMAGES // BATCH, between)
    context = Timed(work, config, work, clock=clock)
    events = np.concatenate(list(context.dataset.train.chunks()))
    assert len(events) == IMAGES
    judged = np.concatenate(list(context.dataset.val.chunks()))
    np.savez(work / "images.npz", images=events, validation=judged)
    peer = Peer(python, work / "images.npz")
    try:
        clock.start()
        with contextlib.suppress(Enough):
            train(context)
    finally:
        peer.close()
    assert len(theirs) == len(clock.epochs) == REPEATS + 1
    (begun, work_before), (ended, work_after) = marks[0], marks[-1]
    counted = [*clock.epochs[1:], *theirs[1:]]
    others = work_after - work_before - sum(each["cpu_seconds"] for each in counted)
    ours, reference = summary(clock.epochs[1:]), summary(theirs[1:])
    return {
        "environment": {
            "cores": cores(),
            "load_before": round(before, 1),
            "load": round(os.getloadavg()[0], 1),
            "taken_by_others": round(max(others, 0) / (ended - begun) / (os.cpu_count() or 1), 3),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "tensorflow": metadata.version("tensorflow"),
            "torch": peer.about["torch"],
        },
        "images": IMAGES,
        "validation": len(judged),
        "batch": BATCH,
        "threads": THREADS,
        "repeats": REPEATS,
        "students": {student.name: student.weight_bits for student in config.students},
        "ours": ours,
        "peer": reference,
        "peer_parameters": peer.about["parameters"],
        "ratio": round(ours["median_s"] / reference["median_s"], 3),
        "bar": BAR,
    }


def summary(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """What epochs took, wall-clock time and that of all threads."""
    return {
        "median_s": round(statistics.median(each["seconds"] for each in epochs), 3),
        "median_cpu_s": round(statistics.median(each["cpu_seconds"] for each in epochs), 3),
        "seconds": [round(each["seconds"], 3) for each in epochs],
    }


def told(found: dict[str, Any]) -> str:
    """The result in a line."""
    ours, peer = found["ours"], found["peer"]
    return (
        f"an epoch of co-learning, {found['images']:,} images, {found['threads']} threads: "
        f"ours {ours['median_s']:.2f} s (8-bit, TensorFlow), peer {peer['median_s']:.2f} s "
        f"(float, PyTorch); ratio {found['ratio']:.3f}, bar {found['bar']}: "
        f"{'met' if found['ratio'] <= found['bar'] else 'MISSED'}"
    )


def peer_python() -> str | None:
    """A Python that can run the peer, or None."""
    return os.environ.get(PEER_PYTHON) or None


def test_an_epoch_takes_half_of_the_peers() -> None:
    if peer_python() is None:
        pytest.skip(f"no peer: set {PEER_PYTHON} to a Python with requirements-peer.txt")
    # In a process of its own: the number of threads is set before TensorFlow's first computation.
    command = [sys.executable, "-m", "tests.benchmarks.bench_colearning"]
    if subprocess.run(command, check=False).returncode == 2:
        pytest.skip("the machine was busy with other things; nothing was recorded")
    found = read_json(RESULTS)
    assert found["ratio"] <= BAR


def main() -> int:
    """Measure, record and print."""
    python = peer_python()
    if python is None:
        sys.stderr.write(f"no peer: set {PEER_PYTHON} to a Python with requirements-peer.txt\n")
        return 2
    with tempfile.TemporaryDirectory() as work:
        found = paired(python, Path(work))
    sys.stdout.write(told(found) + "\n")
    taken = found["environment"]["taken_by_others"]
    if taken > QUIET:
        sys.stderr.write(f"not recorded: others took {taken:.0%} of the cores; try again\n")
        return 2
    write_json(RESULTS, found)
    return int(found["ratio"] > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
