"""Filters along a line of pixels or cells as matrices, which bring a grid m to A·m·Bᵀ. For static graphs too."""

import torch
from torch import Tensor


def linear(length: int, size: int, device: torch.device) -> Tensor:
    """Linear interpolation between centres, the outermost repeated: (size, length) float32, rows of sum 1."""
    places = (torch.arange(size, dtype=torch.float64, device=device) + 0.5) * length / size - 0.5
    distances = places.clamp(0, length - 1)[:, None] - torch.arange(length, device=device)
    return (1 - distances.abs()).clamp(min=0).float()


def box(length: int, side: int, device: torch.device) -> Tensor:
    """Mean over `side` pixels around each, an odd number, those beyond the border left out: (length, length)."""
    places = torch.arange(length, device=device)
    near = ((places[:, None] - places).abs() <= side // 2).float()
    return near / near.sum(dim=1, keepdim=True)
