"""Extraction, inference and training: one function a case, each returning the work to repeat.

Inputs are generated and seeded, weights are random: the arithmetic does not depend on their values.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image

from benchmarks import plain_cfm
from benchmarks.measure import Setting, Work
from datasets.records import scan
from datasets.sample import Sample, iter_samples, make_sample
from models.cfm.detector import LEARNING_RATE, CrossmodalDetector
from models.extractors.dino import DinoEncoder
from models.extractors.dino_pointmae import DinoPointMAE, DinoPointMAESettings
from models.extractors.point_mae import PointMAEEncoder
from models.token_store import batches, extract_batch
from models.tokens import Tokens
from utils.devices import pick_device, product_type

BATCH = {"cpu": 1, "cuda": 16}
"""Images extracted, and scored, at a time."""

TRAINING_BATCH = 4
FILES = {"cpu": 4, "cuda": 32}
FILE_SIDE = 800


def dome(pixels: int = 18_750, side: int = 448, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A ribbed dome of about `pixels` valid pixels on the 224 grid: (side, side, 3) uint8 and float32 metres.

    The default makes about 20 000 foreground pixels, which are the valid ones and those next to them.
    """
    rng = np.random.default_rng(seed)
    v, u = (np.mgrid[:side, :side] - (side - 1) / 2) * (448 / side)
    radius = np.sqrt(pixels * (448 / 224) ** 2 / np.pi)
    inside = u**2 + v**2 < radius**2
    height = 0.03 * np.sqrt(np.clip(1 - (u**2 + v**2) / radius**2, 0, 1)) + 0.001 * np.sin(u / 9)
    z = 0.6 - height + rng.normal(0, 4e-5, u.shape)
    xyz = np.stack([u * z / 1500, v * z / 1500, z], axis=-1).astype(np.float32) * inside[..., None]
    colour = np.stack([150 + 60 * np.sin(u / 9), 90 + 40 * np.cos(v / 15), 60 + 0 * u], axis=-1)
    rgb = np.where(inside[..., None], colour, 40) + rng.normal(0, 4, (side, side, 3))
    return rgb.clip(0, 255).astype(np.uint8), xyz


def sample(seed: int = 0) -> Sample:
    """A dome as a sample."""
    rgb, xyz = dome(seed=seed)
    return make_sample(Image.fromarray(rgb), xyz)


def write_files(setting: Setting) -> None:
    """Domes as the preprocessed test images of a class, for the cases with reading: FILE_SIDE² PNG and TIFF."""
    folder = setting.folder / "domes" / "dome" / "test" / "good"
    for kind in ("rgb", "xyz"):
        (folder / kind).mkdir(parents=True)
    for index in range(FILES[pick_device(setting.device).type]):
        rgb, xyz = dome(side=FILE_SIDE, seed=index)
        Image.fromarray(rgb).save(folder / "rgb" / f"{index:03d}.png")
        tifffile.imwrite(folder / "xyz" / f"{index:03d}.tiff", xyz, photometric="rgb")


def write_batch(setting: Setting, path: Path, what: str) -> str:
    """The samples of a case as arrays for another implementation; returns the device that they are meant for."""
    device = pick_device(setting.device).type
    count = {"cpu": 1, "cuda": BATCH["cuda"] if what == "inference" else TRAINING_BATCH}[device]
    items = [sample(seed) for seed in range(count)]
    np.savez(path, rgb=torch.stack([s.rgb for s in items]).numpy(), xyz=torch.stack([s.xyz for s in items]).numpy())
    return device


def encoders(seed: int = 0) -> tuple[DinoEncoder, PointMAEEncoder]:
    """Both frozen encoders with random weights."""
    torch.manual_seed(seed)
    return DinoEncoder(), PointMAEEncoder()


def extractor(precision: str, device: torch.device) -> DinoPointMAE:
    """The paper's extractors with random weights."""
    image, cloud = encoders()
    for encoder in (image, cloud):
        encoder.set_precision(product_type(device, precision))
        encoder.to(device)
    return DinoPointMAE(image, cloud, DinoPointMAESettings("eval", 12, precision, "random", "random"))


def detector(frozen: DinoPointMAE, precision: str, device: torch.device) -> CrossmodalDetector:
    """The mappers for an extractor's tokens."""
    return CrossmodalDetector(frozen.rgb_width, frozen.xyz_width, "mlp", precision).to(device)


