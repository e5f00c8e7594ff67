"""From a raw map to the anomalous regions of the image: where they are and how large.

S is the side of the map's grid, (h, w) the image's size, L = max(h, w) the side of the square that it is padded to.
"""

import functools
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from datasets.frames import nearest, unpad
from evaluation.thresholds import Thresholds
from inspection.answer import Region

_EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel
_STRIP = 1 << 16  # pixels whose areas are computed at a time: in cache, and in little memory
_MM2 = 1e6  # square millimetres in a square metre
_REACH = 16  # pixels beyond a part of the cloud that its areas may depend on: one point repeated, and its neighbour

Box = tuple[slice, slice]
"""Rows and columns."""


def find_regions(grid_map: np.ndarray, xyz: np.ndarray, thresholds: Thresholds) -> tuple[list[Region], np.ndarray]:
    """Regions by hysteresis: connected (8 neighbours) above the map threshold, with a peak above the image threshold.

    They are found on the grid, so that there is one if and only if the map's maximum is above the image threshold, and
    then brought to the image by the nearest pixel of the grid. One that has no pixel of the image, since it lies in the
    padding or the image is smaller than the grid, gets those at its place that no other region has.

    Args:
        grid_map: (S, S) raw map on the grid. xyz: (h, w, 3) metres, invalid points (0, 0, 0).
        thresholds: of the detector.

    Returns:
        The regions, highest peak first, and (h, w) int32: number of a pixel's region, counted from 1, 0 = none.
    """
    scores = np.asarray(grid_map, np.float64)  # a float32 map would round the thresholds
    parts, count = ndimage.label(scores > thresholds.map, _EIGHT)
    every = np.arange(1, count + 1)
    peaks = np.asarray(ndimage.maximum(scores, parts, every), np.float64)
    order = np.argsort(-peaks, kind="stable")
    chosen = [int(i) for i in order if peaks[i] > thresholds.image]
    numbers = np.zeros(count + 1, np.int32)
    numbers[every[chosen]] = np.arange(1, len(chosen) + 1)
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


def _on_image(grid_box: Box, size: int, shape: tuple[int, ...]) -> Box:
    """Where a part of the grid lies on the image, cut at the frame; at least one pixel, on the border where outside.

    Args:
        grid_box: on the grid. size: S. shape: begins with (h, w).
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
    measured = inside & (xyz[box] != 0).all(axis=2)
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
    top, left = (max(along.start - _REACH, 0) for along in box)
    around = xyz[top : box[0].stop + _REACH, left : box[1].stop + _REACH]
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


def pixel_areas(xyz: np.ndarray) -> np.ndarray:
    """Area of the surface that each pixel covers: |t_u × t_v|, where t leads to a neighbour in the row, in the column.

    Of the two valid neighbours on a line, the one that is nearer in space counts: across a step in depth lies another
    surface. Where a cloud was enlarged by repeating pixels, those with the same point share its area: the step leads to
    the neighbours of them all, and is divided by their number in the line.

    Args:
        xyz: (h, w, 3), invalid points (0, 0, 0).

    Returns:
        (h, w) float64, the square of the cloud's unit; NaN at invalid pixels and at those without a valid neighbour in
        their row or in their column.
    """
    areas = np.empty(xyz.shape[:2])
    rows = max(1, _STRIP // xyz.shape[1])
    for start in range(0, len(xyz), rows):
        above = min(start, _REACH)
        strip = _strip_areas(xyz[start - above : start + rows + _REACH])
        areas[start : start + rows] = strip[above : above + rows]
    return areas


def _strip_areas(xyz: np.ndarray) -> np.ndarray:
    points = np.ascontiguousarray(np.moveaxis(xyz, 2, 0), np.float64)  # (3, h, w)
    valid = (points != 0).all(axis=0)
    (a, b, c), (d, e, f) = (_to_nearer(points, valid, axis) for axis in (1, 0))
    areas: np.ndarray = np.sqrt((b * f - c * e) ** 2 + (c * d - a * f) ** 2 + (a * e - b * d) ** 2)
    return areas


def _to_nearer(points: np.ndarray, valid: np.ndarray, axis: int) -> np.ndarray:
    """(3, h, w) vectors to the nearer valid neighbour along an axis of (h, w); NaN without one, and where invalid."""
    points, valid = np.moveaxis(points, axis + 1, 1), np.moveaxis(valid, axis, 0)
    steps = np.full((3, len(valid) + 1, valid.shape[1]), np.nan)  # from the neighbour before; none at both ends
    steps[:, 1:-1] = points[:, 1:] - points[:, :-1]
    steps[:, 1:-1][:, ~(valid[1:] & valid[:-1])] = np.nan
    lengths = np.nan_to_num((steps**2).sum(axis=0), copy=False, nan=np.inf)
    if (lengths == 0).any():
        steps, lengths = _past_repeats(steps, lengths)
    else:
        steps, lengths = np.stack([steps[:, :-1], steps[:, 1:]]), np.stack([lengths[:-1], lengths[1:]])
    nearer = np.where(lengths[0] <= lengths[1], steps[0], steps[1])
    return np.moveaxis(nearer, 1, axis + 1)


def _past_repeats(steps: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps of each pixel to the neighbours before and after all pixels in its line that have the same point.

    Args:
        steps: (3, n + 1, m) from the pixel before to each of n in a line. lengths: (n + 1, m), 0 between equal points.

    Returns:
        (2, 3, n, m) steps, divided by the number of equal points, and their (2, n, m) lengths, undivided.
    """
    places = np.arange(len(lengths))[:, None]
    first = np.maximum.accumulate(np.where(lengths > 0, places, 0), axis=0)[:-1]
    last = np.minimum.accumulate(np.where(lengths > 0, places, len(lengths) - 1)[::-1], axis=0)[::-1][1:]
    ends = (first, last)
    found = np.stack([np.take_along_axis(steps, end[None], axis=1) for end in ends]) / (last - first)
    return found, np.stack([np.take_along_axis(lengths, end, axis=0) for end in ends])
