"""From per-pixel discrepancies to anomaly maps and scores; shared by every method.

H = W is the side of the pixel grid.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

Map = TypeVar("Map", bound="AnomalyMap")


@dataclass(frozen=True)
class AnomalyMap:
    """What a detector says of one sample.

    psi_2d, psi_3d: (H, W) discrepancy of each modality, ≥ 0, exactly 0 on the background.
    smoothed: (H, W) the aggregated map after smoothing, ≥ 0: the only one with a fixed scale across images.
    """

    psi_2d: Tensor
    psi_3d: Tensor
    smoothed: Tensor

    def cpu(self: Map) -> Map:
        """The same maps on the CPU; waits for a GPU to finish them."""
        return replace(self, **{field.name: getattr(self, field.name).cpu() for field in fields(self)})

    def branch(self: Map, aggregation: str) -> Map:
        """What the same discrepancies say when they are aggregated otherwise, see `make_anomaly_map`."""
        return replace(self, smoothed=smooth(aggregate(self.psi_2d, self.psi_3d, aggregation)))

    def aupro_map(self) -> Tensor:
        """The smoothed map over the mean of its non-zero entries: what the paper's AUPRO is computed on."""
        return self.smoothed / self._mean_of_non_zero()

    def pixel_map(self) -> Tensor:
        """The smoothed map over the root of its mean: what the paper's P-AUROC is computed on."""
        mean = self.smoothed.mean()
        return self.smoothed / torch.where(mean > 0, mean, torch.ones_like(mean)).sqrt()

    def image_score(self) -> float:
        """Maximum of the smoothed map over the root of the mean of its non-zero entries; 0 for an all-zero map."""
        return float(self.smoothed.max() / self._mean_of_non_zero().sqrt())

    def _mean_of_non_zero(self) -> Tensor:
        """Mean of the non-zero entries of the smoothed map; 1 when there is none."""
        count = (self.smoothed != 0).sum()
        mean = self.smoothed.sum() / count.clamp(min=1)
        return torch.where(count > 0, mean, torch.ones_like(mean))


@dataclass(frozen=True)
class DefectMap(AnomalyMap):
    """An anomaly map with one scale for all images of a class, so that nothing is normalised by the image itself."""

    def aupro_map(self) -> Tensor:
        """The smoothed map."""
        return self.smoothed

    def pixel_map(self) -> Tensor:
        """The smoothed map."""
        return self.smoothed

    def image_score(self) -> float:
        """Maximum of the smoothed map."""
        return float(self.smoothed.max())


def make_anomaly_map(psi_2d: Tensor, psi_3d: Tensor, aggregation: str) -> AnomalyMap:
    """Aggregate and smooth the discrepancies of one sample.

    Args:
        psi_2d, psi_3d: (H, W) float32, 0 on the background.
        aggregation: `product`, `sum`, `max`, `2d` or `3d`.
    """
    return AnomalyMap(psi_2d, psi_3d, smooth(aggregate(psi_2d, psi_3d, aggregation)))


def aggregate(psi_2d: Tensor, psi_3d: Tensor, aggregation: str) -> Tensor:
    """One map of the discrepancies of both modalities; see `make_anomaly_map`."""
    return {
        "product": lambda: psi_2d * psi_3d,
        "sum": lambda: psi_2d + psi_3d,
        "max": lambda: torch.maximum(psi_2d, psi_3d),
        "2d": lambda: psi_2d,
        "3d": lambda: psi_3d,
    }[aggregation]()


def smooth(values: Tensor) -> Tensor:
    """Five 5×5 box means, then three 7×7 box means, zero padding: about a Gaussian of σ = 4.7 pixels.

    Args:
        values: (H, W).

    Returns:
        (H, W), not masked again.
    """
    smoothed = values[None]
    for width, times in ((5, 5), (7, 3)):
        for _ in range(times):
            smoothed = functional.avg_pool2d(smoothed, width, stride=1, padding=width // 2)
    return smoothed[0]
