"""Errors by who can mend them; `l1kd.cli` turns each class into its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic_core import ValidationError


class _OneLine(Exception):  # noqa: N818
    """Line breaks of the message are folded, so that a library's message stays on one line, too."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UserError(_OneLine):
    """The user can mend it (exit code 2): the message says what was found, where, what to do."""


class CheckFailed(_OneLine):
    """A gate did its work: a mismatch, a missed budget, a refused network (exit code 1)."""


def first_fault(error: Exception) -> str:
    """The first line of an error; of pydantic's the place of the first fault, and what it is."""
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0] or type(error).__name__
    first, more = error.errors(include_url=False)[0], error.error_count() - 1
    place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
    others = f" (and {more} more)" if more else ""
    return f"{place}{first['msg'].removeprefix('Value error, ')}{others}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` with the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
