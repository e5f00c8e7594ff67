"""evaluation/thresholds.py: ranks worked out by hand, what they promise counted over many draws, files."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.thresholds import (
    NominalScores,
    conformal_rank,
    load_scores,
    load_thresholds,
    measure,
    save_scores,
)
from utils.errors import UserError

SCORES = NominalScores(
    source="validation",
    settings={"aggregation": "product"},
    weights="abc",
    maxima=[0.5, 0.1, 0.4, 0.2, 0.3, 0.6, 0.9, 0.8, 0.7],
    levels=[0.05, 0.01, 0.04, 0.02, 0.03, 0.06, 0.09, 0.08, 0.07],
    medians=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
)


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [
        (9, 0.1, 9),  # ten places, one of them above the ninth score
        (9, 0.2, 8),
        (9, 0.5, 5),
        (9, 0.01, 9),  # no score would do: the largest
        (99, 0.01, 99),
        (99, 0.05, 95),
        (100, 0.01, 100),  # 101 · 0.99 = 99.99
        (199, 0.01, 198),
        (19, 0.05, 19),  # 20 · 0.95 = 19, though not in floating point
        (1, 0.5, 1),
        (3, 0.999, 1),
    ],
)
def test_conformal_rank(count: int, rate: float, rank: int) -> None:
    assert conformal_rank(count, rate) == rank


@pytest.mark.parametrize(("count", "rate"), [(0, 0.1), (5, 0.0), (5, 1.0), (5, float("nan"))])
def test_rank_of_nothing_is_refused(count: int, rate: float) -> None:
    with pytest.raises(ValueError, match="at least one score and a rate"):
        conformal_rank(count, rate)


def test_thresholds_are_sorted_scores_at_the_rank() -> None:
    limits = SCORES.thresholds(0.2)
    assert (limits.image, limits.map, limits.typical) == (0.8, 0.08, 0.4)
    assert (limits.images, limits.rank, limits.source, limits.rate) == (9, 8, "validation", 0.2)
    assert limits.guaranteed == pytest.approx(0.2)
    assert SCORES.thresholds(0.01).image == 0.9
    assert SCORES.thresholds(0.01).guaranteed == pytest.approx(0.1)


def test_upper_limit_is_the_quantile_of_the_beta_law() -> None:
    """With rank n the rate is the chance to exceed n scores: P(rate ≤ u) = 1 − (1 − u)ⁿ."""
    limits = SCORES.thresholds(0.1)
    assert 1 - (1 - limits.upper) ** 9 == pytest.approx(0.95)


def test_statement_says_how_much_is_promised_and_from_what() -> None:
    text = SCORES.thresholds(0.2).statement()
    assert "At most 20 % of good parts" in text
    assert "9 nominal validation images" in text
    assert "takes at least" not in text
    text = replace(SCORES, source="hold-out").thresholds(0.01).statement()
    assert "At most 10 % of good parts" in text
    assert "The 1 % that was asked for takes at least 99 images" in text
    assert "training images were kept back" in text


@pytest.mark.parametrize(
    ("count", "rate"), [(19, 0.05), (39, 0.05), (99, 0.01), (199, 0.01), (999, 0.01), (999, 0.001), (120, 0.01)]
)
def test_enough_images_are_not_called_too_few(count: int, rate: float) -> None:
    values = [0.1 * i for i in range(count)]
    limits = replace(SCORES, maxima=values, levels=values, medians=values).thresholds(rate)
    assert "takes at least" not in limits.statement()
    values = values[: round(1 / rate) - 2]
    assert (
        "takes at least" in replace(SCORES, maxima=values, levels=values, medians=values).thresholds(rate).statement()
    )


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (40, 0.1), (99, 0.01)])
def test_promises_hold_over_many_draws(count: int, rate: float) -> None:
    """Scores of a skewed law: the mean false-alarm rate keeps the promise, and one draw in twenty exceeds `upper`."""
    generator = np.random.default_rng(0)
    draws, observed = 3000, []
    for _ in range(draws):
        nominal = generator.exponential(size=count)
        limits = replace(SCORES, maxima=nominal.tolist(), levels=nominal.tolist(), medians=nominal.tolist()).thresholds(
            rate
        )
        observed.append(float(np.exp(-limits.image)))  # P(new score > threshold)
    assert np.mean(observed) == pytest.approx(limits.guaranteed, rel=0.1)
    assert limits.guaranteed <= rate + 1e-12
    assert np.mean(np.array(observed) > limits.upper) == pytest.approx(0.05, abs=0.012)


def test_measure_takes_level_and_median_from_the_foreground() -> None:
    smoothed = np.zeros((20, 20), np.float32)
    foreground = np.zeros((20, 20), bool)
    foreground[:10] = True
    smoothed[:10] = np.arange(200).reshape(10, 20)
    smoothed[15, 15] = 500  # beside the object: smoothing spills over
    maximum, level, median = measure(smoothed, foreground)
    assert (maximum, level, median) == (500, 197, 99.5)
    assert (smoothed[foreground] > level).mean() == 0.01


def test_measure_of_a_sample_without_points() -> None:
    assert measure(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)) == (0, 0, 0)


def test_scores_survive_their_file(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.json", SCORES)
    assert asdict(load_scores(tmp_path / "s.json")) == asdict(SCORES)
    found, note = load_thresholds(tmp_path / "s.json", SCORES.settings, "abc", 0.2)
    assert (found, note) == (SCORES.thresholds(0.2), None)


def test_thresholds_hold_for_their_own_maps_only(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    missing, note = load_thresholds(path, SCORES.settings, "abc", 0.2)
    assert missing is None
    assert note is not None
    assert "calibrate.py" in note
    save_scores(path, SCORES)
    other, note = load_thresholds(path, {"aggregation": "sum"}, "abc", 0.2)
    assert other is None
    assert note is not None
    assert "{'aggregation': 'product'}, not {'aggregation': 'sum'}" in note
    with pytest.raises(UserError, match="other weights"):
        load_thresholds(path, SCORES.settings, "abd", 0.2)


@pytest.mark.parametrize(
    "change",
    [
        {"maxima": []},
        {"maxima": [1.0], "levels": [1.0]},
        {"maxima": ["much"] * 9},
        {"levels": None},
        {"medians": [float("inf")] * 9},
        {"settings": 3},
    ],
)
def test_damaged_files_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({**asdict(SCORES), **change}))
    with pytest.raises(UserError, match=r"s\.json"):
        load_scores(path)
