"""Result files of many classes → tables: per class, per defect, means beside each other and published figures."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_text, read_with

PUBLISHED_FILE = Path(__file__).parents[1] / "published_results.json"
RESULT_NAME = re.compile(r"(?P<class_name>.+)_(?P<run>\d+ep_\d+bs)")
REQUIRED_KEYS = ("class_name", "aupro", "aupro_thresholds", "aupro_exact", "p_auroc", "i_auroc", "per_defect")
METRICS: dict[str, tuple[str, ...]] = {
    "I-AUROC": ("i_auroc",),
    "P-AUROC": ("p_auroc",),
    "AUPRO@30%": ("aupro", "0.3"),
    "AUPRO@10%": ("aupro", "0.1"),
    "AUPRO@5%": ("aupro", "0.05"),
    "AUPRO@1%": ("aupro", "0.01"),
    "exact@30%": ("aupro_exact", "0.3"),
    "exact@10%": ("aupro_exact", "0.1"),
    "exact@5%": ("aupro_exact", "0.05"),
    "exact@1%": ("aupro_exact", "0.01"),
}
"""Column heading → where the figure lies in a result file."""
DEFECT_METRICS = {"I-AUROC": "i_auroc", "P-AUROC": "p_auroc", "AUPRO@30%": "aupro_0.3"}
PUBLISHED_METRICS = {"I-AUROC": "i_auroc", "P-AUROC": "p_auroc", "AUPRO@30%": "aupro_0.3", "AUPRO@1%": "aupro_0.01"}
RUN_SETTINGS = (
    *("method", "extractor", "extractor_mode", "keep_blocks", "mapper", "aggregation"),
    *("shots", "seed", "precision", "preset", "fusion", "score", "checkpoint"),
)
"""Entries of `config` that set one run apart from another; results that differ in one are not averaged together."""


@dataclass(frozen=True)
class ResultFile:
    """One JSON file that an evaluation wrote."""

    path: Path
    content: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Results of several classes that were made with the same settings, of the whole method or of one branch of it."""

    name: str
    """For example "50ep_4bs", with the settings that set it apart from the other runs of its folder."""
    method: str
    """For example "CFM"; with the name of a branch, "DBMRNet (3D only)"."""
    results: dict[str, dict[str, Any]]
    """Class name → content of its result file, for a branch what the file says of it."""
    files: dict[str, ResultFile]
    """Class name → its result file, for a branch that of the whole method."""
    branch: str = ""
    """Name of the branch; empty for a whole method."""

    @property
    def label(self) -> str:
        """Method and name, as titles and rows show them."""
        return f"{self.method} {self.name}".strip()


@dataclass(frozen=True)
class Table:
    """Named rows of figures; None = undefined or not published."""

    title: str
    corner: str
    """Heading of the column of row names."""
    columns: list[str]
    rows: list[tuple[str, list[float | None]]]
    notes: list[str] = field(default_factory=list)


def load_folders(folders: Sequence[Path]) -> list[Run]:
    """The runs of each folder, see `load_runs`; those with equal labels in different folders are told apart by them."""
    found = [(folder, run) for folder in dict.fromkeys(folders) for run in load_runs(folder)]
    labels = Counter(run.label for _, run in found)
    return [replace(run, name=f"{run.name}, {folder}") if labels[run.label] > 1 else run for folder, run in found]


