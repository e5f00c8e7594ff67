"""Depth to points: figures worked out by hand, and what counts as measured."""

from typing import Any

import numpy as np
import pytest

from datasets.scenes import render_scene
from processing.rgbd_depth import TINY, depth_to_points, extent, measured, to_cloud


def test_points_of_a_small_depth_image_by_hand() -> None:
    depth = np.array([[2.0, 4.0, 1.0], [3.0, 5.0, 8.0]])
    points = depth_to_points(depth, fx=2, fy=4, cx=1, cy=0.5)
    expected = [
        [[-1.0, -0.25, 2.0], [0.0, -0.5, 4.0], [0.5, -0.125, 1.0]],
        [[-1.5, 0.375, 3.0], [0.0, 0.625, 5.0], [4.0, 1.0, 8.0]],
    ]
    assert points.tolist() == expected


def test_known_scene_comes_back_from_its_exact_depth() -> None:
    scene = render_scene("gear", None, 120, 1)
    camera = scene.camera
    valid = (scene.xyz != 0).all(axis=2)
    points = depth_to_points(scene.xyz[..., 2], camera.focal, camera.focal, camera.cx, camera.cy)
    cloud = to_cloud(points, measured(scene.xyz[..., 2]))
    np.testing.assert_array_equal((cloud != 0).all(axis=2), valid)
    np.testing.assert_allclose(cloud, scene.xyz, rtol=0, atol=1e-7)


def test_points_on_the_axes_stay_valid() -> None:
    """x = 0 at u = cx and y = 0 at v = cy: all that reads clouds calls such points invalid."""
    depth = np.full((3, 5), 0.5)
    depth[0, 0] = 0
    cloud = to_cloud(depth_to_points(depth, 100, 100, 2, 1), depth > 0)
    assert np.count_nonzero((cloud != 0).all(axis=2)) == 14
    assert not cloud[0, 0].any()
    assert cloud[:, 2, 0].tolist() == [np.float32(TINY)] * 3
    assert cloud[1, :, 1].tolist() == [np.float32(TINY)] * 5
    assert cloud[2, 4].tolist() == pytest.approx([0.01, 0.005, 0.5])


def test_zero_nan_and_infinity_were_not_measured() -> None:
    depth = np.array([[0.0, np.nan, np.inf, -np.inf, 0.3, -0.3]])
    assert measured(depth).tolist() == [[False, False, False, False, True, True]]
    cloud = np.array([[[0, 0, 0], [1, 1, 0], [1, 1, np.nan], [np.nan, 1, 1], [0, 0, 1], [1, np.inf, 1]]], np.float32)
    assert measured(cloud).tolist() == [[False, False, False, False, True, False]]


@pytest.mark.parametrize(
    ("dtype", "largest"), [(np.uint16, 65535), (np.int16, 32767), (np.float32, 3.4028234663852886e38)]
)
def test_invalid_names_one_more_value(dtype: Any, largest: float) -> None:
    stored: np.ndarray = np.array([[1000, 2000, largest, 0]], dtype)
    assert measured(stored).tolist() == [[True, True, True, False]]
    assert measured(stored, "maximum").tolist() == [[True, True, False, False]]
    assert measured(stored, 2000.0).tolist() == [[True, False, True, False]]
    assert measured(stored, -1.0).tolist() == [[True, True, True, False]]
    cloud = np.stack([stored, stored + 1, stored[:, ::-1]], axis=-1)  # only z counts
    assert measured(cloud, "maximum").tolist() == [[False, False, True, True]]


def test_what_is_behind_the_camera_or_too_far_for_the_type_is_invalid() -> None:
    points = np.array([[[1, 1, -1], [1, 1, 1e300], [1e-60, 1, 1], [1, 1, 1e-60], [1, 2, 3], [4, 5, 6]]])
    cloud = to_cloud(points, np.array([[True, True, True, True, True, False]]))
    assert cloud.dtype == np.float32
    assert cloud[0, [0, 1, 3, 5]].tolist() == [[0, 0, 0]] * 4
    assert cloud[0, 2].tolist() == [np.float32(TINY), 1, 1]
    assert cloud[0, 4].tolist() == [1, 2, 3]


def test_extent_is_that_of_the_valid_points() -> None:
    cloud = np.zeros((2, 3, 3), np.float32)
    cloud[0, 0] = [-1, 2, 5]
    cloud[1, 1] = [1, 2.5, 5.25]
    cloud[1, 2] = [0.5, 2.25, 5]
    assert extent(cloud).tolist() == [2, 0.5, 0.25]
    assert extent(np.zeros((2, 2, 3), np.float32)).tolist() == [0, 0, 0]
