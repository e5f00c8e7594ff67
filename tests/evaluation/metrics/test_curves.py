"""ROC curves, and thinning: few points, no visible change."""

import numpy as np
import pytest

from evaluation.metrics import aupro, auroc, pro_curve, roc_curve, sort_pixels, thin


def test_roc_curve_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1], bool)
    scores = np.array([1, 2, 2, 5, 2, 4, 6])
    x, y = roc_curve(labels, scores)
    steps = np.unique(np.round(np.column_stack([x, y]), 9), axis=0)
    expected = [(0, 0), (0, 1 / 3), (1 / 4, 1 / 3), (1 / 4, 2 / 3), (3 / 4, 1), (1, 1)]
    assert steps == pytest.approx(np.array(expected), abs=1e-8)
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= 0)
    assert aupro(x, y, 1.0) == pytest.approx(0.75) == auroc(labels, scores)


@pytest.mark.parametrize("digits", [1, 2, 8])  # with many, some and no ties
def test_area_under_the_roc_curve_is_auroc(digits: int) -> None:
    rng = np.random.default_rng(digits)
    labels = rng.random((20, 30)) < 0.2
    scores = np.round(rng.random((20, 30)) + 0.4 * labels, digits)
    assert aupro(*roc_curve(labels, scores), 1.0) == pytest.approx(auroc(labels, scores), abs=1e-12)


def test_roc_curve_needs_both_classes_and_one_shape() -> None:
    with pytest.raises(ValueError, match="3 normal and 0 anomalous"):
        roc_curve(np.zeros(3, bool), np.arange(3))
    with pytest.raises(ValueError, match="one shape"):
        roc_curve(np.zeros(3, bool), np.arange(4))


def vertical_deviation(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> float:
    """How far a point of the curve lies above or below the polyline of the kept ones, vertical parts included."""
    worst = 0.0
    tx, ty = x[kept], y[kept]
    for px, py in zip(x, y, strict=True):
        here = ty[tx == px]
        low, high = (here.min(), here.max()) if here.size else [float(np.interp(px, tx, ty))] * 2
        worst = max(worst, low - py, py - high)
    return float(worst)


def curves() -> list[tuple[np.ndarray, np.ndarray]]:
    """Curves of several thousand points as they occur: good, poor and hopeless detectors, both protocols."""
    rng = np.random.default_rng(0)
    found = []
    for strength in (0.0, 0.5, 2.0, 6.0):
        gt = squares(rng)
        maps = rng.standard_normal(gt.shape) + strength * gt
        pixels = sort_pixels(maps, gt)
        found += [roc_curve(gt, maps), pro_curve(pixels, None), pro_curve(pixels, 99)]
    return found


def squares(rng: np.random.Generator) -> np.ndarray:
    """(6, 64, 64) masks with a square each."""
    gt = np.zeros((6, 64, 64), bool)
    for mask, (row, column), side in zip(gt, rng.integers(0, 40, (6, 2)), rng.integers(6, 20, 6), strict=True):
        mask[row : row + side, column : column + side] = True
    return gt


def test_thinned_curves_look_the_same() -> None:
    for x, y in curves():
        kept = thin(x, y)
        assert len(kept) <= 400
        assert (kept[0], kept[-1]) == (0, len(x) - 1)
        assert np.all(np.diff(kept) > 0)
        assert vertical_deviation(x, y, kept) <= 0.002
        assert abs(aupro(x, y, 1.0) - aupro(x[kept], y[kept], 1.0)) <= 0.001


def test_thinning_keeps_what_matters_and_nothing_else() -> None:
    line = np.linspace(0, 1, 5001)
    assert thin(line, line).tolist() == [0, 5000]
    x, y = np.repeat([0.0, 1.0], 500), np.append(np.linspace(0, 0.75, 500), np.full(500, 0.75))
    assert thin(x, y).tolist() == [0, 499, 999]  # up along the axis, then to the right
    assert thin(np.array([0.5]), np.array([0.5])).tolist() == [0]


def test_thinning_stops_at_the_number_of_points() -> None:
    x, y = np.repeat(np.arange(301), 2)[1:] / 300, np.repeat(np.arange(301), 2)[:-1] / 300  # 300 equal steps
    assert len(thin(x, y)) <= 400
    assert vertical_deviation(x, y, thin(x, y)) <= 1 / 300 + 1e-12
    assert len(thin(x, y, points=2)) == 2
