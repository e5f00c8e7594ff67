"""From a raw map to the anomalous regions of the image: where they are and how large.

S is the side of the map's grid, (h, w) the image's size, L = max(h, w) the side of the square that it is padded to.
"""

import functools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from datasets.frames import nearest, unpad, valid_points
from datasets.surface import REACH, pixel_areas
from evaluation.thresholds import Thresholds
from inspection.answer import Region

_EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel
_MM2 = 1e6  # square millimetres in a square metre

SHARE = 0.25
"""Of its peak, where a region ends at the latest."""

Box = tuple[slice, slice]
"""Rows and columns."""


def find_regions(grid_map: np.ndarray, xyz: np.ndarray, thresholds: Thresholds) -> tuple[list[Region], np.ndarray]:
    """Regions by hysteresis: connected (8 neighbours) above the map threshold, with a peak above the image threshold.

    What lies above the map threshold around a strong peak is also its blur: a region ends at SHARE of its peak as well.
    They are found on the grid, so that there is one if and only if the map's maximum is above the image threshold, and
    then brought to the image by the nearest pixel of the grid. One that has no pixel of the image, since it lies in the
    padding or the image is smaller than the grid, gets those at its place that no other region has.

    Args:
        grid_map: (S, S) raw map on the grid, not negative.
        xyz: (h, w, 3) metres, invalid points (0, 0, 0).
        thresholds: of the detector.

    Returns:
        The regions, highest peak first, and (h, w) int32: number of a pixel's region, counted from 1, 0 = none.
    """
    scores = np.asarray(grid_map, np.float64)  # a float32 map would round the thresholds
    if not (scores > thresholds.image).any():
        return [], np.zeros(xyz.shape[:2], np.int32)
    parts, peaks = _connected(scores, np.full(scores.shape, thresholds.map))
    parts, peaks = _connected(scores, np.maximum(thresholds.map, SHARE * peaks)[parts])
    chosen = [int(i) for i in np.argsort(-peaks, kind="stable") if peaks[i] > thresholds.image]
    numbers = np.zeros(len(peaks), np.int32)
    numbers[chosen] = np.arange(1, len(chosen) + 1)
    numbered = numbers[parts]

    side = max(xyz.shape[:2])
    labels = np.ascontiguousarray(unpad(nearest(numbered, (side, side)), xyz.shape))
    places: list[Box | None] = ndimage.find_objects(labels, max_label=len(chosen))
    regions = []
    typical = functools.cache(lambda: _median(pixel_areas(xyz)))
    for index, grid_box in enumerate(ndimage.find_objects(numbered, max_label=len(chosen))):
        box = places[index]
        if box is None:
            box = _on_image(grid_box, len(scores), xyz.shape)
            window = labels[box]
            window[window == 0] = index + 1
        inside = labels[box] == index + 1
        if not inside.any():  # all of it belongs to other regions
            inside = np.ones_like(inside)
        regions.append(_measure(box, inside, xyz, typical, float(peaks[chosen[index]])))
    return regions, labels


def _connected(scores: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) number of each pixel's part above `levels`, 0 = none; the highest score of each part, of none 0."""
    parts, count = ndimage.label(scores > levels, _EIGHT)
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, parts.ravel(), np.where(parts > 0, scores, 0).ravel())
    return parts, peaks


def _on_image(grid_box: Box, size: int, shape: tuple[int, ...]) -> Box:
    """Where a part of the grid lies on the image, cut at the frame; at least one pixel, on the border where outside.

    Args:
        grid_box: on the grid.
        size: S.
        shape: begins with (h, w).
    """
    side = max(shape[:2])
    found = []
    for along, length in zip(grid_box, shape[:2], strict=True):
        before = (side - length) // 2
        start = min(max(along.start * side // size - before, 0), length - 1)
        stop = min(max(-(-along.stop * side // size) - before, start + 1), length)
        found.append(slice(start, stop))
    return found[0], found[1]


def _measure(box: Box, inside: np.ndarray, xyz: np.ndarray, typical: Callable[[], float | None], peak: float) -> Region:
    """A region. `inside`: (rows, columns of the box) bool, True = in the region. `typical`: see `_surface`."""
    rows, columns = box
    measured = inside & valid_points(xyz[box])
    points = xyz[box][measured]
    x, y, z = points.mean(axis=0, dtype=np.float64) if len(points) else (0, 0, 0)
    area = _surface(box, measured, xyz, typical) if len(points) else None
    return Region(
        box=(columns.start, rows.start, columns.stop, rows.stop),
        area_px=int(np.count_nonzero(inside)),
        area_mm2=None if area is None else area * _MM2,
        peak_score=peak,
        centroid_m=(float(x), float(y), float(z)) if len(points) else None,
    )


def _surface(box: Box, measured: np.ndarray, xyz: np.ndarray, typical: Callable[[], float | None]) -> float | None:
    """Area in square metres of the surface at a region's valid pixels, at least one; None where it cannot be known.

    A pixel whose own area is not known has the median of the region's, or else `typical`, that of the whole cloud's.
    """
    top, left = (max(along.start - REACH, 0) for along in box)
    around = xyz[top : box[0].stop + REACH, left : box[1].stop + REACH]
    own = slice(box[0].start - top, box[0].stop - top), slice(box[1].start - left, box[1].stop - left)
    areas = pixel_areas(around)[own][measured]
    missing = np.isnan(areas)
    middle = _median(areas)
    if middle is None:
        middle = typical()
    return None if middle is None else float(areas[~missing].sum() + np.count_nonzero(missing) * middle)


def _median(areas: np.ndarray) -> float | None:
    """Of the areas that are known; None without any."""
    known = areas[~np.isnan(areas)]
    return float(np.median(known)) if known.size else None
