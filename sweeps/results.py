"""From the folders of finished jobs to rows of runs, tables, and the page to look at."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.tables.formats import to_csv, to_latex, to_markdown
from evaluation.tables.published import load_published
from evaluation.tables.runs import RESULT_NAME, ResultFile, Run, read_result
from evaluation.tables.sweeps import Row, sweep_tables
from report.sweep import write_sweep
from sweeps.grid import CLASS, SEED, Grid, Point
from sweeps.work import record_of_folder
from utils.errors import UserError
from utils.files import atomic_path


def collect(grid: Grid, points: Sequence[Point], folders: Sequence[Sequence[Path]]) -> list[Row]:
    """The rows of a grid's tables, with what is finished of them; rows without anything are there too.

    Args:
        folders: of each point's commands.
    """
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number, point in enumerate(points):
        groups.setdefault(point.row, []).append(number)
    rows = []
    for row, numbers in groups.items():
        label = grid.label(row)
        files: dict[str, dict[str, ResultFile]] = {}
        missing = []
        for number in numbers:
            options = points[number].options
            name, seed = str(options.get(CLASS)), str(options.get(SEED) or 0)
            if (file := _result(folders[number])) is None:
                missing.append(f"{name} (seed {seed})")
            else:
                files.setdefault(seed, {})[name] = file
        runs = {seed: _run(label, own) for seed, own in sorted(files.items(), key=lambda item: item[0].zfill(20))}
        rows.append(Row(label, dict(row), runs, missing, grid.published.get(label, "")))
    return rows


def _result(folders: Sequence[Path]) -> ResultFile | None:
    """The result file of the last command that has one; None unless all commands have ended well."""
    records = [record_of_folder(folder) for folder in folders]
    if any(record is None or record["status"] for record in records):
        return None
    for folder in reversed(folders):
        for path in sorted((folder / "results").glob("*.json")):
            if match := RESULT_NAME.fullmatch(path.stem):
                return ResultFile(path, read_result(path, match["class_name"]))
    return None


def _run(label: str, files: dict[str, ResultFile]) -> Run:
    return Run(label, "", {name: file.content for name, file in files.items()}, files)


def write_tables(grid: Grid, points: Sequence[Point], folders: Sequence[Sequence[Path]], target: Path) -> str | None:
    """Write the tables of what is finished: `table.md`, `.tex`, `.csv`, and the page `sweep.html`.

    Returns:
        The Markdown; None where nothing is finished yet.
    """
    rows = collect(grid, points, folders)
    if not any(row.runs for row in rows):
        return None
    benchmark = load_published()[grid.benchmark] if grid.benchmark else None
    compare = grid.compare or next((name for name in grid.axes if name not in (CLASS, SEED)), "")
    tables = sweep_tables(grid.title, rows, compare, benchmark, grid.notes)
    markdown = "\n".join(map(to_markdown, tables))
    texts = {"table.md": markdown, "table.tex": "\n".join(map(to_latex, tables)), "table.csv": to_csv(tables)}
    for name, text in texts.items():
        with atomic_path(target / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_sweep(target / "sweep.html", grid.title, rows, tables, grid.curve, grid.against == "seconds")
    return markdown


def check_published(grid: Grid) -> None:
    """Refuse published figures that are not known. Raises UserError."""
    known = load_published()
    if grid.benchmark and grid.benchmark not in known:
        raise UserError(f"{grid.name}: benchmark: expected one of {', '.join(known)}, found {grid.benchmark}.")
    for label, method in grid.published.items():
        metrics = known[grid.benchmark] if grid.benchmark else {}
        if not any(method in metrics[key] for key in metrics if isinstance(metrics[key], dict)):
            raise UserError(
                f"{grid.name}: published: {method} (beside {label}) has no figures for benchmark {grid.benchmark}; see "
                "evaluation/published_results.json."
            )
