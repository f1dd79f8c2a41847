"""The tables of vendors' text reports, and the numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from l1kd.errors import UserError

__all__ = ["Table", "number", "tables", "whole", "word"]

# What the tools write where they do not know a number.
_UNKNOWN = {"", "-", "?", "na", "n/a", "x", "inf", "undef", "unknown", "none"}
_PERCENT = re.compile(r"^(?P<value>[-+0-9.eE]+)\s*\((?P<percent>[^()%]+)%?\)$")
_LARGEST = 1e12


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Parameters
    ----------
    heading
        The last heading (a line `== x`, `* x:`, `+ x:` or `1.1 x`) of each kind above it.
    columns
        The last line of its head.
    rows
        Its cells, without what surrounds them; a name's leading spaces say its level.
    """

    heading: tuple[str, ...]
    columns: list[str]
    rows: list[list[str]]

    def column(self, *names: str) -> int | None:
        """The first column of one of these names."""
        return next((i for i, name in enumerate(self.columns) if name in names), None)


def tables(text: str) -> Iterator[Table]:
    """The tables of a report: lines of `|` cells, the head between two ruled lines."""
    part = section = ""
    head: list[list[str]] = []
    rows: list[list[str]] = []
    rules = 0
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        if bare.startswith("|"):
            cells = [cell.strip() for cell in bare.strip("|").split("|")]
            (head if rules < 2 else rows).append(cells)
            continue
        if re.fullmatch(r"\+[-+]+\+?", bare):
            rules += 1
            continue
        if rules >= 2 and head:
            yield Table((part, section), head[-1], [row for row in rows if len(row) > 1])
        if not (head and bare.startswith("+")):  # a ruled line with words in it: the head goes on
            head, rows, rules = [], [], 0
        if bare.startswith("== "):
            part, section = bare[3:], ""
        elif match := re.match(r"(?:[*+] (?P<a>[^:]+):?$|(?P<b>\d+(?:\.\d+)*\.? .+))", bare):
            section = (match["a"] or match["b"]).strip()


def number(text: str | None, where: str, *, signed: bool = False) -> float | None:
    """A number of a report; None where the tool says that it does not know it.

    Parameters
    ----------
    text
        As it stands there; what follows in brackets, a share, is left out.
    where
        What it is called in messages.
    signed
        Whether it may be negative, as a slack.

    Raises
    ------
    UserError
        If it is anything else.
    """
    bare = (text or "").strip()
    if match := _PERCENT.match(bare):
        bare = match["value"]
    if bare.lower() in _UNKNOWN:
        return None
    try:
        value = float(bare)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > _LARGEST or (value < 0 and not signed):
        raise UserError(
            f"{where} is {bare[:40]!r}, no number of a report; run the tool again, or bring the "
            "file back once more"
        )
    return value


def whole(text: str | None, where: str) -> int | None:
    """As `number`, for what can be counted."""
    value = number(text, where)
    if value is None:
        return None
    if value != int(value):
        raise UserError(f"{where} is {value:g}, which is no count; run the tool again")
    return int(value)


def word(text: str | None, longest: int = 80) -> str | None:
    """A short text of a report, printable whatever it holds; None if there is none."""
    kept = "".join(c if c.isprintable() else " " for c in (text or "").strip())
    return kept[:longest].strip() or None
