"""One raw sample on disk → its preprocessed files."""

import filecmp
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.frames import pad_to_square, unpad
from datasets.raw_scans import background_plane
from datasets.readers import mask_of, open_image, read_rgb, read_xyz
from datasets.records import Record
from processing.background.removal import object_mask
from processing.bulk import Outcome
from processing.manifest import MANIFEST, Preprocessing, stamped_share, write_cloud
from utils.errors import UserError
from utils.files import atomic_path, sha256_files

NO_PLANE = "no background plane reaches the frame's border"


@dataclass(frozen=True)
class Job:
    """One sample to preprocess.

    Attributes:
        record: the raw files.
        source: root of the raw dataset.
        target: root of the preprocessed dataset; equal to `source` to overwrite.
        done: what to do.
    """

    record: Record
    source: Path
    target: Path
    done: Preprocessing

    def destination(self, path: Path) -> Path:
        return self.target / path.relative_to(self.source)

    @property
    def name(self) -> str:
        """The cloud's path relative to the dataset, the key of the manifest."""
        return self.record.xyz.relative_to(self.source).as_posix()

    def finished_share(self) -> float | None:
        """Share of valid points if the target already holds this sample, finished in the same way; else None.

        What was overwritten cannot be compared: of the images those of family a, in place the clouds too.
        """
        in_place = self.source == self.target
        images = [path for path in (self.record.rgb, self.record.gt) if path is not None]
        for path in images:
            copied = self.done.family == "b" and not in_place
            if not (same_content(path, self.destination(path)) if copied else self.destination(path).exists()):
                return None
        sources = [] if in_place else [self.record.xyz]
        return stamped_share(self.destination(self.record.xyz), self.done, sources)


def clean(job: Job) -> Outcome:
    """Preprocess one sample. The cloud is written last: its stamp says that all files of the sample are finished.

    The result depends on the files, the settings and the cloud's path in the dataset, on nothing else.
    """
    try:
        xyz, sources = read_xyz(job.record.xyz), sha256_files([job.record.xyz])
        if (ground := background_plane(xyz)) is None:
            raise UserError(
                f"{job.record.xyz}: {NO_PLANE}: already preprocessed, or no raw scan. Cut along another plane, the "
                "object would lose a part. Restore the raw file."
            )
        generator = np.random.default_rng([job.done.seed, zlib.crc32(job.name.encode())])
        mask = object_mask(xyz, generator, job.done.settings, ground)
        if not mask.any():
            raise UserError(
                f"{job.record.xyz}: nothing is left above the background plane; expected an object at least "
                f"{job.done.settings.plane_distance * 1000:g} mm high. Check that the cloud is in metres."
            )
        _write_images(job, mask)
        square = pad_to_square(np.where(mask[..., None], xyz, np.float32(0)))
        share = round(float(np.count_nonzero(mask)) / square[..., 0].size, 6)
        write_cloud(job.destination(job.record.xyz), square, job.done, share, sources)
    except UserError as error:
        return Outcome(job.name, None, str(error))
    return Outcome(job.name, share, None)


def _write_images(job: Job, mask: np.ndarray) -> None:
    """RGB and mask of anomalies: unchanged in family b, blackened outside `mask` and padded in family a."""
    record = job.record
    if job.done.family == "b":
        if job.target != job.source:
            for path in (record.rgb, record.gt):
                if path is not None:
                    copy_file(path, job.destination(path))
        return
    if record.rgb.suffix.lower() != ".png":
        raise UserError(f"{record.rgb}: family a rewrites the RGB and needs PNG, which is lossless. Convert the image.")
    rgb = _as_raw(record.rgb, read_rgb(record.rgb), mask)
    _write_png(job.destination(record.rgb), np.where(mask[..., None], rgb, np.uint8(0)))
    if record.gt is not None:
        image = open_image(record.gt)
        gt = mask_of(image, record.gt)  # colours of a palette and transparency are not kept, values of grey ones are
        values = np.asarray(image) if image.mode in ("1", "L", "I;16") else 255 * gt.astype(np.uint8)
        _write_png(job.destination(record.gt), _as_raw(record.gt, values, mask))


def _as_raw(path: Path, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`image` at the size of the raw cloud; undoes the padding of a run in place that was killed before the cloud."""
    side = max(mask.shape)
    if image.shape[:2] == (side, side):
        return unpad(image, mask.shape)
    if image.shape[:2] != mask.shape:
        size, cloud = (f"{shape[1]}×{shape[0]}" for shape in (image.shape, mask.shape))
        raise UserError(f"{path}: is {size}, its cloud {cloud} (W×H). Expected equal sizes. Restore the raw files.")
    return image


def _write_png(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(pad_to_square(image)).save(temporary)


def same_content(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same bytes."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def copy_file(source: Path, destination: Path) -> None:
    """Copy the bytes of a file, atomically."""
    with atomic_path(destination) as temporary:
        shutil.copyfile(source, temporary)


def copy_extras(source: Path, target: Path) -> None:
    """Copy the calibration folders and the root's text files."""
    extras = [path for path in source.glob("*/calibration/**/*") if path.is_file()]
    extras += [path for suffix in ("json", "txt", "md") for path in source.glob(f"*.{suffix}") if path.name != MANIFEST]
    for path in extras:
        destination = target / path.relative_to(source)
        if not destination.exists():
            copy_file(path, destination)
