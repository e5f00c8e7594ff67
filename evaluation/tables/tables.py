"""Runs → tables: per class, per defect, and means beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.tables.runs import DEFECT_METRICS, METRICS, Run, interval_of, metric_of

COUNT = "seeds"
PEAK, PEAK_GPU = "peak MiB", "GPU MiB"
WHOLE = (COUNT, PEAK, PEAK_GPU)
"""Headings of columns that are shown without decimals: numbers of seeds, and of memory."""


@dataclass(frozen=True)
class Table:
    """Named rows of figures; None = undefined or not published."""

    title: str
    corner: str
    """Heading of the column of row names."""
    columns: list[str]
    rows: list[tuple[str, list[float | None]]]
    notes: list[str] = field(default_factory=list)
    deviations: list[list[float | None]] = field(default_factory=list)
    """Standard deviation of each figure, in the rows' order, None = none; empty for a table without."""


def mean(figures: Sequence[float | None]) -> float | None:
    """Mean of the figures that are defined; None without any."""
    defined = [figure for figure in figures if figure is not None]
    return sum(defined) / len(defined) if defined else None


def class_table(run: Run) -> Table:
    """One row per class and their mean; both AUPRO protocols."""
    rows = [(name, [metric_of(result, path) for path in METRICS.values()]) for name, result in run.results.items()]
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


def interval_table(run: Run) -> Table | None:
    """I-AUROC of each class and each of its defects with its interval; None where the files hold no interval."""
    rows = []
    for name, result in run.results.items():
        parts = {name: result, **{f"{name} / {defect}": of for defect, of in result["per_defect"].items()}}
        rows += [(label, [of["i_auroc"], *interval_of(of)]) for label, of in parts.items()]
    if all(low is None for _, (_, low, _) in rows):
        return None
    notes = ["low, high: 95 % interval, bootstrap over the good and over the defective images; -: it says nothing."]
    return Table(_title("I-AUROC and its interval over images", run), "class", ["I-AUROC", "low", "high"], rows, notes)


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


def _title(what: str, run: Run) -> str:
    return f"{what}: {run.label}"
