"""The metrics of one class: seeded maps that look like a detector's."""

from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.measure import Setting, Work
from evaluation.results import GOOD, Prediction, evaluate

DEFECTS = ("contamination", "crack", "cut", "hole")


def predictions(count: int, size: int, seed: int = 0) -> list[Prediction]:
    """A class with `count` test images of size², a fifth of them good: smooth noise on a disc, higher on the defect."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:size, :size] - (size - 1) / 2
    disc = u**2 + v**2 < (0.35 * size) ** 2
    found = []
    for index in range(count):
        defect = (GOOD, *DEFECTS)[index % 5]
        noise = np.abs(ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size / 50)) * disc
        row, column = rng.uniform(-0.2, 0.2, 2) * size
        gt = ((v - row) ** 2 + (u - column) ** 2 < (rng.uniform(0.03, 0.08) * size) ** 2) & (defect != GOOD)
        values = ndimage.gaussian_filter(noise + gt * noise.max() * rng.uniform(0.1, 1), size / 50).astype(np.float32)
        scaled = values / np.sqrt(values.mean())
        score, raw = float(scaled.max()), float(values.max())
        found.append(Prediction(defect, f"{index:03d}", score, raw, 0, values / values.mean(), scaled, gt))
    return found


def evaluation(setting: Setting, count: int, size: int) -> Work:
    """All metrics of a class; afterwards its P-AUROC is compared with scikit-learn's."""
    class_predictions = predictions(count, size)

    def figures() -> dict[str, Any]:
        from sklearn.metrics import roc_auc_score

        labels = np.concatenate([p.gt.ravel() for p in class_predictions if p.gt is not None])
        scores = np.concatenate([p.pixel_map.ravel() for p in class_predictions])
        return {
            "p_auroc": evaluate(class_predictions)["p_auroc"],
            "p_auroc_scikit_learn": float(roc_auc_score(labels, scores)),
        }

    return Work(lambda: evaluate(class_predictions), figures=figures)
