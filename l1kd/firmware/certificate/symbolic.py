"""Integers that depend on an event, in a form that is equal for equal functions of it.

A value is a number, a `Sum` of terms, or a `Single`: a function of one sum. Functions are compared
on every value that their sum can have, in blocks on which interval arithmetic shows them constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from hashlib import sha256
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.arithmetic import halved

# Distances of the values that are looked at together, and how many blocks of them at most. Steps
# of a rounded sum are lines over values whose lowest bits are the same.
_DISTANCES = {1: 1 << 20, 1 << 8: 1 << 20, 1 << 12: 1 << 22, 1 << 16: 1 << 25}
_GLANCE = {1: 1 << 17}  # for a function whose very values may show that it does not overflow
_AT_ONCE = 1 << 18  # blocks
_POINTS = 64  # at which functions that are equal are
_PARTS = 16  # of a block that is no line
_MOST = 1 << 62  # magnitude of a value
_WIDEST = 62  # bits of a number that overflows
_BENT = _MOST + 1  # in place of a step; odd


class Ends(NamedTuple):
    """Of blocks of values: the lowest, the highest, and the step from one to the next of a line."""

    low: NDArray[Any]
    high: NDArray[Any]
    step: NDArray[Any]


class Unproved(Exception):  # noqa: N818 - it is the project that is not proved
    """The argument does not reach a value."""


class Single(NamedTuple):
    """A function of one sum (or input, or maximum): the base, and the function's number."""

    base: int
    function: int


class Sum:
    """A constant plus multiples of at least two terms, with its range."""

    __slots__ = ("base", "constant", "high", "low", "terms")

    def __init__(self, terms: dict[int, int], constant: int, low: int, high: int) -> None:
        self.terms, self.constant, self.low, self.high = terms, constant, low, high
        self.base: tuple[int, int, int] | None = None  # base, factor and constant, once needed


Value = int | Single | Sum
Wires = Iterable[tuple[Value, int]]  # values and their bits


class Base(NamedTuple):
    """Anything that functions are of: an input, a sum without its constant, a maximum, a product.

    `parts` are terms with factors of a sum, the values of a maximum or a product.
    """

    kind: str
    parts: tuple[Any, ...]
    low: int
    high: int
    x: int  # number of its identity


class Term(NamedTuple):
    """A function of a base, scaled to begin with 0 and to have no common factor."""

    base: int
    function: int
    low: int
    high: int


def _where(found: NDArray[Any], one: Ends, other: Ends) -> Ends:
    return Ends(*(np.where(found, a, b) for a, b in zip(one, other, strict=True)))


def _times(factor: Any, step: NDArray[Any]) -> NDArray[Any]:
    return np.where(step == _BENT, _BENT, factor * step)


def _wrapped(width: int, signed: bool, value: Ends) -> Ends:
    shift, size = (1 << (width - 1)) * signed, 1 << width
    low, high = value.low + shift, value.high + shift
    same = low // size == high // size
    known = same | (value.step % size == 0)  # a step of whole turns is none
    low, high = (np.where(known, end % size, other) for end, other in ((low, 0), (high, size - 1)))
    return Ends(low - shift, high - shift, np.where(same, value.step, _BENT))


def _shifted(right: int, value: Ends) -> Ends:
    even = value.step % (1 << right) == 0
    return Ends(value.low >> right, value.high >> right, np.where(even, value.step >> right, _BENT))


def _bitwise(name: str, one: Ends, other: Ends) -> Ends:
    function: Any = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[name]
    ends = (one.low, one.high, other.low, other.high)
    bits = max(int(abs(end).max()).bit_length() for end in ends)
    exact = (one.low == one.high) & (other.low == other.high)
    low = np.where(exact, function(one.low, other.low), -(1 << bits) * (min(map(np.min, ends)) < 0))
    high = np.where(exact, function(one.low, other.low), (1 << bits) - 1)
    made = Ends(low, high, np.full_like(low, _BENT))
    if name != "xor":
        neutral, fixed = (-1, 0) if name == "and" else (0, -1)
        for first, second in ((one, other), (other, one)):
            for number, kept in ((neutral, second), (fixed, first)):
                made = _where((first.low == number) & (first.high == number), kept, made)
    return made


