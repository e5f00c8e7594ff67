"""The bootstrap interval of the AUROC: a plain loop, coverage, degenerate cases."""

import numpy as np
import pytest

from evaluation.metrics import auroc, auroc_interval


def images(good: int, bad: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and normal scores; those of defective images are higher by `shift`."""
    labels = np.arange(good + bad) >= good
    return labels, np.random.default_rng(seed).normal(size=good + bad) + shift * labels


@pytest.mark.parametrize("decimals", [9, 0])
def test_equals_a_plain_loop_but_for_the_draws(decimals: int) -> None:
    """Another generator's 2000 draws; rounded scores have ties."""
    labels, scores = images(40, 30, 3)
    scores = scores.round(decimals)
    rng, areas = np.random.default_rng(99), []
    for _ in range(2000):
        good, bad = rng.choice(scores[~labels], 40), rng.choice(scores[labels], 30)
        areas.append(auroc(labels, np.concatenate([good, bad])))
    found = auroc_interval(labels, scores)
    assert found == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.012)
    assert found == auroc_interval(labels, scores)
    assert found == auroc_interval(labels, np.exp(scores)), "of the order of scores alone"


def test_chunks_of_draws_cover_as_whole_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = images(40, 30, 3)
    whole = auroc_interval(labels, scores)
    monkeypatch.setattr("evaluation.metrics.interval.CELLS", 70 * 300)  # 300, 300, 300 and 100 draws
    assert auroc_interval(labels, scores) == pytest.approx(whole, abs=0.015)


def test_true_value_is_in_about_95_of_100_intervals() -> None:
    """Normal scores one deviation apart: the true AUROC is Phi(1 / sqrt 2) = 0.76025."""
    ends = [auroc_interval(*images(50, 50, seed)) for seed in range(300)]
    inside = [low < 0.76025 < high for low, high in filter(None, ends)]
    assert len(inside) == 300
    assert 0.91 <= np.mean(inside) <= 0.98


def test_more_images_make_it_narrower() -> None:
    few, many = (auroc_interval(*images(n, n, 1)) for n in (25, 400))
    assert few is not None
    assert many is not None
    assert many[1] - many[0] == pytest.approx((few[1] - few[0]) / 4, rel=0.4)


@pytest.mark.parametrize(
    ("good", "bad"),
    [([], [1, 2]), ([1, 2], []), ([1], [0, 2]), ([0, 2], [1]), ([0, 1], [2, 3]), ([2, 3], [0, 1]), ([1, 1], [1, 1])],
)
def test_none_where_draws_say_nothing(good: list[float], bad: list[float]) -> None:
    labels = np.array([False] * len(good) + [True] * len(bad))
    assert auroc_interval(labels, np.array(good + bad, float)) is None
