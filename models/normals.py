"""Surface normals of organised clouds, by regression in a window of the image.

Around each pixel the three coordinates are fitted as affine functions of the pixel's offset (du, dv), with weights that
fall off with the distance and leave out what is not measured or lies on another surface (normalised convolution,
Knutsson and Westin, CVPR 1993). The cross product of the two slopes is the normal. Slices and sums: no search for
neighbours, no eigenvectors, and nothing whose shape depends on the values.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DETERMINANT = 1e-3
"""Of the covariance of the offsets in pixels, weights of sum 1. Below, neighbours lie in a line or are too few."""


@dataclass(frozen=True)
class NormalSettings:
    """The window, and what belongs to it.

    radius: pixels; the window has 2·radius + 1 a side.
    sigma: deviation of the Gaussian weights, pixels.
    step: metres; a neighbour whose depth differs by as much lies on another surface.
    """

    radius: int = 2
    sigma: float = 1.5
    step: float = 0.005


def estimate_normals(xyz: Tensor, valid: Tensor, settings: NormalSettings) -> tuple[Tensor, Tensor]:
    """Unit normals that point towards the camera, which is at the origin.

    Args:
        xyz: (B, 3, H, W) metres in the camera's frame.
        valid: (B, H, W) bool, True = the pixel holds a point.
        settings: of the window.

    Returns:
        (B, 3, H, W) float32 normals, 0 where unknown; (B, H, W) bool, True = known: a valid pixel with valid neighbours
        that do not lie in a line.
    """
    xyz = xyz.float()
    radius, (height, width) = settings.radius, valid.shape[1:]
    measured = valid[:, None].float()
    middle = (xyz * measured).sum(dim=(2, 3), keepdim=True) / measured.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centred = xyz - middle  # small numbers, so that float32 tells fractions of a micrometre
    parts = functional.pad(torch.cat([measured, centred * measured], dim=1), (radius,) * 4)  # (B, 4, …): 1, x, y, z
    whole, by_u, by_v = (torch.zeros_like(parts[:, :, :height, :width]) for _ in range(3))  # Σw·…, Σw·du·…, Σw·dv·…
    squares = xyz.new_zeros(3, *valid.shape)  # Σw·du², Σw·du·dv, Σw·dv²
    for dv in range(-radius, radius + 1):
        row, row_by_u, row_by_u2 = torch.zeros_like(whole), torch.zeros_like(whole), torch.zeros_like(squares[0])
        for du in range(-radius, radius + 1):
            neighbours = parts[:, :, radius + dv : radius + dv + height, radius + du : radius + du + width]
            near = ((neighbours[:, 3:] - centred[:, 2:]).abs() < settings.step).float()
            gauss = _gauss(du, settings)
            row.addcmul_(near, neighbours, value=gauss)
            if du:
                row_by_u.addcmul_(near, neighbours, value=gauss * du)
                row_by_u2.addcmul_(near[:, 0], neighbours[:, 0], value=gauss * du**2)
        gauss = _gauss(dv, settings)
        for total, of_row, factor in (
            (whole, row, 1),
            (by_u, row_by_u, 1),
            (by_v, row, dv),
            (squares[0], row_by_u2, 1),
            (squares[1], row_by_u[:, 0], dv),
            (squares[2], row[:, 0], dv**2),
        ):
            if factor:
                total.add_(of_row, alpha=gauss * factor)
    return _cross_product(whole, by_u, by_v, squares, xyz, valid)


def _gauss(offset: int, settings: NormalSettings) -> float:
    """Weight of a neighbour so many pixels away, in one direction."""
    return math.exp(-(offset**2) / (2 * settings.sigma**2))


def _cross_product(
    whole: Tensor, by_u: Tensor, by_v: Tensor, squares: Tensor, xyz: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Normals from the sums; see `estimate_normals`.

    With a = Σw·(du − mean du)·p and b in the same way, the slopes are S⁻¹·(a, b), S the covariance of the offsets. Its
    determinant is positive, so their cross product has the direction of a × b.
    """
    one, u, v = whole[:, 0], by_u[:, 0], by_v[:, 0]
    along_u = one[:, None] * by_u[:, 1:] - u[:, None] * whole[:, 1:]
    along_v = one[:, None] * by_v[:, 1:] - v[:, None] * whole[:, 1:]
    normal = torch.linalg.cross(along_u, along_v, dim=1)
    uu, uv, vv = one * squares[0] - u * u, one * squares[1] - u * v, one * squares[2] - v * v
    length = normal.square().sum(dim=1).sqrt()  # `vector_norm` takes eighty times as long along this axis
    known = valid & (uu * vv - uv * uv > LEAST_DETERMINANT * one**4) & (length > 0)
    away = (normal * xyz).sum(dim=1) > 0
    scale = torch.where(away, -1.0, 1.0) / torch.where(known, length, 1.0)
    return normal * (scale * known)[:, None], known
