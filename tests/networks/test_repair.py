"""Repairs: the exact ones change no score, the lossy ones are said to, the rest is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import qkeras
from hypothesis import given, settings
from hypothesis import strategies as st
from qkeras import (
    QActivation,
    QAveragePooling2D,
    QBatchNormalization,
    QConv2D,
    QConv2DBatchnorm,
    QDense,
    QDepthwiseConv2DBatchnorm,
    quantized_bits,
    quantized_relu,
)
from tensorflow import keras
from tensorflow.python.autograph.core import ag_ctx

from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.lint.check import check
from l1kd.networks.quantizers import on_a_grid, plain_grid, settled
from l1kd.networks.repair import Repaired, apply_repairs, repair, requantized
from tests.networks.foreign import cicada_v1, cicada_v2, network, trained

layers = keras.layers
GRID = FixedPoint(7, 3)
W = "quantized_bits(6,1,0,alpha=1)"
Body = Callable[[Any], Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*constraints.serialize.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is unseeded and being called:UserWarning"),
]


@pytest.fixture(autouse=True)
def _without_autograph() -> Iterator[None]:
    """AutoGraph takes most of the time of building a network, and changes nothing here."""
    with ag_ctx.ControlStatusCtx(ag_ctx.Status.DISABLED):
        yield


def events(shape: tuple[int, ...], grid: FixedPoint = GRID, number: int = 2000) -> Any:
    random = np.random.default_rng(8)
    low, high = grid.bounds
    some = random.integers(low, high + 1, (number, *shape))
    some[0], some[1] = low, high
    return (some * grid.lsb).astype(np.float32)


def port(x: Any) -> Any:
    return QActivation("quantized_bits(7,2,0,alpha=1)", name="port")(x)


def dense(units: int = 4, name: str = "d", **other: Any) -> Any:
    return QDense(units, **{"kernel_quantizer": W, "bias_quantizer": W, "name": name, **other})


def relu(x: Any, text: Any = "quantized_relu(6,2)", name: str = "a") -> Any:
    return QActivation(text, name=name)(x)


def turned(x: Any) -> Any:
    return layers.Permute((2, 1))(layers.Reshape((3, 2))(port(x)))


def squared(x: Any) -> Any:
    return layers.Multiply()([x, x])


def out(x: Any) -> Any:
    return QActivation("quantized_bits(13,4,0,alpha=1)", name="out")(dense(1, "last")(x))


def compare(
    body: Body, *, shape: tuple[int, ...] = (6,), grid: FixedPoint = GRID, **options: Any
) -> tuple[keras.Model, Repaired, int]:
    """Original, repaired, and in how many scores they differ."""
    model = network(body, shape)
    repaired = apply_repairs(model, grid=grid, **options)
    some = events(shape, grid)
    before, after = model(some).numpy(), repaired.model(some).numpy()
    assert len(np.unique(before)) > 2  # a network that says something
    return model, repaired, int((before != after).sum())


def kinds(repaired: Repaired, layer: str) -> set[str]:
    return {each.kind for each in repaired.repairs if each.layer == layer}


EXACT: dict[str, tuple[Body, str]] = {
    "flat stream": (
        lambda x: out(relu(layers.Flatten()(turned(x)))),
        "a",
    ),
    "flat stream that two read": (
        lambda x: out(squared(layers.Flatten(name="f")(turned(x)))),
        "f",
    ),
    "dropout": (lambda x: out(layers.Dropout(0.1, name="drop")(relu(dense()(port(x))))), "drop"),
    "noise": (
        lambda x: out(layers.GaussianNoise(1.0, name="drop")(relu(dense()(port(x))))),
        "drop",
    ),
    "linear": (
        lambda x: out(relu(layers.Activation("linear", name="lin")(dense()(port(x))))),
        "lin",
    ),
    "keep_negative": (
        lambda x: out(relu(dense()(port(x)), quantized_bits(6, 2, 0, 0, alpha=1))),
        "a",
    ),
    "keep_negative inside": (
        lambda x: out(dense(activation=quantized_bits(6, 2, 0, 0, alpha=1))(port(x))),
        "d",
    ),
    "symmetric, out of reach": (
        lambda x: out(relu(dense()(port(x)), "quantized_bits(8,5,1,alpha=1)")),
        "a",
    ),
    "no port": (lambda x: out(relu(dense()(x))), "port"),
    "relu at the port": (lambda x: out(relu(x, "quantized_relu(4,2)")), "port"),
    "port behind a reshape": (
        lambda x: out(layers.Flatten()(port(layers.Reshape((3, 2))(x)))),
        "port",
    ),
    "symmetric port": (
        lambda x: out(relu(x, "quantized_bits(8,3,1,alpha=1)", "p")),
        "p",
    ),
    "plain relu": (
        lambda x: out(
            relu(layers.ReLU(name="r")(dense()(port(x))), "quantized_bits(6,2,0,alpha=1)")
        ),
        "r",
    ),
    "plain relu inside": (
        lambda x: out(relu(dense(activation="relu")(port(x)), "quantized_bits(6,2,1,alpha=1)")),
        "d",
    ),
    "twice": (
        lambda x: out(relu(relu(dense()(port(x))), "quantized_bits(8,3,0,alpha=1)", "b")),
        "b",
    ),
    "bias on a grid": (
        lambda x: out(relu(dense(bias_quantizer=None, bias_initializer="zeros")(port(x)))),
        "d",
    ),
}
WEIGHTS = [
    "quantized_bits(6,1,1,alpha=1)",
    "quantized_bits(6,1,0,0,alpha=1)",
    "quantized_bits(5,0)",  # becomes auto_po2 on a kernel
    "quantized_bits(5,0,1,alpha='auto_po2')",
    "quantized_bits(6,0,0,alpha=0.25)",
    "quantized_bits(6,0,0,alpha=4.0)",
    "quantized_bits(1,0,0,alpha=1)",
    "ternary(alpha=1)",
    "ternary()",
    "binary(alpha=1)",
    "binary()",
    "quantized_po2(4)",
    "quantized_relu_po2(3)",
]


@pytest.mark.parametrize("name", EXACT)
def test_exact_repairs_change_no_score(name: str) -> None:
    body, layer = EXACT[name]
    if name == "bias on a grid":
        model = network(body, (6,))
        d = model.get_layer("d")
        d.set_weights([d.get_weights()[0], np.array([0.5, -1.25, 0, 3], np.float32)])
        repaired, some = apply_repairs(model, grid=GRID), events((6,))
        different = int((model(some).numpy() != repaired.model(some).numpy()).sum())
    else:
        grid = FixedPoint(6, 2, False) if name == "relu at the port" else GRID
        _, repaired, different = compare(body, grid=grid)
    assert different == 0 and repaired.exact
    assert kinds(repaired, layer) == {"exact"}
    assert check(repaired.model, io_type="io_stream" if "stream" in name else "io_parallel") == []


def inner(x: Any) -> Any:
    return relu(dense()(port(x)))


# Ends of networks, and the type of their scores.
ENDS: dict[str, tuple[Body, str]] = {
    "sums": (lambda x: dense(1, "last")(inner(x)), "quantized_bits("),
    "sums of a matrix": (lambda x: dense(3, "last")(inner(x)), "quantized_bits("),
    "relu inside": (lambda x: dense(2, "last", activation="relu")(inner(x)), "quantized_relu("),
    "relu behind": (lambda x: layers.ReLU()(dense(2, "last")(inner(x))), "quantized_relu("),
    "add": (
        lambda x: layers.Add()([dense(2, n)(h) for h in [inner(x)] for n in "uv"]),
        "quantized_bits(",
    ),
    "reshaped": (lambda x: layers.Reshape((2, 2))(dense(4, "last")(inner(x))), "quantized_bits("),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_exact_type_of_the_output_is_appended(name: str) -> None:
    body, type_ = ENDS[name]
    _, repaired, different = compare(body)
    assert different == 0 and repaired.exact
    assert kinds(repaired, "score_type") == {"exact"}
    assert str(repaired.model.get_layer("score_type").quantizer).startswith(type_)
    assert check(repaired.model) == []


def test_an_output_of_integers_gets_a_fraction_bit() -> None:
    coarse = {"kernel_quantizer": "quantized_bits(4,6,0,alpha=1)", "use_bias": False}
    model = network(lambda x: dense(1, "last", **coarse)(inner(x)), (6,))
    last = model.get_layer("last")
    last.set_weights([np.array([[16], [-32], [48], [-64]], np.float32)])
    repaired, some = apply_repairs(model, grid=GRID), events((6,))
    assert (model(some).numpy() == repaired.model(some).numpy()).all()
    assert str(repaired.model.get_layer("score_type").quantizer) == "quantized_bits(11,9,0,alpha=1)"
    assert check(repaired.model) == []


def test_an_output_of_too_many_bits_has_no_type() -> None:
    wide = "quantized_bits(22,0,0,alpha=1)"
    body = lambda x: dense(1, "last", kernel_quantizer=wide)(inner(x))  # noqa: E731
    _, repaired, _ = compare(body)
    assert kinds(repaired, "score_type") == set()


def test_names_that_c_cannot_have() -> None:
    def body(x: Any) -> Any:
        x = dense(3, "dense-1")(port(x))
        x = relu(x, name="block.1")
        x = relu(dense(3, "block_1")(x), name="input")
        x = relu(dense(3, "2nd")(x), name="2nd_linear")
        return relu(dense(1, "last/x")(x), name="last_x_linear")

    events_ = keras.Input((6,), name="my events")
    model = trained(keras.Model(events_, body(events_)))
    repaired, some = apply_repairs(model, grid=GRID), events((6,))
    assert (model(some).numpy() == repaired.model(some).numpy()).all()
    assert repaired.exact and check(repaired.model) == []
    said = [each for each in repaired.repairs if each.what.startswith("renamed")]
    renamed = {each.layer: each.what.split("'")[1] for each in said}
    assert renamed == {
        "my events": "my_events",
        "dense-1": "dense_1",
        "block.1": "block_1_2",
        "2nd": "layer_2nd",
        "2nd_linear": "layer_2nd_linear",
        "last/x": "last_x",
    }


@pytest.mark.parametrize("quantizer", WEIGHTS)
def test_weights_keep_their_values_on_a_plain_grid(quantizer: str) -> None:
    model, repaired, different = compare(
        lambda x: out(relu(dense(kernel_quantizer=quantizer)(port(x))))
    )
    assert different == 0 and repaired.exact
    before, after = model.get_layer("d"), repaired.model.get_layer("d")
    used = np.asarray(before.kernel_quantizer_internal(before.kernel))
    assert (after.kernel.numpy() == used).all()
    assert (np.asarray(after.kernel_quantizer_internal(after.kernel)) == used).all()
    assert check(repaired.model) == []


def test_layers_that_fold_are_folded_and_images_with_all_of_it() -> None:
    def body(x: Any) -> Any:
        x = QConv2DBatchnorm(
            3, 2, kernel_quantizer=W, bias_quantizer="quantized_bits(8,2,0,alpha=1)", name="cb"
        )(port(x))
        x = relu(x)
        x = QDepthwiseConv2DBatchnorm(
            2,
            depthwise_quantizer="quantized_bits(6,1)",
            bias_quantizer=W,
            folding_mode="batch_stats_folding",
            name="dwb",
        )(x)
        x = relu(x, quantized_bits(6, 2, alpha=1), "b")
        x = QAveragePooling2D(
            2,
            average_quantizer=quantized_bits(8, 0, 1, alpha=1),
            activation=quantized_bits(8, 2, alpha=1),
            name="pool",
        )(x)
        return out(layers.Flatten()(layers.SpatialDropout2D(0.1)(x)))

    _, repaired, different = compare(body, shape=(6, 6, 1))
    assert different == 0 and repaired.exact
    found = {layer.name: type(layer).__name__ for layer in repaired.model.layers}
    assert found["cb"] == "QConv2D" and found["dwb"] == "QDepthwiseConv2D"
    assert found["pool"] == "AveragePooling2D" and found["pool_q"] == "QActivation"
    assert check(repaired.model) == []


def test_an_average_of_three_by_three_stays() -> None:
    def body(x: Any) -> Any:
        x = QConv2D(2, 1, kernel_quantizer=W, bias_quantizer=W)(port(x))
        x = QAveragePooling2D(3, average_quantizer=quantized_bits(8, 0, 1, alpha=1), name="pool")(
            relu(x)
        )
        return out(relu(layers.Flatten()(x), name="b"))

    _, repaired, different = compare(body, shape=(6, 6, 1))
    assert different == 0
    assert kinds(repaired, "pool") == {"impossible"}
    assert check(repaired.model)[0].layer == "pool"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("quantized_bits(4,1,1,alpha=1)", "lowest value"),
        ("quantized_bits(6,1,0,alpha=0.5)", "scales"),
        ("quantized_relu(6,2,negative_slope=0.25)", "scales"),
    ],
)
def test_what_cannot_be_exact_stays_as_it_is(text: str, why: str) -> None:
    _, repaired, different = compare(lambda x: out(relu(dense()(port(x)), text)))
    assert different == 0
    (found,) = [each for each in repaired.repairs if each.layer == "a"]
    assert found.kind == "impossible" and why in found.what
    assert repaired.model.get_layer("a").activation == text
    assert check(repaired.model)[0].layer == "a"


def test_a_symmetric_port_stays_where_events_reach_its_lowest_value() -> None:
    def body(x: Any) -> Any:
        return out(relu(x, "quantized_bits(7,2,1,alpha=1)", "p"))

    model = network(body, (6,))
    assert kinds(apply_repairs(model, grid=GRID), "p") == {"impossible"}
    assert kinds(apply_repairs(model, grid=FixedPoint(6, 2)), "p") == {"exact"}


LOSSY: dict[str, tuple[Body, str]] = {
    "normalisation": (
        lambda x: out(relu(layers.BatchNormalization(name="bn")(dense()(port(x))))),
        "bn",
    ),
    "quantized normalisation": (
        lambda x: out(relu(QBatchNormalization(name="bn")(dense()(port(x))))),
        "bn",
    ),
    "scale that is no power of two": (
        lambda x: out(relu(dense(kernel_quantizer="quantized_bits(5,0,1,alpha='auto')")(port(x)))),
        "d",
    ),
    "float bias": (lambda x: out(relu(dense(bias_quantizer=None)(port(x)))), "d"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_repairs_are_offered_and_made_on_request(name: str) -> None:
    body, layer = LOSSY[name]
    model, offered, different = compare(body)
    assert different == 0 and offered.exact
    assert "offered" in kinds(offered, layer)
    assert [problem.layer for problem in check(offered.model)] == [layer]
    some = events((6,))
    made = apply_repairs(model, grid=GRID, lossy=True)
    assert "lossy" in kinds(made, layer) and not made.exact
    assert check(made.model) == []
    apart = np.abs(model(some).numpy() - made.model(some).numpy())
    assert apart.max() <= 0.25 and (apart > 0).mean() < 0.05


def test_a_normalisation_of_a_convolution_is_folded_by_channel() -> None:
    def body(x: Any) -> Any:
        x = qkeras.QDepthwiseConv2D(2, depthwise_quantizer=W, bias_quantizer=W, name="dw")(port(x))
        x = relu(layers.BatchNormalization(name="bn1")(x))
        x = QConv2D(3, 2, kernel_quantizer=W, use_bias=False, name="c")(x)
        return out(layers.Flatten()(relu(QBatchNormalization(name="bn2")(x), name="b")))

    model = network(body, (4, 4, 2))
    made, some = apply_repairs(model, grid=GRID, lossy=True), events((4, 4, 2))
    assert check(made.model) == []
    assert np.abs(model(some).numpy() - made.model(some).numpy()).max() <= 4 * 2.0**-8


def test_a_normalisation_with_nothing_to_fold_into() -> None:
    def body(x: Any) -> Any:
        return out(relu(layers.BatchNormalization(name="bn")(relu(dense()(port(x)))), name="b"))

    _, repaired, _ = compare(body, lossy=True)
    assert kinds(repaired, "bn") == {"impossible"}
    assert "bn" in [layer.name for layer in repaired.model.layers]


def test_a_normalisation_of_another_axis_than_the_channels() -> None:
    def body(x: Any) -> Any:
        x = QConv2D(4, 1, kernel_quantizer=W, bias_quantizer=W)(port(x))
        return out(layers.Flatten()(relu(layers.BatchNormalization(axis=1, name="bn")(x))))

    _, repaired, different = compare(body, shape=(4, 4, 1), lossy=True)
    assert different == 0 and kinds(repaired, "bn") == {"impossible"}


def test_weights_far_out_of_range_are_put_on_the_grid() -> None:
    model = network(lambda x: out(relu(dense()(port(x)))), (6,))
    kernel, bias = model.get_layer("d").get_weights()
    kernel[0, 0], kernel[1, 1] = 3e7, -1.0000001e8
    model.get_layer("d").set_weights([kernel, bias])
    quantizer = model.get_layer("d").kernel_quantizer_internal
    # QKeras' own arithmetic is off the grid here: this is why they are settled.
    assert not FixedPoint(6, 2).holds(np.asarray(quantizer(kernel))).all()
    repaired = apply_repairs(model, grid=GRID)
    assert "settled" in kinds(repaired, "d") and not repaired.exact
    assert FixedPoint(6, 2).holds(repaired.model.get_layer("d").kernel.numpy()).all()


@pytest.mark.parametrize(
    ("build", "shape"), [(cicada_v1, (18, 14)), (cicada_v2, (252,)), (cicada_v2, (18, 14, 1))]
)
def test_cicada_becomes_exact(build: Any, shape: tuple[int, ...], tmp_path: Any) -> None:
    import l1kd

    grid = FixedPoint(10, 10, False)
    model = trained(build(), spread=0.05)
    last = model.get_layer("dense2")
    last.set_weights([np.abs(kernel) + 0.1 for kernel in last.get_weights()])
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        model.save(tmp_path / "theirs.h5")
    random = np.random.default_rng(2)
    some = random.poisson(3, (1000, 252)).clip(0, 1023).astype(np.float32)
    some[:5] = 1023
    repaired = apply_repairs(l1kd.load_model(tmp_path / "theirs.h5"), grid=grid, shape=shape)
    assert check(repaired.model) == []
    assert repaired.exact and {each.kind for each in repaired.repairs} == {"exact"}
    before = model(some).numpy()
    assert len(np.unique(before)) > 20
    assert (repaired.model(some.reshape(-1, *shape)).numpy() == before).all()


@pytest.mark.parametrize("shape", [(7,), (2, 4), (3, 2, 2)])
def test_events_of_another_shape(shape: tuple[int, ...]) -> None:
    model = network(
        lambda x: out(layers.Flatten()(relu(x, "quantized_bits(7,2,0,alpha=1)"))), (3, 2)
    )
    with pytest.raises(UserError, match=r"\(3, 2\), the data's are"):
        apply_repairs(model, grid=GRID, shape=shape)


def test_an_image_is_not_transposed_by_its_size() -> None:
    model = network(lambda x: out(layers.Flatten()(port(x))), (3, 2))
    with pytest.raises(UserError, match="shape"):
        apply_repairs(model, grid=GRID, shape=(2, 3))
    assert apply_repairs(model, grid=GRID, shape=(3, 2, 1)).model.input_shape == (None, 3, 2, 1)


def test_the_given_model_stays_as_it_was() -> None:
    model = network(lambda x: out(layers.Dropout(0.1)(relu(dense(4)(x)))), (6,))
    weights, text = model.get_weights(), model.to_json()
    apply_repairs(model, grid=GRID, lossy=True)
    assert model.to_json() == text
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("grid", [GRID, {"word": 7, "integer": 3, "signed": True}])
def test_the_public_repair_returns_a_model_and_logs(
    lossy: bool, grid: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = network(lambda x: out(layers.Dropout(0.1, name="drop")(relu(dense()(x)))), (6,))
    with caplog.at_level("INFO", logger="l1kd"):
        repaired = repair(model, grid=grid, lossy=lossy)
    assert isinstance(repaired, keras.Model) and check(repaired) == []
    assert (model(events((6,))).numpy() == repaired(events((6,))).numpy()).all()
    said = [record.getMessage() for record in caplog.records if record.name == "l1kd"]
    assert any(line.startswith("drop: ") and line.endswith("(exact)") for line in said)


def test_an_exact_repair_that_changes_a_score_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(lambda x: out(relu(dense()(port(x)), "quantized_bits(8,5,1,alpha=1)")), (6,))
    wrong = "quantized_relu(6,2)"
    monkeypatch.setattr("l1kd.networks.repair.text_of", lambda kind: wrong)
    with pytest.raises(RuntimeError, match="scores changed"):
        repair(model, grid=GRID)


@pytest.mark.parametrize("grid", [{"word": 7}, {"word": 7, "integer": 0}, 7, "ap_fixed<7,3>"])
def test_a_grid_that_is_not_a_type_is_refused(grid: Any) -> None:
    with pytest.raises(UserError, match=r"grid .*'word'"):
        repair(network(lambda x: out(port(x)), (6,)), grid=grid)


def test_a_repaired_network_needs_no_repair() -> None:
    once = apply_repairs(network(lambda x: out(relu(dense()(x))), (6,)), grid=GRID)
    again = apply_repairs(once.model, grid=GRID)
    assert again.repairs == []
    some = events((6,))
    assert (again.model(some).numpy() == once.model(some).numpy()).all()


@given(st.lists(st.integers(-(2**11), 2**11 - 1), min_size=1), st.integers(-6, 12))
def test_a_grid_holds_its_values_and_is_the_narrowest(counts: list[int], fraction: int) -> None:
    values = np.array(counts) * 2.0**-fraction
    kind = on_a_grid(values)
    assert kind is not None and plain_grid(kind).holds(values).all()
    if any(counts):
        assert not FixedPoint(kind.word, kind.integer + 1, kind.signed).holds(values).all()
        narrower = FixedPoint(max(kind.word - 1, 1), kind.integer - 1, kind.signed)
        assert kind.word == 1 or not narrower.holds(values).all()


def test_values_on_no_grid() -> None:
    assert on_a_grid(np.array([0.1, 1e4], np.float32)) is None
    assert settled(quantized_bits(8, 1, alpha=0.7), np.array([0.3, 0.4], np.float32)) is None


@given(st.floats(1e-6, 1e6), st.integers(6, 18))
def test_rounding_to_a_grid_saturates_nothing(largest: float, word: int) -> None:
    values = np.array([largest, -largest, largest / 3])
    kind = requantized(values, word)
    assert np.abs(kind.quantize(values) - values).max() <= kind.lsb / 2
    assert kind.integer >= 1


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6))
def test_random_networks(seed: int) -> None:
    random_network(seed)


@pytest.mark.full
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_more_random_networks(seed: int) -> None:
    random_network(seed)


def random_network(seed: int) -> None:
    """Whatever is repaired exactly gives the same scores; all of it within 24 bits."""
    random = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    def body(x: Any) -> Any:
        x = port(x) if random.integers(2) else x
        for index in range(random.integers(1, 3)):
            x = dense(
                int(random.integers(2, 5)),
                f"d{index}",
                kernel_quantizer=pick(*WEIGHTS),
                bias_quantizer=pick(W, "quantized_bits(5,1,1,alpha=1)", "quantized_po2(4)"),
                use_bias=bool(random.integers(2)),
                activation=pick("linear", "linear", "relu", quantized_relu(5, 3)),
            )(x)
            x = layers.Dropout(0.2)(x) if random.integers(2) else x
            x = relu(
                x,
                pick(
                    "quantized_relu(5,3)",
                    quantized_bits(5, 3, 0, 0, alpha=1),
                    quantized_bits(6, 3, 1, alpha=1),
                    "quantized_bits(12,9,1,alpha=1)",
                    quantized_bits(6, 3),
                ),
                f"a{index}",
            )
        return out(x)

    keras.backend.clear_session()
    model, some = network(body, (5,), seed), events((5,), number=500)
    repaired = apply_repairs(model, grid=GRID)
    assert repaired.exact
    assert (model(some).numpy() == repaired.model(some).numpy()).all()
