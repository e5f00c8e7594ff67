"""A bank of nominal rows: how far patches lie from it, and the score of an image by its farthest patch.

As in the releases of BTF (Horwitz and Hoshen, CVPR Workshops 2023) and M3DM (Wang et al., CVPR 2023), after PatchCore
(Roth et al., CVPR 2022), with their number of neighbours in the weight of the image score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.memory.coreset import distinct_rows, greedy_coreset, projected
from models.memory.neighbours import check_rows, nearest_rows, squared_distances
from utils.errors import UserError

NEIGHBOURS = 3
"""Rows nearest to a row of the bank, that one among them, which the weight of the image score looks at."""


@dataclass(frozen=True)
class Bank:
    """What is remembered: `rows`, (n, D) float32, all different, n ≥ 3."""

    rows: Tensor

    def to(self, device: torch.device) -> "Bank":
        """The same on another device."""
        return Bank(self.rows.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """All of it."""
        return {"rows": self.rows}

    def distances(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of each patch to the nearest row, and which that is: (P, D) float32 → (P,) float32, (P,) int64.

        Raises:
            UserError: a value is not finite.
        """
        check_rows(patches, "patches")
        squared, nearest = nearest_rows(patches, self.rows, 1)
        return squared[:, 0].sqrt().float(), nearest[:, 0]

    def image_score(self, patches: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Score of an image from its patches and what `distances` says of them, P ≥ 1; a scalar ≥ 0.

        The farthest patch p, at s from its nearest row m, whose own nearest rows are r₁ and r₂, scores w·s with
        w = 1 − exp(s/√D) / (exp(‖p − r₁‖/√D) + exp(‖p − r₂‖/√D)). No row is nearer to p than s, so w ≥ ½.
        """
        farthest = distances.argmax()
        _, around = nearest_rows(self.rows[nearest[farthest]][None], self.rows, NEIGHBOURS)  # first m itself
        beyond = squared_distances(self.rows[around[0, 1:]], patches[farthest]).sqrt() - distances[farthest]
        weight = 1 - 1 / (beyond / patches.shape[1] ** 0.5).exp().sum()
        return (weight * distances[farthest]).float()


def fit_bank(rows: Tensor, size: int, seed: int, project: bool = True) -> Bank:
    """A bank of the greedy coreset of nominal rows.

    Args:
        rows: (N, D) float32.
        size: rows wanted; of N or more, all that are different are taken, in their order.
        seed: of the projection on which they are chosen.
        project: whether there is one, see `coreset.projected`.

    Raises:
        UserError: a value is not finite, or there are too few different rows.
    """
    check_rows(rows, "nominal rows of a bank")
    if size < len(rows):
        picks = greedy_coreset(projected(rows, seed) if project else rows, size)
    else:
        picks = distinct_rows(rows)
    if len(picks) < NEIGHBOURS:
        raise UserError(
            f"a bank needs at least {NEIGHBOURS} different nominal rows, found {len(picks)} when {size} of {len(rows)} "
            "were asked for. Train on more images, or keep a larger share."
        )
    return Bank(rows[picks])


def load_bank(state: Mapping[str, Tensor]) -> Bank:
    """The bank whose `state_dict` this is.

    Raises:
        UserError: it is not one.
    """
    rows = state.get("rows")
    sound = rows is not None and rows.dtype == torch.float32 and rows.ndim == 2 and len(rows) >= NEIGHBOURS
    if rows is not None and sound and len(state) == 1:
        return Bank(rows)
    found = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
    raise UserError(f"a bank: expected rows (n, D) float32, n ≥ {NEIGHBOURS}, found {found}. Train again.")
