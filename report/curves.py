"""The curves behind the figures of an evaluation, with few enough points to draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.metrics import auroc, pro_curve, roc_curve, sort_pixels, thin
from evaluation.results import Prediction


def evaluation_curves(
    predictions: Sequence[Prediction], metrics: Mapping[str, Any], threshold: float | None
) -> dict[str, Any]:
    """The curves of one class as JSON values.

    Args:
        predictions: every test image.
        metrics: of `evaluation.results.evaluate` for them; areas are taken from here.
        threshold: of `raw_max`, or None.

    Returns:
        `image` and `pixel`, ROC curves, and `pro`: lists of curves with `x` and `y`, ascending in [0, 1], `name`, and
        `area`, for `pro` one for each limit. `image` holds the ROC by `raw_max` too where that is another score.
        `point`, [x, y] of the threshold on it, or None. A list is empty where its curve is undefined.
    """
    labels = np.array([p.label for p in predictions])
    scores = {name: np.array([getattr(p, name) for p in predictions]) for name in ("image_score", "raw_max")}
    gts = [p.gt for p in predictions if p.gt is not None]
    curves: dict[str, Any] = {"image": [], "pixel": [], "pro": [], "point": None}
    if metrics["i_auroc"] is not None:
        same = np.allclose(scores["image_score"], scores["raw_max"], rtol=1e-6, atol=0)
        name = "score" if same else "image score (as in the paper)"
        curves["image"].append(_curve(name, *roc_curve(labels, scores["image_score"]), metrics["i_auroc"]))
        raw = scores["raw_max"]
        if not same:
            curves["image"].append(_curve("maximum of the map", *roc_curve(labels, raw), auroc(labels, raw)))
        if threshold is not None:
            curves["point"] = [float((raw[kind] > threshold).mean()) for kind in (~labels, labels)]
    if metrics["p_auroc"] is not None:
        roc = roc_curve(np.stack(gts), np.stack([p.pixel_map for p in predictions]))
        curves["pixel"].append(_curve("pixels", *roc, metrics["p_auroc"]))
        pixels = sort_pixels([p.aupro_map for p in predictions], gts)
        count = metrics["aupro_thresholds"]
        curves["pro"] = [
            _curve(f"{count} thresholds", *pro_curve(pixels, count), metrics["aupro"]),
            _curve("exact", *pro_curve(pixels, None), metrics["aupro_exact"]),
        ]
    return curves


def _curve(name: str, x: np.ndarray, y: np.ndarray, area: float | Mapping[str, float]) -> dict[str, Any]:
    kept = thin(x, y)
    return {"name": name, "x": np.round(x[kept], 7).tolist(), "y": np.round(y[kept], 5).tolist(), "area": area}
