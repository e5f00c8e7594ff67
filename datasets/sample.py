"""From files to a sample: RGB, cloud, valid mask and ground truth on one square grid, checked at this boundary.

Sources: CFM paper (Costanzino et al., CVPR 2024), section 4; MVTec 3D-AD for the encodings.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.frames import nearest, pad_to_square, valid_points
from datasets.readers import check_mask, read_gt, read_rgb, read_xyz, refuse_raw, rgb_of
from datasets.records import Record
from datasets.views import View, cut_cloud, cut_image, find_window
from utils.errors import UserError
from utils.parallel import available_cores
from utils.view import ViewSettings

GRID = 224  # side of the sample grid in pixels
READERS = min(8, available_cores())  # threads that decode files ahead of their use
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Sample:
    """One RGB image and organised cloud on a common S×S grid (S = 224).

    Attributes:
        rgb: (3, S, S) float32, ImageNet-normalised.
        xyz: (3, S, S) float32, metres in the camera's frame, (0, 0, 0) where invalid.
        valid: (S, S) bool, True = a measured point of the object.
        gt: (S, S) bool, True = anomalous; None = not known, of a defective sample without a mask.
        original: (height, width) of the RGB before it was padded to a square and resized; that of its file, which in
            data of family a is a padded square already.
        view: the part of the frame that the detector looks at, for one that does not look at the grid above.
    """

    rgb: Tensor
    xyz: Tensor
    valid: Tensor
    gt: Tensor | None
    original: tuple[int, int]
    view: View | None = None


def rgb_to_tensor(image: Image.Image | np.ndarray, size: int = GRID) -> Tensor:
    """(h, w) image → (3, size, size) float32: edge-replicating pad to a square, bicubic resize, ImageNet normalisation.

    Args:
        image: PIL image, or (h, w, 3) uint8 array.
        size: side of the grid in pixels.
    """
    array = rgb_of(image, "rgb") if isinstance(image, Image.Image) else np.asarray(image)
    square = Image.fromarray(pad_to_square(array, mode="edge"))
    resized = square.resize((size, size), Image.Resampling.BICUBIC)  # PIL antialiases when it shrinks
    return _normalised(np.array(resized))


def _normalised(image: np.ndarray) -> Tensor:
    """(S, S, 3) uint8 → (3, S, S) float32, ImageNet-normalised."""
    values = torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div_(255)  # in [0, 1]
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return values.sub_(mean).div_(std)


def tensor_to_image(rgb: Tensor) -> np.ndarray:
    """Undo the normalisation of `rgb_to_tensor`: (3, S, S) float32 → (S, S, 3) uint8."""
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return ((rgb * std + mean) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def to_arrays(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What can be looked at: (S, S, 3) uint8 RGB, (S, S, 3) float32 cloud, (S, S) bool mask, see `Sample.gt`."""
    gt = None if sample.gt is None else sample.gt.numpy()
    return tensor_to_image(sample.rgb), sample.xyz.permute(1, 2, 0).numpy(), gt


def xyz_to_grid(xyz: np.ndarray, size: int = GRID) -> tuple[Tensor, Tensor]:
    """Organised cloud → cloud and valid mask on the grid; coordinates are picked (nearest), never interpolated.

    Args:
        xyz: (h, w, 3) metres; zero-padded to a square here if it is not one.
        size: side S of the grid in pixels.

    Returns:
        (3, S, S) float32 cloud, (0, 0, 0) where invalid, and (S, S) bool mask, True where all three coordinates
        are non-zero.
    """
    grid = _nearest(np.asarray(xyz, np.float32), size)
    valid = torch.from_numpy(valid_points(grid))
    return (torch.from_numpy(grid).permute(2, 0, 1) * valid).contiguous(), valid


def gt_to_grid(gt: np.ndarray, size: int = GRID) -> Tensor:
    """(h, w) mask, anomalous where > 0 → (size, size) bool, True = anomalous: zero pad to a square, nearest resize."""
    return torch.from_numpy(_nearest(np.asarray(gt) > 0, size))


