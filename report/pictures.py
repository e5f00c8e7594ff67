"""Arrays → the compact forms in which a page carries them: pictures as data URIs, clouds as whole numbers."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from report.figures.colours import ColourScale, overlay, unit_range
from report.figures.sample import QualitativeInput, object_window
from utils.palette import INVALID_GREY, OUTLINE

MAX_POINTS = 8000
THUMBNAIL = 224  # pixels, at most
LEVELS = 255  # colours of a map; the one after them is that of invalid pixels
QUALITY = 85  # of JPEG, per cent


def jpeg(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 → JPEG, as a data URI."""
    return _data_uri(Image.fromarray(pixels), "jpeg", quality=QUALITY, subsampling="4:4:4")


def mask_png(mask: np.ndarray) -> str:
    """(H, W) bool → PNG of one bit a pixel, True = white, as a data URI."""
    return _data_uri(Image.fromarray(mask).convert("1"), "png", optimize=True)


def map_png(values: np.ndarray, ends: tuple[float, float], colours: str) -> str:
    """A map in the colours of a scale → paletted PNG, as a data URI.

    Args:
        values: (H, W); NaN is drawn grey.
        ends: of the colour scale; what lies beyond takes the colour of its end.
        colours: name of one of matplotlib's colour maps.
    """
    invalid = ~np.isfinite(values)
    share = unit_range(np.where(invalid, ends[0], values), ends)
    level = np.rint(share * (LEVELS - 1)).astype(np.uint8)
    level[invalid] = LEVELS
    picture = Image.fromarray(level)
    grey = round(255 * INVALID_GREY)
    picture.putpalette([channel for colour in [*palette(colours), (grey, grey, grey)] for channel in colour])
    return _data_uri(picture, "png", optimize=True)


def palette(colours: str, count: int = LEVELS) -> list[tuple[int, int, int]]:
    """`count` ≥ 2 colours of one of matplotlib's colour maps, from its lower to its upper end, each (R, G, B) 0…255."""
    from matplotlib import colormaps

    rows = np.rint(255 * colormaps[colours](np.linspace(0, 1, count))[:, :3]).astype(int)
    return [(int(r), int(g), int(b)) for r, g, b in rows]


def _data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def thumbnail(item: QualitativeInput, scale: ColourScale) -> str:
    """The part of the image that holds the object, with the heat of its map and its defect outlined; JPEG."""
    window = object_window(item)
    painted = Image.fromarray(overlay(item.rgb, item.combined, scale.combined)[window])
    painted = painted.resize((THUMBNAIL, round(THUMBNAIL * painted.height / painted.width)), Image.Resampling.BICUBIC)
    inside = np.asarray(Image.fromarray(item.marked[window]).resize(painted.size, Image.Resampling.NEAREST), dtype=bool)
    pixels = np.array(painted)
    pixels[ndimage.binary_dilation(inside, iterations=2) & ~inside] = OUTLINE
    return jpeg(pixels)


def cloud(xyz: np.ndarray, limit: int = MAX_POINTS) -> dict[str, Any] | None:
    """An organised cloud, thinned to every n-th row and column, as whole numbers.

    Args:
        xyz: (H, W, 3) float32 metres, at most 65536 pixels; (0, 0, 0) or what is not finite is invalid.
        limit: most points that are kept.

    Returns:
        `points`, base64 of little-endian uint16 (n, 4): x, y, z in steps from `low`, and the number of the pixel, row
        by row; `low`, three coordinates in metres; `step`, metres, one for all axes. None without a valid point.
    """
    if xyz[..., 0].size > 1 << 16:
        raise ValueError(f"expected a cloud of at most 65536 pixels, got shape {xyz.shape}")
    valid = np.isfinite(xyz).all(axis=-1) & (xyz != 0).any(axis=-1)
    if not valid.any():
        return None
    stride = 1
    while np.count_nonzero(valid[::stride, ::stride]) > limit:
        stride += 1
    pixels = stride * np.argwhere(valid[::stride, ::stride])
    if not len(pixels):  # all of them lie between the rows and columns that are kept
        pixels = np.argwhere(valid)
        pixels = pixels[:: -(-len(pixels) // limit)]
    points = xyz[pixels[:, 0], pixels[:, 1]].astype(np.float64)
    low = points.min(axis=0)
    step = float(np.ptp(points, axis=0).max()) / 65535 or 1e-6
    numbers = pixels @ [xyz.shape[1], 1]
    whole = np.column_stack([np.rint((points - low) / step), numbers]).astype("<u2")
    return {"points": base64.b64encode(whole.tobytes()).decode(), "low": low.tolist(), "step": step}
