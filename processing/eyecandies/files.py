"""One raw Eyecandies sample on disk → RGB, cloud and mask in the layout of MVTec 3D-AD."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets.frames import valid_points
from datasets.readers import open_image
from processing.background.clean_files import copy_file, same_content
from processing.bulk import Outcome
from processing.eyecandies import depth as eyecandies_depth
from processing.eyecandies.depth import decode_depth, foreground, to_cloud, world_points
from processing.manifest import VERSION, Preprocessing, stamped_share, write_cloud
from utils.errors import UserError
from utils.files import read_text, read_with, sha256_files

SPLITS = {"train": "train", "val": "validation", "test_public": "test"}
"""Folder of the raw release -> folder of the converted dataset. test_private has no labels and is left out."""

RGB = "image_4.png"
"""The photograph that the papers use: lit from the left."""

_KEYS = (RGB, "depth.png", "info_depth.yaml", "pose.txt")
_TEST_KEYS = (*_KEYS, "mask.png", "metadata.yaml")
_RESTORE = "Restore the file from the release, or remove the sample's files."


@dataclass(frozen=True)
class Conversion(Preprocessing):
    """The published conversion of Eyecandies; the limits are in the dataset's units. Nothing is drawn at random."""

    family: str = "eyecandies"

    def as_json(self) -> dict[str, Any]:
        names = ("min_height", "max_depth", "max_side", "scale")
        settings = {name: getattr(eyecandies_depth, name.upper()) for name in names}
        return {"family": self.family, "version": VERSION, "seed": self.seed, "settings": settings}


@dataclass(frozen=True)
class Job:
    """One sample to convert.

    Attributes:
        data: folder of the raw files.
        index: its number as the file names have it.
        target: root of the converted dataset.
        folder: where the sample goes, relative to `target`: class/split/good or bad.
        done: what to do.
    """

    data: Path
    index: str
    target: Path
    folder: str
    done: Conversion

    def source(self, key: str) -> Path:
        return self.data / f"{self.index}_{key}"

    @property
    def stem(self) -> str:
        return f"{int(self.index):03d}"

    @property
    def name(self) -> str:
        """The cloud's path relative to the target, the key of the manifest."""
        return f"{self.folder}/xyz/{self.stem}.tiff"

    def images(self) -> dict[str, Path]:
        """Key of each raw image that is copied -> where it goes."""
        folder = self.target / self.folder
        copies = {RGB: folder / "rgb" / f"{self.stem}.png"}
        if Path(self.folder).parent.name == "test":
            copies["mask.png"] = folder / "gt" / f"{self.stem}.png"
        return copies

    def geometry(self) -> list[Path]:
        """The files that the cloud is made of."""
        return [self.source(key) for key in ("depth.png", "info_depth.yaml", "pose.txt")]

    def finished_share(self) -> float | None:
        """Share of valid points if the target already holds this sample, converted in the same way; else None."""
        if not all(same_content(self.source(key), path) for key, path in self.images().items()):
            return None
        return stamped_share(self.target / self.name, self.done, self.geometry())


def class_names(root: Path) -> list[str]:
    """Names of the class folders, sorted. Raises UserError if there are none."""
    names = sorted(path.parent.parent.name for path in root.glob("*/train/data") if path.is_dir())
    if not names:
        raise UserError(
            f"{root}: expected raw Eyecandies, one folder a class with train/data, val/data and test_public/data; "
            "found none. Check --dataset_path."
        )
    return names


