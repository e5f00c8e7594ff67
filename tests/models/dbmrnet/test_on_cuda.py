"""DBMRNet on a GPU against the CPU; skipped where there is none."""

from dataclasses import fields

import pytest
import torch

from datasets.sample import Sample
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.settings import ModelSettings
from models.dbmrnet.training import DBMRNetConfig, DBMRNetLearner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
GPU = torch.device("cuda")


@pytest.fixture
def on_gpu(samples: list[Sample], settings: ModelSettings) -> Inputs:
    """The samples prepared on the GPU, with the seed of `inputs`."""
    return prepare(samples, settings, 5, GPU)


def test_prepared_samples_equal_the_cpus(on_gpu: Inputs, inputs: Inputs) -> None:
    for field in fields(Inputs):
        if field.name != "near":
            torch.testing.assert_close(getattr(on_gpu, field.name).cpu(), getattr(inputs, field.name))
    for found, expected in zip(on_gpu.near, inputs.near, strict=True):
        assert (found.cpu() == expected).float().mean() > 0.999  # equally near ones may change places


def test_maps_equal_the_cpus(on_gpu: Inputs, inputs: Inputs, settings: ModelSettings) -> None:
    detector = DBMRNetDetector(settings, "fp32", 0).eval()
    detector.network.fit_radii(inputs)
    expected = detector.maps(detector.discrepancies(inputs, detector.reconstruct(inputs), "both"), "product")
    detector.to(GPU)
    maps = detector.maps(detector.discrepancies(on_gpu, detector.reconstruct(on_gpu), "both"), "product")
    for found, wanted in zip(maps, expected, strict=True):
        difference = (found.cpu().smoothed - wanted.smoothed).abs().max()
        assert difference < 1e-2 * wanted.smoothed.max()
        assert found.cpu().image_score() == pytest.approx(wanted.image_score(), rel=1e-2)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.05)])
def test_training_step_equals_the_cpus(precision: str, tolerance: float, on_gpu: Inputs, inputs: Inputs) -> None:
    losses = []
    for kind, batch in (("fp32", inputs), (precision, on_gpu)):
        learner = DBMRNetLearner(DBMRNetConfig(ModelSettings("small"), {}, kind, 5, 4, 0, 1e-3, 1), batch, None)
        steps = [learner.step([0, 1, 2, 3], torch.Generator().manual_seed(step)) for step in range(3)]
        losses.append(torch.stack([value.cpu() for step in steps for value in step.values()]))
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=0)
