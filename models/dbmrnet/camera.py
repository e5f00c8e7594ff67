"""The camera of an organised cloud, fitted to the cloud itself, so that it absorbs padding and resizing.

H is the side of the pixel grid; (u, v) are pixel coordinates, whole at pixel centres. A camera is a (3, 4) matrix C
with C·(p, 1) = w·(u, v, 1).
"""

from operator import itemgetter

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

MAX_RESIDUAL = 1.0  # pixels; above it the cloud's z is not the distance along the optical axis
FIT_POINTS = 1000  # at most as many points decide the camera of a turned cloud
MAX_STEPS = 100  # of least squares from one start; 5 to 80 are usual
FOCAL, FOCAL_SPREAD = 1.4, 0.7  # expected focal length in sides of the grid, and the deviation of its logarithm
CENTRE_SPREAD = 0.1  # deviation of the principal point from the grid's middle in sides of the grid


def fit_camera(points: Tensor, pixels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The camera of a cloud, and its axes.

    First the pinhole u = fx·x/z + cx, v = fy·y/z + cy by least squares; where its residual exceeds a pixel, as for
    clouds whose axes are not the camera's, and there are six points or more, a pinhole with square pixels anywhere in
    space: resection by least squared errors in pixels (Hartley and Zisserman, Multiple View Geometry, section 7.2).
    What such points leave open, as flat ones do, is decided by the focal length and principal point to be expected,
    each with the weight of one measured pixel.

    Args:
        points: (N, 3) float64.
        pixels: (N, 2) float64, (u, v) of each.
        size: H.

    Returns:
        (3, 4) camera in the frame of the points, w being the distance along the optical axis; (3, 3) orthonormal rows,
        the camera's axes (to the right, down, forward) in that frame: the identity for a pinhole, of determinant −1
        where only a mirrored frame fits.
    """
    camera = _fit_pinhole(points, pixels)
    if len(points) >= 6 and _residual(camera, points, pixels) > MAX_RESIDUAL:
        return _fit_turned(points.numpy(), pixels.numpy(), size)
    return camera, torch.eye(3, dtype=points.dtype)


def project(camera: Tensor, points: Tensor) -> Tensor:
    """Pixels of points: (B, 3, 4) cameras, (B, N, 3) points → (B, N, 2), finite also for points beside the camera."""
    # Not a matrix product, which would be rounded under a lower precision.
    homogeneous = (points[:, :, None] * camera[:, None, :, :3]).sum(dim=-1) + camera[:, None, :, 3]  # (B, N, 3)
    w = homogeneous[..., 2:]
    return homogeneous[..., :2] / torch.where(w.abs() < 1e-6, torch.full_like(w, 1e-6), w)


def sample_grid(values: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values at pixel coordinates, 0 outside the grid: (B, C, H, H) and (B, N, 2) → (B, N, C)."""
    size = values.shape[-1]
    grid = (2 * pixels + 1) / size - 1  # (B, N, 2) in [-1, 1]
    found = torch.nn.functional.grid_sample(values, grid[:, None], align_corners=False)  # (B, C, 1, N)
    return found[:, :, 0].transpose(1, 2)


def _fit_pinhole(points: Tensor, pixels: Tensor) -> Tensor:
    z = points[:, 2:]
    slopes = points[:, :2] / torch.where(z.abs() < 1e-9, torch.full_like(z, 1e-9), z)  # x/z, y/z
    deviations = slopes - slopes.mean(dim=0)
    covariances = (deviations * (pixels - pixels.mean(dim=0))).sum(dim=0)
    focal = covariances / deviations.square().sum(dim=0).clamp(min=1e-18)  # (2,)
    camera = points.new_zeros(3, 4)
    camera[:2, :2] = torch.diag(focal)
    camera[:2, 2] = pixels.mean(dim=0) - focal * slopes.mean(dim=0)
    camera[2, 2] = 1
    return camera


def _fit_turned(points: np.ndarray, pixels: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """Camera (3, 4) and axes (3, 3) as `fit_camera` returns them, the best from all starts of `_weak_perspective`.

    Args:
        points: (N, 3), N ≥ 6.
        pixels: (N, 2).
        size: H.
    """
    chosen = np.linspace(0, len(points) - 1, min(len(points), FIT_POINTS)).round().astype(int)
    points, pixels = points[chosen], pixels[chosen]
    middle = points.mean(axis=0)
    scale = max(float(np.linalg.norm(points - middle, axis=1).mean()), 1e-12)
    points = (points - middle) / scale
    found: list[tuple[float, np.ndarray, np.ndarray]] = []  # error, axes, parameters
    for handedness in (1, -1):
        for axes, parameters in _weak_perspective(points, pixels, handedness, size):
            found.append(_refine(axes, parameters, points, pixels, size))
        if min(found, key=itemgetter(0))[0] <= MAX_RESIDUAL:
            break
    _, axes, parameters = min(found, key=itemgetter(0))
    magnification, focal = np.exp(parameters[3:5])
    image, centre = parameters[5:7], parameters[7:]
    inner = np.diag([focal, focal, 1.0])
    inner[:2, 2] = centre
    shift = np.append(image - centre, focal) * scale / magnification - axes @ middle
    return torch.from_numpy(inner @ np.column_stack([axes, shift])), torch.from_numpy(axes)


def _weak_perspective(
    points: np.ndarray, pixels: np.ndarray, handedness: int, size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two starts, (3, 3) axes of determinant `handedness` and parameters as `_project_turned` takes them.

    The linear map from the cloud's two main axes to pixels shows these axes as seen, up to scale. Across the direction
    in which the plane tilts it shortens them by the cosine of the tilt; which way, it does not tell.

    Args:
        points: (N, 3) normalised.
        pixels: (N, 2).
        size: H.
    """
    main = np.linalg.svd(points, full_matrices=False)[2]  # (3, 3) rows: main axes, longest first
    main[2] *= np.linalg.det(main)
    middle = pixels.mean(axis=0)
    linear = np.linalg.lstsq(points @ main[:2].T, pixels - middle, rcond=None)[0].T  # (2, 2)
    left, lengths, right = np.linalg.svd(linear)
    magnification = max(lengths[0], 1e-6)
    cosine = lengths[1] / magnification
    parameters = np.array([0, 0, 0, np.log(magnification), np.log(FOCAL * size), *middle, *[(size - 1) / 2] * 2])
    starts = []
    for sine in (np.sqrt(1 - cosine**2), -np.sqrt(1 - cosine**2)):
        first, second = np.column_stack([left @ np.diag([1, cosine]) @ right, sine * left[:, 1]]) @ main
        starts.append((np.stack([first, second, handedness * np.cross(first, second)]), parameters))
    return starts


def _refine(
    axes: np.ndarray, parameters: np.ndarray, points: np.ndarray, pixels: np.ndarray, size: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Root mean square error in pixels, axes and parameters of least squares (Levenberg and Marquardt) from a start."""
    expected = parameters[[4, 7, 8]]
    spread = np.array([FOCAL_SPREAD, CENTRE_SPREAD * size, CENTRE_SPREAD * size])

    def residuals(values: np.ndarray) -> np.ndarray:
        errors = _project_turned(axes, values, points) - pixels
        return np.concatenate([errors.ravel(), (values[[4, 7, 8]] - expected) / spread])

    found = least_squares(residuals, parameters, method="lm", x_scale="jac", max_nfev=MAX_STEPS).x
    error = float(np.square(_project_turned(axes, found, points) - pixels).sum(axis=1).mean() ** 0.5)
    return error, Rotation.from_rotvec(found[:3]).as_matrix() @ axes, found


def _project_turned(axes: np.ndarray, parameters: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels (N, 2) of normalised points (N, 3).

    Args:
        axes: (3, 3), turned by the first three parameters.
        parameters: (9,) rotation vector; logarithm of the magnification at the points' middle, in pixels for each unit
            of the points; logarithm of the focal length in pixels; pixel of the points' middle; principal point.
    """
    x = points @ (Rotation.from_rotvec(parameters[:3]).as_matrix() @ axes).T
    magnification, focal = np.exp(parameters[3:5])
    image, centre = parameters[5:7], parameters[7:]
    depth = 1 + magnification / focal * x[:, 2:]  # in units of the middle's depth
    return centre + (magnification * x[:, :2] + image - centre) / np.maximum(depth, 1e-3)


def _residual(camera: Tensor, points: Tensor, pixels: Tensor) -> float:
    """Root mean square distance of projected points to their pixels, in pixels."""
    return float((project(camera[None], points[None])[0] - pixels).square().sum(dim=1).mean().sqrt())
