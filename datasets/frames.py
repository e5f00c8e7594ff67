"""Image frames as arrays: the border of a frame and its padding to a square."""

from typing import Any

import numpy as np

BORDER = 10  # width in pixels of the frame border where the published preprocessing looks for the background plane


def border_mask(shape: tuple[int, ...], width: int = BORDER) -> np.ndarray:
    """(h, w) bool, True in the outer `width` pixels of a frame whose `shape` begins with h, w."""
    mask = np.ones(shape[:2], bool)
    mask[width : shape[0] - width, width : shape[1] - width] = False
    return mask


def border_share(valid: np.ndarray, width: int = BORDER) -> float:
    """Share in [0, 1] of valid pixels in the border of an (h, w) bool mask."""
    return float(valid[border_mask(valid.shape, width)].mean())


def pad_to_square(array: np.ndarray, **how: Any) -> np.ndarray:
    """(h, w, …) → (L, L, …), L = max(h, w), centred: before = floor((L − n) / 2).

    Args:
        array: (h, w) or (h, w, C).
        how: options of `numpy.pad`; zeros by default, `mode="edge"` replicates the edge.
    """
    height, width = array.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padding = [(top, side - height - top), (left, side - width - left)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, padding, **how)


def unpad(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `pad_to_square`: the centred (h, w, …) part of `array`, (h, w) = shape[:2]."""
    top, left = (array.shape[0] - shape[0]) // 2, (array.shape[1] - shape[1]) // 2
    return array[top : top + shape[0], left : left + shape[1]]
