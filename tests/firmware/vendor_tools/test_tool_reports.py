"""Vendors' reports: recorded ones, and what they can be besides."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.firmware.hls.backends import VIVADO
from l1kd.firmware.vendor_tools import tool_reports
from l1kd.firmware.vendor_tools.tool_reports import Folder, number, tables, whole, xml_values

XML = "myproject_prj/solution1/syn/report/myproject_csynth.xml"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The recorded reports as a run of Vivado HLS leaves them."""
    source = Path(os.environ.get("L1KD_DATA", "nowhere"), "hls_reports", "vivado")
    if not source.is_dir():
        pytest.skip("recorded reports are not in the repository: $L1KD_DATA/hls_reports")
    place = (tmp_path / XML).parent
    place.mkdir(parents=True)
    for name in ("myproject_csynth.xml", "myproject_csynth.rpt"):
        (place / name).write_bytes((source / name).read_bytes())
    (tmp_path / "vivado_synth.rpt").write_bytes((source / "vivado_synth.rpt").read_bytes())
    return tmp_path


def test_recorded_reports_are_read_as_numbers(recorded: Path) -> None:
    found = VIVADO.read(Folder(recorded), "myproject")
    assert found.sections == ["csynth", "vsynth"]
    synthesis, netlist = found.csynth, found.vsynth
    assert synthesis is not None and netlist is not None
    assert (synthesis.version, synthesis.part, synthesis.top) == (
        "2020.1",
        "xc7z020-clg400-1",
        "myproject",
    )
    assert (synthesis.target_clock_ns, synthesis.estimated_clock_ns) == (5.0, 4.049)
    assert (synthesis.best_latency, synthesis.worst_latency) == (10, 10)
    assert (synthesis.interval_min, synthesis.interval_max) == (8, 8)
    assert synthesis.used == {"bram": 0, "dsp": 73, "ff": 7969, "lut": 2532, "uram": 0}
    assert synthesis.available == {"bram": 280, "dsp": 220, "ff": 106400, "lut": 53200, "uram": 0}
    dense, relu = synthesis.layers
    assert "dense" in dense.name and "config2" in dense.name and "relu_config3" in relu.name
    assert (dense.lut, dense.ff, dense.dsp, dense.bram, dense.latency_cycles) == (
        2134,
        7860,
        73,
        0,
        7,
    )
    assert (relu.lut, relu.ff, relu.dsp, relu.latency_cycles) == (256, 84, 0, 2)
    assert netlist.used == {"lut": 1526, "ff": 2428, "dsp": 66, "bram": 0}
    assert netlist.available == {"lut": 53200, "ff": 106400, "dsp": 220, "bram": 280}
    assert (netlist.version, netlist.state, netlist.part) == (
        "Vivado v.2020.1",
        "Synthesized",
        "7z020clg400-1",
    )


def test_they_are_what_hls4ml_reads(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own reader's numbers, but for its strings."""
    from hls4ml.report import parse_vivado_report

    source = Path(os.environ["L1KD_DATA"], "hls_reports", "vivado")
    app = recorded / "myproject_prj" / "vivado_hls.app"
    app.write_bytes((source / "vivado_hls.app").read_bytes())
    (recorded / "project.tcl").write_text('set project_name "myproject"\nset backend "vivado"\n')
    theirs = parse_vivado_report(str(recorded))
    found = VIVADO.read(Folder(recorded), "myproject")
    synthesis, netlist = found.csynth, found.vsynth
    assert synthesis is not None and netlist is not None
    expected = theirs["CSynthesisReport"]
    assert synthesis.worst_latency == int(expected["WorstLatency"])
    assert synthesis.interval_max == int(expected["IntervalMax"])
    assert synthesis.estimated_clock_ns == float(expected["EstimatedClockPeriod"])
    for ours, name in {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM_18K"}.items():
        assert synthesis.used[ours] == float(expected[name])
        assert synthesis.available[ours] == float(expected[f"Available{name}"])
    assert netlist.used["dsp"] == float(theirs["VivadoSynthReport"]["DSP48E"])
    assert netlist.used["lut"] == float(theirs["VivadoSynthReport"]["LUT"])


@pytest.mark.parametrize("end", [1, 400, 1500])
def test_a_report_that_ends_early_is_refused(recorded: Path, end: int) -> None:
    path = recorded / XML
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match="damaged"):
        VIVADO.read(Folder(recorded), "myproject")


def test_no_number_is_refused_and_none_known_is_none(recorded: Path) -> None:
    path = recorded / XML
    text = path.read_text()
    path.write_text(text.replace("<LUT>2532</LUT>", "<LUT>many</LUT>"))
    with pytest.raises(UserError, match=r"LUT is 'many'"):
        VIVADO.read(Folder(recorded), "myproject")
    unknown = text.replace(">10</Worst-caseLatency>", ">undef</Worst-caseLatency>")
    path.write_text(unknown.replace("<LUT>2532</LUT>", "<LUT>-</LUT>"))
    found = VIVADO.read(Folder(recorded), "myproject").csynth
    assert found is not None
    assert found.worst_latency is None and found.best_latency == 10 and "lut" not in found.used


def test_numbers_are_numbers() -> None:
    assert number("26326(2.23%)", "x") == 26326 and number(" 0.5 ", "x") == 0.5
    assert [number(text, "x") for text in (None, "", "-", "NA", "?", "undef")] == [None] * 6
    assert number("-0.3", "x", signed=True) == -0.3 and whole("12", "x") == 12
    for bad in ("nan", "1e400", "-1", "9e99", "0x10", "1 2", "<b>"):
        with pytest.raises(UserError, match="no number"):
            number(bad, "x")
    with pytest.raises(UserError, match="no count"):
        whole("1.5", "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><profile>&x;</profile>', "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><profile/>', "document type"),
        ("<a>" * 100 + "</a>" * 100, "deeper"),
        (f"<a>{'<b/>' * 500_000}</a>", "longer"),
        (f"<a {'b= ' * 500_000}/>", "longer"),
        (f"<{'a' * 300}/>", "longer"),
        ("<profile>&x;</profile>", "damaged"),
        ("", "damaged"),
        ("not XML", "damaged"),
    ],
)
def test_xml_that_no_tool_writes_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        xml_values(text.encode(), "it")


