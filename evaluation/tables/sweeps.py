"""Rows of runs over classes and seeds → the tables of a sweep: means, classes, pairs, speed and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.tables.paired import paired_table
from evaluation.tables.published import PUBLISHED_METRICS, marked, sources
from evaluation.tables.runs import METRICS, Run, metric_of
from evaluation.tables.seeds import joined, section, side_by_side, spread, text_of
from evaluation.tables.tables import COUNT, PEAK, PEAK_GPU, Table, mean

SHOWN = tuple(PUBLISHED_METRICS)
"""The metrics of these tables: those that papers give."""
SECONDS = "s an image"
Figures = list[float | None]


@dataclass(frozen=True)
class Row:
    """What was made with the same settings.

    Attributes:
        label: its name.
        settings: option → text of its value, of the options that tell rows apart, in the order of the grid.
        runs: seed → its classes.
        missing: class and seed of what is not finished.
        published: name of the published method that it stands beside; empty for none.
    """

    label: str
    settings: Mapping[str, str]
    runs: Mapping[str, Run]
    missing: Sequence[str] = ()
    published: str = ""

    @property
    def classes(self) -> list[str]:
        """The classes that any seed has."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run.results))


def figures_of(row: Row, classes: Sequence[str]) -> dict[str, list[float | None]]:
    """`mean` and `deviation` over seeds of SHOWN, each seed's figure a mean over these classes; see `seeds.spread`."""
    found = [
        [mean([metric_of(run.results.get(name), METRICS[metric]) for name in classes]) for metric in SHOWN]
        for run in row.runs.values()
    ]
    return spread(found) if found else {"mean": [None] * len(SHOWN), "deviation": [None] * len(SHOWN)}


def sweep_tables(
    title: str, rows: Sequence[Row], compare: str, benchmark: Mapping[str, Any] | None, notes: Sequence[str] = ()
) -> list[Table]:
    """The tables of a sweep.

    Args:
        title: of all of them.
        rows: at least one.
        compare: setting whose values are compared in pairs, each with the first of them.
        benchmark: an entry of `published.load_published`; None without published figures.
        notes: to stand below the first table.
    """
    first = means_table(title, rows, benchmark)
    first.notes.extend([*missing_notes(rows), *notes])
    tables = [first]
    classes = list(dict.fromkeys(name for row in rows for name in row.classes))
    if len(classes) > 1:
        tables += [classes_table(title, rows, classes, metric, benchmark) for metric in SHOWN]
    if pairs := pairs_of(rows, compare):
        tables.append(paired_table(f"{title}: differences over the same seeds", pairs))
    return [*tables, cost_table(title, rows)]


def means_table(title: str, rows: Sequence[Row], benchmark: Mapping[str, Any] | None) -> Table:
    """One row per row: mean over classes, then over seeds; published figures and the difference below it."""
    lines: list[tuple[str, Figures]] = []
    deviations: list[Figures] = []
    for row in rows:
        own = figures_of(row, row.classes)
        lines.append((row.label, [*own["mean"], float(len(row.runs))]))
        deviations.append([*own["deviation"], None])
        if benchmark and row.published:
            name, given = _published(row.published, benchmark)
            theirs = [_published_mean(given.get(metric), benchmark, row.classes) for metric in SHOWN]
            lines += [(f"published: {name}", [*theirs, None]), ("difference", [*_minus(own["mean"], theirs), None])]
            deviations += [[None] * (len(SHOWN) + 1)] * 2
    notes = ["Means over classes, then over seeds; ±: standard deviation over seeds, of a sample (n - 1)."]
    notes += _about(rows, benchmark)
    return Table(f"{title}: means over classes", "row", [*SHOWN, COUNT], lines, notes, deviations)


def classes_table(
    title: str, rows: Sequence[Row], classes: Sequence[str], metric: str, benchmark: Mapping[str, Any] | None
) -> Table:
    """One metric, class by class, as papers print it; the last column is the mean over the classes of the row."""
    place = SHOWN.index(metric)
    lines: list[tuple[str, Figures]] = []
    deviations: list[Figures] = []
    for row in rows:
        each = [figures_of(row, names) for names in (*([name] for name in classes), row.classes)]
        lines.append((row.label, [of["mean"][place] for of in each]))
        deviations.append([of["deviation"][place] for of in each])
        if benchmark and row.published:
            name, given = _published(row.published, benchmark)
            columns = (*([own] for own in classes), row.classes)
            theirs = [_published_mean(given.get(metric), benchmark, names) for names in columns]
            lines += [(f"published: {name}", theirs), ("difference", _minus(lines[-1][1], theirs))]
            deviations += [[None] * (len(classes) + 1)] * 2
    return Table(f"{title}: {metric}", "row", [*classes, "mean"], lines, _about(rows, benchmark), deviations)


def pairs_of(rows: Sequence[Row], compare: str) -> list[tuple[str, Mapping[str, Run], Mapping[str, Run]]]:
    """Each row and the one that has the first value of `compare` and is otherwise the same, with a name."""
    values = list(dict.fromkeys(row.settings[compare] for row in rows if compare in row.settings))
    firsts = {_others(row, compare): row for row in rows if row.settings.get(compare) == values[0]} if values else {}
    found = []
    for row in rows:
        reference = firsts.get(_others(row, compare))
        if reference is not None and reference is not row:
            rest = "".join(f", {name} {text}" for name, text in row.settings.items() if name != compare)
            label = f"{row.settings[compare]} - {values[0]}{rest}"
            found.append((label, row.runs, reference.runs))
    return [(label, one, other) for label, one, other in found if one.keys() & other.keys()]


