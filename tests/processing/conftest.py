"""Small raw datasets: a dome on a tilted plane, and generated scenes as a depth camera stores them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.scenes import Scene, render_scene


@pytest.fixture(scope="session")
def raw_scan() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(height, width, generator) -> RGB, cloud, and where the dome is at least 5 mm high."""
    return _raw_scan


@pytest.fixture(scope="session")
def write_sample() -> Callable[..., None]:
    """(folder of the defect, stem, RGB, cloud, mask or None) writes the files of one sample."""
    return _write_sample


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """(root, samples a folder, (height, width)) writes one class "part" in all splits, and returns root."""
    return _write_dataset


@pytest.fixture(scope="session")
def rgbd_scenes() -> dict[str, Scene]:
    """Generated scenes, 120×120, by split, defect and stem."""
    parts = {"train/good/000": None, "train/good/001": None, "test/good/000": None, "test/hole/000": "hole"}
    return {part: render_scene("gear", defect, 120, seed) for seed, (part, defect) in enumerate(parts.items())}


@pytest.fixture
def realsense(tmp_path: Path, rgbd_scenes: dict[str, Scene]) -> Path:
    """RGB and 16-bit depth in tenths of a millimetre, masks of defects, one JSON as the camera's SDK gives it."""
    root = tmp_path / "scans"
    for part, scene in rgbd_scenes.items():
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.rgb).save(root / f"{part}_color.png", compress_level=1)
        depth = Image.fromarray(np.rint(scene.xyz[..., 2] * 10_000).astype(np.uint16))
        depth.save(root / f"{part}_depth.png", compress_level=1)
        if "hole" in part:
            Image.fromarray(scene.gt).save(root / f"{part}_mask.png")
    camera = rgbd_scenes["test/hole/000"].camera
    pinhole = {"fx": camera.focal, "fy": camera.focal, "ppx": camera.cx, "ppy": camera.cy}
    content = pinhole | {"width": 120, "height": 120, "coeffs": [0, 0, 0, 0, 0], "depth_scale": 0.0001}
    (root / "camera.json").write_text(json.dumps(content))
    return root


def _raw_scan(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A white dome on a grey tilted plane that is valid data, 1 mm a pixel: RGB, cloud, where the dome is 5 mm high."""
    v, u = np.mgrid[:height, :width]
    x, y = (u - 0.31 * width) * 1e-3, (v - 0.27 * height) * 1e-3
    centre = np.array([height, width]) / 2 + rng.uniform(-5, 5, 2)
    radius = 0.3 * min(height, width)
    dome = 0.02 * np.clip(1 - ((v - centre[0]) ** 2 + (u - centre[1]) ** 2) / radius**2, 0, 1)
    tilt = rng.uniform(-0.1, 0.1, 2)
    normal = np.array([-tilt[0], -tilt[1], 1]) / np.linalg.norm([-tilt[0], -tilt[1], 1])
    xyz = np.stack([x, y, 0.6 + tilt[0] * x + tilt[1] * y + rng.normal(0, 4e-5, x.shape)], axis=-1)
    xyz = (xyz - dome[..., None] * normal).astype(np.float32)
    xyz[rng.random(x.shape) < 0.01] = 0
    rgb = np.where(dome[..., None] > 0, 240, 90).astype(np.uint8) + rng.integers(0, 5, (height, width, 3), np.uint8)
    return rgb, xyz, (dome >= 0.005) & (xyz != 0).all(axis=2)


def _write_sample(folder: Path, stem: str, rgb: np.ndarray, xyz: np.ndarray, gt: np.ndarray | None) -> None:
    for kind in ("rgb", "xyz") if gt is None else ("rgb", "xyz", "gt"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(folder / "rgb" / f"{stem}.png", compress_level=1)
    tifffile.imwrite(folder / "xyz" / f"{stem}.tiff", xyz, photometric="rgb")
    if gt is not None:
        Image.fromarray(gt).save(folder / "gt" / f"{stem}.png")


def _write_dataset(root: Path, count: int = 2, size: tuple[int, int] = (90, 120)) -> Path:
    rng = np.random.default_rng(0)
    parts = ("train/good", "validation/good", "test/good", "test/hole")
    for part, index in ((part, index) for part in parts for index in range(count)):
        rgb, xyz, _ = _raw_scan(*size, rng)
        gt = np.zeros(size, np.uint8)
        gt[40:50, 50:70] = 253 if part == "test/hole" else 0
        _write_sample(root / "part" / part, f"{index:03d}", rgb, xyz, gt if part.startswith("test") else None)
    (root / "part" / "calibration").mkdir()
    (root / "part" / "calibration" / "camera_parameters.json").write_text("{}")
    (root / "license.txt").write_text("free")
    return root
