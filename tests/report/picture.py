"""The README's picture of a page: `python -m tests.report.picture RUN` makes docs/report.png."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import l1kd.report
from tests.report.browser import browser

PICTURE = Path(__file__).parents[2] / "docs" / "report.png"
_TEMPLATE = Path(l1kd.report.__file__).parent / "templates" / "report.html.j2"
_KEY, _WIDTH = "l1kd sections", 1280


def sections() -> str:
    """Names of the page's sections, in their order."""
    return " ".join(re.findall(r'<section id="(\w+)"', _TEMPLATE.read_text(encoding="utf-8")))


def sections_of(picture: Path) -> str:
    """Names of the sections that a picture's page had."""
    with Image.open(picture) as image:
        return str(image.info.get(_KEY, ""))


def make(run: Path, out: Path) -> None:
    """Take a picture of the top of a run's page; it knows the sections below."""
    page = run / "report.html"
    with browser() as tab:
        tab.open(page, _WIDTH)
        had = tab.run("[...document.querySelectorAll('section')].map(each => each.id).join(' ')")
        known = PngInfo()
        known.add_text(_KEY, had)
        with Image.open(io.BytesIO(tab.picture())) as image:
            small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
            small.save(out, pnginfo=known, optimize=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE)
