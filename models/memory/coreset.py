"""Greedy k-centre coreset: start with row 0, then always take the row farthest from all taken so far.

The same picks as the loop that compares every row with every pick (Sener and Savarese, ICLR 2018; Roth et al.,
PatchCore, CVPR 2022), without making most of the comparisons: the distance of a row to the picks only ever falls, so a
distance of earlier is a bound, and only rows whose bound is among the largest need to be known exactly. They are taken
in blocks, each brought up to date by one matrix product with the picks that it has not seen.
"""

import math

import torch
from torch import Tensor

from models.memory.neighbours import check_rows, nearest_rows, squared_distances

BLOCK = 512
"""Rows that are brought up to date together, at first."""
PICKS_A_CHECK = {"cpu": 1, "cuda": 32}
"""Picks after which the host asks whether the block is used up; each time it waits for a GPU."""
GROUPS = 4
"""Parts of a block with about as many unseen picks each."""
EPSILON = 0.9
"""Of the releases' projection: how far distances may be off, in the lemma of Johnson and Lindenstrauss."""
ROWS_A_BLOCK = 1 << 14


def greedy_coreset(rows: Tensor, size: int) -> Tensor:
    """The picks in their order, exactly those of the plain loop.

    Distances are float64 sums of squared differences of the float32 values; of equally far rows the first is taken.
    Rows that repeat an earlier one are never taken.

    Args:
        rows: (N, D) float32, N ≥ 1.
        size: number of picks wanted, ≥ 1.

    Returns:
        (n,) int64 indices into `rows`, n = `size`, or the number of different rows where that is smaller.

    Raises:
        UserError: a value is not finite.
    """
    check_rows(rows, "rows of a coreset")
    first = distinct_rows(rows)
    points = rows if len(first) == len(rows) else rows[first]
    return first[_pick(points, min(size, len(points)))]


def _pick(points: Tensor, size: int) -> Tensor:
    """`greedy_coreset` of rows that are all different."""
    chosen = points.new_empty(size, points.shape[1])
    picks = torch.zeros(size, dtype=torch.int64, device=points.device)
    chosen[0] = points[0]
    bounds = torch.cat([squared_distances(block, points[0]) for block in points.split(ROWS_A_BLOCK)])
    bounds[0] = -1.0  # taken
    seen = torch.ones(len(points), dtype=torch.int64, device=points.device)  # picks that a bound knows of
    taken, width = 1, BLOCK
    while taken < size:
        width = min(width, len(points))
        largest = bounds.topk(min(width + 1, len(points)))
        rest = largest.values[width] if width < len(points) else torch.full_like(bounds[0], -1.0)
        block = largest.indices[:width].sort().values
        bounds[block] = _bring_up_to_date(points, block, bounds[block], seen[block], chosen[:taken])
        found, left = _pick_in_block(points[block], bounds[block], rest, size - taken)
        bounds[block], seen[block] = left, taken + len(found)
        picks[taken : taken + len(found)] = block[found]
        chosen[taken : taken + len(found)] = points[block[found]]
        taken += len(found)
        width = BLOCK if len(found) else 2 * width  # more than a block are equally far
    return picks


def _bring_up_to_date(points: Tensor, block: Tensor, bounds: Tensor, seen: Tensor, chosen: Tensor) -> Tensor:
    """Squared distances of a block of points to all that are chosen, from bounds that know `seen` of them; all (B,)."""
    order = seen.argsort()
    exact = bounds.clone()
    for group in order.chunk(GROUPS):
        start = int(seen[group[0]])
        if start < len(chosen):
            squared, _ = nearest_rows(points[block[group]], chosen[start:], 1)
            exact[group] = torch.minimum(bounds[group], squared[:, 0])
    return exact


def _pick_in_block(points: Tensor, squared: Tensor, rest: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Picks of a block, as long as its farthest point is farther than any outside can be.

    Args:
        points: (B, D).
        squared: (B,) exact.
        rest: scalar, the largest bound outside.
        most: picks wanted.

    Returns:
        Picks, and the squared distances that are left, −1 for what was picked.
    """
    values = points.double()
    picks: list[Tensor] = []
    while len(picks) < most:
        farther: list[Tensor] = []
        for _ in range(min(PICKS_A_CHECK[points.device.type], most - len(picks))):
            pick = squared.argmax()
            farther.append(squared[pick] > rest)
            new = (values - values[pick]).square_().sum(dim=1)
            new[pick] = -1.0
            squared = torch.where(farther[-1], torch.minimum(squared, new), squared)
            picks.append(pick)
        count = int(torch.stack(farther).sum())
        if count < len(farther):
            picks = picks[: len(picks) - len(farther) + count]
            break
    return torch.stack(picks) if picks else torch.zeros(0, dtype=torch.int64, device=points.device), squared


def distinct_rows(rows: Tensor) -> Tensor:
    """Indices of the rows that repeat no earlier one, ascending: (N, D) float32 → (n,) int64.

    Rows are told by a 64-bit sum of their bits with random factors; a row that shares it with one of other values
    counts as different.
    """
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device)
    codes = torch.cat(  # + 0: −0 and 0 are equal and have other bits
        [((block + 0.0).view(torch.int32) * factors).sum(dim=1) for block in rows.split(ROWS_A_BLOCK)]
    )
    values, which = codes.unique(return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    heads = torch.full_like(values, len(rows)).scatter_reduce(0, which, places, "amin")[which]  # first with that code
    repeats = heads < places
    for block in repeats.nonzero()[:, 0].split(ROWS_A_BLOCK):
        repeats[block] = (rows[block] == rows[heads[block]]).all(dim=1)
    return (~repeats).nonzero()[:, 0]


def projected(rows: Tensor, seed: int) -> Tensor:
    """Rows on which the releases choose: a sparse random projection (Achlioptas 2003; Li et al. 2006) of them.

    Its width is that which the lemma of Johnson and Lindenstrauss asks for N rows and EPSILON; where they have no more
    than that, they stay as they are. One of √D of its entries is not zero.

    Args:
        rows: (N, D) float32.
        seed: of the entries.

    Returns:
        (N, min(D, width)) float32.
    """
    width = projected_width(len(rows))
    if rows.shape[1] <= width:
        return rows
    generator, density = torch.Generator().manual_seed(seed), rows.shape[1] ** -0.5
    draws = torch.rand(rows.shape[1], width, generator=generator)
    signs = (draws < density / 2).float() - (draws > 1 - density / 2).float()
    matrix = (signs / math.sqrt(density * width)).to(rows.device)
    return torch.cat([block @ matrix for block in rows.split(ROWS_A_BLOCK)])


def projected_width(n_rows: int) -> int:
    """4·ln N / (ε²/2 − ε³/3), rounded down, at least 1."""
    return max(1, int(4 * math.log(n_rows) / (EPSILON**2 / 2 - EPSILON**3 / 3)))
