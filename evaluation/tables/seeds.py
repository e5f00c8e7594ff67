"""Runs that differ in nothing but their seed, taken together: mean and standard deviation of their figures."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from evaluation.tables.runs import METRICS, RESULT_NAME, ResultFile, Run, run_settings
from evaluation.tables.tables import COUNT, Table, class_table

HASH = re.compile(r"[0-9a-f]{40,64}")
MAX_TEXT = 120  # characters of a setting that are shown

Figures = Sequence[float | None]


def seed_tables(runs: Sequence[Run]) -> list[Table]:
    """For each group of seeds a table of mean and deviation: one row per class, and the means over classes.

    Means are over classes first, then over seeds; the last column is the number of seeds that have the class.
    Runs that stand alone have no table, see `group_seeds`.
    """
    groups = group_seeds(runs)
    labels = group_labels(runs, groups)
    chosen = [(label, group) for label, group in zip(labels, groups, strict=True) if len(group) > 1]
    return [_seed_table([runs[i] for i in group], label) for label, group in chosen]


def _seed_table(runs: Sequence[Run], label: str) -> Table:
    found: dict[str, list[Figures]] = {}
    means: list[Figures] = []
    for run in runs:
        *rows, (_, own) = class_table(run).rows
        means.append(own)
        for name, figures in rows:
            found.setdefault(name, []).append(figures)
    every = [*found.items(), ("mean", means)]
    spreads = [spread(rows) for _, rows in every]
    table_rows = [(name, [*of["mean"], float(len(rows))]) for (name, rows), of in zip(every, spreads, strict=True)]
    seeds = ", ".join(seed_of(run) or "" for run in runs)
    notes = [f"±: standard deviation over seeds, of a sample (n - 1); seeds: {seeds}."]
    if partial := [name for name, rows in found.items() if len(rows) < len(runs)]:
        notes.append(f"Not all seeds have {', '.join(partial)}; the mean over classes mixes them, not comparable.")
    deviations = [[*of["deviation"], None] for of in spreads]
    return Table(f"Mean ± deviation over seeds: {label}", "class", [*METRICS, COUNT], table_rows, notes, deviations)


def spread(rows: Sequence[Figures]) -> dict[str, list[float | None]]:
    """`mean` and `deviation` of each column over the rows that define it.

    The standard deviation is that of a sample, with n - 1; None for less than two figures. The mean of none is None.
    """
    columns = [[figure for figure in column if figure is not None] for column in zip(*rows, strict=True)]
    return {
        "mean": [fmean(column) if column else None for column in columns],
        "deviation": [stdev(column) if len(column) > 1 else None for column in columns],
    }


def group_seeds(runs: Sequence[Run]) -> list[list[int]]:
    """Indices of the runs that differ in nothing but a known seed, together; in the order of the first of each.

    Runs with the same seed are one experiment done twice, or differ in what their files do not say: each stays alone.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, run in enumerate(runs):
        name = RESULT_NAME.fullmatch(next(iter(run.files.values())).path.stem)
        alike = tuple(sorted(settings_of(run).items()))
        groups.setdefault((run.method, name and name["run"], alike), []).append(i)
    found = []
    for members in groups.values():
        seeds = [seed_of(runs[i]) for i in members]
        apart = None not in seeds and len(set(seeds)) == len(seeds)
        found += [members] if apart else [[i] for i in members]
    return sorted(found)


def group_labels(runs: Sequence[Run], groups: Sequence[Sequence[int]]) -> list[str]:
    """A name for each group of seeds: what its runs' labels share; settings, then folders, where that is not enough."""
    labels = []
    for group in groups:
        first, *others = ([*runs[i].label.split(", ")] for i in group)
        labels.append(", ".join(part for part in first if all(part in other for other in others)))
    count = Counter(labels)
    for label in [label for label in count if count[label] > 1]:
        alike = [number for number, own in enumerate(labels) if own == label]
        settings = [settings_of(runs[groups[number][0]]) for number in alike]
        names = dict.fromkeys(name for found in settings for name in found)
        telling = [name for name in names if len({found.get(name) for found in settings}) > 1]
        for number, found in zip(alike, settings, strict=True):
            labels[number] = ", ".join([label, *(f"{name} {found[name]}" for name in telling[:3] if name in found)])
    count = Counter(labels)
    return [
        label if count[label] == 1 else f"{label}, {joined(folder_of(runs[i]) for i in group)}"
        for label, group in zip(labels, groups, strict=True)
    ]


def folder_of(run: Run) -> str:
    """The folder of a run's result files."""
    return str(next(iter(run.files.values())).path.parent)


def seed_of(run: Run) -> str | None:
    """The seed of a run as text, None where its files do not say it."""
    seeds = {str(config_of(run.files[name]).get("seed")) for name in run.results}
    return seeds.pop() if len(seeds) == 1 and "None" not in seeds else None


def settings_of(run: Run) -> dict[str, str]:
    """Name → text of every setting of evaluation and training but the seed. Classes that differ stand side by side."""

    def of_class(content: dict[str, Any]) -> dict[str, str]:
        found = {name: text_of(text) for name, text in run_settings(content).items() if name != "seed"}
        training = section(section(content.get("config")).get("training"))
        if training.get("shots_drawn"):
            found["shots drawn"] = "by the seed"
        for keys, value in leaves(section(training.get("config"))):
            text = text_of(value)
            if keys[-1] != "seed" and text != found.get(keys[-1], ""):
                name = " ".join(keys).removeprefix("model ")
                found[f"training {name}" if found.get(name) else name] = text
        return found

    return side_by_side([of_class(run.files[name].content) for name in run.results])


def side_by_side(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """For each name the different texts of all mappings; without the names that have none."""
    names = dict.fromkeys(name for each in found for name in each)
    texts = {name: joined(each.get(name, "") for each in found) for name in names}
    return {name: text for name, text in texts.items() if text}


def joined(texts: Iterable[str]) -> str:
    """The different texts that are not empty; their number where they are more than four."""
    different = list(dict.fromkeys(filter(None, texts)))
    return ", ".join(different) if len(different) < 5 else f"{len(different)} different"


def text_of(value: Any) -> str:
    """A setting as text; empty for None and for hashes, which tell a reader nothing."""
    text = "" if value is None else str(value)
    return "" if HASH.fullmatch(text) else text[:MAX_TEXT]


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Keys that lead to each value of nested mappings that is none itself, and the value."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((key,), value) for key, value in reversed(list(tree.items()))]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*keys, key), inner) for key, inner in reversed(list(value.items()))]
        else:
            yield keys, value


def section(value: Any) -> dict[str, Any]:
    """A part of a result file; empty where it is absent, as in old files, or no object."""
    return value if isinstance(value, dict) else {}


def config_of(file: ResultFile) -> dict[str, Any]:
    """`config` of a result file, empty where there is none."""
    return section(file.content.get("config"))
