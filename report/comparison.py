"""Several runs beside each other as one HTML page: means, classes, defects, ROC curves, speed, settings, seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import roc_curve
from evaluation.tables.published import PUBLISHED_METRICS, benchmarks
from evaluation.tables.runs import DEFECT_METRICS, METRICS, ResultFile, Run
from evaluation.tables.seeds import (
    Figures,
    group_labels,
    group_seeds,
    section,
    seed_of,
    settings_of,
    side_by_side,
    spread,
    text_of,
)
from evaluation.tables.tables import class_table
from report.pages import address, render, report_path
from utils.errors import UserError


def write_comparison(path: Path, runs: Sequence[Run], dataset: str) -> Path:
    """Write the page.

    Args:
        path: of the HTML file.
        runs: at least one, of `evaluation.tables.runs.load_folders`.
        dataset: whose published figures stand beside them, see `evaluation.tables.published.benchmarks`.

    Raises:
        UserError: the benchmark has none of the classes, or a result file is damaged.
    """
    return render("comparison.html.j2", path, data=comparison(runs, dataset), reports=reports(path, runs))


def reports(path: Path, runs: Sequence[Run]) -> dict[str, list[tuple[str, str]]]:
    """Label of a run → its classes that have a page of their own, each with its address as seen from `path`."""
    found = {}
    for run in runs:
        own = [(name, report_path(file.path)) for name, file in run.files.items() if not run.branch]
        found[run.label] = [(name, address(page, path)) for name, page in own if page.is_file()]
    return {label: pages for label, pages in found.items() if pages}


def comparison(runs: Sequence[Run], dataset: str) -> dict[str, Any]:
    """What the page shows, as JSON values.

    Returns:
        `metrics`, `defect_metrics`: column headings of the figures below. `classes`: of all runs.
        `single`: an `entry` for each run. `grouped`: one for the runs that differ in their seed only.
        `curves`: one for each run, class name → ROC curve of its images, see `roc`; only where the scores are known.
        `published`: see `published_figures`.
    """
    groups = group_seeds(runs)
    places = {member: (number, place) for number, group in enumerate(groups) for place, member in enumerate(group)}
    return {
        "metrics": list(METRICS),
        "defect_metrics": list(DEFECT_METRICS),
        "classes": list(dict.fromkeys(name for run in runs for name in run.results)),
        "single": [entry(runs, [i], runs[i].label, *places[i]) for i in range(len(runs))],
        "grouped": [
            entry(runs, group, label, number, 0)
            for number, (group, label) in enumerate(zip(groups, group_labels(runs, groups), strict=True))
        ],
        "curves": [curves(run) for run in runs],
        "published": published_figures(runs, dataset),
    }


def entry(runs: Sequence[Run], members: Sequence[int], label: str, group: int, place: int) -> dict[str, Any]:
    """One row of the page: a run, or several that differ in their seed only.

    Args:
        runs: all of them.
        members: indices of those that the entry stands for.
        label: its name.
        group: number of the group of seeds that it belongs to.
        place: of the run in this group.

    Returns:
        Its arguments but `runs`; `branch`, whether it is one; `seeds`; `partial`, the classes that only some members
        have; `means` over classes, see `spread`; `classes`: class name → `spread` of its metrics; `defects`: class
        name → defect → `spread` of its metrics; `seconds` an image or None, `device`, `settings`: name → text.
    """
    chosen = [runs[i] for i in members]
    tables = [class_table(run).rows for run in chosen]
    classes: dict[str, list[Figures]] = {}
    defects: dict[str, dict[str, list[Figures]]] = {}
    for run, rows in zip(chosen, tables, strict=True):
        for (name, figures), result in zip(rows[:-1], run.results.values(), strict=True):
            classes.setdefault(name, []).append(finite(figures, run.files[name]))
            for defect, values in result["per_defect"].items():
                found = finite([values[key] for key in DEFECT_METRICS.values()], run.files[name])
                defects.setdefault(name, {}).setdefault(defect, []).append(found)
    details = side_by_side([{"seed": seed_of(r) or ""} | settings_of(r) | circumstances_of(r) for r in chosen])
    return {
        "label": label,
        "members": list(members),
        "group": group,
        "place": place,
        "branch": bool(chosen[0].branch),
        "seeds": [seed for run in chosen if (seed := seed_of(run)) is not None],
        "partial": [name for name, rows in classes.items() if len(rows) < len(chosen)],
        "means": spread([rows[-1][1] for rows in tables]),
        "classes": {name: spread(rows) for name, rows in classes.items()},
        "defects": {name: {d: spread(rows) for d, rows in of.items()} for name, of in defects.items()},
        "seconds": mean_of([seconds_of(run) for run in chosen]),
        "device": details.get("device", ""),
        "settings": details,
    }


def mean_of(figures: Figures) -> float | None:
    """Mean of the figures that are not None, None without any."""
    return spread([[figure] for figure in figures])["mean"][0]


def roc(scores: Sequence[tuple[float, bool]]) -> list[list[float]] | None:
    """ROC curve of the images of a class.

    Args:
        scores: score and label of each, True = anomalous.

    Returns:
        False-positive and true-positive rates of its vertices, see `evaluation.metrics.roc_curve`, rounded to six
        decimals; None where good or defective images are absent.
    """
    labels = np.array([label for _, label in scores], bool)
    if not labels.any() or labels.all():
        return None
    return [np.round(rates, 6).tolist() for rates in roc_curve(labels, np.array([score for score, _ in scores]))]


def curves(run: Run) -> dict[str, list[list[float]]]:
    """Class name → `roc` of a run's images; without classes whose file holds no scores, as those of branches."""
    if run.branch:
        return {}
    found = {name: roc(image_scores(run.files[name])) for name in run.results}
    return {name: curve for name, curve in found.items() if curve is not None}


