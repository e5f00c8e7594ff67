"""How large the surface is that each pixel of an organised cloud covers."""

import numpy as np

REACH = 16
"""Pixels beyond a part of the cloud that its areas may depend on: one point repeated, and its neighbour."""

_STRIP = 1 << 16  # pixels whose areas are computed at a time: in cache, and in little memory


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
        above = min(start, REACH)
        strip = _strip_areas(xyz[start - above : start + rows + REACH])
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
        steps: (3, n + 1, m) from the pixel before to each of n in a line.
        lengths: (n + 1, m), 0 between equal points.

    Returns:
        (2, 3, n, m) steps, divided by the number of equal points, and their (2, n, m) lengths, undivided.
    """
    places = np.arange(len(lengths))[:, None]
    first = np.maximum.accumulate(np.where(lengths > 0, places, 0), axis=0)[:-1]
    last = np.minimum.accumulate(np.where(lengths > 0, places, len(lengths) - 1)[::-1], axis=0)[::-1][1:]
    ends = (first, last)
    found = np.stack([np.take_along_axis(steps, end[None], axis=1) for end in ends]) / (last - first)
    return found, np.stack([np.take_along_axis(lengths, end, axis=0) for end in ends])
