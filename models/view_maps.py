"""Maps of a view, brought to the pixels of the frame.

From cells to the view's pixels, smoothing, and from there to the frame: each step is linear and separable, so a map
m of C×C cells becomes A·m·Bᵀ with two small matrices.
"""

import torch
from torch import Tensor

from models.anomaly_map import DefectMap, aggregate
from models.gaussian import gaussian_matrix
from models.resampling import linear
from utils.view import Window

SMOOTHING = 0.03
"""Deviation of the Gaussian over the side of a square as large as the object, so that it follows the object's size."""
FRAME = 224  # side of the frame's grid


def make_view_map(psi_2d: Tensor, psi_3d: Tensor, aggregation: str, valid: Tensor, window: Window) -> DefectMap:
    """Aggregate, smooth and place the discrepancies of a view.

    Args:
        psi_2d, psi_3d: (C, C) of its cells or pixels, 0 on the background.
        aggregation: see `make_anomaly_map`.
        valid: (S, S) bool of the view's pixels, S a multiple of C, True = a point of the object.
        window: of the view.

    Returns:
        The maps on the frame's grid, 0 beyond the view; the discrepancies as they are, not smoothed.
    """
    plain, smoothed = place(torch.stack([psi_2d, psi_3d, aggregate(psi_2d, psi_3d, aggregation)]), valid, window)
    return DefectMap(plain[0], plain[1], smoothed[2])


def place(maps: Tensor, valid: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Maps of the cells of a view, (n, C, C), on the frame's grid: enlarged linearly, and smoothed too; see above."""
    cells, size = maps.shape[-1], len(valid)
    deviation = SMOOTHING * float(valid.sum()) ** 0.5
    enlarging = linear(cells, size, maps.device)
    smoothing = _smoothing(size, deviation).to(maps) @ enlarging
    lines = [placing(size, start, window.side) for start in window[:2]]
    found = []
    for matrix in (enlarging, smoothing):
        down, across = (line.to(maps) @ matrix for line in lines)
        found.append(down @ maps @ across.T)
    return found[0], found[1]


def placing(size: int, start: float, side: float, frame: int = FRAME) -> Tensor:
    """(frame, size) matrix from a line of the view's pixels to one of the frame's: linear, 0 beyond the view.

    Args:
        size: pixels of the view.
        start, side: of its window, see `Window`.
        frame: pixels of the frame.
    """
    centres = ((torch.arange(frame, dtype=torch.float64) + 0.5) / frame - start) / side * size - 0.5  # in the view
    weights = (1 - (centres[:, None] - torch.arange(size)).abs()).clamp(min=0)
    return weights.float()


def _smoothing(size: int, deviation: float) -> Tensor:
    """(size, size) Gaussian over a line of pixels, zero beyond it; the identity for a deviation of 0."""
    return gaussian_matrix(size, size, deviation, 0, clamp=False) if deviation > 0 else torch.eye(size)
