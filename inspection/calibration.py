"""Thresholds of a trained run from parts as they come: a folder of good ones."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.sample import Sample
from experiments.calibration import calibrate_on
from inspection.detector import Detector, load_detector
from inspection.good_parts import check_parts
from inspection.pairs import Pair, find_pairs
from inspection.predictions import read_pair
from models.checkpoints import find_run
from utils.checkpoint import load_settings, lock_run
from utils.errors import UserError

RATES = (0.001, 0.01, 0.05)


def calibrate_on_parts(checkpoint: Path, folder: Path, **options: Any) -> None:
    """Make thresholds beside a checkpoint, and say what they promise, while no other command writes the run.

    Args:
        checkpoint: see `find_run`.
        folder: of good parts that were not trained on. options: of `load_detector`.

    Raises:
        UserError: no parts, such with a defect or that were trained on, or one that cannot be used.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Expected good parts, images and clouds.")
    pairs, problems = find_pairs(folder, checkpoint)
    if not pairs:
        raise UserError(f"{folder}: holds no image and cloud of a part. See python calibrate.py --help.")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    run = find_run(checkpoint)
    with lock_run(run.name, run.method):
        if note := check_parts(pairs, load_settings(run.name, run.method)):
            print(f"note: {note}", file=sys.stderr)
        detector = load_detector(checkpoint, false_alarm_rate=None, **options)
        found = _samples(pairs, detector)
        scores = calibrate_on(found, detector.pipeline, "validation", detector.thresholds_path, detector.weights)
        for limits in map(scores.thresholds, RATES) if scores else ():
            print(
                f"false alarms {limits.rate:.1%} (promised: {limits.guaranteed:.2%}): image threshold "
                f"{limits.image:.4g}, map threshold {limits.map:.4g}"
            )
        print(f"written: {detector.thresholds_path}")


def _samples(pairs: Sequence[Pair], detector: Detector) -> Iterator[Sample]:
    """The samples of pairs, raw ones cleaned."""
    for pair in tqdm(pairs, "thresholds", unit="part"):
        try:
            yield detector.prepare(*read_pair(pair))[0]
        except UserError as error:
            raise UserError(f"{pair.xyz} with {pair.rgb.name}: {error}") from error
