"""DBMRNet from generated scenes to figures: trained on good ones of three classes, it finds defects in others."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample, to_arrays
from datasets.scene_defects import DEFECTS
from datasets.scenes import render_scene
from models.dbmrnet import training
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.scoring import rebuilt_depth, rebuilt_frame
from models.dbmrnet.settings import ModelSettings
from utils.checkpoint import CheckpointName
from utils.class_run import ClassRun
from utils.evaluation import evaluate

pytestmark = pytest.mark.slow

CLASSES = ("biscuit", "cap", "gear")
TRAIN, VALIDATION, GOOD, DEFECTIVE = range(0, 150), range(150, 158), range(200, 210), range(210, 215)
EPOCHS, BATCH_SIZE = 45, 8

Train = Callable[[str, str], DBMRNetDetector]
Metrics = Callable[[str], dict[str, dict[str, Any]]]


def scene(class_name: str, defect: str | None, seed: int) -> Sample:
    """A generated scene without its ground plane."""
    made = render_scene(class_name, defect, 400, [5, seed])
    return make_sample(made.rgb, made.xyz * made.surface.object_mask[..., None], made.gt)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """(class, masked centres) → a detector of preset small, trained on good scenes; each only once."""

    @cache
    def trained(class_name: str, masked_centres: str) -> DBMRNetDetector:
        settings = ModelSettings("small", masked_centres=masked_centres)
        run = "fp32", EPOCHS, BATCH_SIZE, 0, settings.sizes.learning_rate, 10
        config = training.DBMRNetConfig(settings, {}, *run)
        blank = DBMRNetDetector(settings, "fp32", 0)
        images, validation = (blank.prepare([scene(class_name, None, i) for i in s]) for s in (TRAIN, VALIDATION))
        name = CheckpointName(tmp_path_factory.mktemp("run"), class_name, EPOCHS, BATCH_SIZE)
        found = training.train(images, validation, config, name, False, lambda entry: None)
        return found[training.PART]

    return trained


@pytest.fixture(scope="module")
def metrics(train: Train) -> Metrics:
    """Class → metrics of the fused map and of each branch alone, on scenes that were not trained on."""

    @cache
    def evaluated(class_name: str) -> dict[str, dict[str, Any]]:
        detector, run = train(class_name, "xyi"), ClassRun(class_name, None, False)
        for defect in (None, *DEFECTS):
            samples = [scene(class_name, defect, i) for i in (DEFECTIVE if defect else GOOD)]
            inputs = detector.prepare(samples)
            found = detector.discrepancies(inputs, detector.reconstruct(inputs), "residual")
            fused, image, geometry = (detector.maps(found, fusion) for fusion in ("max", "2d", "3d"))
            for i, sample in enumerate(samples):
                branches = {"2D only": image[i], "3D only": geometry[i]}
                run.add(defect or "good", str(i), *to_arrays(sample), fused[i], 0.0, branches=branches)
        return {"fused": evaluate(run.predictions)} | {name: evaluate(p) for name, p in run.branches.items()}

    return evaluated


@pytest.mark.parametrize("class_name", CLASSES)
def test_finds_dents_by_geometry_and_stains_by_colour(class_name: str, metrics: Metrics) -> None:
    found = metrics(class_name)
    assert found["3D only"]["per_defect"]["dent"]["i_auroc"] >= 0.9
    assert found["2D only"]["per_defect"]["stain"]["i_auroc"] >= 0.9
    assert found["fused"]["p_auroc"] >= 0.9


def test_fused_map_finds_the_defects_of_all_classes(metrics: Metrics) -> None:
    assert np.mean([metrics(name)["fused"]["i_auroc"] for name in CLASSES]) >= 0.85


def inside_defects(detector: DBMRNetDetector, class_name: str, defect: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rebuilt, normal and defective values at the defects' pixels: depths (P,) for a dent, colours (P, 3) otherwise.

    The normal scene is that of the same seed: nothing but the defect differs.
    """
    bad, good = ([scene(class_name, kind, i) for i in DEFECTIVE] for kind in (defect, None))
    inputs = detector.prepare(bad)
    rebuilt = detector.reconstruct(inputs)
    where = torch.stack([b.gt & b.valid & g.valid for b, g in zip(bad, good, strict=True) if b.gt is not None])
    if defect == "dent":
        rebuilt_maps = rebuilt_depth(inputs, rebuilt.points)
        true, normal = (torch.stack([s.xyz[2] for s in samples]) for samples in (bad, good))
        return rebuilt_maps[where], normal[where], true[where]
    true, normal = (torch.stack([s.rgb for s in samples]).movedim(1, -1) for samples in (bad, good))
    return rebuilt_frame(inputs, rebuilt.image, true.movedim(-1, 1)).movedim(1, -1)[where], normal[where], true[where]


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("defect", ["dent", "stain"])
def test_reconstruction_is_nearer_to_normal_than_to_the_defect(class_name: str, defect: str, train: Train) -> None:
    rebuilt, normal, true = inside_defects(train(class_name, "xyi"), class_name, defect)
    assert (rebuilt - normal).abs().mean() < 0.8 * (rebuilt - true).abs().mean()


def test_masked_centres_leak_the_defect_with_their_true_depth(train: Train) -> None:
    separation = {}
    for masked_centres in ("xyi", "xyz"):
        rebuilt, normal, true = inside_defects(train("cap", masked_centres), "cap", "dent")
        separation[masked_centres] = (rebuilt - true).abs().mean() / (rebuilt - normal).abs().mean()
    assert separation["xyi"] > 1.6
    assert separation["xyz"] < 1.4
