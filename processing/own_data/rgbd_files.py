"""One sample of people's own RGB + depth (or organised cloud) files → its files in the layout of MVTec 3D-AD."""

import filecmp
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.frames import BORDER, border_share, valid_points
from datasets.raw_scans import REACH
from datasets.readers import check_mask, open_image, read_array, read_gt, read_rgb
from datasets.records import SUFFIXES
from datasets.units import likely_unit, unit_fault
from processing.background.clean_files import copy_file
from processing.background.removal import object_mask
from processing.bulk import Outcome
from processing.manifest import write_cloud
from processing.own_data.cloud_files import read_cloud, read_coloured_cloud
from processing.own_data.rgbd_depth import depth_to_points, division_scale, measured, to_cloud
from processing.own_data.rgbd_jobs import Job
from utils.errors import UserError
from utils.files import atomic_path, sha256_files

_NEAR, _FAR = 0.01, 15.0  # metres from the camera to expect of half of the points
_UNIT = "Check --unit, or the depth_scale of the camera's file."
_OTHERS = "Other ways: --background depth-range, mask, or none."


def convert(job: Job) -> Outcome:
    """Convert one sample. The cloud is written last: its stamp says that all files of the sample are finished."""
    try:
        if job.problem is not None:
            raise UserError(job.problem)
        rgb, stored = _read_files(job)
        _check_images(job, rgb.shape[:2])
        _check_target(job, rgb)
        scan = _in_metres(job, stored)
        _check_distance(job, scan)
        kept = _foreground(job, scan)
        cloud = np.where(kept[..., None], scan, np.float32(0))
        share = round(float(np.count_nonzero(cloud[..., 2])) / kept.size, 6)
        if not share:
            raise UserError(
                f"{job.geometry}: nothing is left after --background {job.done.background}; expected an object. "
                f"{_too_far(job, scan)}{_other_ways(scan)}"
            )
        if fault := unit_fault(cloud):
            raise UserError(f"{job.geometry}: {fault}. {_UNIT}")
        for kind, path in job.copies().items():
            copy_file(job.sources[kind], path)
        if "rgb" not in job.sources:
            with atomic_path(job.rgb) as temporary:
                Image.fromarray(rgb).save(temporary)
        write_cloud(job.target / job.name, cloud, job.done, share, sha256_files(job.compared()))
    except UserError as error:
        return Outcome(job.name, None, str(error))
    return Outcome(job.name, share, None)


