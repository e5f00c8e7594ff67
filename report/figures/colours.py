"""Colour scales that are fixed over a class, so that colours can be compared and a good part looks calm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from report.figures.sample import QualitativeInput
from utils.palette import HEAT


@dataclass(frozen=True)
class ColourScale:
    """The (low, high) ends of the colour bar of each map, for a whole class."""

    map_2d: tuple[float, float]
    map_3d: tuple[float, float]
    combined: tuple[float, float]


def colour_scale(items: Sequence[QualitativeInput]) -> ColourScale:
    """Colour ends of the three maps of one class; see `colour_range`. Foreground is where a modality's map is not 0."""
    good = [item.defect == "good" for item in items]
    foregrounds = [(item.map_2d > 0) | (item.map_3d > 0) for item in items]
    return ColourScale(
        colour_range([item.map_2d for item in items], foregrounds, good),
        colour_range([item.map_3d for item in items], foregrounds, good),
        colour_range([item.combined for item in items], foregrounds, good),
    )


def colour_range(
    maps: Sequence[np.ndarray], foregrounds: Sequence[np.ndarray], good: Sequence[bool]
) -> tuple[float, float]:
    """Ends of a colour scale on which good images stay dark and a typical defect reaches the top.

    low is the median over the good images of their foregrounds' medians. high is the median of the defect images'
    maxima, but at least so far up that the highest good image (90th percentile of the maxima) lies at 40 % of the
    scale. Without good images low is taken over all images.

    Args:
        maps: (H, W) each, >= 0, on one scale.
        foregrounds: (H, W) bool each, True = foreground.
        good: one flag per map.

    Returns:
        (low, high), finite, low < high.
    """
    medians = [float(np.median(m[f])) if f.any() else 0.0 for m, f in zip(maps, foregrounds, strict=True)]
    peaks = [float(m.max()) for m in maps]
    low = float(np.median([v for v, g in zip(medians, good, strict=True) if g] or medians or [0.0]))
    high = low
    if good_peaks := [v for v, g in zip(peaks, good, strict=True) if g]:
        high = low + 2.5 * (float(np.percentile(good_peaks, 90)) - low)
    if defect_peaks := [v for v, g in zip(peaks, good, strict=True) if not g]:
        high = max(high, float(np.median(defect_peaks)))
    return low, high if high > low else low + 1.0


def unit_range(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Map [low, high] to [0, 1], clipped; float32."""
    low, high = ends
    return np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)


def overlay(rgb: np.ndarray, values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """RGB image with the heat of `values` over it; opacity grows with the value, so normal regions keep their colour.

    Args:
        rgb: (H, W, 3) uint8.
        values: (H, W) on the scale of `ends`.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    share = unit_range(values, ends)
    shown = share > 0.2  # elsewhere the image stays as it is
    picture, share = rgb.copy(), share[shown]
    heat = colormaps[HEAT](share)[:, :3] * 255.0
    opacity = 0.85 * np.clip((share[:, None] - 0.2) / 0.6, 0.0, 1.0)
    picture[shown] = np.rint((1.0 - opacity) * rgb[shown] + opacity * heat).astype(np.uint8)
    return picture


def depth_ends(depth: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale of (H, W) depths in metres, 0 or NaN = invalid: half a per cent may lie beyond each."""
    valid = depth[np.isfinite(depth) & (depth != 0)]
    if not valid.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(valid, [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1e-3)
