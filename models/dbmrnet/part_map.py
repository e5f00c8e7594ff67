"""The map of a part: it follows the part's size, and goes on where its surface is missing.

A piece that was cut off leaves no points, or few, and what tells of it lies around. Holes and notches of the measured
surface therefore take the mean of what was found around them; were they 0, smoothing would hide such a defect below
any sound surface. One Gaussian smooths, fills and weighs. The filling is normalised convolution (Knutsson and Westin,
CVPR 1993), the outline of what is filled a morphological closing (Serra, Image Analysis and Mathematical Morphology,
1982).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.anomaly_map import DefectMap, aggregate
from models.gaussian import gaussian_matrix

SMOOTHING = 0.05
"""Deviation of the Gaussian over the side of a square as large as the object."""

CLOSING = 2.0
"""Deviations on either side: holes and notches less than twice as wide are filled."""

RIM = 0.15
"""Share of its value that a map loses where nothing around is measured: sound parts have their largest values at rims
and holes, for which few points speak."""


@dataclass(frozen=True)
class PartMap(DefectMap):
    """A defect map that knows which pixels were measured. valid: (H, W) bool, True = a point of the object."""

    valid: Tensor

    def branch(self, aggregation: str) -> "PartMap":
        """What the same discrepancies say when they are aggregated otherwise, see `make_part_map`."""
        return make_part_map(self.psi_2d, self.psi_3d, aggregation, self.valid)


def make_part_map(psi_2d: Tensor, psi_3d: Tensor, aggregation: str, valid: Tensor) -> PartMap:
    """Aggregate, fill and smooth the discrepancies of one sample.

    Args:
        psi_2d, psi_3d: (H, H), 0 where invalid.
        aggregation: see `make_anomaly_map`.
        valid: (H, H) bool, True = a point of the object.
    """
    fused = aggregate(psi_2d, psi_3d, aggregation)
    deviation = SMOOTHING * float(valid.sum()) ** 0.5  # waits for a GPU
    if deviation == 0:
        return PartMap(psi_2d, psi_3d, torch.zeros_like(fused), valid)
    size = len(valid)
    gaussian = gaussian_matrix(size, size, deviation, 0, clamp=False, device=valid.device)
    share = gaussian @ valid.to(fused) @ gaussian.T
    around = (gaussian @ fused @ gaussian.T) / share.clamp(min=1e-6)
    filled = torch.where(closed(valid, round(CLOSING * deviation)) & ~valid, around, fused)
    smoothed = gaussian @ filled @ gaussian.T
    return PartMap(psi_2d, psi_3d, smoothed * (1 - RIM * (1 - share)), valid)


def closed(mask: Tensor, radius: int) -> Tensor:
    """(H, W) bool → the same, True too where no square of 2·radius + 1 pixels can reach without touching the mask."""
    if radius == 0:
        return mask
    grown = _grow(functional.pad(mask[None].float(), (radius,) * 4), radius)
    return 1 - _grow(1 - grown, radius)[0, radius:-radius, radius:-radius] > 0.5


def _grow(mask: Tensor, radius: int) -> Tensor:
    """(1, H, W) of 0 and 1: 1 where any is within a square of 2·radius + 1 pixels; line by line, then across."""
    for kernel, padding in (((1, 2 * radius + 1), (0, radius)), ((2 * radius + 1, 1), (radius, 0))):
        mask = functional.max_pool2d(mask, kernel, 1, padding)
    return mask
