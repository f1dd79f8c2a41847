"""Toggles: counted by hand, and as a simulator's VCD has them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from l1kd.core.errors import CheckFailed
from l1kd.firmware.certificate.cpp_reader import Unreadable
from l1kd.firmware.certificate.symbolic import Space, Unproved, Value
from l1kd.firmware.certificate.verilog_reader import Wire, read_module
from l1kd.firmware.verilog import alkaid_convert
from l1kd.firmware.verilog.project import Logic, open_logic
from l1kd.firmware.verilog.simulate import ICARUS
from l1kd.firmware.verilog.toggles import Evaluation, count_toggles, evaluate
from tests.benchmarks.bench_verilog_mutations import small
from tests.firmware.random_networks import events_for

MODULE = """`timescale 1 ns / 1 ps

module m_logic0 (
    input [3:0] model_inp,
    output [3:0] model_out
);

    // verilator lint_off UNUSEDSIGNAL
    // Explicit quantization operation will drop bits if exists

{lines}

    // verilator lint_on UNUSEDSIGNAL

    assign model_out[{high}:0] = v{last}[{high}:0];

endmodule
"""
PORTS = (
    "    wire [1:0] v0; assign v0[1:0] = model_inp[1:0];\n"
    "    wire [1:0] v1; assign v1[1:0] = model_inp[3:2];\n"
)


def counted(line: str, high: int, one: list[int], other: list[int]) -> Evaluation:
    """What toggles in a stage of two 2-bit inputs and one more line that drives `v2`."""
    text = MODULE.format(lines=PORTS + line, high=high, last=2)
    text = text.replace("output [3:0]", f"output [{high}:0]")
    found = Evaluation()
    values = [found.wrapped(found.events(each, 0, 3), 2, False) for each in (one, other)]
    inputs = {(2 * place, 2): Wire(cast(Value, value), 2) for place, value in enumerate(values)}
    read_module(cast(Space, found), "m.v", text, "m", 0, inputs)
    return found


def test_an_adder_counted_by_hand() -> None:
    # 0 + 0, 1 + 1, 3 + 1, 3 + 1: 000 -> 010 -> 100 -> 100
    line = "    wire [2:0] v2; m_shift_adder #(2,2,0,0,3,0,0,0) op_2 (v0[1:0],v1[1:0],v2[2:0]);"
    found = counted(line, 2, [0, 1, 3, 3], [0, 1, 1, 1])
    assert (found.nets, found.net_toggles) == (3, 1 + 2)
    # v0: 00 -> 01 -> 11; v1: 00 -> 01: the adder's result is in the registers behind the stage.
    assert (found.register_bits, found.register_toggles) == (4, 2 + 1)
    found.count_registers(found.last)
    assert (found.register_bits, found.register_toggles) == (4 + 3, 2 + 1 + 3)


def test_wiring_is_no_net_and_an_inverter_is_one() -> None:
    events = [0, 2, 3], [0, 0, 0]
    sliced = counted("    wire [0:0] v2; assign v2[0:0] = v0[1:1];", 0, *events)
    assert (sliced.nets, sliced.net_toggles) == (0, 0)
    inverted = counted("    wire [1:0] v2; assign v2[1:0] = ~v0;", 1, *events)
    assert (inverted.nets, inverted.net_toggles) == (2, 2)


def test_values_beyond_int64_are_refused() -> None:
    space = Evaluation()
    with pytest.raises(Unproved, match="62 bits"):
        space.linear([(1 << 40, space.events([1], 0, 1 << 30))])


def vcd_toggles(lines: Iterable[str], start: int) -> dict[tuple[str, str], int]:
    """Bits that change after a time, by scope and name; line by line, whatever its length."""
    names: dict[str, list[tuple[str, str]]] = {}
    values: dict[str, str] = {}
    counts: dict[str, int] = {}
    scope: list[str] = []
    now = 0
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] == "$scope":
            scope.append(words[2])
        elif words[0] == "$upscope":
            scope.pop()
        elif words[0] == "$var":
            names.setdefault(words[3], []).append((scope[-1], words[4]))
        elif words[0].startswith("#"):
            now = int(words[0][1:])
        elif words[0][0] in "01xb":
            new, code = (words[0][1:], words[1]) if words[0][0] == "b" else (line[0], line[1:])
            code, old = code.strip(), values.get(code.strip(), "0")
            width = max(len(new), len(old))
            values[code] = new
            if now > start:
                pairs = zip(old.zfill(width), new.zfill(width), strict=True)
                counts[code] = counts.get(code, 0) + sum(a != b for a, b in pairs)
    return {each: counts.get(code, 0) for code, all_ in names.items() for each in all_}


def test_the_vcd_of_a_simulator_counted_by_hand() -> None:
    written = """$timescale 1ps $end
$scope module top $end
$var wire 3 ! v2 [2:0] $end
$var wire 1 " v3 $end
$upscope $end
$enddefinitions $end
#0
b0 !
x"
#10
b10 !
0"
#20
b100 !
1"
#30
b101 !
"""
    # After 10: 010 -> 100 -> 101, and 0 -> 1.
    assert vcd_toggles(written.splitlines(), 10) == {("top", "v2"): 3, ("top", "v3"): 1}


BENCH = """`timescale 1 ns / 1 ps
module bench;
    reg clk = 0;
    reg [{bits}:0] value;
    wire [{out}:0] shown;
    reg [{bits}:0] events [0:{last}];
    integer place;
    {top} dut (.clk(clk), .model_inp(value), .model_out(shown));
    initial begin
        $readmemh("events.hex", events);
        $dumpfile("toggles.vcd");
        $dumpvars(0, dut);
        for (place = 0; place <= {last}; place = place + 1) begin
            value = events[place];
            #1 clk = 1;
            #1 clk = 0;
        end
        $finish(0);
    end
