"""inspection/regions.py: which regions there are, and their size in pixels and on the surface."""

import math

import numpy as np
import pytest

from datasets.frames import nearest
from datasets.surface import pixel_areas
from evaluation.thresholds import Thresholds
from inspection.regions import find_regions
from tests.datasets.planes import flat

MM2 = 1e6  # square millimetres in a square metre


def limits(image: float = 0.6, map_level: float = 0.3) -> Thresholds:
    return Thresholds(0.01, image, map_level, 0.1, 50, 50, "validation")


GRID = np.array(
    [
        [0.4, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.6, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.9, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ],
    np.float32,
)


def test_regions_are_connected_above_one_threshold_with_a_peak_above_the_other() -> None:
    """The part at the right reaches 0.6, not above; 0.3 is not above 0.3; diagonal neighbours belong together."""
    found, labels = find_regions(GRID, flat(8, 8), limits(image=float(np.float32(0.6)), map_level=float(GRID[2, 2])))
    expected = np.zeros((8, 8), np.int32)
    expected[6, 0] = expected[7, 0] = 1
    expected[0, 0] = expected[0, 1] = expected[1, 2] = 2
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)
    assert [region.box for region in found] == [(0, 6, 1, 8), (0, 0, 3, 2)]
    assert [region.area_px for region in found] == [2, 3]
    assert [region.peak_score for region in found] == [float(np.float32(0.9)), float(np.float32(0.7))]


def test_area_and_centroid_of_a_flat_region() -> None:
    """Pixels (6, 0) and (7, 0): x = 0.002, y = 0.014 and 0.016; each covers 2 mm × 2 mm."""
    first = find_regions(GRID, flat(8, 8), limits())[0][0]
    assert first.area_mm2 == pytest.approx(8.0, rel=1e-5)
    assert first.centroid_m == pytest.approx((0.002, 0.015, 0.5), rel=1e-6)


def test_there_is_a_region_exactly_when_the_score_is_above_the_threshold() -> None:
    """Also where float32 and float64 differ in the last digit: float32(0.1) > 0.1, float32(0.7) < 0.7."""
    rng = np.random.default_rng(0)
    seen = set()
    for number in range(300):
        values = rng.choice([0.1, 0.3, 0.7, 0.9], (6, 6)) * (rng.random((6, 6)) < 0.05)
        grid = values.astype(np.float32)
        image = float(rng.choice([0.1, 0.3, 0.7, 0.9, float(grid.max())]))
        found, labels = find_regions(grid, flat(5, 4), limits(image, image * float(rng.choice([1, 0.5]))))
        above = float(grid.max()) > image
        assert bool(found) == above, number
        assert (labels > 0).any() == above
        assert [region.peak_score for region in found] == sorted([r.peak_score for r in found], reverse=True)
        seen.add(above)
    assert seen == {True, False}


def test_regions_lie_on_the_image_as_the_map_does() -> None:
    """Grid 8×8 of a 16 wide, 8 high image padded by 4 rows on both sides: a grid pixel is 2×2 pixels."""
    grid = np.zeros((8, 8), np.float32)
    grid[3, 5] = 1
    (region,), labels = find_regions(grid, flat(8, 16), limits())
    assert labels.shape == (8, 16)
    assert region.box == (10, 2, 12, 4)
    assert np.argwhere(labels).tolist() == [[2, 10], [2, 11], [3, 10], [3, 11]]
    assert region.area_px == 4


def test_a_region_in_the_padding_lies_on_the_border_of_the_image() -> None:
    """Rows 0 and 1 of the grid are padding: box from the grid's edges, cut at the frame."""
    grid = np.zeros((8, 8), np.float32)
    grid[1, 5:7] = 1
    (region,), labels = find_regions(grid, flat(8, 16), limits())
    assert region.box == (10, 0, 14, 1)
    assert region.area_px == 4
    assert np.argwhere(labels == 1).tolist() == [[0, column] for column in range(10, 14)]
    grid = np.roll(grid, 6, axis=0)  # row 7, below the image
    assert find_regions(grid, flat(8, 16), limits())[0][0].box == (10, 7, 14, 8)
    grid = np.zeros((8, 8), np.float32)
    grid[0, 1:3] = 1  # columns 1.5 to 4.5 of a 12×6 image
    assert find_regions(grid, flat(6, 12), limits())[0][0].box == (1, 0, 5, 1)


