"""Frame borders and square padding."""

import numpy as np
import pytest

from datasets.frames import border_mask, border_share, fit_mask, from_square, nearest, pad_to_square, unpad


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


@pytest.mark.parametrize("shape", [(3, 5), (6, 10), (4, 7), (1, 1), (9, 2)])
def test_nearest_picks_floor_of_the_scaled_index(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((6, 10, 2))
    found = nearest(image, shape)
    expected = [[image[i * 6 // shape[0], j * 10 // shape[1]] for j in range(shape[1])] for i in range(shape[0])]
    np.testing.assert_array_equal(found, expected)


def test_mask_of_a_map_with_the_frames_aspect_ratio_is_resized() -> None:
    mask = np.random.default_rng(1).random((40, 90)) < 0.3
    np.testing.assert_array_equal(fit_mask(mask, (40, 90)), mask)
    np.testing.assert_array_equal(fit_mask(mask, (80, 180)), mask.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(fit_mask(mask, (20, 45)), mask[::2, ::2])
    for rounded in ((16, 37), (17, 37), (16, 36), (44, 100), (45, 100)):  # 36.44 and 44.4 rounded to either side
        np.testing.assert_array_equal(fit_mask(mask, rounded), nearest(mask, rounded))


def test_mask_of_a_square_map_is_padded_first() -> None:
    mask = np.zeros((4, 8), bool)
    mask[0, 0] = mask[3, 6:] = True
    expected = np.zeros((8, 8), bool)
    expected[2, 0] = expected[5, 6:] = True
    np.testing.assert_array_equal(fit_mask(mask, (8, 8)), expected)
    np.testing.assert_array_equal(fit_mask(mask, (4, 4)), expected[::2, ::2])
    np.testing.assert_array_equal(fit_mask(mask.T, (8, 8)), expected.T)
    square = np.eye(6, dtype=bool)
    np.testing.assert_array_equal(fit_mask(square, (3, 3)), square[::2, ::2])


@pytest.mark.parametrize("shape", [(90, 40), (40, 89 - 2), (42, 90), (224, 256), (30, 40)])
def test_mask_of_a_map_with_another_aspect_ratio_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"map is {shape[1]}×{shape[0]}, its mask 90×40 \(W×H\).*padded to 90×90"):
        fit_mask(np.zeros((40, 90), bool), shape)


@pytest.mark.parametrize("shape", [(400, 900), (900, 400), (300, 300), (61, 77)])
def test_ramp_survives_the_way_back_to_the_frame(shape: tuple[int, int]) -> None:
    ramp = (3 + 0.5 * np.arange(56)[:, None] - 0.25 * np.arange(56)).astype(np.float32)
    found = from_square(ramp, shape)
    side = max(shape)
    position = [
        np.clip((np.arange(n) + (side - n) // 2 + 0.5) * 56 / side - 0.5, 0, 55) for n in shape
    ]  # of the frame's pixels on the map; beyond its outermost centres the values there
    np.testing.assert_allclose(found, 3 + 0.5 * position[0][:, None] - 0.25 * position[1], atol=2e-5)
    assert (found.shape, found.dtype) == (shape, np.float32)


def test_way_back_to_a_smaller_frame_averages() -> None:
    values = np.random.default_rng(2).random((60, 60)).astype(np.float32)
    found = from_square(values, (20, 30))
    triangle = np.array([1, 3, 3, 1]) / 8  # of half-width 2 pixels, at the centres of four pixels
    rows, columns = slice(2 * (5 + 3) - 1, 2 * (5 + 3) + 3), slice(2 * 7 - 1, 2 * 7 + 3)
    assert found[3, 7] == pytest.approx(triangle @ values[rows, columns] @ triangle, abs=1e-6)
    np.testing.assert_array_equal(from_square(values, (60, 60)), values)


def test_blob_of_the_frame_peaks_where_it_was() -> None:
    v, u = np.mgrid[:400, :900]
    for row, column in ((40, 60), (210, 455), (350, 870)):
        blob = np.exp(-((v - row) ** 2 + (u - column) ** 2) / (2 * 20.0**2))
        grid = nearest(pad_to_square(blob), (224, 224)).astype(np.float32)
        peak = np.unravel_index(from_square(grid, (400, 900)).argmax(), (400, 900))
        assert np.hypot(peak[0] - row, peak[1] - column) < 900 / 224