def cost_table(title: str, rows: Sequence[Row]) -> Table:
    """Seconds and memory of an image's inference, seconds of a training and size of its weights: means over classes and
    seeds."""
    columns = [SECONDS, "images a s", PEAK, PEAK_GPU, "training s", "weights MB"]
    lines: list[tuple[str, Figures]] = []
    said: list[Mapping[str, str]] = []
    for row in rows:
        files, timings, seconds = contents(row), [section(of.get("timing")) for of in contents(row)], seconds_of(row)
        peaks = [[_number(section(t.get("peak_mib")).get(name)) for t in timings] for name in ("process", "gpu")]
        spent = [section(section(section(c.get("config")).get("training")).get("seconds")) for c in files]
        training = mean([sum(filter(None, map(_number, of.values()))) if of else None for of in spent])
        size = mean([_number(t.get("weights_mb")) for t in timings])
        speed = [seconds, 1 / seconds if seconds else None]
        lines.append((row.label, [*speed, mean(peaks[0]), mean(peaks[1]), training, size]))
        said += [
            {"timed": text_of(t.get("timed")), "device": text_of(t.get("device")), "on": _processor(t)} for t in timings
        ]
    about = side_by_side(said)
    notes = [
        f"{SECONDS}: median over a class's images, {about.get('timed', 'not known what')}; then the mean over classes "
        "and seeds.",
        f"{PEAK}: the most memory that the process of the evaluation held until the last image, with Python, "
        f"libraries, weights and the maps that it keeps; {PEAK_GPU}: of torch's tensors on the GPU. training s: "
        "wall-clock, with reading and extraction where tokens were not there already. weights MB: of a class's files "
        "of weights, without pretrained networks.",
        f"Measured on {about.get('on', 'machines that are not known')}, device {about.get('device', 'not known')}. "
        "Jobs that run beside each other slow each other down: measure speed with --jobs 1.",
    ]
    return Table(f"{title}: speed and memory", "row", columns, lines, notes)


def contents(row: Row) -> list[Mapping[str, Any]]:
    """The result files of a row."""
    return [file.content for run in row.runs.values() for file in run.files.values()]


def seconds_of(row: Row) -> float | None:
    """Seconds an image: a class's median, then the mean over classes and seeds."""
    return mean([_number(section(of.get("timing")).get("seconds_per_image_median")) for of in contents(row)])


def position(row: Row, option: str) -> float | None:
    """Where a row stands on an axis of an option's values; for `all` of `shots` that is their mean number."""
    try:
        return float(row.settings[option])
    except ValueError:
        trained = [section(section(of.get("config")).get("training")) for of in contents(row)]
        return mean([_number(of.get("images")) for of in trained]) if option == "shots" else None


def missing_notes(rows: Sequence[Row]) -> list[str]:
    """Which figures are not there."""
    empty = [row.label for row in rows if not row.runs]
    none = [f"Not finished at all: {'; '.join(empty)}."] if empty else []
    return none + [
        f"{row.label}: not there are {joined(row.missing)}; its means are over the rest, not comparable with the "
        "others."
        for row in rows
        if row.missing and row.runs
    ]


def _others(row: Row, compare: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in row.settings.items() if name != compare)


def _processor(timing: Mapping[str, Any]) -> str:
    machine = section(timing.get("machine"))
    name = (timing.get("device") == "cuda" and machine.get("gpu")) or machine.get("cpu")
    return f"{text_of(name)}, {text_of(machine.get('cores'))} cores" if name else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else None


def _minus(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Figures:
    return [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]


def _published(name: str, benchmark: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A published method's name with the mark of how its figures are known, and metric → its figures."""
    given = {m: benchmark[key][name] for m, key in PUBLISHED_METRICS.items() if name in benchmark.get(key, {})}
    return (marked(name, next(iter(given.values()))) if given else name), given


def _published_mean(
    given: Mapping[str, Any] | None, benchmark: Mapping[str, Any], classes: Sequence[str]
) -> float | None:
    """Mean of a published method over these classes; None where it was not published for just them."""
    if given is None or not set(classes) <= set(benchmark["classes"]):
        return None
    if set(classes) == set(benchmark["classes"]):
        mean_of_all: float = given["mean"]
        return mean_of_all
    if given["per_class"] is None or not classes:
        return None
    return mean([given["per_class"][benchmark["classes"].index(name)] for name in classes])


def _about(rows: Sequence[Row], benchmark: Mapping[str, Any] | None) -> list[str]:
    """Where the published figures of a table are from, and over which classes they are."""
    names = [row.published for row in rows if row.published]
    if not benchmark or not names:
        return []
    methods = {n: of for n in names for key in PUBLISHED_METRICS.values() if (of := benchmark.get(key, {}).get(n))}
    note = "Published figures, and the differences from them, are over the classes of the row above; -: not published."
    return [note, sources(methods)]
