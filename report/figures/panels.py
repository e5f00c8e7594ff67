"""The figure of one test image: its panels, with their colour bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from report.figures.canvas import new_figure, save_figure
from report.figures.colours import ColourScale, depth_ends, overlay
from report.figures.sample import QualitativeInput, object_window
from utils.palette import DEPTH, HEAT, INVALID_GREY, OUTLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, GAP, BAR = 1.85, 0.6, 0.08  # inches: side of a panel, space to its right, width of a colour bar
TOP, ROW_GAP, MARGIN = 0.62, 0.34, 0.14  # inches: title above the first row, panel name above the second, border
LARGE_PANEL = 2 * PANEL + ROW_GAP


def save_qualitative(
    path: Path, item: QualitativeInput, scale: ColourScale, extra: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write the figure of one test image: RGB, mask, depth, both modality maps, their combination, and an overlay.

    The overlay is large and shows the part of the image that holds the object; the other panels show all of it.

    Args:
        path: the suffix decides the format, for example `.png`.
        scale: from `colour_scale` over the class.
        extra: more panels beside the inputs, by name: (H, W, 3) uint8 images, or (H, W) depths in metres, drawn on the
            depth scale of the item.
    """
    columns = 3 + math.ceil(len(extra or {}) / 2)
    width = MARGIN + columns * (PANEL + GAP) + LARGE_PANEL + MARGIN
    figure = new_figure(width, TOP + LARGE_PANEL + MARGIN)
    _panel(figure, 0, 0, "RGB").imshow(item.rgb)
    mask = _panel(figure, 0, 1, "no ground truth" if item.gt is None else "ground truth")
    mask.imshow(item.marked, cmap="gray", vmin=0, vmax=1)
    ends = depth_ends(item.depth)
    _draw_map(figure, _panel(figure, 0, 2, "depth (m)"), _without_invalid(item.depth), ends, DEPTH)
    _draw_map(figure, _panel(figure, 1, 0, "RGB anomaly (2D)"), item.map_2d, scale.map_2d, HEAT)
    _draw_map(figure, _panel(figure, 1, 1, "geometry anomaly (3D)"), item.map_3d, scale.map_3d, HEAT)
    _draw_map(figure, _panel(figure, 1, 2, "combined anomaly"), item.combined, scale.combined, HEAT)
    for i, (name, values) in enumerate((extra or {}).items()):
        axes = _panel(figure, i % 2, 3 + i // 2, name)
        if values.ndim == 3:
            axes.imshow(values)
        else:
            _draw_map(figure, axes, _without_invalid(values), ends, DEPTH)
    name = "combined anomaly over RGB" + (", outline = ground truth" if item.marked.any() else "")
    axes = _panel(figure, 1, columns, name, LARGE_PANEL)
    window = object_window(item)
    axes.imshow(overlay(item.rgb, item.combined, scale.combined)[window])
    if item.marked.any():
        axes.contour(item.marked[window], levels=[0.5], colors=[np.divide(OUTLINE, 255)], linewidths=1.4)
    heading = f"{item.title}    image score {item.image_score:.4g}"
    figure.text(MARGIN / width, 1 - 0.1 / figure.get_figheight(), heading, va="top", fontsize=11, weight="bold")
    save_figure(figure, path)


def _panel(figure: Figure, row: int, column: int, name: str, side: float = PANEL) -> Axes:
    """Square axes without ticks whose lower left corner is that of a cell of the grid."""
    width, height = figure.get_size_inches()
    left = MARGIN + column * (PANEL + GAP)
    bottom = height - TOP - PANEL - row * (PANEL + ROW_GAP)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.set_title(name, fontsize=9, pad=4)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _draw_map(figure: Figure, axes: Axes, values: np.ndarray, ends: tuple[float, float], colours: str) -> None:
    """A map with its colour bar to the right; NaN is grey."""
    from matplotlib import colormaps

    axes.set_facecolor(str(INVALID_GREY))
    image = axes.imshow(values, cmap=colormaps[colours], vmin=ends[0], vmax=ends[1])
    width = figure.get_size_inches()[0]
    box = axes.get_position()
    bar_axes = figure.add_axes((box.x1 + 0.05 / width, box.y0, BAR / width, box.height))
    bar = figure.colorbar(image, cax=bar_axes)
    ticks = np.linspace(*ends, 5)
    bar.set_ticks(list(ticks), labels=_tick_labels(ticks))
    bar_axes.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_linewidth(0.5)


def _without_invalid(depth: np.ndarray) -> np.ndarray:
    return np.where(depth == 0, np.nan, depth)


def _tick_labels(ticks: np.ndarray) -> list[str]:
    """The ticks with just enough decimals to tell them apart, at most six characters or so."""
    step = float(ticks[1] - ticks[0])
    if not 1e-4 <= step < 1e4:
        return [f"{tick:.1e}" for tick in ticks]
    decimals = max(0, 1 - math.floor(math.log10(step)))
    return [f"{tick:.{decimals}f}" for tick in ticks]
