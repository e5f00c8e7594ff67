"""Made-up test images of a class, and the result file that belongs to them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from evaluation.results import GOOD, Prediction, evaluate, write_results
from report.evaluation import ReportSample
from utils.files import write_json

SIDE = 48


def make_sample(
    defect: str, stem: str, raw_max: float, image_score: float | None = None, seconds: float = 0.1, side: int = SIDE
) -> ReportSample:
    """A mottled dome before a camera, with a square defect in it, unless it is good. The map peaks at `raw_max`.

    Drawn from its name: equal names give equal pictures.
    """
    rng = np.random.default_rng([*f"{defect}/{stem}".encode()])
    v, u = np.mgrid[:side, :side] / side
    gt = np.zeros((side, side), bool)
    if defect != GOOD:
        y, x = (int(side * share) for share in rng.uniform(0.3, 0.55, 2))
        gt[y : y + side // 6, x : x + side // 6] = True
    texture = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1.5)
    texture /= np.abs(texture).max()
    rgb = np.stack([170 + 60 * texture, 120 + 60 * texture + 40 * u, 90 + 80 * v], axis=-1)
    height = 0.09 - (u - 0.5) ** 2 - (v - 0.5) ** 2
    z = 0.6 - 0.2 * height + 0.004 * gt + rng.uniform(-0.02, 0.02) * u
    xyz = np.stack([(u - 0.45) * z * 0.3, (v - 0.55) * z * 0.3, z], axis=-1) * (height > 0)[..., None]
    heat = ndimage.gaussian_filter(0.3 * rng.random((side, side)) + 3.0 * gt, 2.0) * (height > 0)
    combined = (heat / heat.max() * raw_max).astype(np.float32)
    prediction = Prediction(
        defect=defect,
        stem=stem,
        image_score=float(combined.max()) if image_score is None else image_score,
        raw_max=float(combined.max()),
        seconds=seconds,
        aupro_map=combined,
        pixel_map=combined,
        gt=gt,
    )
    modality = np.sqrt(combined)
    return ReportSample(prediction, rgb.astype(np.uint8), xyz.astype(np.float32), modality, modality, combined)


def write_class(
    folder: Path,
    samples: Sequence[ReportSample],
    threshold: float | None = None,
    class_name: str = "gear",
    config: dict[str, Any] | None = None,
) -> Path:
    """The result file of these samples, as inference writes it."""
    predictions = [sample.prediction for sample in samples]
    settings = config or {"method": "CFM", "extractor": "handcrafted", "seed": 0, "training": {"git_commit": "0a1b"}}
    versions, timing = {"numpy": "1.26"}, {"seconds_per_image_median": 0.1, "device": "cpu"}
    path = write_results(folder, class_name, 12, 4, evaluate(predictions), predictions, settings, versions, timing)
    if threshold is not None:
        content = json.loads(path.read_text())
        statement = "At most 1 % of good parts exceed it."
        write_json(path, content | {"thresholds": {"image": threshold, "map": 0.8 * threshold, "statement": statement}})
    return path
