"""Exact nearest neighbours among many rows: a matrix product finds who can be one, direct differences decide.

The product a·b gives squared distances as ‖a‖² + ‖b‖² − 2·a·b, which loses digits where rows are long and close. How
many it can lose is known, so rows that cannot be among the nearest are told with certainty, and the few that are left
are compared by sums of squared differences in float64. Q queries, N rows, D their width.
"""

import torch
from torch import Tensor

from utils.errors import UserError

PAIRS_A_TILE = {"cpu": 1 << 21, "cuda": 1 << 27}
"""Products in memory at a time: few enough for a processor's cache; on a GPU half a gibibyte."""
VALUES_A_BLOCK = 1 << 22
"""Differences in memory at a time."""


def nearest_rows(queries: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k rows nearest to each query, nearest first; of equally near ones the one with the lower index.

    Args:
        queries: (Q, D) float32.
        rows: (N, D) float32 on the same device, N ≥ k. Both finite, as are their squares.

    Returns:
        Squared distances (Q, k) float64 and indices (Q, k) int64 into `rows`.
    """
    centre = rows.mean(dim=0)  # the shorter the rows, the fewer digits are lost
    around = rows - centre
    lengths = around.square().sum(dim=1)  # (N,)
    loss = lost_share(rows.shape[1])
    upper = (1 + loss) * lengths + loss * torch.finfo(torch.float32).tiny
    found = []
    for tile in queries.split(max(1, PAIRS_A_TILE[rows.device.type] // len(rows))):
        own = tile - centre
        # At most this is each squared distance, but for what is the same for all rows: (1 + loss)·‖own‖².
        with torch.autocast(rows.device.type, enabled=False):  # float32, whatever the caller is doing
            most = torch.addmm(upper, own, around.T, alpha=-2)
        reach = most.amin(dim=1) if k == 1 else most.topk(k, dim=1, largest=False).values[:, -1]
        reach += 2 * loss * own.square().sum(dim=1)
        pairs = (most.sub_(2 * loss * lengths) <= reach[:, None]).nonzero()  # (C, 2): at least this is within reach
        found.append(_nearest_pairs(tile, rows, pairs, k))
    squared, indices = zip(*found, strict=True)
    return torch.cat(squared), torch.cat(indices)


def lost_share(width: int) -> float:
    """Bound on the error of ‖a‖² + ‖b‖² − 2·a·b in float32, over ‖a‖² + ‖b‖², a and b centred before.

    With unit roundoff u = 2⁻²⁴ a sum of D products in any order errs by at most D·u·‖a‖·‖b‖, up to second order
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), so the three sums err by D·u·(‖a‖ + ‖b‖)²; centring,
    additions and the factors above by less than 32·u·(‖a‖ + ‖b‖)², which also covers second order for D ≤ 10 000.
    And (‖a‖ + ‖b‖)² ≤ 2·(‖a‖² + ‖b‖²). Where torch may round the factors of a product to TF32 or bfloat16, 2⁻⁸ of each
    at most, 2·a·b errs by 2⁻⁷·(‖a‖² + ‖b‖²) more, up to second order.
    """
    rounded = torch.get_float32_matmul_precision() != "highest"
    return (width + 32) * 2.0**-23 + rounded * 2.0**-6


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Row by row, (P, D) and (P, D) or (D,) → (P,) float64: the one arithmetic that decides who is nearer."""
    return (left.double() - right.double()).square_().sum(dim=1)


def check_rows(rows: Tensor, what: str) -> None:
    """Refuse rows that have no distances.

    Raises:
        UserError: a value is NaN, infinite, or too large for its square.
    """
    largest = float(rows.abs().max()) if rows.numel() else 0.0
    if not largest < 1e15:
        raise UserError(
            f"{what}: expected finite values below 1e15, found {largest}. Look for damaged input or weights."
        )


def _nearest_pairs(queries: Tensor, rows: Tensor, pairs: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of the pairs (C, 2) of query and row, in row-major order, the k nearest of each query, as `nearest_rows`."""
    blocks = pairs.split(max(1, VALUES_A_BLOCK // rows.shape[1]))
    squared = torch.cat([squared_distances(queries[block[:, 0]], rows[block[:, 1]]) for block in blocks])
    order = squared.argsort(stable=True)
    order = order[pairs[order, 0].argsort(stable=True)]
    counts = torch.bincount(pairs[:, 0], minlength=len(queries))
    chosen = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=rows.device)]  # (Q, k)
    return squared[chosen], pairs[chosen, 1]
