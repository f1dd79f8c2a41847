"""The look of our figures, and SVG that can stand inside a page.

Matplotlib draws; what it writes is stripped of its prolog, of fixed sizes and of everything that
points outside, text stays text in the page's own font, and ids are made the figure's own so that
many figures can share one page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BASELINE",
    "NORMAL",
    "TEACHER",
    "Line",
    "inline",
    "lines",
    "log_axis",
    "panel",
    "power_of_ten",
    "swatch",
]

INK, FAINT, GRID = "#1f2933", "#52606d", "#e4e7eb"
WIDTH, HEIGHT = 4.5, 3.1  # inches; text of 9 pt then reads well from a phone to a wide screen

# Okabe and Ito's colours, which people with any colour vision can tell apart; yellow left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#6b4c2a")
_DASHES = ("", "6 2", "2 2", "8 2 2 2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@dataclass(frozen=True)
class Line:
    """How one thing is drawn in every figure of a page."""

    colour: str
    dash: str = ""  # as SVG's stroke-dasharray, in units of points
    width: float = 1.6
    marker: str = "o"

    def options(self) -> dict[str, Any]:
        """As matplotlib's keyword arguments."""
        style: Any = "-"
        if self.dash:
            style = (0, tuple(float(part) / self.width for part in self.dash.split()))
        return {"color": self.colour, "linestyle": style, "linewidth": self.width}


TEACHER = Line(INK, "", 2.2, "*")
BASELINE = Line("#8a949e", "5 2", 1.8, "_")
NORMAL = Line("#9aa5b1")


def lines(names: Sequence[str]) -> dict[str, Line]:
    """A line for each name: colours first, then the same colours dashed."""
    return {
        name: Line(
            _COLOURS[index % len(_COLOURS)],
            _DASHES[index // len(_COLOURS) % len(_DASHES)],
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        )
        for index, name in enumerate(names)
    }


def panel(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Any]:
    """A figure with one pair of axes in our style; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes: Any = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_size(9)
        text.set_color(INK)
    return figure, axes


def power_of_ten(value: float, _: int | None = None) -> str:
    """A tick's label in plain text: `10` with a raised exponent, or nothing between decades."""
    mantissa, exponent = f"{value:e}".split("e")
    if float(mantissa) != 1:
        return ""
    if -1 <= int(exponent) <= 2:
        return f"{value:g}"
    return "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def log_axis(axis: Any) -> None:
    """Label a logarithmic axis by decades; matplotlib's own labels are formulas, not text."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(power_of_ten))
    axis.set_minor_formatter(NullFormatter())


def inline(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element for an HTML page.

    Parameters
    ----------
    figure
        What to write; equal figures give equal text.
    name
        Makes the ids of this figure its own; letters, digits, `_`, `.` and `-`.
    label
        What the figure shows, for those who do not see it.
    """
    import matplotlib

    buffer = io.StringIO()
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify_threshold": 0.2}
    with matplotlib.rc_context(options):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    text = text[text.index(">") + 1 :]
    text = text.replace("xlink:href", "href")
    # Matplotlib names every group; only what is pointed at needs its id.
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    prefix = re.sub(r"[^A-Za-z0-9_-]", "-", name)

    def own(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\sid="([^"]*)"', own, text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    # Widths were measured in matplotlib's own font, which is wider than what pages use.
    text = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", _page_font, text)
    text = re.sub(r"(\d\.\d{2})\d+", r"\1", text)
    text = re.sub(r"\n\s*", "\n", text)
    size = box[1] if box else "0 0 1 1"
    return (
        f'<svg viewBox="{size}" role="img" aria-label="{html.escape(label, quote=True)}">{text}'
    ).strip()


def _page_font(match: re.Match[str]) -> str:
    return f"font{match[1] or ''}: {match[2]}system-ui, sans-serif"


def swatch(line: Line) -> str:
    """A short piece of a line, for the legends of a page."""
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    stroke = f'stroke="{line.colour}" stroke-width="{line.width + 0.4:g}"{dash}'
    return (
        '<svg class="swatch" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">'
        f'<path d="M1 4H25" {stroke}/></svg>'
    )
