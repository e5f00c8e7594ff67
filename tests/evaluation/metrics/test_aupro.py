"""AUPRO against a slow, obvious implementation, hand-made curves and the expected values."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics import aupro, pro_curve, sort_pixels

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
LIMITS = (0.3, 0.1, 0.05, 0.01)


def regions_by_flood(gt: np.ndarray) -> list[list[tuple[int, int]]]:
    """8-connected regions by flood fill."""
    todo = {(int(y), int(x)) for y, x in zip(*np.nonzero(gt), strict=True)}
    regions = []
    while todo:
        region, front = [], [todo.pop()]
        while front:
            y, x = front.pop()
            region.append((y, x))
            for q in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if q in todo:
                    todo.remove(q)
                    front.append(q)
        regions.append(region)
    return regions


def points_by_definition(maps: np.ndarray, gts: np.ndarray, thresholds: int | None) -> list[tuple[float, float]]:
    """The curve's points, ascending in FPR, one threshold at a time."""
    regions = [[m[p] for p in region] for m, gt in zip(maps, gts, strict=True) for region in regions_by_flood(gt)]
    normal = np.sort(maps[~gts])
    n = len(normal)
    points = []
    if thresholds is None:
        for t in sorted(set(maps.ravel().tolist()), reverse=True):
            points.append((sum(normal >= t) / n, np.mean([np.mean([s >= t for s in r]) for r in regions])))
        return [(0.0, 0.0), *points]
    for position in reversed([int(p) for p in np.linspace(0, n - 1, thresholds)]):
        above = [np.mean([s > normal[position] for s in r]) for r in regions]
        points.append((1 - (position + 1) / n, np.mean(above)))
    return [*points, (1.0, 1.0)]


def area_by_definition(points: list[tuple[float, float]], limit: float) -> float:
    """Trapezoids up to the limit, segment by segment."""
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        cut = min(x1, limit)
        y_cut = y0 + (y1 - y0) * (cut - x0) / (x1 - x0)
        area += (cut - x0) * (y0 + y_cut) / 2
    return area / limit