def find_jobs(root: Path, target: Path, problems: list[str]) -> list[Job]:
    """All samples of all classes with a public label, by class, split and index; incomplete ones go to `problems`."""
    jobs: list[Job] = []
    for name in class_names(root):
        for split, converted in SPLITS.items():
            data = root / name / split / "data"
            keys: dict[str, set[str]] = {}
            for path in data.glob("*_*") if data.is_dir() else []:
                if match := re.fullmatch(r"(\d+)_(.+)", path.name):
                    keys.setdefault(match[1], set()).add(match[2])
            numbers = Counter(map(int, keys))
            for index in sorted(keys, key=int):
                try:
                    if numbers[int(index)] > 1:
                        raise UserError(f"{data}: several samples have number {int(index)}, as {index}. {_RESTORE}")
                    defect = _defect(data, index, keys[index], converted == "test")
                except UserError as error:
                    problems.append(str(error))
                    continue
                jobs.append(Job(data, index, target, f"{name}/{converted}/{defect}", Conversion()))
    return jobs


def convert(job: Job) -> Outcome:
    """Convert one sample. The cloud is written last: its stamp says that all files of the sample are finished."""
    try:
        depth, pose = _read_depth(job), read_with(job.source("pose.txt"), _matrix, _RESTORE)
        if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.linalg.matrix_rank(pose) < 4:
            raise UserError(f"{job.source('pose.txt')}: expected an invertible 4×4 matrix, found {pose}. {_RESTORE}")
        sizes = {key: open_image(job.source(key)).size for key in job.images()}
        for key, size in sizes.items():
            if size != depth.shape[::-1]:
                found = f"{size[0]}×{size[1]}, the depth image {depth.shape[1]}×{depth.shape[0]}"
                raise UserError(f"{job.source(key)}: is {found} (W×H). Expected equal sizes. {_RESTORE}")
        points = world_points(depth, pose)
        kept = foreground(points)
        cloud = to_cloud(points, kept)
        valid = np.count_nonzero(valid_points(cloud))
        if not valid:
            raise UserError(
                f"{job.source('depth.png')}: nothing is left above the ground; expected an object. {_RESTORE}"
            )
        for key, destination in job.images().items():
            copy_file(job.source(key), destination)
        share = round(valid / kept.size, 6)
        write_cloud(job.target / job.name, cloud, job.done, share, sha256_files(job.geometry()))
    except UserError as error:
        return Outcome(job.name, None, str(error))
    return Outcome(job.name, share, None)


def _defect(data: Path, index: str, keys: set[str], labelled: bool) -> str:
    """ "good" or "bad". Raises UserError where a key that the conversion needs is missing."""
    needed = _TEST_KEYS if labelled else _KEYS
    if missing := [f"{index}_{key}" for key in needed if key not in keys]:
        raise UserError(f"{data}: sample {index} is incomplete, expected {', '.join(missing)} too. {_RESTORE}")
    if not labelled:
        return "good"
    labels = data / f"{index}_metadata.yaml"
    return "bad" if read_with(labels, lambda path: int(_yaml(path)["anomalous"]), _RESTORE) else "good"


def _read_depth(job: Job) -> np.ndarray:
    """(h,w) float32 distance along the optical axis, in the dataset's units."""
    stored = np.asarray(open_image(job.source("depth.png")))
    if stored.ndim != 2 or stored.dtype == np.uint8 or min(stored.shape) <= eyecandies_depth.GROUND_COLUMN:
        raise UserError(
            f"{job.source('depth.png')}: expected a 16-bit depth image of 512×512, found shape {stored.shape} and "
            f"{stored.dtype}. {_RESTORE}"
        )
    low, high = read_with(job.source("info_depth.yaml"), _depth_range, _RESTORE)
    depth = decode_depth(stored, low, high)
    if not (np.isfinite(depth).all() and depth.min() > 0):
        raise UserError(
            f"{job.source('info_depth.yaml')}: expected a depth range in front of the camera, found {low} … {high}. "
            f"{_RESTORE}"
        )
    return depth


def _depth_range(path: Path) -> tuple[float, float]:
    limits = _yaml(path)["normalization"]
    return float(limits["min"]), float(limits["max"])


def _matrix(path: Path) -> np.ndarray:
    return np.loadtxt(read_text(path).splitlines())


def _yaml(path: Path) -> Any:
    return yaml.safe_load(read_text(path))
