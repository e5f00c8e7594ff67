"""The figure of a test image: its panels, with their colour bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from report.figures.canvas import new_figure, save_figure
from report.figures.colours import ColourScale, depth_ends, overlay
from report.figures.sample import QualitativeInput, object_window
from utils.palette import DEPTH, HEAT, INVALID_GREY, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PANEL, GAP, BAR = 1.85, 0.6, 0.08  # inches: side of a panel, space to its right, width of a colour bar
TOP, ROW_GAP, MARGIN = 0.62, 0.34, 0.14  # inches: title above the first row, panel name above the second, border
LARGE_PANEL = 2 * PANEL + ROW_GAP


class QualitativeFigure:
    """The figure of a test image: RGB, mask, depth, both modality maps, their combination, and an overlay.

    The overlay is large and shows the part of the image that holds the object; the other panels show all of it. One
    figure serves the images of a class, all of one size, one after the other: to make its axes takes longer than to
    draw them.
    """

    def __init__(self, scale: ColourScale, extra: int = 0) -> None:
        """Begin a figure.

        Args:
            scale: from `colour_scale` over the class.
            extra: how many panels more.
        """
        self._scale, self._columns = scale, 3 + math.ceil(extra / 2)
        width = MARGIN + self._columns * (PANEL + GAP) + LARGE_PANEL + MARGIN
        height = TOP + LARGE_PANEL + MARGIN
        self._figure = new_figure(width, height)
        self._heading = self._figure.text(MARGIN / width, 1 - 0.1 / height, "", va="top", fontsize=11, weight="bold")
        self._images: dict[tuple[int, int], AxesImage] = {}

    def save(self, path: Path, item: QualitativeInput, extra: Mapping[str, np.ndarray] | None = None) -> None:
        """Draw a test image and write the figure.

        Args:
            path: the suffix decides the format, for example `.png`.
            item: what is drawn.
            extra: more panels beside the inputs, by name, the same kinds for each image: (H, W, 3) uint8 images, or
                (H, W) depths in metres, drawn on the depth scale of the item.
        """
        self._heading.set_text(f"{item.title}    image score {item.image_score:.4g}")
        self._show(0, 0, "RGB", item.rgb)
        name = "no ground truth" if item.gt is None else "ground truth"
        self._show(0, 1, name, item.marked, cmap="gray", vmin=0, vmax=1)
        ends = depth_ends(item.depth)
        self._show_map(0, 2, "depth (m)", _without_invalid(item.depth), ends, DEPTH)
        self._show_map(1, 0, "RGB anomaly (2D)", item.map_2d, self._scale.map_2d, HEAT)
        self._show_map(1, 1, "geometry anomaly (3D)", item.map_3d, self._scale.map_3d, HEAT)
        self._show_map(1, 2, "combined anomaly", item.combined, self._scale.combined, HEAT)
        for i, (name, values) in enumerate((extra or {}).items()):
            if values.ndim == 3:
                self._show(i % 2, 3 + i // 2, name, values)
            else:
                self._show_map(i % 2, 3 + i // 2, name, _without_invalid(values), ends, DEPTH)
        self._show_overlay(item)
        save_figure(self._figure, path)

    def _show_overlay(self, item: QualitativeInput) -> None:
        name = "combined anomaly over RGB" + (", outline = ground truth" if item.marked.any() else "")
        window = object_window(item)
        over = overlay(item.rgb, item.combined, self._scale.combined)[window]
        image = self._show(1, self._columns, name, over, LARGE_PANEL)
        for outline in list(image.axes.collections):
            outline.remove()
        if item.marked.any():
            image.axes.contour(item.marked[window], levels=[0.5], colors=[np.divide(OUTLINE, 255)], linewidths=1.4)
            image.set_extent(image.get_extent())  # the contour widens the axes to all that they have held

    def _show(self, row: int, column: int, name: str, values: np.ndarray, side: float = PANEL, **how: Any) -> AxesImage:
        """Put an image into a cell of the grid."""
        image = self._images.get((row, column))
        if image is None:
            image = self._images[row, column] = _panel(self._figure, row, column, side).imshow(values, **how)
        image.set_data(values)
        height, width = values.shape[:2]
        image.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
        image.axes.set_title(name, fontsize=9, pad=4)
        return image

    def _show_map(
        self, row: int, column: int, name: str, values: np.ndarray, ends: tuple[float, float], colours: str
    ) -> None:
        """A map with its colour bar to the right; NaN is grey."""
        image = self._show(row, column, name, values, cmap=colours)
        image.set_clim(*ends)
        bar = image.colorbar or _colour_bar(self._figure, image)
        ticks = np.linspace(*ends, 5)
        bar.set_ticks(list(ticks), labels=_tick_labels(ticks))


def _panel(figure: Figure, row: int, column: int, side: float) -> Axes:
    """Square axes without ticks whose lower left corner is that of a cell of the grid."""
    width, height = figure.get_size_inches()
    left = MARGIN + column * (PANEL + GAP)
    bottom = height - TOP - PANEL - row * (PANEL + ROW_GAP)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.set_facecolor(str(INVALID_GREY))
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _colour_bar(figure: Figure, image: AxesImage) -> Colorbar:
    """A colour bar to the right of a map."""
    width, box = figure.get_size_inches()[0], image.axes.get_position()
    axes = figure.add_axes((box.x1 + 0.05 / width, box.y0, BAR / width, box.height))
    bar = figure.colorbar(image, cax=axes)
    axes.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_linewidth(0.5)
    return bar


def _without_invalid(depth: np.ndarray) -> np.ndarray:
    return np.where(depth == 0, np.nan, depth)


def _tick_labels(ticks: np.ndarray) -> list[str]:
    """The ticks with just enough decimals to tell them apart, at most six characters or so."""
    step = float(ticks[1] - ticks[0])
    if not 1e-4 <= step < 1e4:
        return [f"{tick:.1e}" for tick in ticks]
    decimals = max(0, 1 - math.floor(math.log10(step)))
    return [f"{tick:.{decimals}f}" for tick in ticks]
