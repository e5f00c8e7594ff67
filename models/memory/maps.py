"""Maps of what banks say of the cells of a frame: enlarged and smoothed by two small matrices, both steps at once."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from models.anomaly_map import DefectMap
from models.gaussian import gaussian_matrix

SIDE = 224  # of the frame in pixels
SMOOTHING = 4.0  # deviation of the Gaussian in pixels


@dataclass(frozen=True)
class BankMap(DefectMap):
    """Distances of a sample's cells from banks, as a map; `score` is the image's, re-weighted (`Bank.image_score`)."""

    score: Tensor

    def image_score(self) -> float:
        """The re-weighted distance of the farthest cell."""
        return float(self.score)


def spread(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Of cells, (…, C, C), on the frame, (…, 224, 224): enlarged bilinearly, and smoothed with repeated borders too."""
    plain, smoothing = (matrix.to(cells) for matrix in _matrices(cells.shape[-1]))
    return plain @ cells @ plain.T, smoothing @ cells @ smoothing.T


@lru_cache(maxsize=4)
def _matrices(cells: int) -> tuple[Tensor, Tensor]:
    """From a line of cells to one of pixels, (224, cells): bilinear, and followed by the Gaussian."""
    plain = functional.interpolate(torch.eye(cells)[None], size=SIDE, mode="linear", align_corners=False)[0].T
    return plain, gaussian_matrix(SIDE, SIDE, SMOOTHING, 0) @ plain
