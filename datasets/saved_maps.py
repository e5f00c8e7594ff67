"""Anomaly maps that any method saved as `<maps>/<class>/test/<defect>/<stem>.tiff`, with the masks of a dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.frames import fit_mask
from datasets.readers import check_mask, read_array, read_gt
from datasets.records import Record
from utils.errors import UserError

SUFFIXES = (".tiff", ".tif")


def find_maps(folder: Path, records: Sequence[Record]) -> tuple[list[Path], list[Path]]:
    """The maps of all test images of one class. Hidden files are not looked at.

    Args:
        folder: `<maps>/<class>/test`.
        records: of the class's test images.

    Returns:
        The map of each record, in their order, and the maps that belong to none of them.

    Raises:
        UserError: an image has no map, or two.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        other = found.setdefault((path.parent.name, path.stem), path)
        if other != path:
            raise UserError(f"{path}: expected one map an image, found {other.name} beside it. Remove one of the two.")
    missing = [record for record in records if (record.defect, record.stem) not in found]
    if missing:
        names = ", ".join(f"{record.defect}/{record.stem}.tiff" for record in missing[:5])
        raise UserError(
            f"{folder}: expected one map for each of {len(records)} test images, {len(missing)} are missing: {names}"
            f"{', …' if len(missing) > 5 else ''}. Save them, or name other classes by --evaluated_objects."
        )
    paths = [found.pop((record.defect, record.stem)) for record in records]
    return paths, list(found.values())


def load_map(path: Path, record: Record) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """A saved map and the mask of its image at the map's size, see `datasets.frames.fit_mask`.

    Args:
        path: TIFF of one map.
        record: the image that it belongs to.

    Returns:
        (H, W) scores of the file's own type; (H, W) bool, True = anomalous, or None where a defect has no mask; and
        whether the map was taken as that of the padded image.

    Raises:
        UserError: a file cannot be read; no map (H, W); NaN or infinity; a size that does not fit the mask; a good
            image with anomalous pixels, or a mask of a defect without any.
    """
    values = read_array(path)
    if values.ndim != 2:
        raise UserError(f"{path}: expected one map (height, width), found shape {values.shape}. Save one channel.")
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise UserError(f"{path}: {bad} of {values.size} scores are NaN or infinite. Save finite scores.")
    if record.gt is None:
        return values, None if record.lacks_mask else np.zeros(values.shape, bool), False
    gt = read_gt(record.gt)
    check_mask(gt, record.is_good, record.gt)
    try:
        padded = values.shape[0] == values.shape[1] and gt.shape[0] != gt.shape[1]
        return values, fit_mask(gt, values.shape), padded
    except ValueError as error:
        raise UserError(f"{path}: {error} ({record.gt.name} of {record}). Save the map at the image's size.") from error
