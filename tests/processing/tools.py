"""What several tests of data preparation need."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from processing import convert_rgbd

LAYOUT = "{split}/{defect}/{stem}"


def tree(root: Path) -> dict[str, bytes]:
    """Content of each file by its path below `root`."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def save(path: Path, array: np.ndarray) -> None:
    """Write an array as its suffix says: NPY, TIFF or an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def valid(cloud: np.ndarray) -> np.ndarray:
    """(h, w) bool, True where a point is valid."""
    return (cloud != 0).all(axis=-1)


def convert(root: Path, *options: Any, only: str = LAYOUT, gt: bool = True) -> int:
    """Convert the files of the fixture `realsense` to the folder "out" beside them."""
    command = ["--rgb", f"{root}/{only}_color.png", "--depth", f"{root}/{only}_depth.png", "--workers", "1"]
    command += ["--gt", f"{root}/{LAYOUT}_mask.png"] if gt else []
    if "--camera" not in options and "--intrinsics" not in options:
        command += ["--intrinsics", f"{root}/camera.json"]
    defaults = ["--class_name", "bolt", "--target_dir", str(root.with_name("out"))]
    return convert_rgbd.main([*command, *defaults, *map(str, options)])
