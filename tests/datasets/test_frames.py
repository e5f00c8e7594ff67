"""Frame borders and square padding."""

import numpy as np
import pytest

from datasets.frames import border_mask, border_share, pad_to_square, unpad


@pytest.mark.parametrize(("shape", "count"), [((100, 60), 100 * 60 - 80 * 40), ((20, 50), 1000), ((5, 7), 35)])
def test_border_mask_counts_the_outer_ten_pixels(shape: tuple[int, int], count: int) -> None:
    assert border_mask(shape).sum() == count


def test_border_share_ignores_the_inside() -> None:
    valid = np.zeros((60, 80), bool)
    valid[10:50, 10:70] = True
    assert border_share(valid) == 0
    valid[:10] = True  # one of the two long sides
    assert border_share(valid) == pytest.approx(800 / (60 * 80 - 40 * 60))


@pytest.mark.parametrize(
    ("shape", "top", "left"), [((4, 9), 2, 0), ((9, 4), 0, 2), ((140, 300), 80, 0), ((6, 6), 0, 0), ((480, 640), 80, 0)]
)
def test_padding_is_centred_with_the_floor_before(shape: tuple[int, int], top: int, left: int) -> None:
    image = np.random.default_rng(0).random((*shape, 3)) + 1
    square = pad_to_square(image)
    side = max(shape)
    assert square.shape == (side, side, 3)
    np.testing.assert_array_equal(square[top : top + shape[0], left : left + shape[1]], image)
    assert np.count_nonzero(square) == image.size
    np.testing.assert_array_equal(unpad(square, shape), image)


def test_edge_padding_repeats_the_outer_rows() -> None:
    square = pad_to_square(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), mode="edge")
    np.testing.assert_array_equal(square, [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8]])