def test_a_long_attribute_and_a_long_head_take_no_time() -> None:
    """Linear, where a reader in pieces and a regular expression were quadratic."""
    assert xml_values(b'<a><b c="' + b"x" * (8 << 20) + b'">1</b></a>', "it") == {"b": "1"}
    head = "word " * 16_000
    (table,) = tables(f"+---+\n| {head} |\n+---+\n| 1 | 2 |\n+---+\n")
    assert table.rows == [["1", "2"]]
    assert list(tables("1.1" * 16_000)) == []


def test_xml_in_another_encoding_is_refused() -> None:
    with pytest.raises(UserError, match="UTF-8"):
        xml_values("<a>é</a>".encode("utf-16"), "it")


def test_links_and_other_files_are_not_there(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "vivado_synth.rpt").write_text("secret")
    inside = tmp_path / "project"
    inside.mkdir()
    (inside / "vivado_synth.rpt").symlink_to(outside / "vivado_synth.rpt")
    (inside / "there").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    (inside / "directory").mkdir()
    folder = Folder(inside)
    for parts in ("vivado_synth.rpt", "there/vivado_synth.rpt", "pipe", "directory", "none"):
        assert folder.data(parts) is None, parts
    assert folder.data("../outside/vivado_synth.rpt") is None
    assert folder.data(str(outside / "vivado_synth.rpt")) is None
    assert set(folder.links) == {"vivado_synth.rpt", "there"}
    assert [each.root.name for each in folder.folders()] == ["directory"]
    (inside / "large").touch()
    os.truncate(inside / "large", 65 << 20)
    with pytest.raises(UserError, match="more than the 33554432 that"):
        folder.data("large")


COSIM = """
+----------+----------+-----------------------------------------------+----------------------+
|          |          |             Latency(Clock Cycles)             |              Interval |
+   RTL    +  Status  +-----------------------------------------------+    (Clock Cycles)    +
|          |          |  min |  avg |  max |  min |  avg |  max |                      |
+----------+----------+------+------+------+------+------+------+----------------------+
|      VHDL|        NA|    NA|    NA|    NA|    NA|    NA|    NA|                    NA|
|   Verilog|      Pass|    10|    11|    14|    NA|    NA|    NA|                   320|
+----------+----------+------+------+------+------+------+------+----------------------+
"""


def test_a_cosimulation_is_read_and_its_transactions(tmp_path: Path) -> None:
    solution = tmp_path / "top_prj" / "solution1" / "sim"
    (solution / "report").mkdir(parents=True)
    (solution / "report" / "top_cosim.rpt").write_text(COSIM)
    found = VIVADO.read(Folder(tmp_path), "top").cosim
    assert found is not None and found.passed
    assert (found.latency_min, found.latency_avg, found.latency_max) == (10, 11, 14)
    assert found.interval_max is None
    (solution / "verilog").mkdir()
    name = "top.performance.result.transaction.xml"
    (solution / "verilog" / name).write_text(
        "transaction        0:   10    x\ntransaction   1:  16   8\ntransaction   2:  10   6\n"
    )
    found = VIVADO.read(Folder(tmp_path), "top").cosim
    assert found is not None
    assert (found.latency_min, found.latency_avg, found.latency_max) == (10, 12, 16)
    assert (found.interval_min, found.interval_avg, found.interval_max) == (6, 7, 8)
    assert tool_reports.cosim(COSIM.replace("Pass", "NA"), "x") is None


