"""Tables → text: Markdown, LaTeX, CSV."""

import csv
import io
import re
from collections.abc import Sequence

from evaluation.tables.tables import Table


def to_markdown(table: Table) -> str:
    """Markdown with padded cells, so that it reads well in a terminal too. Three decimals, `-` = none."""
    cells = [[table.corner, *table.columns], *([name, *map(_three_decimals, figures)] for name, figures in table.rows)]
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
    rows += [" & ".join([_escape(name), *map(_three_decimals, figures)]) + r" \\" for name, figures in table.rows]
    begin = rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}"
    notes = [f"% {note}" for note in table.notes]
    return "\n".join([f"% {table.title}", begin, r"\hline", *rows, r"\hline", r"\end{tabular}", *notes]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One figure a line, full precision: `table,row,column,value`; value is empty when there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for table in tables:
        for name, figures in table.rows:
            for column, figure in zip(table.columns, figures, strict=True):
                writer.writerow([table.title, name, column, "" if figure is None else repr(figure)])
    return stream.getvalue()


def _three_decimals(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
