"""Surface normals of organised clouds, by regression in a window of the image.

Around each pixel the three coordinates are fitted as affine functions of the pixel's offset (du, dv), with weights that
fall off with the distance and leave out what is not measured or lies on another surface (normalised convolution,
Knutsson and Westin, CVPR 1993). The cross product of the two slopes is the normal. Slices and sums: no search for
neighbours, no eigenvectors, and nothing whose shape depends on the values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DETERMINANT = 1e-3
"""Of the covariance of the offsets in pixels, weights of sum 1. Below, neighbours lie in a line or are too few."""


LEAST_WIDTH, LEAST_AREA = 1e-3, 1e-13
"""Of the surface in a window, width over length, and of what a pixel covers, in square metres. Below, the points lie in
a line or are one and the same, as where a cloud is enlarged: the normal would be what rounding leaves.
"""


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

    Nearly all windows see one surface: for all of them at once the sums are a convolution. Where a window sees a step
    in depth, which its highest and its lowest point tell, they are made again without what lies beyond it.

    Args:
        xyz: (B, 3, H, W) metres in the camera's frame.
        valid: (B, H, W) bool, True = the pixel holds a point.
        settings: of the window.

    Returns:
        (B, 3, H, W) float32 normals, 0 where unknown; (B, H, W) bool, True = known: a valid pixel with valid neighbours
        that do not lie in a line, neither in the image nor in space.
    """
    xyz = xyz.float()
    radius, (height, width) = settings.radius, valid.shape[1:]
    measured = valid[:, None].float()
    middle = (xyz * measured).sum(dim=(2, 3), keepdim=True) / measured.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    # Small numbers, so that float32 tells fractions of a micrometre. The middle is a whole number of 1/1024 m: rounding
    # of its sum, which hangs on their order, must not decide whether a neighbour is near.
    centred = (xyz - (middle * 1024).round() / 1024) * measured
    parts = torch.cat([measured, centred], dim=1)  # (B, 4, H, W): 1, x, y, z
    kernels = _kernels(settings).to(xyz)
    sums = functional.conv2d(parts, kernels, padding=radius)  # (B, SUMS, H, W)
    normal, known = _cross_product(sums.flatten(2), xyz.flatten(2), valid.flatten(1))  # (B, 3, HW), (B, HW)

    depth, beyond = centred[:, 2], torch.finfo(torch.float32).max / 4
    highest, lowest = (_highest(torch.where(valid, value, -beyond), radius, -beyond) for value in (depth, -depth))
    far = valid & ((highest - depth >= settings.step) | (lowest + depth >= settings.step))
    image, pixel = far.flatten(1).nonzero().unbind(dim=1)  # (N,) each
    around = functional.pad(parts, (radius,) * 4).permute(0, 2, 3, 1).flatten(1, 2)  # (B, h'·w', 4)
    wide, steps = width + 2 * radius, torch.arange(2 * radius + 1, device=xyz.device)
    window = (steps[:, None] * wide + steps).flatten()  # places of a window's pixels, from its first
    near = around[image[:, None], (pixel // width * wide + pixel % width)[:, None] + window]  # (N, window, 4)
    same = (near[:, :, 3] - near[:, len(window) // 2, None, 3]).abs() < settings.step
    again = (near * same[:, :, None]).transpose(1, 2).flatten(1) @ kernels.flatten(1).T  # (N, SUMS)
    at = xyz.flatten(2)[image, :, pixel]  # (N, 3)
    own, own_known = _cross_product(again[:, :, None], at[:, :, None], torch.ones_like(at[:, :1], dtype=torch.bool))
    normal[image, :, pixel] = own[:, :, 0]
    known[image, pixel] = own_known[:, 0]
    return normal.unflatten(2, (height, width)), known.unflatten(1, (height, width))


def _highest(values: Tensor, radius: int, least: float) -> Tensor:
    """Highest value in the window of each pixel, `least` beyond the border: (B, H, W).

    Along the rows, then along the columns, by slices: a pooling takes longer, since it keeps places too.
    """
    for axis, border in ((2, (radius, radius)), (1, (0, 0, radius, radius))):
        length = values.shape[axis]
        wide = functional.pad(values, border, value=least)
        values = wide.narrow(axis, 0, length)
        for step in range(1, 2 * radius + 1):
            values = torch.maximum(values, wide.narrow(axis, step, length))
    return values


SUMS = 16
"""Σw of 1, x, y, z; Σw·du and Σw·dv of the same; Σw·du², Σw·du·dv, Σw·dv²; and one that is 0, to make them 16."""


def _kernels(settings: NormalSettings) -> Tensor:
    """(SUMS, 4, window, window): how each of the sums is made of 1, x, y, z in a window."""
    steps = torch.arange(-settings.radius, settings.radius + 1, dtype=torch.float64)
    dv, du = torch.meshgrid(steps, steps, indexing="ij")
    weights = torch.exp(-(du**2 + dv**2) / (2 * settings.sigma**2))
    kernels = torch.zeros(SUMS, 4, *weights.shape, dtype=torch.float64)
    for part in range(4):
        for group, factor in enumerate((torch.ones_like(du), du, dv)):
            kernels[4 * group + part, part] = weights * factor
    for index, factor in enumerate((du * du, du * dv, dv * dv)):
        kernels[12 + index, 0] = weights * factor
    return kernels.float()


def _cross_product(sums: Tensor, xyz: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Normals from the sums (B, SUMS, N) at points (B, 3, N), valid (B, N); see `estimate_normals`.

    With a = Σw·(du − mean du)·p and b in the same way, the slopes are S⁻¹·(a, b), S the covariance of the offsets. Its
    determinant is positive, so their cross product has the direction of a × b.
    """
    whole, by_u, by_v = sums[:, :4], sums[:, 4:8], sums[:, 8:12]
    square_u, product, square_v = sums[:, 12], sums[:, 13], sums[:, 14]
    one, u, v = whole[:, 0], by_u[:, 0], by_v[:, 0]
    along_u = one[:, None] * by_u[:, 1:] - u[:, None] * whole[:, 1:]
    along_v = one[:, None] * by_v[:, 1:] - v[:, None] * whole[:, 1:]
    normal = torch.linalg.cross(along_u, along_v, dim=1)
    uu, uv, vv = one * square_u - u * u, one * product - u * v, one * square_v - v * v
    determinant = uu * vv - uv * uv
    square, square_a, square_b = (value.square().sum(dim=1) for value in (normal, along_u, along_v))
    length = square.sqrt()  # `vector_norm` takes eighty times as long along this axis
    known = valid & (determinant > LEAST_DETERMINANT * one**4) & (length > LEAST_AREA * determinant)
    known = known & (length > LEAST_WIDTH * torch.maximum(square_a, square_b))
    away = (normal * xyz).sum(dim=1) > 0
    scale = torch.where(away, -1.0, 1.0) / torch.where(known, length, 1.0)
    return normal * (scale * known)[:, None], known
