"""Area under the ROC curve, exact in the presence of ties."""

import numpy as np


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that an anomalous score exceeds a normal one, a tie counting one half.

    This is the Mann-Whitney form of the area under the ROC curve over all distinct thresholds.

    Args:
        labels: any shape, boolean, True = anomalous.
        scores: same shape, any unit, higher = more anomalous.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: shapes differ, a score is NaN, or one of the two classes is absent (the area is undefined).
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"expected labels and scores of one shape, got {labels.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN")
    normal, anomalous = np.sort(scores[~labels]), np.sort(scores[labels])
    if not normal.size or not anomalous.size:
        raise ValueError(f"AUROC needs both classes, got {normal.size} normal and {anomalous.size} anomalous scores")
    return auroc_of_sorted(normal, anomalous)


def auroc_of_sorted(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """`auroc` of scores that were sorted before: (n,) and (m,), ascending, without NaN; neither is empty."""
    below = np.searchsorted(normal, anomalous, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(normal, anomalous, side="right").sum(dtype=np.int64)
    return float(int(below) + int(not_above)) / (2.0 * normal.size * anomalous.size)
