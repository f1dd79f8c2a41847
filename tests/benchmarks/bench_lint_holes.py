"""Every pair of layer kinds, and the likely triples: lint-clean means equal, refused means not.

    python -m tests.benchmarks.bench_lint_holes --seconds 3600 [--compile | --compare] [--share 1/2]

goes on where it was and records `results/lint_holes.json`; several may run at the same time, each
with its share of the chains. A chain of kinds stands between a port and a quantizer.

- *Certified*: what the lint lets through, or an exact repair makes clean, is converted, and its
  certificate proves the written project equal to the exact network for every input. That takes a
  tenth of a second; nothing is compiled.
- *Compared* (`--compare`, or when nothing is left to certify): the exact network of each of these
  chains with QKeras' own values on 300 events, computed in float64. A certificate says nothing of
  what reads the network: an error there would be in both of its sides.
- *Compiled* (`--compile`): what the certificate leaves open, and one in ten of what it proves, is
  compiled, many networks at a time, and compared with QKeras' own values, which know neither the
  exact network nor a repair. A network that the lint refuses is
  converted all the same, variant by variant, until hls4ml's result differs from QKeras', or
  there is none: that shows the refusal necessary. A refusal is of a network (rules of every
  io_type), of its io_stream projects, or of a variant (limits of hls4ml's code). Each reason has
  its turn.

The strategy is a matter of layers with weights: chains without any are converted with the latency
strategy, and one in ten with all three.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from filelock import FileLock

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
    unconverted,
)

RESULTS = Path(__file__).parent / "results" / "lint_holes.json"
SECONDS = float(os.environ.get("L1KD_LINT_SECONDS", "3600"))
SHAPES = {"vector": (8,), "sequence": (4, 2), "image": (4, 4, 2)}
VARIANTS = [
    (io_type, strategy, backend)
    for io_type in ("io_stream", "io_parallel")
    for strategy in ("latency", "resource", "distributed_arithmetic")
    for backend in ("Vitis", "Vivado")
]
EVENTS = 300
BATCH = 48  # networks at a time, in one compilation for each backend
SCORE = "quantized_bits(24,8,0,alpha=1)"
Body = Callable[[Any, str], Any]  # a tensor and a name to a tensor

# One letter for each variant of a chain.
LETTERS = {
    ".": "not tried",
    "-": "no such network: Keras cannot build it",
    "C": "clean: certified for all inputs",
    "c": "clean: certified for all inputs, and equal in C simulation",
    "P": "repaired exactly: certified for all inputs",
    "p": "repaired exactly: certified for all inputs, and equal in C simulation",
    "O": "clean: its certificate is open",
    "o": "clean: its certificate is open, equal in C simulation",
    "Q": "repaired exactly: its certificate is open",
    "q": "repaired exactly: its certificate is open, equal in C simulation",
    "R": "refused by the lint",
    "L": "refused by a limit of l1kd's own",
    "D": "clean or repaired: differs",
    "F": "clean or repaired: is not converted, compiled or run",
    "W": "clean or repaired: its certificate is refused",
}
HOLES = "DFW"
COMPILED = dict(zip("CPOQ", "cpoq", strict=True))
PARTS = ("cases", "refusals", "notes", "misread")


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


def weighted(chain: str) -> bool:
    """True if the strategy of layers with weights can matter."""
    kinds_of = chain.partition(": ")[2].split(" > ")
    return any(
        each.startswith("Q") or each == "read twice" or (each in MERGES and "of one" not in each)
        for each in kinds_of
    )


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


def digest(chain: str, word: str = "") -> int:
    return int.from_bytes(hashlib.sha256(f"{chain} {word}".encode()).digest()[:6], "big")


def jobs() -> Iterator[tuple[int, str, list[int]]]:
    """Every round, chain and places in `VARIANTS`, in the order in which they are tried.

    Pairs with a strategy and a backend for each io type; then with the other strategies, where
    there are weights; triples; pairs with the other backend.
    """
    found = []
    for triple, chain in chains():
        number = digest(chain)
        has, tenth = weighted(chain), number % 10 == 0
        first, others, backends = [], [], []
        for io_type in (0, 6):
            chosen = digest(chain, f"{io_type}") % 3 if has else 0
            for strategy in range(3):
                backend = digest(chain, f"{io_type} {strategy}") % 2
                place = io_type + 2 * strategy + backend
                if strategy == chosen:
                    first.append(place)
                elif has or tenth:
                    others.append(place)
                if strategy == chosen or has or tenth:
                    backends.append(place ^ 1)
        if triple:
            found.append((2, number, chain, first))
        else:
            found.append((0, number, chain, first))
            found.append((1, number, chain, others))
            found.append((3, number, chain, backends))
    for order, _, chain, places in sorted(found):
        if places:
            yield order, chain, places


def places_of(scope: str) -> list[int]:
    """The variants that a refusal is of: those with all words of the scope."""
    return [k for k, each in enumerate(VARIANTS) if set(scope.split()) <= {*each, "all"}]


@dataclass
class Found:
    """Results of some chains."""

    cells: dict[tuple[str, int], tuple[str, str]]  # letter and note
    # By chain and scope: reason, variants in which it is equal, variant and fact that show it.
    refusals: dict[str, tuple[str, list[int], str]]
    # By chain: events on which the exact network is not QKeras, of `EVENTS`.
    misread: dict[str, int] = field(default_factory=dict)

    def put(self, chain: str, places: list[int], letter: str, note: str = "") -> None:
        self.cells |= {(chain, place): (letter, note) for place in places}

    def refused(self, chain: str, scope: str, reason: str, letter: str = "R") -> None:
        self.refusals[f"{chain} | {scope}"] = (reason, [], "")
        if letter:
            self.put(chain, places_of(scope), letter, reason if letter == "L" else "")


def certified(chain: str, places: list[int], directory: Path, found: Found) -> None:
    """Judge a chain in some variants without compiling anything."""
    from l1kd.firmware.hls.backends import backend_named
    from l1kd.firmware.hls.hls4ml_convert import check_size
    from l1kd.networks.lint.check import check
    from l1kd.networks.repair import apply_repairs
    from l1kd.networks.to_exact import beyond, read

    try:
        given = unconverted(lambda: build(chain))
    except (ValueError, ZeroDivisionError):
        found.put(chain, list(range(len(VARIANTS))), "-")
        return
    general = check(given)
    repaired: Any = None
    networks: dict[int, Any] = {}
    for io_type in ("io_stream", "io_parallel"):
        own = [each for each in places if VARIANTS[each][0] == io_type]
        model, clean = given, "C"
        if problems := check(given, io_type=io_type):
            scope = "all" if general else io_type
            reason = "; ".join(sorted({each.construct for each in problems}))
            repaired = repaired or apply_repairs(given, grid=lint_projects.port_of(given))
            mended = repaired.exact and not check(repaired.model, io_type=io_type)
            found.refused(chain, scope, reason, "")
            if not mended:
                found.put(chain, places_of(io_type), "R")
                continue
            model, clean = repaired.model, "P"
        if (problem := beyond(model)) is not None:
            found.refused(chain, "all", f"limit: {problem.construct}", "")
            found.put(chain, places_of(io_type), "L", problem.construct)
            continue
        for place in own:
            _, strategy, backend = VARIANTS[place]
            try:
                check_size(model, backend_named(backend), io_type, strategy)
            except CheckFailed as error:
                reason = f"limit: {str(error).partition(': ')[2][:90]}"
                found.refused(chain, f"{io_type} {strategy}", reason, "L")
                continue
            try:
                if id(model) not in networks:
                    networks[id(model)] = read(model)
            except CheckFailed as error:
                reason = f"limit: {str(error).partition(': ')[2][:90]}"
                found.refused(chain, "all", reason, "")
                found.put(chain, places_of(io_type), "L", reason)
                break
            letter, note = _certificate(model, networks[id(model)], place, directory)
            found.put(
                chain, [place], {"C": clean, "O": "OQ"[clean == "P"]}.get(letter, letter), note
            )


def _certificate(model: Any, exact: Any, place: int, directory: Path) -> tuple[str, str]:
    from l1kd.firmware.certificate.proof import follow
    from l1kd.firmware.certificate.shipped_files import contents

    try:
        own = _converted(model, exact, place, directory / "own", "n0")
    except CheckFailed as error:
        return "L", f"limit: {error}"[:120]
    except Exception as error:
        return "F", f"{type(error).__name__}: {error}"[:240]
    proof = follow(contents(own.directory), exact, own.description).certificate
    shutil.rmtree(own.directory)
    if proof.certified:
        return "C", ""
    return "W" if proof.refused else "O", proof.summary[:160]


def _converted(model: Any, exact: Any, place: int, directory: Path, name: str) -> Any:
    from l1kd.firmware.hls.hls4ml_convert import to_hls

    io_type, strategy, backend = VARIANTS[place]
    reuse = 2 if strategy == "resource" else 1
    options: Any = {"io_type": io_type, "strategy": strategy, "backend": backend, "reuse": reuse}
    vectors = np.zeros((1, *model.input_shape[1:]))
    return to_hls(model, directory, **options, network=exact, vectors=vectors, name=name)


@dataclass
class Trial:
    """A network that is converted, and the values that its C simulation has to give."""

    chain: str
    place: int
    scope: str  # of the refusal that is tried; empty for a network that is clean or repaired
    project: lint_projects.Project
    events: Any
    expected: Any


def prepared(chain: str, place: int, scope: str, directory: Path, name: str) -> Trial | str:
    """A trial; or the error that ends it before there is one."""
    from l1kd.networks.lint.check import check
    from l1kd.networks.repair import apply_repairs
    from l1kd.networks.to_exact import read
    from tests.firmware.random_networks import events_for

    io_type, strategy, backend = VARIANTS[place]
    model = unconverted(lambda: build(chain))
    port = lint_projects.port_of(model)
    events = events_for(port, model.input_shape[1:], EVENTS, place)
    expected = qkeras_values(chain, model, events)
    try:
        if scope:
            project = lint_projects.write(model, name, directory, io_type, backend, strategy)
        else:
            if check(model, io_type=io_type):
                model = apply_repairs(model, grid=port).model
            own = _converted(model, read(model), place, directory / f"{name}.project", name)
            project = lint_projects.gathered(own, name, directory)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:160]
    return Trial(chain, place, scope, project, events, expected)


def qkeras_values(chain: str, model: Any, events: Any) -> Any:
    """The values of a chain's network as QKeras computes them in float64.

    TensorFlow has not every layer in it: float32 then, which holds the sums of so small a network.
    """
    import tensorflow as tf

    tf.keras.backend.set_floatx("float64")
    try:
        wide = unconverted(lambda: build(chain))
        wide.set_weights(model.get_weights())
        found = wide(events)
    except tf.errors.InvalidArgumentError:
        found = model(events.astype(np.float32))
    finally:
        tf.keras.backend.set_floatx("float32")
    return np.asarray(found, np.float64).reshape(len(events), -1)


def compared(chain: str, row: str, found: Found) -> None:
    """Compare the exact network of a chain with QKeras."""
    from l1kd.networks.repair import apply_repairs
    from l1kd.networks.to_exact import read
    from tests.firmware.random_networks import events_for

    given = unconverted(lambda: build(chain))
    port = lint_projects.port_of(given)
    events = events_for(port, given.input_shape[1:], EVENTS, 0)
    models = [given] if set(row) & set("CcOoD") else []
    if set(row) & set("PpQq"):
        models.append(apply_repairs(given, grid=port).model)
    expected = qkeras_values(chain, given, events)
    found.misread[chain] = sum(
        int((read(model).predict(events) != expected).any(axis=1).sum()) for model in models
    )


def judged(trials: list[Trial], directory: Path) -> Iterator[tuple[Trial, str]]:
    """Each trial with an error, or how many events differ; empty if none does."""
    if not trials:
        return
    try:
        together = lint_projects.Together([each.project for each in trials], directory)
    except UserError as error:
        refused = lint_projects.refusals([each.project for each in trials], directory)
        for each in trials:
            if each.project.name in refused:
                yield each, f"g++: {refused[each.project.name]}"[:160]
        rest = [each for each in trials if each.project.name not in refused]
        if len(rest) < len(trials):
            yield from judged(rest, directory)
        elif len(trials) == 1:
            yield trials[0], f"g++: {error}".replace(f"{directory}/", "")[:160]
        else:
            half = len(trials) // 2
            yield from judged(trials[:half], directory)
            yield from judged(trials[half:], directory)
        return
    for each in trials:
        try:
            found = together.values(each.project.name, each.events)
        except UserError as error:
            said = f"{error}".partition("; convert")[0].rpartition(": ")[2]
            yield each, f"run: {said}"[:160]
            continue
        wrong = int((found != each.expected).any(axis=1).sum())
        yield each, f"{wrong} of {len(found)} events differ" if wrong else ""
    together.program.unlink(missing_ok=True)


def waiting(recorded: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Chains, places and scopes that are to be compiled; every reason in turn."""
    groups: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    done: Counter[str] = Counter()
    for key, (reason, equal, shown) in _shuffled(recorded["refusals"]):
        chain, _, scope = key.rpartition(" | ")
        # Parallel, latency and Vitis first: the least that a refusal can be about.
        rest = sorted(set(places_of(scope)) - set(equal), key=lambda k: (-(k // 6), k % 6))
        if not shown and rest:
            groups[reason].append((chain, rest[0], scope))
        else:
            done[reason] += 1
    for chain, row in _shuffled(recorded["cases"]):
        for place, letter in enumerate(row):
            note = recorded["notes"].get(f"{chain} | {place}", "")
            group = letter.upper() + re.sub(r"\b\w*\d\w*\b", "*", note)
            chosen = letter in "OQ" or digest(chain, f"{place} compiled") % 10 == 0
            if letter in COMPILED and chosen:
                groups[group].append((chain, place, ""))
            elif letter in COMPILED.values():
                done[group] += 1
    turns = [
        (done[group] + number, each)
        for group, several in groups.items()
        for number, each in enumerate(several)
    ]
    for _, each in sorted(turns, key=lambda turn: turn[0]):
        yield each


def _shuffled(items: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(items.items(), key=lambda each: digest(each[0]))


def compiled(batch: list[tuple[str, int, str]], recorded: dict[str, Any], found: Found) -> None:
    """Compile and run some networks of one backend."""
    with tempfile.TemporaryDirectory() as work:
        trials = []
        results: list[tuple[str, int, str, str]] = []
        for number, (chain, place, scope) in enumerate(batch):
            made = prepared(chain, place, scope, Path(work), f"n{number}")
            if isinstance(made, Trial):
                trials.append(made)
            else:
                results.append((chain, place, scope, made))
        results += [
            (each.chain, each.place, each.scope, told) for each, told in judged(trials, Path(work))
        ]
    for chain, place, scope, told in results:
        if scope:
            key = f"{chain} | {scope}"
            reason, equal, shown = found.refusals.get(key) or recorded["refusals"][key]
            if told and not shown:
                shown = f"{' '.join(VARIANTS[place])}: {told}"
            equal = equal if told else [*equal, place]
            found.refusals[key] = (reason, equal, shown)
            continue
        letter = recorded["cases"][chain][place]
        note = recorded["notes"].get(f"{chain} | {place}", "")
        if told:
            letter, note = "D" if told.endswith("differ") else "F", told
        found.put(chain, [place], COMPILED.get(letter, letter), note)


def version() -> str:
    """A hash of lint, repairs and certificate."""
    import l1kd

    place = Path(l1kd.__file__).parent
    names = ("networks/lint/check.py", "networks/repair.py", "networks/to_exact.py")
    paths = [*(place / each for each in names), *sorted(place.glob("firmware/certificate/*.py"))]
    return hashlib.sha256(b"".join(each.read_bytes() for each in paths)).hexdigest()[:16]


def summary(recorded: dict[str, Any]) -> dict[str, Any]:
    """Counts by round and letter; holes; refusals that are not shown necessary."""
    cases, notes = recorded["cases"], recorded["notes"]
    rounds: dict[int, Counter[str]] = defaultdict(Counter)
    for number, chain, places in jobs():
        row = cases.get(chain, "." * len(VARIANTS))
        rounds[number].update(row[place] for place in places)
    names = (
        "pairs, a strategy and a backend for each io type",
        "pairs, the other strategies",
        "triples, a strategy and a backend for each io type",
        "pairs, the other backend",
    )
    letters = Counter("".join(cases.values()))
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    unnecessary = []
    for key, (reason, equal, shown) in recorded["refusals"].items():
        scope = key.rpartition(" | ")[2]
        done = len(equal) == len(places_of(scope))
        reasons[reason]["necessary" if shown else "equal in all" if done else "not tried"] += 1
        if done and not shown:
            unnecessary.append(key)
    return {
        "rounds": {
            names[number]: {"cases": sum(found.values()), **dict(sorted(found.items()))}
            for number, found in sorted(rounds.items())
        },
        "letters": {f"{each}: {LETTERS[each]}": letters[each] for each in LETTERS},
        "holes": {
            f"{chain} | {' '.join(VARIANTS[place])}": f"{row[place]} {notes[f'{chain} | {place}']}"
            for chain, row in sorted(cases.items())
            for place in range(len(VARIANTS))
            if row[place] in HOLES
        },
        "compared_with_qkeras": {
            "chains": len(recorded["misread"]),
            "events": EVENTS * len(recorded["misread"]),
            "differ": {chain: n for chain, n in sorted(recorded["misread"].items()) if n},
        },
        "refusals": {
            reason: dict(sorted(each.items())) for reason, each in sorted(reasons.items())
        },
        "refused_and_equal_in_all_variants": sorted(unnecessary),
    }


def load() -> dict[str, Any]:
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {"cases": {}, "refusals": {}, "notes": {}, "misread": {}, **recorded}


def record(found: Found) -> dict[str, Any]:
    """Add what was found to the recorded results."""
    with FileLock(RESULTS.with_suffix(".lock")):
        recorded = load()
        for (chain, place), (letter, note) in found.cells.items():
            row = list(recorded["cases"].get(chain, "." * len(VARIANTS)))
            row[place] = letter
            recorded["cases"][chain] = "".join(row)
            recorded["notes"].pop(f"{chain} | {place}", None)
            if note and letter != "L":
                recorded["notes"][f"{chain} | {place}"] = note
        for key, (reason, equal, shown) in found.refusals.items():
            if equal or shown or recorded["refusals"].get(key, [""])[0] != reason:
                recorded["refusals"][key] = [reason, equal, shown]
        recorded["misread"] |= found.misread
        told = {
            "lint": version(),
            "variants": [" ".join(each) for each in VARIANTS],
            "summary": summary(recorded),
            **{key: dict(sorted(recorded[key].items())) for key in PARTS},
        }
        write_json(RESULTS, told)
    for (chain, place), (letter, note) in found.cells.items():
        if letter in HOLES:
            sys.stderr.write(f"{letter} {chain} | {VARIANTS[place]}: {note}\n")
    for chain, wrong in found.misread.items():
        if wrong:
            sys.stderr.write(f"{chain}: {wrong} events of the exact network are not QKeras'\n")
    return told


def measure(
    seconds: float, *, compiling: bool = False, comparing: bool = False, share: str = "1/1"
) -> dict[str, Any]:
    """Go on for some seconds, with one share of the chains."""
    import tensorflow as tf

    number, of = map(int, share.split("/"))
    ends = time.monotonic() + seconds
    if Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"  # what is written is read once
    recorded = record(Found({}, {}))
    with mock.patch("l1kd.core.files._sync"):
        while time.monotonic() < ends:
            found = Found({}, {})
            tf.keras.backend.clear_session()
            if compiling:
                todo = (
                    each
                    for each in waiting(recorded)
                    if digest(each[0], "share") % of == number - 1
                )
                first = next(todo, None)
                if first is None:
                    break
                same = (each for each in todo if VARIANTS[each[1]][2] == VARIANTS[first[1]][2])
                compiled([first, *itertools.islice(same, BATCH - 1)], recorded, found)
            else:
                missing = (
                    (chain, left)
                    for _, chain, places in jobs()
                    if digest(chain, "share") % of == number - 1
                    and (left := [k for k in places if row_of(recorded, chain)[k] == "."])
                )
                todo_now = [] if comparing else list(itertools.islice(missing, 40))
                with tempfile.TemporaryDirectory() as work:
                    for chain, left in todo_now:
                        certified(chain, left, Path(work), found)
                if not todo_now:
                    unread = [
                        (chain, row)
                        for chain, row in _shuffled(recorded["cases"])
                        if set(row.upper()) & set("CPOQ")
                        and chain not in recorded["misread"]
                        and digest(chain, "share") % of == number - 1
                    ]
                    if not unread:
                        break
                    for chain, row in unread[:100]:
                        compared(chain, row, found)
            recorded = record(found)
            counts = recorded["summary"]["letters"]
            sys.stderr.write(f"{time.process_time():.0f} s: {list(counts.values())}\n")
    return recorded


def row_of(recorded: dict[str, Any], chain: str) -> str:
    return recorded["cases"].get(chain, "." * len(VARIANTS))


def test_lint_clean_is_equal() -> None:
    """What `make bench` runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measure(SECONDS / 2)
        found = measure(SECONDS / 2, compiling=True)["summary"]
    assert not found["holes"]
    assert not found["compared_with_qkeras"]["differ"]
    assert not found["refused_and_equal_in_all_variants"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--share", default="1/1")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    with contextlib.suppress(KeyboardInterrupt):
        measure(
            given.seconds,
            compiling=given.compile,
            comparing=given.compare,
            share=given.share,
        )
