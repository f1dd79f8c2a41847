"""Every pair of layer kinds, and the likely triples: lint-clean means equal, refused means not.

    python -m tests.benchmarks.bench_lint_holes --seconds 3600

goes on where it was and records `results/lint_holes.json`. A chain of kinds stands between a port
and a quantizer, in every kind of project. If the lint lets it through, or a repair makes it clean,
its C simulation has to equal the exact network; if the lint refuses it, hls4ml converts it all the
same, and has to differ from QKeras or fail in one of the variants.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import write_json
from tests.networks import lint_projects
from tests.networks.lint_networks import (
    W,
    act,
    conv,
    dense,
    depthwise,
    flat,
    layers,
    network,
    qkeras_layer,
)

RESULTS = Path(__file__).parent / "results" / "lint_holes.json"
SECONDS = float(os.environ.get("L1KD_LINT_SECONDS", "3600"))
SHAPES = {"vector": (8,), "sequence": (4, 2), "image": (4, 4, 2)}
VARIANTS = [  # the backend of each comes from a hash
    (io_type, strategy)
    for io_type in ("io_stream", "io_parallel")
    for strategy in ("latency", "resource", "distributed_arithmetic")
]
EVENTS = 300
BATCH = 64  # networks at a time, in one compilation for each backend
SCORE = "quantized_bits(24,8,0,alpha=1)"
Body = Callable[[Any, str], Any]  # a tensor and a name to a tensor

# One letter for each variant of a chain.
LETTERS = {
    ".": "not run yet",
    "-": "no such network: Keras cannot build it",
    "C": "clean: equal, certified for all inputs",
    "O": "clean: equal, its certificate open",
    "P": "repaired: equal to the network before the repair",
    "R": "refused: hls4ml's result differs, or there is none",
    "E": "refused: hls4ml's result is equal",
    "D": "clean: differs",
    "F": "clean: is not converted, compiled or run",
    "W": "clean: equal, its certificate refused",
}
HOLES = "DFW"


def quantizer(text: str) -> Body:
    return lambda x, name: act(text, name)(x)


def keras(kind: str, *arguments: Any, **options: Any) -> Body:
    return lambda x, name: getattr(layers(), kind)(*arguments, **options, name=name)(x)


def weights(x: Any, name: str, **options: Any) -> Any:
    """A layer with weights that keeps the shape."""
    rank, channels = len(x.shape) - 2, int(x.shape[-1])
    if not rank:
        return dense(channels, name, **options)(x)
    return conv(channels, 1, name, rank, **options)(x)


def merged(kind: str) -> Body:
    """A merge with a quantized branch of the same shape."""

    def body(x: Any, name: str) -> Any:
        other = act("quantized_bits(6,3,0,alpha=1)", f"{name}_side_q")(weights(x, f"{name}_side"))
        return getattr(layers(), kind)(name=name)([x, other])

    return body


def twice(kind: str) -> Body:
    """A merge of a layer with itself."""
    return lambda x, name: getattr(layers(), kind)(name=name)([x, x])


def read_twice(x: Any, name: str) -> Any:
    """The same values, of a layer that a second one reads."""
    READ_TWICE.append((x, name))
    return x


READ_TWICE: list[tuple[Any, str]] = []


def convolution(rank: int, size: Any, **options: Any) -> Body:
    return lambda x, name: conv(2, size, name, rank, **options)(x)


def separable(rank: int) -> Body:
    quantizers = {f"{part}_quantizer": W for part in ("depthwise", "pointwise", "bias")}
    return lambda x, name: qkeras_layer(f"QSeparableConv{rank}D")(2, 2, name=name, **quantizers)(x)


def reshape(*sides: int) -> Body:
    """To a shape with a last side (or two) that is given."""

    def body(x: Any, name: str) -> Any:
        size = int(np.prod(x.shape[1:]))
        given = int(np.prod(sides)) if sides else 1
        target = (size // given, *sides) if sides else (size,)
        return layers().Reshape(target, name=name)(x)

    return body


QUANTIZERS: dict[str, Body] = {
    "bits": quantizer("quantized_bits(6,2,0,alpha=1)"),
    "relu": quantizer("quantized_relu(5,2)"),
    "tanh": quantizer("quantized_tanh(5)"),
    "sigmoid": quantizer("quantized_sigmoid(5)"),
}
FUNCTIONS: dict[str, Body] = {
    "Activation relu": keras("Activation", "relu"),
    "Activation linear": keras("Activation", "linear"),
    "ReLU": keras("ReLU"),
    "LeakyReLU": keras("LeakyReLU", 0.25),
    "Dropout": keras("Dropout", 0.1),
    "read twice": read_twice,
}
MERGES: dict[str, Body] = {
    **{
        kind: merged(kind)
        for kind in (
            *("Add", "Subtract", "Multiply", "Average"),
            *("Maximum", "Minimum", "Concatenate"),
        )
    },
    **{f"{kind} of one": twice(kind) for kind in ("Add", "Multiply", "Concatenate")},
}
OWN: dict[int, dict[str, Body]] = {
    1: {
        "QDense": lambda x, name: dense(3, name)(x),
        "QDense no bias": lambda x, name: dense(4, name, bias=None, use_bias=False)(x),
        "QDense bits": lambda x, name: dense(4, name, activation="quantized_bits(6,3,0,alpha=1)")(
            x
        ),
        "QDense relu": lambda x, name: dense(4, name, activation="quantized_relu(5,3)")(x),
        "QDense float relu": lambda x, name: dense(4, name, activation="relu")(x),
        "Flatten": keras("Flatten"),
        "Reshape to sequence": reshape(2),
        "Reshape to image": reshape(2, 2),
    },
    2: {
        "QConv1D": convolution(1, 2),
        "QConv1D same": convolution(1, 3, padding="same"),
        "QConv1D causal": convolution(1, 2, padding="causal"),
        "QConv1D strides": convolution(1, 2, strides=2),
        "QConv1D of one": convolution(1, 1),
        "QConv1D relu": convolution(1, 2, activation="quantized_relu(5,3)"),
        "QConv1D float relu": convolution(1, 2, activation="relu"),
        "QSeparableConv1D": separable(1),
        "MaxPooling1D": keras("MaxPooling1D", 2),
        "MaxPooling1D same": keras("MaxPooling1D", 3, 2, padding="same"),
        "AveragePooling1D": keras("AveragePooling1D", 2),
        "GlobalMaxPooling1D": keras("GlobalMaxPooling1D"),
        "GlobalAveragePooling1D": keras("GlobalAveragePooling1D"),
        "Permute": keras("Permute", (2, 1)),
        "Flatten": keras("Flatten"),
        "Reshape to vector": reshape(),
        "Reshape to image": reshape(2, 2),
    },
    3: {
        "QConv2D": convolution(2, 2),
        "QConv2D same": convolution(2, 3, padding="same"),
        "QConv2D strides": convolution(2, 2, strides=2),
        "QConv2D of one": convolution(2, 1),
        "QConv2D flat": convolution(2, (1, 2)),
        "QConv2D relu": convolution(2, 2, activation="quantized_relu(5,3)"),
        "QConv2D float relu": convolution(2, 2, activation="relu"),
        "QDepthwiseConv2D": lambda x, name: depthwise(name)(x),
        "QSeparableConv2D": separable(2),
        "MaxPooling2D": keras("MaxPooling2D", 2),
        "MaxPooling2D overlap": keras("MaxPooling2D", 2, 1),
        "MaxPooling2D same": keras("MaxPooling2D", 3, 2, padding="same"),
        "AveragePooling2D": keras("AveragePooling2D", 2),
        "GlobalMaxPooling2D": keras("GlobalMaxPooling2D"),
        "GlobalMaxPooling2D kept": keras("GlobalMaxPooling2D", keepdims=True),
        "GlobalAveragePooling2D": keras("GlobalAveragePooling2D"),
        "Permute": keras("Permute", (2, 1, 3)),
        "Permute channels": keras("Permute", (3, 1, 2)),
        "Flatten": keras("Flatten"),
        "Reshape to vector": reshape(),
        "Reshape to sequence": reshape(2),
    },
}
ANY = {**QUANTIZERS, **FUNCTIONS, **MERGES}
LEADS = {1: "QDense", 2: "QConv1D", 3: "QConv2D"}
_MOVES = ("Flatten", "Reshape", "Permute", "Dropout", "Activation linear", "read twice")


def kinds(rank: int) -> dict[str, Body]:
    return {**ANY, **OWN[rank]}


def rank_behind(rank: int, kind: str) -> int:
    """The rank of a kind's output."""
    if kind.startswith("Reshape to"):
        return {"vector": 1, "sequence": 2, "image": 3}[kind.split()[-1]]
    whole = kind.startswith("Global") and "kept" not in kind
    return 1 if kind == "Flatten" or whole else rank


