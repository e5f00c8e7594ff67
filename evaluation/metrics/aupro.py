"""Per-region overlap (PRO) against the false-positive rate, and the area under that curve up to a limit.

A region is an 8-connected component of a ground-truth mask. At a threshold, PRO is the share of a region's pixels that
are detected, averaged over the regions of all images, each counting the same whatever its size. The false-positive
rate (FPR) is the share of all normal pixels that are detected. Defined by Bergmann et al., "The MVTec Anomaly Detection
Dataset", IJCV 2021.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SortedPixels:
    """The scores of a set of maps, sorted once; every PRO curve is read from them."""

    normal: np.ndarray
    """(n,) scores of the normal pixels, ascending."""
    anomalous: np.ndarray
    """(m,) scores of the anomalous pixels, ascending."""
    overlap_below: np.ndarray
    """(m + 1,) float64, from 0 to 1: mean overlap that the i lowest anomalous pixels make up."""


def sort_pixels(maps: Iterable[np.ndarray], gts: Iterable[np.ndarray]) -> SortedPixels:
    """Sort the pixels of N ≥ 1 score maps and weigh the anomalous ones by their region.

    Args:
        maps: an (N, H, W) array, or N arrays (H, W) whose sizes may differ; any unit, higher = more anomalous.
        gts: of the same shapes, boolean, True = anomalous.

    Raises:
        ValueError: shapes differ, a score is NaN, or there are no anomalous or no normal pixels (PRO is undefined).
    """
    maps, gts = [np.asarray(values) for values in maps], [np.asarray(gt, dtype=bool) for gt in gts]
    shapes, expected = [values.shape for values in maps], [gt.shape for gt in gts]
    if shapes != expected or any(len(shape) != 2 for shape in shapes):
        found = f"{sorted(set(shapes))} and {sorted(set(expected))}"
        raise ValueError(f"expected maps and masks (H, W), each map of its mask's shape, got shapes {found}")
    if any(np.isnan(values).any() for values in maps):
        raise ValueError("maps hold NaN")
    anomalous, normal = _pick(maps, gts, True), _pick(maps, gts, False)
    if not normal.size or not anomalous.size:
        raise ValueError(f"PRO needs both classes, got {normal.size} normal and {anomalous.size} anomalous pixels")
    normal.sort()
    order = np.argsort(anomalous)
    overlap_below = np.zeros(anomalous.size + 1)
    np.cumsum(_region_weights(gts)[order], out=overlap_below[1:])
    return SortedPixels(normal, anomalous[order], overlap_below / overlap_below[-1])


def _pick(maps: Sequence[np.ndarray], gts: Sequence[np.ndarray], anomalous: bool) -> np.ndarray:
    """(n,) scores of the pixels of one kind, map by map, in row-major order; filled in place, without a second copy."""
    ends = np.cumsum([np.count_nonzero(gt == anomalous) for gt in gts])
    picked = np.empty(ends[-1], np.result_type(*maps).newbyteorder("="))
    for values, gt, part in zip(maps, gts, np.split(picked, ends[:-1]), strict=True):
        part[:] = values[gt == anomalous]
    return picked


def _region_weights(gts: Sequence[np.ndarray]) -> np.ndarray:
    """(m,) 1 / (pixels of its region) for each anomalous pixel of masks (H, W), in row-major order."""
    weights = []
    for gt in gts:
        if gt.any():
            regions, _ = ndimage.label(gt, structure=EIGHT_CONNECTED)
            weights.append(1.0 / np.bincount(regions.ravel())[regions[gt]])
    return np.concatenate(weights)


def pro_curve(pixels: SortedPixels, thresholds: int | None = 99) -> tuple[np.ndarray, np.ndarray]:
    """The PRO curve of either protocol.

    With a number of thresholds, the protocol of the papers (BTF, M3DM, CFM): thresholds are the sorted normal scores at
    evenly spaced positions p = 0 … n-1, a pixel is detected strictly above one, the FPR is 1 - (p + 1) / n, and
    the curve ends at (1, 1). The FPR advances in steps of 1 / (thresholds - 1), 1.02 % for 99, so that an area up
    to 1 % rests on a single segment.

    With None, the exact curve: every distinct score is a threshold, a pixel is detected at or above it, and ties fall
    together. Only the vertices at which PRO changes direction are returned; the polyline is that of all thresholds.

    Args:
        pixels: from `sort_pixels`.
        thresholds: at least 2, or None for the exact curve.

    Returns:
        fpr and pro, float64 of one length, both ascending within [0, 1].
    """
    if thresholds is None:
        return _exact_curve(pixels)
    if thresholds < 2:
        raise ValueError(f"expected at least 2 thresholds, got {thresholds}")
    n = pixels.normal.size
    positions = np.linspace(0, n - 1, thresholds).astype(np.int64)[::-1]
    not_detected = np.searchsorted(pixels.anomalous, pixels.normal[positions], side="right")
    fpr = 1.0 - (positions + 1) / n
    pro = 1.0 - pixels.overlap_below[not_detected]
    return np.append(fpr, 1.0), np.append(pro, 1.0)


def _exact_curve(pixels: SortedPixels) -> tuple[np.ndarray, np.ndarray]:
    """Vertices just above and at each distinct anomalous score; between two of these PRO is constant."""
    changes = pixels.anomalous[1:] != pixels.anomalous[:-1]
    first = np.flatnonzero(np.append(True, changes))[::-1]
    score = pixels.anomalous[first]
    after = np.append(pixels.anomalous.size, first[:-1])
    above = pixels.normal.size - np.searchsorted(pixels.normal, score, side="right")
    at = pixels.normal.size - np.searchsorted(pixels.normal, score, side="left")
    fpr = np.stack([above, at], axis=1).ravel() / pixels.normal.size
    pro = 1.0 - pixels.overlap_below[np.stack([after, first], axis=1).ravel()]
    return np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], pro, [1.0]])


def aupro(fpr: np.ndarray, pro: np.ndarray, limit: float) -> float:
    """Area under a PRO curve from FPR 0 to `limit`, divided by `limit`.

    Trapezoids; the segment that crosses the limit is cut there by linear interpolation.

    Args:
        fpr: (K,) ascending, from 0 to 1.
        pro: (K,) in [0, 1].
        limit: in (0, 1].

    Returns:
        A value in [0, 1].
    """
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"expected an FPR limit in (0, 1], got {limit}")
    inside = int(np.searchsorted(fpr, limit, side="right"))
    x, y = fpr[:inside], pro[:inside]
    if x[-1] < limit:
        share = (limit - fpr[inside - 1]) / (fpr[inside] - fpr[inside - 1])
        x = np.append(x, limit)
        y = np.append(y, pro[inside - 1] + share * (pro[inside] - pro[inside - 1]))
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / (2.0 * limit))