def make_sample(
    rgb: Image.Image | np.ndarray,
    xyz: np.ndarray,
    gt: np.ndarray | None = None,
    size: int = GRID,
    view: ViewSettings | None = None,
) -> Sample:
    """Sample from arrays in memory, without checks.

    Args:
        rgb: PIL image or (h, w, 3) uint8.
        xyz: (h, w, 3), or (L, L, 3) zero-padded with L = max(h, w); metres, invalid points (0, 0, 0).
        gt: (h, w), anomalous where > 0; None means that no pixel is anomalous.
        size: side S of the grid in pixels.
        view: the part that the detector looks at; None: the grid.
    """
    grid, valid = xyz_to_grid(xyz, size)
    mask = torch.zeros(size, size, dtype=torch.bool) if gt is None else gt_to_grid(gt, size)
    width, height = rgb.size if isinstance(rgb, Image.Image) else rgb.shape[1::-1]
    seen = None if view is None else _cut_view(rgb, xyz, view)
    return Sample(rgb_to_tensor(rgb, size), grid, valid, mask, (height, width), seen)


def _cut_view(rgb: Image.Image | np.ndarray, xyz: np.ndarray, settings: ViewSettings) -> View:
    """The view of a sample; arguments as in `make_sample`."""
    image = rgb_of(rgb, "rgb") if isinstance(rgb, Image.Image) else np.asarray(rgb)
    window = find_window(xyz, settings)
    return View(_normalised(cut_image(image, window, settings.size)), *cut_cloud(xyz, window, settings.size), window)


def load_sample(record: Record, size: int = GRID, view: ViewSettings | None = None) -> Sample:
    """Read and check the files of a record. size, view: see `make_sample`.

    Raises:
        UserError: a file cannot be read; wrong shape, size or dtype; NaN or infinity in the cloud; another unit than
            metres; raw data; no valid point; a mask of another size than the RGB; a "good" sample with anomalous
            pixels, or a mask of a defect without any. The message names the file and says what to do.
    """
    rgb = read_rgb(record.rgb)
    xyz = read_xyz(record.xyz)
    _check_sizes(record, rgb.shape[:2], xyz.shape[:2])
    refuse_raw(xyz, record.xyz, record.dataset_path, rgb.shape[:2])
    gt = None
    if record.gt is not None:
        gt = read_gt(record.gt)
        if gt.shape != rgb.shape[:2]:
            raise UserError(
                f"{record.gt}: mask is {_size(gt.shape)}, its RGB {record.rgb.name} is {_size(rgb.shape)} (W×H). "
                "Both need the same size: write the mask again at the RGB's size."
            )
        check_mask(gt, record.is_good, record.gt)
    sample = make_sample(rgb, xyz, gt, size, view)
    if not sample.valid.any():
        raise UserError(
            f"{record.xyz}: empty cloud, no valid point (all three coordinates non-zero) on the {size}×{size} grid. "
            "Preprocess the raw scan again or remove the sample."
        )
    return replace(sample, gt=None) if record.lacks_mask else sample


def iter_samples(
    records: Sequence[Record],
    skipped: list[str] | None = None,
    workers: int = READERS,
    size: int = GRID,
    view: ViewSettings | None = None,
) -> Generator[tuple[Record, Sample], None, None]:
    """Load records in order, a few ahead of the consumer in `workers` threads; yields each with its sample.

    Args:
        records: what to load.
        skipped: None raises at the first bad sample; a list takes the messages of the bad ones, which are left out.
        workers: number of reading threads, ≥ 1.
        size: side of the grid in pixels.
        view: see `make_sample`.

    Raises:
        UserError: see `load_sample`.
    """
    pending: deque[tuple[Record, Future[Sample]]] = deque()
    waiting = iter(records)
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            while len(pending) < 2 * workers and (record := next(waiting, None)) is not None:
                pending.append((record, pool.submit(load_sample, record, size, view)))
            if not pending:
                break
            loaded, future = pending.popleft()
            try:
                sample = future.result()
            except UserError as error:
                if skipped is None:
                    raise UserError(f"{error} (--skip_bad continues without bad samples)") from error
                skipped.append(str(error))
                continue
            yield loaded, sample
    finally:
        pool.shutdown(cancel_futures=True)


def _check_sizes(record: Record, rgb: tuple[int, ...], xyz: tuple[int, ...]) -> None:
    side = max(rgb)
    if xyz not in (rgb, (side, side)):
        raise UserError(
            f"{record.xyz}: cloud is {_size(xyz)}, its RGB {record.rgb.name} is {_size(rgb)} (W×H). Expected a cloud "
            f"of the RGB's size or zero-padded to {side}×{side}. Preprocess the raw scan again."
        )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"


def _nearest(array: np.ndarray, size: int) -> np.ndarray:
    """(h, w[, C]) → (size, size[, C]): centred zero pad to a square, then source index floor(i · side / size)."""
    return nearest(pad_to_square(array), (size, size))
