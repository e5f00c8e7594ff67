"""Where a cell lies, as channels: sines and cosines of its column and row (Vaswani et al., NeurIPS 2017), in 2D."""

import math

import torch
from torch import Tensor

CHANNELS = 32
BASE = 1e4


def position_code(cells: int) -> Tensor:
    """(1, 32, cells, cells) in [−1, 1]: of the column, then of the row, a sine and a cosine of eight frequencies."""
    half = CHANNELS // 2
    frequencies = torch.exp(-math.log(BASE) / half * torch.arange(0, half, 2))  # (8,)
    angles = frequencies[:, None] * torch.arange(cells)  # (8, cells)
    line = torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)  # (16, cells)
    columns, rows = line[:, None].expand(-1, cells, -1), line[:, :, None].expand(-1, -1, cells)
    return torch.cat([columns, rows])[None].contiguous()
