"""Plane removal against planted planes, and against Open3D's RANSAC and DBSCAN on generated scenes."""

import numpy as np
import pytest

from benchmarks.preprocessing_cases import open3d_mask
from datasets.frames import border_mask
from datasets.scenes import render_scene
from datasets.scenes.shapes import OBJECT_CLASSES
from processing.background.removal import fit_plane, object_mask, plane_distances
from utils.errors import UserError

NORMAL = np.array([0.1, 0.2, 1.0]) / np.linalg.norm([0.1, 0.2, 1.0])
OFFSET = -0.6


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def plane_points(count: int, rng: np.random.Generator, noise: float = 4e-5) -> np.ndarray:
    xy = rng.uniform(-0.1, 0.1, (count, 2))
    z = -(OFFSET + xy @ NORMAL[:2]) / NORMAL[2]
    return np.column_stack([xy, z]) + rng.normal(0, noise, (count, 1)) * NORMAL


def scan_with_dome(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A plane at 1 mm a pixel with a 20 mm high dome, and where the dome is more than 5 mm high."""
    v, u = np.mgrid[:height, :width]
    x, y = (u - 0.31 * width) * 1e-3, (v - 0.27 * height) * 1e-3
    radius = 0.3 * min(height, width)
    dome = 0.02 * np.clip(1 - ((u - width / 2) ** 2 + (v - height / 2) ** 2) / radius**2, 0, 1)
    points = np.stack([x, y, 0.6 + 0.08 * x - 0.05 * y], axis=-1)
    normal = np.array([-0.08, 0.05, 1]) / np.linalg.norm([-0.08, 0.05, 1])
    points -= dome[..., None] * normal
    return points.astype(np.float32), dome >= 0.005


@pytest.mark.parametrize("outliers", [0, 0.05, 0.2, 0.3])
def test_plane_is_found_among_outliers(outliers: float) -> None:
    rng = np.random.default_rng(1)
    points = plane_points(8000, rng)
    points[: int(outliers * 8000), 2] -= rng.uniform(0.01, 0.04, int(outliers * 8000))
    plane = fit_plane(points, generator())
    plane *= np.sign(plane[2])
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)
    assert np.degrees(np.arccos(min(1, plane[:3] @ NORMAL))) < 0.01
    assert plane[3] == pytest.approx(OFFSET, abs=1e-5)


def test_plane_may_contain_the_viewing_direction() -> None:
    rng = np.random.default_rng(2)
    points = np.column_stack([np.full(500, 0.3), rng.uniform(-1, 1, (500, 2))])
    plane = fit_plane(points, generator())
    np.testing.assert_allclose(plane * np.sign(plane[0]), [1, 0, 0, -0.3], atol=1e-9)


def test_distances_are_perpendicular() -> None:
    points = plane_points(100, np.random.default_rng(3), noise=0) + 0.007 * NORMAL
    np.testing.assert_allclose(plane_distances(points, np.append(NORMAL, OFFSET)), 0.007, atol=1e-12)


def test_dome_is_kept_and_everything_else_removed() -> None:
    xyz, expected = scan_with_dome()
    xyz[50:60, 90] = 0  # lost points stay lost
    expected[50:60, 90] = False
    mask = object_mask(xyz, generator())
    assert (mask ^ expected).sum() <= 2  # float32 rounding at the 5 mm contour
    assert expected.sum() > 2000


def test_smaller_and_sparse_objects_are_dropped() -> None:
    xyz, expected = scan_with_dome()
    xyz[20:30, 20:30, 2] -= 0.02  # a second object of 100 points
    xyz[::9, 140:, 2] -= 0.03  # flying points
    mask = object_mask(xyz, generator())
    assert (mask ^ expected).sum() <= 2


def test_the_same_generator_gives_the_same_mask() -> None:
    xyz, _ = scan_with_dome()
    xyz[:30, :40, 2] -= 0.015  # a quarter of the border lies off the plane
    masks = [object_mask(xyz, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] ^ masks[2]).sum() <= 5


def test_bare_plane_gives_an_empty_mask() -> None:
    xyz, expected = scan_with_dome()
    xyz[expected] = 0
    assert not object_mask(xyz, generator()).any()


def test_border_without_points_is_an_error() -> None:
    xyz, _ = scan_with_dome()
    xyz[border_mask(xyz.shape)] = 0
    with pytest.raises(UserError, match="0 valid points in the 10-pixel frame border"):
        object_mask(xyz, generator())


@pytest.mark.parametrize("class_name", sorted(OBJECT_CLASSES))
def test_kept_points_agree_with_open3d_on_scenes(class_name: str) -> None:
    scene = render_scene(class_name, "contamination", 400, seed=0)
    ours, reference = object_mask(scene.xyz, generator()), open3d_mask(scene.xyz)
    assert (ours & reference).sum() / (ours | reference).sum() >= 0.995
    assert reference.sum() > 3000
