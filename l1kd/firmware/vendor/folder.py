"""A directory that somebody brought back: read with care, nothing in it is followed or run."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from l1kd.errors import UserError

__all__ = ["Folder", "parse_xml"]

_LARGEST = 32 << 20  # bytes of one file; the largest reports have a few megabytes
_DEEPEST = 64  # levels of an XML file; reports have about ten
_MOST = 1000  # directories that are looked into


class Folder:
    """Files of a directory by their relative path; links in it are as if they were not there.

    Parameters
    ----------
    root
        The directory; it may be a link itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links: list[str] = []  # that were met

    def data(self, *parts: str) -> bytes | None:
        """The bytes of a file; None if there is no such regular file.

        Raises
        ------
        UserError
            If it is larger than any report.
        """
        path = self._real(parts)
        if path is None or not stat.S_ISREG(path.lstat().st_mode):
            return None
        if path.lstat().st_size > _LARGEST:
            raise UserError(
                f"{path} has {path.lstat().st_size >> 20} MiB, no report or source has more than "
                f"{_LARGEST >> 20}; bring back the files as the tool left them"
            )
        # O_NONBLOCK, O_NOFOLLOW: should it have become a pipe or a link meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            return handle.read(_LARGEST)

    def text(self, *parts: str) -> str | None:
        """The text of a file; None if there is no such regular file."""
        data = self.data(*parts)
        return None if data is None else data.decode(errors="replace")

    def folders(self) -> Iterator[Folder]:
        """The directories in it, links and hidden ones left out.

        Raises
        ------
        UserError
            If there are too many of them to be projects.
        """
        found = [
            entry.name
            for entry in os.scandir(self.root)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]
        if len(found) > _MOST:
            raise UserError(
                f"{self.root} has {len(found)} directories; name one that holds the project, or "
                "the projects of one run"
            )
        return (Folder(self.root / name) for name in sorted(found))

    def _real(self, parts: tuple[str, ...]) -> Path | None:
        """The path of what is reached without a link; None if there is nothing."""
        path = self.root
        for part in "/".join(parts).split("/"):
            if part in ("", ".", ".."):
                return None
            path = path / part
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(mode):
                self.links.append(str(path.relative_to(self.root)))
                return None
        return path


def parse_xml(data: bytes, where: str) -> ElementTree.Element:
    """The root of an XML file that has neither a document type nor entities.

    Parameters
    ----------
    data
        Its bytes.
    where
        What it is called in messages.

    Raises
    ------
    UserError
        If it is damaged, or has what no report has.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text; {_AGAIN}") from error
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise UserError(f"{where} declares a document type or entities; no report does: not read")
    # Without its declaration: what was looked for in this encoding is not read in another.
    plain = io.BytesIO(re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode())
    depth, root = 0, None
    try:
        for event, element in ElementTree.iterparse(plain, ("start", "end")):
            depth += 1 if event == "start" else -1
            root = element if root is None else root
            if depth > _DEEPEST:
                raise UserError(f"{where} is nested deeper than any report; {_AGAIN}")
    except ElementTree.ParseError as error:
        raise UserError(f"{where} is damaged ({error}); {_AGAIN}") from error
    if not isinstance(root, ElementTree.Element):
        raise UserError(f"{where} is empty; {_AGAIN}")
    return root


_AGAIN = "run the tool again, or bring the file back once more"
