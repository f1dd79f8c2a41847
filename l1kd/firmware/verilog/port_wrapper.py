"""The outside of a Verilog design: ports in words, top module, files for who builds it in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l1kd.core.fixed_point import FixedPoint
from l1kd.core.run_files import RtlRecord
from l1kd.firmware.hls.testbench import template

Kif = tuple[int, int, int]  # sign bits, integer bits without the sign, fraction bits
INPUTS, OUTPUTS = "test/inputs.hex", "test/outputs.hex"
_RESETS = 3  # of the test bench


@dataclass(frozen=True)
class Interface:
    """Ports and latency of a design."""

    top: str
    shape: tuple[int, ...]  # of an event
    port: FixedPoint
    outputs: int
    result: FixedPoint
    latency: int  # clock edges from the one that samples an event to its result

    @property
    def inputs(self) -> int:
        """Elements of an event."""
        return math.prod(self.shape)

    @property
    def input_bits(self) -> int:
        """Width of the input port."""
        return self.inputs * self.port.word

    @property
    def output_bits(self) -> int:
        """Width of the output port."""
        return self.outputs * self.result.word

    @property
    def values(self) -> dict[str, object]:
        """Values of the templates' keys."""
        return {
            "top": self.top,
            "latency": self.latency,
            "later": self.latency + 1,
            "edges": _count(self.latency, "clock edge"),
            "order": _order(self.shape),
            "inputs": _count(self.inputs, "element"),
            "input_bits": self.input_bits,
            "input_word": self.port.word,
            "input_kind": _in_words(self.port),
            "input_type": _plain(self.port),
            "outputs": _count(self.outputs, "element"),
            "output_bits": self.output_bits,
            "output_word": self.result.word,
            "output_kind": _in_words(self.result),
            "output_type": _plain(self.result),
        }


def _plain(kind: FixedPoint) -> str:
    """The type without rounding and overflow: what a port holds."""
    return f"{kind.text.split(',AP')[0].rstrip('>')}>"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _in_words(kind: FixedPoint) -> str:
    sign = "two's complement, the sign one of its" if kind.signed else "unsigned,"
    split = f"{sign} {kind.integer} integer bits, {kind.fraction} fraction bits"
    scale = f" times 2^{-kind.fraction}" if kind.fraction else ""
    return f"{kind.word} bits, {split}; its value is that integer{scale}"


def _order(shape: tuple[int, ...]) -> str:
    """The place of a value of an event among its elements, in words."""
    if len(shape) < 2:
        return "Element i is value i of an event"
    names = [f"i{axis}" for axis in range(len(shape))]
    place = names[0]
    for size, name in zip(shape[1:], names[1:], strict=True):
        place = f"{f'({place})' if ' ' in place else place} * {size} + {name}"
    sides = " x ".join(map(str, shape))
    return f"An event is {sides}, the last index fastest: ({', '.join(names)}) is element {place}"


def wrapper_text(outside: Interface, sources: list[Kif], sinks: list[Kif]) -> str:
    """Verilog of the top module around `<top>_core`, which has only the bits that can differ."""
    port, result = outside.port, outside.result
    lines, taken, given = [], 0, 0
    for index, (sign, integer, fraction) in enumerate(sources):
        width, start = sign + integer + fraction, index * port.word + port.fraction - fraction
        if width > 0:
            lines.append(f"assign inner_inp[{taken} +: {width}] = model_inp[{start} +: {width}];")
            taken += width
    for index, (sign, integer, fraction) in enumerate(sinks):
        width, base = max(sign + integer + fraction, 0), index * result.word
        below = result.fraction - fraction if width else result.word  # zeros
        above = result.word - below - width  # zeros, or the sign
        filling = f"inner_out[{given + width - 1}]" if sign else "1'b0"
        for start, bits, value in (
            (base, below, f"{below}'b0"),
            (base + below, width, f"inner_out[{given} +: {width}]"),
            (base + below + width, above, f"{{{above}{{{filling}}}}}"),
        ):
            if bits:
                lines.append(f"assign model_out[{start} +: {bits}] = {value};")
        given += width
    inner = {"inner_input_bits": max(taken, 1), "inner_output_bits": max(given, 1)}
    wires = "\n    ".join(lines)
    return template("verilog_top.v", **outside.values, **inner, wires=wires)


def _last_word(line: str) -> str:
    return line.split()[-1]


