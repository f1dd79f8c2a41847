"""The checkpoint of a training: one file, replaced whole after every epoch."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.files import write_arrays

__all__ = ["Progress", "load_state", "save_state"]

Arrays = dict[str, "np.ndarray[Any, Any]"]


@dataclass
class Progress:
    """How far a training got, besides its arrays.

    Parameters
    ----------
    configuration
        Hash of what the training depends on; a checkpoint of something else is not resumed.
    epoch
        Epochs done, all phases together.
    best
        Lowest validation loss so far of `teacher` and each student.
    improved
        The epoch of that loss, counted from 1.
    history
        A row per epoch: what `history.csv` shows.
    """

    configuration: str
    epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    improved: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(path: Path, progress: Progress, arrays: Arrays) -> None:
    """Write the checkpoint, atomically."""
    text = json.dumps(vars(progress))
    write_arrays(path, {"__progress__": np.array(text), **arrays})


def load_state(path: Path, configuration: str) -> tuple[Progress, Arrays] | None:
    """The checkpoint, or None if there is none that belongs to this configuration."""
    try:
        with np.load(path, allow_pickle=False) as file:
            progress = Progress(**json.loads(str(file["__progress__"])))
            if progress.configuration != configuration:
                return None
            return progress, {key: file[key] for key in file.files if key != "__progress__"}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        # Written whole or not at all: a file that cannot be read is not ours to interpret.
        return None
