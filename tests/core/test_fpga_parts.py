"""What the common parts have, and which fraction of them a design takes."""

from __future__ import annotations

import pytest

from l1kd.core.fpga_parts import PARTS, family, part, share


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("xcvu13p-flga2577-2-e", "xcvu13p"),
        ("XCVU13P-FLGA2577-2-E", "xcvu13p"),
        ("xc7vx690tffg1927-2", "xc7vx690t"),
        ("xcvu9p-flgb2104-2-e", "xcvu9p"),
        ("xcku115-flvb2104-2-i", "xcku115"),
        ("xc7z020clg400-1", "xc7z020"),
        ("xcvu9", None),
        ("xcvu11p-flga2577-2-e", None),
        ("", None),
    ],
)
def test_a_part_is_found_by_its_full_name(name: str, found: str | None) -> None:
    device = part(name)
    assert (device and device.name) == found


def test_the_table_holds_together() -> None:
    """Slices of these families have two flip-flops per LUT; the counts are the vendor's."""
    for name, device in PARTS.items():
        assert name == device.name
        assert device.ff == 2 * device.lut
        assert family(name) == device.family
        assert (device.uram > 0) == (device.family == "UltraScale+")
    # 7 series: eight LUTs per CLB of two slices; hls4ml's recorded report of an xc7z020
    zynq = PARTS["xc7z020"]
    assert (zynq.lut, zynq.ff, zynq.dsp, zynq.bram) == (53_200, 106_400, 220, 280)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("xc7k325tffg900-2", "7 series"),
        ("xcku040-ffva1156-2-e", "UltraScale"),
        ("xcvu440-flga2892-2-e", "UltraScale"),
        ("xcku15p-ffve1517-2-e", "UltraScale+"),
        ("xcvu440p", "UltraScale+"),
        ("xczu9eg-ffvb1156-2-e", "UltraScale+"),
        ("xcu250-figd2104-2L-e", "UltraScale+"),
        ("xcvc1902-vsva2197-2MP-e-S", None),
        ("xc6vlx240t", None),
        ("5sgxea7", None),
    ],
)
def test_a_name_tells_the_family(name: str, kind: str | None) -> None:
    assert family(name) == kind


def test_shares_are_of_what_is_known() -> None:
    found = share("xcvu13p-flga2577-2-e", lut=36_288, ff=None, dsp=0, bram=2_688.0)
    assert found == {"lut": pytest.approx(0.021), "dsp": 0.0, "bram": 0.5}
    assert share("xc7z020clg400-1", lut=53_200, uram=3) == {"lut": 1.0}, "it has no URAM"
    assert share("xcvu11p", lut=1) == {}