def chains() -> Iterator[tuple[int, str]]:
    """Every chain with its round: pairs, then triples of sums and of what has no weights."""
    ranks = {"vector": 1, "sequence": 2, "image": 3}
    for start, rank in ranks.items():
        for one in kinds(rank):
            for two in kinds(rank_behind(rank, one)):
                yield 0, f"{start}: {one} > {two}"
        for one in kinds(rank):
            if one.startswith(("Q", "Dropout")):
                continue
            for two in kinds(rank_behind(rank, one)):
                yield 1, f"{start}: {LEADS[rank]} > {one} > {two}"


def build(chain: str) -> Any:
    """The network of a chain."""
    start, _, steps = chain.partition(": ")
    names = steps.split(" > ")
    moved = itertools.takewhile(lambda each: each.startswith(_MOVES), reversed(names))
    last = names[max(len(names) - 1 - len(list(moved)), 0)]
    inside = last.startswith("Q") and last.endswith((" relu", " bits")) and "float" not in last
    READ_TWICE.clear()

    def body(x: Any) -> Any:
        for number, name in enumerate(names):
            x = kinds(len(x.shape) - 1)[name](x, f"k{number}")
        if last not in QUANTIZERS and not inside:
            x = act(SCORE, "score")(x)
        for number, (other, _) in enumerate(READ_TWICE):
            side = act("quantized_relu(5,3)", f"s{number}_q")(weights(other, f"s{number}"))
            parts = [
                each if len(each.shape) == 2 else flat(each, f"s{number}_flat{k}")
                for k, each in enumerate((x, side))
            ]
            x = layers().Concatenate(name=f"s{number}_joined")(parts)
        return x

    return network(SHAPES[start], body, score=None)


