"""Read single files as arrays and refuse what they should not be. Free of torch, so that light scripts start fast."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from datasets.frames import unpad
from datasets.raw_scans import is_raw
from datasets.units import unit_fault
from utils.errors import UserError
from utils.files import read_with

MAX_PIXELS = 50_000_000  # of an image or cloud: more than a frame has; a file that declares more would fill the memory
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # of images, whatever their suffix; others may start programs to be decoded

_RESTORE = "Restore the file from its source or remove the sample."
_TO_8_BITS = "Convert it to 8-bit RGB, all images of the dataset by the same factor."
_ORIENTATION, _BITS_PER_SAMPLE = 274, 258  # tags of EXIF and of TIFF


def open_image(path: Path) -> Image.Image:
    """PIL image, fully read. Raises UserError if it cannot be, or not without loss, see `refuse_misread`."""
    return read_with(path, _load_image, _RESTORE)


def read_rgb(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 of an 8-bit image file. Raises UserError if it cannot be read as one."""
    return rgb_of(open_image(path), path)


def rgb_of(image: Image.Image, name: object) -> np.ndarray:
    """What `read_rgb` returns, of an image in memory, with the same errors. name: of it, for them."""
    refuse_misread(image, name)
    if image.mode.startswith(("I", "F")):
        raise UserError(
            f"{name}: expected an 8-bit colour image, found mode {image.mode}: more than 8 bits a pixel. {_TO_8_BITS}"
        )
    return np.array(image.convert("RGB"))


def refuse_misread(image: Image.Image, name: object) -> None:
    """Refuse an image, best before its pixels are read, of which PIL would make another one without a word.

    Of 16 bits a channel it keeps the upper 8: what a camera with 10 or 12 bits stored becomes black. An EXIF
    orientation says that the picture is shown turned or mirrored: PIL applies it to TIFF only, so that the image is no
    longer aligned with its cloud, and where it is not applied a mask that was drawn in a viewer is not.

    Raises:
        UserError: more than 8 bits in several channels, or an orientation other than the plain one.
    """
    if not image.mode.startswith(("I", "F")) and _stored_bits(image) > 8:
        raise UserError(f"{name}: expected 8 bits a channel, found {_stored_bits(image)}. {_TO_8_BITS}")
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata of an image that is sound
        orientation = 1
    if orientation in range(2, 9):
        raise UserError(
            f"{name}: expected pixels stored as they are shown, found EXIF orientation {orientation}: viewers turn or "
            "mirror the image, its cloud stays. Write the image again as it lies on its cloud, without that tag."
        )


def _stored_bits(image: Image.Image) -> int:
    """Bits of a channel in the file that an image comes from; at most 8 where it does not say. PIL's mode does not."""
    if tags := getattr(image, "tag_v2", None):
        return int(np.max(tags.get(_BITS_PER_SAMPLE, 1)))
    codings = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(image, "tile", []) if tile[3]]
    return 16 if any(coding.endswith(";16B") for coding in codings) else 8  # PNG: big-endian


def read_xyz(path: Path) -> np.ndarray:
    """(h, w, 3) float32 of an organised cloud in metres. UserError: unreadable, or see `checked_cloud`."""
    return checked_cloud(read_array(path), path)


def checked_cloud(xyz: np.ndarray, name: object) -> np.ndarray:
    """What `read_xyz` returns, of an array in memory, in either byte order. name: of it, for errors.

    Raises:
        UserError: wrong shape or dtype, NaN or infinity, or coordinates that cannot be metres.
    """
    if xyz.ndim != 3 or xyz.shape[2] != 3:
        raise UserError(
            f"{name}: expected an organised cloud of shape (height, width, 3), found {xyz.shape}. "
            "Write x, y, z in metres as the three channels of one float32 TIFF."
        )
    if xyz.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise UserError(f"{name}: expected float32 coordinates in metres, found {xyz.dtype}. Write float32 metres.")
    with np.errstate(over="ignore"):
        xyz = xyz.astype(np.float32, copy=False)
    if not np.isfinite(xyz).all():
        bad = np.count_nonzero(~np.isfinite(xyz).all(axis=2))
        raise UserError(f"{name}: {bad} points are NaN or infinite. Write invalid points as (0, 0, 0).")
    if (fault := unit_fault(xyz)) is not None:
        raise UserError(
            f"{name}: expected metres, {fault}. Write x, y, z in metres (processing/convert_rgbd.py --unit does)."
        )
    return xyz


