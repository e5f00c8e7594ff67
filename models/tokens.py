"""What a frozen extractor says of one sample, and how it reaches the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.cells import CellOperator
from models.lifting import LiftingOperator, bilinear_operator, geometry_operators
from models.point_ops import farthest_point_sampling, nearest_neighbours
from utils.devices import send

PIXELS_A_BLOCK = {"cpu": 2048, "cuda": 1 << 17}
"""Foreground pixels handled at a time: few enough for a processor's cache; on a GPU those of a whole image."""


@dataclass(frozen=True)
class ModalityTokens:
    """Tokens of one modality, (T, D), and the operator that lifts them to the foreground pixels, (P, T).

    rarity: (P,) ≥ 0, how far each lies from nominal tokens, about 1 for those: squared Mahalanobis distance over D.
        None for an extractor that does not tell.
    """

    tokens: Tensor
    lift: LiftingOperator | CellOperator
    rarity: Tensor | None = None

    def to(self, device: torch.device) -> "ModalityTokens":
        """The same on another device; itself where it is there already."""
        tokens, lift = self.tokens.to(device), self.lift.to(device)
        if tokens is self.tokens and lift is self.lift:
            return self
        return ModalityTokens(tokens, lift, None if self.rarity is None else self.rarity.to(device))

    def at(self, rows: Tensor) -> "ModalityTokens":
        """The same for the chosen pixels only, (P',) int64."""
        rarity = None if self.rarity is None else self.rarity[rows]
        if isinstance(self.lift, CellOperator):
            return ModalityTokens(self.tokens[rows], CellOperator(0, len(rows), len(rows)), rarity)
        return ModalityTokens(self.tokens, self.lift.rows(rows), rarity)

    def lifted(self) -> Tensor:
        """Features of all foreground pixels, (P, D)."""
        return self.lift.multiply(self.tokens)

    @cached_property
    def blocks(self) -> Sequence[LiftingOperator | CellOperator]:
        """The operator cut into blocks of PIXELS_A_BLOCK rows; kept, with their transposes, as long as this object."""
        return list(self.lift.blocks(PIXELS_A_BLOCK[self.tokens.device.type]))

    @cached_property
    def norms(self) -> list[Tensor]:
        """Euclidean norm of the feature of each pixel, (P,) cut into the same blocks; kept like them."""
        return [lift.multiply(self.tokens).norm(dim=1) for lift in self.blocks]


@dataclass(frozen=True)
class Tokens:
    """Tokens of both modalities of one sample.

    rgb: (T, D_2D) tokens of a square grid.
    xyz: (G, D_3D) tokens of point groups. Or both: (P, D) of a grid of cells, which then takes the place of the pixel
        grid (`models.cells`).
    foreground: (P,) int64 flat indices into the pixel grid; P = 0 for a sample without a valid point.
    size: side H = W of the pixel grid.
    """

    rgb: ModalityTokens
    xyz: ModalityTokens
    foreground: Tensor
    size: int

    @property
    def in_cells(self) -> bool:
        """Whether both modalities' tokens are cells."""
        return isinstance(self.rgb.lift, CellOperator) and isinstance(self.xyz.lift, CellOperator)

    def to(self, device: torch.device) -> "Tokens":
        """The same tokens on another device; what is there already is not copied."""
        return Tokens(self.rgb.to(device), self.xyz.to(device), self.foreground.to(device), self.size)

    def draw_pixels(self, share: float, generator: torch.Generator) -> "Tokens":
        """The same tokens with a random share of the foreground pixels, in (0, 1]; at least one where there is any."""
        n_pixels = len(self.foreground)
        n_drawn = min(n_pixels, max(1, round(share * n_pixels)))
        rows = send(torch.randperm(n_pixels, generator=generator)[:n_drawn].sort().values, self.foreground.device)
        return Tokens(self.rgb.at(rows), self.xyz.at(rows), self.foreground[rows], self.size)


@dataclass(frozen=True)
class PointGroups:
    """The groups that a cloud is cut into, and the operator that brings their tokens back to its pixels.

    points: (N, 3) valid points, row-major.
    picks: (G,) int64, which of them are the centres.
    centres: (G, 3).
    lift: (P, G).
    foreground: (P,) int64 flat pixel indices.
    """

    points: Tensor
    picks: Tensor
    centres: Tensor
    lift: LiftingOperator
    foreground: Tensor


def group_clouds(xyz: Tensor, valid: Tensor, n_groups: int) -> list[PointGroups]:
    """Sample the centres of organised clouds and make their geometry operators.

    Args:
        xyz: (B, 3, H, W) float32 metres.
        valid: (B, H, W) bool, True = the pixel holds a point.
        n_groups: G.

    Returns:
        The groups of each cloud; where it has no valid point all centres are at the origin and P = 0.
    """
    clouds = xyz.movedim(1, -1)[valid].split(valid.sum(dim=(1, 2)).tolist())  # B of (N, 3)
    origin = xyz.new_zeros(1, 3)
    sampled = [points if len(points) else origin for points in clouds]
    picks = farthest_point_sampling(sampled, n_groups)
    centres = [source[chosen] for source, chosen in zip(sampled, picks, strict=True)]
    nearest = [nearest_neighbours(*pair, 3) for pair in zip(clouds, centres, strict=True)]
    operators = geometry_operators(valid, [n for _, n in nearest], [squared for squared, _ in nearest], n_groups)
    return [
        PointGroups(points, chosen, middle, lift, foreground)
        for points, chosen, middle, (foreground, lift) in zip(clouds, picks, centres, operators, strict=True)
    ]


def make_tokens(rgb: Tensor, xyz: Tensor, groups: PointGroups, size: int) -> Tokens:
    """Put the tokens of one sample together with their operators.

    Args:
        rgb: (T, D_2D) tokens of a square grid.
        xyz: (G, D_3D).
        groups: of the same sample.
        size: of the grid.
    """
    rgb_lift = bilinear_operator(round(len(rgb) ** 0.5), size, groups.foreground)
    return Tokens(ModalityTokens(rgb, rgb_lift), ModalityTokens(xyz, groups.lift), groups.foreground, size)


def cell_tokens(values: Tensor, rarity: Tensor | None, foreground: Tensor, size: int) -> Tokens:
    """Tokens of one sample on the cells of its foreground.

    Args:
        values: (2, P, D) of RGB and geometry.
        rarity: (2, P) of either, see ModalityTokens, or None.
        foreground: (P,) int64 flat indices of cells.
        size: cells a side.
    """
    lift = CellOperator(0, len(foreground), len(foreground))
    rgb, xyz = (ModalityTokens(values[i], lift, None if rarity is None else rarity[i]) for i in range(2))
    return Tokens(rgb, xyz, foreground, size)


def join_cells(batch: Sequence[Tokens]) -> Tokens:
    """The cells of several samples as those of one, for what looks at each cell alone; `foreground` as they come."""
    both = []
    for parts in ([tokens.rgb for tokens in batch], [tokens.xyz for tokens in batch]):
        joined = torch.cat([part.tokens for part in parts])
        both.append(ModalityTokens(joined, CellOperator(0, len(joined), len(joined))))
    return Tokens(both[0], both[1], torch.cat([tokens.foreground for tokens in batch]), batch[0].size)
