"""Which axes the coordinates of an organised cloud have, and whether it was enlarged.

Pure arrays. In the frame of a pinhole camera x/z and y/z grow linearly with the column u and the row v; what an
orthographic scanner measures has x and y themselves do so. Coordinates in another order, or with another sign, do not.
"""

from itertools import permutations

import numpy as np

from datasets.frames import valid_points
from datasets.units import MIN_POINTS

MAX_POINTS = 2000
_TOLERANCE = 0.01  # of the longer side: a larger median error says that the coordinates are others


def axes_fault(xyz: np.ndarray) -> str | None:
    """What is wrong with the axes in words, or None: x to the right, y downwards, z away from the camera.

    Args:
        xyz: (h, w, 3), on the camera's frame; invalid points (0, 0, 0).
    """
    v, u = np.nonzero(valid_points(xyz))
    if len(u) < MIN_POINTS:
        return None
    chosen = np.linspace(0, len(u) - 1, min(len(u), MAX_POINTS)).astype(int)
    points = xyz[v[chosen], u[chosen]].astype(np.float64)
    pixels = np.stack([u[chosen], v[chosen]], axis=1).astype(np.float64)
    limit = _TOLERANCE * max(xyz.shape[:2])
    pinhole, scanner = (_slopes(points, pixels, limit, perspective) for perspective in (True, False))
    slopes = scanner if pinhole is None else pinhole
    if slopes is not None:
        return _sign_fault(slopes, float(np.median(points[:, 2])))
    for perspective in (True, False):
        for order in permutations(range(3)):
            slopes = _slopes(points[:, order], pixels, limit, perspective)
            if slopes is not None and _upright(slopes):
                names = ", ".join("xyz"[order.index(channel)] for channel in range(3))
                return f"the channels seem to be ({names})"
    return "x/z and y/z do not follow the pixels' columns and rows in any order of the channels"


def repeated_share(xyz: np.ndarray) -> float:
    """Share in [0, 1] of neighbours in a row, or in a column where that is more, that are one and the same point.

    Measured points differ. A cloud that was enlarged to n times its size by the nearest pixel has 1 - 1 / n.

    Args:
        xyz: (h, w, 3); invalid points (0, 0, 0).
    """
    valid = valid_points(xyz)
    shares = [0.0]
    for points, there in ((xyz, valid), (xyz.swapaxes(0, 1), valid.T)):
        both = there[1:] & there[:-1]
        if count := np.count_nonzero(both):
            shares.append(np.count_nonzero((points[1:] == points[:-1]).all(axis=2) & both) / count)
    return max(shares)


def _slopes(points: np.ndarray, pixels: np.ndarray, limit: float, perspective: bool) -> np.ndarray | None:
    """(2, 2) change of pixel (rows u, v) with x and y where such a camera explains the points, else None."""
    x, y, z = points.T
    scale = z if perspective else np.ones_like(z)
    if not scale.all():
        return None
    design = np.stack([x / scale, y / scale, np.ones_like(x)], axis=1)
    solution = np.linalg.lstsq(design, pixels, rcond=None)[0]
    error = np.linalg.norm(design @ solution - pixels, axis=1)
    near = error <= 2 * np.median(error) + 1e-9
    solution = np.linalg.lstsq(design[near], pixels[near], rcond=None)[0]
    error = np.linalg.norm(design @ solution - pixels, axis=1)
    return solution[:2].T * np.sign(np.median(scale)) if np.median(error) <= limit else None


def _sign_fault(slopes: np.ndarray, z: float) -> str | None:
    """Names axes that point the wrong way; `slopes` as `_slopes` returns them."""
    if not _upright(slopes):
        return "x runs along the image's rows from top to bottom: the cloud is turned by 90°, or x and y are exchanged"
    x, y = np.sign(np.diag(slopes))
    wrong = [text for bad, text in ((z < 0, "z is negative"), (x < 0, "x points left"), (y < 0, "y points up")) if bad]
    return " and ".join(wrong) or None


def _upright(slopes: np.ndarray) -> bool:
    """Whether x runs along the columns and y along the rows, rather than the other way round."""
    along, across = np.abs(np.diag(slopes)), np.abs(slopes[[0, 1], [1, 0]])
    return bool(along.min() > across.max())