def load_runs(folder: Path) -> list[Run]:
    """Read `CLASS_{EPOCHS}ep_{BATCH}bs.json` of a folder and group them by run; branches follow as runs of their own.

    Raises:
        UserError: the folder is missing or holds no result file, or a result file is damaged.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: expected a folder of result files, found none; check --quantitative_folder")
    groups: dict[tuple[str, ...], dict[str, ResultFile]] = {}
    for path in sorted(Path(folder).glob("*.json")):
        if match := RESULT_NAME.fullmatch(path.stem):
            result = _read_result(path, match["class_name"])
            values = ((result.get("config") or {}).get(key) for key in RUN_SETTINGS)
            settings = ("" if value is None else str(value) for value in values)
            groups.setdefault((match["run"], *settings), {})[match["class_name"]] = ResultFile(path, result)
    if not groups:
        raise UserError(
            f"{folder}: expected result files named CLASS_{{EPOCHS}}ep_{{BATCH}}bs.json, found none; "
            "make them with an inference script and the same --quantitative_folder"
        )
    telling = [i for i in range(1, len(RUN_SETTINGS) + 1) if len({key[i] for key in groups}) > 1]
    runs = []
    for key, files in groups.items():
        settings = (f"{RUN_SETTINGS[i - 1]} {key[i]}" for i in telling if key[i])
        results = {name: file.content for name, file in files.items()}
        run = Run(", ".join([key[0], *settings]), key[1 + RUN_SETTINGS.index("method")], results, files)
        runs += [run, *_branches(run)]
    return runs


def _branches(run: Run) -> list[Run]:
    names = dict.fromkeys(branch for result in run.results.values() for branch in result.get("branches", {}))
    return [
        Run(
            run.name,
            f"{run.method} ({branch})",
            {name: r["branches"][branch] for name, r in run.results.items() if branch in r.get("branches", {})},
            run.files,
            branch,
        )
        for branch in names
    ]


def _read_result(path: Path, class_name: str) -> dict[str, Any]:
    result = read_with(path, _parse_result, "Run the evaluation of this class again.")
    if result["class_name"] != class_name:
        raise UserError(
            f"{path}: results of class {result['class_name']} in a file named after {class_name}; rename it"
        )
    return result


def _parse_result(path: Path) -> dict[str, Any]:
    """Content of a result file. Raises one of Python's own exceptions where a figure is not there."""
    result = dict(json.loads(read_text(path)))
    dict(result.get("config") or {})
    for name, metrics in (("the file", result), *result.get("branches", {}).items()):
        needed = REQUIRED_KEYS if metrics is result else REQUIRED_KEYS[1:]
        if missing := [key for key in needed if key not in metrics]:
            raise ValueError(f"{name} is without {', '.join(missing)}")
        figures = [_metric(metrics, keys) for keys in METRICS.values()]
        figures += [defect[key] for defect in metrics["per_defect"].values() for key in DEFECT_METRICS.values()]
        if wrong := [figure for figure in figures if not isinstance(figure, float | int | None)]:
            raise ValueError(f"expected numbers as figures, found {wrong[0]!r:.60}")
    return result


def load_published() -> dict[str, dict[str, Any]]:
    """Published fractions: dataset → `title`, `classes`, and metric → method → `per_class`, `mean`, `source`."""
    content = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))
    return {name: value for name, value in content.items() if isinstance(value, dict)}


def mean(figures: Sequence[float | None]) -> float | None:
    """Mean of the figures that are defined; None without any."""
    defined = [figure for figure in figures if figure is not None]
    return sum(defined) / len(defined) if defined else None


def class_table(run: Run) -> Table:
    """One row per class and their mean; both AUPRO protocols."""
    rows = [(name, [_metric(result, path) for path in METRICS.values()]) for name, result in run.results.items()]
    means = [mean([row[i] for _, row in rows]) for i in range(len(METRICS))]
    thresholds = sorted({str(result["aupro_thresholds"]) for result in run.results.values()})
    notes = [
        f"AUPRO@L: area up to the false-positive rate L with {'/'.join(thresholds)} thresholds, the papers' protocol; "
        "AUPRO@1% then rests on a single segment of the curve. exact@L: the same area with every score as threshold."
    ]
    if any(figure is None for _, row in rows for figure in row):
        notes.append("-: undefined, the class has no good or no defect images, or no masks; left out of the mean.")
    return Table(_title("Metrics", run), "class", list(METRICS), [*rows, ("mean", means)], notes)


