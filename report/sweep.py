"""A sweep as one HTML page: curves along an option, and its tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.tables.formats import cells_of
from evaluation.tables.sweeps import SHOWN, Row, figures_of, position, seconds_of
from evaluation.tables.tables import Table
from report.pages import address, render, report_path


def write_sweep(
    path: Path, title: str, rows: Sequence[Row], tables: Sequence[Table], curve: str, against_seconds: bool
) -> Path:
    """Write the page.

    Args:
        path: of the HTML file.
        title: of the page.
        rows, tables: see `evaluation.tables.sweeps`.
        curve: option along which curves are drawn; empty for none.
        against_seconds: whether their axis is at first the time of an image instead of the option.
    """
    shown = [
        {"title": table.title.removeprefix(f"{title}: "), "corner": table.corner, "columns": table.columns}
        | {"rows": cells_of(table, " ± "), "notes": table.notes}
        for table in tables
    ]
    data = {"metrics": SHOWN, "option": curve, "seconds": against_seconds, "lines": lines(rows, curve)}
    return render("sweep.html.j2", path, title=title, tables=shown, data=data, reports=reports(path, rows))


def lines(rows: Sequence[Row], curve: str) -> list[dict[str, Any]]:
    """The curves, as JSON values: rows that differ in one option only, in the order of its values.

    Returns:
        For each its `label` and `points`: `text` of the option's value, its place on the axis `x` and `seconds` an
        image, each None where it has none; `mean` and `deviation` of SHOWN.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if curve in row.settings and row.runs:
            others = [text for name, text in row.settings.items() if name != curve]
            point = {"text": row.settings[curve], "x": position(row, curve), "seconds": seconds_of(row)}
            found.setdefault(", ".join(others), []).append(point | figures_of(row, row.classes))
    return [{"label": label, "points": points} for label, points in found.items()]


def reports(path: Path, rows: Sequence[Row]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Label of each row → its classes and seeds that have a page of their own, with its address as seen from `path`."""
    found = []
    for row in rows:
        pages = [
            (f"{name}, seed {seed}", address(page, path))
            for seed, run in row.runs.items()
            for name, file in run.files.items()
            if (page := report_path(file.path)).is_file()
        ]
        found.append((row.label, pages))
    return [(label, pages) for label, pages in found if pages]
