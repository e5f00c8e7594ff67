"""Few nearest neighbours by brute force as a Triton kernel: no distance is ever written to memory.

Imported only where it runs. Triton compiles it at its first launch, which takes a C compiler on the machine.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES, POINTS = 32, 64
"""Of the pairs that a program looks at together."""

MOST = 8
"""Neighbours up to which this is meant to be used: all distances are worked out anew for each of them."""


def nearest_by_triton(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same as `point_ops.nearest_by_blocks`, for k ≤ N; of points that are equally near the first comes first."""
    squared = torch.empty(len(queries), k, device=queries.device)
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    programs = (triton.cdiv(len(queries), QUERIES),)
    counts = len(queries), len(points), k
    with torch.cuda.device_of(queries):
        _nearest[programs](
            queries.contiguous(),
            points.contiguous(),
            squared,
            indices,
            *counts,
            QUERIES,
            POINTS,
            num_warps=8,
            enable_fp_fusion=False,  # else rounded otherwise than by the other versions
        )
    return squared, indices


@triton.jit
def _nearest(
    queries: tl.tensor,
    points: tl.tensor,
    squared: tl.tensor,
    indices: tl.tensor,
    n_queries: tl.tensor,
    n_points: tl.tensor,
    k: tl.tensor,
    block_queries: tl.constexpr,
    block_points: tl.constexpr,
) -> None:
    """(Q, 3) queries, (N, 3) points → (Q, k) squared distances and indices. Rank by rank the smallest distance is
    sought that comes after the last one found; a point without a distance (NaN) is never found."""
    rows = tl.program_id(0) * block_queries + tl.arange(0, block_queries)
    asked = rows < n_queries
    x = tl.load(queries + 3 * rows, mask=asked, other=0.0)[:, None]
    y = tl.load(queries + 3 * rows + 1, mask=asked, other=0.0)[:, None]
    z = tl.load(queries + 3 * rows + 2, mask=asked, other=0.0)[:, None]
    last = tl.full((block_queries,), -1.0, tl.float32)
    place = tl.full((block_queries,), -1, tl.int32)
    for rank in range(k):
        nearest = tl.full((block_queries, block_points), float("inf"), tl.float32)  # of the points each lane has seen
        places = tl.full((block_queries, block_points), 0, tl.int32) + n_points
        for start in range(0, n_points, block_points):
            number = start + tl.arange(0, block_points)
            there = number < n_points
            dx = x - tl.load(points + 3 * number, mask=there, other=0.0)[None, :]
            dy = y - tl.load(points + 3 * number + 1, mask=there, other=0.0)[None, :]
            dz = z - tl.load(points + 3 * number + 2, mask=there, other=0.0)[None, :]
            distance = (dx * dx + dy * dy) + dz * dz
            later = (distance > last[:, None]) | ((distance == last[:, None]) & (number[None, :] > place[:, None]))
            closer = later & there[None, :] & (distance < nearest)
            nearest = tl.where(closer, distance, nearest)
            places = tl.where(closer, number[None, :], places)
        last = tl.min(nearest, axis=1)
        place = tl.min(tl.where(nearest == last[:, None], places, n_points), axis=1)
        tl.store(squared + rows * k + rank, last, mask=asked)
        tl.store(indices + rows * k + rank, tl.minimum(place, n_points - 1).to(tl.int64), mask=asked)
