"""Depth to points: figures worked out by hand, and what counts as measured."""

from typing import Any

import numpy as np
import pytest

from datasets.scenes import render_scene
from datasets.scenes.shapes import OBJECT_CLASSES
from processing.own_data.rgbd_depth import TINY, depth_to_points, extent, measured, stored_by_columns, to_cloud


def test_points_of_a_small_depth_image_by_hand() -> None:
    depth = np.array([[2.0, 4.0, 1.0], [3.0, 5.0, 8.0]])
    points = depth_to_points(depth, fx=2, fy=4, cx=1, cy=0.5)
    expected = [
        [[-1.0, -0.25, 2.0], [0.0, -0.5, 4.0], [0.5, -0.125, 1.0]],
        [[-1.5, 0.375, 3.0], [0.0, 0.625, 5.0], [4.0, 1.0, 8.0]],
    ]
    assert points.tolist() == expected


def test_division_model_by_hand() -> None:
    """At (u, v) = (3, 2): a = (3 - 1)/2 = 1, b = (2 - 0)/4 = 0.5, s = 1 - 0.4 · 1.25 = 0.5, so (a, b)/s = (2, 1)."""
    depth = np.full((3, 4), 3.0)
    points = depth_to_points(depth, fx=2, fy=4, cx=1, cy=0, division=-0.4)
    np.testing.assert_allclose(points[2, 3], [6, 3, 3])
    np.testing.assert_allclose(points[0, 1], [0, 0, 3])  # nothing moves on the optical axis
    np.testing.assert_allclose(points[0, 0], [-0.5 / 0.9 * 3, 0, 3])  # s = 1 - 0.4 · 0.25
    inwards = depth_to_points(depth, fx=2, fy=4, cx=1, cy=0, division=0.4)
    np.testing.assert_allclose(inwards[2, 3], [2, 1, 3])  # s = 1.5
    np.testing.assert_array_equal(
        depth_to_points(depth, 2, 4, 1, 0, 0.0), depth_to_points(depth, fx=2, fy=4, cx=1, cy=0)
    )


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


@pytest.mark.parametrize("name", list(OBJECT_CLASSES))
def test_order_of_the_points_is_told_in_every_shape_and_no_sound_cloud_is_accused(name: str) -> None:
    """Whole, landscape and portrait, ragged and full of holes; in any frame where the image is not square."""
    rng = np.random.default_rng(0)
    scene = render_scene(name, None, 120, 5).xyz
    height, width = scene.shape[:2]
    for rows, columns in ((height, width), (height // 2, width), (height, width // 2), (70, 90), (88, 61), (30, 90)):
        cloud = scene[(height - rows) // 2 :, (width - columns) // 2 :][:rows, :columns]
        holes = np.where(rng.random((rows, columns, 1)) < 0.6, np.float32(np.nan), cloud)
        turned = [array * np.array([1, -1, 1], np.float32) for array in (cloud, holes)]
        for number, sound in enumerate((cloud, cloud * 1000, holes, cloud.astype(np.float64), *turned)):
            assert not stored_by_columns(sound)
            by_columns = np.ascontiguousarray(sound.swapaxes(0, 1)).reshape(sound.shape)
            if number < 4 or (rows % columns and columns % rows):
                assert stored_by_columns(by_columns)


def test_order_is_told_where_most_points_are_missing() -> None:
    cloud = render_scene("gear", None, 120, 5).xyz[20:90, 10:100] * np.array([1, -1, 1], np.float32)
    cloud[np.random.default_rng(0).random(cloud.shape[:2]) > 0.24] = 0
    assert not stored_by_columns(cloud)
    assert stored_by_columns(np.ascontiguousarray(cloud.swapaxes(0, 1)).reshape(cloud.shape))


def test_order_of_the_points_is_not_judged_by_what_is_no_surface() -> None:
    rng = np.random.default_rng(0)
    for cloud in (
        rng.uniform(0.4, 0.6, (24, 32, 3)), np.zeros((24, 32, 3)), np.ones((24, 32, 3)), rng.random((1, 900, 3)),
        rng.random((900, 1, 3)), rng.random((3, 4, 3)), rng.uniform(1e299, 1e300, (24, 32, 3)),
    ):  # fmt: skip
        assert not stored_by_columns(cloud)
    few = render_scene("gear", None, 40, 0).xyz[10:20, 10:23]  # a surface, but 130 points are no evidence
    assert not stored_by_columns(np.ascontiguousarray(few.swapaxes(0, 1)).reshape(10, 13, 3))


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