def defect_table(run: Run) -> Table:
    """One row per class and defect, each against all good images of its class."""
    rows = [
        (f"{name} / {defect}", [figures[key] for key in DEFECT_METRICS.values()])
        for name, result in run.results.items()
        for defect, figures in result["per_defect"].items()
    ]
    return Table(_title("Metrics per defect, against all good images", run), "defect", list(DEFECT_METRICS), rows)


def means_table(runs: Sequence[Run]) -> Table:
    """One row per run: the means of its `class_table`."""
    rows = [(run.label, class_table(run).rows[-1][1]) for run in runs]
    every_class = dict.fromkeys(name for run in runs for name in run.results)
    notes = [
        f"{run.label}: without {', '.join(missing)}; its means are over {len(run.results)} of {len(every_class)} "
        "classes, not comparable with the others."
        for run in runs
        if (missing := [name for name in every_class if name not in run.results])
    ]
    return Table("Means over classes", "run", list(METRICS), rows, notes)


def published_tables(runs: Sequence[Run], published: dict[str, Any]) -> list[Table]:
    """Per metric: published methods and our runs as rows, the benchmark's classes and their mean as columns.

    Args:
        published: one dataset's entry of `load_published`.
    """
    classes = published["classes"]
    tables = []
    for metric, key in PUBLISHED_METRICS.items():
        methods = published.get(key, {})
        if not methods:
            continue
        rows = [(m, [*(f["per_class"] or [None] * len(classes)), f["mean"]]) for m, f in methods.items()]
        notes = [_sources(methods)]
        for run in runs:
            ours = [_metric(run.results.get(name), METRICS[metric]) for name in classes]
            rows.append((f"ours: {run.label}", [*ours, mean(ours)]))
            if missing := [name for name, figure in zip(classes, ours, strict=True) if figure is None]:
                notes.append(
                    f"{run.label}: no figure for {', '.join(missing)}; the mean is over "
                    f"{len(classes) - len(missing)} of {len(classes)} classes, not comparable with the published means."
                )
        tables.append(Table(f"{metric} on {published['title']}", "method", [*classes, "mean"], rows, notes))
    return tables


def comparison_tables(runs: Sequence[Run], dataset: str) -> list[Table]:
    """Published figures beside the runs that belong to a benchmark, see `benchmarks`."""
    return [table for published, members in benchmarks(runs, dataset) for table in published_tables(members, published)]


def benchmarks(runs: Sequence[Run], dataset: str) -> list[tuple[dict[str, Any], list[Run]]]:
    """The benchmarks that runs belong to: entry of `load_published`, and these runs.

    Args:
        runs: results of one or more folders.
        dataset: a benchmark's name, "auto" (a run belongs to the benchmark that knows all of its classes) or "none".

    Raises:
        UserError: the benchmark that was asked for has none of the classes.
    """
    found = []
    for name, published in load_published().items():
        known = set(published["classes"])
        if dataset == "auto":
            members = [r for r in runs if known.issuperset(r.results)]
        else:
            members = [r for r in runs if name == dataset and known.intersection(r.results)]
            if name == dataset and not members:
                classes = ", ".join(sorted({c for r in runs for c in r.results}))
                raise UserError(f"--dataset {dataset}: none of the classes found ({classes}) belongs to this benchmark")
        if members:
            found.append((published, members))
    return found


def _sources(methods: dict[str, Any]) -> str:
    """Where published figures were read, methods of one source together."""
    by_source: dict[str, list[str]] = {}
    for method, figures in methods.items():
        by_source.setdefault(figures["source"], []).append(method)
    parts = [f"{', '.join(names)}: {source}" for source, names in by_source.items()]
    return f"Published figures: {'; '.join(parts)}."


def _metric(result: dict[str, Any] | None, path: tuple[str, ...]) -> float | None:
    """The figure at a path of keys; None when the class is absent."""
    value: Any = result
    for key in path if result is not None else ():
        value = value[key]
    return value


def _title(what: str, run: Run) -> str:
    return f"{what}: {run.label}"


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
