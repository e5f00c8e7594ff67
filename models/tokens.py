"""What a frozen extractor says of one sample, and how it reaches the pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.lifting import LiftingOperator, bilinear_operator, geometry_operator
from models.point_ops import farthest_point_sampling, nearest_neighbours


@dataclass(frozen=True)
class Tokens:
    """Tokens of both modalities with the operators that lift them to the foreground pixels.

    rgb: (T, D_2D) tokens of a square grid. xyz: (G, D_3D) tokens of point groups.
    rgb_lift: (P, T) and xyz_lift: (P, G) operators. foreground: (P,) int64 flat indices into the pixel grid.
    size: side H = W of the pixel grid. P = 0 for a sample without a valid point.
    """

    rgb: Tensor
    xyz: Tensor
    rgb_lift: LiftingOperator
    xyz_lift: LiftingOperator
    foreground: Tensor
    size: int

    def to(self, device: torch.device) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(
            self.rgb.to(device),
            self.xyz.to(device),
            self.rgb_lift.to(device),
            self.xyz_lift.to(device),
            self.foreground.to(device),
            self.size,
        )


@dataclass(frozen=True)
class PointGroups:
    """The groups that a cloud is cut into, and the operator that brings their tokens back to its pixels.

    points: (N, 3) valid points, row-major. picks: (G,) int64, which of them are the centres. centres: (G, 3).
    lift: (P, G). foreground: (P,) int64 flat pixel indices.
    """

    points: Tensor
    picks: Tensor
    centres: Tensor
    lift: LiftingOperator
    foreground: Tensor


def group_cloud(xyz: Tensor, valid: Tensor, n_groups: int) -> PointGroups:
    """Sample the centres of an organised cloud and make its geometry operator.

    Args:
        xyz: (3, H, W) float32 metres. valid: (H, W) bool, True = the pixel holds a point. n_groups: G.

    Returns:
        The groups; for a cloud without a valid point all centres are at the origin and P = 0.
    """
    points = xyz[:, valid].T.contiguous()  # (N, 3)
    if len(points):
        picks = farthest_point_sampling(points, n_groups)
        centres = points[picks]
        squared, nearest = nearest_neighbours(points, centres, 3)
    else:
        picks, centres = torch.zeros(n_groups, dtype=torch.int64, device=xyz.device), points.new_zeros(n_groups, 3)
        squared, nearest = points.new_zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)
    foreground, lift = geometry_operator(valid.cpu().numpy(), nearest.cpu().numpy(), squared.cpu().numpy(), n_groups)
    return PointGroups(points, picks, centres, lift.to(xyz.device), torch.from_numpy(foreground).to(xyz.device))


def make_tokens(rgb: Tensor, xyz: Tensor, groups: PointGroups, size: int) -> Tokens:
    """Put the tokens of one sample together with their operators.

    Args:
        rgb: (T, D_2D) tokens of a square grid. xyz: (G, D_3D). groups: of the same sample. size: of the grid.
    """
    foreground: np.ndarray = groups.foreground.cpu().numpy()
    rgb_lift = bilinear_operator(round(len(rgb) ** 0.5), size, foreground).to(rgb.device)
    return Tokens(rgb, xyz, rgb_lift, groups.lift, groups.foreground, size)
