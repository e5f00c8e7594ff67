"""A trained detector for single parts: RGB and cloud in, score, decision, map and regions out.

```python
from inspection import load_detector

detector = load_detector("checkpoints/checkpoints_CFM_mvtec/bagel")
answer = detector.predict(rgb, xyz)
print(answer.score, answer.anomalous, answer.regions)
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from datasets.frames import from_square, unpad
from datasets.readers import checked_cloud, rgb_of
from datasets.sample import Sample, make_sample
from evaluation.input_check import measure
from evaluation.input_limits import outside
from evaluation.thresholds import DEFAULT_RATE, Thresholds, load_thresholds, thresholds_path
from inspection.answer import Answer, Region
from inspection.cleaning import clean, needs_cleaning
from inspection.regions import find_regions
from models.checkpoints import find_run, load_run, weights_sha256
from models.method import Pipeline
from utils.errors import UserError
from utils.files import sha256_text
from utils.view import ViewSettings


@dataclass(frozen=True)
class Detector:
    """A detector of one class on one device.

    Attributes:
        name: method, class and run.
        pipeline: from samples to maps.
        preprocessing: of the training data, as the checkpoint has it; None when it does not say.
        thresholds: None where there are none; `note` then says why.
        fingerprint: hash of all that answers depend on.
        weights: hash of the checkpoint's weights.
        thresholds_path: where nominal scores for its thresholds lie.
    """

    name: str
    pipeline: Pipeline
    preprocessing: Mapping[str, Any] | None
    thresholds: Thresholds | None
    note: str | None
    fingerprint: str
    weights: str
    thresholds_path: Path

    parts_at_once = 1  # torch divides each by itself

    def predict(self, rgb: np.ndarray | Image.Image, xyz: np.ndarray, raw: bool | None = None) -> Answer:
        """Inspect one part.

        Args:
            rgb: (h, w, 3) uint8, or a PIL image of 8 bits a channel.
            xyz: (h, w, 3) organised cloud, metres in the camera's frame, invalid points (0, 0, 0); or zero-padded to
                the square of side max(h, w).
            raw: whether the background is still in the cloud; it is then removed as in the training data. None looks
                whether its plane reaches the frame's border (`datasets.raw_scans`). A raw scan whose border was not
                measured has to be declared.

        Raises:
            UserError: wrong shapes, types or sizes; NaN or infinity; another unit than metres; no valid point; a
                background that stays.
        """
        sample, cloud, cleaned = self.prepare(rgb, xyz, raw)
        return make_answer(self._map(sample).numpy(), sample, cloud, cleaned, self.thresholds)

    def prepare(
        self, rgb: np.ndarray | Image.Image, xyz: np.ndarray, raw: bool | None = None
    ) -> tuple[Sample, np.ndarray, bool]:
        """The sample of a part, its (h, w, 3) cloud without background, and whether that was removed; see `predict`."""
        image, cloud, cleaned = part_arrays(rgb, xyz, raw, self.preprocessing)
        return grid_sample(image, cloud, self.pipeline.view), cloud, cleaned

    def _map(self, sample: Sample) -> Tensor:
        return self.pipeline.maps([sample])[0].smoothed


def load_detector(
    checkpoint: str | Path,
    *,
    device: str = "auto",
    precision: str | None = None,
    false_alarm_rate: float | None = DEFAULT_RATE,
    rgb_weights: str | Path | None = None,
    xyz_weights: str | Path | None = None,
) -> Detector:
    """Load a checkpoint of any method for single parts.

    Args:
        checkpoint: a class's folder that holds one run, or any file of a run in it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16`, or None for that of the run.
        false_alarm_rate: share of good parts that may be called anomalous, in (0, 1); None: decide nothing.
        rgb_weights, xyz_weights: of a run's extractor, instead of the public files.

    Raises:
        UserError: no such checkpoint, a damaged file, or a device that is not there.
        ValueError: a rate outside (0, 1).
    """
    if false_alarm_rate is not None and not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must lie in (0, 1), got {false_alarm_rate}")
    run = find_run(Path(checkpoint))
    files = {"rgb_weights": rgb_weights, "xyz_weights": xyz_weights}
    options = {name: None if path is None else Path(path) for name, path in files.items()}
    loaded = load_run(run, device, precision, options)
    pipeline, weights, path = loaded.pipeline, weights_sha256(run), thresholds_path(run.name, run.part)
    thresholds: Thresholds | None = None
    note: str | None = "no false-alarm rate was given"
    if false_alarm_rate is not None:
        thresholds, note = load_thresholds(path, pipeline.settings, weights, false_alarm_rate)
    manifest = (loaded.settings or {}).get("data_manifest")
    preprocessing = manifest.get("preprocessing") if isinstance(manifest, Mapping) else None
    decisive = (weights, pipeline.settings, precision, preprocessing, thresholds and thresholds.as_json())
    fingerprint = sha256_text(repr(decisive))
    return Detector(str(run), pipeline, preprocessing, thresholds, note, fingerprint, weights, path)


def part_arrays(
    rgb: np.ndarray | Image.Image, xyz: np.ndarray, raw: bool | None, preprocessing: Mapping[str, Any] | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(h, w, 3) uint8 image and float32 cloud of a part, checked, and whether its background was removed here.

    Args:
        rgb, xyz, raw: see `Detector.predict`.
        preprocessing: of the training data, see `inspection.cleaning.clean`.
    """
    image = rgb_of(rgb, "rgb") if isinstance(rgb, Image.Image) else np.asarray(rgb)
    cloud = _checked(image, np.asarray(xyz))
    if cloud.shape[:2] != image.shape[:2]:
        cloud = unpad(cloud, image.shape)
    cleaned = (
        clean(image, cloud, preprocessing) if (needs_cleaning(cloud, preprocessing) if raw is None else raw) else None
    )
    return (image, cloud, False) if cleaned is None else (*cleaned, True)


