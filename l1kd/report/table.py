"""What a table is: cells in rows, for a page or for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A number or a text, and whether it is the best of its kind or a failure."""

    text: str
    mark: str = ""  # "best" | "bad"


@dataclass(frozen=True)
class Row:
    """Cells, the first one naming the row; `kind` groups rows, `chosen` is the best student's."""

    cells: list[Cell]
    kind: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows; `numeric` columns are aligned to the right."""

    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    text_columns: tuple[int, ...] = (0,)

    def markdown(self) -> str:
        """As a Markdown table whose columns line up in a terminal."""
        lines = [self.columns, *([cell.text for cell in row.cells] for row in self.rows)]
        lines = [[text.replace("|", "/") for text in line] for line in lines]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]

        def joined(line: Sequence[str]) -> str:
            cells = (
                text.ljust(width) if place in self.text_columns else text.rjust(width)
                for place, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            return f"| {' | '.join(cells)} |"

        rule = "|".join(
            "-" * (width + 1) + ("-" if place in self.text_columns else ":")
            for place, width in enumerate(widths)
        )
        return "\n".join([joined(lines[0]), f"|{rule}|", *(joined(line) for line in lines[1:])])


def row(*texts: str, mark: str = "", kind: str = "", chosen: bool = False) -> Row:
    """A row of plain texts, all marked alike."""
    return Row([Cell(text, mark) for text in texts], kind, chosen)
