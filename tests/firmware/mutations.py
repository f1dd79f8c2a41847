"""Written projects broken at random: in a weight, a bias, a precision, or a piece of code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["KINDS", "Mutation", "mutate"]

Kind = Literal["weight", "bias", "precision", "code"]
KINDS: tuple[Kind, ...] = ("weight", "bias", "precision", "code")

_TYPE = re.compile(r"^typedef ap_(u?)fixed<(\d+),(-?\d+)(?:,(\w+),(\w+),0)?> (\w+);$", re.M)
_INTEGER = re.compile(r"^typedef ap_(u?)int<(\d+)> (\w+);$", re.M)
_ARRAY = re.compile(r"^(\w+) (\w+)\[\d+\] = \{(.*)\};$", re.M)
_CONSTANT = re.compile(r"(static const unsigned (\w+) = )(\d+);")
_SHARED = ("nnet_dense_latency.h", "nnet_dense_resource.h")  # streams call them too
_UNUSED = ("_table_t", "_index")  # types that nothing computes with
_IDLE = {"table_size", "io_type", "strategy", "n_zeros", "multiplier_limit"}
# Functions of the library that these projects' networks can call.
_FUNCTIONS = re.compile(
    r"\b(relu|dense|dense_latency|dense_resource\w*|conv_2d\w*|pooling2d\w*|pool_op|fill_buffer|"
    r"compute_output_buffer\w*|shift_line_buffer|kernel_shift_2d|compute_pool_\w+|bit_shift|"
    r"clone_stream|repack_stream|dense_da_\d+|dense_da_wrapper\w*|mult_buffer|pad_val|"
    r"data_prepare|res_write|compute_scaled_indices_2d|reduce_pool)\b\s*\([^;]*$"
)
_EDITS: tuple[tuple[str, str | None], ...] = (
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \+= ", " -= "),
    (r" \* ", " + "),
    (r" < ", " <= "),
    (r" < CONFIG_T::n_(?:in|out|chan|filt)\b", None),  # the last one is left out
    (r" > ", " >= "),
    (r" > ", " < "),
    (r" == ", " != "),
    (r" && ", " || "),
    (r"\[0\]", "[1]"),
)


@dataclass(frozen=True)
class Mutation:
    """What was changed.

    Parameters
    ----------
    kind
        What was meant to be hit.
    path, line
        The file, from the project's directory, and where in it.
    before, after
        The changed text.
    """

    kind: Kind
    path: str
    line: int
    before: str
    after: str


def mutate(project: Path, kind: Kind, random: np.random.Generator) -> Mutation:
    """Change one thing in a written project, in place."""
    firmware = project / "firmware"
    if kind in ("weight", "bias") and not any((firmware / "weights").glob("*.h")):
        kind = "code"  # weights are wired into generated code
    found = {"weight": _weight, "bias": _bias, "precision": _precision, "code": _code}[kind](
        firmware, random
    )
    path, before, after, start = found
    text = path.read_text()
    assert text[start : start + len(before)] == before != after
    path.write_text(text[:start] + after + text[start + len(before) :])
    line = text.count("\n", 0, start) + 1
    return Mutation(kind, path.relative_to(project).as_posix(), line, before, after)


_Found = tuple[Path, str, str, int]


def _weight(firmware: Path, random: np.random.Generator) -> _Found:
    return _array(firmware, "w*.h", random, ("lsb", "lsb", "flip", "sign", "swap"))


def _bias(firmware: Path, random: np.random.Generator) -> _Found:
    return _array(firmware, "b*.h", random, ("lsb", "lsb", "flip", "sign"))


def _array(
    firmware: Path, pattern: str, random: np.random.Generator, ways: tuple[str, ...]
) -> _Found:
    """One value of an array of weights, or two of them swapped."""
    while True:
        path = _one(sorted((firmware / "weights").glob(pattern)), random)
        match = _ARRAY.search(path.read_text())
        assert match is not None, path
        kind, _, inside = match.groups()
        values = [float(value) for value in inside.split(",")]
        declared = next(
            (
                each
                for each in _TYPE.finditer((firmware / "defines.h").read_text())
                if each.group(6) == kind
            ),
            None,
        )
        if declared is None:
            continue  # an integer type: no array of these networks but zeros
        word, integer = int(declared.group(2)), int(declared.group(3))
        lsb, span = 2.0 ** (integer - word), 2**word
        place, way = int(random.integers(len(values))), str(random.choice(ways))
        changed = inside.split(", ")
        if way == "lsb":
            changed[place] = repr(float(values[place] + lsb * random.choice([-1, 1])))
        elif way == "flip":
            count = (round(values[place] / lsb) % span) ^ (1 << int(random.integers(word)))
            signed = declared.group(1) != "u" and count >= span // 2
            changed[place] = repr((count - span * signed) * lsb)
        elif way == "sign":
            changed[place] = repr(-values[place])
        else:
            other = int(random.integers(len(values)))
            changed[place], changed[other] = changed[other], changed[place]
        if [float(value) for value in changed] != values:
            return path, inside, ", ".join(changed), match.start(3)


def _precision(firmware: Path, random: np.random.Generator) -> _Found:
    """A type one bit shorter at either end, or with another rounding or overflow."""
    path = firmware / "defines.h"
    text = path.read_text()
    while True:
        match = _one(
            [each for each in _TYPE.finditer(text) if not each.group(6).endswith(_UNUSED)], random
        )
        unsigned, word, integer, rounding, overflow, name = match.groups()
        ways = ["top", "bottom"] + (["rounding", "overflow", "modes"] if rounding else [])
        way = _one(ways, random)
        bits, whole, modes = int(word), int(integer), ""
        if way == "top":
            bits, whole = bits - 1, whole - 1
        elif way == "bottom":
            bits -= 1
        if bits < 1:
            continue
        if rounding and way != "modes":
            if way == "rounding":
                rounding = _one(["AP_RND", "AP_TRN", "AP_RND_ZERO"], random)
            if way == "overflow":
                overflow = _one(["AP_WRAP", "AP_SAT_SYM", "AP_SAT_ZERO"], random)
            modes = f",{rounding},{overflow},0"
        after = f"typedef ap_{unsigned}fixed<{bits},{whole}{modes}> {name};"
        return path, match.group(0), after, match.start()


def _code(firmware: Path, random: np.random.Generator) -> _Found:
    """A constant of a layer, an argument of the top function's calls, or a line of the library."""
    ways: list[Callable[[Path, np.random.Generator], _Found | None]] = [
        _constant,
        _call,
        _line,
        _line,
    ]
    while True:
        found = _one(ways, random)(firmware, random)
        if found is not None:
            return found