def digest(chain: str, variant: int) -> bytes:
    return hashlib.sha256(f"{chain} {variant}".encode()).digest()


def backend_of(chain: str, variant: int) -> str:
    return ("Vitis", "Vivado")[digest(chain, variant)[-1] % 2]


def jobs() -> list[tuple[int, bytes, str, int]]:
    """Every round, place, chain and place in `VARIANTS`, in the order in which they are run.

    Pairs with one strategy for each io type, then triples so, then pairs with the others.
    """
    found = []
    for triple, chain in chains():
        for io_type in range(0, len(VARIANTS), 3):
            order = sorted(range(io_type, io_type + 3), key=lambda v: digest(chain, v))
            found.append((triple, digest(chain, order[0]), chain, order[0]))
            if not triple:
                found += [(2, digest(chain, v), chain, v) for v in order[1:]]
    return sorted(found)


@dataclass
class Trial:
    """A network that is converted, and what its C simulation has to give."""

    chain: str
    variant: int
    letter: str  # if it is equal
    project: lint_projects.Project
    events: Any
    expected: Any
    note: str = ""


def prepared(chain: str, variant: int, directory: Path, name: str) -> Trial | tuple[str, str]:
    """A trial; or a letter and a note, if it ends before there is one."""
    from l1kd.firmware.certificate.proof import follow
    from l1kd.firmware.certificate.shipped_files import contents
    from l1kd.firmware.hls.backends import backend_named
    from l1kd.firmware.hls.hls4ml_convert import check_size, to_hls
    from l1kd.networks.lint.check import check
    from l1kd.networks.repair import apply_repairs
    from l1kd.networks.to_exact import beyond, read
    from tests.firmware.random_networks import events_for
    from tests.networks.lint_networks import unconverted

    (io_type, strategy), backend = VARIANTS[variant], backend_of(chain, variant)
    try:
        model = unconverted(lambda: build(chain))
    except (ValueError, ZeroDivisionError) as error:
        return "-", f"{error}"[:80]
    problems, letter, note = check(model, io_type=io_type), "C", ""
    port = lint_projects.port_of(model)
    events = events_for(port, model.input_shape[1:], EVENTS, variant)
    expected = None
    if problems:
        note = "; ".join(sorted({each.construct for each in problems}))
        expected = qkeras_values(model, events)
        repaired = apply_repairs(model, grid=port)
        if repaired.exact and not check(repaired.model, io_type=io_type):
            model, letter = repaired.model, "P"
            note = "; ".join(sorted({each.what[:60] for each in repaired.repairs}))
    elif (problem := beyond(model)) is not None:
        return "R", f"beyond: {problem.construct}"
    try:
        if problems and letter != "P":
            letter = "R"
            project = lint_projects.write(model, name, directory, io_type, backend, strategy)
        else:
            check_size(model, backend_named(backend), io_type, strategy)
            exact = read(model)
            found = exact.predict(events)
            if expected is not None and (found != expected).any():
                return "D", f"the repair changes values: {note}"
            expected = found
            reuse = 2 if strategy == "resource" else 1
            own = to_hls(
                model,
                directory / f"{name}.project",
                **{"io_type": io_type, "strategy": strategy, "backend": backend, "reuse": reuse},
                network=exact,
                vectors=events[:2],
                name=name,
            )
            proof = follow(contents(own.directory), exact, own.description).certificate
            if not proof.certified:
                letter = "W" if proof.refused else "O" if letter == "C" else letter
                note = f"{note}; {proof.summary}".strip("; ")
            project = lint_projects.gathered(own, name, directory)
    except CheckFailed as error:
        return "R", f"limit: {error}"[:120]
    except Exception as error:
        kind = "R" if letter == "R" else "F"
        return kind, f"{note}; {type(error).__name__}: {error}".strip("; ")[:240]
    return Trial(chain, variant, letter, project, events, expected, note)


