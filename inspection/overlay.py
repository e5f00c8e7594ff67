"""The picture of an answer: the image with the heat of its map, its regions with their numbers, and a legend below."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from evaluation.thresholds import Thresholds
from inspection import words
from inspection.answer import Answer
from report.figures.colours import overlay
from utils.palette import HEAT, OUTLINE

if TYPE_CHECKING:
    from PIL import ImageFont

MIN_WIDTH = 200
"""Pixels that the legend needs; narrower images are enlarged."""

_MIN_TEXT, _TEXT = 11, 1 / 40  # height of the text: at least, in pixels, and as a share of the picture's width
_STRIP = 1 << 18  # pixels that are coloured at a time
_RED, _GREEN, _BLACK, _GREY = "#b00000", "#006400", "#000000", "#555555"


def draw(rgb: np.ndarray, answer: Answer, thresholds: Thresholds) -> np.ndarray:
    """Picture of an answer. Its colours mean the same for all parts of a detector: see `scale`.

    Args:
        rgb: (h, w, 3) uint8, the image as given.
        answer: what was said of it.
        thresholds: behind the answer.

    Returns:
        (h', w', 3) uint8: w' is w, or the lowest multiple of it that is at least `MIN_WIDTH`; the image has as many
        times its height, and below it lies the legend.
    """
    times = -(-MIN_WIDTH // rgb.shape[1])
    image, values, labels = (_enlarge(array, times) for array in (rgb, answer.map, answer.labels))
    ends = scale(thresholds)
    rows = max(1, _STRIP // image.shape[1])
    strips = [slice(start, start + rows) for start in range(0, len(image), rows)]
    picture = np.concatenate([overlay(image[strip], values[strip], ends) for strip in strips])
    _outline(picture, labels, max(1, round(picture.shape[1] / 400)))
    return np.concatenate([_number(picture, answer, times), _legend(picture.shape[1], answer, thresholds)])


def scale(thresholds: Thresholds) -> tuple[float, float]:
    """Ends of the colour scale: from a good part's typical level so far up that the image threshold lies at 40 %."""
    low, high = thresholds.typical, thresholds.typical + 2.5 * (thresholds.image - thresholds.typical)
    return low, high if high > low else low + 1.0


def _enlarge(array: np.ndarray, times: int) -> np.ndarray:
    return array if times == 1 else array.repeat(times, axis=0).repeat(times, axis=1)


def _outline(picture: np.ndarray, labels: np.ndarray, width: int) -> None:
    """Draw lines of this width in pixels around the regions into the picture."""
    inside = labels > 0
    for rows, columns in ndimage.find_objects(inside.view(np.int8)):  # one box around all of them, or none
        box = (
            slice(max(0, rows.start - width), rows.stop + width),
            slice(max(0, columns.start - width), columns.stop + width),
        )
        within = inside[box]
        picture[box][ndimage.maximum_filter(within, 2 * width + 1) & ~within] = OUTLINE


def _number(picture: np.ndarray, answer: Answer, times: int) -> np.ndarray:
    """The picture with the number of each region at the upper left of its box."""
    from PIL import Image, ImageDraw

    if not answer.regions:
        return picture
    image = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(image), _font(picture.shape[1], 1.4)
    stroke = max(1, round(font.size / 8))
    for number, region in reversed(list(enumerate(answer.regions, 1))):  # the highest peak last, on top
        x, y, right, bottom = pen.textbbox((0, 0), str(number), font=font, stroke_width=stroke)
        left = min(region.box[0] * times, picture.shape[1] - (right - x))
        top = max(region.box[1] * times - (bottom - y) - 2 * stroke, 0)
        pen.text((left - x, top - y), str(number), OUTLINE, font, stroke_width=stroke, stroke_fill=_BLACK)
    return np.array(image)


def _legend(width: int, answer: Answer, thresholds: Thresholds) -> np.ndarray:
    """(rows, width, 3) uint8: the decision, the score beside the threshold, and the colour scale with three marks."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    count = len(answer.regions)
    regions = f", {count} region{'s' * (count > 1)}" if count else ""
    regions += ", by its input" if answer.reasons else ""
    lines = [words.decision(answer.anomalous) + regions, f"score {answer.score:.4g},  threshold {thresholds.image:.4g}"]
    font = _font(width)
    margin = round(0.4 * font.size)
    step, bar = round(1.3 * font.size), round(0.9 * font.size)
    top = margin + 2 * step
    strip = Image.new("RGB", (width, top + bar + step + 2 * margin), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((margin, margin // 2), lines[0], fill=_RED if answer.anomalous else _GREEN, font=font)
    pen.text((margin, margin // 2 + step), lines[1], fill=_BLACK, font=font)

    low, high = scale(thresholds)
    length = width - 2 * margin
    colours = np.rint(255 * colormaps[HEAT](np.linspace(0, 1, length))[:, :3]).astype(np.uint8)
    strip.paste(Image.fromarray(np.tile(colours, (bar, 1, 1))), (margin, top))
    mark = margin + round((length - 1) * min(max((thresholds.image - low) / (high - low), 0), 1))
    pen.line([(mark, top), (mark, top + bar + margin // 2)], fill=OUTLINE, width=max(1, round(font.size / 8)))
    below = top + bar + margin // 2
    for place, value, anchor in ((margin, low, "la"), (mark, thresholds.image, "ma"), (width - margin, high, "ra")):
        pen.text((place, below), f"{value:.2g}", fill=_GREY, font=font, anchor=anchor)
    return np.array(strip)


@functools.lru_cache(maxsize=8)
def _font(width: int, times: float = 1.0) -> ImageFont.FreeTypeFont:
    """PIL's own font, so many times the size for a picture of this width; kept, since reading it takes long."""
    from PIL import ImageFont

    font = ImageFont.load_default(times * max(_MIN_TEXT, width * _TEXT))
    assert isinstance(font, ImageFont.FreeTypeFont)  # the other kind has one size only
    return font
