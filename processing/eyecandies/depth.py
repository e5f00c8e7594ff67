"""Eyecandies depth image → organised point cloud without background, as CFM, M3DM and DBMRNet convert it.

Pure arrays. World frame: that of the dataset's poses, its own units (an object measures about 1). Camera: 512 x 512
pixels, focal length 711.11 pixels, principal point in the middle.
"""

import numpy as np
from numpy.typing import NDArray

FOCAL_LENGTH = 711.11
GROUND_COLUMN = 256
"""The ground line runs between this column of the first row, and of the last row counted from the right."""

MIN_HEIGHT = 0.02
MAX_DEPTH = 1.8
MAX_SIDE = 1.0
SCALE = 0.1

Points = NDArray[np.float64]


def decode_depth(stored: NDArray[np.integer], low: float, high: float) -> NDArray[np.float32]:
    """(h,w) distance along the optical axis from a 16-bit image, 0 … 65535 standing for `low` … `high`.

    Single precision as in the published conversion, whose figures are reproduced to the bit.
    """
    return stored.astype(np.float32) / np.float32(65535) * np.float32(high - low) + np.float32(low)


def world_points(depth: NDArray[np.floating], pose: Points) -> Points:
    """Organised cloud in the world frame.

    Args:
        depth: (h,w) distance along the optical axis.
        pose: (4,4) world to camera.

    Returns:
        (h,w,3) float64: depth · (K·pose)⁻¹ · (u, v, 1, 1/depth), first three entries, integer pixel coordinates u, v.
    """
    height, width = depth.shape
    intrinsics = np.eye(4)
    intrinsics[0, 0] = intrinsics[1, 1] = FOCAL_LENGTH
    intrinsics[0, 2], intrinsics[1, 2] = width / 2, height / 2
    inverse = np.linalg.inv(intrinsics @ pose)
    v, u = np.mgrid[:height, :width]
    homogeneous = np.stack([u, v, np.ones(depth.shape), 1 / depth], axis=-1)
    return depth[..., None] * (homogeneous @ inverse[:3].T)


def foreground(points: Points) -> NDArray[np.bool_]:
    """(h,w) True for points of the object, by their position over the ground.

    The ground line runs from the last row's point to the first row's point, across the x axis. A point is background
    when it is at most 0.02 above that line, farther than 1.8 along it, or more than 1 to a side.

    Args:
        points: (h,w,3) world frame, y downwards, w > 256.
    """
    top, bottom = points[0, GROUND_COLUMN], points[-1, -GROUND_COLUMN]
    sin, cos = (top - bottom)[1:] / np.hypot(*(top - bottom)[1:])
    y, z = points[..., 1] - bottom[1], points[..., 2] - bottom[2]
    below, along = cos * y - sin * z, sin * y + cos * z
    return ~((below > -MIN_HEIGHT) | (along > MAX_DEPTH) | (np.abs(points[..., 0]) > MAX_SIDE))


def to_cloud(points: Points, kept: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Cloud as the networks take it.

    Args:
        points: (h,w,3) world frame.
        kept: (h,w) True for points to keep.

    Returns:
        (h,w,3) float32: 0.1 x, −0.1 z, 0.1 y; (0,0,0) where not kept.
    """
    converted = points[..., [0, 2, 1]] * (SCALE * np.array([1, -1, 1]))
    return np.where(kept[..., None], converted, 0).astype(np.float32)
