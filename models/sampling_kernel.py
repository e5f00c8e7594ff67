"""Farthest point sampling as a Triton kernel: one program a cloud, all clouds of a batch at once.

Imported only where it runs. Triton compiles it at its first launch, which takes a C compiler on the machine.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

BLOCK = 4096
"""Points that a program looks at together."""


def sample_by_triton(coordinates: Tensor, distances: Tensor, n_samples: int) -> Tensor:
    """The same picks as `point_ops.sample_by_torch`, which states the arguments, in one launch."""
    n_clouds, _, n_points = coordinates.shape
    missing = -n_points % BLOCK
    coordinates = functional.pad(coordinates, (0, missing))
    distances = functional.pad(distances, (0, missing), value=-1.0)
    picks = torch.zeros(n_clouds, n_samples, dtype=torch.int64, device=coordinates.device)
    # A fused multiply-add would round differently from the other versions, and one other pick changes all that follow.
    with torch.cuda.device_of(coordinates):
        _sample[(n_clouds,)](
            coordinates, distances, picks, n_points + missing, n_samples, BLOCK, num_warps=16, enable_fp_fusion=False
        )
    return picks


@triton.jit
def _sample(
    coordinates: tl.tensor,
    distances: tl.tensor,
    picks: tl.tensor,
    n_points: tl.tensor,
    n_samples: tl.tensor,
    block: tl.constexpr,
) -> None:
    """Picks of one cloud: (B, 3, N) coordinates, (B, N) distances (updated), (B, G) picks; N is a multiple of block."""
    cloud = tl.program_id(0)
    x_start = coordinates + cloud * 3 * n_points
    y_start = x_start + n_points
    z_start = y_start + n_points
    lanes = tl.arange(0, block)
    last = 0
    for pick in range(1, n_samples):
        x, y, z = tl.load(x_start + last), tl.load(y_start + last), tl.load(z_start + last)
        farthest = tl.full((block,), -2.0, tl.float32)  # of the points that each lane has seen
        places = lanes
        for start in range(0, n_points, block):
            points = start + lanes
            dx, dy, dz = tl.load(x_start + points) - x, tl.load(y_start + points) - y, tl.load(z_start + points) - z
            nearest = distances + cloud * n_points + points
            distance = tl.minimum(tl.load(nearest), (dx * dx + dy * dy) + dz * dz)
            tl.store(nearest, distance)
            places = tl.where(distance > farthest, points, places)
            farthest = tl.maximum(farthest, distance)
        last = tl.min(tl.where(farthest == tl.max(farthest, axis=0), places, n_points), axis=0)
        tl.store(picks + cloud * n_samples + pick, last)
        tl.debug_barrier()  # the next round reads distances that other threads of the program may have written
