"""Remove the background plane of an organised scan: the published recipe for MVTec 3D-AD, as pure arrays.

Source: the preprocessing that BTF (Horwitz and Hoshen, CVPRW 2023), M3DM, CFM and DBMRNet share: a plane through the
frame border by RANSAC, points near it removed, the largest DBSCAN cluster of the rest kept.
"""

from dataclasses import dataclass

import numpy as np

from datasets.frames import BORDER, border_mask, valid_points
from datasets.raw_scans import PLANE_DISTANCE, background_plane, least_squares_planes
from processing.background.clusters import largest_cluster
from utils.errors import UserError


@dataclass(frozen=True)
class BackgroundSettings:
    """The published values; lengths in metres.

    Attributes:
        frame: width in pixels of the frame border whose points give the plane.
        ransac_distance: largest distance of an inlier to the plane.
        ransac_points: points in a draw.
        ransac_draws: number of draws.
        plane_distance: points nearer than this to the plane are removed.
        cluster_eps: DBSCAN's radius.
        cluster_min_points: points within the radius, itself included, of a DBSCAN core point.
    """

    frame: int = BORDER
    ransac_distance: float = 0.004
    ransac_points: int = 50
    ransac_draws: int = 1000
    plane_distance: float = PLANE_DISTANCE
    cluster_eps: float = 0.006
    cluster_min_points: int = 30


def object_mask(
    xyz: np.ndarray,
    generator: np.random.Generator,
    settings: BackgroundSettings = BackgroundSettings(),
    ground: np.ndarray | None = None,
) -> np.ndarray:
    """Where the object is: the largest cluster of points off the background plane.

    Args:
        xyz: (h, w, 3) metres, invalid points (0, 0, 0).
        generator: draws the points of the plane hypotheses.
        settings: distances and counts.
        ground: what `background_plane` says of the cloud, where that is known; found here otherwise.

    Returns:
        (h, w) bool, True = a point of the object. All False when nothing, or no cluster, rises above the plane.

    Raises:
        UserError: the frame border has too few valid points for a plane.
    """
    valid = valid_points(xyz)
    border = xyz[valid & border_mask(valid.shape, settings.frame)]
    ground = background_plane(xyz) if ground is None else ground
    if ground is not None:  # a part that reaches the border has no say: large draws would hardly ever miss it
        border = border[plane_distances(border.astype(np.float64), ground) <= 2 * settings.plane_distance]
    plane = fit_plane(border, generator, settings)
    points = xyz[valid].astype(np.float64)
    off_plane = plane_distances(points, plane) >= settings.plane_distance
    pixels = np.flatnonzero(valid)[off_plane]
    kept = largest_cluster(points[off_plane], settings.cluster_eps, settings.cluster_min_points)
    mask = np.zeros(valid.shape, bool)
    mask.flat[pixels[kept]] = True
    return mask


def fit_plane(
    points: np.ndarray, generator: np.random.Generator, settings: BackgroundSettings = BackgroundSettings()
) -> np.ndarray:
    """RANSAC plane: least-squares planes of random draws, the one with most inliers fitted again to its inliers.

    Args:
        points: (N, 3) metres.
        generator: draws the points (with replacement).
        settings: number and size of the draws, inlier distance.

    Returns:
        (4,) float64: unit normal n and offset d of the plane n·p + d = 0.

    Raises:
        UserError: fewer points than one draw takes.
    """
    if len(points) < settings.ransac_points:
        raise UserError(
            f"{len(points)} valid points in the {settings.frame}-pixel frame border, a background plane needs at least "
            f"{settings.ransac_points}"
        )
    points = np.asarray(points, np.float64)
    draws = generator.integers(len(points), size=(settings.ransac_draws, settings.ransac_points))
    best = np.zeros(len(points), bool)
    count = -1
    for plane in least_squares_planes(points[draws]):
        inliers = plane_distances(points, plane) <= settings.ransac_distance
        if np.count_nonzero(inliers) > count:
            best, count = inliers, int(np.count_nonzero(inliers))
        if count == len(points):  # no later draw can do better
            break
    return least_squares_planes(points[best][None])[0]


def plane_distances(points: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """(N, 3) points and (4,) plane → (N,) distances, ≥ 0."""
    a, b, c, d = plane
    return np.abs(points[:, 0] * a + points[:, 1] * b + points[:, 2] * c + d)  # no BLAS: same bits on any thread count
