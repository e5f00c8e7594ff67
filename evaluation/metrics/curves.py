"""ROC curves, and curves with fewer points that look the same."""

import numpy as np

from evaluation.metrics.aupro import SortedPixels, pro_curve


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve over all distinct thresholds; the area under it is `auroc`.

    It is the exact PRO curve of regions of one pixel each, and like that one has its vertices only.

    Args:
        labels: any shape, boolean, True = anomalous.
        scores: same shape, any unit, higher = more anomalous, no NaN.

    Returns:
        False-positive rate and true-positive rate, float64 of one length, both ascending from 0 to 1.

    Raises:
        ValueError: shapes differ, or one of the two classes is absent.
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"expected labels and scores of one shape, got {labels.shape} and {scores.shape}")
    normal, anomalous = np.sort(scores[~labels]), np.sort(scores[labels])
    if not normal.size or not anomalous.size:
        raise ValueError(f"a ROC curve needs both classes, got {normal.size} normal and {anomalous.size} anomalous")
    shares = np.arange(anomalous.size + 1) / anomalous.size
    return pro_curve(SortedPixels(normal, anomalous, shares), None)


def thin(x: np.ndarray, y: np.ndarray, points: int = 400, tolerance: float = 0.0005) -> np.ndarray:
    """Which points to keep of a curve so that the straight lines between them look like it.

    From each point that is kept, the next one lies as far on as the line to it passes all points between within the
    tolerance, above or below. Where that keeps too many, the tolerance is raised.

    Args:
        x, y: (K,) each, K ≥ 1, ascending both; `y` may jump where `x` repeats.
        points: at most so many are kept, ≥ 2.
        tolerance: of y, > 0.

    Returns:
        (k,) indices, ascending, the first and the last point among them.
    """
    while True:
        kept = [0]
        while kept[-1] < len(x) - 1 and len(kept) <= points:
            kept.append(_farthest(x, y, kept[-1], tolerance))
        if len(kept) <= points:
            return np.array(kept)
        tolerance *= 1.2


def _farthest(x: np.ndarray, y: np.ndarray, start: int, tolerance: float) -> int:
    """The last point to which a line from `start` passes all points between within the tolerance."""
    size = 64
    while True:
        run, rise = (values[start + 1 : start + 1 + size] - values[start] for values in (x, y))
        with np.errstate(divide="ignore", invalid="ignore"):
            # Slopes that pass a point; straight above `start`, all do while it is close, and afterwards none.
            slope = np.where(run > 0, rise / run, 0.0)
            low = np.where(run > 0, (rise - tolerance) / run, np.where(rise > tolerance, np.inf, -np.inf))
            high = np.where(run > 0, (rise + tolerance) / run, np.inf)
        low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
        reached = int(np.flatnonzero((run == 0) | ((low <= slope) & (slope <= high)))[-1])
        if low[-1] > high[-1] or start + 1 + size >= len(x):
            return start + 1 + reached
        size *= 2
