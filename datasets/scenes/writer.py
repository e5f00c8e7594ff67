"""Generated data sets on disk, laid out as the raw releases of MVTec 3D-AD and Eyecandies."""

import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from datasets.scenes import render_scene, scene_camera
from datasets.scenes.candies import CANDY_CLASSES, MASK_KINDS, Candy, render_candy
from datasets.scenes.defects import DEFECTS
from utils.errors import UserError
from utils.files import atomic_path, write_json
from utils.parallel import run_parallel

MIN_SIZE = 96
"""Smallest longer image side in pixels at which patterns and defects can still be told apart."""

EXPOSURES = {"train": 1.0, "validation": 1.0, "good": 0.96, "defective": 0.83}
"""Exposure of each sitting: good test parts were scanned another day, and defective ones once enough had come up."""

_FOCUS = 0.01  # metres from the lens to the image plane; the size of a pixel there follows from it
_README = """Generated data, not photographs: scenes rendered by processing/make_scenes.py, laid out as the raw release
of MVTec 3D-AD. Units: pixels and metres; z along the optical axis; lost points are (0, 0, 0).
"""
_LICENSE = "Generated data, part of no released data set. Free to use for any purpose.\n"


@dataclass(frozen=True)
class Counts:
    """Images of each class: good ones to train and validate, test images of each defect; 2 `test` good test images."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Job:
    """One sample to render and write.

    Attributes:
        class_name: a key of OBJECT_CLASSES.
        folder: where the sample's files or sub-folders go.
        stem: file name without key and extension.
        defect: a key of DEFECTS, or None.
        labelled: whether masks and labels are written.
        size: longer image side in pixels.
        seed: of this sample.
        exposure: of the sitting it was scanned in.
    """

    class_name: str
    folder: Path
    stem: str
    defect: str | None
    labelled: bool
    size: int
    seed: list[int]
    exposure: float = 1.0


def write_mvtec3d(
    root: Path, classes: Iterable[str], size: int, counts: Counts, seed: int = 0, workers: int = 1
) -> None:
    """Write classes as in the raw MVTec 3D-AD release.

    Args:
        root: new or empty folder.
        classes: keys of OBJECT_CLASSES.
        size: longer image side in pixels.
        counts: images of each class.
        seed: >= 0; a class's bytes depend neither on `workers` nor on which other classes are written.
        workers: processes.

    Raises:
        UserError: `root` holds something already, or a number is out of range.
    """
    _check(root, size, counts, seed, workers)
    jobs: list[Job] = []
    for class_name in classes:
        _write_calibration(root / class_name / "calibration", class_name, size)
        parts: list[tuple[str, str | None, int, float]] = [
            ("train/good", None, counts.train, EXPOSURES["train"]),
            ("validation/good", None, counts.validation, EXPOSURES["validation"]),
            ("test/good", None, 2 * counts.test, EXPOSURES["good"]),
            *((f"test/{defect}", defect, counts.test, EXPOSURES["defective"]) for defect in DEFECTS),
        ]
        for part, defect, count, exposure in parts:
            for index in range(count):
                own_seed = scene_seed(seed, f"{class_name}/{part}/{index}")
                folder, labelled = root / class_name / part, part.startswith("test")
                jobs.append(Job(class_name, folder, f"{index:03d}", defect, labelled, size, own_seed, exposure))
    _run(_write_mvtec3d_sample, jobs, workers)


def write_eyecandies(root: Path, classes: Iterable[str], counts: Counts, seed: int = 0, workers: int = 1) -> None:
    """Write classes, 512 x 512, as in the raw Eyecandies release; `test_private` gets as many samples as one defect.

    Arguments and errors are those of `write_mvtec3d`.
    """
    _check(root, MIN_SIZE, counts, seed, workers)
    public: list[str | None] = [None] * (2 * counts.test) + [name for name in DEFECTS for _ in range(counts.test)]
    private: list[str | None] = [None, *DEFECTS] * counts.test
    parts: list[tuple[str, int, list[str | None]]] = [
        ("train", 3, [None] * counts.train),
        ("val", 2, [None] * counts.validation),
        ("test_public", 2, public),
        ("test_private", 3, private[: counts.test]),
    ]
    jobs: list[Job] = []
    for class_name in classes:
        for part, digits, defects in parts:
            folder = root / CANDY_CLASSES[class_name] / part / "data"
            for index, defect in enumerate(defects):
                own_seed = scene_seed(seed, f"eyecandies/{class_name}/{part}/{index}")
                labelled = part != "test_private"
                jobs.append(Job(class_name, folder, f"{index:0{digits}d}", defect, labelled, 512, own_seed))
    _run(_write_eyecandies_sample, jobs, workers)


def scene_seed(seed: int, name: str) -> list[int]:
    """Seed of one sample: depends on the run's seed and the sample's own name, not on what else is written."""
    return [seed, zlib.crc32(name.encode())]


def gt_values() -> dict[str, int]:
    """Mask value of each defect: 255 for the first in alphabetical order, counting down."""
    return {defect: 255 - index for index, defect in enumerate(sorted(DEFECTS))}


def _check(root: Path, size: int, counts: Counts, seed: int, workers: int) -> None:
    """Raise UserError unless `root` is new or empty and the numbers make sense."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"{root}: expected a new or empty folder, found files in it. Choose another folder or remove it."
        )
    if size < MIN_SIZE:
        raise UserError(f"--size: expected at least {MIN_SIZE} pixels, got {size}.")
    if min(counts.train, counts.test) < 1 or counts.validation < 0:
        raise UserError(
            f"--train, --validation, --test: expected at least 1 to train, 0 to validate, 1 to test, "
            f"got {counts.train}, {counts.validation}, {counts.test}."
        )
    if seed < 0 or workers < 1:
        raise UserError(
            f"--seed, --workers: expected at least 0 and at least 1, got seed {seed} and {workers} workers."
        )


