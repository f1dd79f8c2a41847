"""The vectors that projects ship: few, and they notice what breaks."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.files import read_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.layers import Affine, Node, Quantize
from l1kd.exact.network import Network, from_json
from l1kd.firmware.hls import c_simulation, hls4ml_convert, testbench
from l1kd.firmware.hls.project import NETWORK, Project, counts_of
from l1kd.firmware.stimuli.test_vectors import choose
from tests.firmware import networks
from tests.firmware.mutations import mutate
from tests.firmware.stimuli.test_corner_inputs import dense, image, layered, linear, quantize

PORT = FixedPoint(6, 6)
# Mutations that change something.
_SEEDS = {"weight": 1, "bias": 1, "precision": 1, "code": 7}


@pytest.fixture(scope="module")
def chosen() -> tuple[Network, np.ndarray]:
    """A network and its vectors."""
    network = image(PORT, seed=2)
    return network, choose(network)


def changed(network: Network, node: Node) -> Network:
    """The network with another node of the same name."""
    nodes = tuple(node if each.name == node.name else each for each in network.nodes)
    return Network(network.name, nodes, network.outputs)


def usual(network: Network, count: int, seed: int = 5) -> np.ndarray:
    """Random events, as the choice knows none: falling spectra, full and sparse."""
    random = np.random.default_rng(seed)
    row = (count, *(1 for _ in network.shape))
    mean = np.exp(random.uniform(0, np.log(network.port.bounds[1]), row))
    values = np.rint(random.exponential(1, (count, *network.shape)) * mean)
    values *= random.random(values.shape) < random.choice([0.1, 0.5, 1.0], row)
    low, high = network.port.bounds
    return np.clip(values, low, high) * network.port.lsb


def test_they_are_few_distinct_seeded_and_on_the_port(
    chosen: tuple[Network, np.ndarray],
) -> None:
    _, events = chosen
    assert events.shape[1:] == (6, 6, 1) and 1000 < len(events) <= 2000
    assert PORT.holds(events).all()
    assert len(np.unique(events.reshape(len(events), -1), axis=0)) == len(events)
    matrix = linear(PORT)
    few = choose(matrix, limit=50)
    assert len(few) == 50 and (choose(matrix, limit=50) == few).all()
    assert (choose(matrix, seed=1, limit=50) != few).any()


def test_a_quarter_of_the_room_is_for_the_run_s_own_events() -> None:
    network = linear(PORT)
    own = usual(network, 400)
    own[3] = 99  # not on the port
    events = choose(network, own, limit=200)
    assert len(events) == 200
    rows = {event.tobytes() for event in events}
    assert sum(event.tobytes() in rows for event in own) >= 40
    assert PORT.holds(events).all()


def test_a_network_without_weights_has_vectors() -> None:
    only = layered(PORT, (3,), quantize("score", "in", (3,), FixedPoint(4, 4)))
    events = choose(only, limit=20)
    assert len(events) == 20 and (np.abs(events) > 8).any()
    plain = layered(PORT, (3,), quantize("score", "in", (3,), PORT))  # nothing to search for
    assert len(choose(plain, limit=20)) == 20


def test_large_events_have_fewer_vectors() -> None:
    network = layered(
        PORT,
        (5000,),
        dense("d", "in", np.random.default_rng(1).integers(-3, 4, (5000, 1)), 8),
        quantize("score", "d", (1,), FixedPoint(8, 6, False)),
    )
    assert len(choose(network)) <= 378_000 // 5000


def test_what_usual_events_notice_of_a_weight_the_vectors_notice_too(
    chosen: tuple[Network, np.ndarray],
) -> None:
    network, events = chosen
    many = usual(network, 10_000)
    expected, before = network.predict(events), network.predict(many)
    random = np.random.default_rng(1)
    layers = [node for node in network.nodes if isinstance(node, Affine)]
    noticed, missed = 0, []
    for _ in range(40):
        node = layers[random.integers(len(layers))]
        name = random.choice(["kernel", "bias"])
        values = getattr(node, name).copy()
        place = tuple(random.integers(side) for side in values.shape)
        values[place] += random.choice([-1, 1])
        broken = changed(network, dataclasses.replace(node, **{name: values}))
        if (broken.predict(many) == before).all():
            continue
        noticed += 1
        if (broken.predict(events) == expected).all():
            missed.append((node.name, name, place))
    assert noticed > 20 and not missed


@pytest.mark.parametrize("name", ["r1", "r2", "r3", "score"])
def test_they_notice_another_type_of_every_quantizer(
    name: str, chosen: tuple[Network, np.ndarray]
) -> None:
    network, events = chosen
    many = usual(network, 10_000)
    expected, before = network.predict(events), network.predict(many)
    node = network[name]
    assert isinstance(node, Quantize)
    kind = node.type
    others = [
        dataclasses.replace(kind, rounding="RND"),
        dataclasses.replace(kind, rounding="TRN"),
        dataclasses.replace(kind, overflow="WRAP"),
        dataclasses.replace(kind, word=kind.word - 1),
        dataclasses.replace(kind, word=kind.word - 1, integer=kind.integer - 1),
    ]
    shown = 0
    for other in others:
        broken = changed(network, dataclasses.replace(node, type=other))
        if (broken.predict(many) == before).all():
            continue
        shown += 1
        assert (broken.predict(events) != expected).any(), other.text
    assert shown


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project; do not change it, copy it."""
    return hls4ml_convert.to_hls(networks.little(), tmp_path_factory.mktemp("vectors") / "little")


@pytest.mark.csim
@pytest.mark.parametrize(
    "kind",
    [
        "weight",
        pytest.param("bias", marks=pytest.mark.full),
        pytest.param("precision", marks=pytest.mark.full),
        "code",
    ],
)
def test_they_notice_a_broken_project(project: Project, tmp_path: Path, kind: str) -> None:
    network = from_json(read_json(project.directory / NETWORK))
    events = usual(network, 20_000)
    counts = counts_of(events, project.description.input, "little")
    outputs = network.output_types[0].integers(network.predict(events))
    vectors, expected = testbench.read_vectors(project.directory)
    shutil.copytree(project.directory, tmp_path / "m")
    mutation = mutate(tmp_path / "m", kind, np.random.default_rng(_SEEDS[kind]))  # type: ignore[arg-type]
    program = Project(tmp_path / "m", project.description).compile()
    shown = (c_simulation.simulate(program, counts, 1, 2) != outputs).any(axis=1)
    noticed = (c_simulation.simulate(program, vectors, 1, 2) != expected).any(axis=1)
    assert shown.any(), f"{mutation} changes nothing; take another seed"
    assert noticed.any(), mutation


@pytest.mark.csim
def test_a_project_as_it_was_written_passes_its_vectors(project: Project) -> None:
    vectors, expected = testbench.read_vectors(project.directory)
    assert (c_simulation.simulate(project.compile(), vectors, 1, 2) == expected).all()
    assert len(vectors) > 1000 and len(np.unique(expected)) > 50
