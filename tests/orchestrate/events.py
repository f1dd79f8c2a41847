"""Events of runs that are to be short."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def events(directory: Path) -> dict[str, object]:
    """Small integer images (6, 4, 1) in `directory`, and the data section that names them."""
    random = np.random.default_rng(1)
    normal = random.poisson(2, (300, 6, 4, 1)).clip(0, 31)
    hot = normal[:80].copy()
    hot[:, 2, 1] = 25
    directory.mkdir()
    for name, array in (("normal", normal), ("hot", hot)):
        np.savez(directory / f"{name}.npz", events=array.astype(np.int16))
    return {
        "source": "arrays",
        "background": [str(directory / "normal.npz")],
        "signals": {"hot": [str(directory / "hot.npz")]},
        "split": [0.5, 0.2, 0.3],
        "grid": {"word": 6, "integer": 6},
    }
