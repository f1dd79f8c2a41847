"""Events of runs that are to be short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import made_once


def events(factory: pytest.TempPathFactory) -> dict[str, object]:
    """Small integer images (6, 4, 1), written once, and the data section that names them."""
    directory = made_once(factory, "orchestrate-events", _write)
    return {
        "source": "arrays",
        "background": [str(directory / "normal.npz")],
        "signals": {"hot": [str(directory / "hot.npz")]},
        "split": [0.5, 0.2, 0.3],
        "grid": {"word": 6, "integer": 6},
    }


def _write(directory: Path) -> None:
    normal = np.random.default_rng(1).poisson(2, (300, 6, 4, 1)).clip(0, 31)
    hot = normal[:80].copy()
    hot[:, 2, 1] = 25
    for name, array in (("normal", normal), ("hot", hot)):
        np.savez(directory / f"{name}.npz", events=array.astype(np.int16))