def test_a_region_between_the_pixels_of_a_small_image_is_kept() -> None:
    """A 4×4 image takes every other grid pixel: (3, 5) is none of them, it lies in pixel (1, 2)."""
    grid = np.zeros((8, 8), np.float32)
    grid[3, 5], grid[0, 0] = 0.8, 0.9
    found, labels = find_regions(grid, flat(4, 4), limits())
    assert [(region.box, region.area_px) for region in found] == [((0, 0, 1, 1), 1), ((2, 1, 3, 2), 1)]
    assert labels[0, 0] == 1
    assert labels[1, 2] == 2
    assert np.count_nonzero(labels) == 2


def test_a_region_without_a_pixel_of_its_own_shares_those_of_another() -> None:
    grid = np.zeros((8, 8), np.float32)
    grid[0, 0], grid[5, 5] = 0.8, 0.9
    found, labels = find_regions(grid, flat(1, 1), limits())
    assert [(region.box, region.area_px, region.peak_score) for region in found] == [
        ((0, 0, 1, 1), 1, pytest.approx(0.9)),
        ((0, 0, 1, 1), 1, pytest.approx(0.8)),
    ]
    assert labels.tolist() == [[2]]  # the grid pixel that the image has is the second region's
    assert found[1].centroid_m == pytest.approx((0.002, 0.002, 0.5))


@pytest.mark.parametrize(("focal", "z"), [(600.0, 0.4), (1200.0, 0.7)])
def test_area_of_a_plane_in_front_of_a_pinhole_camera(focal: float, z: float) -> None:
    """A pixel at distance z covers (z / f)²; 60 × 40 pixels of the image are in the region."""
    v, u = np.mgrid[:112, :112] - 55.7
    cloud = np.stack([u * z / focal, v * z / focal, np.full(u.shape, z)], axis=-1).astype(np.float32)
    grid = np.zeros((112, 112), np.float32)
    grid[30:70, 20:80] = 1
    (region,), _ = find_regions(grid, cloud, limits())
    assert region.area_mm2 == pytest.approx(2400 * (z / focal) ** 2 * MM2, rel=1e-4)


def test_area_of_a_tilted_plane() -> None:
    """z rises by a = 0.75 along x: √(1 + a²) = 1.25 of the area seen from above."""
    cloud = flat(20, 20).astype(np.float64)
    cloud[..., 2] += 0.75 * cloud[..., 0]
    np.testing.assert_allclose(pixel_areas(cloud), 0.002**2 * 1.25, rtol=1e-5)


def test_area_of_a_spherical_cap() -> None:
    """A cap of height H on a sphere of radius R has 2πRH, 7 % and more above that of its projection."""
    radius, rim, step = 0.03, 0.016, 0.0002
    v, u = (np.mgrid[:200, :200] - 99.5) * step
    inside = np.hypot(u, v) < rim
    z = 0.5 - np.sqrt(np.maximum(radius**2 - u**2 - v**2, 0))
    cloud = np.where(np.hypot(u, v)[..., None] < 1.1 * rim, np.stack([u, v, z], axis=-1), 0).astype(np.float32)
    (region,), _ = find_regions(inside.astype(np.float32), cloud, limits())
    height = radius - math.sqrt(radius**2 - rim**2)
    assert region.area_mm2 == pytest.approx(2 * math.pi * radius * height * MM2, rel=0.01)
    assert 2 * radius * height > 1.07 * rim**2  # so much more than its projection


def test_a_step_in_depth_adds_no_area() -> None:
    """The right half lies 0.1 m behind: 50 times the pixel's width. The step is in no pixel's area."""
    cloud = flat(10, 10)
    cloud[:, 5:, 2] += 0.1
    cloud[7:, :, 2] += 0.1
    np.testing.assert_allclose(pixel_areas(cloud), 0.002**2, rtol=1e-4)


