"""The view in tensors against the view in numpy and Pillow, on frames and objects of every kind."""

import numpy as np
import pytest
import torch

from datasets.frames import valid_points
from datasets.views import cut_cloud, cut_image, find_window
from models.normals import NormalSettings, estimate_normals
from models.resampling import linear
from models.view_graph import FrameView
from models.view_maps import SMOOTHING, _smoothing, placing
from utils.view import ViewSettings

SIZE = 64


def part(shape: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Noise as an image, and a cloud with holes that is measured in a box (top, left, bottom, right)."""
    rng = np.random.default_rng(sum(box))
    rgb = rng.integers(0, 256, (*shape, 3), np.uint8)
    xyz = np.zeros((*shape, 3), np.float32)
    top, left, bottom, right = box
    inside = rng.uniform(0.4, 0.6, (bottom - top, right - left, 3)).astype(np.float32)
    xyz[top:bottom, left:right] = inside * (rng.random(inside.shape[:2]) > 0.2)[..., None]
    xyz[[top, bottom - 1], [left, right - 1]] = 0.5  # the box is as large as it says
    return rgb, xyz


@pytest.mark.parametrize("kind", ["object", "frame"])
@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((60, 60), (20, 20, 40, 45)),  # enlarged
        ((97, 130), (0, 0, 97, 130)),  # the whole frame, seen beyond its edges
        ((250, 190), (3, 50, 240, 188)),  # made smaller, with more taps
        ((190, 250), (150, 240, 190, 250)),  # in a corner
        ((33, 40), (16, 20, 17, 21)),  # a single point
        ((300, 300), (20, 20, 276, 276)),  # a side of 256, whose positions are whole numbers
    ],
)
def test_view_is_cut_as_datasets_cut_it(shape: tuple[int, int], box: tuple[int, int, int, int], kind: str) -> None:
    settings = ViewSettings("object" if kind == "object" else "frame", SIZE)
    rgb, xyz = part(shape, box)
    window = find_window(xyz, settings)
    expected_cloud, expected_valid = cut_cloud(xyz, window, SIZE)
    view = FrameView(shape, settings)
    valid = torch.from_numpy(valid_points(xyz))
    starts, side = view.window(valid)
    cloud, seen = view.cut_cloud(torch.from_numpy(xyz), valid, starts, side)
    image = view.cut_image(torch.from_numpy(rgb), starts, side)
    assert float(side) / view.unit == pytest.approx(window.side * max(shape))
    assert torch.equal(cloud[0], expected_cloud)
    assert torch.equal(seen[0], expected_valid)
    assert np.array_equal(image[0].permute(1, 2, 0).numpy(), cut_image(rgb, window, SIZE))  # to the last bit

    count = expected_valid.sum().float()
    deviation = SMOOTHING * float(count) ** 0.5
    matrices = view.spread(starts, side, count, 16)
    for matrix, start in zip(matrices, window[:2], strict=True):
        expected = (
            placing(SIZE, start, window.side) @ _smoothing(SIZE, deviation) @ linear(16, SIZE, torch.device("cpu"))
        )
        assert torch.allclose(matrix, expected, atol=1e-4 * float(expected.max()))


def test_an_empty_frame_has_a_view_without_points() -> None:
    view = FrameView((40, 50), ViewSettings("object", SIZE))
    valid = torch.zeros(40, 50, dtype=torch.bool)
    starts, side = view.window(valid)
    cloud, seen = view.cut_cloud(torch.zeros(40, 50, 3), valid, starts, side)
    assert not seen.any()
    assert not cloud.any()
    assert torch.isfinite(torch.stack(view.spread(starts, side, torch.tensor(0.0), 16))).all()


def test_repeated_points_and_lines_have_no_normal() -> None:
    """What rounding leaves of them must not become one: it is another in each runtime."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    same = torch.stack([columns // 24, rows // 24, 0 * rows]) * 0.0003 + 0.1234
    line = torch.stack([columns, columns // 24, 0 * rows]) * 0.0003 + 0.1234  # all rows are the same
    plane = torch.stack([columns, rows, 0 * rows]) * 0.0003 + 0.1234
    known = estimate_normals(
        torch.stack([same, line, plane]), torch.ones(3, 24, 24, dtype=torch.bool), NormalSettings()
    )[1]
    assert known.flatten(1).any(dim=1).tolist() == [False, False, True]
    assert known[2].all()


def test_normals_do_not_hang_on_the_order_of_sums() -> None:
    """The same points in memory of another layout, with steps of just the limit between neighbours."""
    generator = torch.Generator().manual_seed(0)
    depth = 0.5 + 0.005 * torch.randint(0, 3, (40, 40), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    cloud = torch.stack([columns * 0.0003, rows * 0.0003, depth])[None] + 0.01
    valid = torch.rand(1, 40, 40, generator=generator) > 0.2
    strided = cloud.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    first, second = (estimate_normals(points, valid, NormalSettings())[0] for points in (cloud, strided))
    assert (first - second).abs().max() < 1e-4
