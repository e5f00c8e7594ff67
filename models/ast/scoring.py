"""From what teacher and student say to maps (AST, as released)."""

import torch
from torch import Tensor
from torch.nn import functional

from models.anomaly_map import DefectMap


def distance(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """Mean over the channels of m·(z_T − z_S)²: (B, D, h, w) twice, (B, h, w) in [0, 1] → (B, h, w)."""
    return mask * (teacher - student).square().mean(dim=1)


def enlarge(score: Tensor, valid: Tensor) -> DefectMap:
    """The map of one sample; the image's score is its maximum.

    Args:
        score: (h, w) ≥ 0 of the cells.
        valid: (H, H) bool, True = a point of the object.

    Returns:
        Bicubic on the grid of `valid`, where negative 0; for the discrepancies of both modalities, which the teacher
        mixes, the same on the object only.
    """
    enlarged = functional.interpolate(score[None, None], valid.shape, mode="bicubic", align_corners=False)[0, 0]
    smoothed = enlarged.clamp(min=0)
    plain = torch.where(valid, smoothed, 0.0)
    return DefectMap(plain, plain, smoothed)
