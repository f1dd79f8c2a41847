"""QKeras' quantizers read as types, against QKeras itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qkeras import quantizers as qkeras

from l1kd.core.fixed_point import FixedPoint
from l1kd.networks.quantizers import Quantizer, reading, text_of, type_of


def made(text: str) -> Any:
    return qkeras.get_quantizer(text)


def grid(kind: FixedPoint) -> np.ndarray:
    """Every value, every tie and both neighbours of each, and as far again beyond the range."""
    low, high = kind.bounds
    reach = high - low + 3
    counts = np.arange(8 * (low - reach), 8 * (high + reach) + 1) / 8
    if len(counts) > 2**17:  # wide types: the ends, the middle, and one value in some
        keep = np.abs(counts[:, None] - [low, 0, high]).min(1) < 64
        keep[:: len(counts) // 2**15] = True
        counts = counts[keep]
    return (counts * kind.lsb).astype(np.float32)


def by_type(read: Quantizer, values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return read.type.quantize(values / 2 + 0.5 if read.halved else values)


WIDTHS = range(1, 13)
BITS = [
    f"quantized_bits({bits},{integer},{symmetric},keep_negative={keep}{alpha})"
    for bits in WIDTHS
    for integer in {0, 1, bits - 1, bits, bits + 3}
    for symmetric, keep, alpha in (
        (0, 1, ",alpha=1"),
        (1, 1, ",alpha=1.0"),
        (0, 0, ""),
        (1, 0, ",alpha=1"),
    )
    if bits > keep
]
RELUS = [
    f"quantized_relu({bits},{integer}{more})"
    for bits in WIDTHS
    for integer in {0, 1, bits - 1, bits, bits + 3}
    for more in ("", ",relu_upper_bound=0.3")
]
CURVES = [
    text
    for bits in WIDTHS
    for text in (
        f"quantized_tanh({bits})",
        f"quantized_tanh({bits},symmetric=1)",
        f"quantized_sigmoid({bits})",
    )
    if text != "quantized_tanh(1,symmetric=1)"
]


@pytest.mark.parametrize("texts", [BITS, RELUS, CURVES], ids=["bits", "relus", "curves"])
def test_a_quantizer_is_the_type_that_is_read(texts: list[str]) -> None:
    for text in texts:
        quantizer = made(text)
        read = reading(quantizer)
        assert read is not None, text
        values = grid(read.type)
        if read.halved:
            values = 2 * values - 1
        found = np.asarray(quantizer(values), np.float64)
        assert (found == by_type(read, values)).all(), (text, read)
        assert type_of(quantizer) == (None if read.halved else read.type)


@pytest.mark.parametrize("word", WIDTHS)
@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM"])
@pytest.mark.parametrize("signed", [False, True])
def test_types_and_texts_go_there_and_back(word: int, overflow: Any, signed: bool) -> None:
    if (word == 1 and signed) or (overflow == "SAT_SYM" and not signed):
        return
    for integer in range(int(signed), word + 4):
        kind = FixedPoint(word, integer, signed, overflow=overflow)
        text = text_of(kind)
        assert type_of(made(text)) == kind
        assert text == text_of(type_of(made(str(made(text)))) or kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("quantized_bits(8,1,0,alpha=1)", FixedPoint(8, 2)),
        ("quantized_bits(11,10,1,alpha=1)", FixedPoint(11, 11, overflow="SAT_SYM")),
        ("quantized_relu(10,6)", FixedPoint(10, 6, False)),
    ],
)
def test_texts_are_those_of_qkeras(text: str, kind: FixedPoint) -> None:
    assert text_of(kind) == text


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FixedPoint(8, 0), "negative integer bits"),
        (FixedPoint(8, -1, False), "negative integer bits"),
        (FixedPoint(1, 1), "one signed bit"),
        (FixedPoint(8, 2, rounding="TRN"), "half to even"),
        (FixedPoint(8, 2, overflow="WRAP"), "saturates"),
        (FixedPoint(8, 2, overflow="SAT_ZERO"), "saturates"),
        (FixedPoint(8, 2, False, overflow="SAT_SYM"), "symmetric"),
    ],
)
def test_types_that_qkeras_lacks_are_refused(kind: FixedPoint, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        text_of(kind)


@pytest.mark.parametrize("text", ["quantized_bits(4,-1,0,alpha=1)", "quantized_relu(4,-1)"])
def test_qkeras_has_no_negative_integer_bits(text: str) -> None:
    quantizer = made(text)
    assert reading(quantizer) is None
    with pytest.raises(Exception, match="negative integer powers"):
        quantizer(np.ones(3, np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "quantized_bits(1,0,0,alpha=1)",
        "quantized_bits(4,1,0,alpha=2)",
        "quantized_bits(4,1,1,alpha='auto_po2')",
        "quantized_bits(4,1,0,alpha=1,qnoise_factor=0.5)",
        "quantized_relu(4,1,0,0.25)",
        "quantized_relu(4,1,1)",
        "quantized_relu(4,1,relu_upper_bound=0.3,is_quantized_clip=0)",
        "quantized_tanh(4,use_real_tanh=1)",
        "quantized_sigmoid(4,use_real_sigmoid=1)",
        "quantized_sigmoid(4,symmetric=1)",
        "quantized_po2(4)",
        "ternary()",
    ],
)
def test_what_is_more_than_a_type_is_not_read_and_is_more(text: str) -> None:
    quantizer = made(text)
    assert reading(quantizer) is None
    # None of the types with these bits does what it does: nothing is refused needlessly.
    values = np.arange(-64, 65, dtype=np.float32) / 16
    found = np.asarray(quantizer(values), np.float64)
    for halved in (False, True):
        for integer in range(5):
            for signed in (False, True):
                for overflow in ("SAT", "SAT_SYM"):
                    bits = int(getattr(quantizer, "bits", 2))
                    kind = Quantizer(FixedPoint(bits, integer, signed, overflow=overflow), halved)
                    assert (found != by_type(kind, values)).any(), kind


def test_a_symmetric_tanh_of_one_bit_is_zero_and_no_type() -> None:
    quantizer = made("quantized_tanh(1,symmetric=1)")
    assert reading(quantizer) is None
    assert not np.asarray(quantizer(np.linspace(-9, 9, 99, dtype=np.float32))).any()


def test_what_is_no_quantizer_is_not_read() -> None:
    for other in (None, "relu", np.tanh, qkeras.hard_sigmoid):
        assert reading(other) is None and type_of(other) is None


def test_weights_are_read_as_their_layer_quantizes_them() -> None:
    from qkeras import QDense

    layer = QDense(2, kernel_quantizer="quantized_bits(4,0,0,alpha=1)", bias_quantizer=None)
    assert type_of(layer.kernel_quantizer_internal) == FixedPoint(4, 1)
    # Without an alpha a layer makes it `auto_po2`, whatever the text says.
    scaled = QDense(2, kernel_quantizer="quantized_bits(4,0,0)")
    assert type_of(scaled.kernel_quantizer_internal) is None
