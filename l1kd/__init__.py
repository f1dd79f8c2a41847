"""l1kd: anomaly-detection trigger firmware that can be trusted.

Importing this loads neither TensorFlow nor hls4ml; `load_model` does when it is first used.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

if platform.machine() in ("x86_64", "AMD64"):
    # TensorFlow reads these when it is imported (docs/training.md). Without the first it has slow
    # convolutions on processors that lack AVX-512, without the second it sets up every gradient of
    # a convolution anew in every step; results are the same bits.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE", "false")

if TYPE_CHECKING:
    from l1kd.networks.load import load_model

__all__ = ["__version__", "load_model"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from l1kd.networks.load import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