def qkeras_values(model: Any, events: Any) -> Any:
    return np.asarray(model(events.astype(np.float32)), np.float64).reshape(len(events), -1)


def judged(trials: list[Trial], directory: Path) -> Iterator[tuple[Trial, str, str]]:
    """Each trial with its letter and its note; those that do not compile are found by halving."""
    if not trials:
        return
    try:
        together = lint_projects.Together([each.project for each in trials], directory)
    except UserError as error:
        if len(trials) == 1:
            (one,) = trials
            yield one, "R" if one.letter == "R" else "F", f"{one.note}; {error}"[:300]
            return
        half = len(trials) // 2
        yield from judged(trials[:half], directory)
        yield from judged(trials[half:], directory)
        return
    for each in trials:
        try:
            found = together.values(each.project.name, each.events)
        except UserError as error:
            letter = "R" if each.letter == "R" else "F"
            yield each, letter, f"{each.note}; {error}"[:300]
            continue
        wrong = int((found != each.expected).any(axis=1).sum())
        told = f"{each.note}; {wrong} of {len(found)} events differ".strip("; ")
        if each.letter == "R":
            yield each, "R" if wrong else "E", each.note
        else:
            yield each, "D" if wrong else each.letter, told if wrong else each.note
    together.program.unlink(missing_ok=True)


def version() -> str:
    """A hash of lint, repairs and certificate: what is not simply right is measured again."""
    import l1kd

    place = Path(l1kd.__file__).parent
    names = ("networks/lint/check.py", "networks/lint/problems.yaml", "networks/repair.py")
    paths = [*(place / each for each in names), *sorted(place.glob("firmware/certificate/*.py"))]
    return hashlib.sha256(b"".join(each.read_bytes() for each in paths)).hexdigest()[:16]


