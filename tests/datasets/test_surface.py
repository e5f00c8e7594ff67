"""datasets/surface.py: areas of pixels follow the definition, and belong to points, repeated or not."""

import numpy as np
import pytest

from datasets import surface
from datasets.frames import nearest
from datasets.surface import pixel_areas
from tests.datasets.planes import flat


def plain_areas(cloud: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = cloud.shape[:2]
    areas = np.full((height, width), np.nan)
    for i, j in np.ndindex(height, width):
        along = []
        for neighbours in (((i, j - 1), (i, j + 1)), ((i - 1, j), (i + 1, j))):
            there = [(a, b) for a, b in neighbours if 0 <= a < height and 0 <= b < width and (cloud[a, b] != 0).all()]
            if there:
                along.append(min((cloud[place] - cloud[i, j] for place in there), key=np.linalg.norm))
        if len(along) == 2 and (cloud[i, j] != 0).all():
            areas[i, j] = np.linalg.norm(np.cross(*along))
    return areas


@pytest.mark.parametrize("strip", [1, 60, 1 << 16])
def test_areas_follow_the_definition_whatever_is_computed_at_a_time(
    strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface, "_STRIP", strip)
    rng = np.random.default_rng(1)
    cloud = rng.uniform(0.1, 1, (17, 23, 3)) * (rng.random((17, 23, 1)) < 0.6)
    found, expected = pixel_areas(cloud), plain_areas(cloud)
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(80, 80), (40, 120), (57, 93), (400, 200)])
def test_pixels_that_were_repeated_share_the_area_of_their_point(height: int, width: int) -> None:
    """Enlarged by the nearest pixel, to other shares in height and width too: each point keeps its area."""
    rng = np.random.default_rng(3)
    cloud = flat(40, 40).astype(np.float64)
    cloud[..., 2] += rng.uniform(0, 0.003, (40, 40))
    cloud[rng.random((40, 40)) < 0.1] = 0
    large = nearest(cloud, (height, width))
    rows, columns = np.arange(height) * 40 // height, np.arange(width) * 40 // width
    shared = np.zeros((40, 40))
    np.add.at(shared, (rows[:, None], columns[None, :]), pixel_areas(large))
    np.testing.assert_allclose(shared, pixel_areas(cloud), rtol=1e-9)


def test_reduced_clouds_have_larger_pixels() -> None:
    np.testing.assert_allclose(pixel_areas(nearest(flat(60, 60), (30, 20))), 0.004 * 0.006, rtol=1e-5)