def circumstances_of(run: Run) -> dict[str, str]:
    """Name → text of what may differ between runs of the same settings: data, code, machine."""

    def of_class(content: Mapping[str, Any]) -> dict[str, str]:
        training, timing = section(section(content.get("config")).get("training")), section(content.get("timing"))
        machine = section(timing.get("machine"))
        return {
            "training images": text_of(training.get("images")),
            "training commit": str(training.get("git_commit") or "")[:10],
            "device": text_of(timing.get("device")),
            "processor": text_of((timing.get("device") == "cuda" and machine.get("gpu")) or machine.get("cpu")),
            **{name: text_of(value) for name, value in section(content.get("versions")).items()},
        }

    return side_by_side([of_class(run.files[name].content) for name in run.results])


def finite(figures: Figures, file: ResultFile) -> Figures:
    """The figures. Raises UserError where one is NaN or infinite, which is no JSON."""
    if any(figure is not None and not math.isfinite(figure) for figure in figures):
        raise damaged(file, "figures in it are NaN or infinite")
    return figures


def image_scores(file: ResultFile) -> list[tuple[float, bool]]:
    """Score and label of each image, True = anomalous; none where the file does not hold them, as old ones.

    Raises:
        UserError: `samples` is something else than scores and labels.
    """
    try:
        scores = [(float(s["image_score"]), bool(s["label"])) for s in file.content.get("samples") or []]
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise damaged(file, f"its samples are not all with a label and an image_score, {error!r}") from error
    finite([score for score, _ in scores], file)
    return scores


def seconds_of(run: Run) -> float | None:
    """Seconds an image, the mean over classes of their medians; None for branches, which are not timed alone."""
    if run.branch:
        return None
    files = [run.files[name] for name in run.results]
    found = [section(file.content.get("timing")).get("seconds_per_image_median") for file in files]
    for file, seconds in zip(files, found, strict=True):
        if not isinstance(seconds, float | int | None):
            raise damaged(file, f"expected seconds an image, found {seconds!r:.60}")
        finite([seconds], file)
    return mean_of(found)


def damaged(file: ResultFile, what: str) -> UserError:
    """The error for a result file that cannot be used."""
    return UserError(f"{file.path}: damaged, {what:.200}. Run the evaluation of this class again.")


def published_figures(runs: Sequence[Run], dataset: str) -> list[dict[str, Any]]:
    """Published methods of the benchmarks that runs belong to.

    Args:
        runs, dataset: see `evaluation.tables.published.benchmarks`, also for the error.

    Returns:
        For each method its `label`, `marks`: metric → one of `evaluation.tables.published.MARKS`, `benchmark`, the
        benchmark's `classes`, `sources`, and `figures`: metric → its figure for each of these classes, and their mean
        at the end; None where it was not published.
    """
    found = []
    for published, _ in benchmarks(runs, dataset):
        classes = published["classes"]
        for name in dict.fromkeys(name for key in PUBLISHED_METRICS.values() for name in published.get(key, {})):
            given = {m: published[key][name] for m, key in PUBLISHED_METRICS.items() if name in published.get(key, {})}
            figures = {m: [*(of["per_class"] or [None] * len(classes)), of["mean"]] for m, of in given.items()}
            found.append(
                {
                    "label": name,
                    "marks": {m: of["mark"] for m, of in given.items()},
                    "benchmark": published["title"],
                    "classes": classes,
                    "sources": [of["source"] for of in given.values()],
                    "figures": figures,
                }
            )
    return found
