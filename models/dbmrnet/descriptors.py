"""Local descriptors of image and surface, on cells of the object's square.

Of each cell: value, first and second derivatives of the three channels at three scales, and how strong each derivative
is around it. Values and derivatives are those of averages over measured pixels only (normalised differential
convolution, Knutsson and Westin, CVPR 1993), so that neither holes nor silhouettes leave an edge. The filters are
matrices from the pixels of a line to its cells, which cut out, resize and filter at once.
"""

import math

import torch
from torch import Tensor

from models.extractors.backbone import colours
from models.normals import NormalSettings, estimate_normals

SCALES = (0.5, 1.0, 2.0, 4.0)
"""Deviations of the Gaussians, in cells."""

ORDERS = ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1))
"""Derivatives: down, across."""

WIDTH = 3 * len(SCALES) * (1 + 2 * len(ORDERS))
"""Of a descriptor: three channels, values, derivatives and strengths."""

CELLS = 64
"""C, along a side of the square."""

LEAST_DEVIATION = 0.5
"""Of a Gaussian in pixels: narrower ones miss the pixels."""

COVERED = 0.25
"""A cell belongs to the object when more than this share of the pixels around it is measured."""


def image_channels(rgb: Tensor, valid: Tensor) -> Tensor:
    """Logarithm of the brightness over that of the object, and two differences of colours: (B, 3, H, H).

    Neither depends on the exposure, except where it is very dark.

    Args:
        rgb: (B, 3, H, H) ImageNet-normalised.
        valid: (B, H, H) bool, True = a point of the object.
    """
    seen = colours(rgb).clamp(0, 1)
    brightness = seen.mean(dim=1)  # (B, H, H)
    usual = (brightness * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
    red, green, blue = (seen / usual.clamp(min=1e-3)[:, None, None, None]).unbind(dim=1)
    brightness = (red + green + blue) / 3
    differences = red - green, (red + green) / 2 - blue
    return torch.stack([(brightness + 0.04).log(), *(d / (brightness + 0.2) for d in differences)], dim=1)


def describe(rgb: Tensor, xyz: Tensor, valid: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors of both modalities.

    Args:
        rgb: (B, 3, H, H) ImageNet-normalised.
        xyz: (B, 3, H, H) metres in the camera's frame.
        valid: (B, H, H) bool, True = a point of the object.
        window: (B, 3) left, top and side of the square that is cut into C·C cells, in pixels.

    Returns:
        (B, 2, C·C, WIDTH) float16, index 0 is the image, 1 the surface by its normals; (B, C·C) bool, True = on the
        object. Descriptors beside the object mean nothing.
    """
    normals, known = estimate_normals(xyz, valid, NormalSettings())
    found = [
        _describe(values, mask.float(), window)
        for values, mask in ((image_channels(rgb, valid), valid), (normals, known))
    ]
    covered = found[0][1] & found[1][1]
    return torch.stack([values for values, _ in found], dim=1).half(), covered


def _describe(values: Tensor, mask: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, H) values and (B, H, H) mask, 1 = measured → (B, C·C, WIDTH) and covered (B, C·C)."""
    maps = torch.cat([mask[:, None], values * mask[:, None]], dim=1)
    parts: list[Tensor] = []
    weight = values[:, :1, :0, :0]
    for scale in SCALES:
        rows, columns = (_filters(window[:, axis], window[:, 2], maps.shape[-1], scale) for axis in (1, 0))
        value, derivatives, coverage = _derivatives(maps, rows, columns)
        if scale == SCALES[0]:
            weight = (coverage > COVERED).to(values)  # (B, 1, C, C)
        around = _spread(2 * scale, values.device)
        strength = around @ (derivatives.square() * weight) @ around.T
        strength = strength / (around @ weight @ around.T).clamp(min=1e-3)
        parts += [value, derivatives, (strength + 1e-4).log() / 2]
    return torch.cat(parts, dim=1).flatten(2).transpose(1, 2), weight.flatten(1) > 0


def _derivatives(maps: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values and derivatives of the normalised average f = N / D: those of N = f·D, solved for f's.

    Args:
        maps: (B, 1 + 3, H, H), the mask and what is measured times the mask.
        rows, columns: (3, B, C, H) filters of orders 0 to 2.

    Returns:
        (B, 3, C, C), (B, 3·5, C, C) in the order of ORDERS, and the mask's average (B, 1, C, C).
    """
    down = [row[:, None] @ maps for row in rows]  # (B, 4, C, H) each
    across = columns[:, :, None].transpose(-1, -2)  # (3, B, 1, H, C)
    sums = {order: down[order[0]] @ across[order[1]] for order in ((0, 0), *ORDERS)}
    d = {order: total[:, :1] for order, total in sums.items()}
    n = {order: total[:, 1:] for order, total in sums.items()}
    whole = d[0, 0].clamp(min=0.05)
    f = n[0, 0] / whole
    fy, fx = ((n[order] - f * d[order]) / whole for order in ((1, 0), (0, 1)))
    fyy = (n[2, 0] - 2 * fy * d[1, 0] - f * d[2, 0]) / whole
    fxx = (n[0, 2] - 2 * fx * d[0, 1] - f * d[0, 2]) / whole
    fxy = (n[1, 1] - fx * d[1, 0] - fy * d[0, 1] - f * d[1, 1]) / whole
    return f, torch.cat([fy, fx, fyy, fxx, fxy], dim=1), d[0, 0]


def _filters(start: Tensor, side: Tensor, size: int, scale: float) -> Tensor:
    """Gaussian of `scale` cells and its derivatives, in units of it: (3, B, C, H) from pixels of a line to its cells.

    Args:
        start, side: (B,) of the square, in pixels.
        size: H.
        scale: deviation in cells.
    """
    width = side[:, None] / CELLS  # pixels
    centres = start[:, None] + (torch.arange(CELLS, device=side.device) + 0.5) * width - 0.5  # (B, C)
    deviation = (scale * width).clamp(min=LEAST_DEVIATION)[..., None]
    distance = (torch.arange(size, device=side.device) - centres[..., None]) / deviation  # (B, C, H)
    gaussian = (-distance.square() / 2).exp() / (deviation * math.sqrt(2 * math.pi))
    return torch.stack([gaussian, distance * gaussian, (distance.square() - 1) * gaussian])


def _spread(scale: float, device: torch.device) -> Tensor:
    """(C, C) Gaussian average over a line of cells."""
    places = torch.arange(CELLS, device=device)
    weights = (-((places[:, None] - places) / scale).square() / 2).exp()
    return weights / weights.sum(dim=1).max()