def _chosen(key: Ends, one: Ends, other: Ends) -> Ends:
    low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)
    made = Ends(low, high, np.full_like(low, _BENT))
    for certain, kept in ((key.low == 1, one), (key.high == 0, other)):
        made = _where(certain, kept, made)
    return made


def _product(one: Ends, other: Ends) -> Ends:
    ends = [a * b for a in one[:2] for b in other[:2]]
    step = np.where(other.low == other.high, _times(other.low, one.step), _BENT)
    step = np.where(one.low == one.high, _times(one.low, other.step), step)
    return Ends(reduce(np.minimum, ends), reduce(np.maximum, ends), step)


def _quantized(kind: FixedPoint, half: bool, fraction: int, value: Ends) -> Ends:
    ends = value.low, value.high
    if half:
        ends = halved(ends[0], fraction)[0], halved(ends[1], fraction)[0]
        step = _times(1 << max(-fraction, 0), value.step)
        fraction = max(fraction, 0) + 1
    else:
        step = value.step
    low, high = (kind.requantize(end, fraction) for end in ends)
    up, (lowest, highest) = kind.fraction - fraction, kind.bounds
    # A line stays one if its steps are even ones of the type's, of one sign, and all in its range.
    if up < 0:
        even = (step % (2 << -up) == 0) & ((ends[0] >= 0) | (ends[1] <= 0))
        step = np.where(even, step >> -up, _BENT)
    whole = (high - low) >> max(up, 0) == (ends[1] - ends[0]) >> max(-up, 0)
    step = np.where(whole, _times(1 << max(up, 0), step), _BENT)
    if kind.overflow not in ("SAT", "SAT_SYM"):
        below, above = (end << up if up >= 0 else end >> -up for end in ends)
        inside = (below > lowest) & (above < highest)
        inside |= (step != _BENT) | (value.low == value.high)
        low, high = np.where(inside, low, min(lowest, 0)), np.where(inside, high, highest)
    return Ends(low, high, step)


def _highest(one: Ends, other: Ends) -> Ends:
    step: NDArray[Any] = np.array(_BENT)
    for first, second in ((one, other), (other, one)):
        above = first.low >= second.high
        if (lines := (first.step != _BENT) & (second.step != _BENT)).any():
            sides = zip(_sides(first), _sides(second), strict=True)
            above = above | lines & np.logical_and(*(a >= b for a, b in sides))
        step = np.where(above, first.step, step)
    return Ends(np.maximum(one.low, other.low), np.maximum(one.high, other.high), step)


