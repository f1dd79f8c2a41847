"""A stand-in for the vendors' tools, and runs to use it on.

No vendor's tool is at hand where this is developed. The stand-in is a script of the tool's name: it
takes the tool's arguments, reads the project's own options, and writes files where the tool leaves
its reports, in the shape of recorded and published ones. What it shows is that l1kd calls,
watches and reads; not what a real tool does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from l1kd.core import config_file, run_files
from l1kd.core.context import Context
from tests.firmware.networks import copy_of

_SCRIPT = '''#!@PYTHON@
"""A stand-in for @NAME@, which is no tool of any vendor: a test of l1kd wrote it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

name, mode = "@NAME@", os.environ.get("STAND_IN", "")
expected = {
    "vitis-run": ["--mode", "hls", "--tcl", "build_prj.tcl"],
    "vitis_hls": ["-f", "build_prj.tcl"],
    "vivado_hls": ["-f", "build_prj.tcl"],
}[name]
given = sys.argv[1:]
assert given[: len(expected)] == expected, given
assert Path("build_prj.tcl").is_file(), "in the project's directory"
if name == "vivado_hls":
    # As the script does: of every option the first word that ends in its name.
    (text,) = given[len(expected) :]
    options = {}
    for option in ("reset", "csim", "synth", "cosim", "validation", "vsynth"):
        options[option] = re.search(option + "=+(\\\\w+)", text)[1]
else:
    assert len(given) == len(expected), given
    options = dict(re.findall(r"(\\w+) +(\\d)", Path("build_opt.tcl").read_text()))
wanted = [key for key in ("csim", "synth", "cosim", "vsynth") if options[key] == "1"]
project = dict(re.findall(r'^set (\\w+) "?([^"\\n]*)"?$', Path("project.tcl").read_text(), re.M))
top, part, clock = project["project_name"], project["part"], float(project["clock_period"])
solution = Path(top + "_prj", "solution1")
with open(os.environ["STAND_IN_CALLS"], "a") as calls:
    calls.write(" ".join([name, *wanted]) + "\\n")
print(f"****** a stand-in for {name} ******", flush=True)
rows = [line for line in Path("tb_data/outputs.dat").read_text().splitlines() if line[0] != "#"]


def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def verilog():
    if not any((solution / "syn" / "verilog").glob("*.v")):
        print("ERROR: Cannot find generated Verilog files. Did you run C synthesis?")
        sys.exit(1)


if "csim" in wanted:
    print("***** C SIMULATION *****")
    if mode == "csim-wrong":
        write("tb_data/csim_results.log", "\\n".join(["-1", *rows[1:]]) + "\\n")
        print(f"FAILED: {top} differs in 1 of {len(rows)} events")
        print("ERROR: [SIM 211-100] 'csim_design' failed: nonzero return value.")
        sys.exit(1)
    seen = ["-1", *rows[1:]] if mode == "csim-lies" else rows
    write("tb_data/csim_results.log", "\\n".join(seen) + "\\n")
    print(f"PASSED: {top} equals the network in all bits of {len(rows)} events")
if "synth" in wanted:
    print("***** C/RTL SYNTHESIS *****", flush=True)
    if mode == "license":
        print("ERROR: [Common 17-345] A valid license was not found for feature 'Synthesis'")
        sys.exit(1)
    if mode == "quiet":
        sys.exit(0)
    if mode == "hang":
        child = subprocess.Popen(["sleep", "600"])
        write(os.environ["STAND_IN_CALLS"] + ".pids", f"{os.getpid()} {child.pid}")
        print("working ...", flush=True)
        time.sleep(600)
    code = Path("firmware", top + ".cpp").read_text()
    numbers = sorted(set(re.findall(r"config(\\d+)>\\(", code)))
    each = [(f"layer_latency_config{n}_U0", 10 * int(n)) for n in numbers]
    lut = sum(cost for _, cost in each) + 7
    given_part = "xc7z020clg400-1" if mode == "part" else part
    write(solution / "syn" / "verilog" / (top + ".v"), "module x; endmodule")
    write(
        solution / "syn" / "report" / (top + "_csynth.xml"),
        f"""<profile>
<ReportVersion><Version>2023.2</Version></ReportVersion>
<UserAssignments><Part>{given_part}</Part><TopModelName>{top}</TopModelName>
<TargetClockPeriod>{clock:.2f}</TargetClockPeriod></UserAssignments>
<PerformanceEstimates><PipelineType>dataflow</PipelineType>
<SummaryOfTimingAnalysis><EstimatedClockPeriod>3.612</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><Best-caseLatency>9</Best-caseLatency>
<Worst-caseLatency>12</Worst-caseLatency>
<Interval-min>1</Interval-min><Interval-max>3</Interval-max></SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates><Resources><BRAM_18K>2</BRAM_18K><DSP>5</DSP><FF>321</FF><LUT>{lut}</LUT>
<URAM>0</URAM></Resources><AvailableResources><BRAM_18K>5376</BRAM_18K><DSP>12288</DSP>
<FF>3456000</FF><LUT>1728000</LUT><URAM>1280</URAM></AvailableResources></AreaEstimates>
</profile>
""",
    )
    rule = "        +---+---+---+---+---+---+---+---+---+\\n"
    latency = "".join(f"        |{n}  |m  |  2|  4|8 ns|9 ns|  1|  1| none|\\n" for n, _ in each)
    area = "".join(f"    |{n}  |m  |   0|  1|  {c}|  {c}|    0|\\n" for n, c in each)
    write(
        solution / "syn" / "report" / (top + "_csynth.rpt"),
        "== Performance Estimates\\n\\n+ Latency: \\n    + Detail: \\n        * Instance: \\n"
        + rule
        + "        |  |  | Latency (cycles) | Latency (absolute) | Interval | Pipeline |\\n"
        + "        | Instance | Module | min | max | min | max | min | max | Type |\\n"
        + rule + latency + rule
        + "\\n== Utilization Estimates\\n\\n+ Detail: \\n    * Instance: \\n    +---+---+\\n"
        + "    | Instance | Module | BRAM_18K| DSP| FF | LUT| URAM|\\n    +---+---+\\n"
        + area
        + "    +---+---+\\n    |Total  |   |  0|  1|  1|  1|    0|\\n    +---+---+\\n",
    )
