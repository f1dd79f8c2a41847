"""Random networks, certified in C++ and in Verilog: no false alarm, and how many stay open?

The networks are those of `bench_random_networks`, whose firmware is compared bit by bit there; here
nothing is compiled. `make bench` runs it, resumes where it was stopped, and records
`results/random_certificates.json`. `L1KD_NETWORKS` says how many (default 300).
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import write_json
from l1kd.exact.network import Network
from l1kd.firmware.certificate.findings import Certificate
from l1kd.firmware.certificate.proof import follow
from l1kd.firmware.certificate.shipped_files import contents
from l1kd.firmware.certificate.verilog_proof import prove
from l1kd.firmware.hls import hls4ml_convert
from l1kd.firmware.verilog.alkaid_convert import to_verilog
from l1kd.networks.to_exact import read
from tests.benchmarks.bench_random_networks import NETWORKS, versions
from tests.firmware import random_networks
from tests.firmware.random_networks import Specimen

RESULTS = Path(__file__).parent / "results" / "random_certificates.json"
KINDS = ("hls", "verilog")


def measured(specimen: Specimen, directory: Path) -> dict[str, Any]:
    """Findings on one network's C++ and on its Verilog."""
    found: dict[str, Any] = {"layers": list(specimen.layers), **specimen.options}
    try:
        network = read(specimen.model)
    except CheckFailed as error:
        return {**found, **dict.fromkeys(KINDS, "not written"), "reason": str(error)}
    for kind, judge in zip(KINDS, (cpp, verilog), strict=True):
        started = time.process_time()
        try:
            certificate = judge(specimen, network, directory / kind)
        except UserError as error:
            found[kind] = "not written"
            found[f"{kind}_reason"] = str(error).replace(str(directory), "")
            continue
        found[f"{kind}_seconds"] = round(time.process_time() - started, 1)
        found[kind] = "certified" if certificate.certified else "open"
        if certificate.refused:
            found[kind] = "refused"
        if not certificate.certified:
            found[f"{kind}_reason"] = certificate.summary
    return found


def cpp(specimen: Specimen, network: Network, directory: Path) -> Certificate:
    """Of an HLS project, by the proof alone."""
    project = hls4ml_convert.to_hls(specimen.model, directory, **specimen.options)
    return follow(contents(directory), network, project.description).certificate


def verilog(_: Specimen, network: Network, directory: Path) -> Certificate:
    """Of a Verilog project."""
    return prove(to_verilog(network, directory), network)


def test_random_networks_are_certified() -> None:
    import tensorflow as tf

    warnings.filterwarnings("ignore")
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    networks = found.get("networks", {}) if found.get("versions") == versions() else {}
    for seed in map(str, range(NETWORKS)):
        if seed in networks:
            continue
        tf.keras.backend.clear_session()
        with tempfile.TemporaryDirectory() as directory:
            networks[seed] = measured(random_networks.draw(int(seed)), Path(directory))
        states = ("certified", "open", "refused", "not written")
        summary = {
            kind: {
                state: sum(each[kind] == state for each in networks.values()) for state in states
            }
            for kind in KINDS
        }
        write_json(RESULTS, {"versions": versions(), "summary": summary, "networks": networks})
    assert not [seed for seed, each in networks.items() if "refused" in map(each.get, KINDS)]
    assert not [seed for seed, each in networks.items() if each["hls"] == "open"]
    assert not [seed for seed, each in networks.items() if each["verilog"] == "open"]