def _sides(line: Ends) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first and the last value of a line."""
    falls = line.step < 0
    return np.where(falls, line.high, line.low), np.where(falls, line.low, line.high)


def _any(value: Ends) -> Ends:
    inside = (value.low <= 0) & (value.high >= 0)
    nothing = (value.low == 0) & (value.high == 0)
    low, high = np.where(inside, 0, 1), np.where(nothing, 0, 1)
    return Ends(low, high, np.full_like(low, _BENT))


def _divided(divisor: int, value: Ends) -> Ends:
    step = np.where(value.step == _BENT, _BENT, value.step // divisor)
    return Ends(value.low // divisor, value.high // divisor, step)


class Space:
    """All functions, terms and bases of one proof; equal ones have one number."""

    def __init__(self) -> None:
        self.bases: list[Base] = []
        self.terms: list[Term] = []
        self.places: dict[int, str] = {}  # of the text that made a base or, inverted, a term
        self.place = ""
        self.near: list[Value] = []  # values that the text there names
        self._known: dict[Any, int] = {}
        # Functions are numbers of an acyclic graph: what each applies to which, and their ends.
        self._functions: list[tuple[Callable[..., Ends] | None, tuple[int, ...]]] = []
        self._ends: list[tuple[int, int]] = []
        self._sums: dict[int, tuple[dict[int, int], int]] = {}  # functions that are sums of others
        self._tables: dict[int, tuple[int, int, bytes]] = {}
        self._alike: dict[Any, list[int]] = {}  # terms by their base and values at some points
        self._spread: dict[Single, Sum] = {}
        self._wide: set[int] = set()  # functions of too many steps for a glance

    def _function(
        self,
        key: Any,
        of: tuple[int, ...],
        apply: Callable[..., Ends] | None,
        ends: tuple[int, int] | None = None,
    ) -> int:
        if (found := self._known.get((key, of))) is None:
            if ends is None:
                assert apply is not None
                given = (np.array([[*self._ends[each], _BENT]]).T for each in of)
                low, high, _ = apply(*(Ends(*each) for each in given))
                ends = int(low[0]), int(high[0])
            if max(-ends[0], ends[1]) >= _MOST:
                raise Unproved("a value has more than 62 bits")
            found = self._known[key, of] = len(self._functions)
            self._functions.append((apply, of))
            self._ends.append(ends)
        return found

    def _constant(self, number: int) -> int:
        ends = Ends(*np.array([[number], [number], [0]]))
        return self._function(("constant", number), (), lambda: ends)

    def _parts(self, function: int) -> tuple[dict[int, int], int]:
        """The functions that one is the sum of, with factors, and a constant."""
        return self._sums.get(function, ({function: 1}, 0))

    def _weighted(self, pairs: Iterable[tuple[int, int]], constant: int) -> int:
        """The number of a sum of functions (factor, function), of sums what they are made of."""
        parts: dict[int, int] = {}
        for factor, function in pairs:
            inner, more = self._parts(function)
            constant += factor * more
            for each, times in inner.items():
                parts[each] = parts.get(each, 0) + factor * times
        parts = {each: times for each, times in sorted(parts.items()) if times}
        of, factors = tuple(parts), tuple(parts.values())
        if not parts:
            return self._constant(constant)
        if factors == (1,) and not constant:
            return of[0]

        def apply(*given: Ends) -> Ends:
            low = high = begin = end = np.array([constant])
            step, bent = np.array([0]), np.array([False])
            for factor, each in zip(factors, given, strict=True):
                least, most = each[:2] if factor > 0 else (each.high, each.low)
                low, high = low + factor * least, high + factor * most
                first, last = _sides(each)
                begin, end = begin + factor * first, end + factor * last
                step, bent = step + factor * each.step, bent | (each.step == _BENT)
            # Of lines the sum is one, whose ends are closer than those of its parts.
            line = Ends(np.minimum(begin, end), np.maximum(begin, end), step)
            return _where(bent, Ends(low, high, np.array(_BENT)), line)

        turned = [
            sorted(factor * end for end in self._ends[each]) for each, factor in parts.items()
        ]
        low, high = (sum(ends) + constant for ends in zip(*turned, strict=True))
        found = self._function(("sum", factors, constant), of, apply, (low, high))
        self._sums[found] = parts, constant
        return found

    def _evaluated(self, function: int, base: Ends) -> Ends:
        """Ends of a function on blocks of its base's values."""
        needed, waiting = {function}, [function]
        while waiting:
            new = set(self._functions[waiting.pop()][1]) - needed
            needed |= new
            waiting += new
        found: dict[int, Ends] = {}
        for each in sorted(needed):
            apply, of = self._functions[each]
            made = base if apply is None else apply(*(found[part] for part in of))
            found[each] = made._replace(step=np.where(made.low == made.high, 0, made.step))
        return Ends(*(np.broadcast_to(each, base.low.shape) for each in found[function]))

    def _lines(self, base: int, function: int, distance: int, most: int) -> NDArray[Any] | None:
        """Lines that a function is: place, number, first value, step; None if they are too many.

        Values of the base that lie a distance apart are one behind the other.
        """
        low, high = self.bases[base][2:4]
        first = low + np.arange(min(distance, high - low + 1))
        number, behind = (high - first) // distance + 1, (high - low) // distance + 1
        found = []
        while len(first):
            if (most := most - len(first)) < 0:
                return None
            split = []
            for start in range(0, len(first), _AT_ONCE):
                begin, size = (each[start : start + _AT_ONCE] for each in (first, number))
                block = Ends(begin, begin + distance * (size - 1), np.full_like(begin, distance))
                ends = self._evaluated(function, block)
                done = ends.step != _BENT
                place = (begin - low) % distance * behind + (begin - low) // distance
                found.append(np.stack([place, size, _sides(ends)[0], ends.step])[:, done])
                begin, size = begin[~done, None], size[~done, None]
                part = -(-size // _PARTS)
                past = part * np.arange(_PARTS)
                there = past < size
                split.append(
                    ((begin + distance * past)[there], np.minimum(part, size - past)[there])
                )
            first, number = (np.concatenate(each) for each in zip(*split, strict=True))
        lines = np.concatenate(found, axis=1)
        return lines[:, np.argsort(lines[0])]

    def _table(
        self, base: int, function: int, distances: dict[int, int] = _DISTANCES
    ) -> tuple[int, int, bytes]:
        """Factor, constant and hash of the scaled function; an empty hash if it is the identity."""
        if function not in self._tables:
            for distance, most in distances.items():
                if (lines := self._lines(base, function, distance, most)) is not None:
                    break
            else:
                raise Unproved("a quantizer has too many steps")
            place, number, value, step = lines
            last = value + step * (number - 1)
            ends = np.append(value, last)
            self._ends[function] = int(ends.min()), int(ends.max())  # its very values
            # Where the change from one value to the next is another one.
            jumps = np.append(value[1:] - last[:-1], 0)
            there = np.stack([number > 1, np.arange(len(number)) < len(number) - 1]).T
            changes, places = (
                np.stack([step, jumps]).T[there],
                np.stack([place, place + number - 1]).T[there],
            )
            new = np.append(True, changes[1:] != changes[:-1])
            changes, places = changes[new], places[new]
            factor, constant, key = int(np.gcd.reduce(changes)), int(value[0]), b"constant"
            if factor:
                moved = np.append(
                    self._at(base, function, self.bases[base][3:4]) - value[0], changes
                )
                factor *= 1 if moved[moved != 0][0] > 0 else -1
                plain = distance == len(changes) == 1
                constant -= factor * self.bases[base].low * plain
                text = f"{distance} ".encode() + places.tobytes() + (changes // factor).tobytes()
                key = b"" if plain else sha256(text).digest()
            self._tables[function] = factor, constant, key
        return self._tables[function]

    def _at(self, base: int, function: int, points: ArrayLike) -> NDArray[Any]:
        """A function of a base at some of its values."""
        each = np.asarray(points)
        return self._evaluated(function, Ends(each, each, np.zeros_like(each))).low

    def _same(self, base: int, function: int) -> int | None:
        """The term that a function is, found at another distance than it."""
        points = np.random.default_rng(0).integers(*self.bases[base][2:4], _POINTS, endpoint=True)
        key = base, self._at(base, function, points).tobytes()
        terms = self._alike.setdefault(key, [])
        for term in terms:
            apart = self._weighted([(1, function), (-1, self.terms[term].function)], 0)
            if not self._table(base, apart)[0]:
                return term
        terms.append(len(self.terms))
        return None

    # Told by a reader of Verilog; whoever evaluates events in place of all values counts them.

    def drives(self, text: str, value: Value, width: int) -> None:
        """A wire of so many bits is driven by this right side."""

    def stage(self, inputs: Wires, outputs: Wires) -> None:
        """Values and their bits enter a stage from registers, and leave it into others."""

    # Values

    def input(self, number: int, low: int, high: int) -> Value:
        """An input of the network, with its range."""
        return self._opaque("input", (number,), low, high)

    def _opaque(self, kind: str, parts: tuple[Any, ...], low: int, high: int) -> Value:
        if low == high:
            return low
        base = self._base(kind, parts, low, high)
        return Single(base, self.bases[base].x)

    def _base(self, kind: str, parts: tuple[Any, ...], low: int, high: int) -> int:
        if (found := self._known.get((kind, parts))) is None:
            x = self._function((low, high), (), None, (low, high))
            found = self._known[kind, parts] = len(self.bases)
            self.bases.append(Base(kind, parts, low, high, x))
            self.places[found] = self.place
        return found

    def range(self, value: Value) -> tuple[int, int]:
        """The lowest and the highest number that a value can be, or beyond them."""
        if isinstance(value, int):
            return value, value
        return (value.low, value.high) if isinstance(value, Sum) else self._ends[value.function]

    def linear(self, pairs: Iterable[tuple[int, Value]], constant: int = 0) -> Value:
        """The sum of values with factors."""
        singles: dict[int, list[tuple[int, int]]] = {}
        sums: list[tuple[int, Sum]] = []
        for factor, value in pairs:
            if isinstance(value, int | np.integer):
                constant += factor * int(value)
            elif isinstance(value, Sum):
                sums.append((factor, value))
            else:
                singles.setdefault(value.base, []).append((factor, value.function))
        if len(singles) == 1:
            ((base, parts),) = singles.items()
            if all(self._base_of(each)[0] == base for _, each in sums):
                parts += [(factor, self._on_base(each)) for factor, each in sums]
                return self._single(base, self._weighted(parts, constant))
        for base, parts in singles.items():
            sums.append((1, self.spread(self._single(base, self._weighted(parts, 0)))))
        terms: dict[int, int] = {}
        for factor, each in sums:
            constant += factor * each.constant
            for term, times in each.terms.items():
                terms[term] = terms.get(term, 0) + factor * times
        return self._sum({term: times for term, times in terms.items() if times}, constant)

    def _sum(self, terms: dict[int, int], constant: int) -> Value:
        if not terms:
            return constant
        if len(terms) == 1:
            ((term, factor),) = terms.items()
            base, function = self.terms[term][:2]
            return self._single(base, self._weighted([(factor, function)], constant))
        bases = [self.terms[term].base for term in terms]
        if len(set(bases)) == len(bases):
            return self._ranged(terms, constant)
        # Two functions of one base are one.
        parts: dict[int, list[tuple[int, int]]] = {}
        for base, (term, factor) in zip(bases, terms.items(), strict=True):
            parts.setdefault(base, []).append((factor, self.terms[term].function))
        singles = [self._single(base, self._weighted(each, 0)) for base, each in parts.items()]
        return self.linear(((1, each) for each in singles), constant)

    def _ranged(self, terms: dict[int, int], constant: int) -> Sum:
        low = high = constant
        for term, factor in terms.items():
            _, _, lowest, highest = self.terms[term]
            if factor < 0:
                lowest, highest = highest, lowest
            low, high = low + factor * lowest, high + factor * highest
        return Sum(terms, constant, low, high)

    def _single(self, base: int, function: int) -> Value:
        low, high = self._ends[function]
        if low == high:
            return low
        kind, parts, _, _, x = self.bases[base]
        inner, constant = self._parts(function)
        if kind == "sum" and tuple(inner) == (x,):
            return self._ranged({term: inner[x] * times for term, times in parts}, constant)
        return Single(base, function)

    def _base_of(self, value: Sum) -> tuple[int, int, int]:
        """Base, factor and constant of a sum."""
        if value.base is None:
            parts = sorted(value.terms.items())
            factor = gcd(*value.terms.values()) * (1 if parts[0][1] > 0 else -1)
            key = tuple((term, times // factor) for term, times in parts)
            ends = sorted((end - value.constant) // factor for end in (value.low, value.high))
            value.base = self._base("sum", key, ends[0], ends[1]), factor, value.constant
        return value.base

    def _on_base(self, value: Sum) -> int:
        """A sum as a function of its base."""
        base, factor, constant = self._base_of(value)
        return self._weighted([(factor, self.bases[base].x)], constant)

    def spread(self, value: Value) -> Sum:
        """A value as multiples of terms: equal values have equal ones."""
        if isinstance(value, int):
            return Sum({}, value, value, value)
        if isinstance(value, Sum):
            return value
        if (found := self._spread.get(value)) is None:
            base, function = value
            kind, parts, _, _, x = self.bases[base]
            inner, constant = self._parts(function)
            factor, key = inner.get(x, 0), b""
            if tuple(inner) != (x,):
                factor, constant, key = self._table(base, function)
            if not factor:
                found = self.spread(constant)
            elif not key and kind == "sum":
                found = self._ranged({term: factor * times for term, times in parts}, constant)
            else:
                scaled = self._divided(factor, constant, function) if key else x
                if (term := self._known.get((base, key))) is None:
                    if (term := self._same(base, scaled)) is None:
                        term = len(self.terms)
                        self.terms.append(Term(base, scaled, *self._ends[scaled]))
                        self.places[~term] = self.place
                    self._known[base, key] = term
                found = self._ranged({term: factor}, constant)
            self._spread[value] = found
        return found

    def _divided(self, factor: int, constant: int, function: int) -> int:
        """A function whose values are a constant and multiples of a factor, without both."""
        sign, divisor = 1 if factor > 0 else -1, abs(factor)
        shifted = self._weighted([(sign, function)], -sign * constant)
        found = self._function(("divided", divisor), (shifted,), partial(_divided, divisor))
        ends = sorted((end - constant) // factor for end in self._ends[function])
        self._ends[found] = ends[0], ends[1]  # its very values
        return found

    def equal(self, one: Value, other: Value) -> bool:
        """True if two values are proved equal for every event."""
        first, second = self.spread(one), self.spread(other)
        return (first.terms, first.constant) == (second.terms, second.constant)

    def common_base(self, *values: Value) -> int | None:
        """The base that all values are functions of; -1 if all are numbers, None if none is."""
        found = {
            value.base if isinstance(value, Single) else self._base_of(value)[0]
            for value in values
            if not isinstance(value, int)
        }
        return found.pop() if len(found) == 1 else None if found else -1

    def apply(self, key: Any, function: Callable[..., Ends], *values: Value) -> Value:
        """A function of values of one base, from ends to ends; Unproved if there are two bases."""
        if (base := self.common_base(*values)) is None:
            raise Unproved(f"{key[0]} of values that depend on different sums")
        of = []
        for value in values:
            if isinstance(value, int):
                of.append(self._constant(value))
            else:
                of.append(self._on_base(value) if isinstance(value, Sum) else value.function)
        found = self._function(key, tuple(of), function)
        return self._ends[found][0] if base == -1 else self._single(base, found)

    def wrapped(self, value: Value, width: int, signed: bool) -> Value:
        """The number that the lowest bits of a value are."""
        lowest, highest = FixedPoint(width, width, signed).bounds
        for _ in range(2):
            low, high = self.range(value)
            if lowest <= low and high <= highest:
                return value
            if not isinstance(value, Single) or value.function in self._wide:
                break
            try:  # by its very values
                self._table(*value, _GLANCE)
            except Unproved:  # of too many steps: it overflows, or does not and it makes no odds
                self._wide.add(value.function)
        if width > _WIDEST:
            raise Unproved(f"overflow of {width} bits")
        return self.apply(("wrap", width, signed), partial(_wrapped, width, signed), value)

    def shifted(self, value: Value, right: int) -> Value:
        """A value without its lowest bits."""
        if not right:
            return value
        size = 1 << right
        if isinstance(value, Sum) and not any(times % size for times in value.terms.values()):
            terms = {term: times // size for term, times in value.terms.items()}
            return self._ranged(terms, value.constant // size)
        if right > _WIDEST:
            raise Unproved(f"{right} bits are dropped")
        return self.apply(("shift", right), partial(_shifted, right), value)

    def bitwise(self, name: str, one: Value, other: Value) -> Value:
        """`and`, `or` or `xor` of two values."""
        return self.apply((name,), partial(_bitwise, name), one, other)

    def any_bit(self, value: Value) -> Value:
        """1 if a value is not 0."""
        return self.apply(("any",), _any, value)

    def quantized(self, value: Value, kind: FixedPoint, half: bool, fraction: int) -> Value:
        """Counts of a type that it makes of counts of 2^-fraction (of x/2 + 1/2 if `half`)."""
        left, ends = kind.fraction - fraction, self.range(value)
        if not half and left >= 0 and kind.carries(*ends, fraction):
            return self.linear([(1 << left, value)])
        function = partial(_quantized, kind, half, fraction)
        return self.apply(("quantize", kind, half, fraction), function, value)

    def chosen(self, key: Value, one: Value, other: Value) -> Value:
        """The one value where a key is 1, the other where it is 0."""
        if isinstance(key, int):
            return one if key else other
        if self.common_base(key, one, other) is not None:
            return self.apply(("choose",), _chosen, key, one, other)
        apart, turned = (self.linear([(n, one), (-n, other)]) for n in (1, -1))
        if self.common_base(key, apart) is not None:
            sure = self.spread(self.apply(("choose",), _chosen, key, apart, turned))
            if sure.low >= 0:
                return self.highest(one, other)
            if sure.high <= 0:
                return self.lowest(one, other)
        raise Unproved("a choice between values that is neither their maximum nor their minimum")

    def lowest(self, one: Value, other: Value) -> Value:
        """The lower of two values."""
        turned = (self.linear([(-1, value)]) for value in (one, other))
        return self.linear([(-1, self.highest(*turned))])

    def highest(self, one: Value, other: Value) -> Value:
        """The higher of two values."""
        if self.common_base(one, other) is not None:
            return self.apply(("maximum",), _highest, one, other)
        members: list[Value] = []
        for value in (*self._members(one), *self._members(other)):
            members = self._joined(members, value)
        if len(members) == 1:
            return members[0]
        spread = [self.spread(value) for value in members]
        factor = gcd(*(n for each in spread for n in (*each.terms.values(), each.constant)))
        parts = frozenset(_scaled(each, factor) for each in spread)
        low, high = (max(ends) // factor for ends in zip(*map(self.range, members), strict=True))
        return self.linear([(factor, self._opaque("maximum", (parts,), low, high))])

    def _members(self, value: Value) -> list[Value]:
        """The values that a maximum is of; of another value itself."""
        if isinstance(value, Single) and self.bases[value.base].kind == "maximum":
            _, (parts,), _, _, x = self.bases[value.base]
            inner, constant = self._parts(value.function)
            if tuple(inner) == (x,) and inner[x] > 0:
                made = [self._sum(dict(terms), more) for terms, more in sorted(parts)]
                return [self.linear([(inner[x], each)], constant) for each in made]
        return [value]

    def _joined(self, members: Sequence[Value], value: Value) -> list[Value]:
        """Values whose maximum is sought and one more, without those that are never the highest."""
        kept: list[Value] = []
        for place, each in enumerate(members):
            low, high = self.range(self.linear([(1, value), (-1, each)]))
            if high <= 0:
                return list(members)
            if low < 0 and self.common_base(value, each) is not None:
                value = self.apply(("maximum",), _highest, value, each)
                return self._joined([*kept, *members[place + 1 :]], value)
            kept += [each] if low < 0 else []
        return [*kept, value]

    def product(self, one: Value, other: Value) -> Value:
        """The product of two values."""
        for number, value in ((one, other), (other, one)):
            if isinstance(number, int):
                return self.linear([(number, value)])
        if self.common_base(one, other) is not None:
            return self.apply(("product",), _product, one, other)
        factor, parts = 1, []
        for each in (self.spread(one), self.spread(other)):
            common = gcd(*each.terms.values(), each.constant)
            common *= 1 if min(each.terms.items())[1] > 0 else -1
            factor *= common
            parts.append(_scaled(each, common))
        ends = [a * b // factor for a in self.range(one) for b in self.range(other)]
        made = self._opaque("product", (frozenset(parts),), min(ends), max(ends))
        return self.linear([(factor, made)])


def _scaled(value: Sum, factor: int) -> tuple[tuple[tuple[int, int], ...], int]:
    parts = sorted(value.terms.items())
    return tuple((term, times // factor) for term, times in parts), value.constant // factor