def _constant(firmware: Path, random: np.random.Generator) -> _Found | None:
    path = firmware / "parameters.h"
    matches = [m for m in _CONSTANT.finditer(path.read_text()) if m.group(2) not in _IDLE]
    match = _one(matches, random)
    after = int(match.group(3)) + int(random.choice([-1, 1]))
    if after < 0:
        return None
    return path, match.group(3), str(after), match.start(3)


def _call(firmware: Path, random: np.random.Generator) -> _Found | None:
    """The n-th argument, or template argument, of one call is that of another call."""
    path = next(path for path in firmware.glob("*.cpp"))
    text = path.read_text()
    calls = list(re.finditer(r"^    nnet::(\w+)<([^>]*)>\(([^)]*)\);$", text, re.M))
    if len(calls) < 2:
        return None
    mine, other = _one(calls, random), _one(calls, random)
    group = int(random.choice([2, 3]))
    ours, theirs = mine.group(group).split(", "), other.group(group).split(", ")
    place = int(random.integers(min(len(ours), len(theirs))))
    if ours[place] == theirs[place]:
        return None
    ours[place] = theirs[place]
    return path, mine.group(group), ", ".join(ours), mine.start(group)


def _line(firmware: Path, random: np.random.Generator) -> _Found | None:
    """One operator, comparison or index in a function that the network can call."""
    path = _one(_included(firmware), random)
    text = path.read_text()
    sites: list[tuple[str, str, int]] = []
    for start, end in _bodies(text):
        body = text[start:end]
        for pattern, after in _EDITS:
            for match in re.finditer(pattern, body):
                line = body[body.rfind("\n", 0, match.start()) + 1 : match.start()]
                if "//" in line or "#" in line or "assert" in line:
                    continue
                changed = f"{match.group(0)} - 1" if after is None else after
                sites.append((match.group(0), changed, start + match.start()))
        for match in re.finditer(r"(?<=\[)\d+(?=\])|(?<=bit_shift<)-?\d+(?=>)", body):
            count = int(match.group(0)) + int(random.choice([-1, 1]))
            if count >= 0 or "-" in match.group(0):
                sites.append((match.group(0), str(count), start + match.start()))
    if not sites:
        return None
    before, after, place = _one(sites, random)
    return path, before, after, place


def _included(firmware: Path) -> list[Path]:
    """Headers of the library that the project includes, and whose functions it can call."""
    parameters = (firmware / "parameters.h").read_text()
    library = firmware / "nnet_utils"
    names = re.findall(r'#include "nnet_utils/(\w+\.h)"', parameters)
    for name in names:
        text = (library / name).read_text() if (library / name).exists() else ""
        names += [
            each for each in re.findall(r'#include "(nnet_\w+\.h)"', text) if each not in names
        ]
    top = next(firmware.glob("*.cpp")).read_text()
    streams = "hls::stream" in top
    idle = [each for each in ("latency", "resource") if f"nnet::{each}" not in parameters]
    return [
        library / name
        for name in names
        if (library / name).exists()
        and (("_stream" in name) == streams or name in ("nnet_code_gen.h", *_SHARED))
        and not any(each in name for each in ("conv1d", "sepconv", *idle))
        and (name != "nnet_stream.h" or "clone_stream" in top or "repack_stream" in top)
    ]


def _bodies(text: str) -> list[tuple[int, int]]:
    """Where the bodies of the functions of `_FUNCTIONS` lie: braces are counted."""
    found = []
    for match in re.finditer(r"^[^\S\n]*[\w:<>, ]*?\b(\w+)\s*\(", text, re.M):
        if not _FUNCTIONS.search(match.group(1) + "("):
            continue
        depth, place = 1, match.end()
        while depth and place < len(text):
            depth += {"(": 1, ")": -1}.get(text[place], 0)
            place += 1
        after = re.match(r"\s*(?://[^\n]*\n\s*)*\{", text[place:])
        if after is None:
            continue  # a call or a declaration
        start = place = place + after.end()
        depth = 1
        while depth and place < len(text):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        found.append((start, place))
    return found


def _one(of: list, random: np.random.Generator):  # type: ignore[no-untyped-def,type-arg]
    return of[int(random.integers(len(of)))]
