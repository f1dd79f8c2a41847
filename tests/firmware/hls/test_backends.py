"""One object for each backend, and everything that a backend has to bring."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

from l1kd.core.config import Backend, VendorTool
from l1kd.core.errors import UserError
from l1kd.firmware.hls.backends import BACKENDS, LEFT_BY, STEPS, VITIS, VIVADO, backend_named
from l1kd.firmware.hls.backends import Backend as HlsBackend
from l1kd.firmware.vendor_tools.tool_reports import Reports

ROOT = Path(__file__).parents[3]


def test_every_name_of_the_configuration_has_its_object() -> None:
    assert tuple(BACKENDS) == get_args(Backend)
    assert tuple(backend.tool for backend in BACKENDS.values()) == get_args(VendorTool)
    stored = resources.files("l1kd.firmware.certificate") / "library.json"
    assert list(json.loads(stored.read_text())["backends"]) == list(BACKENDS)
    with pytest.raises(UserError, match="no backend is named 'Quartus'; there are Vitis, Vivado"):
        backend_named("Quartus")


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda backend: backend.name)
def test_a_step_leaves_files_that_are_read(backend: HlsBackend) -> None:
    files = backend.report_files("l1kd_net")
    assert list(LEFT_BY) == list(STEPS)
    for kinds in LEFT_BY.values():
        assert kinds[0] in Reports.model_fields and set(kinds) <= files.keys()
    assert not any(
        "{" in path or path.startswith("/") for paths in files.values() for path in paths
    )


def test_no_other_module_knows_a_backend_by_name() -> None:
    """But the configuration and the default of a conversion."""
    knows = {
        path.relative_to(ROOT / "l1kd").as_posix()
        for path in (ROOT / "l1kd").rglob("*.py")
        if any(f'"{name}"' in path.read_text() for name in (*BACKENDS, *get_args(VendorTool)))
    }
    assert knows == {
        "core/config.py",
        "firmware/hls/backends.py",
        "firmware/hls/hls4ml_convert.py",
    }


def test_commands_for_people() -> None:
    assert VITIS.commands("a b", "l1kd_net") == [
        (
            "C synthesis, Vitis 2023 and newer",
            "cd 'a b'\nvitis-run --mode hls --tcl build_prj.tcl",
        ),
        ("C synthesis, Vitis HLS before 2023", "cd 'a b'\nvitis_hls -f build_prj.tcl"),
        ("open in Vitis HLS", "cd 'a b'\nvitis_hls -p l1kd_net_prj"),
    ]
    (synthesis, window) = VIVADO.commands("p", "l1kd_net")
    assert window == ("open in Vivado HLS", "cd p\nvivado_hls -p l1kd_net_prj")
    assert "csim=0 synth=1 cosim=0" in synthesis[1]
