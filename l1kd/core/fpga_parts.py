"""Resources of FPGAs that triggers use, to say "2.1 % of a VU13P", from AMD's product tables.

One DSP is a DSP48 slice, a block RAM has 18 kbit (a block of 36 kbit is two), a URAM 288 kbit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["7 series", "UltraScale", "UltraScale+"]


@dataclass(frozen=True)
class Part:
    """A device, of any package and speed grade."""

    name: str  # as full part names begin, in lower case
    short: str  # as people say it
    family: Family
    lut: int
    ff: int
    dsp: int
    bram: int
    uram: int
    source: str  # the table


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("xc7vx690t", "VX690T", "7 series", 433_200, 866_400, 3_600, 2_940, 0, "DS180"),
        Part("xc7z020", "Zynq 7020", "7 series", 53_200, 106_400, 220, 280, 0, "DS190"),
        Part("xcku115", "KU115", "UltraScale", 663_360, 1_326_720, 5_520, 4_320, 0, "DS890"),
        Part("xcvu9p", "VU9P", "UltraScale+", 1_182_240, 2_364_480, 6_840, 4_320, 960, "DS890"),
        Part(
            "xcvu13p", "VU13P", "UltraScale+", 1_728_000, 3_456_000, 12_288, 5_376, 1_280, "DS890"
        ),
    )
}
# Families of devices that are not in `PARTS`, by their names. Alveo cards carry UltraScale+.
_FAMILIES: tuple[tuple[str, Family], ...] = (
    (r"xc7[akvsz]", "7 series"),
    (r"xc(zu|au)\d|xc[kv]u\d+p|xcu\d", "UltraScale+"),
    (r"xc[kv]u\d", "UltraScale"),
)


def part(name: str) -> Part | None:
    """The device of a full part name such as `xc7vx690tffg1927-2`; None if it is not in `PARTS`."""
    return next((each for prefix, each in PARTS.items() if name.lower().startswith(prefix)), None)


def family(name: str) -> Family | None:
    """The family of a part's logic cells; None if its name does not say."""
    return next((kind for pattern, kind in _FAMILIES if re.match(pattern, name.lower())), None)


def share(name: str, has: Any = None, **counts: float | None) -> dict[str, float]:
    """Known fractions of a part that counts of `lut`, `ff`, `dsp`, `bram` and `uram` take.

    `has` are the resources of a part that is not in `PARTS`, by the same names.
    """
    if (device := has or part(name)) is None:
        return {}
    known = {what: count for what, count in counts.items() if count is not None}
    return {what: count / all_ for what, count in known.items() if (all_ := getattr(device, what))}
