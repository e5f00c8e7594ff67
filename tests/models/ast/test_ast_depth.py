"""Holes, background, foreground and mask on arrays whose results were computed by hand, or by a plain loop."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ast.depth import corner_surface, depth_cells, fill_holes, find_foreground, soften


def filled_plainly(z: np.ndarray) -> np.ndarray:
    """As the release does, pixel by pixel: slices that would begin at −1 are empty, those beyond the end are cut."""
    for _ in range(3):
        before = z.copy()
        for row, column in np.argwhere(before == 0):
            window = before[row - 1 : row + 2, column - 1 : column + 2] if row and column else np.zeros(0)
            around = window[window != 0]
            if len(around):
                z[row, column] = around.mean()
    return z


def test_a_hole_is_the_mean_of_what_is_measured_around_it() -> None:
    z = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 6.0], [0.0, 8.0, 9.0]])
    found = fill_holes(z)
    assert float(found[1, 1]) == pytest.approx(33 / 7)  # once: later rounds leave what is filled
    assert found[2, 0] == 0  # the first column stays
    assert torch.equal(found[0], z[0])


def test_three_rounds_reach_three_pixels() -> None:
    z = torch.zeros(12, 12)
    z[5:, 5:] = 2.0
    found = fill_holes(z)
    expected = torch.zeros(12, 12)
    expected[2:, 2:] = 2.0
    assert torch.equal(found, expected)
    assert torch.equal(z[:5], torch.zeros(5, 12))  # the input stays


def test_holes_are_filled_as_by_the_plain_version() -> None:
    generator = np.random.default_rng(0)
    z = generator.uniform(0.4, 0.6, (17, 23)) * (generator.random((17, 23)) < 0.3)
    found = fill_holes(torch.from_numpy(z))
    np.testing.assert_allclose(found.numpy(), filled_plainly(z), atol=1e-12)


def plane(size: int = 64) -> Tensor:
    """A tilted plane, (size, size) metres."""
    v, u = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return 0.6 + 0.0005 * u - 0.0003 * v


def test_the_surface_goes_through_the_corners_means() -> None:
    """Of a plane: at the first pixel half a pixel's step further in both directions, linear up to the last."""
    z = plane()
    found = corner_surface(z)
    assert found is not None
    corners = [
        z[rows, columns].mean() for rows in (slice(0, 2), slice(62, 64)) for columns in (slice(2), slice(62, 64))
    ]
    torch.testing.assert_close(found[[0, 0, -1, -1], [0, -1, 0, -1]], torch.stack(corners))
    torch.testing.assert_close(found[0, 21], corners[0] + (corners[1] - corners[0]) / 3)
    torch.testing.assert_close(found[42, 63], corners[1] + (corners[3] - corners[1]) * 2 / 3)


def test_unmeasured_corners() -> None:
    z = torch.zeros(8, 8)
    assert corner_surface(z) is None
    z[0, 1], z[7, 7] = 0.4, 0.6  # one pixel each
    found = corner_surface(z)
    assert found is not None
    torch.testing.assert_close(found[[0, 0, -1, -1], [0, -1, 0, -1]], torch.tensor([0.4, 0.5, 0.5, 0.6]))


def test_foreground_stands_out_seven_millimetres() -> None:
    z = plane()
    z[20:30, 20:30] -= 0.008
    z[40:50, 40:50] -= 0.006  # too low
    z[22, 22] = 0.0  # not measured
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[20:30, 20:30] = True
    expected[22, 22] = False
    assert torch.equal(find_foreground(z), expected)


def test_without_a_background_all_that_is_measured_is_foreground() -> None:
    z = torch.zeros(64, 64)
    z[20:40, 20:40] = 0.5
    assert torch.equal(find_foreground(z), z != 0)
    assert find_foreground(plane()).all()  # a flat part that fills the frame


def test_mask_is_dilated_by_eight_pixels_and_read_at_the_middle_of_cells() -> None:
    """Pixel 100 of 384 is 50 of 192; dilated it covers 47 to 54 (window from −4 to +3 around each). Cells read their
    pixels 3 and 4: cell 5 reads 43 and 44, cell 6 reads 51 and 52, so only that one is covered."""
    foreground = torch.zeros(384, 384, dtype=torch.bool)
    foreground[100, 100] = True
    expected = torch.zeros(24, 24)
    expected[6, 6] = 1.0
    assert torch.equal(soften(foreground), expected)
    foreground[100, 96] = True  # pixel 48: also covers 45 and 46
    assert torch.equal(soften(foreground), expected)
    foreground[100, 94] = True  # 47: and 44, one of the two that cell 5 reads
    expected[6, 5] = 0.5
    assert torch.equal(soften(foreground), expected)


def test_depths_are_centimetres_from_the_mean_and_cells_keep_their_pixels() -> None:
    z = torch.zeros(384, 384)
    z[160:320, 160:320] = 0.50
    z[160:320, 240:320] = 0.52  # the mean, over what is filled too, is half way but for the filled rim
    cells, mask = depth_cells(z)
    inside = fill_holes(z)
    mean = inside[inside != 0].mean()
    assert float(mean) == pytest.approx(0.51, abs=1e-5)
    assert cells.shape == (64, 24, 24)
    torch.testing.assert_close(cells[:, 15, 12], torch.full((64,), float(0.50 - mean) * 100))
    torch.testing.assert_close(cells[:, 15, 17], torch.full((64,), float(0.52 - mean) * 100))
    # Cell (10, 14): its pixels 112 to 119 of 192 are 224 to 239 of 384, all of the first half; the next, the second.
    torch.testing.assert_close(cells[0, 12, 14], cells[0, 12, 12])
    torch.testing.assert_close(cells[0, 12, 15], cells[0, 12, 17])
    # Cell 9 ends at 159: its last pixel of 192 is 158 and 159, which were filled; the others are background.
    torch.testing.assert_close(cells[:, 12, 9].view(8, 8)[4, 7], cells[0, 12, 12])
    assert not cells[:, 12, 9].view(8, 8)[:, :6].any()
    assert mask[12, 12] == 1
    assert mask[0, 0] == 0


def test_channels_are_pixels_row_by_row() -> None:
    """A ramp within the object: channel 8·i + j is pixel (i, j) of the cell."""
    v, u = torch.meshgrid(torch.arange(384.0), torch.arange(384.0), indexing="ij")
    z = 0.5 + 0.0001 * u + 0.00001 * v
    z[:20], z[:, :20], z[-20:], z[:, -20:] = 0, 0, 0, 0
    cell = depth_cells(z)[0][:, 12, 12].view(8, 8)
    torch.testing.assert_close(cell[:, 1:] - cell[:, :-1], torch.full((8, 7), 0.02), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(cell[1:] - cell[:-1], torch.full((7, 8), 0.002), rtol=1e-3, atol=1e-4)


def test_nothing_measured() -> None:
    cells, mask = depth_cells(torch.zeros(384, 384))
    assert not cells.any()
    assert not mask.any()
