"""DBMRNet from generated scenes to figures: trained on good ones of a class, it finds large defects in others."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample, to_arrays
from datasets.scenes import Scene, render_scene
from evaluation.results import evaluate
from experiments.class_run import ClassRun
from models.dbmrnet import training
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.scoring import rebuilt_depth, rebuilt_frame
from models.dbmrnet.settings import ModelSettings
from utils.checkpoint import CheckpointName

# Slow: one network is trained for all tests. Descriptors need a few steps only, but the masked network less than these
# rebuilds stains half.
pytestmark = pytest.mark.slow

CLASS, SIZE, GRID = "cap", 240, 160  # pixels of a scene and of a sample
TRAIN, VALIDATION, GOOD, DEFECTIVE = range(0, 12), range(150, 153), range(200, 210), range(220, 226)
EPOCHS, BATCH_SIZE = 12, 3  # the number of steps decides, not how many scenes there are


@functools.cache  # with each defect, and without
def rendered(seed: int) -> Scene:
    return render_scene(CLASS, None, SIZE, [5, seed])


@functools.cache  # several tests look at the same
def scene(defect: str | None, seed: int) -> Sample:
    """A generated scene without its ground plane, good or with a large defect: so short a training finds no others."""
    made = rendered(seed)
    rgb, xyz, gt = plant(made, defect, seed) if defect else (made.rgb, made.xyz, made.gt)
    return make_sample(rgb, xyz * made.surface.object_mask[..., None], gt, size=GRID)


def plant(made: Scene, defect: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB, cloud and mask with a round defect of 9 mm radius: a dent 3.5 mm deep, or a stain in a foreign colour."""
    middle = np.argwhere(made.surface.object_mask).mean(axis=0)
    angle = 2 * np.pi * np.random.default_rng(seed).random()
    row, column = middle + 20 * np.array([np.sin(angle), np.cos(angle)])
    v, u = np.mgrid[: made.gt.shape[0], : made.gt.shape[1]]
    inside = np.clip(1 - ((v - row) ** 2 + (u - column) ** 2) / 12.0**2, 0, 1)
    if defect == "dent":
        deeper = 1 + 0.0035 * inside / np.maximum(made.xyz[..., 2], 0.1)
        return made.rgb, (made.xyz * deeper[..., None]).astype(np.float32), inside > 0.1
    cover = 0.8 * (inside > 0)[..., None]
    return (made.rgb + cover * (np.array([240, 20, 160]) - made.rgb)).astype(np.uint8), made.xyz, inside > 0


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> DBMRNetDetector:
    """A detector of preset small, trained on good scenes."""
    settings = ModelSettings("small")
    run = "fp32", EPOCHS, BATCH_SIZE, 0, settings.sizes.learning_rate, 10
    blank = DBMRNetDetector(settings, "fp32", 0)
    images, validation = (blank.prepare([scene(None, i) for i in seeds]) for seeds in (TRAIN, VALIDATION))
    config = training.DBMRNetConfig(settings, {}, *run)
    name = CheckpointName(tmp_path_factory.mktemp("run"), CLASS, EPOCHS, BATCH_SIZE)
    return training.train(images, validation, config, name, False, lambda entry: None)[training.PART]


@pytest.fixture(scope="module")
def metrics(detector: DBMRNetDetector) -> dict[str, dict[str, Any]]:
    """Of the fused map and of each branch alone, on scenes that were not trained on."""
    run = ClassRun(CLASS, None, False)
    for defect in (None, "dent", "stain"):
        samples = [scene(defect, i) for i in (DEFECTIVE if defect else GOOD)]
        found = detector.discrepancies(detector.prepare(samples), None, "local")
        fused, image, geometry = (detector.maps(found, fusion) for fusion in ("max", "2d", "3d"))
        for i, sample in enumerate(samples):
            branches = {"2D only": image[i], "3D only": geometry[i]}
            run.add(defect or "good", str(i), *to_arrays(sample), fused[i], 0.0, branches=branches)
    return {"fused": evaluate(run.predictions)} | {name: evaluate(p) for name, p in run.branches.items()}


def test_finds_dents_by_geometry_and_stains_by_colour(metrics: dict[str, dict[str, Any]]) -> None:
    found = {
        (branch, defect): values["per_defect"][defect]["i_auroc"]
        for branch, values in metrics.items()
        for defect in ("dent", "stain")
    }
    assert found["3D only", "dent"] >= 0.95
    assert found["2D only", "stain"] >= 0.95
    assert found["2D only", "dent"] <= 0.9  # a dent does not change the colours
    assert min(found["fused", "dent"], found["fused", "stain"]) >= 0.95


def test_marks_the_defects_and_nothing_else(metrics: dict[str, dict[str, Any]]) -> None:
    assert metrics["fused"]["aupro"]["0.3"] >= 0.94
    assert metrics["fused"]["p_auroc"] >= 0.98


def inside_defects(detector: DBMRNetDetector, defect: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rebuilt, normal and defective values at the defects' pixels: depths (P,) for a dent, colours (P, 3) otherwise.

    The normal scene is that of the same seed: nothing but the defect differs.
    """
    bad, good = ([scene(kind, i) for i in DEFECTIVE] for kind in (defect, None))
    inputs = detector.prepare(bad)
    rebuilt = detector.reconstruct(inputs)
    where = torch.stack([b.gt & b.valid & g.valid for b, g in zip(bad, good, strict=True) if b.gt is not None])
    if defect == "dent":
        rebuilt_maps = rebuilt_depth(inputs, rebuilt.points)
        true, normal = (torch.stack([s.xyz[2] for s in samples]) for samples in (bad, good))
        return rebuilt_maps[where], normal[where], true[where]
    true, normal = (torch.stack([s.rgb for s in samples]).movedim(1, -1) for samples in (bad, good))
    return rebuilt_frame(inputs, rebuilt.image, true.movedim(-1, 1)).movedim(1, -1)[where], normal[where], true[where]


@pytest.mark.parametrize("defect", ["dent", "stain"])
def test_reconstruction_is_nearer_to_normal_than_to_the_defect(defect: str, detector: DBMRNetDetector) -> None:
    rebuilt, normal, true = inside_defects(detector, defect)
    assert (rebuilt - normal).abs().mean() < 0.8 * (rebuilt - true).abs().mean()
