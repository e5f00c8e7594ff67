"""Neighbours of centres: candidates by (x, y) once a sample, the nearest visible ones of them for every mask."""

import torch
from torch import Tensor

from models.point_ops import nearest_neighbours

CANDIDATES = 4  # candidates a neighbour: the k nearest visible ones of 4·k are taken


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Rows of each sample: (B, N, …) and (B, …) int64 → (B, …, …)."""
    rows = torch.arange(len(values), device=values.device).view(-1, *[1] * (indices.dim() - 1))
    return values[rows, indices]


def nearest_in_plane(queries: Tensor, points: Tensor, k: int) -> Tensor:
    """Indices (B, Q, k) of the points (B, N, 3) nearest to each of the queries (B, Q, 3) in (x, y), nearest first."""
    plane = points.new_tensor([1.0, 1.0, 0.0])
    pairs = zip(queries * plane, points * plane, strict=True)
    return torch.stack([nearest_neighbours(asked, among, k)[1] for asked, among in pairs])


def visible_neighbours(
    centres: Tensor, points: Tensor, candidates: Tensor, visible: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    """The k nearest visible candidates of each centre; where fewer are visible, the nearest repeats.

    Args:
        centres: (B, G, 3).
        points: (B, N, 3).
        candidates: (B, G, n ≥ k) int64 indices into the points.
        visible: (B, N) bool, None where all are.

    Returns:
        Indices (B, G, k) int64, nearest first, and distances (B, G, k). Where no candidate is visible one of them
        repeats at an infinite distance: such a centre is hidden itself, or lies on a hidden one where points repeat.
    """
    squared = (take(points, candidates) - centres[:, :, None]).square().sum(dim=-1)  # (B, G, n)
    if visible is not None:
        squared = squared.masked_fill(~take(visible, candidates), torch.inf)
    nearest = squared.topk(k, dim=-1, largest=False, sorted=True)
    absent = nearest.values.isinf()
    ranks = torch.where(absent, nearest.indices[..., :1], nearest.indices)
    distances = torch.where(absent, nearest.values[..., :1], nearest.values).sqrt()
    return candidates.gather(2, ranks), distances
