"""What a threshold makes of scores: verdicts, their counts, and which samples deserve a look first."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.results import GOOD, Prediction

CAUGHT, MISSED, FALSE_ALARM, PASSED = "caught", "missed", "false alarm", "passed"
BINS = 36


def verdict(label: bool, score: float, threshold: float | None) -> str | None:
    """What the decision "above the threshold is anomalous" means for a sample; None without a threshold.

    Args:
        label: True = anomalous.
        score: `raw_max`.
    """
    if threshold is None:
        return None
    if label:
        return CAUGHT if score > threshold else MISSED
    return FALSE_ALARM if score > threshold else PASSED


def counts(predictions: Sequence[Prediction], threshold: float) -> dict[str, int]:
    """How often each verdict is given, in the order caught, missed, false alarm, passed."""
    found = Counter(verdict(p.label, p.raw_max, threshold) for p in predictions)
    return {name: found[name] for name in (CAUGHT, MISSED, FALSE_ALARM, PASSED)}


def worst_first(predictions: Sequence[Prediction], threshold: float | None) -> list[int]:
    """Indices of the predictions, those that deserve a look first.

    With a threshold: misses, the lowest score first; false alarms, the highest first; then the others, the closest to
    the threshold first. Without: defects, the lowest score first, then good samples, the highest first. Equal ones by
    defect and stem.
    """

    def key(index: int) -> tuple[int, float, str, str]:
        p = predictions[index]
        if threshold is None:
            group, distance = (0, p.raw_max) if p.label else (1, -p.raw_max)
        else:
            group = {MISSED: 0, FALSE_ALARM: 1}.get(verdict(p.label, p.raw_max, threshold) or "", 2)
            distance = (p.raw_max, -p.raw_max, abs(p.raw_max - threshold))[group]
        return group, distance, p.defect, p.stem

    return sorted(range(len(predictions)), key=key)


def histogram(predictions: Sequence[Prediction], bins: int = BINS) -> dict[str, Any]:
    """How the scores `raw_max` are distributed.

    Returns:
        `edges` of the bins, bins + 1 ascending; `counts`, from "good" (where there are any) and then each defect by
        name to how many of its samples lie in each bin, the last one with its upper edge.
    """
    edges = np.histogram_bin_edges([p.raw_max for p in predictions], bins)
    kinds = sorted({p.defect for p in predictions}, key=lambda defect: (defect != GOOD, defect))
    values = {kind: [p.raw_max for p in predictions if p.defect == kind] for kind in kinds}
    return {
        "edges": edges.tolist(),
        "counts": {kind: np.histogram(scores, edges)[0].tolist() for kind, scores in values.items()},
    }
