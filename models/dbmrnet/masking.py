"""Which tokens are visible, and what of a sample may be seen through them.

Masks are drawn first and applied inside the embeddings, so that no visible token has seen a masked pixel or point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.dbmrnet.neighbours import take
from utils.devices import send


@dataclass(frozen=True)
class Mask:
    """Visible and hidden tokens of one modality.

    kept: (B, V) int64 indices of visible tokens, ascending.
    hidden: (B, T − V), those of the others, ascending.
    """

    kept: Tensor
    hidden: Tensor

    @property
    def visible(self) -> Tensor:
        """(B, T) bool, True = visible."""
        n_tokens = self.kept.shape[1] + self.hidden.shape[1]
        flags = torch.zeros(len(self.kept), n_tokens, dtype=torch.bool, device=self.kept.device)
        return flags.scatter_(1, self.kept, True)

    def pass_for(self, j: int, n_samples: int) -> "Mask":
        """Row j for each of as many samples."""
        return Mask(self.kept[j].expand(n_samples, -1), self.hidden[j].expand(n_samples, -1))

    def to(self, device: torch.device) -> "Mask":
        """The same mask on another device."""
        return Mask(send(self.kept, device), send(self.hidden, device))


def draw_mask(n_samples: int, n_tokens: int, mask_ratio: float, generator: torch.Generator) -> Mask:
    """Hide a random share of the tokens of each sample; their number is exact. On the CPU, like the generator."""
    order = torch.rand(n_samples, n_tokens, generator=generator).argsort(dim=1)
    return _split(order, round(n_tokens * (1 - mask_ratio)))


def disjoint_masks(n_tokens: int, passes: int, visible_parts: int, generator: torch.Generator) -> Mask:
    """K masks of one sample: its tokens are cut into K random equal parts, pass j sees `visible_parts` from part j on.

    Each token is visible in exactly `visible_parts` of the passes. Returns a mask whose first axis is K.
    """
    parts = torch.randperm(n_tokens, generator=generator).view(passes, -1)  # (K, T/K)
    order = torch.stack([parts.roll(-j, dims=0).flatten() for j in range(passes)])
    return _split(order, visible_parts * parts.shape[1])


def _split(order: Tensor, n_visible: int) -> Mask:
    return Mask(order[:, :n_visible].sort(dim=1).values, order[:, n_visible:].sort(dim=1).values)


def interpolate_depth(centres: Tensor, mask: Mask) -> Tensor:
    """Centres whose hidden ones keep (x, y), while their z is the inverse-distance mean of the three nearest visible.

    Nearness is that of (x, y): a true z would tell the network where a defect is.

    Args:
        centres: (B, G, 3).
        mask: of the point tokens, V ≥ 1.
    """
    if not mask.hidden.shape[1]:
        return centres
    seen, asked = take(centres, mask.kept), take(centres, mask.hidden)
    distances = torch.cdist(asked[..., :2], seen[..., :2], compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(min(3, seen.shape[1]), dim=-1, largest=False)  # (B, T − V, 3)
    weights = 1 / (nearest.values + 1e-6)
    depths = (take(seen[..., 2], nearest.indices) * weights).sum(dim=-1) / weights.sum(dim=-1)
    depth = centres[..., 2].scatter(1, mask.hidden, depths)
    return torch.cat([centres[..., :2], depth[..., None]], dim=-1)
