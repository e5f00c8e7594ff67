"""Which axes and which unit the coordinates of an organised cloud have, judged by where its points lie in the image.

Pure arrays. In the frame of a pinhole camera x/z and y/z grow linearly with the column u and the row v; what an
orthographic scanner measures has x and y themselves do so. Coordinates in another order, or with another sign, do not.
"""

from itertools import permutations

import numpy as np

MAX_POINTS = 2000
MAX_SPREAD = 20_000  # points whose percentiles stand for all
MIN_POINTS = 200  # fewer are no evidence

_TOLERANCE = 0.01  # of the longer side: a larger median error says that the coordinates are others
_UNITS = ((1.0, "metres"), (0.001, "millimetres"), (0.0001, "tenths of a millimetre"), (0.01, "centimetres"))
_NEAR, _FAR = 0.15, 3.5  # metres from the camera, where units are told apart
_PLAUSIBLE = (0.005, 5.0)  # metres that are taken as they are


def axes_fault(xyz: np.ndarray) -> str | None:
    """What is wrong with the axes in words, or None: x to the right, y downwards, z away from the camera.

    Args:
        xyz: (h, w, 3), on the camera's frame; invalid points (0, 0, 0).
    """
    v, u = np.nonzero((xyz != 0).all(axis=2))
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


def likely_unit(xyz: np.ndarray) -> tuple[float, str] | None:
    """(factor to metres, name) of the unit that a cloud seems to be in; None where metres are plausible.

    The distance from the camera decides, or the extent where that is larger: parts are recorded from 0.15 to 3.5 m.
    The factor is NaN where no usual unit fits.

    Args:
        xyz: (h, w, 3); invalid points (0, 0, 0).
    """
    points = xyz[(xyz != 0).all(axis=2)].astype(np.float64)
    if not len(points):
        return None
    size = max(float(np.abs(np.median(points[:, 2]))), *extent(xyz))
    if _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1]:
        return None
    if size < _PLAUSIBLE[0]:
        return 1000.0, "kilometres, as after dividing millimetres by 1000 twice"
    return next(((f, name) for f, name in _UNITS if _NEAR <= f * size < _FAR), (float("nan"), "no usual unit"))


def extent(xyz: np.ndarray) -> tuple[float, float, float]:
    """Size of the valid points along x, y and z, without the outermost half a per cent at each end."""
    points = xyz[(xyz != 0).all(axis=2)].astype(np.float64)
    if not len(points):
        return 0.0, 0.0, 0.0
    low, high = np.percentile(points[:: len(points) // MAX_SPREAD + 1], [0.5, 99.5], axis=0)
    x, y, z = (float(d) for d in high - low)
    return x, y, z


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
