"""Aggregation, smoothing and the normalisations of an anomaly map."""

import pytest
import torch

from benchmarks import plain_cfm
from models.anomaly_map import AnomalyMap, make_anomaly_map, smooth


def random_map(seed: int) -> torch.Tensor:
    return torch.rand(224, 224, generator=torch.Generator().manual_seed(seed))


def test_smoothing_equals_the_convolutions() -> None:
    torch.testing.assert_close(smooth(random_map(0)), plain_cfm.smooth(random_map(0)), rtol=1e-5, atol=1e-7)


def test_smoothing_keeps_mass_and_spreads_like_a_gaussian_of_4_7_pixels() -> None:
    impulse = torch.zeros(224, 224)
    impulse[112, 112] = 1
    spread = smooth(impulse)
    offsets = torch.arange(224) - 112.0
    assert float(spread.sum()) == pytest.approx(1, rel=1e-5)
    # Five boxes of variance (25 − 1)/12 and three of (49 − 1)/12.
    assert float((spread.sum(0) * offsets.square()).sum()) == pytest.approx(5 * 2 + 3 * 4, rel=1e-4)


def test_aggregations() -> None:
    a, b = random_map(1), random_map(2)
    expected = {"product": a * b, "sum": a + b, "max": torch.maximum(a, b), "2d": a, "3d": b}
    for name, combined in expected.items():
        assert torch.equal(make_anomaly_map(a, b, name).smoothed, smooth(combined)), name


def test_three_normalisations() -> None:
    smoothed = torch.zeros(4, 4)
    smoothed[0, 0], smoothed[1, 1] = 3.0, 1.0
    found = AnomalyMap(smoothed, smoothed, smoothed)
    assert float(found.aupro_map().max()) == pytest.approx(3 / 2)
    assert found.image_score() == pytest.approx(3 / 2**0.5)
    assert float(found.pixel_map().max()) == pytest.approx(3 / (4 / 16) ** 0.5)


def test_all_zero_map_scores_zero() -> None:
    found = make_anomaly_map(torch.zeros(224, 224), torch.zeros(224, 224), "product")
    assert found.image_score() == 0
    assert not found.aupro_map().any()
    assert not found.pixel_map().any()
