"""Score nominal images and keep the scores beside the checkpoint: they give thresholds for any false-alarm rate."""

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from datasets.records import NominalSplit
from datasets.sample import Sample, iter_samples
from models.calibration import Pipeline, nominal_scores
from utils.thresholds import NominalScores, save_scores


def calibrate(
    pipeline: Pipeline, split: NominalSplit, path: Path, weights: str, skipped: list[str] | None = None
) -> None:
    """Make the thresholds of a detector from the good samples that it was not trained on, and say what they promise.

    Args:
        pipeline: of the detector. split: of its class. path: where the scores go. weights: hash of its weights.
        skipped: see `datasets.sample.iter_samples`.

    Raises:
        UserError: a sample cannot be used and `skipped` is None.
    """
    path.unlink(missing_ok=True)  # of an earlier training
    name = split.train[0].class_name
    bar = tqdm(iter_samples(split.validation, skipped), f"{name}: thresholds", len(split.validation), unit="image")
    calibrate_on((sample for _, sample in bar), pipeline, split.source, path, weights)


def calibrate_on(
    samples: Iterable[Sample], pipeline: Pipeline, source: str, path: Path, weights: str
) -> NominalScores | None:
    """The same from samples in memory; the scores, None without any sample. source: see `NominalScores`."""
    scores = nominal_scores(pipeline, samples, source, weights)
    if scores is None:
        print("no thresholds: there are no good images besides those that were trained on")
        return None
    save_scores(path, scores)
    print(scores.thresholds().statement())
    return scores
