"""Crossmodal discrepancy per pixel (CFM paper, section 3.3)."""

import torch
from torch import Tensor


def discrepancy(mapped: Tensor, observed: Tensor) -> Tensor:
    """Distance of L2-normalised features, ‖m/‖m‖ − f/‖f‖‖₂, row by row: (P, D) and (P, D) → (P,) in [0, 2]."""
    unit = mapped * _reciprocal_norms(mapped)
    return unit.addcmul_(observed, _reciprocal_norms(observed), value=-1).norm(dim=1)


def _reciprocal_norms(features: Tensor) -> Tensor:
    """(P, D) → (P, 1) float32, finite for a row of zeros."""
    return 1 / torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float32).clamp(min=1e-12)


def scatter_to_grid(values: Tensor, foreground: Tensor, size: int) -> Tensor:
    """Foreground values on the pixel grid, 0 elsewhere: (P,) and flat indices (P,) → (size, size)."""
    grid = torch.zeros(size * size, dtype=values.dtype, device=values.device)
    grid[foreground] = values
    return grid.view(size, size)