endmodule
"""


@pytest.fixture(scope="module")
def logic(tmp_path_factory: pytest.TempPathFactory) -> Logic:
    """A convolution with a pool behind it: adders and choices. Read only."""
    return alkaid_convert.to_verilog(small("pool"), tmp_path_factory.mktemp("rtl") / "p")


def simulated(logic: Logic, events: Any, place: Path) -> tuple[int, int]:
    """Toggles of nets and registers in Icarus Verilog's VCD of a stream of events."""
    word, hold = logic.input_type.word, logic.latency + 2
    counts = logic.counts(events).astype(object) % (1 << word)
    numbers = [sum(int(each) << (word * i) for i, each in enumerate(row)) for row in counts]
    stream = [numbers[0]] * hold + numbers[1:] + [numbers[-1]] * hold
    (place / "events.hex").write_text("\n".join(f"{number:x}" for number in stream))
    text = BENCH.format(
        bits=word * counts.shape[1] - 1,
        out=logic.output_type.word - 1,
        last=len(stream) - 1,
        top=logic.record.top,
    )
    (place / "bench.v").write_text(text)
    sources = [str(path) for path in logic.sources]
    for command in (["iverilog", "-g2005", "-o", "p", "bench.v", *sources], ["vvp", "-n", "p"]):
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=120)
    with (place / "toggles.vcd").open() as lines:
        found = vcd_toggles(lines, 2000 * hold)  # ps: the first event has gone through by then
    driven = set()
    for path in logic.sources:
        if number := re.search(r"_(logic\d+)\.v$", path.name):
            for line in path.read_text().splitlines():
                wire = re.match(r"    wire \[\d+:0\] (v\d+); (.*)", line)
                if wire and re.search(r"#\(|[~&|]", wire[2]):
                    driven.add((f"_inst_{number[1]}", wire[1]))
    registers = [("core", name) for name in ("model_inp_reg", "model_out")]
    registers += [each for each in found if re.fullmatch(r"stage\d+_inp", each[1])]
    return sum(found[each] for each in driven), sum(found[each] for each in registers)


@pytest.mark.skipif(ICARUS.find() is None, reason="no Icarus Verilog here; see README")
def test_they_are_those_of_a_simulators_vcd(logic: Logic, tmp_path: Path) -> None:
    events = events_for(logic.network.port, (6, 8, 1), 40, seed=2)
    found = count_toggles(logic, events)
    nets, registers = simulated(logic, events, tmp_path)
    assert nets > 1000 and registers > 500
    assert (found.net_toggles * 39, found.register_toggles * 39) == pytest.approx((nets, registers))


def test_the_text_is_evaluated_as_the_network_is(logic: Logic) -> None:
    events = events_for(logic.network.port, (6, 8, 1), 500, seed=3)
    outputs, _ = evaluate(logic, events)
    assert np.array_equal(outputs, logic.network.predict(events))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (r",0\) (op_\d+ \(v0\[)", r",1) \1", CheckFailed),  # a sum into a difference
        (r"shift_adder", "magic_adder", Unreadable),
    ],
)
def test_nothing_is_said_of_other_verilog(
    logic: Logic, tmp_path: Path, old: str, new: str, error: type[Exception]
) -> None:
    shutil.copytree(logic.directory, tmp_path / "p")
    path = tmp_path / "p" / "src" / f"{logic.record.top}_logic0.v"
    text = path.read_text()
    path.write_text(re.sub(old, new, text, count=1))
    assert path.read_text() != text
    events = events_for(logic.network.port, (6, 8, 1), 200, seed=4)
    with pytest.raises(error):
        count_toggles(open_logic(tmp_path / "p"), events)