def test_missing_pixels_have_no_area_and_lonely_ones_that_of_their_region() -> None:
    cloud = flat(8, 8)
    cloud[2, :] = cloud[4, :] = cloud[2:5, 6] = 0  # row 3 has neighbours in the row only
    cloud[0, 0] = 0
    grid = np.ones((8, 8), np.float32)
    (region,), _ = find_regions(grid, cloud, limits())
    assert region.area_px == 64
    assert region.area_mm2 == pytest.approx((64 - 18) * 4.0, rel=1e-5)
    areas = pixel_areas(cloud)
    assert np.isnan(areas[2]).all()
    assert np.isnan(areas[3]).all()
    assert np.isfinite(areas[0, 1:]).all()


def test_a_region_of_lonely_pixels_has_the_area_of_the_cloud() -> None:
    cloud = flat(8, 8)
    cloud[5:] = 0
    cloud[6, 2] = (0.002, 0.004, 0.7)
    grid = np.zeros((8, 8), np.float32)
    grid[6:, :4] = 1
    (region,), _ = find_regions(grid, cloud, limits())
    assert region.area_mm2 == pytest.approx(4.0, rel=1e-5)
    assert region.centroid_m == pytest.approx((0.002, 0.004, 0.7), rel=1e-6)


def test_area_and_centroid_that_cannot_be_known_are_none() -> None:
    cloud = np.zeros((8, 8, 3), np.float32)
    (region,), _ = find_regions(np.ones((8, 8), np.float32), cloud, limits())
    assert (region.area_px, region.area_mm2, region.centroid_m) == (64, None, None)
    cloud[::2, ::2] = (0.1, 0.2, 0.5)
    (region,), _ = find_regions(np.ones((8, 8), np.float32), cloud, limits())
    assert region.area_mm2 is None
    assert region.centroid_m == pytest.approx((0.1, 0.2, 0.5))


def test_other_regions_do_not_change_what_is_measured() -> None:
    """Two patches whose boxes overlap, on planes of different slope."""
    rng = np.random.default_rng(2)
    cloud = flat(16, 16)
    cloud[..., 2] += rng.uniform(0, 0.001, (16, 16)).astype(np.float32)
    one, two = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    one[2:14, 2] = one[13, 2:14] = 0.9
    two[3:8, 6:10] = 0.8
    together, labels = find_regions(one + two, cloud, limits())
    alone = [find_regions(grid, cloud, limits())[0][0] for grid in (one, two)]
    assert together == alone
    for number, region in enumerate(together, 1):
        assert region.area_px == np.count_nonzero(labels == number)
        assert region.area_mm2 == pytest.approx(pixel_areas(cloud)[labels == number].sum() * MM2)


def test_area_of_a_region_does_not_depend_on_repeated_pixels() -> None:
    """A region that ends within the pixels of a point takes its share of them."""
    grid = np.zeros((60, 60), np.float32)
    grid[15:30, 20:41] = 1
    cloud = flat(60, 60)
    for size in (60, 120, 90, 210):
        (region,), _ = find_regions(grid, nearest(cloud, (size, size)), limits())
        assert region.area_mm2 == pytest.approx(15 * 21 * 4.0, rel=1e-5), size


def test_the_blur_around_a_strong_peak_is_no_part_of_its_region() -> None:
    """A Gaussian of deviation 4: above the map threshold within 12.1 pixels, above a quarter of its peak within 6.7."""
    rows, columns = np.mgrid[:64, :64]
    strong = 30 * np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2) / 32)
    found, labels = find_regions(strong.astype(np.float32), flat(64, 64), limits())
    np.testing.assert_array_equal(labels == 1, (rows - 20) ** 2 + (columns - 20) ** 2 < 32 * math.log(4))
    weak = strong / 30
    own = weak + strong[:, ::-1] / 30 * 0.7
    both, _ = find_regions(own.astype(np.float32), flat(64, 64), limits())
    assert [region.peak_score for region in both] == pytest.approx([1, 0.7], abs=1e-3)
    assert len(found) == 1


def test_peaks_that_only_the_blur_of_a_stronger_one_joins_are_regions_of_their_own() -> None:
    line = np.zeros((8, 16), np.float32)
    line[4, 2:12] = [0.7, 0.4, 0.4, 4.0, 1.5, 0.4, 0.8, 1.2, 0.4, 0.0]  # 4.0 ends at 1.0
    found, labels = find_regions(line, flat(8, 16), limits())
    assert [region.peak_score for region in found] == pytest.approx([4.0, 1.2])
    assert labels[4].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0]
