"""Depth images and stored clouds → organised clouds in metres. Pure arrays.

Camera frame: x right, y down, z along the optical axis; integer pixel coordinates are pixel centres.
"""

import numpy as np
from numpy.typing import NDArray

from datasets.frames import valid_points
from datasets.units import MAX_SPREAD, MIN_POINTS
from processing.checks.cloud_geometry import axes_fault

TINY = 1e-9
"""Metres. Stands for a coordinate of 0 in a measured point: the papers, and all that reads clouds here, call a point
valid when its three coordinates are non-zero, and would lose the column and the row of the principal point."""


def measured(stored: np.ndarray, invalid: float | str | None = None) -> NDArray[np.bool_]:
    """(h, w) bool, True where something was measured: z neither 0, NaN, infinite, nor the given value.

    Args:
        stored: (h, w) depth or (h, w, 3) cloud as stored, z the last channel.
        invalid: one more value that means "nothing", in stored units; "maximum" = the largest of the array's type.
    """
    z = stored[..., 2] if stored.ndim == 3 else stored
    valid: NDArray[np.bool_] = np.isfinite(stored).all(axis=2) if stored.ndim == 3 else np.isfinite(stored)
    valid &= z != 0
    if invalid == "maximum":
        return valid & (z != (np.finfo(z.dtype) if z.dtype.kind == "f" else np.iinfo(z.dtype)).max)
    return valid if invalid is None else valid & (z != invalid)


def stored_by_columns(cloud: np.ndarray) -> bool:
    """Whether points that were read row by row were stored column by column, judged where enough of them are valid.

    The point below is then more than three times as far away as the point to the right in the other reading. Where both
    readings have the same neighbours, as in a square image, the axes tell: only the other reading follows a camera.

    Args:
        cloud: (h, w, 3) as stored, z the last channel, in any unit; points behind the camera do not count.
    """
    height, width = cloud.shape[:2]
    by_rows = to_cloud(cloud, measured(cloud))
    by_columns = by_rows.reshape(width, height, 3).swapaxes(0, 1)
    if _distance(by_rows.reshape(-1, 3), width) > 3 * _distance(by_rows.reshape(-1, 3), height):
        return True
    return axes_fault(by_rows) is not None and axes_fault(by_columns) is None


def _distance(points: np.ndarray, steps: int) -> float:
    """Median distance of points to those `steps` later, (0, 0, 0) left out; NaN for too few.

    Args:
        points: (N, 3).
        steps: at most N.
    """
    pairs = len(points) - steps
    first = np.linspace(0, pairs - 1, min(pairs, MAX_SPREAD)).astype(int)
    one, other = points[first].astype(np.float64), points[first + steps].astype(np.float64)
    valid = one.any(axis=1) & other.any(axis=1)
    return float(np.median(np.linalg.norm(one - other, axis=1)[valid])) if valid.sum() >= MIN_POINTS else float("nan")


def depth_to_points(
    depth: np.ndarray, fx: float, fy: float, cx: float, cy: float, division: float = 0.0
) -> NDArray[np.float64]:
    """(h, w) distance along the optical axis → (h, w, 3) points, x = a·z, y = b·z.

    (a, b) = ((u − cx)/fx, (v − cy)/fy) without lens distortion. With it, that is where the lens shows a point which
    lies at (a, b)/s, s = 1 + division·(a² + b²): the division model (Fitzgibbon, CVPR 2001; HALCON's kappa).

    Args:
        depth: metres.
        fx, fy, cx, cy: pinhole intrinsics in pixels.
        division: coefficient of the division model, 0 = no distortion; s > 0 in the whole image.
    """
    z = depth.astype(np.float64)
    v, u = np.ogrid[: depth.shape[0], : depth.shape[1]]
    x, y = (u - cx) * z / fx, (v - cy) * z / fy
    if division:
        scale = division_scale((u - cx) / fx, (v - cy) / fy, division)
        x, y = x / scale, y / scale
    return np.stack([x, y, z], axis=-1)


def division_scale(a: np.ndarray, b: np.ndarray, division: float) -> np.ndarray:
    """1 + division·(a² + b²) of the division model; see `depth_to_points`."""
    scale: np.ndarray = 1 + division * (a**2 + b**2)
    return scale


def to_cloud(points: np.ndarray, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w, 3) float32 cloud: (0, 0, 0) where not `valid`, behind the camera or out of the type's range.

    A coordinate of exactly 0 of any other point becomes `TINY`.

    Args:
        points: (h, w, 3) metres.
        valid: (h, w) bool, True = measured.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        cloud = points.astype(np.float32)
    kept = valid & np.isfinite(cloud).all(axis=2) & (cloud[..., 2] > 0)
    cloud[cloud == 0] = TINY
    return np.where(kept[..., None], cloud, np.float32(0))


def extent(cloud: np.ndarray) -> NDArray[np.float64]:
    """(3,) width, height and depth in metres of the box around the valid points of an (h, w, 3) cloud."""
    points = cloud[valid_points(cloud)].astype(np.float64)
    return points.max(axis=0) - points.min(axis=0) if len(points) else np.zeros(3)
