"""DBMRNet on a GPU against the CPU; skipped where there is none."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.waits import waits
from datasets.sample import Sample
from models.dbmrnet import training
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.settings import ModelSettings
from models.dbmrnet.training import DBMRNetConfig, DBMRNetLearner
from tests.gpu import CPU, DEVICES, GPU, needs_gpu
from utils.checkpoint import CheckpointName
from utils.training import save_run

pytestmark = needs_gpu


def configuration(precision: str) -> DBMRNetConfig:
    return DBMRNetConfig(ModelSettings("small"), {}, precision, 5, 4, 0, 1e-3, 1)


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
        learner = DBMRNetLearner(configuration(kind), batch, None)
        steps = [learner.step([0, 1, 2, 3], torch.Generator().manual_seed(step)) for step in range(3)]
        losses.append(torch.stack([value.cpu() for step in steps for value in step.values()]))
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=0)


def test_training_step_waits_once(on_gpu: Inputs) -> None:
    learner = DBMRNetLearner(configuration("fp32"), on_gpu, None)
    generator = torch.Generator().manual_seed(0)
    learner.step([0, 1, 2, 3], generator)  # fills what is kept from step to step
    with waits(GPU) as waited:
        learner.step([3, 1], generator)
    assert len(waited) <= 1, waited  # the numbers of visible centres are read


@pytest.mark.parametrize(("first", "second"), [("cpu", "gpu"), ("gpu", "cpu"), ("gpu", "gpu")])
def test_run_goes_on_on_another_device(
    first: str, second: str, on_gpu: Inputs, inputs: Inputs, samples: list[Sample], tmp_path: Path
) -> None:
    prepared = {"cpu": inputs, "gpu": on_gpu}

    def run(folder: str, device: str, resume: bool, stop: int | None) -> tuple[list[float], float]:
        name, losses = CheckpointName(tmp_path / folder, "thing", 5, 4), []

        def report(entry: dict[str, Any]) -> None:
            if entry["epoch"] == stop:
                raise KeyboardInterrupt
            losses.append(entry["loss_validation"])

        config, some = configuration("fp32"), prepared[device]
        found = training.train(some, some.select(torch.arange(2).to(DEVICES[device])), config, name, resume, report, 0)
        save_run(name, training.PART, training.states(found), config, {}, training.SUFFIX)
        loaded, _ = training.load(name, training.PART, None)
        assert loaded.device == CPU
        again = loaded.prepare(samples[:1])
        maps = loaded.maps(loaded.discrepancies(again, loaded.reconstruct(again), "residual"), "max")
        return losses, maps[0].image_score()

    losses, score = run("whole", "cpu", False, None)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", first, False, 3)
    rest, found = run("stopped", second, True, None)
    assert rest == pytest.approx(losses[2:], rel=1e-2)
    assert found == pytest.approx(score, rel=0.05)
