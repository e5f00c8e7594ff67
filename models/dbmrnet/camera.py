"""The camera of an organised cloud, fitted to the cloud itself, so that it absorbs padding and resizing.

H is the side of the pixel grid; (u, v) are pixel coordinates, whole at pixel centres. A camera is a (3, 4) matrix C
with C·(p, 1) = w·(u, v, 1).
"""

import torch
from torch import Tensor

MAX_RESIDUAL = 1.0  # pixels; above it the cloud's z is not the distance along the optical axis


def fit_camera(points: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The camera of a cloud, and its axes.

    First the pinhole u = fx·x/z + cx, v = fy·y/z + cy by least squares; where its residual exceeds a pixel, as for
    clouds whose axes are not the camera's, the general projection.

    Args:
        points: (N, 3) float64. pixels: (N, 2) float64, (u, v) of each.

    Returns:
        (3, 4) camera in the frame of the points; (3, 3) rotation whose rows are the camera's axes (to the right, down,
        forward) in that frame: the identity for a pinhole.
    """
    camera = _fit_pinhole(points, pixels)
    if len(points) >= 6 and _residual(camera, points, pixels) > MAX_RESIDUAL:
        camera = _fit_projection(points, pixels)
        return camera, _axes(camera)
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


def _fit_projection(points: Tensor, pixels: Tensor) -> Tensor:
    """Direct linear transformation (Hartley and Zisserman, Multiple View Geometry, section 7.1), on whitened input."""
    whiten_points, whiten_pixels = _whitening(points), _whitening(pixels)
    p = torch.cat([points, torch.ones_like(points[:, :1])], dim=1) @ whiten_points.T  # (N, 4)
    u = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1) @ whiten_pixels.T  # (N, 3)
    zero = torch.zeros_like(p)
    rows = torch.cat([torch.cat([p, zero, -u[:, :1] * p], dim=1), torch.cat([zero, p, -u[:, 1:2] * p], dim=1)])
    solution = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, 0].view(3, 4)
    camera = torch.linalg.inv(whiten_pixels) @ solution @ whiten_points
    depths = points @ camera[2, :3] + camera[2, 3]
    # The sign that puts points in front of the camera, and w in units of the cloud.
    return camera / (camera[2, :3].norm() * depths.mean().sign())


def _whitening(values: Tensor) -> Tensor:
    """(d + 1, d + 1) matrix that moves values (N, d) to mean 0 and mean distance 1."""
    dimensions = values.shape[1]
    centre = values.mean(dim=0)
    scale = 1 / (values - centre).norm(dim=1).mean().clamp(min=1e-12)
    matrix = torch.eye(dimensions + 1, dtype=values.dtype)
    matrix[:dimensions, :dimensions] *= scale
    matrix[:dimensions, dimensions] = -scale * centre
    return matrix


def _axes(camera: Tensor) -> Tensor:
    """Rows: the directions to the right, down and forward, orthonormal."""
    forward = camera[2, :3] / camera[2, :3].norm()
    right = camera[0, :3] - (camera[0, :3] @ forward) * forward
    right = right / right.norm()
    down = camera[1, :3] - (camera[1, :3] @ forward) * forward
    down = down - (down @ right) * right
    return torch.stack([right, down / down.norm(), forward])


def _residual(camera: Tensor, points: Tensor, pixels: Tensor) -> float:
    """Root mean square distance of projected points to their pixels, in pixels."""
    return float((project(camera[None], points[None])[0] - pixels).square().sum(dim=1).mean().sqrt())