def core_text(top: str, bits: list[int]) -> str:
    """Verilog of the pipeline: registers before, between and behind stages.

    `bits` are those of the input port and of every stage's output.
    """
    stages = range(len(bits) - 1)
    held = ["model_inp_reg", *(f"stage{stage}_inp" for stage in stages[1:]), "model_out"]
    wires, instances, reads = [], [], []
    sources = ["model_inp", *(f"INTERNAL_logic{stage}_outp" for stage in stages)]
    fills = [
        f"{register}[{width - 1}:0] <= {source}[{width - 1}:0];" if width else ""
        for register, source, width in zip(held, sources, bits, strict=True)
    ]
    for stage in stages:
        name, first, last = f"logic{stage}", bits[stage] - 1, bits[stage + 1] - 1
        inside, outside = f"INTERNAL_{name}_inp", sources[stage + 1]
        wires += [f"wire [{first}:0] {inside};", f"wire [{last}:0] {outside};"]
        ports = f".model_inp({inside}), .model_out({outside})"
        instances.append(f"{top}_{name} _inst_{name} ({ports});")
        reads.append(
            f"assign {inside}[{first}:0] = {held[stage]}[{first}:0];" if first >= 0 else ""
        )
    registers = [f"reg [{n - 1}:0] {each};" for n, each in zip(bits, held[:-1], strict=False)]
    # alkaid declares by names: 10 stands before 2.
    declared = [*sorted(wires, key=_last_word), *sorted(registers, key=_last_word)]
    body = "\n    ".join([*declared, "", *instances, "", *reads])
    filled = "\n        ".join(fills)
    return f"""`timescale 1 ns / 1 ps

module {top}_core (
    input clk,
    input wire [{bits[0] - 1}:0] model_inp,
    output reg [{bits[-1] - 1}:0] model_out
);

    {body}

    always @(posedge clk) begin
            {filled}
        end

endmodule
"""


def texts(
    outside: Interface, record: RtlRecord, inputs: NDArray[np.int64], outputs: NDArray[np.int64]
) -> dict[str, str]:
    """Test bench, vectors (N, values) in LSBs, constraints and README, by path."""
    top, amd = outside.top, record.part.startswith("xc")
    values: dict[str, object] = {
        **outside.values,
        "part": record.part,
        "clock": f"{record.clock_ns:g}",
        "latency_ns": f"{outside.latency * record.clock_ns:g}",
        "events": len(inputs),
        "resets": _RESETS,
        "constraints": f"`{top}.{'xdc' if amd else 'sdc'}` constrains the clock"
        + (", `vivado.tcl` synthesises the module out of context." if amd else "."),
    }
    files = {"Makefile": "verilog.mk", "README.md": "verilog.md", "NOTICE": "rtl_notice"}
    files |= {f"test/{top}_test.v": "verilog_test.v"}
    # AMD's parts are Vivado's; another vendor's tool reads the same constraint as SDC.
    files |= {f"{top}.xdc": "verilog.xdc", "vivado.tcl": "verilog.tcl"} if amd else {}
    files |= {} if amd else {f"{top}.sdc": "verilog.xdc"}
    made = {path: template(name, **values) for path, name in files.items()}
    made[INPUTS] = hex_text(inputs, outside.port)
    return made | {OUTPUTS: hex_text(outputs, outside.result)}


def packed(counts: NDArray[np.int64], kind: FixedPoint) -> NDArray[np.uint8]:
    """Words (N, values) as a port's bits, (N, bytes), element 0 lowest."""
    shifts = np.arange(kind.word, dtype=np.int64)
    single = ((counts[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(counts), -1)
    return np.packbits(single, axis=1, bitorder="little")


def unpacked(bits: NDArray[np.uint8], kind: FixedPoint, values: int) -> NDArray[np.int64]:
    """The words (N, values) in a port's bits, (N, bytes or more)."""
    single = np.unpackbits(bits, axis=1, bitorder="little")[:, : values * kind.word]
    weights = np.left_shift(np.int64(1), np.arange(kind.word, dtype=np.int64))
    if kind.signed:
        weights[-1] = -weights[-1]
    return single.reshape(len(bits), values, kind.word).astype(np.int64) @ weights


def hex_text(counts: NDArray[np.int64], kind: FixedPoint) -> str:
    """Events (N, values) as `$readmemh` reads them."""
    digits = -(-counts.shape[1] * kind.word // 4)
    return "".join(f"{row[::-1].tobytes().hex()[-digits:]}\n" for row in packed(counts, kind))


def parse_hex(text: str, kind: FixedPoint, values: int) -> NDArray[np.int64]:
    """The words (N, values) in a text of `hex_text`; ValueError if it is none."""
    size = -(-values * kind.word // 8)
    rows = [int(line, 16).to_bytes(size, "little") for line in text.splitlines()]
    return unpacked(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, size), kind, values)
