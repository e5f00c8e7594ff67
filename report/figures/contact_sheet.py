"""One picture of all test images of a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from report.figures.colours import ColourScale, overlay
from report.figures.sample import QualitativeInput, object_window
from utils.files import atomic_path
from utils.palette import OUTLINE

if TYPE_CHECKING:
    from PIL import Image


def save_contact_sheet(
    path: Path, items: Sequence[QualitativeInput], scale: ColourScale, heading: str, columns: int = 10, side: int = 112
) -> None:
    """Write one picture with the overlay and the score of every image, grouped by defect, good images first.

    The overlays show the part of each image that holds the object.

    Args:
        scale: from `colour_scale` over the class.
        heading: first line of the sheet.
        columns: largest number of thumbnails in a row.
        side: of a thumbnail, pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    groups: dict[str, list[QualitativeInput]] = {}
    for item in sorted(items, key=lambda i: (i.defect != "good", i.defect)):
        groups.setdefault(item.defect, []).append(item)
    gap, label, title = 6, 15, 24
    cell = side + label
    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    columns = min(columns, max(map(len, groups.values())))
    rows = [math.ceil(len(group) / columns) for group in groups.values()]
    width = gap + max(columns * (side + gap), 480, math.ceil(large.getlength(heading)) + gap)
    height = title + gap + len(groups) * title + sum(rows) * (cell + gap)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), heading, fill="black", font=large)
    y = title + gap
    for (defect, group), n_rows in zip(groups.items(), rows, strict=True):
        scores = f"median score {np.median([item.image_score for item in group]):.4g}"
        draw.text((gap, y + 3), f"{defect}  ({len(group)} images, {scores})", fill="#333333", font=large)
        y += title
        for i, item in enumerate(group):
            left, top = gap + (i % columns) * (side + gap), y + (i // columns) * (cell + gap)
            sheet.paste(_thumbnail(item, scale, side), (left, top))
            name = item.title.rsplit("/", 1)[-1]
            draw.text((left, top + side + 1), f"{name}  {item.image_score:.3g}", fill="#333333", font=small)
        y += n_rows * (cell + gap)
    with atomic_path(Path(path)) as temporary:
        sheet.save(temporary)


def _thumbnail(item: QualitativeInput, scale: ColourScale, side: int) -> Image.Image:
    """Overlay with the outline of the ground truth, as a PIL image of side x side pixels."""
    from PIL import Image
    from scipy import ndimage

    window = object_window(item)
    painted = Image.fromarray(overlay(item.rgb, item.combined, scale.combined)[window])
    pixels = np.array(painted.resize((side, side), Image.Resampling.BICUBIC))
    gt = Image.fromarray(item.marked[window]).resize((side, side), Image.Resampling.NEAREST)
    inside = np.asarray(gt, dtype=bool)
    pixels[ndimage.binary_dilation(inside) & ~inside] = OUTLINE
    return Image.fromarray(pixels)
