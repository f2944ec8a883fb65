"""A figure: a table, and where it has one a chart that is drawn from that table's cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Html, element

Cell = str | int | float | None

_PRINTED = 25  # rows of a table that goes onto paper though it is folded on the screen


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and how its numbers are shown; `{}` is for texts, `is_long` for those that need lines."""

    title: str
    form: str = "{}"
    is_long: bool = False

    @property
    def is_number(self) -> bool:
        return self.form != "{}"


def count(title: str) -> Column:
    return Column(title, "{:,}")


def long_text(title: str) -> Column:
    return Column(title, is_long=True)


def decimal(title: str, places: int = 1) -> Column:
    return Column(title, f"{{:,.{places}f}}")


@dataclass(frozen=True, slots=True)
class Chart:
    """How a table is drawn: `kind` is one of report.js's; `x`, `y`, `colour` and `facet` are numbers of columns.

    `palette` names the colours' meaning, so that the same thing has the same colour in all charts; `log` is for y.
    `line`: a value of y that is marked, with its meaning.
    """

    kind: str
    x: int
    y: int
    colour: int | None = None
    facet: int | None = None
    palette: str = "runs"
    log: bool = False
    line: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """`note` says in a sentence what is shown; `left_out` what the table does not hold."""

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    chart: Chart | None = None
    left_out: str = ""

    def html(self) -> Html:
        """Nothing to show is said in words, without an empty frame."""
        heading = element("h3", self.title, id=self.name)
        if not self.rows:
            return element("section", heading, element("p", "None.", class_="none"), class_="figure")
        table = data_table(self.columns, self.rows, label=self.title)
        notes = element("p", f"{self.note} {self.left_out}".strip(), class_="note")
        if self.chart is None:
            return element("section", heading, notes, table, class_="figure")
        summary = element("summary", f"Table of “{self.title}” ({len(self.rows):,} rows)")
        return element(
            "figure",
            element("figcaption", heading, notes),
            element("div", class_="chart", **_drawing(self.chart, f"{self.title}. {self.note}")),
            element("details", summary, table, class_="printed" if len(self.rows) <= _PRINTED else None),
            class_="figure",
        )


def data_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, label: str) -> Html:
    """A table that scrolls sideways by itself, also by the keyboard."""
    head = element("tr", [element("th", one.title, scope="col", class_=_class(one)) for one in columns])
    body = [element("tr", [_cell(column, cell) for column, cell in zip(columns, row, strict=True)]) for row in rows]
    table = element("table", element("thead", head), element("tbody", body))
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"Table: {label}")


def _cell(column: Column, cell: Cell) -> Html:
    if cell is None:
        return element("td")
    if isinstance(cell, str):
        return element("td", cell, class_=_class(column))
    value = round(cell, 6) if isinstance(cell, float) else cell
    return element("td", column.form.format(cell), data_v=value, class_=_class(column))


def _class(column: Column) -> str | None:
    return "number" if column.is_number else "long" if column.is_long else None


def _drawing(chart: Chart, label: str) -> dict[str, object]:
    return {
        "data_kind": chart.kind,
        "data_x": chart.x,
        "data_y": chart.y,
        "data_colour": chart.colour,
        "data_facet": chart.facet,
        "data_palette": chart.palette,
        "data_log": chart.log,
        "data_line": None if chart.line is None else chart.line[0],
        "data_line_label": None if chart.line is None else chart.line[1],
        "data_label": label,
    }


def thinned(rows: Sequence[Sequence[Cell]], at_most: int) -> list[Sequence[Cell]]:
    """At most so many rows, evenly chosen, the first and the last among them."""
    if len(rows) <= at_most:
        return list(rows)
    step = (len(rows) - 1) / (at_most - 1)
    return [rows[round(number * step)] for number in range(at_most)]
