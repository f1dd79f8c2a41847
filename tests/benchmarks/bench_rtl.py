"""Verilog of random networks against the exact evaluator, by the interpreter and by a simulator.

`make bench` runs it and records `results/rtl.json`, seed by seed; an interrupted run goes on where
it was. The interpreter is compared on 1,000 events of every network, the written Verilog in Icarus
on 100 events of every network whose design is not large. `L1KD_NETWORKS` says how many (300).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.files import write_json
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.simulate import find_simulator
from l1kd.networks.to_exact import read
from tests.firmware.random_networks import draw, events_for

RESULTS = Path(__file__).parent / "results" / "rtl.json"
NETWORKS = int(os.environ.get("L1KD_NETWORKS", "300"))
EVENTS, SIMULATED = 1000, 100
LARGE = 5000  # LUTs of a design that Icarus takes long over


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "alkaid": metadata.version("alkaid"),
        "simulator": "icarus " + find_simulator("icarus").version,
    }


def measured(seed: int) -> dict[str, Any]:
    """One network."""
    import tensorflow as tf

    tf.keras.backend.clear_session()
    try:
        network = read(draw(seed).model)
    except CheckFailed as error:  # the lint does not know it; no project of it is written either
        return {"refused": str(error)}
    events = events_for(network.port, network.shape, EVENTS, seed=seed)
    wanted = network.predict(events)
    with tempfile.TemporaryDirectory() as directory:
        try:
            logic = alkaid_convert.to_verilog(network, Path(directory) / "rtl")
        except UserError as error:
            return {"refused": str(error)}
        record = {
            "lut": round(logic.record.lut or 0),
            "latency_cycles": logic.record.latency_cycles,
            "changing": bool((wanted != wanted[0]).any()),
            "interpreted": EVENTS,
            "interpreted_differing": differing(wanted, logic.predict(events)),
        }
        if (logic.record.lut or 0) < LARGE:
            shown = logic.simulate(events[:SIMULATED], "icarus")
            record["simulated"] = SIMULATED
            record["simulated_differing"] = differing(wanted[:SIMULATED], shown)
    return record


def differing(wanted: np.ndarray, found: np.ndarray) -> int:
    """How many events have another output."""
    return int((wanted != found).any(axis=1).sum())


def summary(networks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What all networks say together."""
    drawn = [record for record in networks.values() if "refused" not in record]
    simulated = [record for record in drawn if "simulated" in record]
    return {
        "networks": len(networks),
        "refused": len(networks) - len(drawn),
        "interpreted_equal": sum(record["interpreted_differing"] == 0 for record in drawn),
        "interpreted_events": sum(record["interpreted"] for record in drawn),
        "simulated": len(simulated),
        "simulated_equal": sum(record["simulated_differing"] == 0 for record in simulated),
        "simulated_events": sum(record["simulated"] for record in simulated),
        "largest_lut": max((record["lut"] for record in drawn), default=0),
    }


@pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="no Icarus Verilog here; apt-get install iverilog"
)
@pytest.mark.filterwarnings("ignore")
def test_random_networks_as_verilog() -> None:
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    networks = recorded.get("networks", {}) if recorded.get("versions") == versions() else {}
    for seed in range(NETWORKS):
        if str(seed) in networks:
            continue
        networks[str(seed)] = measured(seed)
        found = {"versions": versions(), "summary": summary(networks), "networks": networks}
        write_json(RESULTS, found)
    told = summary(networks)
    assert told["interpreted_equal"] == told["networks"] - told["refused"]
    assert told["simulated_equal"] == told["simulated"]
