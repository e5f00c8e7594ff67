"""Maps of cells against interpolation pixel by pixel and scipy's Gaussian."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from models.memory.maps import BankMap, spread


@pytest.mark.parametrize("side", [28, 56])
def test_map_is_that_of_the_plain_version(side: int) -> None:
    distances = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    plain, smoothed = spread(distances)
    cells = distances.double().numpy()
    places = (np.arange(224) + 0.5) * side / 224 - 0.5
    low = np.floor(places).astype(int)
    share = places - low
    low, high = low.clip(0, side - 1), (low + 1).clip(0, side - 1)
    lines = cells[low] * (1 - share)[:, None] + cells[high] * share[:, None]
    wanted = lines[:, low] * (1 - share) + lines[:, high] * share
    np.testing.assert_allclose(plain.numpy(), wanted, atol=1e-6)
    np.testing.assert_allclose(smoothed.numpy(), gaussian_filter(wanted, 4, mode="nearest", truncate=5), atol=1e-4)


def test_image_score_is_the_banks() -> None:
    plain, smoothed = spread(torch.rand(28, 28))
    assert BankMap(plain, plain, smoothed, torch.tensor(7.5)).image_score() == 7.5
