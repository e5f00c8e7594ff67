"""Nominal samples seen in more ways, for classes of few images: in a mirror, and turned about the optical axis."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.token_store import Grid, GridSample, seen_by
from utils.view import WHOLE_FRAME, ViewSettings, Window

AUGMENTATIONS: dict[str | None, int] = {None: 1, "mirror": 2, "turn": 8}
"""How many ways there are: as it is; in a mirror too; both by each quarter of a turn."""


@dataclass(frozen=True)
class Look:
    """(3, S, S) image and cloud, (S, S) mask: what an extractor looks at, by itself or as a view of a sample."""

    rgb: Tensor
    xyz: Tensor
    valid: Tensor
    window: Window = WHOLE_FRAME

    @property
    def view(self) -> "Look":
        """Itself."""
        return self


def looks(sample: GridSample, view: ViewSettings | None, augment: str | None) -> Iterator[Look]:
    """What an extractor sees of a sample, in all ways of an augmentation, the first as it is.

    Args:
        view: of the extractor.
        augment: a key of AUGMENTATIONS.
    """
    (seen,) = seen_by(view, [sample])
    for way in range(AUGMENTATIONS[augment]):
        yield turned(mirrored(seen) if way % 2 else seen, way // 2)


def mirrored(grid: Grid) -> Look:
    """Left and right changed, of the image and of the space before the camera (x to the right, y down)."""
    x, y, z = grid.xyz.flip(-1)
    return Look(grid.rgb.flip(-1), torch.stack([-x, y, z]), grid.valid.flip(-1))


def turned(grid: Grid, quarters: int) -> Look:
    """Turned counter-clockwise about the optical axis, the image and the space before the camera."""
    rgb, xyz, valid = (torch.rot90(values, quarters, (-2, -1)) for values in (grid.rgb, grid.xyz, grid.valid))
    x, y, z = xyz
    for _ in range(quarters):
        x, y = y, -x
    return Look(rgb.contiguous(), torch.stack([x, y, z]), valid.contiguous())
