"""Image frames as arrays: the border of a frame, its padding to a square, and other sizes."""

from typing import Any

import numpy as np
from PIL import Image

BORDER = 10  # width in pixels of the frame border where the published preprocessing looks for the background plane


def valid_points(xyz: np.ndarray) -> np.ndarray:
    """(…, 3) coordinates → (…) bool, True = measured: all three are non-zero."""
    valid: np.ndarray = (xyz[..., 0] != 0) & (xyz[..., 1] != 0) & (xyz[..., 2] != 0)  # `all` takes eight times as long
    return valid


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


def nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, …) → (H, W, …), (H, W) = shape[:2]: source index floor(i · h / H) in rows, the same in columns."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape[:2], array.shape[:2], strict=True))
    return array.take(rows, axis=0).take(columns, axis=1)


def fit_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a frame at the size of a map of it, by `nearest`.

    A square map of a frame that is not square belongs to the square that the frame is padded to. Any other map needs
    the frame's aspect ratio; a side may be rounded to the next pixel.

    Args:
        mask: (h, w) bool.
        shape: (H, W) of the map.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: the map has another aspect ratio. The message names both sizes.
    """
    (height, width), (rows, columns) = mask.shape, shape
    if rows == columns:
        return nearest(pad_to_square(mask), shape)
    if abs(rows * width - columns * height) >= max(height, width):
        raise ValueError(
            f"the map is {columns}×{rows}, its mask {width}×{height} (W×H), expected the mask's aspect ratio or, for "
            f"the mask padded to {max(mask.shape)}×{max(mask.shape)}, a square"
        )
    return nearest(mask, shape)


def from_square(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map of the square that a frame is padded to, at the frame's own size.

    Bilinear resize to that square, centre of pixel i at (i + 0.5) · S / L - 0.5, then the padding is cut off. Where the
    frame is smaller than the map, pixels are averaged by a triangle of as much greater width.

    Args:
        values: (S, S) float32.
        shape: begins with (h, w) of the frame, L = max(h, w).

    Returns:
        (h, w) float32.
    """
    side = max(shape[:2])
    square = Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR)
    return unpad(np.array(square), shape)
