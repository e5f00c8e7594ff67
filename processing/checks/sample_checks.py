"""What one sample's files are: figures, and faults by kind. A bad file is a fault, never an exception."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datasets.frames import unpad, valid_points
from datasets.measures import exposure
from datasets.raw_scans import is_raw
from datasets.readers import mask_of, open_image, read_array, read_rgb, read_stamp, rgb_of
from datasets.records import Record
from datasets.units import extent, likely_unit, unit_fault
from processing.background.kept_parts import Kept, cut_by_geometry, measure_kept
from processing.checks.alignment import edge_maps
from processing.checks.cloud_geometry import axes_fault, repeated_share
from utils.errors import UserError
from utils.files import sha256_file

_FEW = 0.005  # share of valid points below which a cloud is remarkable
_REPEATED = 0.01  # share of neighbours with the same point above which a cloud was enlarged
_BLACK = 0.95  # share of black pixels outside the object that makes a blackened image


@dataclass
class Figures:
    """One sample in figures; None where its files do not tell.

    Attributes:
        record: its files.
        faults: kind of `findings.KINDS` → what was found.
        rgb_size, xyz_size: (width, height) in pixels.
        rgb_hash: SHA-256 of the RGB's file.
        valid_share: share in [0, 1] of valid points of the cloud's frame.
        depth: lowest and highest z without the outermost half a per cent, in the file's unit.
        extent: of the valid points along x, y, z, likewise.
        exposure: mean in [0, 255] of the RGB on the valid points.
        raw: whether the background plane is still there.
        kept: what is left of the frame, where the background was cut away by geometry.
        black: whether the RGB is black outside the object.
        stamp: what preprocessing wrote into the cloud's file.
    """

    record: Record
    faults: dict[str, str] = field(default_factory=dict)
    rgb_size: tuple[int, int] | None = None
    xyz_size: tuple[int, int] | None = None
    rgb_hash: str | None = None
    valid_share: float | None = None
    depth: tuple[float, float] | None = None
    extent: tuple[float, float, float] | None = None
    exposure: float | None = None
    raw: bool | None = None
    kept: Kept | None = None
    black: bool | None = None
    stamp: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        names = (
            "rgb_size",
            "xyz_size",
            "valid_share",
            "depth",
            "extent",
            "exposure",
            "raw",
            "black",
            "stamp",
            "faults",
        )
        return {name: getattr(self, name) for name in names}


def measure(job: tuple[Record, bool]) -> Figures:
    """Read and judge the files of a record.

    Args:
        job: the record, and whether its cloud's axes are those of a camera (those of converted Eyecandies are not).
    """
    record, camera_axes = job
    figures = Figures(record)
    rgb = _rgb(figures)
    xyz = _xyz(figures)
    if rgb is not None and xyz is not None:
        side = max(rgb.shape[:2])
        if xyz.shape[:2] not in (rgb.shape[:2], (side, side)):
            figures.faults["cloud_size"] = f"the cloud is {_size(xyz)}, its RGB {_size(rgb)} (W×H)"
        else:
            _frame(figures, rgb, xyz)
    if xyz is not None:
        _cloud(figures, xyz, camera_axes)
    if record.gt is not None:
        _mask(figures, rgb)
    elif record.lacks_mask:
        figures.faults["no_mask"] = "none"
    return figures


def read_edges(figures: Figures) -> tuple[np.ndarray, np.ndarray]:
    """`alignment.edge_maps` of a sample whose files are sound. Raises UserError where they are no longer."""
    rgb, xyz = read_pair(figures.record)
    unit = likely_unit(xyz)
    if unit is not None and np.isfinite(unit[0]):
        xyz = xyz * np.float32(unit[0])
    if "axes" in figures.faults and np.median(xyz[..., 2][valid_points(xyz)]) < 0:
        xyz = xyz * np.array([1, 1, -1], np.float32)
    return edge_maps(rgb, xyz)


def read_pair(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) uint8 RGB and its cloud on the same frame, points that are not finite (0, 0, 0). Raises UserError."""
    rgb = read_rgb(record.rgb)
    xyz = read_array(record.xyz).astype(np.float32)
    xyz[~np.isfinite(xyz).all(axis=2)] = 0
    return rgb, xyz if xyz.shape == rgb.shape else unpad(xyz, rgb.shape[:2])


