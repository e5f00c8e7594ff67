"""What a check has found, as a table of text, as JSON, and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.frames import valid_points
from processing.checks.dataset_checks import PARTS, ClassCheck
from processing.checks.findings import Finding
from processing.checks.sample_checks import Figures, read_edges, read_pair
from utils.errors import UserError
from utils.files import atomic_path
from utils.palette import DEPTH, INVALID_GREY, OUTLINE

_HEADER = (
    "class",
    *PARTS,
    "RGB W×H",
    "cloud",
    "state",
    "valid points",
    "z in m",
    "extent in mm",
    "RGB on them: train",
    "test",
    "clouds on images",
)
_PANELS = ("RGB", "depth", "measured points over RGB", "depth edges over RGB")
_SAMPLES = 2  # of a class, side by side in the picture
_PANEL, _GAP, _LABEL, _TITLE = 170, 6, 15, 26  # pixels


def table(classes: Sequence[ClassCheck]) -> str:
    """One line a class, columns aligned."""
    rows = [_HEADER, *(_row(one) for one in classes)]
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(
    root: Path, classes: dict[str, Any], findings: Sequence[Finding], figures: Sequence[Figures] = ()
) -> dict[str, Any]:
    """Everything for programs: `problems`, `notes`, `classes`, and `samples` by class/split/defect/stem."""
    return {
        "dataset": str(root),
        "problems": [f.as_json() for f in findings if f.problem],
        "notes": [f.as_json() for f in findings if not f.problem],
        "classes": classes,
        "samples": {str(f.record): f.as_json() for f in figures},
    }


def _row(one: ClassCheck) -> tuple[str, ...]:
    measured = [f for f in one.figures if f.depth is not None and f.extent is not None]
    shares = [f.valid_share for f in measured if f.valid_share is not None]
    if not measured:
        return (one.name, *map(str, one.counts), _sizes(one, "rgb_size"), _sizes(one, "xyz_size"), *["-"] * 7)
    depth = np.median([f.depth for f in measured if f.depth is not None], axis=0)
    extent = np.median([f.extent for f in measured if f.extent is not None], axis=0)
    return (
        one.name,
        *map(str, one.counts),
        _sizes(one, "rgb_size"),
        _sizes(one, "xyz_size"),
        _state(one),
        f"{np.median(shares):.1%}, lowest {min(shares):.1%}",
        f"{depth[0]:.3g} … {depth[1]:.3g}",
        " × ".join(f"{1000 * d:.3g}" for d in extent),
        _exposure(one.exposures("train")),
        _exposure([*one.exposures("test/good"), *one.exposures("test/defects")]),
        _alignment(one),
    )


def _state(one: ClassCheck) -> str:
    made = "/".join(name if name == "elsewhere" else f"family {name}" for name in one.families)
    return ", ".join(word for word in (one.state, made) if word) or "-"


def _exposure(values: Sequence[float]) -> str:
    return f"{np.median(values):.0f} ({min(values):.0f} … {max(values):.0f})" if values else "-"


def _alignment(one: ClassCheck) -> str:
    """How the clouds lie on the images, in words."""
    if one.alignment is None or one.alignment.aligned is None:
        return f"cannot be judged: {one.alignment_note}"
    if one.alignment.aligned:
        side = max(next(f.rgb_size for f in one.figures if f.rgb_size is not None))
        return f"aligned within {one.alignment.within * side:.0f} px, correlation {one.alignment.identity:.2f}"
    return f"OFF, correlation {one.alignment.identity:.2f} instead of {one.alignment.best:.2f}"


def _sizes(one: ClassCheck, name: str) -> str:
    sizes = {getattr(f, name) for f in one.figures} - {None}
    return "×".join(map(str, sizes.pop())) if len(sizes) == 1 else "several" if sizes else "-"


def save_contact_sheet(path: Path, classes: Sequence[ClassCheck], heading: str) -> None:
    """Write a picture with a row a class: RGB, depth, measured points and depth edges over RGB of two samples.

    Args:
        path: the suffix decides the format.
        heading: first line of the sheet.
    """
    from PIL import Image, ImageDraw, ImageFont

    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    width = _GAP + _SAMPLES * len(_PANELS) * (_PANEL + _GAP) + (_SAMPLES - 1) * _GAP
    row_height = _TITLE + _PANEL + _LABEL + _GAP
    sheet = Image.new("RGB", (width, _TITLE + _GAP + len(classes) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), heading, fill="black", font=large)
    for row, one in enumerate(classes):
        top = _TITLE + _GAP + row * row_height
        draw.text((_GAP, top + 4), f"{one.name}  (clouds on images: {_alignment(one)})", fill="#333333", font=large)
        for index, figures in enumerate(_shown(one)):
            left = _GAP + index * (len(_PANELS) * (_PANEL + _GAP) + _GAP)
            try:
                panels = _panels(*read_pair(figures.record), read_edges(figures)[1])
            except UserError:
                continue  # already among the findings
            for column, (name, panel) in enumerate(zip(_PANELS, panels, strict=True)):
                x = left + column * (_PANEL + _GAP)
                sheet.paste(_fit(panel), (x, top + _TITLE))
                words = f"{figures.record.split}/{figures.record.defect}/{figures.record.stem}" if not column else name
                draw.text((x, top + _TITLE + _PANEL + 1), words, fill="#333333", font=small)
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _shown(one: ClassCheck) -> list[Figures]:
    """The first sample of the class and the first with a defect, of those whose files fit together."""
    fit = [f for f in one.figures if f.raw is not None]
    return [*fit[:1], *[f for f in fit[1:] if not f.record.is_good][:1]] if len(fit) > 1 else fit


def _panels(rgb: np.ndarray, xyz: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """Images (h, w, 3) uint8 in the order of _PANELS."""
    from matplotlib import colormaps
    from PIL import Image

    valid = valid_points(xyz)
    low, high = np.percentile(xyz[valid][:, 2], [0.5, 99.5]) if valid.any() else (0.0, 1.0)
    share = np.clip((xyz[..., 2] - low) / max(high - low, 1e-9), 0, 1)
    depth = np.where(valid[..., None], colormaps[DEPTH](share)[..., :3], INVALID_GREY) * 255
    tint = np.where(valid[..., None], 0.6 * rgb + 0.4 * np.array(OUTLINE), rgb)
    strong = Image.fromarray(edges > np.percentile(edges, 93)).resize((rgb.shape[1], rgb.shape[0]))
    grey = np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2)
    outlined = np.where(np.asarray(strong)[..., None], np.array(OUTLINE), grey)
    return [rgb, *(np.rint(panel).astype(np.uint8) for panel in (depth, tint, outlined))]


def _fit(panel: np.ndarray) -> Any:
    """A PIL image of at most _PANEL × _PANEL pixels."""
    from PIL import Image

    factor = _PANEL / max(panel.shape[:2])
    size = (max(1, round(panel.shape[1] * factor)), max(1, round(panel.shape[0] * factor)))
    return Image.fromarray(panel).resize(size, Image.Resampling.BILINEAR if factor < 1 else Image.Resampling.NEAREST)
