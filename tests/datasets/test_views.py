"""The square around the object: where it lies, and what is cut out."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.frames import pad_to_square
from datasets.sample import GRID, make_sample, rgb_to_tensor, xyz_to_grid
from datasets.views import cut_cloud, cut_image, find_window
from utils.view import WHOLE_FRAME, ViewSettings, Window


def cloud(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    """(h, w, 3) float32, valid in a rectangle; each point says where it lies: (row + 1, column + 1, 1)."""
    xyz = np.zeros((height, width, 3), np.float32)
    places = np.stack([*np.mgrid[1 : height + 1, 1 : width + 1], np.ones((height, width))], axis=-1)
    xyz[rows, columns] = places[rows, columns]
    return xyz


def test_the_window_is_the_square_around_the_object_and_its_margin() -> None:
    xyz = cloud(100, 100, slice(10, 50), slice(20, 40))  # 40 high, 20 wide, middle at (30, 30)
    assert find_window(xyz, ViewSettings(margin=0.0)) == pytest.approx((0.1, 0.1, 0.4))
    assert find_window(xyz, ViewSettings(margin=0.5)) == pytest.approx((0.0, 0.0, 0.6))
    assert find_window(xyz, ViewSettings(kind="frame")) == WHOLE_FRAME


def test_the_window_of_a_wide_frame_lies_in_its_padded_square() -> None:
    xyz = cloud(60, 100, slice(0, 20), slice(70, 90))
    expected = pytest.approx((0.2, 0.7, 0.2))
    assert find_window(xyz, ViewSettings(margin=0.0)) == expected
    assert find_window(pad_to_square(xyz), ViewSettings(margin=0.0)) == expected


def test_no_valid_point_means_the_whole_frame() -> None:
    assert find_window(np.zeros((8, 12, 3), np.float32), ViewSettings()) == WHOLE_FRAME


def test_points_are_picked_and_what_lies_beyond_the_frame_is_invalid() -> None:
    xyz = cloud(4, 6, slice(0, 4), slice(0, 6))
    points, valid = cut_cloud(xyz, Window(0.0, 0.0, 1.0), 6)  # rows -1 to 4 of the frame
    assert valid.tolist() == [[0 < row < 5] * 6 for row in range(6)]
    assert points[0, 1:5, 0].tolist() == [1, 2, 3, 4]
    assert points[1, 2].tolist() == [1, 2, 3, 4, 5, 6]
    assert (points[:, ~valid] == 0).all()
    points, valid = cut_cloud(xyz, Window(0.5, 0.0, 1.0), 3)  # squares of two pixels from row 2, column 0 on
    assert valid.tolist() == [[True] * 3, [False] * 3, [False] * 3]
    assert points[:2, 0].T.tolist() == [[4, 2], [4, 4], [4, 6]]


def test_an_image_is_cut_where_its_cloud_is() -> None:
    rows, columns = np.mgrid[0:60, 0:100]
    image = np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)
    xyz = cloud(60, 100, slice(12, 42), slice(45, 75))
    window = find_window(xyz, ViewSettings(margin=0.2))  # 36 pixels, from (9, 42) on
    cut = cut_image(image, window, 36).astype(int)
    assert np.abs(cut[:, :, 0] - np.arange(9, 45)[:, None]).max() <= 1
    assert np.abs(cut[:, :, 1] - np.arange(42, 78)).max() <= 1
    points, valid = cut_cloud(xyz, window, 36)
    assert valid.sum() == 900
    assert torch.equal(points[0][valid] - 1, torch.from_numpy(cut[:, :, 0])[valid].float())


def test_beyond_the_frame_the_edge_of_the_image_is_repeated() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    cut = cut_image(image, Window(-0.5, 0.0, 1.0), 20)
    assert np.array_equal(cut[:8], np.broadcast_to(image[:1], (8, 20, 3)))
    assert np.array_equal(cut[10:], image[:10])


@pytest.mark.parametrize("shape", [(300, 300), (200, 300)])
def test_the_view_of_the_frame_is_the_grid(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*shape, 3), np.uint8)
    xyz = generator.random((*shape, 3), np.float32) * (generator.random((*shape, 1)) > 0.3).astype(np.float32)
    sample = make_sample(image, xyz, view=ViewSettings("frame", size=GRID))
    assert sample.view is not None
    difference = (sample.view.rgb - rgb_to_tensor(Image.fromarray(image))).abs()
    assert difference[:, 2:-2, 2:-2].max() < 0.06  # three of 255; the outer filters weigh the border differently
    grid = xyz_to_grid(xyz)[1]
    assert abs(int(sample.view.valid.sum()) - int(grid.sum())) < 0.02 * GRID**2


def test_a_sample_has_a_view_only_where_one_is_asked_for() -> None:
    image, xyz = np.zeros((50, 50, 3), np.uint8), cloud(50, 50, slice(10, 30), slice(10, 30))
    assert make_sample(image, xyz).view is None
    view = make_sample(image, xyz, view=ViewSettings(size=64, margin=0.0)).view
    assert view is not None
    assert view.valid.all()
    assert view.rgb.shape == view.xyz.shape == (3, 64, 64)
    assert view.window == pytest.approx((0.2, 0.2, 0.4))
