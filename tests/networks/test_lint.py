"""The lint refuses what hls4ml gets wrong, and nothing else: each refusal has its evidence."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from l1kd.core.config import Score, Student
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.allowed_layers import LAYERS
from l1kd.networks.lint import check as rules
from l1kd.networks.lint.check import Problem, check, demand
from l1kd.networks.students import STUDENTS, build_student
from tests.networks import lint_cases as cases
from tests.networks import lint_clean as clean
from tests.networks import lint_heads
from tests.networks.lint_cases import Case
from tests.networks.lint_networks import unconverted
from tests.networks.lint_projects import Together, port_of, refusals, write


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


@functools.cache
def built(case: Case) -> Any:
    return unconverted(case.build)


def case_ids(items: Iterable[Case]) -> Any:
    return [pytest.param(item, id=item.name.replace(" ", "_")) for item in items]


def numbered(*evidence: str) -> dict[str, Case]:
    """The cases of this evidence, by the names of their projects."""
    return {f"case{k}": case for k, case in enumerate(cases.CASES) if case.evidence in evidence}


@pytest.mark.parametrize("case", case_ids(cases.CASES))
def test_the_lint_names_what_it_refuses(case: Case) -> None:
    model = built(case)
    problems = check(model, io_type=case.io_type)
    assert named(problems, case.layer, case.construct), problems
    for problem in problems:
        assert all(vars(problem).values())
        assert "\n" not in "".join(vars(problem).values())
    with pytest.raises(CheckFailed, match=r"layer '.+', .+: .+; .+"):
        demand(model, io_type=case.io_type)


@pytest.mark.parametrize("case", case_ids(numbered("fails").values()))
def test_hls4ml_fails_where_the_lint_refuses(case: Case, tmp_path: Path) -> None:
    model = built(case)
    with pytest.raises(Exception) as caught:
        qkeras_values(model, events(model, 10))
        write(model, "net", tmp_path, case.io_type)
    assert case.says in f"{caught.type.__name__}: {caught.value}"


@pytest.mark.csim
def test_what_hls4ml_writes_does_not_compile_where_the_lint_refuses(tmp_path: Path) -> None:
    given = numbered("does not compile")
    projects = [write(built(case), name, tmp_path, case.io_type) for name, case in given.items()]
    control = write(unconverted(lambda: cases.called("events")), "control", tmp_path, "io_parallel")
    said = refusals([*projects, control], tmp_path)
    assert said.keys() == given.keys(), (said, given)


@pytest.mark.full  # of hls4ml, whose version is pinned
@pytest.mark.csim
def test_hls4ml_is_wrong_where_the_lint_refuses(tmp_path: Path) -> None:
    """One compilation for all that are wrong as whole networks, and for those with many heads."""
    given = numbered("differs", "does not run")
    projects = [write(built(case), name, tmp_path, case.io_type) for name, case in given.items()]
    with_heads = {kind: unconverted(make) for kind, make in lint_heads.HEADS.items()}
    for kind, (model, _) in with_heads.items():
        projects.append(write(model, f"heads_{kind}", tmp_path, "io_parallel"))
    sums = unconverted(cases.wide_sums)
    projects.append(write(sums, "sums", tmp_path, "io_parallel"))
    together = Together(projects, tmp_path)

    for name, case in given.items():
        inputs = events(built(case))
        if case.evidence == "does not run":
            with pytest.raises(UserError, match="C simulation failed"):
                together.values(name, inputs)
            continue
        expected = qkeras_values(unconverted(case.reference or (lambda c=case: built(c))), inputs)
        assert len(np.unique(expected)) > 1, f"{case.name}: a constant says nothing"
        assert (expected != together.values(name, inputs)).any(), case.name

    for kind, (model, constructs) in with_heads.items():
        heads_differ(model, constructs, together, f"heads_{kind}")

    # A sum beyond float64 wraps around.
    lowest = np.full((1, 2), -(2.0**15), np.float32)
    assert qkeras_values(sums, lowest).item() == 2.0**15
    assert together.values("sums", lowest).item() == -(2.0**15)


def heads_differ(
    model: Any, constructs: list[tuple[str, str]], together: Together, name: str
) -> None:
    """The columns of every head but the control's differ, and the lint names each."""
    problems = check(model)
    inputs = events(model)
    differ = qkeras_values(model, inputs) != together.values(name, inputs)
    sizes = [int(np.prod(shape)) for shape in head_shapes(model)]
    assert sum(sizes) == differ.shape[1]
    columns = np.split(differ, np.cumsum(sizes)[:-1], axis=1)
    for (layer, construct), wrong in zip(constructs, columns, strict=True):
        assert wrong.any() == (layer != lint_heads.CONTROL), (name, construct, layer)
        if layer != lint_heads.CONTROL:
            assert named(problems, layer, construct), (name, construct, problems)
    assert {problem.layer for problem in problems} <= {layer for layer, _ in constructs}


