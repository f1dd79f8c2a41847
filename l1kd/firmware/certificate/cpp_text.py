"""Splits C++ text into statements and constants: a strict reader, not a compiler.

It knows the forms that hls4ml and l1kd write; all others are `Unreadable`, and not certified.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(
    r"^#\s*(?:include [\"<](?P<include>[\w./]+)[\">]|pragma HLS\b.*|pragma once|"
    r"ifndef (?P<unless>\w+)|(?P<endif>endif)|define (?P<define>\w+))$"
)
# What stands between these is for the C simulation alone, or for the vendor's tool alone.
_CONDITIONS = {"__SYNTHESIS__", "L1KD_GLOBAL"}


class Unreadable(Exception):  # noqa: N818 - the project is at fault, not the program
    """A file of a project is not of the form that is generated: where, and its text."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        shown = " ".join(text.split())
        super().__init__(f"{file}: {shown[:120]!r} is not in the C++ subset that l1kd generates")


@dataclass(frozen=True)
class Source:
    """A file without comments, pragmas and preprocessor lines."""

    file: str
    code: str  # outside of conditions
    conditional: Mapping[str, str]  # code under `#ifndef`, by condition
    includes: tuple[str, ...]  # headers


def clean(file: str, text: str) -> Source:
    """Take a file apart; a macro, an `#if` or an `#else` is `Unreadable`."""
    # A line that goes on: `\` at its end.
    text = _COMMENTS.sub(" ", text.replace("\\\n", " "))
    code: list[str] = []
    conditional: dict[str, list[str]] = {}
    includes: list[str] = []
    open_: list[str] = []
    guard = ""
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            place = [name for name in open_ if name in _CONDITIONS]
            (conditional.setdefault(place[-1], []) if place else code).append(line)
            continue
        found = _DIRECTIVE.match(" ".join(line.split()))
        if not found:
            raise Unreadable(file, line)
        if found["include"]:
            includes.append(found["include"])
        elif found["unless"]:
            open_.append(found["unless"])
            if found["unless"] not in _CONDITIONS:
                if guard or "".join(code).strip():
                    raise Unreadable(file, line)
                guard = found["unless"]
        elif found["endif"]:
            if not open_:
                raise Unreadable(file, line)
            open_.pop()
        elif found["define"] and found["define"] != guard:
            raise Unreadable(file, line)
    if open_:
        raise Unreadable(file, f"#ifndef {open_[-1]}")
    under = {name: "\n".join(lines) for name, lines in conditional.items()}
    return Source(file, "\n".join(code), under, tuple(includes))


def words(text: str) -> str:
    """Text with single spaces, and none around punctuation."""
    return re.sub(r"\s*([^\w\s])\s*", r"\1", " ".join(text.split()))


def statements(text: str) -> Iterator[str]:
    """Texts between semicolons, by `words`; empty ones are left out."""
    for part in text.split(";"):
        if reduced := words(part):
            yield reduced


def integer(expression: str, known: Mapping[str, int | str]) -> int:
    """The value of a C++ expression: sums, products, quotients and names of unsigned integers."""
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} is not arithmetic") from error
    return _value(tree, known)


_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    **{ast.Mult: operator.mul, ast.Add: operator.add, ast.Sub: operator.sub},
    ast.Div: operator.floordiv,
}


def _value(node: ast.expr, known: Mapping[str, int | str]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        value = known.get(node.id)
        if isinstance(value, int):
            return value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, known)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, known), _value(node.right, known)
        if not isinstance(node.op, ast.Div) or (right > 0 and left >= 0):
            return _OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and not node.keywords and len(node.args) == 2:
        left, right = (_value(each, known) for each in node.args)
        if isinstance(node.func, ast.Name) and node.func.id == "DIV_ROUNDUP" and right > 0:
            return -(-left // right)
    raise ValueError("not arithmetic that is known")


def constant(text: str) -> float:
    """A decimal number of C++."""
    if not re.fullmatch(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        raise ValueError(f"{text!r} is not a number")
    return float(text)
