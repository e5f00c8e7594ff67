"""Surface normals of organised clouds, by regression in a window of the image.

Around each pixel the three coordinates are fitted as affine functions of the pixel's offset (du, dv), with weights that
fall off with the distance and leave out what is not measured or lies on another surface (normalised convolution,
Knutsson and Westin, CVPR 1993). The cross product of the two slopes is the normal. Slices, sums and one closed-form
solution: no search for neighbours, no eigenvectors, and nothing whose shape depends on the values.
"""

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DETERMINANT = 1e-3
"""Of the moments of the offsets, over the cube of their weight. Below, the neighbours lie in a line or are too few."""


@dataclass(frozen=True)
class NormalSettings:
    """The window, and what belongs to it.

    radius: pixels; the window has 2·radius + 1 a side. sigma: deviation of the Gaussian weights, pixels.
    step: metres; a neighbour whose depth differs by as much lies on another surface.
    """

    radius: int = 2
    sigma: float = 1.5
    step: float = 0.005


def estimate_normals(xyz: Tensor, valid: Tensor, settings: NormalSettings) -> tuple[Tensor, Tensor]:
    """Unit normals that point towards the camera, which is at the origin.

    Args:
        xyz: (B, 3, H, W) metres in the camera's frame. valid: (B, H, W) bool, True = the pixel holds a point.
        settings: of the window.

    Returns:
        (B, 3, H, W) float32 normals, 0 where unknown; (B, H, W) bool, True = known: a valid pixel with valid neighbours
        that do not lie in a line.
    """
    xyz = xyz.float()
    radius, (height, width) = settings.radius, valid.shape[1:]
    cloud, mask = (functional.pad(values, (radius,) * 4) for values in (xyz, valid))
    moments = xyz.new_zeros(6, *valid.shape)  # Σw, Σw·du, Σw·dv, Σw·du², Σw·du·dv, Σw·dv²
    sums = xyz.new_zeros(3, *xyz.shape)  # Σw·d, Σw·du·d, Σw·dv·d with d the difference of the points, (3, B, 3, H, W)
    for dv, du in product(range(-radius, radius + 1), repeat=2):
        rows, columns = slice(radius + dv, radius + dv + height), slice(radius + du, radius + du + width)
        difference = cloud[:, :, rows, columns] - xyz
        near = mask[:, rows, columns] & (difference[:, 2].abs() < settings.step)
        weight = near * math.exp(-(du**2 + dv**2) / (2 * settings.sigma**2))  # (B, H, W)
        weighted = weight[:, None] * difference
        for totals, values, factors in (
            (moments, weight, (1, du, dv, du**2, du * dv, dv**2)),
            (sums, weighted, (1, du, dv)),
        ):
            for place, factor in enumerate(factors):
                if factor:
                    totals[place].add_(values, alpha=factor)
    return _cross_product(moments, sums, xyz, valid)


def _cross_product(moments: Tensor, sums: Tensor, xyz: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the slopes with the adjugate of the (3, 3) matrix of moments; see `estimate_normals`."""
    one, u, v, uu, uv, vv = moments
    crossed, first, second = u * v - one * uv, u * uv - v * uu, v * uv - u * vv  # entries of the adjugate
    determinant = one * (uu * vv - uv * uv) + u * second + v * first
    by_u = second[:, None] * sums[0] + (one * vv - v * v)[:, None] * sums[1] + crossed[:, None] * sums[2]
    by_v = first[:, None] * sums[0] + crossed[:, None] * sums[1] + (one * uu - u * u)[:, None] * sums[2]
    scale = determinant.clamp(min=1e-12)[:, None]
    normal = torch.linalg.cross(by_u / scale, by_v / scale, dim=1)
    length = torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    known = valid & (determinant > LEAST_DETERMINANT * one**3) & (length[:, 0] > 0)
    away = (normal * xyz).sum(dim=1, keepdim=True) > 0
    unit = torch.where(away, -normal, normal) / torch.where(length > 0, length, 1.0)
    return unit * known[:, None], known