def _read_files(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) uint8 RGB, and depth (h, w) or cloud (h, w, 3) as stored: equal in size, files that can be copied."""
    for kind in job.copies():
        if job.sources[kind].suffix.lower() not in SUFFIXES[kind]:
            raise UserError(
                f"{job.sources[kind]}: expected a file as {', '.join(SUFFIXES[kind])}. Convert it to PNG, which loses "
                "nothing."
            )
    path = job.geometry
    if "rgb" not in job.sources:
        stored, rgb = read_coloured_cloud(path, job.done.size)
        return rgb, stored
    rgb = read_rgb(job.sources["rgb"])
    height, width = rgb.shape[:2]
    _check_camera(job, width, height)
    stored = _read_depth(path) if "depth" in job.sources else read_cloud(path, (height, width))
    _check_size(path, stored.shape, (height, width))
    return rgb, stored


def _check_images(job: Job, shape: tuple[int, ...]) -> None:
    """Refuse a mask that does not fit the (h, w) image, or what its folder says."""
    if (path := job.sources.get("gt")) is not None:
        mask = read_gt(path)
        _check_size(path, mask.shape, shape)
        check_mask(mask, job.folder.endswith("/good"), path)


def _check_target(job: Job, rgb: np.ndarray) -> None:
    """Refuse to replace another sample: an RGB image with other content, or a file of the same stem."""
    source = job.sources.get("rgb", job.geometry)
    clash = []
    for path, kind in ((job.rgb, "rgb"), *((path, kind) for kind, path in job.copies().items() if kind != "rgb")):
        other = [path.with_suffix(suffix) for suffix in SUFFIXES[kind] if suffix != path.suffix]
        clash += [sibling for sibling in other if sibling.exists()]
    if "rgb" in job.sources:
        same = not job.rgb.exists() or filecmp.cmp(source, job.rgb, shallow=False)
    else:
        same = not job.rgb.exists() or np.array_equal(read_rgb(job.rgb), rgb)
    if clash or not same:
        there = clash[0] if clash else job.rgb
        raise UserError(
            f"{source}: would become {job.rgb}, but {there} is there with other content, from an earlier call. Give "
            "the sample another name ({stem}), or remove that file if this one replaces it."
        )


def _check_camera(job: Job, width: int, height: int) -> None:
    """Refuse a camera that cannot be that of a width × height image, or of a part cut out of a larger one."""
    camera = job.done.camera
    if camera is None:
        return
    scaled = "if the images were scaled, fx, cx and fy, cy scale with width and height."
    if camera.size not in (None, (width, height)):
        raise UserError(
            f"{job.sources['rgb']}: is {width}×{height} (W×H), {job.sources['intrinsics']} is for "
            f"{camera.size[0]}×{camera.size[1]}. Pass the intrinsics of this resolution; {scaled}"
        )
    if not (-width <= camera.cx <= 2 * width and -height <= camera.cy <= 2 * height):
        raise UserError(
            f"{job.sources['rgb']}: is {width}×{height} (W×H), the principal point of "
            f"{job.sources.get('intrinsics', '--camera')} is ({camera.cx:g}, {camera.cy:g}), more than a whole image "
            f"outside of it. Pass the intrinsics of this resolution, in pixels; {scaled}"
        )
    a, b = (np.array([0, width - 1]) - camera.cx) / camera.fx, (np.array([0, height - 1]) - camera.cy) / camera.fy
    if (least := division_scale(a, b[:, None], camera.division).min()) <= 0:
        raise UserError(
            f"{job.sources['intrinsics']}: its kappa makes 1 + kappa·r² {least:.3g} in a corner of the image, expected "
            "above 0. Correct the file: kappa is in 1/m², focus, sx and sy in metres."
        )


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found[:2] != expected:
        raise UserError(
            f"{path}: is {found[1]}×{found[0]}, its RGB {expected[1]}×{expected[0]} (W×H). Expected equal sizes, pixel "
            "by pixel the same view: align depth to colour in the camera's software (RealSense: align) and export "
            "again. Nothing is resized here."
        )


def _in_metres(job: Job, stored: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 metres, (0, 0, 0) where nothing was measured, of what `_read_files` returns."""
    path, done = job.geometry, job.done
    depth = "depth" in job.sources
    valid = measured(stored, done.invalid)
    z = stored if depth else stored[..., 2]
    if np.count_nonzero(z[valid] < 0) > np.count_nonzero(valid) / 2:
        raise UserError(
            f"{path}: z is negative in most points; expected the distance along the optical axis, growing away from "
            "the camera. Export the cloud in the camera's own frame (x right, y down, z forward)."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        if not depth:
            assert done.unit is not None
            return to_cloud(stored.astype(np.float64) * done.unit, valid)
        camera = done.camera
        assert camera is not None
        assert camera.depth_scale is not None
        metres = stored.astype(np.float64) * camera.depth_scale
        points = depth_to_points(metres, camera.fx, camera.fy, camera.cx, camera.cy, camera.division)
        return to_cloud(points, valid)


def _read_depth(path: Path) -> np.ndarray:
    """(h, w) numbers as stored."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        stored = np.asarray(open_image(path))
        if stored.dtype == np.int32:
            stored = stored.astype(np.uint16)  # what older Pillows make of 16 bits
    elif suffix in (".tif", ".tiff", ".npy"):
        stored = read_array(path)
    else:
        raise UserError(f"{path}: expected depth as 16-bit PNG, TIFF or NPY. Export it as one of these.")
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[2]):
        stored = stored[..., 0] if stored.shape[2] == 1 else stored[0]
    if stored.ndim != 2 or stored.dtype.itemsize == 1:
        raise UserError(
            f"{path}: expected one number of 16 bits or more for each pixel, found shape {stored.shape} and "
            f"{stored.dtype}: a preview picture, not depth? Export the measured depth (16-bit PNG, TIFF or NPY)."
        )
    return stored


def _check_distance(job: Job, cloud: np.ndarray) -> None:
    """Refuse a cloud without points, and one whose unit cannot be right."""
    z = cloud[..., 2][cloud[..., 2] != 0]
    if not z.size:
        raise UserError(f"{job.geometry}: no valid point; expected a scan. Check --unit and --invalid, or remove it.")
    if not _NEAR <= (middle := float(np.median(z))) <= _FAR:
        factor = (likely_unit(cloud) or (np.nan, ""))[0]
        unit = job.done.unit if job.done.camera is None else job.done.camera.depth_scale
        other = f" With --unit {factor * (unit or 1):g} it would be {factor * middle:.3g} m."
        raise UserError(
            f"{job.geometry}: z is around {middle:.4g} m, expected {_NEAR:g} to {_FAR:g} m from the camera. {_UNIT}"
            f"{other if factor == factor else ''}"
        )


def _other_ways(cloud: np.ndarray) -> str:
    """What to do where a cloud's background cannot be cut away."""
    return f"{_range(cloud)} {_UNIT} {_OTHERS}"


def _range(cloud: np.ndarray) -> str:
    z = cloud[..., 2][cloud[..., 2] != 0]
    return f"z is {z.min():.3g} to {z.max():.3g} m."


def _too_far(job: Job, cloud: np.ndarray) -> str:
    """A reason for finding nothing on the plane: points so far apart that none has the neighbours of a cluster."""
    beside = np.linalg.norm(cloud[:, 1:] - cloud[:, :-1], axis=2)[(cloud[:, 1:, 2] > 0) & (cloud[:, :-1, 2] > 0)]
    spacing, settings = float(np.median(beside)) if beside.size else 0.0, job.done.settings
    if (
        job.done.background != "plane"
        or np.pi * (settings.cluster_eps / max(spacing, 1e-9)) ** 2 >= settings.cluster_min_points
    ):
        return ""
    return (
        f"Points lie {1000 * spacing:.2g} mm apart: too far for the method, which looks for "
        f"{settings.cluster_min_points} within {1000 * settings.cluster_eps:g} mm; record from nearer or finer. "
    )


def _foreground(job: Job, cloud: np.ndarray) -> np.ndarray:
    """(h, w) bool, True where the object is."""
    done, path = job.done, job.geometry
    if done.background == "mask":
        mask = read_gt(job.sources["foreground"])
        _check_size(job.sources["foreground"], mask.shape, (cloud.shape[0], cloud.shape[1]))
        return mask
    if done.background == "depth-range":
        assert done.depth_range is not None
        near, far = done.depth_range
        return (cloud[..., 2] >= near) & (cloud[..., 2] <= far)
    if done.background == "none":
        return np.ones(cloud.shape[:2], bool)
    if (share := border_share(valid_points(cloud))) < REACH:
        raise UserError(
            f"{path}: {share:.0%} of the {BORDER}-pixel frame border is valid, elsewhere nothing was measured (0 or "
            "NaN); --background plane expects a flat ground that reaches the frame border. Crop RGB and depth alike, "
            f"or cut in another way. {_range(cloud)} {_OTHERS}"
        )
    try:
        return object_mask(cloud, np.random.default_rng([done.seed, zlib.crc32(job.name.encode())]), done.settings)
    except UserError as error:
        raise UserError(f"{path}: {error}. {_other_ways(cloud)}") from error
