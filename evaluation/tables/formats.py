"""Tables → text: Markdown, LaTeX, CSV."""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from evaluation.tables.tables import WHOLE, Table


def to_markdown(table: Table) -> str:
    """Markdown with padded cells, so that it reads well in a terminal too. Three decimals, `-` = none."""
    cells = [[table.corner, *table.columns], *([name, *cells] for name, cells in cells_of(table, " ± "))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        padded = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append(f"| {' | '.join(padded)} |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join([f"### {table.title}", "", *lines, *(f"\n{note}" for note in table.notes)]) + "\n"


def to_latex(table: Table) -> str:
    """A `tabular` that needs no package; title and notes are comments. Three decimals, `-` = none."""
    rows = [" & ".join(map(_escape, [table.corner, *table.columns])) + r" \\", r"\hline"]
    rows += [" & ".join([_escape(name), *cells]) + r" \\" for name, cells in cells_of(table, r" $\pm$ ")]
    begin = rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}"
    notes = [f"% {note}" for note in table.notes]
    return "\n".join([f"% {table.title}", begin, r"\hline", *rows, r"\hline", r"\end{tabular}", *notes]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One figure a line, full precision: `table,row,column,value`; value is empty when there is none.

    A standard deviation is a line of its own, after its figure, with `deviation` behind the column's name.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for table in tables:
        for (name, figures), deviations in _with_deviations(table):
            for column, figure, deviation in zip(table.columns, figures, deviations, strict=True):
                writer.writerow([table.title, name, column, "" if figure is None else repr(figure)])
                if deviation is not None:
                    writer.writerow([table.title, name, f"{column} deviation", repr(deviation)])
    return stream.getvalue()


def _with_deviations(table: Table) -> Iterator[tuple[tuple[str, list[float | None]], list[float | None]]]:
    none: list[float | None] = [None] * len(table.columns)
    return zip(table.rows, table.deviations or [none] * len(table.rows), strict=True)


def cells_of(table: Table, between: str) -> list[tuple[str, list[str]]]:
    """Name and cells of each row; `between` stands before a deviation."""

    def cell(column: str, figure: float | None, deviation: float | None) -> str:
        if column in WHOLE and figure is not None:
            return f"{figure:.0f}"
        return _three_decimals(figure) + ("" if deviation is None else f"{between}{deviation:.3f}")

    return [
        (name, [cell(*parts) for parts in zip(table.columns, figures, deviations, strict=True)])
        for (name, figures), deviations in _with_deviations(table)
    ]


def _three_decimals(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
