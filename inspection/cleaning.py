"""Raw scans → what a detector was trained on: the same background removal, with the settings of its training data."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from datasets.frames import valid_points
from datasets.raw_scans import is_raw
from processing.background.removal import BackgroundSettings, object_mask
from utils.errors import UserError


def needs_cleaning(xyz: np.ndarray, preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether an (h, w, 3) cloud of unknown make is to be cleaned: its background plane is still there, or what is cut
    is a range of depths, which changes nothing the second time."""
    return is_raw(xyz) or _recipe(preprocessing)[1].get("background") == "depth-range"


def clean(
    rgb: np.ndarray, xyz: np.ndarray, preprocessing: Mapping[str, Any] | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Remove the background of a raw scan.

    Args:
        rgb: (h, w, 3) uint8.
        xyz: (h, w, 3) float32 metres, invalid points (0, 0, 0).
        preprocessing: of the training data, as checkpoints hold it; None takes the published recipe for MVTec 3D-AD.

    Returns:
        RGB and cloud, outside the object black (family a only) and (0, 0, 0); None where the training data kept what
        fills the frame.

    Raises:
        UserError: the background cannot be found, nothing is left, or it was removed by means that a single scan lacks.
    """
    family, settings = _recipe(preprocessing)
    background = settings.get("background", "plane")
    if background == "none":
        return None
    if background == "depth-range":
        near, far = _numbers(settings.get("depth_range"), 2)
        mask = valid_points(xyz) & (xyz[..., 2] >= near) & (xyz[..., 2] <= far)
    elif family in ("a", "b", "rgbd") and background == "plane":
        names = [field.name for field in fields(BackgroundSettings) if field.name in settings]
        values = _numbers([settings[name] for name in names], len(names))
        chosen = BackgroundSettings(**dict(zip(names, values, strict=True)))
        generator = np.random.default_rng([zlib.crc32(np.ascontiguousarray(xyz).tobytes())])
        mask = object_mask(xyz, generator, chosen)
    else:
        way = "masks" if background == "mask" else f"the conversion of family {family}"
        raise UserError(
            f"raw cloud, its background is still there. The detector's training data was cleaned by {way}, which takes "
            "more than the scan: clean it in the same way first (processing/convert_rgbd.py, preprocess_eyecandies.py)."
        )
    if not mask.any():
        raise UserError("nothing is left of the cloud without its background; expected an object, in metres.")
    if family == "a":
        rgb = np.where(mask[..., None], rgb, np.uint8(0))
    return rgb, np.where(mask[..., None], xyz, np.float32(0))


def _recipe(preprocessing: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    """Family and settings. Raises UserError where they are none."""
    if preprocessing is None:
        return "b", {}
    known = isinstance(preprocessing, Mapping)
    family, settings = (preprocessing.get(name) if known else None for name in ("family", "settings"))
    if not isinstance(family, str) or not isinstance(settings, Mapping):
        raise _unknown(preprocessing)
    return family, settings


def _numbers(values: Any, count: int) -> Sequence[Any]:
    """The values. Raises UserError unless they are so many numbers."""
    good = isinstance(values, Sequence) and len(values) == count
    if not good or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise _unknown(values)
    return values


def _unknown(found: object) -> UserError:
    return UserError(f"the checkpoint's settings: expected how its training data was cleaned, found {found!r:.100}.")
