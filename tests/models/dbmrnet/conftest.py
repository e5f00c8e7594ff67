"""Small made-up samples for DBMRNet: a bumpy dome without background, seen by a pinhole, coloured by its height."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.masking import Mask, draw_mask
from models.dbmrnet.network import MaskedReconstruction
from models.dbmrnet.settings import ModelSettings

FOCAL = 230.0  # pixels of the source image
CPU = torch.device("cpu")


@dataclass(frozen=True)
class GridArrays:
    """What the network is given of a sample, made without files: see `models.token_store.GridSample`."""

    rgb: Tensor
    xyz: Tensor
    valid: Tensor


@pytest.fixture(scope="session")
def make_dome() -> Callable[..., Sample]:
    """(seed, grid, (height, width)) -> a nominal sample: place, size and bumps vary, colour follows the height."""
    return _make_dome


@pytest.fixture(scope="session")
def make_grid() -> Callable[..., GridArrays]:
    """(xyz (3, H, H), valid (H, H), rgb or None for zeros) -> a sample with exactly these values."""

    def make(xyz: Tensor, valid: Tensor, rgb: Tensor | None = None) -> GridArrays:
        return GridArrays(torch.zeros_like(xyz) if rgb is None else rgb, xyz * valid, valid)

    return make


@pytest.fixture(scope="session")
def settings() -> ModelSettings:
    """The defaults at the smallest sizes."""
    return ModelSettings(preset="small")


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Four nominal samples."""
    return [_make_dome(seed) for seed in range(4)]


@pytest.fixture(scope="session")
def inputs(samples: list[Sample], settings: ModelSettings) -> Inputs:
    """The four samples, prepared."""
    return prepare(samples, settings, 5, CPU)


@pytest.fixture(scope="session")
def network(inputs: Inputs, settings: ModelSettings) -> MaskedReconstruction:
    """An untrained network that knows the radii."""
    made = MaskedReconstruction(settings, 3).eval()
    made.fit_radii(inputs)
    return made


@pytest.fixture(scope="session")
def draw_masks() -> Callable[..., tuple[Mask, Mask]]:
    """(number of samples, seed) -> point mask and image mask of the smallest sizes."""

    def draw(n_samples: int, seed: int = 0) -> tuple[Mask, Mask]:
        generator, sizes = torch.Generator().manual_seed(seed), ModelSettings(preset="small").sizes
        counts = sizes.centres[2], sizes.image_grid**2
        points, image = (draw_mask(n_samples, count, 0.75, generator) for count in counts)
        return points, image

    return draw


@pytest.fixture(scope="session")
def flat_inputs() -> Callable[..., Inputs]:
    """(valid mask) -> inputs whose cloud is z = 0 in normalised units, 20 pixels wide each unit, seen straight on.

    The projection is u = 20·x + 40, v = 20·y + 40 on a grid of 80, so values can be worked out by hand. There are no
    sampled points in it.
    """

    def make(valid: Tensor, image: Tensor | None = None, window: tuple[float, float, float] = (0, 0, 80)) -> Inputs:
        v, u = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
        cloud = torch.stack([(u - 40) / 20, (v - 40) / 20, torch.zeros(80, 80)]) * valid
        camera = torch.tensor([[20.0, 0, 0, 40], [0, 20, 0, 40], [0, 0, 0, 1]])
        none = torch.zeros(1, 0, dtype=torch.int64)
        return Inputs(
            image=torch.zeros(1, 3, 64, 64) if image is None else image[None],
            window=torch.tensor([window]),
            cloud=cloud[None],
            valid=valid[None],
            points=torch.zeros(1, 0, 3),
            camera=camera[None],
            axes=torch.eye(3)[None],
            middle=torch.zeros(1, 3),
            scale=torch.ones(1),
            centres=torch.zeros(1, 0, 3),
            owners=none,
            centre_owners=none,
            groups=none,
            descriptors=torch.zeros(1, 2, 0, 0),
            covered=torch.zeros(1, 0, dtype=torch.bool),
            near=(none, none, none),
        )

    return make


def _make_dome(seed: int, grid: int = 96, shape: tuple[int, int] = (144, 192)) -> Sample:
    rng = np.random.default_rng(seed)
    height, width = shape
    v, u = np.mgrid[:height, :width]
    middle_u, middle_v = width * 0.5 + rng.uniform(-8, 8), height * 0.5 + rng.uniform(-8, 8)
    radius = 0.4 * height * rng.uniform(0.95, 1.05)
    away = ((u - middle_u) ** 2 + (v - middle_v) ** 2) / radius**2
    turn = rng.uniform(-0.3, 0.3)
    waves = np.cos(0.12 * (u - middle_u) + turn) * np.cos(0.12 * (v - middle_v))
    z = 0.6 - 0.05 * np.clip(1 - away, 0, 1) - 0.004 * waves
    xyz = np.stack([(u - 0.48 * width) / FOCAL * z, (v - 0.53 * height) / FOCAL * z, z], axis=-1)
    xyz[away > 1] = 0
    colour = np.stack([0.5 + 0.4 * waves, 1 - away, 0.3 + 0.2 * waves], axis=-1)
    rgb = np.where(away[..., None] > 1, 0, 255 * np.clip(colour, 0, 1))
    return make_sample(rgb.astype(np.uint8), xyz.astype(np.float32), size=grid)
