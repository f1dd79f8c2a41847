"""The top module of a Verilog project: ports that follow from the types, whatever logic is inside.

Value i of an event lies at bits [i * word +: word] of its port, in the port's type: unsigned or
two's complement, its binary point where the type has it. Inside, alkaid keeps of every value only
the bits that can differ.
"""

from __future__ import annotations

import numpy as np

from l1kd.core.fixed_point import FixedPoint

Kif = tuple[int, int, int]  # sign bits, integer bits without the sign, fraction bits


def wrapper(
    top: str, inside: tuple[list[Kif], list[Kif]], port: FixedPoint, result: FixedPoint
) -> str:
    """Verilog of the module `top` around `<top>_core`, whose inputs and outputs are `inside`."""
    sources, sinks = inside
    lines = _taken("model_inp", "inner_inp", sources, port)
    lines += _given("inner_out", "model_out", sinks, result)
    widths = [sum(map(sum, kifs)) for kifs in inside]
    body = "\n    ".join(lines)
    return f"""`timescale 1 ns / 1 ps

// One event enters per clock cycle. Input i: bits [i * {port.word} +: {port.word}], {_words(port)};
// output i: bits [i * {result.word} +: {result.word}], {_words(result)}.
module {top} (
    input clk,
    /* verilator lint_off UNUSEDSIGNAL */
    input wire [{len(sources) * port.word - 1}:0] model_inp,
    /* verilator lint_on UNUSEDSIGNAL */
    output wire [{len(sinks) * result.word - 1}:0] model_out
);
    wire [{max(widths[0], 1) - 1}:0] inner_inp;
    wire [{max(widths[1], 1) - 1}:0] inner_out;

    {body}

    {top}_core core (.clk(clk), .model_inp(inner_inp), .model_out(inner_out));
endmodule
"""


def _words(kind: FixedPoint) -> str:
    return f"{kind.text.split(',AP')[0].rstrip('>')}>"


def _places(kifs: list[Kif], kind: FixedPoint) -> list[tuple[int, int, int, int, int]]:
    """Each value's sign bits, width, place in the core's port, word's first bit, bits below it."""
    widths = [sum(kif) for kif in kifs]
    starts = np.cumsum([0, *(max(width, 0) for width in widths)]).tolist()
    return [
        (kif[0], width, start, index * kind.word, kind.fraction - kif[2])
        for index, (kif, width, start) in enumerate(zip(kifs, widths, starts, strict=False))
    ]


def _taken(outer: str, inner: str, kifs: list[Kif], kind: FixedPoint) -> list[str]:
    """Bits of a port that the core reads."""
    return [
        f"assign {inner}[{place} +: {width}] = {outer}[{base + below} +: {width}];"
        for _, width, place, base, below in _places(kifs, kind)
        if width > 0
    ]


def _given(inner: str, outer: str, kifs: list[Kif], kind: FixedPoint) -> list[str]:
    """Bits of a port from what the core gives: zeros below, zeros or the sign above."""
    lines = []
    for sign, width, place, base, below in _places(kifs, kind):
        if width <= 0:
            lines.append(f"assign {outer}[{base} +: {kind.word}] = {kind.word}'b0;")
            continue
        start, above = base + below, kind.word - below - width
        if below:
            lines.append(f"assign {outer}[{base} +: {below}] = {below}'b0;")
        lines.append(f"assign {outer}[{start} +: {width}] = {inner}[{place} +: {width}];")
        if above:
            bit = f"{inner}[{place + width - 1}]" if sign else "1'b0"
            filled = f"{{{above}{{{bit}}}}}"
            lines.append(f"assign {outer}[{start + width} +: {above}] = {filled};")
    return lines
