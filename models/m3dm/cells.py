"""Cells: what the tokens of one sample say of each place on a grid, in either modality.

M3DM's "point feature alignment" interpolates tokens of point groups to pixels and averages those over 56×56 cells of
the frame (Wang et al., CVPR 2023, section 3.1). Both are linear, so together they are one sparse matrix from groups to
cells, and features of pixels are never made. RGB's cells are its tokens, and a cell of geometry lies in one of them.
Tokens that are cells of one grid already are the rows.

Cells without a point of the object are no rows: they are neither learned from nor scored.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.lifting import pooled
from models.tokens import Tokens

PIXELS_A_CELL = 4  # a side, of the frame
BESIDE = 3  # of its eight neighbours that a cell beside the object needs, see `reach_out`


@dataclass(frozen=True)
class Grid:
    """Which cells of a grid are rows: flat indices `places`, (P,) int64, and the grid's `side`."""

    places: Tensor
    side: int

    def fill(self, values: Tensor) -> Tensor:
        """Values of the cells, (P,), on their grid, 0 elsewhere: (side, side)."""
        grid = values.new_zeros(self.side**2)
        grid[self.places] = values
        return grid.view(self.side, self.side)


@dataclass(frozen=True)
class Cells:
    """Rows of one sample.

    rgb: (Q, D_2D), and rgb_grid where they lie.
    xyz: (P, D_3D), and grid where they lie; rows of both together lie there too.
    inside: (P,) int64, in which row of rgb each cell lies.
    """

    rgb: Tensor
    rgb_grid: Grid
    xyz: Tensor
    grid: Grid
    inside: Tensor

    def to(self, device: torch.device) -> "Cells":
        """The same on another device."""
        rgb_grid, grid = (Grid(of.places.to(device), of.side) for of in (self.rgb_grid, self.grid))
        return Cells(self.rgb.to(device), rgb_grid, self.xyz.to(device), grid, self.inside.to(device))

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """What both modalities say of the same places: geometry (P, D_3D) and RGB (P, D_2D)."""
        return self.xyz, self.rgb[self.inside]

    def grid_of(self, bank: str) -> Grid:
        """Where the rows of a bank lie: `rgb`, `xyz` or `fusion`."""
        return self.rgb_grid if bank == "rgb" else self.grid


def cells_of(tokens: Tokens) -> Cells:
    """The cells of a sample."""
    if tokens.in_cells:
        own, count = Grid(tokens.foreground, tokens.size), len(tokens.foreground)
        inside = torch.arange(count, device=tokens.foreground.device)
        return Cells(tokens.rgb.tokens, own, tokens.xyz.tokens, own, inside)
    size, side = tokens.size, tokens.size // PIXELS_A_CELL
    places, operator = pooled(tokens.xyz.lift, tokens.foreground, size, PIXELS_A_CELL)  # type: ignore[arg-type]
    rgb_side = round(len(tokens.rgb.tokens) ** 0.5)
    around = places // side * rgb_side // side * rgb_side + places % side * rgb_side // side
    rgb_places, inside = around.unique(return_inverse=True)
    rgb = tokens.rgb.tokens[rgb_places]
    return Cells(rgb, Grid(rgb_places, rgb_side), operator.multiply(tokens.xyz.tokens), Grid(places, side), inside)


def reach_out(values: Tensor, grid: Grid) -> Tensor:
    """Values of the cells on their grid, (side, side), where one beside the object takes the mean of the object's
    cells around it, if these are BESIDE at least.

    A piece that was cut off leaves cells that are hardly measured; were they 0, smoothing would hide it.
    """
    own = grid.fill(values.new_ones(len(grid.places)))
    total, count = 9 * functional.avg_pool2d(torch.stack([values, own])[None], 3, 1, 1)[0]  # beyond the border 0
    count = count.round()
    return torch.where((own == 0) & (count >= BESIDE), total / count.clamp(min=1), values)