RULE = "+------+-------+------+------+------+------+------+------+------+------+------+"
UTILIZATION = f"""| Tool Version : Vivado v.2022.2 (lin64) Build 1
| Design State : Routed
{RULE}
| Instance | Module | Total LUTs | Logic LUTs | LUTRAMs | SRLs | FFs | RAMB36 | RAMB18 | URAM | DSP Blocks |
{RULE}
| top | (top) | 1000(2.5%) | 900(2.0%) | 60(1.0%) | 40(1.0%) | 3000(4.0%) | 3(1.0%) | 1(0.5%) | 0(0.0%) | 7(<0.01%) |
|   (top) | (top) | 1(0.1%) | 1(0.1%) | 0(0.0%) | 0(0.0%) | 0(0.0%) | 0(0.0%) | 0(0.0%) | 0(0.0%) | 0(0.0%) |
{RULE}
"""  # noqa: E501
TIMING = """
    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------
     -0.250       -3.100                     12                 9000        0.020        0.000                      0                 9000        1.858        0.000                       0                  3000
"""  # noqa: E501


def test_an_implementation_and_its_timing_are_read(tmp_path: Path) -> None:
    """Of the design's two rows of one module the first is the whole; hls4ml takes the last."""
    (tmp_path / "util.rpt").write_text(UTILIZATION)
    (tmp_path / "timing.rpt").write_text(TIMING)
    found = VIVADO.read(Folder(tmp_path), "top")
    placed, slack = found.implementation, found.timing
    assert placed is not None and slack is not None
    assert (placed.used["lut"], placed.used["ff"], placed.used["dsp"]) == (1000, 3000, 7)
    assert placed.used["bram"] == 7  # halves: three whole ones and one
    assert (placed.share["lut"], placed.share["dsp"]) == (0.025, 0.0001)
    assert (slack.wns, slack.tns, slack.whs, slack.ths) == (-0.25, -3.1, 0.02, 0)
    assert (slack.wpws, slack.tpws) == (1.858, 0)
    for name, text in {"timing": "WNS(ns)", "util": UTILIZATION.replace("(top)", "x")}.items():
        (tmp_path / f"{name}.rpt").write_text(text)
        with pytest.raises(UserError, match=f"{name}.rpt has no"):
            VIVADO.read(Folder(tmp_path), "top")


def test_the_simulations_logs_are_held_against_the_network(tmp_path: Path) -> None:
    expected = np.array([[1, 2], [3, -4], [5, 6]])
    (tmp_path / "tb_data").mkdir()
    log = tmp_path / "tb_data" / "csim_results.log"
    log.write_text("1 2\n3 -4\n5 6\n")
    (tmp_path / "tb_data" / "rtl_cosim_results.log").write_text("1 2\n3 -4\n5 6\n")
    found = VIVADO.read(Folder(tmp_path), "top", expected)
    assert found.csim_results is not None and found.csim_results.mismatches == 0
    assert found.cosim_results is None  # without a report that it passed, it may be C's
    log.write_text("1 2\n3 4\n5 6\n")
    found = VIVADO.read(Folder(tmp_path), "top", expected)
    assert found.csim_results is not None
    assert (found.csim_results.events, found.csim_results.mismatches) == (3, 1)
    log.write_text("1 2\n")
    assert VIVADO.read(Folder(tmp_path), "top", expected).csim_results is None


def test_tables_of_any_text_are_none_or_tables() -> None:
    assert list(tables("")) == list(tables("| a | b |\nno rules\n")) == []
    (table,) = tables("== Part x\n* Name: \n+--+--+\n|  A | B* |\n+--+--+\n| 1 | 2 |\n+--+--+\n")
    assert (table.heading, table.columns, table.rows) == (
        ("Part x", "Name"),
        ["A", "B*"],
        [["1", "2"]],
    )


def test_xml_is_read_in_linear_time() -> None:
    """A long attribute, which a reader in pieces reads again for each piece; many elements."""
    assert xml_values(b'<a><b c="' + b"x" * (30 << 20) + b'">1</b></a>', "it") == {"b": "1"}
    with pytest.raises(UserError, match="longer than any report"):
        xml_values(b"<a>" + b"<b/>" * (8 << 20) + b"</a>", "it")
    assert xml_values(b"<a>" + b"<b>2</b>" * 99_999 + b"<c> 3 </c></a>", "it") == {
        "b": "2",
        "c": "3",
    }
    head = "| " + "Word " * 16_000 + "\n" + "| Device       : xc7z020\n"
    assert tool_reports.implementation(head + UTILIZATION, "it").part == "xc7z020"


def test_text_reports_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "util.rpt").touch()
    os.truncate(tmp_path / "util.rpt", 9 << 20)
    with pytest.raises(UserError, match="more than the 8388608 that"):
        VIVADO.read(Folder(tmp_path), "top")
