"""Banks of nominal rows: the coreset and the nearest neighbours, against the ways of BTF's and M3DM's releases."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Setting, Work
from models.memory.coreset import distinct_rows, greedy_coreset
from models.memory.neighbours import nearest_rows

ROWS, WIDTH, PICKS = 87_808, 280, 8_780
"""What the releases choose from and how much of it, for a class of 112 images with 28×28 cells each."""
PLAIN_PICKS = 100
"""That the plain loop makes: each takes it as long."""
QUERIES, BANK, BANK_WIDTH = 784, 17_483, 1569
"""One image, and BTF's bank of cable_gland with the network of its paper."""


def nominal_rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Rows like features of parts: around many centres, some far off; a third is background, the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(200, width, generator=generator)
    spread = torch.rand(count, 1, generator=generator) ** 4
    rows = centres[torch.randint(0, 200, (count,), generator=generator)]
    rows += spread * torch.randn(count, width, generator=generator)
    rows[torch.rand(count, generator=generator) < 1 / 3] = 0.5
    return rows


def plain_picks(rows: Tensor, size: int) -> list[int]:
    """The loop of the releases in float32: every row against every pick."""
    picks = [0]
    least = torch.linalg.vector_norm(rows - rows[0], dim=1)
    while len(picks) < size:
        picks.append(int(least.argmax()))
        least = torch.minimum(least, torch.linalg.vector_norm(rows - rows[picks[-1]], dim=1))
        least[picks[-1]] = 0
    return picks


def plain_coreset(_: Setting) -> Work:
    """The plain loop."""
    rows = nominal_rows(ROWS, WIDTH)
    return Work(lambda: plain_picks(rows, PLAIN_PICKS), PLAIN_PICKS)


def coreset(_: Setting) -> Work:
    """Ours; afterwards it is told how many of the first picks are those of the plain loop."""
    rows = nominal_rows(ROWS, WIDTH)

    def figures() -> dict[str, Any]:
        picks, wanted = greedy_coreset(rows, PLAIN_PICKS).tolist(), plain_picks(rows, PLAIN_PICKS)
        return {"first picks that are those of the plain loop": sum(map(int.__eq__, picks, wanted))}

    return Work(lambda: greedy_coreset(rows, PICKS), PICKS, figures=figures)


def queries_and_bank() -> tuple[Tensor, Tensor]:
    """Of one image, and the bank, whose rows are all different."""
    rows = nominal_rows(QUERIES + 2 * BANK, BANK_WIDTH)
    bank = rows[QUERIES:]
    return rows[:QUERIES], bank[distinct_rows(bank)][:BANK]


def distances(_: Setting, mode: str) -> Work:
    """All distances by torch, then the least of each query. mode: see `torch.cdist`."""
    queries, bank = queries_and_bank()
    return Work(lambda: torch.cdist(queries, bank, compute_mode=mode).min(dim=1))


def neighbours(_: Setting) -> Work:
    """Ours; afterwards the error of the releases' distances, from a matrix product, is told."""
    queries, bank = queries_and_bank()

    def figures() -> dict[str, Any]:
        exact = nearest_rows(queries, bank, 1)[0][:, 0].sqrt()
        by_product = torch.cdist(queries, bank).min(dim=1).values
        return {"largest error of `cdist`": float((by_product - exact).abs().max())}

    return Work(lambda: nearest_rows(queries, bank, 1), figures=figures)