@pytest.mark.parametrize("name", clean.CLEAN)
def test_what_is_clean_has_no_problem(name: str) -> None:
    model = clean.built(name)
    assert check(model, io_type="io_stream") == []
    demand(model, io_type="io_stream")


@pytest.mark.parametrize("name", clean.CLEAN_IN_PARALLEL)
def test_what_io_stream_cannot_do_is_a_problem_of_io_stream_only(name: str) -> None:
    model = clean.built(name)
    assert check(model) == check(model, io_type="io_parallel") == []
    assert check(model, io_type="io_stream")


BOTH = ("io_parallel", "io_stream")


@pytest.mark.csim
@pytest.mark.full  # likewise; other tests show every kind of project exact
@pytest.mark.parametrize("each", [True, False])
def test_what_is_clean_is_exact(each: bool, tmp_path: Path) -> None:
    """With one interface in turn and then with the other; all in one compilation."""
    io_types = {
        **{name: BOTH[(k + each) % 2 :][:1] for k, name in enumerate(clean.CLEAN)},
        **(dict.fromkeys(clean.CLEAN_IN_PARALLEL, BOTH[:1]) if each else {}),
    }
    projects = {
        f"{name}_{io_type}": (
            name,
            write(clean.built(name), f"{name}_{io_type}", tmp_path, io_type),
        )
        for name, several in io_types.items()
        for io_type in several
    }
    together = Together([project for _, project in projects.values()], tmp_path)
    for project, (name, _) in projects.items():
        inputs = events(clean.built(name))
        expected = qkeras_values(clean.built(name), inputs)
        assert len(np.unique(expected)) > 1, f"{name}: a constant says nothing"
        assert np.array_equal(expected, together.values(project, inputs)), project


# Of the paper's sizes of one network, two: one has pools.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.full if n in {"s1", "s3", "s4", "s5", "s6"} else ())
        for n in STUDENTS
    ],
)
def test_students_are_clean(name: str) -> None:
    shape = (28, 28, 1) if name.startswith("s") else (18, 14, 1)
    student = Student.model_validate({"name": "x", "architecture": name})
    grid = FixedPoint(11, 11)
    model = unconverted(lambda: build_student(student, shape, grid, Score()))
    assert check(model) == []


def test_every_rule_is_of_a_layer_that_is_loaded() -> None:
    assert set(rules.RULES) <= {"InputLayer", *LAYERS}
    assert not set(rules.RULES) & set(rules._REFUSED)


def test_a_demand_names_the_first_and_counts_the_others() -> None:
    model = cases.network(
        (4,), lambda x: cases.dense(2, "d", bias=None)(x), score="quantized_relu(4,4)"
    )
    with pytest.raises(CheckFailed, match=r"net: layer 'd', .* \(and 1 more problem\)$"):
        demand(model)


def test_every_problem_has_three_texts_and_a_rule() -> None:
    written = Path(rules.__file__).read_text(encoding="utf-8")
    for key, texts in rules._TEXTS.items():
        assert len(texts) == 3 and all(texts), key
        assert f'"{key}"' in written, key