def _run(write: Callable[[Job], None], jobs: list[Job], workers: int) -> None:
    """Call `write` on every job, in `workers` processes, with a progress bar."""
    with closing(run_parallel(write, jobs, workers)) as finished:
        for _ in tqdm(finished, total=len(jobs), desc="rendering", unit="scene"):
            pass


def _write_mvtec3d_sample(job: Job) -> None:
    """Render one sample and write its rgb, xyz and, when labelled, gt file."""
    scene = render_scene(job.class_name, job.defect, job.size, job.seed, job.exposure)
    _save_png(job.folder / "rgb" / f"{job.stem}.png", scene.rgb)
    with atomic_path(job.folder / "xyz" / f"{job.stem}.tiff") as temporary:
        tifffile.imwrite(temporary, scene.xyz, photometric="rgb", metadata=None)
    if job.labelled:
        value = gt_values()[job.defect] if job.defect else 0
        _save_png(job.folder / "gt" / f"{job.stem}.png", np.where(scene.gt, value, 0).astype(np.uint8))


def _write_calibration(folder: Path, class_name: str, size: int) -> None:
    """The four files of a class's calibration folder, the camera's in HALCON's terms as in the release."""
    camera = scene_camera(class_name, size)
    write_json(
        folder / "camera_parameters.json",
        {
            "camera_type": "area_scan_division",
            "focus": _FOCUS,
            "kappa": 0.0,
            "sx": _FOCUS / camera.focal,
            "sy": _FOCUS / camera.focal,
            "cx": camera.cx,
            "cy": camera.cy,
            "image_width": camera.width,
            "image_height": camera.height,
        },
    )
    write_json(folder / "class_ids.json", gt_values())
    _save_text(folder / "readme.txt", _README)
    _save_text(folder / "license.txt", _LICENSE)


def _write_eyecandies_sample(job: Job) -> None:
    """Render one sample and write its 17 files, or the 10 without labels."""
    candy = render_candy(job.class_name, job.defect, job.seed)

    def path(key: str) -> Path:
        return job.folder / f"{job.stem}_{key}"

    for index, image in enumerate(candy.images):
        _save_png(path(f"image_{index}.png"), image)
    low, high = float(candy.depth.min()), float(candy.depth.max())
    _save_png(path("depth.png"), np.rint((candy.depth - low) / (high - low) * 65535).astype(np.uint16))
    _save_text(path("info_depth.yaml"), f"normalization:\n  max: {high!r}\n  min: {low!r}\n")
    _save_png(path("normals.png"), candy.normals)
    with atomic_path(path("pose.txt")) as temporary:
        np.savetxt(temporary, candy.pose)
    if job.labelled:
        _write_candy_labels(candy, job, path)


def _write_candy_labels(candy: Candy, job: Job, path: Callable[[str], Path]) -> None:
    """The seven files of a sample that say what is wrong with it."""
    union = np.any(list(candy.masks.values()), axis=0)
    for kind in MASK_KINDS:
        _save_png(path(f"{kind}_mask.png"), 255 * candy.masks[kind].astype(np.uint8))
    _save_png(path("mask.png"), 255 * union.astype(np.uint8))
    labels = {"anomalous": int(union.any()), **{kind: int(candy.masks[kind].any()) for kind in MASK_KINDS}}
    _save_text(path("metadata.yaml"), "".join(f"{name}: {label}\n" for name, label in labels.items()))
    drawn = {"shape": job.class_name, "defect": job.defect or "none", "seed": str(job.seed)}
    _save_text(path("obj_params.yaml"), "".join(f"{name}: {text}\n" for name, text in drawn.items()))


def _save_png(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an 8- or 16-bit image as PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=1)


def _save_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