def random_case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Three 12×15 maps with ties (zeros above all) and masks with several regions, some touching only at corners."""
    rng = np.random.default_rng(seed)
    gts = rng.random((3, 12, 15)) < 0.12
    gts[0] = False
    maps = rng.integers(0, levels, gts.shape) + 0.4 * levels * gts * rng.random(gts.shape)
    maps[rng.random(gts.shape) < 0.3] = 0
    return maps.astype(np.float32), gts


@pytest.mark.parametrize("thresholds", [None, 2, 10, 99, 1000])
@pytest.mark.parametrize(("seed", "levels"), [(0, 2), (1, 9), (2, 10_000)])
def test_equals_the_definition(seed: int, levels: int, thresholds: int | None) -> None:
    maps, gts = random_case(seed, levels)
    curve = pro_curve(sort_pixels(maps, gts), thresholds)
    points = points_by_definition(maps, gts, thresholds)
    for limit in (*LIMITS, 0.123, 1.0):
        assert aupro(*curve, limit) == pytest.approx(area_by_definition(points, limit), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "thresholds"), [("aupro_99_thresholds", 99), ("aupro_100_thresholds", 100), ("aupro_exact", None)]
)
def test_expected_values(name: str, thresholds: int | None) -> None:
    arrays, expected = np.load(GOLDEN / "metrics.npz"), json.loads((GOLDEN / "metrics.json").read_text())[name]
    curve = pro_curve(sort_pixels(arrays["maps"], arrays["gts"] > 0), thresholds)
    got = {limit: aupro(*curve, float(limit)) for limit in expected}
    assert got == pytest.approx(expected, abs=1e-12)


def test_maps_of_mixed_sizes_and_types_equal_the_definition() -> None:
    maps, gts = random_case(4, 30)
    cut = [np.s_[:, :], np.s_[:7], np.s_[3:, 2:9]]
    types = [np.dtype(">f2"), np.float32, np.float64]
    parts = [(0.1 * values[c]).astype(kind) for values, c, kind in zip(maps, cut, types, strict=True)]
    masks = [gt[c] for gt, c in zip(gts, cut, strict=True)]
    pixels = sort_pixels(parts, masks)
    normal = np.concatenate([values[~gt] for values, gt in zip(parts, masks, strict=True)])
    np.testing.assert_array_equal(pixels.normal, np.sort(normal))
    # Padding with a score below all others and the label "normal" moves points to the right, by the same factor each.
    padded, labels = np.full(maps.shape, -1.0), np.zeros(gts.shape, bool)
    for i, (part, gt) in enumerate(zip(parts, masks, strict=True)):
        padded[i, : part.shape[0], : part.shape[1]], labels[i, : gt.shape[0], : gt.shape[1]] = part, gt
    fpr, pro = pro_curve(pixels, None)
    points = [(x * (~labels).sum() / normal.size, y) for x, y in points_by_definition(padded, labels, None)]
    for limit in (0.3, 0.05):
        assert aupro(fpr, pro, limit) == pytest.approx(area_by_definition(points, limit), abs=1e-12)


def test_a_list_of_maps_is_as_good_as_an_array() -> None:
    maps, gts = random_case(8, 50)
    stacked, listed = sort_pixels(maps, gts), sort_pixels(list(maps), list(gts))
    for name in ("normal", "anomalous", "overlap_below"):
        np.testing.assert_array_equal(getattr(stacked, name), getattr(listed, name))
    assert listed.normal.dtype == maps.dtype


def test_regions_that_touch_at_a_corner_are_one() -> None:
    gt = np.zeros((1, 4, 4), dtype=bool)
    gt[0, 0, 0] = gt[0, 1, 1] = gt[0, 1, 2] = True  # one 8-connected region of three pixels
    gt[0, 3, 0] = True
    scores = np.where(gt, 0.0, 1.0)
    scores[0, 0, 0] = 2.0
    fpr, pro = pro_curve(sort_pixels(scores, gt), None)
    assert pro[fpr == 0].max() == pytest.approx((1 / 3 + 0) / 2)


def test_every_region_counts_the_same_whatever_its_size() -> None:
    gt = np.zeros((2, 10, 10), dtype=bool)
    gt[0, :6, :6] = True
    gt[1, 2, 2] = True
    small_found = np.zeros(gt.shape)
    small_found[1, 2, 2] = 1.0
    _, pro = pro_curve(sort_pixels(small_found, gt), 99)
    assert pro[0] == pytest.approx(0.5)


@pytest.mark.parametrize("value", [0.0, 3.7])
def test_constant_maps(value: float) -> None:
    gt = np.zeros((2, 20, 20), dtype=bool)
    gt[0, 3:6, 3:9] = True
    pixels = sort_pixels(np.full(gt.shape, value, dtype=np.float32), gt)
    n = 2 * 400 - 18
    fpr, pro = pro_curve(pixels, None)
    assert aupro(fpr, pro, 0.3) == pytest.approx(0.15), "exact: all ties fall at once, the diagonal"
    fpr, pro = pro_curve(pixels, 99)
    assert pro[:-1].max() == 0.0, "nothing is strictly above the only score"
    assert fpr[-2] == pytest.approx(1 - 1 / n)
    assert aupro(fpr, pro, 0.3) == 0.0


def test_perfect_maps_reach_one_exactly() -> None:
    rng = np.random.default_rng(0)
    gt = rng.random((2, 30, 30)) < 0.1
    pixels = sort_pixels(rng.random(gt.shape) + 2.0 * gt, gt)
    for thresholds in (99, None):
        curve = pro_curve(pixels, thresholds)
        assert [aupro(*curve, limit) for limit in LIMITS] == pytest.approx([1.0] * 4, abs=1e-12)


def test_limit_between_two_samples_is_interpolated() -> None:
    fpr, pro = np.array([0.0, 0.0, 0.2, 0.4, 1.0]), np.array([0.0, 0.5, 0.7, 0.9, 1.0])
    assert aupro(fpr, pro, 0.3) == pytest.approx((0.2 * 0.6 + 0.1 * 0.75) / 0.3)
    assert aupro(fpr, pro, 0.2) == pytest.approx(0.6)
    assert aupro(fpr, pro, 0.1) == pytest.approx(0.55)
    assert aupro(fpr, pro, 1.0) == pytest.approx(0.2 * 0.6 + 0.2 * 0.8 + 0.6 * 0.95)


def test_one_percent_rests_on_one_segment_with_99_thresholds() -> None:
    rng = np.random.default_rng(5)
    gts = rng.random((4, 64, 64)) < 0.05
    fpr, pro = pro_curve(sort_pixels(rng.random(gts.shape) + 0.5 * gts, gts), 99)
    assert fpr[0] == 0.0
    assert 0.01 < fpr[1] < 0.0103
    assert aupro(fpr, pro, 0.01) == pytest.approx(pro[0] + (pro[1] - pro[0]) * 0.01 / fpr[1] / 2)


def test_unchanged_by_a_strictly_monotone_rescaling() -> None:
    maps, gts = random_case(7, 40)
    before, after = sort_pixels(maps, gts), sort_pixels(np.exp(maps.astype(np.float64) / 20) - 5, gts)
    for thresholds in (99, None):
        np.testing.assert_array_equal(pro_curve(before, thresholds), pro_curve(after, thresholds))


@pytest.mark.parametrize("thresholds", [7, 99, None])
def test_curve_ascends_within_the_unit_square(thresholds: int | None) -> None:
    fpr, pro = pro_curve(sort_pixels(*random_case(11, 25)), thresholds)
    for values in (fpr, pro):
        assert (np.diff(values) >= 0).all()
        assert values[0] >= 0
        assert values[-1] == 1


def test_refusals() -> None:
    maps, gt = np.zeros((1, 3, 3)), np.zeros((1, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match="9 normal and 0 anomalous"):
        sort_pixels(maps, gt)
    with pytest.raises(ValueError, match="0 normal and 9 anomalous"):
        sort_pixels(maps, ~gt)
    with pytest.raises(ValueError, match=r"of its mask's shape, got shapes \[\(3,\)\] and \[\(3,\)\]"):
        sort_pixels(maps[0], gt[0])
    with pytest.raises(ValueError, match=r"of its mask's shape, got shapes \[\(3, 3\)\] and \[\(3, 2\), \(3, 3\)\]"):
        sort_pixels([maps[0], maps[0]], [gt[0], gt[0, :, :2]])
    with pytest.raises(ValueError, match="of its mask's shape"):
        sort_pixels([maps[0], maps[0]], [gt[0]])
    with pytest.raises(ValueError, match="NaN"):
        sort_pixels(np.full_like(maps, np.nan), gt)
    gt[0, 0, 0] = True
    pixels = sort_pixels(maps, gt)
    with pytest.raises(ValueError, match="at least 2 thresholds"):
        pro_curve(pixels, 1)
    with pytest.raises(ValueError, match="limit"):
        aupro(*pro_curve(pixels), 0.0)
