"""Two settings beside each other, seed by seed: the mean of their differences, with its interval."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from scipy import special

from evaluation.tables.runs import DEFECT_METRICS, METRICS, Run, metric_of
from evaluation.tables.tables import COUNT, Table, mean

CONFIDENCE = 0.95


def paired_table(title: str, pairs: Sequence[tuple[str, Mapping[str, Run], Mapping[str, Run]]]) -> Table:
    """A row for each pair and metric: difference, its interval and deviation, and the number of seeds.

    Args:
        title: of the table.
        pairs: a name; seed → run of the one; seed → run of the other. Differences are the first minus the second.
    """
    rows: list[tuple[str, list[float | None]]] = []
    deviations: list[list[float | None]] = []
    for label, one, other in pairs:
        for metric in DEFECT_METRICS:
            found = differences(one, other, metric)
            low, high = interval(found)
            rows.append((f"{label}: {metric}", [mean(found), low, high, float(len(found))]))
            deviations.append([stdev(found) if len(found) > 1 else None, None, None, None])
    notes = [
        "Differences of the means over the classes that both have, with the same seed; ±: their standard deviation "
        f"over seeds (n - 1). low, high: {100 * CONFIDENCE:.0f} % interval of the mean difference by Student's t over "
        "seeds; -: one seed says nothing. It is about the chance of seeds, not that of test images."
    ]
    return Table(title, "pair", ["difference", "low", "high", COUNT], rows, notes, deviations)


def differences(one: Mapping[str, Run], other: Mapping[str, Run], metric: str) -> list[float]:
    """Of each seed that both have, one's mean over classes minus the other's, over the classes that both have."""
    found = []
    for seed in one:
        if seed in other:
            names = [name for name in one[seed].results if name in other[seed].results]
            figures = [[metric_of(run[seed].results[name], METRICS[metric]) for name in names] for run in (one, other)]
            both = [(a, b) for a, b in zip(*figures, strict=True) if a is not None and b is not None]
            if both:
                found.append(fmean(a - b for a, b in both))
    return found


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Ends of the interval of a mean by Student's t distribution; (None, None) for less than two values."""
    if len(values) < 2:
        return None, None
    half = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half