def _rgb(figures: Figures) -> np.ndarray | None:
    path = figures.record.rgb
    try:
        image = open_image(path)
        figures.rgb_hash = sha256_file(path)
    except (UserError, OSError) as error:
        figures.faults["unreadable"] = str(error)
        return None
    figures.rgb_size = image.size
    try:
        rgb = rgb_of(image, path)
    except UserError:
        figures.faults["rgb_type"] = f"an image of mode {image.mode}"
        return None
    if image.mode != "RGB":
        figures.faults["rgb_mode"] = f"mode {image.mode}"
    return rgb


def _xyz(figures: Figures) -> np.ndarray | None:
    """The cloud as float32 with the points that are not finite set to (0, 0, 0)."""
    try:
        xyz = read_array(figures.record.xyz)
    except UserError as error:
        figures.faults.setdefault("unreadable", str(error))
        return None
    if xyz.ndim != 3 or xyz.shape[2] != 3:
        figures.faults["cloud_shape"] = f"shape {xyz.shape}"
        return None
    figures.xyz_size = (xyz.shape[1], xyz.shape[0])
    if xyz.dtype != np.float32:
        figures.faults["cloud_wide" if xyz.dtype == np.float64 else "cloud_type"] = str(xyz.dtype)
    with np.errstate(over="ignore"):
        xyz = xyz.astype(np.float32)
    finite = np.isfinite(xyz).all(axis=2)
    if not finite.all():
        figures.faults["not_finite"] = f"{np.count_nonzero(~finite)} points"
        xyz[~finite] = 0
    return xyz


def _frame(figures: Figures, rgb: np.ndarray, xyz: np.ndarray) -> None:
    """What takes RGB and cloud: raw or not, blackened or not, exposure."""
    figures.stamp = read_stamp(figures.record.xyz)
    framed = xyz if xyz.shape == rgb.shape else unpad(xyz, rgb.shape[:2])
    valid: np.ndarray = valid_points(framed)
    figures.raw = figures.stamp is None and is_raw(framed)
    figures.exposure = exposure(rgb, valid) if valid.any() else None
    if not figures.raw and cut_by_geometry(figures.stamp) and valid.any():
        figures.kept = measure_kept(valid, figures.record.is_good)
    if valid.any() and not valid.all():
        figures.black = bool((rgb[~valid] == 0).all(axis=1).mean() > _BLACK)


def _cloud(figures: Figures, xyz: np.ndarray, camera_axes: bool) -> None:
    points = xyz[valid_points(xyz)]
    figures.valid_share = len(points) / (xyz.shape[0] * xyz.shape[1])
    if not len(points):
        figures.faults["empty_cloud"] = "no point whose three coordinates are non-zero"
        return
    if figures.valid_share < _FEW:
        figures.faults["few_points"] = f"{figures.valid_share:.2%} of the points are valid"
    low, high = np.percentile(points[:, 2].astype(np.float64), [0.5, 99.5])
    figures.depth, figures.extent = (float(low), float(high)), extent(xyz)
    if (fault := unit_fault(xyz)) is not None:
        figures.faults["unit"] = fault
    if (share := repeated_share(xyz)) > _REPEATED:
        figures.faults["repeated"] = f"{share:.0%} of neighbouring points are the same one"
    if camera_axes and (fault := axes_fault(xyz)) is not None:
        figures.faults["axes"] = fault


def _mask(figures: Figures, rgb: np.ndarray | None) -> None:
    path = figures.record.gt
    assert path is not None
    try:
        image = open_image(path)
        gt = mask_of(image, path)
    except UserError as error:
        figures.faults.setdefault("unreadable", str(error))
        return
    if image.mode not in ("L", "1"):
        figures.faults["mask_mode"] = f"mode {image.mode}"
    if rgb is not None and gt.shape != rgb.shape[:2]:
        figures.faults["mask_size"] = f"the mask is {_size(gt)}, its RGB {_size(rgb)} (W×H)"
    if figures.record.is_good and gt.any():
        figures.faults["mask_in_good"] = f"{np.count_nonzero(gt)} anomalous pixels"
    if gt.mean() > 0.5:
        figures.faults["mask_large"] = f"{gt.mean():.0%} of the pixels are anomalous"
    if not figures.record.is_good and not gt.any():
        figures.faults["mask_empty"] = "no anomalous pixel"


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
