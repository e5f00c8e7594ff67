"""Intrinsics of a pinhole camera, from the files that camera software and data sets come with.

Told apart by content: RealSense (fx, fy, ppx, ppy), Zivid (CameraMatrix), BOP (scene_camera.json with cam_K for each
image, camera.json), MVTec 3D-AD (calibration/camera_parameters.json, a camera of HALCON), and 3×3 matrices as OpenCV,
ROS and Open3D write them.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils.errors import UserError
from utils.files import read_text, read_with

MAX_YAML = 1 << 18  # characters; parsing them takes some five seconds
MAX_UNIT = 0.01  # metres per stored unit, a centimetre; larger scales of files are in something else than metres

_FOCAL_KEYS = (
    ("fx", "fy", "ppx", "ppy"),
    ("fx", "fy", "cx", "cy"),
)
_HALCON_TYPE = "area_scan_division"
_HALCON_KEYS = ("focus", "sx", "sy", "cx", "cy", "kappa")
_MATRIX_KEYS = ("cam_k", "k", "camera_matrix", "intrinsic_matrix")
_SIZE_KEYS = (("width", "height"), ("image_width", "image_height"))
_ADVICE = "Pass a JSON or YAML file with fx, fy, cx, cy in pixels, or give the four numbers with --camera."


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera; pixel centres have integer coordinates.

    Attributes:
        fx, fy: focal lengths in pixels, > 0.
        cx, cy: principal point in pixels.
        depth_scale: metres per stored unit of depth, where the file says so; else None.
        vague_scale: a depth_scale of the file that may be in metres, in millimetres or in units per metre.
        size: (width, height) in pixels of the images that it belongs to, where the file says so.
        distorted: whether the file has lens distortion that is not applied.
        division: coefficient of the division model of lens distortion, which is applied (`rgbd_depth.depth_to_points`).
    """

    fx: float
    fy: float
    cx: float
    cy: float
    depth_scale: float | None = None
    vague_scale: float | None = None
    size: tuple[int, int] | None = None
    distorted: bool = False
    division: float = 0.0


class _Loader(yaml.SafeLoader):
    """Plain data only, OpenCV's matrices as mappings, and no aliases, by which a small file may hold huge values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not expected in a camera file")
        return super().compose_node(parent, index)


_Loader.add_constructor(
    "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def read_camera_file(path: Path) -> dict[str, Any]:
    """What a JSON or YAML file says, unchecked. Raises UserError if it cannot be read as a mapping."""
    content = read_with(path, _load, _ADVICE)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected names and numbers, found {type(content).__name__}. {_ADVICE}")
    return content


def find_intrinsics(content: dict[str, Any], path: Path, stem: str) -> Intrinsics:
    """Intrinsics from the content of a camera file.

    Args:
        content: of `read_camera_file`.
        path: the file, for messages.
        stem: of the image; BOP's scene_camera.json has an entry for each image, by int(stem).

    Raises:
        UserError: no camera found, several different ones, one of another kind, or numbers that cannot be.
    """
    if content and all(str(key).isdecimal() for key in content):
        content = _of_image(content, path, stem)
    sections = list(_sections(content))
    found: dict[tuple[float, ...], dict[str, Any]] = {}
    for section in sections:
        if (camera := _pinhole(section) or _halcon(section, path)) is not None:
            found.setdefault(camera, section)
    if len(found) != 1:
        names = ", ".join(map(str, list(content)[:10])) or "nothing"
        what = f"{len(found)} different cameras" if found else f"none, but {names}"
        raise UserError(f"{path}: expected the intrinsics of one camera, found {what}. {_ADVICE}")
    numbers, section = next(iter(found.items()))
    fx, fy, cx, cy, *division = numbers
    if not (all(map(math.isfinite, numbers)) and fx > 0 and fy > 0):
        raise UserError(
            f"{path}: expected focal lengths above 0 and a principal point, in pixels, found {numbers}. {_ADVICE}"
        )
    known = _lower(content) | section
    scale = _number(known.get("depth_scale"))
    if scale is not None and not 0 < scale < math.inf:
        raise UserError(f"{path}: expected a depth_scale above 0, found {scale}. Correct it in the file.")
    metres = None
    if scale is not None and "ppx" in known:
        metres = scale
    elif scale is not None and "cam_k" in known:
        metres = scale / 1000
    if metres is not None and metres > MAX_UNIT:
        metres = None
    distorted = any(value != 0 for part in sections for value in _distortion(part))
    vague = scale if metres is None else None
    return Intrinsics(fx, fy, cx, cy, metres, vague, _size(known), distorted, *division)


def depth_unit(asked: float | None, camera: Intrinsics, where: str) -> float:
    """Metres per stored unit of depth: from the user, or from the camera's file. Never assumed.

    Args:
        asked: what the user said, or None.
        camera: the camera of the depth image.
        where: the camera's file, for messages.

    Raises:
        UserError: neither says it, or they say different things.
    """
    said = camera.depth_scale
    if asked is None:
        if said is not None:
            return said
        usual = "usual values: mm (most cameras, RealSense D400), 0.0001 (RealSense D405), m (images of real numbers)"
        if (vague := camera.vague_scale) is not None:
            usual = f"its depth_scale {vague:g} means --unit {vague:g} if in metres, {vague / 1000:g} if in millimetres"
            usual += f", {1 / vague:g} if it is units per metre" if vague > 1 else ""
        raise UserError(
            f"{where}: does not say how many metres one unit of the depth images is, and it is never assumed. Pass "
            f"--unit; {usual}."
        )
    if said is not None and not math.isclose(asked, said, rel_tol=1e-6):
        raise UserError(
            f"{where}: says that one unit of depth is {said:g} m, --unit says {asked:g} m. Leave --unit out if the "
            "file is right, else correct the file."
        )
    return asked


def _load(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError:
        pass
    if len(text) > MAX_YAML:
        raise ValueError(f"no JSON, and too long for YAML: {len(text)} characters, expected at most {MAX_YAML}")
    if text.startswith("%YAML:"):  # OpenCV's own spelling of the directive
        text = text.partition("\n")[2]
    return yaml.load(text, _Loader)


def _of_image(content: dict[str, Any], path: Path, stem: str) -> dict[str, Any]:
    """The entry of one image in a file that is keyed by image numbers."""
    entries = {int(key): value for key, value in content.items()}
    entry = entries.get(int(stem)) if stem.isdecimal() else None
    if not isinstance(entry, dict):
        raise UserError(
            f"{path}: expected an entry for image {stem}, found those of {len(entries)} images from {min(entries)} to "
            f"{max(entries)}. Pass the file that belongs to the images."
        )
    return entry


def _sections(content: dict[str, Any], depth: int = 2) -> Iterator[dict[str, Any]]:
    """The mapping itself and those in it, `depth` levels down, with names in lower case."""
    section = _lower(content)
    yield section
    for value in section.values():
        if isinstance(value, dict) and depth:
            yield from _sections(value, depth - 1)


def _lower(content: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in content.items()}


def _pinhole(section: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of a mapping that has them."""
    for keys in _FOCAL_KEYS:
        fx, fy, cx, cy = (_number(section.get(key)) for key in keys)
        if fx is not None and fy is not None and cx is not None and cy is not None:
            return fx, fy, cx, cy
    for key in _MATRIX_KEYS:
        numbers = _numbers(section.get(key))
        if len(numbers) == 9:
            matrix = np.array(numbers).reshape(3, 3)
            if matrix[2, 2] == 1 and not matrix[:2, 2].any():
                matrix = matrix.T  # Open3D writes columns
            if matrix[2, 2] == 1 and not matrix[[0, 1, 2, 2], [1, 0, 0, 1]].any():
                return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])
    return None


