"""Gaussian filters as matrices: they smooth and derive along a line of pixels."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from utils.devices import send

CPU = torch.device("cpu")


@lru_cache(maxsize=64)
def gaussian_matrix(
    size: int, cells: int, scale: float, order: int, clamp: bool = True, device: torch.device = CPU
) -> Tensor:
    """Gaussian derivative filter as a matrix from a line of pixels to the centres of equal cells.

    Args:
        size: pixels in the line.
        cells: of the output.
        scale: standard deviation in pixels.
        order: of the derivative, times scale to that power: 0, 1 or 2.
        clamp: repeat the border pixels outwards; otherwise what lies outside is zero.
        device: where it is kept.

    Returns:
        (cells, size) float32.
    """
    reach = math.ceil(4 * scale) + 1
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * size / cells - 0.5
    distance = (torch.arange(-reach, size + reach, dtype=torch.float64) - centres[:, None]) / scale
    gaussian = (-distance.square() / 2).exp()
    gaussian /= gaussian.sum(dim=1, keepdim=True)
    weights = [gaussian, distance * gaussian, (distance.square() - 1) * gaussian][order]
    if order == 2:
        weights = weights - weights.mean(dim=1, keepdim=True)  # nothing is left of a constant
    inside = weights[:, reach : reach + size].clone()
    if clamp:
        inside[:, 0] += weights[:, :reach].sum(dim=1)
        inside[:, -1] += weights[:, reach + size :].sum(dim=1)
    return send(inside.float(), device)