if "cosim" in wanted:
    verilog()
    print("***** C/RTL SIMULATION *****")
    status = "Fail" if mode == "cosim-fail" else "Pass"
    write("tb_data/rtl_cosim_results.log", "\\n".join(rows) + "\\n")
    na = "|".join(["       NA"] * 7)
    write(
        solution / "sim" / "report" / (top + "_cosim.rpt"),
        "+---+---+---+\\n|  |  | Latency(Clock Cycles) | Interval(Clock Cycles) | Total |\\n"
        "+ RTL + Status +-----+-----+ Execution +\\n"
        "| | | min | avg | max | min | avg | max | |\\n+---+---+---+\\n"
        f"|      VHDL|        NA|{na}|\\n"
        f"|   Verilog|      {status}|  9|  10|  11|  1|  2|  3| 90|\\n"
        "+---+---+---+\\n",
    )
if "vsynth" in wanted:
    verilog()
    print("***** VIVADO SYNTHESIS *****")
    write(
        "vivado_synth.rpt",
        f"""| Tool Version : Vivado v.2023.2 (lin64) Build 4029153
| Device       : {part}
| Design State : Synthesized
1. CLB Logic
------------
+---+---+---+---+---+---+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+---+---+---+---+---+---+
| CLB LUTs* | 90 | 0 | 0 | 1728000 | 0.01 |
|   LUT as Logic | 80 | 0 | 0 | 1728000 | 0.01 |
| CLB Registers | 70 | 0 | 0 | 3456000 | 0.01 |
+---+---+---+---+---+---+

2. BLOCKRAM
-----------
+---+---+---+---+---+---+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+---+---+---+---+---+---+
| Block RAM Tile | 0.5 | 0 | 0 | 2688 | 0.02 |
| URAM | 0 | 0 | 0 | 1280 | 0.00 |
+---+---+---+---+---+---+

3. ARITHMETIC
-------------
+---+---+---+---+---+---+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+---+---+---+---+---+---+
| DSPs | 4 | 0 | 0 | 12288 | 0.03 |
+---+---+---+---+---+---+
""",
    )
print("done", flush=True)
'''


def stand_in(directory: Path, *names: str) -> dict[str, str]:
    """Write stand-ins for tools of these names, and a `vivado` that does nothing.

    Returns
    -------
    dict
        The environment to run l1kd in: they are first on the PATH, and tell what they were
        called for in `directory/calls`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        script = _SCRIPT.replace("@PYTHON@", sys.executable).replace("@NAME@", name)
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)
    (directory / "vivado").write_text("#!/bin/sh\n")
    (directory / "vivado").chmod(0o755)
    path = f"{directory}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "STAND_IN_CALLS": str(directory / "calls"), "STAND_IN": ""}


def calls(directory: Path) -> list[str]:
    """What the stand-ins were called for."""
    path = directory / "calls"
    return path.read_text().splitlines() if path.exists() else []


def finished_run(run: Context, directory: Path, only: str | None = None) -> Context:
    """A copy of a run with its projects, as the command line opens it.

    With one student `only`, it is the best, and nothing else was converted: every command
    estimates all that was.
    """
    mine = copy_of(run, directory, rtl={"synthesize": "none"})  # of Yosys others speak
    config_file.save(mine.config, directory / "config.yaml")
    manifest = run_files.Manifest(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        versions={},
        git_commit=None,
        seed=7,
        threads=1,
        machine="any",
        data={},
    )
    run_files.write(directory, "manifest.json", manifest)
    if only is not None:
        metrics = run_files.read(directory, "metrics.json")
        run_files.write(directory, "metrics.json", metrics.model_copy(update={"best": only}))
        for name in ("firmware.json", "rtl.json"):
            records = run_files.read(directory, name)
            run_files.write(directory, name, [each for each in records if each.student == only])
    return mine