def grid_sample(image: np.ndarray, cloud: np.ndarray, view: ViewSettings | None) -> Sample:
    """The sample of arrays, see `part_arrays`. Raises UserError where it has no valid point."""
    sample = make_sample(image, cloud, view=view)
    if not sample.valid.any():
        raise UserError("empty cloud: no valid point (all three coordinates non-zero) on the detector's grid.")
    return sample


def make_answer(
    grid_map: np.ndarray, sample: Sample, cloud: np.ndarray, cleaned: bool, thresholds: Thresholds | None
) -> Answer:
    """What a map on the grid, (224, 224), and the part's input say.

    Args:
        sample, cloud, cleaned: of the part, see `part_arrays` and `grid_sample`.
    """
    regions: list[Region] = []
    labels = np.zeros(cloud.shape[:2], np.int32)
    score, anomalous = float(grid_map.max()), None
    reasons: tuple[str, ...] = ()
    if thresholds is not None:
        regions, labels = find_regions(grid_map, cloud, thresholds)
        if thresholds.inputs:
            reasons = tuple(outside(measure(sample), thresholds.inputs))
        anomalous = score > thresholds.image or bool(reasons)
    return Answer(score, anomalous, from_square(grid_map, cloud.shape), regions, labels, cleaned, reasons)


def _checked(image: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """The cloud as float32. Raises UserError where the arrays are not what `Detector.predict` expects."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"rgb: expected (h, w, 3) uint8, found {image.shape} {image.dtype}.")
    cloud = checked_cloud(xyz, "xyz")
    side = max(image.shape[:2])
    if cloud.shape[:2] not in (image.shape[:2], (side, side)):
        raise UserError(
            f"xyz: expected {(*image.shape[:2], 3)} as the RGB has, or padded {(side, side, 3)}, found {xyz.shape}."
        )
    return cloud
