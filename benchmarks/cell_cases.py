"""The extractor cnn_normals: one function a case, each returning the work to repeat. Inputs as in `cases`."""

from dataclasses import replace

import torch

from benchmarks.cases import BATCH, TRAINING_BATCH, dome
from benchmarks.measure import Setting, Work
from datasets.records import scan
from datasets.sample import Sample, iter_samples, make_sample
from models.cfm.detector import CrossmodalDetector
from models.cfm.pipeline import CFMPipeline
from models.cfm.training import CFMConfig, CFMLearner
from models.extractors import Extractor, ExtractorOptions, build_extractor
from models.token_store import GridSample, batches, extract_batch, fit_extractor
from utils.devices import pick_device


def samples(frozen: Extractor, count: int) -> list[Sample]:
    """Domes with the view that the extractor looks at."""
    return [make_sample(*dome(seed=seed), view=frozen.view) for seed in range(count)]


def extractor(precision: str, device: torch.device) -> Extractor:
    """With the statistics of two domes."""
    frozen = build_extractor("cnn_normals", device, ExtractorOptions(precision=precision))
    fit_extractor(frozen, samples(frozen, 2), 1, device)
    return frozen


def pipeline(precision: str, device: torch.device) -> CFMPipeline:
    """With random mappers."""
    frozen = extractor(precision, device)
    mappers = CrossmodalDetector(frozen.rgb_width, frozen.xyz_width, "mlp_wide", precision)
    return CFMPipeline(frozen, mappers.to(device).eval(), device)


def inference(setting: Setting, precision: str) -> Work:
    """Samples in memory → maps and scores."""
    device = pick_device(setting.device)
    made = pipeline(precision, device)
    items = samples(made.extractor, BATCH[device.type])
    return Work(lambda: scores(made, items), len(items), device.type)


def inference_with_reading(setting: Setting, precision: str) -> Work:
    """Files on disk → maps and scores, read ahead in threads as `cfm_inference.py` does."""
    device = pick_device(setting.device)
    made, records = pipeline(precision, device), scan(setting.folder / "domes", "dome", "test")

    def step() -> None:
        for batch in batches(iter_samples(records, view=made.view), BATCH[device.type]):
            scores(made, [item for _, item in batch])

    return Work(step, len(records), device.type)


def scores(made: CFMPipeline, items: list[GridSample] | list[Sample]) -> list[float]:
    """Image score of each sample."""
    return [found.image_score() for found in made.maps(items)]


def extraction(setting: Setting, precision: str) -> Work:
    """Samples in memory → tokens."""
    device = pick_device(setting.device)
    frozen = extractor(precision, device)
    items = samples(frozen, BATCH[device.type])
    return Work(lambda: extract_batch(items, frozen, device), len(items), device.type)


def training(setting: Setting, precision: str) -> Work:
    """One step on a batch of samples whose tokens are in the device's memory, with one update."""
    device = pick_device(setting.device)
    frozen = extractor(precision, device)
    tokens = extract_batch(samples(frozen, TRAINING_BATCH), frozen, device)
    config = CFMConfig({}, {}, "mlp_wide", precision, 50, TRAINING_BATCH, 0, None)
    learner = CFMLearner(tokens, replace(config, epochs=10_000), device)
    generator = torch.Generator().manual_seed(0)
    return Work(lambda: learner.step(list(range(TRAINING_BATCH)), generator), TRAINING_BATCH, device.type)