def _halcon(section: dict[str, Any], path: Path) -> tuple[float, float, float, float, float] | None:
    """fx, fy, cx, cy and the coefficient of the division model of a camera that HALCON calibrated.

    Its parameters (HALCON's operator reference, chapter Calibration): focus, the distance to the image plane, and the
    size sx × sy of a pixel, in metres; kappa, in 1/m², for coordinates on the image plane in metres. With coordinates
    divided by focus, as those of fx and fy are, the coefficient is kappa · focus².
    """
    if (kind := section.get("camera_type")) is None:
        return None
    if kind != _HALCON_TYPE:
        raise UserError(
            f"{path}: expected a camera of the type {_HALCON_TYPE}, found {str(kind)[:40]!r}, whose lens model is not "
            f"known here. Calibrate with the division model. {_ADVICE}"
        )
    values = [_number(section.get(key)) for key in _HALCON_KEYS]
    focus, sx, sy, cx, cy, kappa = (math.nan if value is None else value for value in values)
    if not (all(map(math.isfinite, (focus, sx, sy, cx, cy, kappa))) and min(focus, sx, sy) > 0):
        found = ", ".join(f"{key} {str(section.get(key))[:20]}" for key in _HALCON_KEYS)
        raise UserError(
            f"{path}: expected the numbers of a HALCON camera, focus, sx and sy above 0, found {found}. {_ADVICE}"
        )
    return focus / sx, focus / sy, cx, cy, kappa * focus**2


def _size(section: dict[str, Any]) -> tuple[int, int] | None:
    for keys in _SIZE_KEYS:
        width, height = (_number(section.get(key)) for key in keys)
        if width is not None and height is not None and math.isfinite(width) and math.isfinite(height):
            return int(width), int(height)
    return None


def _distortion(section: dict[str, Any]) -> list[float]:
    """Coefficients of lens distortion, under any of their names."""
    found: list[float] = []
    for key, value in section.items():
        if key.startswith(("distortion", "dist_coeff")) or key in ("coeffs", "d"):
            found += _numbers(value)
    return found


def _numbers(value: Any) -> list[float]:
    """All numbers of a list, of a list of lists, or of a mapping: its `data`, where it has that."""
    if isinstance(value, dict):
        value = value.get("data", list(value.values()))
    if not isinstance(value, list):
        return []
    flat = [inner for item in value for inner in (item if isinstance(item, list) else [item])]
    return [number for item in flat if (number := _number(item)) is not None]


def _number(value: Any) -> float | None:
    """A number, also one that YAML takes for a text, as 1e-3; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
