"""Tables from declared columns: for the page, as Markdown, and as rows for JSON and CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from l1kd.report.number_format import DASH, count


@dataclass(frozen=True)
class Column:
    """A column: its title, how to get the value of an item, and how to format it.

    An item is an object or a tuple of objects. `get` is a function of these, or the name of an
    attribute of the last one; None reads the attribute that the title names.
    """

    title: str
    get: str | Callable[..., Any] | None = None
    show: Callable[[Any], str] = count  # None is unknown: a dash
    left: bool = False  # texts are aligned to the left, numbers to the right
    mark: Callable[..., str] | None = None  # "best" or "bad"; None: as the row

    def value(self, item: Any) -> Any:
        """The value for an item; None is unknown."""
        objects = item if isinstance(item, tuple) else (item,)
        if callable(self.get):
            return self.get(*objects)
        return getattr(objects[-1], self.get or self.title)


def words(value: object) -> str:
    """A text, or a dash where there is none."""
    return DASH if value is None or value == "" else str(value)


def text(
    title: str,
    get: str | Callable[..., Any] | None = None,
    show: Callable[[Any], str] = words,
    mark: Callable[..., str] | None = None,
) -> Column:
    """A column of texts."""
    return Column(title, get, show, left=True, mark=mark)


@dataclass(frozen=True)
class Cell:
    """A formatted value, and whether it is the best of its kind or a failure."""

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
    """Titles and rows; `text_columns` are aligned to the left, the others to the right."""

    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    text_columns: tuple[int, ...] = (0,)
    caption: str = ""

    @staticmethod
    def of(
        columns: Sequence[Column],
        items: Iterable[Any],
        *,
        kind: Callable[..., str] = lambda *_: "",
        chosen: Callable[..., bool] = lambda *_: False,
        mark: Callable[..., str] = lambda *_: "",
        caption: str = "",
    ) -> Table:
        """A row for each item; `kind`, `chosen` and `mark` are functions of its objects."""
        rows = []
        for item in items:
            objects = item if isinstance(item, tuple) else (item,)
            cells = [
                Cell(column.show(column.value(item)), (column.mark or mark)(*objects))
                for column in columns
            ]
            rows.append(Row(cells, kind(*objects), chosen(*objects)))
        left = tuple(place for place, column in enumerate(columns) if column.left)
        return Table([column.title for column in columns], rows, left, caption)

    def markdown(self) -> str:
        """As a Markdown table whose columns line up in a terminal."""
        lines = [self.columns, *([cell.text for cell in row.cells] for row in self.rows)]
        lines = [[cell.replace("|", "/") for cell in line] for line in lines]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]

        def joined(line: Sequence[str]) -> str:
            cells = (
                cell.ljust(width) if place in self.text_columns else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            return f"| {' | '.join(cells)} |"

        rule = "|".join(
            "-" * (width + 1) + ("-" if place in self.text_columns else ":")
            for place, width in enumerate(widths)
        )
        return "\n".join([joined(lines[0]), f"|{rule}|", *map(joined, lines[1:])])
