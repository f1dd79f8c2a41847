"""Hashes of the headers that projects share: hls4ml's functions and the vendor's types.

The argument of `layer_conditions` is about exactly these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from l1kd.core.files import file_hash

_FILE = "library.json"
_CODE = "nnet_utils/nnet_code_gen.h"  # code is inserted into this one


@dataclass(frozen=True)
class Library:
    """Headers of one backend of one version of hls4ml."""

    files: Mapping[str, str]  # SHA-256 by path, relative to `firmware/`
    frame: str  # SHA-256 of `nnet_code_gen.h` before anything is inserted, by `words`

    @property
    def headers(self) -> set[str]:
        """Their names in `#include` lines."""
        return {name for name in self.files if name.startswith("nnet_utils/")} | {_CODE}

    def changed(self, firmware: Path) -> list[str]:
        """Files of a project's `firmware/` that are not the library's, or are missing."""
        paths = {name: firmware / name for name in self.files}
        return [
            name
            for name, path in paths.items()
            if not path.is_file() or file_hash(path) != self.files[name]
        ]

    def strangers(self, firmware: Path, own: Iterable[str]) -> list[str]:
        """Files of a project's `firmware/` that are neither the library's nor its own.

        One of the name of a header would be included in its place.
        """
        expected = {*self.files, *own, _CODE}
        return [name for name in _names(firmware) if name not in expected]


def _names(folder: Path, *under: str) -> list[str]:
    """The files of a folder, or of some folders in it, by their path from there."""
    paths = (path for each in under or ("",) for path in (folder / each).rglob("*"))
    return sorted(path.relative_to(folder).as_posix() for path in paths if not path.is_dir())


def known(backend: str, hls4ml: str) -> Library | None:
    """The library of a backend and version, None if no argument was made for it."""
    stored: Any = json.loads((resources.files("l1kd.firmware.certificate") / _FILE).read_text())
    if stored["hls4ml"] != hls4ml or backend not in stored["backends"]:
        return None
    return Library({**stored["common"], **stored["backends"][backend]}, stored["frame"])


def measure(firmware: Path) -> dict[str, str]:
    """SHA-256 of the shared headers of a project: how `library.json` was made."""
    names = _names(firmware, "nnet_utils", "ap_types")
    return {name: file_hash(firmware / name) for name in names if name != _CODE}
