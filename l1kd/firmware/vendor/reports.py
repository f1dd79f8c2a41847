"""The reports in a project's directory: where the tools leave them, and all of them read."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from l1kd.firmware.vendor.folder import Folder
from l1kd.firmware.vendor.parse import cosim, csynth, implementation, timing, vsynth
from l1kd.firmware.vendor.sections import Cosim, Reports, Simulated
from l1kd.firmware.vendor.tables import whole

__all__ = ["files", "read", "results"]


def files(top: str) -> dict[str, str]:
    """Where a project's tool leaves its reports, by what is in them."""
    solution = f"{top}_prj/solution1"
    return {
        "csynth": f"{solution}/syn/report/{top}_csynth.xml",
        "layers": f"{solution}/syn/report/{top}_csynth.rpt",
        "vsynth": "vivado_synth.rpt",
        "cosim": f"{solution}/sim/report/{top}_cosim.rpt",
        "implementation": "util.rpt",
        "timing": "timing.rpt",
    }


def read(folder: Folder, top: str, expected: NDArray[np.int64] | None = None) -> Reports:
    """The reports in a project's directory; what is not there is None.

    Parameters
    ----------
    folder
        The project's directory.
    top
        Its top function.
    expected
        What the test bench's vectors give in exact arithmetic, (N, outputs), in counts of the
        output's LSB; without it the simulations' logs are not read.

    Raises
    ------
    UserError
        If a report is damaged.
    """
    where = files(top)
    places = {name: f"{folder.root}/{path}" for name, path in where.items()}
    found: dict[str, BaseModel] = {}
    if (data := folder.data(where["csynth"])) is not None:
        text = folder.text(where["layers"]) or ""
        found["csynth"] = csynth(data, text, places["csynth"], places["layers"])
    netlist = folder.text(where["vsynth"])
    if netlist is not None and (numbers := vsynth(netlist, places["vsynth"])) is not None:
        found["vsynth"] = numbers
    simulated = folder.text(where["cosim"])
    result = None if simulated is None else cosim(simulated, places["cosim"])
    if result is not None:
        found["cosim"] = _averaged(folder, top, result)
    if (placed := folder.text(where["implementation"])) is not None:
        found["implementation"] = implementation(placed, places["implementation"])
    # Where hls4ml's accelerator flow leaves it: the name up to its first underscore.
    other = f"{top.split('_')[0]}_vivado_accelerator/project_1.runs/impl_1"
    routed = f"{other}/design_1_wrapper_timing_summary_routed.rpt"
    for path in (routed, where["timing"]):
        if (slack := folder.text(path)) is not None:
            found["timing"] = timing(slack, f"{folder.root}/{path}")
    if expected is not None:
        for name, logs in results(top).items():
            if name == "cosim_results" and (result is None or not result.passed):
                continue  # before the RTL is simulated, the log has the C simulation's numbers
            for log in logs:
                written = folder.text(log)
                if written is not None and name not in found:
                    found |= _simulated(name, written, expected)
    return Reports.model_validate(found)


def results(top: str) -> dict[str, tuple[str, ...]]:
    """Where the test bench leaves its log: tools run it in the project, or in a copy of tb_data."""
    solution = f"{top}_prj/solution1"
    csim, cosim = "tb_data/csim_results.log", "tb_data/rtl_cosim_results.log"
    return {
        "csim_results": (csim, f"{solution}/csim/build/{csim}"),
        "cosim_results": (cosim, f"{solution}/sim/wrapc_pc/{cosim}"),
    }


def _simulated(name: str, text: str, expected: NDArray[np.int64]) -> dict[str, BaseModel]:
    """A log of integers, one event a line; nothing if it is not of all events."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) != len(expected):
        return {}
    right = [[str(value) for value in row] for row in expected.tolist()]
    wrong = sum(row != wanted for row, wanted in zip(rows, right, strict=True))
    return {name: Simulated(events=len(rows), mismatches=wrong)}


def _averaged(folder: Folder, top: str, report: Cosim) -> Cosim:
    """The same, over the single transactions where the tool has left them."""
    name = f"{top}.performance.result.transaction.xml"
    text = folder.text(f"{top}_prj/solution1/sim/{report.rtl.lower()}/{name}") or ""
    latency, interval = [], []
    for line in text.splitlines():
        # It is no XML, whatever its name: `transaction  0:  latency  interval`, the last `x`.
        if match := re.match(r"\s*transaction\s+\d+:\s+(\S+)\s+(\S+)", line):
            latency.append(whole(match[1], f"{name}: latency"))
            interval.append(whole(match[2], f"{name}: interval"))
    found: dict[str, float | int] = {}
    for kind, values in (("latency", latency), ("interval", interval)):
        known = [value for value in values if value is not None]
        if known:
            found |= {
                f"{kind}_min": min(known),
                f"{kind}_avg": sum(known) / len(known),
                f"{kind}_max": max(known),
            }
    return report.model_copy(update=found)
