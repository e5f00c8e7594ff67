"""Score nominal images and keep the scores beside the checkpoint: they give thresholds for any false-alarm rate."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.records import NominalSplit
from datasets.sample import Sample, iter_samples
from evaluation import input_check
from evaluation.thresholds import NominalScores, measure, save_scores
from models.method import Pipeline
from models.token_store import batches
from utils.files import atomic_path

BATCH_SIZE = 4


def calibrate_class(
    pipeline: Pipeline, split: NominalSplit, path: Path, weights: str, skipped: list[str] | None = None
) -> None:
    """Make the thresholds of a detector from the good samples that it was not trained on, and say what they promise.

    Args:
        pipeline: of the detector.
        split: of its class.
        path: where the scores go.
        weights: hash of its weights.
        skipped: see `datasets.sample.iter_samples`.

    Raises:
        UserError: a sample cannot be used and `skipped` is None.
    """
    name = split.train[0].class_name
    samples = iter_samples(split.validation, skipped, view=pipeline.view)
    bar = tqdm(samples, f"{name}: thresholds", len(split.validation), unit="image")
    calibrate_on((sample for _, sample in bar), pipeline, split.source, path, weights)


def calibrate_on(
    samples: Iterable[Sample], pipeline: Pipeline, source: str, path: Path, weights: str
) -> NominalScores | None:
    """The same from samples in memory; the scores, None without any sample. source: see `NominalScores`."""
    inputs: list[dict[str, float]] = []

    def measured() -> Iterator[Sample]:
        for sample in samples:
            inputs.append(input_check.measure(sample))
            yield sample

    scores = nominal_scores(pipeline, measured(), source, weights)
    if scores is None:
        print("no thresholds: there are no good images besides those that were trained on")
        return None
    scores = replace(scores, inputs={name: [found[name] for found in inputs] for name in inputs[0]})
    if path.is_file():
        print(f"the thresholds so far are kept as {_keep(path)}")
    save_scores(path, scores)
    print(scores.thresholds().statement())
    return scores


def nominal_scores(pipeline: Pipeline, samples: Iterable[Sample], source: str, weights: str) -> NominalScores | None:
    """Scores of samples without defects that the weights were not trained on.

    Args:
        pipeline: of the detector.
        source, weights: see `NominalScores`.

    Returns:
        None without any sample.
    """
    measured = [
        measure(anomaly_map.smoothed.numpy(), sample.valid.numpy())
        for batch in batches(samples, BATCH_SIZE)
        for sample, anomaly_map in zip(batch, pipeline.maps(batch), strict=True)
    ]
    if not measured:
        return None
    settings: Mapping[str, Any] = pipeline.settings
    maxima, levels, medians = (list(values) for values in zip(*measured, strict=True))
    return NominalScores(source, settings, weights, maxima, levels, medians)


def _keep(path: Path) -> Path:
    """Copy a file to the first of NAME.1.json, NAME.2.json, … that is not there."""
    number = 1
    while (kept := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    with atomic_path(kept) as temporary:
        shutil.copyfile(path, temporary)
    return kept
