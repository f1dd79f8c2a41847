"""The lint refuses what hls4ml gets wrong, and nothing else: each refusal has its evidence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from l1kd.errors import CheckFailed
from l1kd.firmware import csim
from l1kd.fixedpoint import FixedPoint
from l1kd.models.lint import Problem, check, demand
from tests.models import lint_cases as cases
from tests.models import lint_clean as clean
from tests.models import lint_heads
from tests.models.lint_cases import Case

TOP = "lint_net"


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    """Keras, QKeras and hls4ml warn about what is meant here; random quantizers want a seed.

    Without one they fail where a test before has made TensorFlow deterministic.
    """
    import tensorflow as tf

    tf.random.set_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def port_of(model: Any) -> FixedPoint:
    """The type that the network gives its input; that of most tests if it does not say."""
    quantizers = [layer.quantizer for layer in model.layers if hasattr(layer, "quantizer")]
    if not quantizers or type(quantizers[0]).__name__ != "quantized_bits":
        return FixedPoint(6, 4)
    first = quantizers[0]
    signed = bool(first.keep_negative)
    return FixedPoint(int(first.bits), int(first.integer) + signed, signed)


def events(model: Any, count: int = 400) -> NDArray[np.float32]:
    """Events on the port's grid: uniform ones, and many at the ends of its range."""
    port = port_of(model)
    low, high = port.bounds
    random = np.random.default_rng(3)
    counts = random.integers(low, high + 1, (count, *model.input_shape[1:]))
    extreme = random.random(counts.shape) < 0.4
    extreme[count // 2 :] = False
    counts = np.where(extreme, random.choice([low, high], counts.shape), counts)
    return (counts * port.lsb).astype(np.float32)


def qkeras_values(model: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    outputs = model(inputs, training=False)
    parts = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return np.concatenate(
        [np.asarray(each, np.float64).reshape(len(inputs), -1) for each in parts], 1
    )


def hls4ml_values(
    model: Any, inputs: NDArray[np.float32], directory: Path, io_type: str
) -> NDArray[np.float64]:
    """What hls4ml's C++ makes of the events; the recipe is that of `l1kd.firmware.hls`."""
    import hls4ml

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend="Vitis")
        graph = hls4ml.converters.convert_from_keras_model(
            model,
            hls_config=config,
            bit_exact=True,
            backend="Vitis",
            io_type=io_type,
            output_dir=str(directory),
            project_name=TOP,
            write_weights_txt=False,
        )
        graph.config.config.pop("KerasModel")
        graph.write()
    (sink,) = graph.get_output_variables()
    given = FixedPoint.parse(str(sink.type.precision))
    size, outputs = int(np.prod(model.input_shape[1:])), int(np.prod(sink.shape))
    program = csim.build(directory, csim.Ports(TOP, "", size, outputs))
    # A trigger system sends the bits of the type that the network says.
    bits = port_of(model).integers(inputs.reshape(len(inputs), -1))
    return csim.simulate(program, bits, outputs, 1) * given.lsb


def outcome(model: Any, directory: Path, io_type: str, reference: Any = None) -> tuple[str, str]:
    """Whether hls4ml is exact, differs or fails, and the error's text."""
    inputs = events(model)
    try:
        expected = qkeras_values(reference or model, inputs)
        got = hls4ml_values(model, inputs, directory, io_type)
    except Exception as error:
        return "fails", f"{type(error).__name__}: {error}"
    assert len(np.unique(expected)) > 1, "a constant says nothing"
    return ("exact" if np.array_equal(expected, got) else "differs"), ""


def head_shapes(model: Any) -> list[tuple[int, ...]]:
    """The shapes of the heads of a network whose layers end in a chain of Concatenate."""
    shapes: list[tuple[int, ...]] = []
    tensor = model.output
    while type(owner := tensor._keras_history.layer).__name__ == "Concatenate":
        tensor, last = owner.input
        shapes.insert(0, tuple(last.shape[1:]))
    return [tuple(tensor.shape[1:]), *shapes]


def named(problems: list[Problem], layer: str, construct: str) -> bool:
    return any(problem.layer == layer and construct in problem.construct for problem in problems)


def case_ids(items: list[Case]) -> Any:
    return [pytest.param(item, id=item.name.replace(" ", "_")) for item in items]


@pytest.mark.parametrize("case", case_ids(cases.CASES))
def test_the_lint_names_what_it_refuses(case: Case) -> None:
    model = case.build()
    problems = check(model, io_type=case.io_type)
    assert named(problems, case.layer, case.construct), problems
    for problem in problems:
        assert all(vars(problem).values())
        assert "\n" not in "".join(vars(problem).values())
    with pytest.raises(CheckFailed, match=r"layer '.+', .+: .+; .+"):
        demand(model, io_type=case.io_type)


@pytest.mark.csim
@pytest.mark.parametrize("case", case_ids([c for c in cases.CASES if c.evidence != "source"]))
def test_hls4ml_is_wrong_where_the_lint_refuses(case: Case, tmp_path: Path) -> None:
    reference = case.reference and case.reference()
    found, said = outcome(case.build(), tmp_path / "p", case.io_type, reference)
    assert found == case.evidence, said
    assert case.says in said


@pytest.mark.csim
@pytest.mark.parametrize("kind", lint_heads.HEADS)
def test_heads_that_are_refused_differ(kind: str, tmp_path: Path) -> None:
    model, constructs = lint_heads.HEADS[kind]()
    problems = check(model)
    inputs = events(model)
    expected = qkeras_values(model, inputs)
    differ = expected != hls4ml_values(model, inputs, tmp_path / "p", "io_parallel")
    sizes = [int(np.prod(shape)) for shape in head_shapes(model)]
    assert sum(sizes) == differ.shape[1]
    columns = np.split(differ, np.cumsum(sizes)[:-1], axis=1)
    for (layer, construct), wrong in zip(constructs, columns, strict=True):
        assert wrong.any() == (layer != lint_heads.CONTROL), (construct, layer)
        if layer != lint_heads.CONTROL:
            assert named(problems, layer, construct), (construct, problems)
    assert {problem.layer for problem in problems} <= {layer for layer, _ in constructs}


@pytest.mark.csim
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize("name", clean.CLEAN)
def test_what_is_clean_is_exact(name: str, io_type: str, tmp_path: Path) -> None:
    model = clean.CLEAN[name]()
    assert check(model, io_type="io_stream") == []
    demand(model, io_type="io_stream")
    assert outcome(model, tmp_path / "p", io_type) == ("exact", "")


@pytest.mark.csim
@pytest.mark.parametrize("name", clean.CLEAN_IN_PARALLEL)
def test_what_only_io_stream_cannot_do_is_exact_with_io_parallel(name: str, tmp_path: Path) -> None:
    model = clean.CLEAN_IN_PARALLEL[name]()
    assert check(model) == check(model, io_type="io_parallel") == []
    assert check(model, io_type="io_stream")
    assert outcome(model, tmp_path / "p", "io_parallel") == ("exact", "")


@pytest.mark.csim
def test_a_sum_beyond_float64_wraps_around(tmp_path: Path) -> None:
    model = cases.wide_sums()
    lowest = np.full((1, 2), -(2.0**15), np.float32)
    assert qkeras_values(model, lowest).item() == 2.0**15
    assert hls4ml_values(model, lowest, tmp_path / "p", "io_parallel").item() == -(2.0**15)


def test_students_are_clean() -> None:
    from l1kd.config import Score, Student
    from l1kd.models.students import STUDENTS, build_student

    for architecture in STUDENTS:
        shape = (28, 28, 1) if architecture.startswith("s") else (18, 14, 1)
        student = Student.model_validate({"name": "x", "architecture": architecture})
        model = build_student(student, shape, FixedPoint(11, 11), Score())
        assert check(model) == [], architecture


def test_a_demand_names_the_first_and_counts_the_others() -> None:
    model = cases.network(
        (4,), lambda x: cases.dense(2, "d", bias=None)(x), score="quantized_relu(4,4)"
    )
    with pytest.raises(CheckFailed, match=r"net: layer 'd', .* \(and 1 more problem\)$"):
        demand(model)
