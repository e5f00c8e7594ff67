"""Operations on point sets: farthest point sampling, nearest neighbours, grouping.

N is the number of points, G of groups (sampled centres), M of points in a group. Coordinates are metres. No compiled
extension: exact library routines on the CPU; on a GPU plain torch, and Triton kernels for sampling and for few
neighbours. The picks are the same on both.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SKIPPED_SQUARED_NORM = 1e-3
"""Points with |p|² at or below this are never sampled and never update distances, as in the CUDA sampler (PointNet++
operators) that every published Point-MAE feature was made with."""


def farthest_point_sampling(clouds: Sequence[Tensor], n_samples: int) -> Tensor:
    """Sample centres of each cloud: start at point 0, then always take the point farthest from all chosen so far.

    Squared distances are float32; of points that are equally far the first is taken. Points near the origin are skipped
    (SKIPPED_SQUARED_NORM), except that the start stays point 0. When the points run out, the first point that is not
    skipped repeats.

    Args:
        clouds: B clouds of (N, 3) float32 on one device, N ≥ 1 of its own each.
        n_samples: number of centres G.

    Returns:
        (B, G) int64 indices into each cloud.
    """
    device = clouds[0].device
    if device.type == "cpu" and _has_fpsample():
        return torch.stack([_sample_by_fpsample(points, n_samples) for points in clouds])
    sample = _kernels(device).sample if device.type == "cuda" else sample_by_torch
    return sample(*pad_clouds(clouds), n_samples)


@lru_cache(maxsize=1)
def _has_fpsample() -> bool:
    """Whether the library is there. Without it sampling takes the plain routine."""
    try:
        import fpsample  # noqa: F401
    except ImportError as error:
        warnings.warn(f"sampling on the CPU is slower without fpsample: {error}", stacklevel=2)
        return False
    return True


def _sample_by_fpsample(points: Tensor, n_samples: int) -> Tensor:
    """Centres of one (N, 3) cloud on the CPU, (G,) int64."""
    import fpsample

    kept = points.square().sum(dim=1) > SKIPPED_SQUARED_NORM  # (N,)
    # Of points that are equally far the library takes the last, so they are handed over in reverse.
    candidates = torch.cat([kept[1:].nonzero().flatten().flip(0) + 1, torch.zeros(1, dtype=torch.int64)])
    last = len(candidates) - 1
    # The plain routine is exact; the library's bucket variants are not.
    order = fpsample.fps_sampling(points[candidates].numpy(), min(n_samples, last + 1), start_idx=last)
    picks = candidates[torch.from_numpy(order.astype(np.int64))]
    filler = candidates[last - 1] if last and not kept[0] else candidates[last]
    picks[1:] = torch.where(picks[1:] == 0, filler, picks[1:])  # only points that lie on chosen ones were left
    return torch.cat([picks, filler.expand(n_samples - len(picks))])


def pad_clouds(clouds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """B clouds of (N, 3) as one batch for `sample_by_torch`: (B, 3, N) coordinates and (B, N) first distances.

    Clouds are filled up with points at the origin, which are skipped like all points near it.
    """
    coordinates = pad_sequence(list(clouds), batch_first=True).transpose(1, 2).contiguous()
    x, y, z = coordinates.square().unbind(dim=1)
    kept = x + y + z > SKIPPED_SQUARED_NORM
    return coordinates, torch.full_like(x, -1.0).masked_fill_(kept, torch.inf)


def sample_by_torch(coordinates: Tensor, distances: Tensor, n_samples: int) -> Tensor:
    """The same picks on any device.

    Args:
        coordinates: (B, 3, N) float32.
        distances: (B, N) float32, +inf, or −1 for a point that is skipped.
        n_samples: G.

    Returns:
        (B, G) int64.
    """
    picks = torch.zeros(len(coordinates), n_samples, dtype=torch.int64, device=coordinates.device)
    for i in range(1, n_samples):
        last = picks[:, None, i - 1 : i].expand(-1, 3, -1)  # (B, 3, 1)
        x, y, z = (coordinates - coordinates.gather(2, last)).square().unbind(dim=1)
        distances = torch.minimum(distances, x + y + z)
        picks[:, i] = distances.argmax(dim=1)
    return picks


class Kernels(NamedTuple):
    """The routines of a GPU. few_nearest: as `nearest_by_blocks`, for at most `most` neighbours and k ≤ N."""

    sample: Callable[[Tensor, Tensor, int], Tensor]
    few_nearest: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    most: int


@lru_cache(maxsize=8)
def _kernels(device: torch.device) -> Kernels:
    """Triton's kernels, tried once on one point; the plain routines where Triton is missing or cannot compile."""
    try:
        from models.neighbour_kernel import MOST, nearest_by_triton
        from models.sampling_kernel import sample_by_triton

        point = torch.ones(1, 3, device=device)
        sample_by_triton(*pad_clouds([point]), 2)
        nearest_by_triton(point, point, 1)
    except Exception as error:  # of a missing package, C compiler or header: Triton has no common type for them
        warnings.warn(f"Triton cannot be used here, work on points is slower without it: {error}", stacklevel=2)
        return Kernels(sample_by_torch, nearest_by_blocks, 0)
    return Kernels(sample_by_triton, nearest_by_triton, MOST)


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
    device = queries.device
    if device.type == "cuda" and k <= min(_kernels(device).most, len(points)):
        return _kernels(device).few_nearest(queries, points, k)
    if device.type != "cpu":
        return nearest_by_blocks(queries, points, k)
    from scipy.spatial import cKDTree

    ranks = list(range(1, min(k, len(points)) + 1))  # a list keeps the last axis when there is one rank
    distances, indices = cKDTree(points.numpy()).query(queries.numpy(), k=ranks, workers=torch.get_num_threads())
    return _repeat_nearest(torch.from_numpy(distances).square(), torch.from_numpy(indices.astype(np.int64)), k)


def nearest_by_blocks(queries: Tensor, points: Tensor, k: int, block_pairs: int = 1 << 25) -> tuple[Tensor, Tensor]:
    """The same by brute force on any device, at most `block_pairs` (query, point) pairs in memory at a time."""
    squared, indices = [], []
    axes = points.T.contiguous()  # (3, N)
    for block in queries.split(max(1, block_pairs // len(points))):
        distances = (block[:, 0, None] - axes[0]).square_()  # (block, N)
        for axis in (1, 2):
            difference = block[:, axis, None] - axes[axis]
            distances.addcmul_(difference, difference)
        if k == 1:
            found = distances.min(dim=1, keepdim=True)
        else:
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
        points: (N, 3).
        centres: (G, 3).
        group_size: M.

    Returns:
        (G, M, 3) neighbour − centre, in metres, not rescaled.
    """
    _, indices = nearest_neighbours(centres, points, group_size)
    return points[indices] - centres[:, None]
