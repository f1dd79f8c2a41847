"""Layers where float32 arithmetic, which is QKeras', can differ from the exact values.

A float32 holds 24 bits. Sums of more can round on the way; and QKeras writes a quantizer as
`x + (q(x) - x)`, which is `q(x)` only if the difference is exact too.
"""

from __future__ import annotations

from l1kd.exact.bounds import Bound
from l1kd.exact.layers import Quantize
from l1kd.exact.network import Network

SIGNIFICAND = 24


def beyond_float32(network: Network) -> dict[str, str]:
    """Layers whose values a float32 computation may not have exactly, each with the reason."""
    found = {}
    for node in network.nodes:
        reason, bits = "its sums need", network.bounds[node.name].bits
        if bits <= SIGNIFICAND and isinstance(node, Quantize):
            reason = "the difference of its value and its quantized value needs"
            bits = _difference_bits(node, network.bounds[node.sources[0]])
        if bits > SIGNIFICAND:
            found[node.name] = f"{reason} {bits} bits, a float32 holds {SIGNIFICAND}"
    return found


def _difference_bits(node: Quantize, source: Bound) -> int:
    """Bits of `q(x) - x`, and of `x / 2 + 1 / 2` in a hard sigmoid."""
    if node.halved:
        return source.bits + 2
    if not node.type.signed:
        return 0  # a quantized ReLU is given its range's part of x: the rest is less than one step
    fraction = max(source.fraction, node.type.fraction)
    below, above = (count << (fraction - node.type.fraction) for count in node.type.bounds)
    left = fraction - source.fraction
    furthest = max(0, below - (source.lowest << left), (source.highest << left) - above)
    return furthest.bit_length()
