"""DBMRNet: a training step and inference, with random weights on the domes of `cases`."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import cases
from benchmarks.measure import Setting, Work, timed
from datasets.sample import Sample
from models.dbmrnet.detector import DBMRNetDetector
from models.dbmrnet.inputs import prepare
from models.dbmrnet.settings import FUSIONS, PRESETS, SCORES, WARMUP_EPOCHS, ModelSettings
from models.dbmrnet.training import DBMRNetConfig, DBMRNetLearner
from utils.devices import pick_device

TRAINING_BATCH = {"cpu": 4, "cuda": 16}
INFERENCE_BATCH = {"cpu": 1, "cuda": 16}
EPOCHS, SEED = 300, 0


def training(setting: Setting, preset: str, precision: str) -> Work:
    """One optimiser step on prepared samples in the device's memory: a steady epoch, without its validation."""
    device = pick_device(setting.device)
    items = [cases.sample(seed) for seed in range(TRAINING_BATCH[device.type])]
    learner, step = training_step(preset, precision, items, device)
    return Work(step, len(items), device.type, partial(describe, learner.detector, items))


def training_step(
    preset: str, precision: str, items: list[Sample], device: torch.device
) -> tuple[DBMRNetLearner, Callable[[], object]]:
    """A learner and its step on these samples, to be called again and again."""
    model, rate = ModelSettings(preset), PRESETS[preset].learning_rate
    config = DBMRNetConfig(model, {}, precision, EPOCHS, len(items), SEED, rate, WARMUP_EPOCHS)
    learner = DBMRNetLearner(config, prepare(items, model, SEED, device), None)
    return learner, partial(learner.step, list(range(len(items))), torch.Generator().manual_seed(SEED))


def inference(setting: Setting, preset: str, precision: str) -> Work:
    """Samples in memory → fused maps and scores on the CPU by the default score; preparation included."""
    device = pick_device(setting.device)
    items = [cases.sample(seed) for seed in range(INFERENCE_BATCH[device.type])]
    detector = untrained(preset, precision, items, device)
    return Work(partial(scores, detector, items), len(items), device.type, partial(describe, detector, items))


def untrained(preset: str, precision: str, items: list[Sample], device: torch.device) -> DBMRNetDetector:
    """A detector with random weights that knows the radii of these samples."""
    detector = DBMRNetDetector(ModelSettings(preset), precision, SEED).to(device).eval()
    # Else the rebuilt points would lie far from the cloud, where searching neighbours takes another time.
    detector.network.fit_radii(detector.prepare(items))
    return detector


def scores(detector: DBMRNetDetector, items: list[Sample]) -> list[float]:
    """Image score of each sample; the fused maps are brought to the CPU at once, as for files and metrics."""
    inputs = detector.prepare(items)
    found = detector.discrepancies(inputs, None, SCORES[0])
    fused = torch.stack([fused.smoothed for fused in detector.maps(found, FUSIONS[0])]).cpu()
    return fused.amax(dim=(1, 2)).tolist()


def describe(detector: DBMRNetDetector, items: list[Sample]) -> dict[str, Any]:
    """Millions of parameters, and seconds of preparing a sample: sampling and neighbourhoods, on the device."""
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    work = Work(lambda: detector.prepare(items), device=detector.device.type)
    seconds = statistics.median(timed(work) for _ in range(3))
    return {"million_parameters": round(parameters / 1e6, 2), "preparation_seconds": seconds / len(items)}
