"""The Verilog of every student of the zoo that fits in `max_lut`: certified, and in what time?

Weights are drawn, not trained: a certificate is about arithmetic. `make bench` runs it, resumes
where it was stopped, and records `results/verilog_certificates.json`.
"""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.config import Score, Student
from l1kd.core.context import cores
from l1kd.core.errors import UserError
from l1kd.core.files import write_json
from l1kd.core.fixed_point import FixedPoint
from l1kd.firmware.certificate.certify import certify
from l1kd.firmware.verilog.alkaid_convert import to_verilog
from l1kd.networks.students import build_student
from l1kd.networks.to_exact import read

RESULTS = Path(__file__).parent / "results" / "verilog_certificates.json"
REGIONS, IMAGES = ((18, 14, 1), FixedPoint(11, 11)), ((28, 28, 1), FixedPoint(10, 2))
# Of the sources of objects: the CMS Level-1 set, the challenge of 2021.
OBJECTS = {"cmsl1": ((27, 3), FixedPoint(13, 9)), "adc2021": ((19, 3), FixedPoint(16, 11))}
ZOO: dict[str, tuple[tuple[tuple[int, ...], FixedPoint], dict[str, Any]]] = {
    "cicada_v1": (REGIONS, {"architecture": "cicada_v1"}),
    "cicada_v2": (REGIONS, {"architecture": "cicada_v2"}),
    "conv": (REGIONS, {"architecture": "conv", "hidden": [16]}),
    "set": (REGIONS, {"architecture": "set", "hidden": [12, 12]}),
    "dense": (REGIONS, {"architecture": "dense"}),
    **{
        f"{source}_{name}": (port, {"architecture": "dense", "hidden": hidden})
        for source, port in OBJECTS.items()
        for name, hidden in (("dense", [32, 16]), ("small", [16, 8]))
    },
    **{
        name: (IMAGES, {"architecture": name})
        for name in ("s7", "s6", "s5", "s4", "s3", "s2", "s1")
    },
}


def measured(name: str, directory: Path) -> dict[str, Any]:
    """What the certificate says of one student's Verilog, and the seconds that it took."""
    (shape, grid), options = ZOO[name]
    model = build_student(Student.model_validate(options), shape, grid, Score())
    random = np.random.default_rng(1)
    model.set_weights([random.normal(0, 0.15, each.shape) for each in model.get_weights()])
    network = read(model)
    try:
        logic = to_verilog(network, directory / name)
    except UserError as error:
        return {"written": False, "why": str(error).replace(str(directory), "")}
    started = time.perf_counter()
    certificate = certify(logic, network)
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in (logic.directory / "src").glob("*.v")
    )
    return {
        "written": True,
        "lut_estimate": round(sum(layer.lut or 0 for layer in logic.description.record.layers)),
        "lines": lines,
        "certified": certificate.certified,
        "summary": certificate.summary,
        "seconds": round(time.perf_counter() - started, 1),
    }


def test_the_zoo_is_certified(tmp_path: Path) -> None:
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {"students": {}}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name in ZOO:
        if name in found["students"]:
            continue
        found["students"][name] = measured(name, tmp_path)
        found["environment"] = {
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "machine": platform.machine(),
        }
        write_json(RESULTS, found)
    written = [each for each in found["students"].values() if each["written"]]
    assert len(written) > 5 and all(each["certified"] for each in written)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q", "-p", "no:xdist"]))
