"""The part of a frame that a detector looks at: a square cut out of image and cloud, on a grid of its own."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.frames import valid_points
from utils.view import WHOLE_FRAME, ViewSettings, Window

BICUBIC_REACH = 3  # pixels beyond the window that its resizing looks at, and one more


@dataclass(frozen=True)
class View:
    """A square of the frame, S pixels a side.

    rgb: (3, S, S) float32, ImageNet-normalised.
    xyz: (3, S, S) float32 metres, (0, 0, 0) where invalid.
    valid: (S, S) bool, True = a measured point of the object.
    window: where it lies in the frame.
    """

    rgb: Tensor
    xyz: Tensor
    valid: Tensor
    window: Window


def find_window(xyz: np.ndarray, settings: ViewSettings) -> Window:
    """The window of a view.

    Args:
        xyz: (h, w, 3) metres, invalid points (0, 0, 0).
        settings: of the view.

    Returns:
        The square around the box of the valid points, enlarged by the margin; the whole frame where that is asked for
        or no point is valid.
    """
    valid = valid_points(xyz)
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if settings.kind == "frame" or not len(rows):
        return WHOLE_FRAME
    side = (1 + settings.margin) * (1 + max(rows[-1] - rows[0], columns[-1] - columns[0]))
    down, across = _padding(valid.shape)
    top, left = ((1 + places[0] + places[-1] - side) / 2 for places in (rows, columns))
    length = max(valid.shape)
    return Window(float((top + down) / length), float((left + across) / length), float(side / length))


def cut_image(image: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The window of an (h, w, 3) uint8 image, bicubic: (size, size, 3) uint8; beyond the frame its edge is repeated."""
    length, padding = max(image.shape[:2]), _padding(image.shape)
    starts = [place * length - before for place, before in zip(window[:2], padding, strict=True)]  # in the image
    side = window.side * length
    firsts = [math.floor(start) - BICUBIC_REACH for start in starts]
    lasts = [math.ceil(start + side) + BICUBIC_REACH for start in starts]
    rows, columns = (
        np.arange(first, last).clip(0, n - 1) for first, last, n in zip(firsts, lasts, image.shape[:2], strict=True)
    )
    top, left = (start - first for start, first in zip(starts, firsts, strict=True))
    part = Image.fromarray(image.take(rows, axis=0).take(columns, axis=1))  # indexing takes four times as long
    return np.array(part.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


def cut_cloud(xyz: np.ndarray, window: Window, size: int) -> tuple[Tensor, Tensor]:
    """The window of an (h, w, 3) cloud; coordinates are picked (nearest), never interpolated.

    Returns:
        (3, size, size) float32 cloud, (0, 0, 0) where invalid or beyond the frame, and (size, size) bool mask.
    """
    length, centres = max(xyz.shape[:2]), (np.arange(size) + 0.5) * window.side / size
    rows, columns = (
        np.floor((start + centres) * length).astype(int) - before
        for start, before in zip(window[:2], _padding(xyz.shape), strict=True)
    )
    height, width = xyz.shape[:2]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    points = xyz.take(rows.clip(0, height - 1), axis=0).take(columns.clip(0, width - 1), axis=1)
    valid = torch.from_numpy(inside & valid_points(points))
    return (torch.from_numpy(points.astype(np.float32)).permute(2, 0, 1) * valid).contiguous(), valid


def _padding(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows above and columns to the left that `datasets.frames.pad_to_square` adds to an (h, w, …) frame."""
    return (max(shape[:2]) - shape[0]) // 2, (max(shape[:2]) - shape[1]) // 2
