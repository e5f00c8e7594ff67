"""How far the area under the ROC curve may be off, given that the test images are few."""

import numpy as np

LEVEL = 0.95
DRAWS = 1000
SEED = 0
CELLS = 2_000_000  # of a table of draws × scores that are held at a time


def auroc_interval(labels: np.ndarray, scores: np.ndarray) -> list[float] | None:
    """95 % interval of the AUROC by a stratified percentile bootstrap (Efron and Tibshirani, 1993, chapter 13).

    Each of 1000 draws takes as many good images with replacement as there are, and as many defective ones; the ends
    are the 2.5 % and 97.5 % quantiles of the AUROCs of the draws. The seed is fixed: equal scores, equal interval.

    Args:
        labels: (N,) bool, True = anomalous.
        scores: (N,) finite, higher = more anomalous.

    Returns:
        Both ends in [0, 1]; None where the draws say nothing: less than two good or two defective images, or the same
        AUROC in every draw, as when all defective images score above all good ones.
    """
    places = np.unique(scores, return_inverse=True)[1].reshape(-1)
    good, bad = places[~labels], places[labels]
    if min(len(good), len(bad)) < 2:
        return None
    rng, distinct = np.random.default_rng(SEED), int(places.max()) + 1
    step = max(1, CELLS // max(distinct, len(scores)))
    areas = np.concatenate([_areas(good, bad, distinct, min(step, DRAWS - i), rng) for i in range(0, DRAWS, step)])
    if areas.min() == areas.max():
        return None
    return [float(end) for end in np.quantile(areas, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))]


def _areas(good: np.ndarray, bad: np.ndarray, distinct: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) AUROCs of resampled images; good, bad: places of their scores among `distinct` ones, ascending."""
    row = distinct * np.arange(draws)[:, None]
    drawn_good = good[rng.integers(0, len(good), (draws, len(good)))]
    drawn_bad = bad[rng.integers(0, len(bad), (draws, len(bad)))]
    count = np.bincount((drawn_good + row).ravel(), minlength=draws * distinct).reshape(draws, distinct)
    twice_below = 2 * count.cumsum(axis=1) - count  # of each score: good images below count two, ties one
    return twice_below.ravel()[drawn_bad + row].sum(axis=1) / (2 * len(good) * len(bad))
