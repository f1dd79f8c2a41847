"""Anomaly-detection trigger firmware that can be trusted.

Importing this loads neither TensorFlow nor hls4ml; a name loads what it needs at its first use.

>>> import l1kd
>>> model = l1kd.load_model("students/v2.keras")
>>> l1kd.check(model)                                   # [], or what cannot be exact
>>> network = l1kd.read(model)                          # the exact network: NumPy alone
>>> project = l1kd.to_hls(model, "out/hls")
>>> l1kd.compare(network.predict(events), project.predict(events), project.output_type.lsb)
>>> l1kd.certify(project, network).summary
'certified for all inputs'
"""

from __future__ import annotations

import importlib
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
    from l1kd.core.errors import CheckFailed as CheckFailed
    from l1kd.core.errors import UserError as UserError
    from l1kd.exact.agreement import compare as compare
    from l1kd.exact.network import load_network as load_network
    from l1kd.firmware.certificate.certify import certify as certify
    from l1kd.firmware.hls.hls4ml_convert import to_hls as to_hls
    from l1kd.firmware.verilog.alkaid_convert import to_verilog as to_verilog
    from l1kd.networks.lint.check import check as check
    from l1kd.networks.load import load_model as load_model
    from l1kd.networks.repair import repair as repair
    from l1kd.networks.to_exact import read as read
    from l1kd.runs.open_run import open_run as open_run
    from l1kd.training.distill import distill as distill

__version__ = "0.1.0"

_HOMES = {
    "CheckFailed": "core.errors",
    "UserError": "core.errors",
    "certify": "firmware.certificate.certify",
    "check": "networks.lint.check",
    "compare": "exact.agreement",
    "distill": "training.distill",
    "load_model": "networks.load",
    "load_network": "exact.network",
    "open_run": "runs.open_run",
    "read": "networks.to_exact",
    "repair": "networks.repair",
    "to_hls": "firmware.hls.hls4ml_convert",
    "to_verilog": "firmware.verilog.alkaid_convert",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
