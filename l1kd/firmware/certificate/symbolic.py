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
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.exact.arithmetic import halved

_BLOCKS = 1 << 22  # of one function at a time
_GLANCE = 1 << 16  # of one whose very values may show that it does not overflow
_MOST = 1 << 62  # magnitude of a value
_WHOLE = 64  # a block as small is judged value by value
_PARTS = 16  # of a larger one
_WIDEST = 62  # bits of a number that overflows
Ends = tuple[NDArray[Any], NDArray[Any]]  # lowest and highest values, by block


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


def _wrapped(width: int, signed: bool, value: Ends) -> Ends:
    shift, size = (1 << (width - 1)) * signed, 1 << width
    low, high = value[0] + shift, value[1] + shift
    same = low // size == high // size
    return np.where(same, low % size, 0) - shift, np.where(same, high % size, size - 1) - shift


def _bitwise(name: str, one: Ends, other: Ends) -> Ends:
    function: Any = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[name]
    bits = max(int(abs(end).max()).bit_length() for ends in (one, other) for end in ends)
    negative = min(int(ends[0].min()) for ends in (one, other)) < 0
    exact = (one[0] == one[1]) & (other[0] == other[1])
    low = np.where(exact, function(one[0], other[0]), -(1 << bits) * negative)
    high = np.where(exact, function(one[0], other[0]), (1 << bits) - 1)
    if name != "xor":
        neutral, fixed = (-1, 0) if name == "and" else (0, -1)
        for first, second in ((one, other), (other, one)):
            is_fixed = (first[0] == fixed) & (first[1] == fixed)
            is_neutral = (first[0] == neutral) & (first[1] == neutral)
            low = np.where(is_fixed, fixed, np.where(is_neutral, second[0], low))
            high = np.where(is_fixed, fixed, np.where(is_neutral, second[1], high))
    return low, high


def _chosen(key: Ends, one: Ends, other: Ends) -> Ends:
    low, high = np.minimum(one[0], other[0]), np.maximum(one[1], other[1])
    for certain, (first, last) in ((key[0] == 1, one), (key[1] == 0, other)):
        low, high = np.where(certain, first, low), np.where(certain, last, high)
    return low, high


def _product(one: Ends, other: Ends) -> Ends:
    ends = [a * b for a in one for b in other]
    return reduce(np.minimum, ends), reduce(np.maximum, ends)


def _quantized(kind: FixedPoint, half: bool, fraction: int, value: Ends) -> Ends:
    ends = value
    if half:
        ends = halved(ends[0], fraction)[0], halved(ends[1], fraction)[0]
        fraction = max(fraction, 0) + 1
    low, high = (kind.requantize(end, fraction) for end in ends)
    if kind.overflow in ("SAT", "SAT_SYM"):
        return low, high
    shift, (lowest, highest) = kind.fraction - fraction, kind.bounds
    below, above = (end << shift if shift >= 0 else end >> -shift for end in (ends[0], ends[1]))
    inside = ((below > lowest) & (above < highest)) | (value[0] == value[1])
    return np.where(inside, low, min(lowest, 0)), np.where(inside, high, highest)


def _highest(one: Ends, other: Ends) -> Ends:
    return np.maximum(one[0], other[0]), np.maximum(one[1], other[1])


def _any(value: Ends) -> Ends:
    inside = (value[0] <= 0) & (value[1] >= 0)
    return np.where(inside, 0, 1), np.where((value[0] == 0) & (value[1] == 0), 0, 1)


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
                low, high = apply(*([np.array([n]) for n in self._ends[each]] for each in of))
                ends = int(low[0]), int(high[0])
            if max(-ends[0], ends[1]) >= _MOST:
                raise Unproved("a value has more than 62 bits")
            found = self._known[key, of] = len(self._functions)
            self._functions.append((apply, of))
            self._ends.append(ends)
        return found

    def _constant(self, number: int) -> int:
        ends = np.array([number]), np.array([number])
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
            low = high = np.array([constant])
            for factor, each in zip(factors, given, strict=True):
                first, last = each if factor > 0 else (each[1], each[0])
                low, high = low + factor * first, high + factor * last
            return low, high

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
            found[each] = base if apply is None else apply(*(found[part] for part in of))
        low, high = found[function]
        return np.broadcast_to(low, base[0].shape), np.broadcast_to(high, base[0].shape)

    def _runs(
        self, function: int, low: int, high: int, most: int = _BLOCKS
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where a function changes on its base's values, from the lowest on, and to what."""
        first, last = np.array([low]), np.array([high])
        begins, values = [], []
        while len(first):
            if len(first) > most:
                raise Unproved("a quantizer has too many steps")
            ends = self._evaluated(function, (first, last))
            done = (ends[0] == ends[1]) | (first == last)
            begins.append(first[done])
            values.append(ends[0][done])
            first, size = first[~done], (last - first)[~done] + 1
            parts = _WHOLE if size.max(initial=0) <= _WHOLE else _PARTS
            step = -(-size // parts)[:, None]
            starts = first[:, None] + step * np.arange(parts)
            stops = np.minimum(starts + step, (first + size)[:, None])
            first, last = starts[starts < stops], stops[starts < stops] - 1
        begin, value = np.concatenate(begins), np.concatenate(values).astype(np.int64)
        order = np.argsort(begin)
        begin, value = begin[order], value[order]
        changed = np.append(True, value[1:] != value[:-1])
        return begin[changed], value[changed]

    def _table(self, base: int, function: int, most: int = _BLOCKS) -> tuple[int, int, bytes]:
        """Factor, constant and hash of the scaled function; an empty hash if it is the identity."""
        if function not in self._tables:
            low, high = self.bases[base][2:4]
            begin, value = self._runs(function, low, high, most)
            self._ends[function] = int(value.min()), int(value.max())
            rest, constant, key = value - value[0], int(value[0]), b"constant"
            factor = int(np.gcd.reduce(rest)) * (1 if len(rest) > 1 and rest[1] > 0 else -1)
            if factor:
                rest //= factor
                plain = len(begin) == high - low + 1 and np.array_equal(rest, begin - low)
                constant -= factor * low * plain
                key = b"" if plain else sha256(begin.tobytes() + rest.tobytes()).digest()
            self._tables[function] = factor, constant, key
        return self._tables[function]

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
                    term = self._known[base, key] = len(self.terms)
                    self.terms.append(Term(base, scaled, *self._ends[scaled]))
                    self.places[~term] = self.place
                found = self._ranged({term: factor}, constant)
            self._spread[value] = found
        return found

    def _divided(self, factor: int, constant: int, function: int) -> int:
        """A function whose values are a constant and multiples of a factor, without both."""
        sign, divisor = 1 if factor > 0 else -1, abs(factor)
        shifted = self._weighted([(sign, function)], -sign * constant)
        found = self._function(
            ("divided", divisor), (shifted,), lambda ends: tuple(end // divisor for end in ends)
        )
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
        return self.apply(("shift", right), lambda ends: tuple(e >> right for e in ends), value)

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
