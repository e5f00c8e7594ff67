"""From depths to channels of cells and to the mask of the object (AST, as released).

The release reads raw scans. Samples here hold the object only, as a rule: then no corner of the frame is measured, and
all that is measured is foreground. Depths are picked from the file on a grid of 384×384, where the release has the
file's own size; both become 192×192.
"""

import torch
from torch import Tensor
from torch.nn import functional

GRID = 384  # side of the depths
CELLS, CELL = 24, 8  # cells a side, and pixels a side of a cell at half the grid
CHANNELS = CELL * CELL
FILL_ROUNDS = 3
HEIGHT = 0.007  # metres that an object stands out from the background
LEAST = 0.01  # share of what is measured that has to stand out: a flat part that fills the frame has no background
TO_CENTIMETRES = 100.0


def depth_cells(z: Tensor) -> tuple[Tensor, Tensor]:
    """Depths of a frame as channels of cells, relative to the object's mean, and which cells are the object's.

    Args:
        z: (384, 384) metres, 0 where nothing was measured.

    Returns:
        (64, 24, 24) centimetres, and (24, 24) in [0, 1], see `soften`. Both are 0 where nothing is foreground.
    """
    z = fill_holes(z)
    foreground = find_foreground(z)
    if not foreground.any():
        return z.new_zeros(CHANNELS, CELLS, CELLS), z.new_zeros(CELLS, CELLS)
    relative = torch.where(foreground, z - z[foreground].mean(), 0.0) * TO_CENTIMETRES
    halved = functional.avg_pool2d(relative[None], 2)  # what bilinear sampling gives at half the size
    return functional.pixel_unshuffle(halved, CELL), soften(foreground)


def fill_holes(z: Tensor) -> Tensor:
    """Three times: an unmeasured pixel gets the mean of the measured ones of the 3×3 around it, 0 if there is none.

    As in the release the first row and column stay, and the last ones see what is inside of the frame.

    Args:
        z: (h, w), 0 where nothing was measured.
    """
    for _ in range(FILL_ROUNDS):
        both = torch.stack([z, (z != 0).to(z)])  # sums and numbers
        sums, counts = functional.avg_pool2d(both, 3, 1, 1, divisor_override=1)
        filled = torch.where(z == 0, sums / counts.clamp(min=1), z)
        filled[0], filled[:, 0] = z[0], z[:, 0]
        z = filled
    return z


def find_foreground(z: Tensor) -> Tensor:
    """What is measured and stands out more than 7 mm from the surface through the frame's corners; (h, w) bool.

    Without a corner, or where hardly anything stands out, all that is measured.

    Args:
        z: (h, w) metres, 0 where nothing was measured.
    """
    measured, surface = z != 0, corner_surface(z)
    if surface is None:
        return measured
    standing = measured & ((surface - z).abs() > HEIGHT)
    return standing if standing.sum() > LEAST * measured.sum() else measured


def corner_surface(z: Tensor) -> Tensor | None:
    """Bilinear surface (h, w) through the four corners; each is the mean of what is measured of its 2×2 pixels.

    A corner without any is the mean of the others; None if all are.
    """
    ends = torch.tensor([0, 1, -2, -1])
    corners = z[ends][:, ends].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)  # (2, 2, 4)
    counts = (corners != 0).sum(dim=2)
    if not counts.any():
        return None
    means = corners.sum(dim=2) / counts.clamp(min=1)
    means = torch.where(counts > 0, means, means[counts > 0].mean())
    return functional.interpolate(means[None, None], z.shape, mode="bilinear", align_corners=True)[0, 0]


def soften(foreground: Tensor) -> Tensor:
    """The mask of cells: at half the size, dilated by 8×8 pixels, then the mean of the middle 2×2 of each cell.

    Args:
        foreground: (384, 384) bool.

    Returns:
        (24, 24), one of 0, ¼, ½, ¾ and 1: what bilinear sampling without smoothing gives.
    """
    halved = functional.max_pool2d(foreground[None].float(), 2)
    before, after = CELL // 2, CELL // 2 - 1
    dilated = functional.max_pool2d(functional.pad(halved, (before, after, before, after)), CELL, 1)
    return functional.interpolate(dilated[None], (CELLS, CELLS), mode="bilinear", align_corners=False)[0, 0]
