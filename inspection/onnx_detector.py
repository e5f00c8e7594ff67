"""A detector from an exported file: the same answers as the run that it was made of, without torch's part in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.thresholds import DEFAULT_RATE, Thresholds
from inspection.answer import Answer
from inspection.detector import grid_sample, make_answer, part_arrays
from inspection.onnx_file import About, file_thresholds, open_file, run_grid
from utils.errors import UserError
from utils.files import sha256_text
from utils.parallel import available_cores


@dataclass(frozen=True)
class OnnxDetector:
    """See `inspection.detector.Detector`, whose attributes these are; `session` runs the file at `path`."""

    name: str
    path: Path
    session: Any
    about: About
    thresholds: Thresholds | None
    note: str | None
    fingerprint: str
    parts_at_once: int

    def predict(self, rgb: np.ndarray | Image.Image, xyz: np.ndarray, raw: bool | None = None) -> Answer:
        """Inspect one part; see `Detector.predict`.

        Raises:
            UserError: see there; or frames of another size than those that the file is for.
        """
        image, cloud, cleaned = part_arrays(rgb, xyz, raw, self.about.preprocessing)
        if cloud.shape[:2] != self.about.shape:
            raise UserError(
                f"expected frames of {_size(self.about.shape)}, found {_size(cloud.shape)} (W×H): the file was "
                "exported for one camera. Export it for this one: python export.py --help."
            )
        sample = grid_sample(image, cloud, None)
        grid = run_grid(self.session, self.path, image, cloud)
        return make_answer(grid, sample, cloud, cleaned, self.thresholds)


def load_onnx(
    path: Path, device: str = "auto", false_alarm_rate: float = DEFAULT_RATE, several: bool = False
) -> OnnxDetector:
    """Load an exported file for single parts.

    Args:
        path, device: see `inspection.onnx_file.open_file`.
        false_alarm_rate: see `load_detector`; the file holds what thresholds of any rate come from.
        several: parts are looked at side by side, a core each, for the most parts a second; otherwise all cores work on
            one, for the soonest answer.

    Raises:
        UserError: see `open_file`.
    """
    session, about = open_file(path, device, threads=int(several))
    thresholds = file_thresholds(about.scores, false_alarm_rate)
    fingerprint = sha256_text(f"{about.fingerprint} {thresholds.as_json()}")
    at_once = available_cores() if several else 1
    return OnnxDetector(about.name, path, session, about, thresholds, None, fingerprint, at_once)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