def summary(cases: dict[str, str], notes: dict[str, str]) -> dict[str, Any]:
    """How many of how many, by letter and by kind; refusals that were never shown necessary."""
    rounds: dict[int, list[int]] = {}
    for number, _, chain, variant in jobs():
        rounds.setdefault(number, []).append(_letter(cases, chain, variant) != ".")
    letters = Counter("".join(cases.values()))
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for chain, found in cases.items():
        for kind in chain.partition(": ")[2].split(" > ")[-2:]:
            by_kind[kind].update(found.replace(".", ""))
    refusals: dict[str, Counter[str]] = defaultdict(Counter)
    holes = []
    for key, note in notes.items():
        chain, _, variant = key.rpartition(" | ")
        if (letter := _letter(cases, chain, int(variant))) in "RE":
            refusals[note.partition(";")[0]].update(letter)
        if letter in HOLES:
            holes.append(key)
    never = sorted(construct for construct, found in refusals.items() if not found["R"])
    return {
        "rounds": [f"{sum(found)} of {len(found)}" for _, found in sorted(rounds.items())],
        "letters": {f"{each}: {LETTERS[each]}": letters[each] for each in LETTERS if each != "."},
        "holes": sorted(holes),
        "refused_and_never_different": never,
        "by_kind": {kind: dict(sorted(found.items())) for kind, found in sorted(by_kind.items())},
    }


def _letter(cases: dict[str, str], chain: str, variant: int) -> str:
    return cases.get(chain, "." * len(VARIANTS))[variant]


def measure(seconds: float) -> dict[str, Any]:
    """Go on for some seconds."""
    import tensorflow as tf

    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    cases, notes = recorded.get("cases", {}), recorded.get("notes", {})
    lint = version()
    if recorded.get("lint") != lint:
        for chain, found in cases.items():
            for place, letter in enumerate(found):
                if letter in f"{HOLES}EO":
                    notes.pop(f"{chain} | {place}", None)
            cases[chain] = "".join("." if each in f"{HOLES}EO" else each for each in found)
    ends = time.monotonic() + seconds
    waiting = (
        (chain, variant) for _, _, chain, variant in jobs() if _letter(cases, chain, variant) == "."
    )
    while time.monotonic() < ends and (batch := list(itertools.islice(waiting, BATCH))):
        tf.keras.backend.clear_session()
        for backend in ("Vitis", "Vivado"):
            with tempfile.TemporaryDirectory() as work:
                found: list[tuple[str, int, str, str]] = []
                trials = []
                for number, (chain, variant) in enumerate(batch):
                    if backend_of(chain, variant) != backend:
                        continue
                    made = prepared(chain, variant, Path(work), f"n{number}")
                    if isinstance(made, Trial):
                        trials.append(made)
                    else:
                        found.append((chain, variant, *made))
                for trial, letter, note in judged(trials, Path(work)):
                    found.append((trial.chain, trial.variant, letter, note))
            for chain, variant, letter, note in found:
                row = list(cases.get(chain, "." * len(VARIANTS)))
                row[variant] = letter
                cases[chain] = "".join(row)
                if note and letter not in "-CP":
                    notes[f"{chain} | {variant}"] = note
                if letter in HOLES:
                    sys.stderr.write(f"{letter} {chain} | {VARIANTS[variant]}: {note}\n")
        told = {
            "lint": lint,
            "variants": [" ".join(each) for each in VARIANTS],
            "summary": summary(cases, notes),
            "cases": dict(sorted(cases.items())),
            "notes": dict(sorted(notes.items())),
        }
        write_json(RESULTS, told)
        sys.stderr.write(f"{told['summary']['rounds']}\n")
    return json.loads(RESULTS.read_text())


def test_lint_clean_is_equal() -> None:
    """What `make bench` runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measure(SECONDS)["summary"]
    assert not found["holes"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS)
    warnings.filterwarnings("ignore")
    with contextlib.suppress(KeyboardInterrupt):
        measure(parser.parse_args().seconds)
