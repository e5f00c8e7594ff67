"""report/curves.py: the areas under the curves that a page draws are the figures of the result file."""

import numpy as np
import pytest

from evaluation.metrics import aupro, auroc
from evaluation.results import Prediction, evaluate
from report.curves import evaluation_curves
from tests.report.tools import make_sample


def predictions(same: bool = True) -> list[Prediction]:
    """Six good images and six with a hole, of which the map misses two in part; scores overlap."""
    rng = np.random.default_rng(1)
    return [
        make_sample(d, str(i), score, None if same else float(rng.random()) + (d == "hole")).prediction
        for d, base in (("good", 1.0), ("hole", 1.3))
        for i, score in enumerate(base + rng.random(6))
    ]


def test_areas_are_those_of_the_result_file() -> None:
    found = predictions()
    metrics = evaluate(found)
    curves = evaluation_curves(found, metrics, None)
    assert [len(curves[name]) for name in ("image", "pixel", "pro")] == [1, 1, 2]
    assert curves["point"] is None
    for curve in curves["image"] + curves["pixel"]:
        assert aupro(np.array(curve["x"]), np.array(curve["y"]), 1.0) == pytest.approx(curve["area"], abs=1e-3)
    assert [curves["image"][0]["area"], curves["pixel"][0]["area"]] == [metrics["i_auroc"], metrics["p_auroc"]]
    fixed, exact = curves["pro"]
    assert (fixed["area"], exact["area"]) == (metrics["aupro"], metrics["aupro_exact"])
    assert ["99" in fixed["name"], "exact" in exact["name"]] == [True, True]
    for curve in curves["pro"]:
        for limit, area in curve["area"].items():
            assert aupro(np.array(curve["x"]), np.array(curve["y"]), float(limit)) == pytest.approx(area, abs=2e-3)


def test_decision_score_has_a_curve_and_a_point_of_its_own() -> None:
    found = predictions(same=False)
    labels, raw = np.array([p.label for p in found]), np.array([p.raw_max for p in found])
    threshold = float(np.sort(raw[~labels])[3])  # two good images are above, and five of six with a hole
    curves = evaluation_curves(found, evaluate(found), threshold)
    by_score, by_maximum = curves["image"]
    assert by_score["area"] == 1.0
    assert by_maximum["area"] == auroc(labels, raw) < 1.0
    assert curves["point"] == [pytest.approx(2 / 6), pytest.approx(5 / 6)]
    x, y = curves["point"]
    below, above = (np.interp(x + step, by_maximum["x"], by_maximum["y"]) for step in (-1e-5, 1e-5))
    assert below - 1e-3 <= y <= above + 1e-3


def test_undefined_curves_are_absent() -> None:
    good = predictions()[:6]
    curves = evaluation_curves(good, evaluate(good), 0.5)
    assert curves == {"image": [], "pixel": [], "pro": [], "point": None}
