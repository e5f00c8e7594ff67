"""Operations on point sets: farthest point sampling, nearest neighbours, grouping.

N is the number of points, G of groups (sampled centres), M of points in a group. Coordinates are metres. No compiled
extension: exact library routines on the CPU, plain torch on a GPU, the same picks on both.
"""

import numpy as np
import torch
from torch import Tensor

SKIPPED_SQUARED_NORM = 1e-3
"""Points with |p|² at or below this are never sampled and never update distances, as in the CUDA sampler (PointNet++
operators) that every published Point-MAE feature was made with."""


def farthest_point_sampling(points: Tensor, n_samples: int) -> Tensor:
    """Sample centres: start at point 0, then always take the point farthest from all chosen so far.

    Squared distances are float32. Points near the origin are skipped (SKIPPED_SQUARED_NORM), except that the start
    stays point 0. When the points run out, the first point that is not skipped repeats.

    Args:
        points: (N, 3) float32, N ≥ 1.
        n_samples: number of centres G.

    Returns:
        (G,) int64 indices into `points`.
    """
    kept = points.square().sum(dim=1) > SKIPPED_SQUARED_NORM  # (N,)
    candidates = torch.cat([torch.zeros(1, dtype=torch.int64, device=points.device), kept[1:].nonzero().flatten() + 1])
    n_distinct = min(n_samples, len(candidates))
    picks = candidates[_sample(points[candidates], n_distinct)]
    filler = candidates[1] if len(candidates) > 1 and not kept[0] else candidates[0]
    return torch.cat([picks, filler.expand(n_samples - n_distinct)])


def _sample(points: Tensor, n_samples: int) -> Tensor:
    """Farthest point sampling of n_samples ≤ N of the (N, 3) points, from point 0. Returns (n_samples,) int64."""
    if points.device.type != "cpu":
        return sample_by_torch(points, n_samples)
    import fpsample

    # The plain routine is exact; the library's bucket variants are not.
    return torch.from_numpy(fpsample.fps_sampling(points.numpy(), n_samples, start_idx=0).astype(np.int64))


def sample_by_torch(points: Tensor, n_samples: int) -> Tensor:
    """The same picks on any device: n_samples ≤ N of the (N, 3) points, from point 0. Returns (n_samples,) int64."""
    coordinates = points.T.contiguous()  # (3, N)
    distances = torch.full((len(points),), torch.inf, device=points.device)
    picks = torch.zeros(n_samples, dtype=torch.int64, device=points.device)
    for i in range(1, n_samples):
        squares = (coordinates - coordinates[:, picks[i - 1 : i]]).square()  # (3, N)
        distances = torch.minimum(distances, squares[0] + squares[1] + squares[2])
        picks[i] = distances.argmax()
    return picks


def nearest_neighbours(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k points nearest to each query, nearest first; where N < k, the nearest point repeats.

    Distances are sums of squared differences, never the expansion a² − 2ab + b², which loses digits.

    Args:
        queries: (Q, 3) float32.
        points: (N, 3) float32, N ≥ 1.
        k: number of neighbours.

    Returns:
        Squared distances (Q, k) in m² (float64 on the CPU, float32 on a GPU) and indices (Q, k) int64 into `points`.
    """
    if queries.device.type != "cpu":
        return nearest_by_blocks(queries, points, k)
    from scipy.spatial import cKDTree

    ranks = list(range(1, min(k, len(points)) + 1))  # a list keeps the last axis when there is one rank
    distances, indices = cKDTree(points.numpy()).query(queries.numpy(), k=ranks, workers=torch.get_num_threads())
    return _repeat_nearest(torch.from_numpy(distances).square(), torch.from_numpy(indices.astype(np.int64)), k)


def nearest_by_blocks(queries: Tensor, points: Tensor, k: int, block_pairs: int = 1 << 25) -> tuple[Tensor, Tensor]:
    """The same by brute force on any device, at most `block_pairs` (query, point) pairs in memory at a time."""
    squared, indices = [], []
    for block in queries.split(max(1, block_pairs // len(points))):
        distances = torch.zeros(len(block), len(points), device=points.device)  # (block, N)
        for axis in range(3):
            distances += (block[:, axis, None] - points[None, :, axis]).square()
        found = distances.topk(min(k, len(points)), dim=1, largest=False, sorted=True)
        squared.append(found.values)
        indices.append(found.indices)
    return _repeat_nearest(torch.cat(squared), torch.cat(indices), k)


def _repeat_nearest(squared: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Fill (Q, n ≤ k) neighbours up to k with the nearest one."""
    missing = k - squared.shape[1]
    return (
        torch.cat([squared, squared[:, :1].expand(-1, missing)], dim=1),
        torch.cat([indices, indices[:, :1].expand(-1, missing)], dim=1),
    )


def group_points(points: Tensor, centres: Tensor, group_size: int) -> Tensor:
    """Offsets from each centre to its nearest points (the centre itself among them).

    Args:
        points: (N, 3). centres: (G, 3). group_size: M.

    Returns:
        (G, M, 3) neighbour − centre, in metres, not rescaled.
    """
    _, indices = nearest_neighbours(centres, points, group_size)
    return points[indices] - centres[:, None]
