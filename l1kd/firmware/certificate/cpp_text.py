"""Reads C++ line by line in the canonical form (`hls.canonical_cpp`): a strict reader, no compiler.

Every line has to be of a form that leaves one reading to every compiler: no comment, condition,
macro, backslash or string is in any form, integers are decimal and below 2^31. A line of no form is
`Unreadable`, and the project is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

INTEGER = r"(?:0|[1-9]\d{0,8})"
DECIMAL = r"-?(?:0|[1-9]\d{0,17})\.\d{1,60}"
NAME = r"[A-Za-z]\w*"
_MODES = (
    r"AP_(?:RND|RND_ZERO|RND_MIN_INF|RND_INF|RND_CONV|TRN|TRN_ZERO),"
    r"AP_(?:SAT|SAT_ZERO|SAT_SYM|WRAP)(?:,0)?"
)
TYPE = rf"ap_u?(?:int<[1-9]\d{{0,3}}>|fixed<[1-9]\d{{0,3}},-?{INTEGER}(?:,{_MODES})?>)"


class Unreadable(Exception):  # noqa: N818 - the project is at fault, not the program
    """A file of a project is not of the form that is generated: which, where, and its text."""


class Lines:
    """The lines of a file, to be taken one after the other; empty ones are left out."""

    def __init__(self, files: Mapping[str, bytes], name: str) -> None:
        self.file = name
        try:
            *rows, last = files[f"firmware/{name}"].decode("ascii").split("\n")
        except KeyError:
            raise Unreadable(f"{name} is missing") from None
        except UnicodeDecodeError as error:
            raise Unreadable(f"{name}: byte {error.start} is not ASCII") from error
        self._rows = [(number, row) for number, row in enumerate(rows, 1) if row]
        self._rows.append((len(rows) + 1, last))
        self._next = 0

    def find(self, form: str) -> re.Match[str] | None:
        """Take the next line, if it is of a form as a whole."""
        found = re.compile(form, re.ASCII).fullmatch(self._rows[self._next][1])
        self._next += found is not None
        return found

    def take(self, form: str) -> re.Match[str]:
        """Take the next line, which has to be of a form."""
        if (found := self.find(form)) is None:
            raise self._error(self._next)
        return found

    def expect(self, *texts: str) -> None:
        """Take lines that have to be these."""
        for text in texts:
            self.take(re.escape(text))

    def end(self) -> None:
        """Demand that nothing is left, and that the last line ended."""
        self.take("")

    @property
    def last(self) -> Unreadable:
        """An error about the line that was taken last."""
        return self._error(self._next - 1)

    def _error(self, place: int) -> Unreadable:
        number, text = self._rows[place]
        reason = "is not in the C++ subset that l1kd generates"
        return Unreadable(f"{self.file}:{number}: {text[:120]!r} {reason}")
