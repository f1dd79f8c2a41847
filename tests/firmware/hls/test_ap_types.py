"""The fixed-point type against `ap_fixed` itself: the headers that hls4ml ships, compiled.

The header knows the binary point only by differences, so a type is shown for one `integer`, which
runs from -2 to `word` + 2 over the table, and for every count of a source with three fraction bits
more and two integer bits more than its own. What a table does not say is shown in another: other
distances between the two points, unsigned sources, the constructor from double.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product as every
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from l1kd.core.fixed_point import FixedPoint, Overflow, Rounding
from l1kd.firmware.hls.c_simulation import compiler

pytestmark = pytest.mark.csim

PROGRAM = """
#include "ap_fixed.h"
#include "ap_int.h"
#include <cstdio>
static void put(long long value) {
    int bits = value;
    std::fwrite(&bits, sizeof bits, 1, stdout);
}
template <class From, class To> void convert() {
    for (int bits = 0; bits < (1 << From::width); bits++) {
        From from;
        from.V = bits;
        To to;
        to = from;
        put(to.V.to_int64());
    }
}
template <class To> void construct(double lsb) {
    for (int count = -512; count < 512; count++)
        put(To(count * lsb).V.to_int64());
}
template <int word, int integer, bool is_signed, ap_q_mode q, ap_o_mode o, int n>
void describe(const ap_fixed_base<word, integer, is_signed, q, o, n> &) {
    put(word);
    put(integer);
    put(is_signed);
}
template <class One, class Other> void arithmetic() {
    One one = 0;
    Other other = 0;
    describe(one * other);
    describe(one + other);
}
int main() {
    %s
}
"""
ROUNDINGS, OVERFLOWS = get_args(Rounding), get_args(Overflow)


@dataclass(frozen=True)
class Row:
    """A conversion: what is converted, counts of 2**-fraction, and what to."""

    statement: str
    counts: np.ndarray
    fraction: int
    kind: FixedPoint


def fixed(kind: FixedPoint) -> str:
    """Its text as `ap_fixed`, where it has one as `ap_int` too."""
    sign = "" if kind.signed else "u"
    return f"ap_{sign}fixed<{kind.word},{kind.integer},AP_{kind.rounding},AP_{kind.overflow}>"


def from_fixed(kind: FixedPoint, word: int, shift: int, signed: bool) -> Row:
    source = FixedPoint(word, word - kind.fraction - shift, signed, "TRN", "WRAP")
    counts = np.arange(2**word)
    counts[counts > source.bounds[1]] -= 2**word
    return Row(f"convert<{fixed(source)}, {fixed(kind)}>();", counts, source.fraction, kind)


def from_double(kind: FixedPoint) -> Row:
    fraction = kind.fraction + 3
    statement = f"construct<{fixed(kind)}>({2.0**-fraction!r});"
    return Row(statement, np.arange(-512, 512), fraction, kind)


def from_fixed_to_int(kind: FixedPoint, signed: bool) -> Row:
    row = from_fixed(kind, kind.word + 5, 3, signed)
    statement = row.statement.replace(fixed(kind), kind.text)
    assert "int<" in statement
    return Row(statement, row.counts, row.fraction, kind)


def kinds(words: Iterator[int] | range | tuple[int, ...]) -> Iterator[FixedPoint]:
    """Every type of these words, in all modes; the binary point wanders."""
    for place, (word, signed, rounding, overflow) in enumerate(
        every(words, (True, False), ROUNDINGS, OVERFLOWS)
    ):
        yield FixedPoint(word, place % (word + 5) - 2, signed, rounding, overflow)


def plain(words: tuple[int, ...], roundings: tuple[Rounding, ...]) -> Iterator[FixedPoint]:
    return (kind for kind in kinds(words) if kind.rounding in roundings)


TABLES: dict[str, list[Row]] = {
    "signed": [from_fixed(kind, kind.word + 5, 3, True) for kind in kinds(range(1, 6))],
    "unsigned": [from_fixed(kind, kind.word + 5, 3, False) for kind in kinds((1, 2, 4))],
    "double": [from_double(kind) for kind in kinds((1, 3))],
    # One bit is dropped: its value alone decides.
    "tie": [from_fixed(kind, 6, 1, True) for kind in kinds((1, 3)) if kind.overflow != "SAT_ZERO"],
    # All is dropped that the source has. More cannot be: the header aborts (`get_bit`).
    "coarse": [from_fixed(kind, 2, 2, True) for kind in kinds((2,)) if kind.overflow == "SAT"],
    "same": [from_fixed(kind, 5, 0, True) for kind in plain((1, 3, 5), ("TRN", "RND_CONV"))],
    "fine": [from_fixed(kind, 3, -2, True) for kind in plain((1, 3, 5), ("TRN", "RND_CONV"))],
    "integer": [
        from_fixed_to_int(FixedPoint.parse(f"{unsigned}int<{word}>"), signed)
        for word, unsigned, signed in every((1, 2, 3, 5), ("", "u"), (True, False))
    ],
}
SMALL = [
    FixedPoint(word, integer, signed, "TRN", "WRAP")
    for word, integer, signed in every((1, 2, 4), (-1, 3), (True, False))
]


# Every eleventh row: of each table all modes, signs and many widths. Tables of few rows are whole.
SOME = {name: rows if len(rows) < 40 else rows[::11] for name, rows in TABLES.items()}


def compiled(tables: dict[str, list[Row]], directory: Path) -> np.ndarray:
    """All that the headers say, in the order of the tables."""
    import hls4ml

    headers = Path(hls4ml.__file__).parent / "templates" / "vivado" / "ap_types"
    rows = [row.statement for table in tables.values() for row in table]
    rows += [f"arithmetic<{fixed(one)}, {fixed(other)}>();" for one, other in every(SMALL, SMALL)]
    source, program = directory / "table.cpp", directory / "table"
    source.write_text(PROGRAM % "\n    ".join(rows))
    command = (*compiler(), "-std=c++14", "-O0", "-fwrapv", "-w", f"-I{headers}")
    subprocess.run((*command, str(source), "-o", str(program)), check=True)
    found = subprocess.run((str(program),), check=True, capture_output=True).stdout
    return np.frombuffer(found, np.int32).astype(np.int64)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What the headers say of some rows, and of sums and products."""
    return compiled(SOME, tmp_path_factory.mktemp("ap_types"))


