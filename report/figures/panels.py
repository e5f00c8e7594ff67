"""Pictures: one figure per test image, one contact sheet per class, the loss curves of a run.

Anomaly maps are drawn on a colour scale that is fixed over the class, so that colours can be compared between images
and a good part looks calm. Matplotlib is used without pyplot: no window, no global state, nothing left open.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

DPI = 110
PANEL, GAP, BAR = 1.85, 0.6, 0.08  # inches: side of a panel, space to its right, width of a colour bar
TOP, ROW_GAP, MARGIN = 0.62, 0.34, 0.14  # inches: title above the first row, panel name above the second, border
LARGE_PANEL = 2 * PANEL + ROW_GAP
HEAT, DEPTH = "inferno", "viridis_r"  # near = bright
OUTLINE = (0, 229, 255)  # cyan, absent from HEAT
INVALID_GREY = 0.93


@dataclass(frozen=True)
class QualitativeInput:
    """All that is drawn of one test image, on one grid (H, W)."""

    title: str
    """For example "bagel, hole/003"."""
    defect: str
    """Name of the test folder; groups the contact sheet. "good" comes first and sets the colour scale."""
    image_score: float
    """Printed as it is."""
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    gt: np.ndarray | None
    """(H, W) bool, True = anomalous; None = not known."""
    depth: np.ndarray
    """(H, W) float, metres; NaN or 0 = invalid."""
    map_2d: np.ndarray
    """(H, W) float >= 0, anomaly seen in the RGB image, 0 on background."""
    map_3d: np.ndarray
    """(H, W) float >= 0, anomaly seen in the geometry, 0 on background."""
    combined: np.ndarray
    """(H, W) float >= 0, smoothed and not normalised per image: per-image normalisation has no fixed scale."""

    @property
    def marked(self) -> np.ndarray:
        """`gt`; where it is not known, nothing is marked."""
        return np.zeros(self.depth.shape, bool) if self.gt is None else self.gt


@dataclass(frozen=True)
class ColourScale:
    """The (low, high) ends of the colour bar of each map, for a whole class."""

    map_2d: tuple[float, float]
    map_3d: tuple[float, float]
    combined: tuple[float, float]


def colour_scale(items: Sequence[QualitativeInput]) -> ColourScale:
    """Colour ends of the three maps of one class; see `colour_range`. Foreground is where a modality's map is not 0."""
    good = [item.defect == "good" for item in items]
    foregrounds = [(item.map_2d > 0) | (item.map_3d > 0) for item in items]
    return ColourScale(
        colour_range([item.map_2d for item in items], foregrounds, good),
        colour_range([item.map_3d for item in items], foregrounds, good),
        colour_range([item.combined for item in items], foregrounds, good),
    )


def colour_range(
    maps: Sequence[np.ndarray], foregrounds: Sequence[np.ndarray], good: Sequence[bool]
) -> tuple[float, float]:
    """Ends of a colour scale on which good images stay dark and a typical defect reaches the top.

    low is the median over the good images of their foregrounds' medians. high is the median of the defect images'
    maxima, but at least so far up that the highest good image (90th percentile of the maxima) lies at 40 % of the
    scale. Without good images low is taken over all images.

    Args:
        maps: (H, W) each, >= 0, on one scale.
        foregrounds: (H, W) bool each, True = foreground.
        good: one flag per map.

    Returns:
        (low, high), finite, low < high.
    """
    medians = [float(np.median(m[f])) if f.any() else 0.0 for m, f in zip(maps, foregrounds, strict=True)]
    peaks = [float(m.max()) for m in maps]
    low = float(np.median([v for v, g in zip(medians, good, strict=True) if g] or medians or [0.0]))
    high = low
    if good_peaks := [v for v, g in zip(peaks, good, strict=True) if g]:
        high = low + 2.5 * (float(np.percentile(good_peaks, 90)) - low)
    if defect_peaks := [v for v, g in zip(peaks, good, strict=True) if not g]:
        high = max(high, float(np.median(defect_peaks)))
    return low, high if high > low else low + 1.0


def unit_range(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Map [low, high] to [0, 1], clipped; float32."""
    low, high = ends
    return np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)


def overlay(rgb: np.ndarray, values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """RGB image with the heat of `values` over it; opacity grows with the value, so normal regions keep their colour.

    Args:
        rgb: (H, W, 3) uint8.
        values: (H, W) on the scale of `ends`.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    share = unit_range(values, ends)
    heat = colormaps[HEAT](share)[..., :3] * 255.0
    opacity = 0.85 * np.clip((share[..., None] - 0.2) / 0.6, 0.0, 1.0)
    return np.rint((1.0 - opacity) * rgb + opacity * heat).astype(np.uint8)


def object_window(item: QualitativeInput) -> tuple[slice, slice]:
    """Rows and columns of a square around all valid depths and the ground truth, with a tenth of its side as border.

    It is moved inward and cut at the image's edge; the whole image when nothing is there to frame.
    """
    rows, columns = np.nonzero((np.isfinite(item.depth) & (item.depth != 0)) | item.marked)
    if not rows.size:
        return slice(None), slice(None)
    side = round(1.2 * (max(np.ptp(rows), np.ptp(columns)) + 1))
    starts = [
        int(np.clip(round((places.min() + places.max() + 1 - side) / 2), 0, max(0, size - side)))
        for places, size in ((rows, item.depth.shape[0]), (columns, item.depth.shape[1]))
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


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
    figure = _figure(width, TOP + LARGE_PANEL + MARGIN)
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
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with its own canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary)


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


def depth_ends(depth: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale of (H, W) depths in metres, 0 or NaN = invalid: half a per cent may lie beyond each."""
    valid = depth[np.isfinite(depth) & (depth != 0)]
    if not valid.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(valid, [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1e-3)


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


def save_loss_plot(path: Path, entries: Sequence[Mapping[str, Any]], title: str) -> None:
    """Write the losses over the epochs.

    Args:
        entries: one per epoch, as read from the log: `epoch` (counted from 1) and any number of `loss…` figures.
        title: heading of the plot.
    """
    names = [name for name in (entries[0] if entries else {}) if name.startswith("loss")]
    epochs = [entry["epoch"] for entry in entries]
    figure = _figure(6.4, 3.8)
    axes = figure.add_axes((0.15, 0.14, 0.82, 0.76))
    for name in names:
        style = "-" if len(epochs) > 30 else ".-"
        axes.plot(epochs, [entry[name] for entry in entries], style, label=name.replace("_", " "), linewidth=1.4)
    if names and all(entry[name] > 0 for entry in entries for name in names):
        axes.set_yscale("log")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    if names:
        axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


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
