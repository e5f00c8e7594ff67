"""Read single files as arrays and refuse what they should not be. Free of torch, so that light scripts start fast."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from datasets.frames import BORDER, border_share, unpad
from utils.errors import UserError


def open_image(path: Path) -> Image.Image:
    """PIL image, fully read. Raises UserError if it cannot be."""
    return _read(path, _load_image)


def read_rgb(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 of an 8-bit image file. Raises UserError if it cannot be read as one."""
    image = open_image(path)
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: expected an 8-bit colour image, found mode {image.mode}. Convert it to 8-bit RGB.")
    return np.array(image.convert("RGB"))


def read_xyz(path: Path) -> np.ndarray:
    """(h, w, 3) float32 of an organised cloud in metres. UserError: unreadable, wrong shape or dtype, NaN, infinity."""
    xyz = _read(path, tifffile.imread)
    if xyz.ndim != 3 or xyz.shape[2] != 3:
        raise UserError(
            f"{path}: expected an organised cloud of shape (height, width, 3), found {xyz.shape}. "
            "Write x, y, z in metres as the three channels of one float32 TIFF."
        )
    if xyz.dtype not in (np.float32, np.float64):
        raise UserError(f"{path}: expected float32 coordinates in metres, found {xyz.dtype}. Write float32 metres.")
    with np.errstate(over="ignore"):
        xyz = xyz.astype(np.float32, copy=False)
    if not np.isfinite(xyz).all():
        bad = np.count_nonzero(~np.isfinite(xyz).all(axis=2))
        raise UserError(f"{path}: {bad} points are NaN or infinite. Write invalid points as (0, 0, 0).")
    return xyz


def read_gt(path: Path) -> np.ndarray:
    """(h, w) bool, True = anomalous (value > 0 in any channel). Raises UserError if it cannot be read as a mask."""
    image = open_image(path)
    if image.mode not in ("1", "L", "RGB", "I;16", "I"):
        raise UserError(f"{path}: expected an 8-bit grey mask, found mode {image.mode}. Convert it to 8-bit grey.")
    mask: np.ndarray = np.asarray(image) > 0
    return mask if mask.ndim == 2 else np.any(mask, axis=2)


def refuse_raw(xyz: np.ndarray, path: Path, dataset_path: Path, rgb_size: tuple[int, ...] | None = None) -> None:
    """Refuse a scan whose background plane is still there: more than half of its border is valid.

    The border is the outer 10 pixels of the frame, where the published preprocessing fits the plane. Of a cloud that
    was zero-padded to a square, the area without the padding is judged.

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
    share = border_share((xyz != 0).all(axis=2))
    if share > 0.5:
        raise UserError(
            f"{path}: raw data, {share:.0%} of the {BORDER}-pixel frame border is valid; expected a cloud without its "
            "background plane. Preprocess the dataset and pass the new folder: "
            f"python processing/preprocess_mvtec.py {shlex.quote(str(dataset_path))}"
        )


def _read(path: Path, reader: Any) -> Any:
    """`reader(path)`; whatever it raises becomes a UserError, since broken files fail in many ways in the libraries."""
    try:
        return reader(path)
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Restore the file from its source or remove "
            "the sample."
        ) from error


def _load_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image
