"""Background removal of generated raw scans, against the same recipe with Open3D's RANSAC and DBSCAN."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Setting, Work
from datasets.frames import border_mask, valid_points
from datasets.scenes import render_scene
from datasets.scenes.defects import DEFECTS
from datasets.scenes.shapes import OBJECT_CLASSES
from datasets.scenes.writer import Counts, write_mvtec3d
from processing.background.removal import object_mask

ROOT = Path(__file__).resolve().parents[1]
SIZES = (400, 800)
TREE = Counts(train=2, validation=0, test=2)  # twenty scans a class


def prepare(setting: Setting, sizes: tuple[int, ...] = SIZES, tree_size: int = 400) -> None:
    """Write the inputs: at each size a good scan and one with a defect of each class, and a raw tree of all classes."""
    for size in sizes:
        folder = setting.folder / f"scans_{size}"
        folder.mkdir()
        for index, class_name in enumerate(sorted(OBJECT_CLASSES)):
            for defect in (None, sorted(DEFECTS)[index % len(DEFECTS)]):
                scene = render_scene(class_name, defect, size, seed=0)
                np.save(folder / f"{class_name}_{defect or 'good'}.npy", scene.xyz)
    write_mvtec3d(setting.folder / "tree", sorted(OBJECT_CLASSES), tree_size, TREE)


def scans(setting: Setting, size: int) -> list[np.ndarray]:
    """What `prepare` wrote at this size, (h, w, 3) float32 metres each."""
    return [np.load(path) for path in sorted((setting.folder / f"scans_{size}").iterdir())]


def keep_to_one_core() -> None:
    """Run this process on a single core from now on, whatever the libraries start."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def in_memory(setting: Setting, size: int) -> Work:
    """Masks of scans in memory, as `processing/preprocess_mvtec.py` makes them."""
    keep_to_one_core()
    clouds = scans(setting, size)
    return Work(lambda: [object_mask(xyz, np.random.default_rng(0)) for xyz in clouds], len(clouds))


def open3d_in_memory(setting: Setting, size: int) -> Work:
    """The same with Open3D; afterwards its masks are compared with the project's."""
    keep_to_one_core()
    clouds = scans(setting, size)
    masks: list[np.ndarray] = []

    def step() -> None:
        masks[:] = [open3d_mask(xyz) for xyz in clouds]

    def figures() -> dict[str, Any]:
        ours = [object_mask(xyz, np.random.default_rng(0)) for xyz in clouds]
        overlaps = [(a & b).sum() / (a | b).sum() for a, b in zip(ours, masks, strict=True)]
        return {"iou_mean": float(np.mean(overlaps)), "iou_lowest": float(np.min(overlaps))}

    return Work(step, len(clouds), figures=figures)


def open3d_mask(xyz: np.ndarray) -> np.ndarray:
    """The published recipe with Open3D's RANSAC and DBSCAN: (h, w, 3) metres → (h, w) bool, True = of the object."""
    import open3d

    open3d.utility.random.seed(0)
    valid = valid_points(xyz)
    border = open3d.utility.Vector3dVector(xyz[valid & border_mask(valid.shape)].astype(np.float64))
    plane, _ = open3d.geometry.PointCloud(border).segment_plane(0.004, ransac_n=50, num_iterations=1000)
    points = xyz[valid].astype(np.float64)
    far = np.abs(points @ plane[:3] + plane[3]) / np.linalg.norm(plane[:3]) >= 0.005
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points[far]))
    labels = np.asarray(cloud.cluster_dbscan(eps=0.006, min_points=30))
    mask = np.zeros(valid.shape, bool)
    mask.flat[np.flatnonzero(valid)[far][labels == np.bincount(labels[labels >= 0]).argmax()]] = True
    return mask


def command_line(setting: Setting, workers: int) -> Work:
    """The whole command on the raw tree: start, reading, background removal, writing."""
    tree = setting.folder / "tree"
    script = [sys.executable, str(ROOT / "processing" / "preprocess_mvtec.py")]

    def step() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as target:
            options = ["--target_dir", f"{target}/tree", "--workers", str(workers)]
            subprocess.run([*script, str(tree), *options], check=True, capture_output=True)

    return Work(step, len(list(tree.rglob("*.tiff"))))
