"""Training of one network of DBMRNet on generated scenes, and the metrics of its variations."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.dbmrnet_variations import METRICS, VARIATIONS, Plan, Training, Variation
from datasets.records import Record, scan
from datasets.sample import Sample, iter_samples, to_arrays
from evaluation.results import evaluate
from experiments.class_run import ClassRun
from models.dbmrnet.detector import DBMRNetDetector, Rebuilt
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.scoring import Discrepancies, image_residual, measured
from models.dbmrnet.settings import WARMUP_EPOCHS
from models.dbmrnet.training import PARTS, DBMRNetConfig, train
from models.point_ops import nearest_neighbours
from models.token_store import batches
from utils.checkpoint import CheckpointName

CPU = torch.device("cpu")


@lru_cache(maxsize=1)
def load_class(root: Path, class_name: str) -> dict[str, list[tuple[Record, Sample]]]:
    """All samples of a class by split."""
    return {split: list(iter_samples(scan(root, class_name, split))) for split in ("train", "validation", "test")}


def train_and_evaluate(job: Training, plan: Plan, root: Path, scratch: Path) -> list[dict[str, Any]]:
    """Train one network.

    Args:
        root: of the preprocessed scenes.
        scratch: writable; the log of the training goes there.

    Returns:
        A row for each of its variations: `variation`, `class`, `seed` and METRICS.
    """
    samples = load_class(root, job.class_name)
    good = {s: prepare([item for _, item in samples[s]], job.model, job.seed, CPU) for s in ("train", "validation")}
    run = "fp32", plan.epochs, plan.batch_size, job.seed, job.model.sizes.learning_rate, WARMUP_EPOCHS
    name = CheckpointName(scratch, job.class_name, plan.epochs, plan.batch_size)
    detectors = train(
        good["train"], good["validation"], DBMRNetConfig(job.model, {}, *run), name, False, lambda _: None
    )
    rows = []
    for variation in job.names:
        detector = detectors[PARTS[VARIATIONS[variation].checkpoint]]
        figures = metrics(detector, VARIATIONS[variation], job.class_name, samples["test"], plan.batch_size)
        rows.append({"variation": variation, "class": job.class_name, "seed": job.seed, **figures})
    return rows


def metrics(
    detector: DBMRNetDetector,
    variation: Variation,
    class_name: str,
    tests: list[tuple[Record, Sample]],
    batch_size: int,
) -> dict[str, float]:
    """METRICS of a detector on test images; `i_auroc_dent_3d` and `i_auroc_stain_2d` are those of one modality."""
    run = ClassRun(class_name, None, False)
    for batch in batches(tests, batch_size):
        inputs = detector.prepare([sample for _, sample in batch])
        found = discrepancies(detector, variation, inputs, detector.reconstruct(inputs))
        fused = detector.maps(found, variation.fusion)
        branches = {key: detector.maps(found, fusion) for key, fusion in (("2D", "2d"), ("3D", "3d"))}
        for i, (record, sample) in enumerate(batch):
            alone = {key: maps[i] for key, maps in branches.items()}
            run.add(record.defect, record.stem, *to_arrays(sample), fused[i], 0.0, branches=alone)
    all_defects = evaluate(run.predictions)
    figures = (
        all_defects["i_auroc"],
        evaluate(run.branches["3D"])["per_defect"]["dent"]["i_auroc"],
        evaluate(run.branches["2D"])["per_defect"]["stain"]["i_auroc"],
        all_defects["p_auroc"],
        all_defects["aupro"]["0.3"],
    )
    return dict(zip(METRICS, figures, strict=True))


def discrepancies(detector: DBMRNetDetector, variation: Variation, inputs: Inputs, rebuilt: Rebuilt) -> Discrepancies:
    """How samples differ from their reconstruction. With `to_points` μ of A_3D stays that of the distance to planes,
    which the product does not notice."""
    if not variation.to_points:
        return detector.discrepancies(inputs, rebuilt, variation.score)
    residuals = image_residual(inputs, rebuilt.image), distance_to_points(inputs, rebuilt.points)
    return Discrepancies(inputs.valid, residuals=residuals)


def distance_to_points(inputs: Inputs, rebuilt: Tensor) -> Tensor:
    """Distance of each valid point to the nearest rebuilt one, (B, P, 3); (B, H, H), 0 where invalid."""
    maps = torch.zeros_like(inputs.valid, dtype=torch.float32)
    for i, (pixels, points) in enumerate(measured(inputs)):
        maps[i].view(-1)[pixels] = nearest_neighbours(points, rebuilt[i], 1)[0][:, 0].sqrt().float()
    return maps
