"""Figures of Matplotlib without pyplot: no window, no global state, nothing left open; and a window on request."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with its own canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary)


def show(path: Path) -> bool:
    """Open a written picture in a window and wait until it is closed; without a display, say so once.

    Returns:
        Whether it was shown.
    """
    import matplotlib

    if matplotlib.get_backend().lower() in {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}:
        _say_no_display()
        return False
    from matplotlib import pyplot
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image)
    figure = pyplot.figure(Path(path).name, figsize=(pixels.shape[1] / DPI, pixels.shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(pixels)
    pyplot.show()
    pyplot.close(figure)
    return True


@functools.cache
def _say_no_display() -> None:
    print("no display: pictures are not shown; --produce_qualitatives writes them to files", file=sys.stderr)
