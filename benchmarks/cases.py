"""What the benchmarks time: one function a case, each returning the work to repeat.

Inputs are generated and seeded, weights are random: the arithmetic does not depend on their values.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import plain_cfm
from datasets.sample import Sample, make_sample
from models.cfm.detector import LEARNING_RATE, CrossmodalDetector
from models.extractors.dino import DinoEncoder
from models.extractors.dino_pointmae import DinoPointMAE, DinoPointMAESettings
from models.extractors.point_mae import PointMAEEncoder
from models.token_store import CPU, extract_batch
from models.tokens import Tokens

Work = Callable[[], object]


def dome(pixels: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A ribbed dome of about `pixels` valid pixels on the 224 grid: (448, 448, 3) uint8 and float32 metres."""
    rng = np.random.default_rng(seed)
    side = 448
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.sqrt(pixels * (side / 224) ** 2 / np.pi)
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


def encoders(seed: int = 0) -> tuple[DinoEncoder, PointMAEEncoder]:
    """Both frozen encoders with random weights."""
    torch.manual_seed(seed)
    return DinoEncoder(), PointMAEEncoder()


def extractor(precision: str) -> DinoPointMAE:
    """The paper's extractors with random weights."""
    image, cloud = encoders()
    for encoder in (image, cloud):
        encoder.set_precision(torch.bfloat16 if precision == "bf16" else torch.float32)
    return DinoPointMAE(image, cloud, DinoPointMAESettings("eval", 12, precision, "random", "random"))


def extract(precision: str, samples: list[Sample]) -> list[Tokens]:
    """Tokens of a batch of samples."""
    return extract_batch(samples, extractor(precision), CPU)


def extraction(precision: str) -> Work:
    """One sample in memory → tokens and operators."""
    item, frozen = sample(), extractor(precision)
    return lambda: frozen.extract(item.rgb[None], item.xyz[None], item.valid[None])


def inference(precision: str) -> Work:
    """One sample in memory → maps and score."""
    item, frozen = sample(), extractor(precision)
    detector = CrossmodalDetector(768, 1152, "mlp", precision).eval()
    return lambda: detector.predict(frozen.extract(item.rgb[None], item.xyz[None], item.valid[None])[0]).image_score()


def training(precision: str) -> Work:
    """One optimiser step on a batch of four samples whose tokens are in memory (a steady epoch)."""
    batch = extract(precision, [sample(seed) for seed in range(4)])
    detector = CrossmodalDetector(768, 1152, "mlp", precision)
    optimizer = torch.optim.Adam(detector.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        detector.backward(batch)
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


def plain_extraction() -> Work:
    """One sample in memory → dense features."""
    inputs = plain_inputs()
    return lambda: plain_cfm.extract(*inputs["sample"], *inputs["frozen"])


def plain_inference() -> Work:
    """One sample in memory → maps and score, dense."""
    inputs = plain_inputs()
    states = inputs["mappers"].rgb_to_xyz.state_dict(), inputs["mappers"].xyz_to_rgb.state_dict()

    def run() -> float:
        features = plain_cfm.extract(*inputs["sample"], *inputs["frozen"])
        return plain_cfm.image_score(plain_cfm.anomaly_maps(features, *states)[2])

    return run


def plain_training() -> Work:
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

    return step
