"""Crossmodal discrepancy per pixel (CFM paper, section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional


def discrepancy(mapped: Tensor, observed: Tensor) -> Tensor:
    """Distance of L2-normalised features, ‖m/‖m‖ − f/‖f‖‖₂, row by row: (P, D) and (P, D) → (P,) in [0, 2]."""
    return (functional.normalize(mapped.float(), dim=1) - functional.normalize(observed.float(), dim=1)).norm(dim=1)


def scatter_to_grid(values: Tensor, foreground: Tensor, size: int) -> Tensor:
    """Foreground values on the pixel grid, 0 elsewhere: (P,) and flat indices (P,) → (size, size)."""
    grid = torch.zeros(size * size, dtype=values.dtype, device=values.device)
    grid[foreground] = values
    return grid.view(size, size)
