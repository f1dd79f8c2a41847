"""Directories that l1kd may replace or delete: its own, and nothing of a user's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from l1kd.core.errors import UserError

# A directory of a run with one of these was made by l1kd.
MARKERS = ("student.json", "l1kd.json")
# Names that `core.files` gives to what it has not finished, or replaces.
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.(part(\.\w+)?|old)")


def check_replaceable(
    path: Path, markers: tuple[str, ...] = MARKERS, *, inside: Path | None = None
) -> None:
    """Refuse what l1kd did not make: a link, a file, a directory without a marker.

    What is absent or empty is free. No directory from `inside` down to `path` may be a link.
    """
    above = [] if inside is None else [p for p in path.parents if inside in p.parents]
    for each in (path, *above):
        if each.is_symlink():
            raise UserError(
                f"{each} is a symbolic link, and l1kd would replace what is behind it; remove the "
                "link, or name another place"
            )
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a directory is to be written there; move it away")
    if any(path.iterdir()) and not any((path / marker).is_file() for marker in markers):
        raise UserError(
            f"{path} exists and was not made by l1kd (it has no {' or '.join(markers)}), so that "
            "it is not replaced; move it away, or name another place"
        )


def sweep(run: Path) -> None:
    """Delete what killed processes had begun to write into a run that this process holds."""
    for place in _places(run):
        for left in [path for path in place.iterdir() if LEFTOVER.fullmatch(path.name)]:
            if left.is_symlink():
                raise UserError(f"{left} is a symbolic link that l1kd did not make; remove it")
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _places(run: Path) -> Iterator[Path]:
    """Directories of a run that stages write into; links are not followed."""
    yield run
    inside = [path for path in run.iterdir() if path.is_dir() and not path.is_symlink()]
    yield from inside
    for directory, names, _ in os.walk(run / "firmware") if run / "firmware" in inside else ():
        yield from (path for each in names if not (path := Path(directory, each)).is_symlink())
