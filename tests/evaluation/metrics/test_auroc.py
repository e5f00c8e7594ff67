"""AUROC against the definition by pairs, hand-made cases and the expected values."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics import auroc, auroc_of_sorted, sort_pixels

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def auroc_by_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over all (anomalous, normal) pairs of 1 for the right order, 0.5 for a tie, 0 for the wrong order."""
    wins = [(a > n) + 0.5 * (a == n) for a in scores[labels] for n in scores[~labels]]
    return float(np.mean(wins))


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_equals_the_mean_over_pairs_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    labels = rng.random(120) < 0.3
    scores = (rng.integers(0, levels, 120) + labels).astype(np.float32)
    assert auroc(labels, scores) == pytest.approx(auroc_by_pairs(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0.0),
        ([0, 0, 1, 1], [5, 5, 5, 5], 0.5),
        ([0, 1, 0, 1], [1, 2, 2, 3], 0.875),
        ([1, 1, 1, 0], [0.1, 0.4, 0.2, 0.3], 1 / 3),
    ],
)
def test_hand_made_cases(labels: list[int], scores: list[float], expected: float) -> None:
    assert auroc(np.array(labels, dtype=bool), np.array(scores)) == pytest.approx(expected, abs=1e-15)


def test_unchanged_by_order_and_monotone_rescaling_and_mirrored_by_negation() -> None:
    rng = np.random.default_rng(3)
    labels, scores = rng.random((4, 50)) < 0.2, rng.integers(0, 30, (4, 50)).astype(np.float64)
    order = rng.permutation(200)
    value = auroc(labels, scores)
    assert auroc(labels.ravel()[order], scores.ravel()[order]) == value
    assert auroc(labels, np.exp(scores / 7) - 3) == value
    assert auroc(labels, -scores) == pytest.approx(1 - value, abs=1e-15)


def test_expected_values_of_pixels_and_images() -> None:
    arrays, expected = np.load(GOLDEN / "metrics.npz"), json.loads((GOLDEN / "metrics.json").read_text())
    maps, gts = arrays["maps"], arrays["gts"] > 0
    assert auroc(gts, maps) == pytest.approx(expected["pixel_auroc"], abs=1e-12)
    pixels = sort_pixels(maps, gts)
    assert auroc_of_sorted(pixels.normal, pixels.anomalous) == auroc(gts, maps)
    images = auroc(gts.any(axis=(1, 2)), maps.max(axis=(1, 2)))
    assert images == pytest.approx(expected["image_auroc_max"], abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0], [1.0, 2.0], "2 normal and 0 anomalous"),
        ([1, 1], [1.0, 2.0], "0 normal and 2 anomalous"),
        ([0, 1], [1.0, np.nan], "NaN"),
        ([0, 1], [1.0, 2.0, 3.0], "one shape"),
    ],
)
def test_refusals(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(np.array(labels, dtype=bool), np.array(scores))
