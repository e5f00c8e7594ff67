"""Runs beside published figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.tables.runs import METRICS, Run, metric_of
from evaluation.tables.tables import Table, mean
from utils.errors import UserError

PUBLISHED_FILE = Path(__file__).parents[1] / "published_results.json"
MARKS = {
    "read": "read where the method's own authors give it",
    "secondary": "read where others quote it, not in the method's own paper",
    "from memory": "not looked up, may be wrong",
}
PUBLISHED_METRICS = {"I-AUROC": "i_auroc", "P-AUROC": "p_auroc", "AUPRO@30%": "aupro_0.3", "AUPRO@1%": "aupro_0.01"}


def load_published() -> dict[str, dict[str, Any]]:
    """Published fractions: dataset → `title`, `classes`, and metric → method → `per_class`, `mean`, `source`,
    `mark`, one of MARKS."""
    content = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))
    return {name: value for name, value in content.items() if isinstance(value, dict)}


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
        rows = [(marked(m, f), [*(f["per_class"] or [None] * len(classes)), f["mean"]]) for m, f in methods.items()]
        notes = [sources(methods)]
        for run in runs:
            ours = [metric_of(run.results.get(name), METRICS[metric]) for name in classes]
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


def sources(methods: dict[str, Any]) -> str:
    """Where published figures were read, methods of one source together."""
    by_source: dict[str, list[str]] = {}
    for method, figures in methods.items():
        by_source.setdefault(figures["source"], []).append(method)
    parts = [f"{', '.join(names)}: {source}" for source, names in by_source.items()]
    marks = {figures["mark"] for figures in methods.values()} - {"read"}
    meanings = [f" {mark}: {meaning}." for mark, meaning in MARKS.items() if mark in marks]
    return f"Published figures: {'; '.join(parts)}.{''.join(meanings)}"


def marked(method: str, figures: dict[str, Any]) -> str:
    """A method's name, with how its figures are known unless they were read where its authors give them."""
    return method if figures["mark"] == "read" else f"{method} ({figures['mark']})"
