"""What a configuration leaves unsaid, by source of events: what suits them was measured."""

from __future__ import annotations

from typing import Any

__all__ = ["source_defaults"]

_TRIGGER: dict[str, Any] = {
    "teacher": {
        "architecture": "dense",
        "hidden": [128, 64],
        "latent": 8,
        "square_root": 1.0,
        "standardise": True,
        "residual_power": 2.25,
    },
    "students": [
        {"architecture": "cicada_v1"},
        {"architecture": "cicada_v2"},
        {"architecture": "conv", "hidden": [16]},
    ],
    "distillation": {
        "epochs": 16,
        "final_epochs": 8,
        "batch": 256,
        "student_learning_rate": 3e-3,
        "exposure": ["patch", "shuffle"],
    },
    "choose": {"by": "efficiency"},
}
_IMAGES: dict[str, Any] = {
    "teacher": {"architecture": "paper", "latent": 20},
    "students": [{"architecture": f"s{i}"} for i in range(1, 8)],
    "distillation": {
        "epochs": 20,
        "final_epochs": 8,
        "batch": 100,
        "student_learning_rate": 5e-3,
        "warm_up": 3.0,
        "exposure": ["dataset", "warp", "pieces"],
    },
}
_ARRAYS: dict[str, Any] = {
    "teacher": {"architecture": "dense", "latent": 8, "standardise": True},
    "students": [{"architecture": "dense"}],
    "distillation": {"exposure": ["shuffle"]},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "l1toy": _TRIGGER,
    "calo": _TRIGGER,
    "mnist": _IMAGES,
    "fashion_mnist": _IMAGES,
    "arrays": _ARRAYS,
}


def source_defaults(source: str) -> dict[str, Any]:
    """The configuration that suits a source; what a file says is laid over it, key by key."""
    return _DEFAULTS.get(source, {})
