"""From the predictions of one class to its metrics and result files; the same for every method.

Three normalisations of the smoothed anomaly map enter, as in the CFM paper's evaluation: the AUPRO map, the P-AUROC
map and the image score. Their arithmetic belongs to the method; here they are only compared with the labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import aupro, auroc, auroc_interval, auroc_of_sorted, pro_curve, sort_pixels
from evaluation.protocol import AUPRO_LIMITS, AUPRO_THRESHOLDS, FORMAT, protocol
from utils.errors import UserError
from utils.files import atomic_path, write_json

GOOD = "good"


@dataclass(frozen=True)
class Prediction:
    """What a detector says of one test image, with what is true of it. All maps on one grid (H, W)."""

    defect: str
    """Name of the test folder; "good" marks a nominal image."""
    stem: str
    """File name without suffix."""
    image_score: float
    """Higher = more anomalous; the figure behind I-AUROC."""
    raw_max: float
    """Maximum of the map before any normalisation: the one score with a fixed scale across images."""
    seconds: float
    """Time spent on this image."""
    aupro_map: np.ndarray
    """(H, W) float32, normalised for AUPRO."""
    pixel_map: np.ndarray
    """(H, W) float32, normalised for P-AUROC."""
    gt: np.ndarray | None
    """(H, W) bool, True = anomalous; None = not known, of a defective image without a mask."""

    @property
    def label(self) -> bool:
        """True = anomalous. Decided by the folder, since a small defect can vanish from a mask shrunk to the grid."""
        return self.defect != GOOD


def evaluate(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """All metrics of one class.

    A metric that is undefined, for want of good images, defect images, masks or anomalous pixels, is None.

    Args:
        predictions: every test image of the class, good ones and defects.

    Returns:
        `aupro` (99 thresholds, the papers' protocol) and `aupro_exact` (all distinct scores), each from the FPR limit
        as text ("0.3", "0.1", "0.05", "0.01") to the area; `aupro_thresholds`; `p_auroc`; `i_auroc`;
        `i_auroc_interval`, see `evaluation.metrics.auroc_interval`; and `per_defect`, from each defect to its
        `i_auroc`, `i_auroc_interval`, `p_auroc` and `aupro_0.3` (99 thresholds) against all good images.

    Raises:
        UserError: no predictions, maps of different sizes, a score or map that is not finite, or a good image whose
            mask marks anomalous pixels.
    """
    _check(predictions)
    fixed, exact = _aupros(predictions, AUPRO_THRESHOLDS, None)
    good = [p for p in predictions if not p.label]
    per_defect = {}
    for defect in sorted({p.defect for p in predictions if p.label}):
        chosen = good + [p for p in predictions if p.defect == defect]
        per_defect[defect] = {
            "i_auroc": _image_auroc(chosen),
            "i_auroc_interval": _image_interval(chosen),
            "p_auroc": _pixel_auroc(chosen),
            "aupro_0.3": _aupros(chosen, AUPRO_THRESHOLDS)[0]["0.3"],
        }
    return {
        "aupro": fixed,
        "aupro_thresholds": AUPRO_THRESHOLDS,
        "aupro_exact": exact,
        "p_auroc": _pixel_auroc(predictions),
        "i_auroc": _image_auroc(predictions),
        "i_auroc_interval": _image_interval(predictions),
        "per_defect": per_defect,
    }


def _check(predictions: Sequence[Prediction]) -> None:
    if not predictions:
        raise UserError("expected at least one test image to evaluate, found none")
    shape = predictions[0].aupro_map.shape
    for p in predictions:
        name = f"test image {p.defect}/{p.stem}"
        shapes = (p.aupro_map.shape, p.pixel_map.shape, shape if p.gt is None else p.gt.shape)
        if any(s != shape for s in shapes):
            raise UserError(f"{name}: expected maps and mask of shape {shape} like the first image, found {shapes}")
        finite = np.isfinite(p.aupro_map).all() and np.isfinite(p.pixel_map).all() and math.isfinite(p.image_score)
        if not finite or not math.isfinite(p.raw_max):
            raise UserError(
                f"{name}: its score or map is NaN or infinite; check the checkpoint, or try --precision fp32"
            )
        if not p.label and p.gt is not None and p.gt.any():
            raise UserError(f"{name}: a good image must have an empty mask, found {int(p.gt.sum())} anomalous pixels")


def _aupros(predictions: Sequence[Prediction], *protocols: int | None) -> list[dict[str, float | None]]:
    """For each protocol (number of thresholds, or None = exact) the areas at all limits."""
    gts = _masks([p.gt for p in predictions])
    if gts is None:
        return [dict.fromkeys(map(str, AUPRO_LIMITS)) for _ in protocols]
    pixels = sort_pixels([p.aupro_map for p in predictions], gts)
    curves = [pro_curve(pixels, protocol) for protocol in protocols]
    return [{str(limit): aupro(*curve, limit) for limit in AUPRO_LIMITS} for curve in curves]


def _pixel_auroc(predictions: Sequence[Prediction]) -> float | None:
    gts = _masks([p.gt for p in predictions])
    return None if gts is None else auroc(np.stack(gts), np.stack([p.pixel_map for p in predictions]))


def _image_auroc(predictions: Sequence[Prediction]) -> float | None:
    return _auroc(*_images(predictions))


def _image_interval(predictions: Sequence[Prediction]) -> list[float] | None:
    return auroc_interval(*_images(predictions))


def _images(predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores."""
    return np.array([p.label for p in predictions]), np.array([p.image_score for p in predictions])


def _auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    return auroc(labels, scores) if labels.any() and not labels.all() else None


def _masks(gts: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The masks, where all are known and they have anomalous and normal pixels; else None: pixels cannot be scored."""
    known = [gt for gt in gts if gt is not None]
    both = any(gt.any() for gt in known) and not all(gt.all() for gt in known)
    return known if both and len(known) == len(gts) else None


def map_metrics(
    maps: Sequence[np.ndarray],
    gts: Sequence[np.ndarray | None],
    labels: Sequence[bool],
    limit: float = AUPRO_LIMITS[0],
    thresholds: int | None = None,
) -> dict[str, float | None]:
    """Metrics of one class from nothing but its maps, of any method; an image's score is the maximum of its map.

    Args:
        maps: (H, W) of each test image, finite, higher = more anomalous; sizes may differ.
        gts: (H, W) bool of each map, True = anomalous; None = not known.
        labels: True = the image is anomalous.
        limit: FPR in (0, 1] up to which AUPRO is integrated.
        thresholds: of its curve, None = all distinct scores.

    Returns:
        `au_pro`, `au_roc` of the images and `p_auroc` of the pixels, in [0, 1]; None where good or defective images,
        or normal or anomalous pixels, are absent; those of pixels also where a mask is not known.
    """
    image_auroc = _auroc(np.array(labels), np.array([float(values.max()) for values in maps]))
    masks = _masks(gts)
    if masks is None:
        return {"au_pro": None, "au_roc": image_auroc, "p_auroc": None}
    pixels = sort_pixels(maps, masks)
    area = aupro(*pro_curve(pixels, thresholds), limit)
    return {"au_pro": area, "au_roc": image_auroc, "p_auroc": auroc_of_sorted(pixels.normal, pixels.anomalous)}


def result_name(class_name: str, epochs: int, batch_size: int) -> str:
    """Name of a result file without suffix, for example `bagel_50ep_4bs`."""
    return f"{class_name}_{epochs}ep_{batch_size}bs"


def write_results(
    folder: Path,
    class_name: str,
    epochs: int,
    batch_size: int,
    metrics: Mapping[str, Any],
    predictions: Sequence[Prediction],
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
    timing: Mapping[str, Any],
    branches: Mapping[str, Mapping[str, Any]] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    maps: str = "",
) -> Path:
    """Write `{class}_{epochs}ep_{batch}bs.md` (six figures, three decimals) and `.json` (everything, full precision).

    After its figures the Markdown has a line for each interval that is defined. A metric that is undefined is `null`
    in the JSON and `nan` in the Markdown. `config`, `versions` and `timing` go into the JSON as they are.

    Args:
        folder: made when missing.
        metrics: from `evaluate`.
        branches: name of a branch of the detector, for example "3D only" → its own metrics, from `evaluate`. They
            follow in both files: `branches` in the JSON, a line with the name and one with figures in the Markdown.
        thresholds: JSON values of `evaluation.thresholds.Thresholds`; a sample is called anomalous when its `raw_max`
            is above `image`.
        maps: see `evaluation.protocol.protocol`.

    Returns:
        The path of the JSON file.
    """
    name = result_name(class_name, epochs, batch_size)
    lines = [
        f"Metrics for class {class_name} with {epochs}ep_{batch_size}bs",
        "AUPRO@30% & AUPRO@10% & AUPRO@5% & AUPRO@1% & P-AUROC & I-AUROC",
        _six_figures(metrics),
        *(line for branch, own in (branches or {}).items() for line in (branch, _six_figures(own))),
        *_interval_lines({"": metrics, **(branches or {})}),
    ]
    made_by = protocol(predictions[0].aupro_map.shape, maps)
    record: dict[str, Any] = {"class_name": class_name, "format": FORMAT, "protocol": made_by, **metrics}
    if branches:
        record["branches"] = dict(branches)
    if thresholds:
        record["thresholds"] = dict(thresholds)
    record |= {
        "samples": [_sample(p) for p in predictions],
        "config": dict(config),
        "versions": dict(versions),
        "timing": dict(timing),
    }
    path = Path(folder) / f"{name}.json"
    write_json(path, record)
    with atomic_path(path.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _sample(p: Prediction) -> dict[str, Any]:
    return {
        "defect": p.defect,
        "stem": p.stem,
        "label": int(p.label),
        "image_score": float(p.image_score),
        "raw_max": float(p.raw_max),
        "seconds": float(p.seconds),
    }


def _six_figures(metrics: Mapping[str, Any]) -> str:
    figures = [metrics["aupro"][str(limit)] for limit in AUPRO_LIMITS] + [metrics["p_auroc"], metrics["i_auroc"]]
    return " & ".join("nan" if figure is None else f"{figure:.3f}" for figure in figures)


def _interval_lines(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each part, the whole ("") or a branch, whose interval is defined."""
    return [
        f"I-AUROC{f' of {name}' if name else ''}, 95 % interval over images: {ends[0]:.3f} to {ends[1]:.3f}"
        for name, metrics in parts.items()
        if (ends := metrics.get("i_auroc_interval"))
    ]
