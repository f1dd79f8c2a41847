"""Errors by who can mend them; `l1kd.cli` turns each class into its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The user can mend it (exit code 2).

    The message is one line: what was found, where, and what to do. Line breaks are folded, so
    that wrapped library messages stay on that line too.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class CheckFailed(Exception):  # noqa: N818 - the gate failed, not the program
    """A gate did its work: a mismatch, a missed budget, a refused network (exit code 1)."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` with the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
