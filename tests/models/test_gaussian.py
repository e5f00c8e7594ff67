"""Gaussian filters: what is known of them in closed form, and what they do at borders."""

import math

import pytest
import torch

from models.gaussian import gaussian_matrix

SIZE = 224


def test_derivatives_of_a_parabola() -> None:
    line = torch.arange(SIZE).float()
    centre = (torch.arange(56) + 0.5) * 4 - 0.5
    middle = slice(8, 48)
    for scale in (1.5, 3.0):
        mean, slope, curvature = (gaussian_matrix(SIZE, 56, scale, order) @ line.square() for order in range(3))
        torch.testing.assert_close(mean[middle], (centre.square() + scale**2)[middle], rtol=1e-4, atol=0)
        torch.testing.assert_close(slope[middle], (2 * centre * scale)[middle], rtol=1e-3, atol=0)
        torch.testing.assert_close(curvature[middle], torch.full((40,), 2 * scale**2), rtol=0.02, atol=0)


def test_an_impulse_becomes_the_bell() -> None:
    matrix = gaussian_matrix(64, 64, 2.0, 0)
    expected = torch.tensor([math.exp(-(d**2) / 8) / (2 * math.sqrt(2 * math.pi)) for d in range(-5, 6)])
    torch.testing.assert_close(matrix[27:38, 32], expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("order", "left"), [(0, 1.0), (1, 0.0), (2, 0.0)])
def test_a_constant_is_kept_at_repeated_borders(order: int, left: float) -> None:
    found = gaussian_matrix(32, 32, 3.0, order) @ torch.ones(32)
    torch.testing.assert_close(found, torch.full((32,), left), rtol=0, atol=2e-4)  # cut at 4.3 deviations


def test_beyond_borders_that_are_not_repeated_there_is_nothing() -> None:
    found = gaussian_matrix(64, 64, 3.0, 0, clamp=False) @ torch.ones(64)
    assert float(found[0]) == pytest.approx(0.5 + 0.5 / (3 * math.sqrt(2 * math.pi)), abs=1e-3)  # half, and its pixel
    assert float(found[32]) == pytest.approx(1, abs=1e-5)