def assert_same(tables: dict[str, list[Row]], said: np.ndarray, names: Iterable[str]) -> None:
    """What the headers make of the rows of tables is what we make of them."""
    ends = np.cumsum([len(row.counts) for table in tables.values() for row in table])
    parts = iter(np.split(said, ends)[:-1])
    counts = {name: [next(parts) for _ in table] for name, table in tables.items()}
    differ = []
    for name in names:
        for row, expected in zip(tables[name], counts[name], strict=True):
            for carrier in (np.int64, np.float64, np.float32, object):
                found = row.kind.requantize(row.counts.astype(carrier), row.fraction)
                wrong = np.flatnonzero(found != expected)
                if wrong.size:
                    first = wrong[0]
                    differ.append((row.statement, row.counts[first], expected[first], found[first]))
                    break
    assert not differ, f"{len(differ)}: {differ[:20]}"


@pytest.mark.parametrize("name", SOME)
def test_conversions_are_those_of_ap_fixed(some: np.ndarray, name: str) -> None:
    assert_same(SOME, some, [name])


@pytest.mark.full
def test_all_conversions_are_those_of_ap_fixed(tmp_path: Path) -> None:
    assert_same(TABLES, compiled(TABLES, tmp_path), TABLES)


def test_some_conversions_are_of_every_mode() -> None:
    for name in ("signed", "unsigned", "double"):
        kinds = [row.kind for row in SOME[name]]
        assert {kind.rounding for kind in kinds} == set(ROUNDINGS), name
        assert {kind.overflow for kind in kinds} == set(OVERFLOWS), name
        assert len({kind.signed for kind in kinds}) == 2 and len({kind.word for kind in kinds}) > 1


def test_products_and_sums_of_ap_fixed_hold_ours(some: np.ndarray) -> None:
    widths = some[-6 * len(SMALL) ** 2 :].reshape(-1, 2, 3)
    for (one, other), (times, plus) in zip(every(SMALL, SMALL), widths, strict=True):
        signed = one.signed or other.signed
        assert times.tolist() == [one.word + other.word, one.integer + other.integer, signed]
        fraction = max(one.fraction, other.fraction)
        scaled = [
            [end << (fraction - each.fraction) for end in each.bounds] for each in (one, other)
        ]
        products = [a * b for a in one.bounds for b in other.bounds]
        sums = [a + b for a, b in zip(*scaled, strict=True)]
        for (word, integer, sign), ends, bits in (
            (times, products, one.fraction + other.fraction),
            (plus, sums, fraction),
        ):
            ours = FixedPoint.holding(min(ends), max(ends), bits)
            theirs = FixedPoint(int(word), int(integer), bool(sign))
            assert theirs.fraction == ours.fraction
            assert theirs.low <= ours.low and ours.high <= theirs.high
            # Nothing is wasted but a bit, and one for the sign of unsigned and signed.
            assert theirs.word <= ours.word + 2