def extraction(setting: Setting, precision: str) -> Work:
    """Samples in memory → tokens and operators."""
    device = pick_device(setting.device)
    items, frozen = [sample(seed) for seed in range(BATCH[device.type])], extractor(precision, device)
    return Work(lambda: extract_batch(items, frozen, device), len(items), device.type)


def inference(setting: Setting, precision: str) -> Work:
    """Samples in memory → maps and scores."""
    device = pick_device(setting.device)
    items, frozen = [sample(seed) for seed in range(BATCH[device.type])], extractor(precision, device)
    mappers = detector(frozen, precision, device).eval()
    return Work(lambda: scores(items, frozen, mappers, device), len(items), device.type)


def inference_with_reading(setting: Setting, precision: str) -> Work:
    """Files on disk → maps and scores, read ahead in threads as `cfm_inference.py` does."""
    device = pick_device(setting.device)
    frozen = extractor(precision, device)
    mappers = detector(frozen, precision, device).eval()
    records = scan(setting.folder / "domes", "dome", "test")

    def step() -> None:
        for batch in batches(iter_samples(records), BATCH[device.type]):
            scores([item for _, item in batch], frozen, mappers, device)

    return Work(step, len(records), device.type)


def scores(items: list[Sample], frozen: DinoPointMAE, mappers: CrossmodalDetector, device: torch.device) -> list[float]:
    """Image score of each sample; the maps are brought to the CPU, as for files and metrics."""
    maps = [mappers.predict(tokens) for tokens in extract_batch(items, frozen, device)]
    return [found.cpu().image_score() for found in maps]


def training(setting: Setting, precision: str, pixel_fraction: float = 1.0) -> Work:
    """One optimiser step on a batch of samples whose tokens are in the device's memory: a steady epoch."""
    device = pick_device(setting.device)
    frozen = extractor(precision, device)
    batch = extract_batch([sample(seed) for seed in range(TRAINING_BATCH)], frozen, device)
    mappers = detector(frozen, precision, device)
    return Work(training_step(mappers, batch, pixel_fraction), len(batch), device.type)


def training_step(mappers: CrossmodalDetector, batch: list[Tokens], pixel_fraction: float) -> Callable[[], None]:
    """An optimiser step, to be called again and again."""
    optimizer = torch.optim.Adam(mappers.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        images = [image.draw_pixels(pixel_fraction, generator) for image in batch] if pixel_fraction < 1 else batch
        optimizer.zero_grad(set_to_none=True)
        mappers.backward(images)
        optimizer.step()

    return step


def plain_inputs() -> dict[str, Any]:
    """A sample and the weights as the plain implementation takes them."""
    item, (image, cloud) = sample(), encoders()
    return {
        "sample": (item.rgb, item.xyz, item.valid),
        "frozen": (image.vit, cloud.state_dict(), "eval"),
        "mappers": CrossmodalDetector(768, 1152, "mlp", "fp32"),
    }


def plain_extraction(setting: Setting) -> Work:
    """One sample in memory → dense features."""
    inputs = plain_inputs()
    return Work(lambda: plain_cfm.extract(*inputs["sample"], *inputs["frozen"]))


def plain_inference(setting: Setting) -> Work:
    """One sample in memory → maps and score, dense."""
    inputs = plain_inputs()
    states = inputs["mappers"].rgb_to_xyz.state_dict(), inputs["mappers"].xyz_to_rgb.state_dict()

    def run() -> float:
        features = plain_cfm.extract(*inputs["sample"], *inputs["frozen"])
        return plain_cfm.image_score(plain_cfm.anomaly_maps(features, *states)[2])

    return Work(run)


def plain_training(setting: Setting) -> Work:
    """One optimiser step on one sample that is extracted again, as in every epoch of the original scripts."""
    inputs = plain_inputs()
    mappers = inputs["mappers"]
    optimizer = torch.optim.Adam(mappers.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        features = plain_cfm.extract(*inputs["sample"], *inputs["frozen"])
        optimizer.zero_grad(set_to_none=True)
        states = (dict(mapper.named_parameters()) for mapper in (mappers.rgb_to_xyz, mappers.xyz_to_rgb))
        torch.stack(plain_cfm.loss(features, *states)).sum().backward()
        optimizer.step()

    return Work(step)
