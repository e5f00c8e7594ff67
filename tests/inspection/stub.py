"""A detector that needs no training, and the command line with it: python -m tests.inspection.stub OPTIONS"""

import sys
import time
from types import ModuleType
from typing import Any

import numpy as np

import predict
from datasets.frames import from_square, nearest, pad_to_square
from evaluation.thresholds import Thresholds
from inspection.answer import Answer
from inspection.regions import find_regions
from utils import cli
from utils.errors import UserError

THRESHOLDS = Thresholds(rate=0.05, image=0.6, map=0.4, typical=0.1, images=39, rank=38, source="validation")


class Stub:
    """Its map is the red channel in [0, 1] on a grid of 16×16; `cleaned` is what `raw` would be."""

    name, note, fingerprint = "stub", "no thresholds: none were made", "f" * 64
    parts_at_once = 1

    def __init__(self, thresholds: Thresholds | None = THRESHOLDS, seconds: float = 0.0) -> None:
        self.thresholds, self.seconds, self.calls = thresholds, seconds, 0

    def predict(self, rgb: np.ndarray, xyz: np.ndarray, raw: bool | None = None) -> Answer:
        self.calls += 1
        time.sleep(self.seconds)
        if rgb.shape != xyz.shape:
            raise UserError(f"xyz: expected {rgb.shape}, found {xyz.shape}.")
        grid = nearest(pad_to_square(rgb[..., 0]), (16, 16)).astype(np.float32) / np.float32(255)
        score = float(grid.max())
        native = from_square(grid, xyz.shape)
        if self.thresholds is None:
            return Answer(score, None, native, [], np.zeros(xyz.shape[:2], np.int32), raw is None)
        regions, labels = find_regions(grid, xyz, self.thresholds)
        return Answer(score, score > self.thresholds.image, native, regions, labels, raw is None)


def install(stub: Stub) -> None:
    """Let the command line of this process load the stub, without the real one's imports."""
    module: Any = ModuleType("inspection.detector")
    module.load_detector = lambda checkpoint, **options: stub
    sys.modules["inspection.detector"] = module


if __name__ == "__main__":
    install(Stub())
    raise SystemExit(cli.run(predict.main))