def read_array(path: Path) -> np.ndarray:
    """The array of a TIFF or NPY file, of any shape and kind of number, in the machine's byte order.

    Raises:
        UserError: it cannot be read, or holds more than one array.
    """
    array = read_with(path, _load_npy if path.suffix.lower() == ".npy" else _load_tiff, _RESTORE)
    if array.dtype.kind not in "uif" or array.size == 0:
        raise UserError(f"{path}: expected real numbers, found shape {array.shape} and {array.dtype}. {_RESTORE}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_gt(path: Path) -> np.ndarray:
    """(h, w) bool, True = anomalous: above 0 in any channel, of a palette's colours; what is transparent is not.

    Raises:
        UserError: it cannot be read as a mask.
    """
    return mask_of(open_image(path), path)


def mask_of(image: Image.Image, path: Path) -> np.ndarray:
    """What `read_gt` returns, of an image that was opened from `path`, with the same error."""
    refuse_misread(image, path)
    if image.mode in ("P", "PA", "LA", "RGBA"):
        values = np.asarray(image.convert("RGBA"))
        shown: np.ndarray = (values[..., :3] > 0).any(axis=2) & (values[..., 3] > 0)
        return shown
    if image.mode not in ("1", "L", "RGB", "I") and not image.mode.startswith("I;16"):
        raise UserError(f"{path}: expected an 8-bit grey mask, found mode {image.mode}. Convert it to 8-bit grey.")
    mask: np.ndarray = np.asarray(image) > 0
    return mask if mask.ndim == 2 else np.any(mask, axis=2)


def check_mask(gt: np.ndarray, is_good: bool, path: Path) -> None:
    """Refuse an (h, w) bool mask that says something else than the folder of its sample.

    Raises:
        UserError: a good sample's marks anything, or a defective one's nothing. Names its file.
    """
    if not is_good and not gt.any():
        raise UserError(
            f"{path}: the mask of a defect marks nothing, expected values above 0 on it: figures of pixels would take "
            "the defect for normal. Draw it, move the sample to good/, or remove it."
        )
    if is_good and gt.any():
        raise UserError(
            f"{path}: a mask in good/ must be all zero, {np.count_nonzero(gt)} pixels are not. Move the sample to a "
            "defect folder or clear its mask."
        )


def read_stamp(path: Path) -> dict[str, Any] | None:
    """What preprocessing wrote into a cloud's file (`processing.manifest.write_cloud`); None where there is nothing.

    A file that was cut short has no stamp either.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            stamp = json.loads(page.tags["ImageDescription"].value)
            whole = page.dataoffsets[-1] + page.databytecounts[-1] <= path.stat().st_size
    except Exception:  # missing, broken, or somebody else's file: libraries fail in many ways
        return None
    known = isinstance(stamp, dict) and isinstance(stamp.get("preprocessing"), dict)
    return stamp if whole and known else None


def refuse_raw(xyz: np.ndarray, path: Path, dataset_path: Path, rgb_size: tuple[int, ...] | None = None) -> None:
    """Refuse a scan whose background plane is still there (`datasets.raw_scans.is_raw`), unless its file has a stamp.

    Of a cloud that was zero-padded to a square, the area without the padding is judged. A stamped one may be a flat
    part that fills the frame.

    Args:
        xyz: (h, w, 3), invalid points (0, 0, 0).
        path: its file, for the message.
        dataset_path: root of the dataset, for the command in the message.
        rgb_size: (height, width) of the RGB, from which the padding is known.

    Raises:
        UserError: the scan is raw.
    """
    if rgb_size is not None and xyz.shape[:2] != rgb_size:
        xyz = unpad(xyz, rgb_size)
    if is_raw(xyz) and read_stamp(path) is None:
        raise UserError(
            f"{path}: raw data, the plane that the part lies on is still there and reaches the frame's border; "
            "expected a cloud without it. Preprocess the dataset and pass the new folder: "
            f"python processing/preprocess_mvtec.py {shlex.quote(str(dataset_path))} (a flat part that fills the "
            "frame: processing/convert_rgbd.py --background none)"
        )


def _load_image(path: Path) -> Image.Image:
    with Image.open(path, formats=FORMATS) as image:
        _check_size(image.width * image.height)
        refuse_misread(image, path)
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            with _open_tiff(path) as file:
                _check_count(path, sum(not page.is_reduced for page in file.pages), "pages")
        image.load()
        return image


def _load_tiff(path: Path) -> np.ndarray:
    """The one series of a TIFF: programs write a cloud as one page or as a page a row."""
    with _open_tiff(path) as file:
        every = file.series
        full = [series for series in every if not series.keyframe.is_reduced]  # previews do not count
        _check_count(path, len(full), "arrays of different kind")
        series = (full or every)[0]
        _check_size(series.size // 3)
        return series.asarray()


def _open_tiff(path: Path) -> tifffile.TiffFile:
    return tifffile.TiffFile(path, is_ome=False, is_mmstack=False)  # these two name other files to read


def _check_count(path: Path, count: int, what: str) -> None:
    if count > 1:
        raise UserError(
            f"{path}: holds {count} {what}, expected one: which of them is meant is not known. Write that one alone."
        )


def _load_npy(path: Path) -> np.ndarray:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a file that is shorter than it declares
    if not isinstance(mapped, np.ndarray):
        raise ValueError("an archive, expected one array")
    _check_size(mapped.size // 3)
    return np.array(mapped)


def _check_size(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise ValueError(f"declares {pixels} pixels, expected at most {MAX_PIXELS}")
