"""Stand-in weights and samples whose expected values are known (tests/golden), shared by all tests.

What only some tests need is imported in the fixtures, so that a machine without it runs the others; so is torch, for
the process that hands out the tests starts the others only after it has imported this.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from utils.parallel import available_cores

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from datasets.sample import Sample
    from models.cfm.detector import CrossmodalDetector
    from models.extractors.dino_pointmae import DinoPointMAE
    from models.tokens import Tokens
    from tests.trained import Trained

GOLDEN = Path(__file__).parent / "golden"
CASES = ("dome", "near", "plank")
MAPPER_WIDTHS = {"CFM_2Dto3D": (768, 1152), "CFM_3Dto2D": (1152, 768)}


def recipe_state(prefix: str, shapes: dict[str, Any]) -> dict[str, Tensor]:
    """Stand-in weights: every value follows from the parameter's name and shape."""
    import numpy as np
    import torch

    spec = importlib.util.spec_from_file_location("recipe", GOLDEN / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return {name: torch.from_numpy(np.asarray(value)) for name, value in recipe.fill(shapes, prefix).items()}


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of each entry of the state dict."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.fixture(scope="session")
def golden() -> dict[str, dict[str, np.ndarray]]:
    """Expected values by case."""
    import numpy as np

    return {case: dict(np.load(GOLDEN / "cases" / f"{case}.npz")) for case in CASES}


@pytest.fixture(scope="session")
def golden_samples() -> dict[str, Sample]:
    """The cases' files as samples."""
    import tifffile
    from PIL import Image

    from datasets.sample import make_sample

    folder = GOLDEN / "cases"
    return {
        case: make_sample(Image.open(folder / f"{case}.png"), tifffile.imread(folder / f"{case}.tiff"))
        for case in CASES
    }


@pytest.fixture(scope="session")
def dino_file(shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Stand-in weights of DINO ViT-B/8 in the format of the public file."""
    import torch

    from models.extractors.dino import DinoEncoder

    def write(folder: Path) -> None:
        with torch.device("meta"):  # only the shapes are asked for
            shapes = shapes_of(DinoEncoder().vit)
        torch.save(recipe_state("rgb", shapes), folder / "dino.pth")

    return shared("dino", write) / "dino.pth"


@pytest.fixture(scope="session")
def vit_state(dino_file: Path) -> dict[str, Tensor]:
    """Stand-in weights of DINO ViT-B/8 under the names of the public file; not to be changed."""
    import torch

    state: dict[str, Tensor] = torch.load(dino_file, mmap=True, weights_only=True)
    return state


@pytest.fixture(scope="session")
def point_mae_state() -> dict[str, Tensor]:
    """Stand-in weights of the Point-MAE encoder under the names of the public file."""
    return recipe_state("xyz", json.loads((GOLDEN / "point_mae_encoder_shapes.json").read_text()))


@pytest.fixture(scope="session")
def mapper_states() -> Callable[[str], dict[str, dict[str, Tensor]]]:
    """Stand-in weights of both mappers, by variant."""
    from models.cfm.mappers import CrossmodalMapper

    def states(variant: str) -> dict[str, dict[str, Tensor]]:
        return {
            name: recipe_state(name, shapes_of(CrossmodalMapper(*widths, variant)))
            for name, widths in MAPPER_WIDTHS.items()
        }

    return states


@pytest.fixture(scope="session")
def build_dino_pointmae(
    vit_state: dict[str, Tensor], point_mae_state: dict[str, Tensor]
) -> Callable[..., DinoPointMAE]:
    """Builds the paper's extractors with the stand-in weights."""
    from models.extractors.dino_pointmae import DinoPointMAE, DinoPointMAESettings, blank_encoders
    from utils.devices import DTYPES

    whole = blank_encoders()
    whole[0].vit.load_state_dict(vit_state)
    whole[1].load_state_dict(point_mae_state)
    weights = [weight for encoder in whole for weight in encoder.parameters()]

    def build(mode: str = "eval", keep_blocks: int = 12, precision: str = "fp32") -> DinoPointMAE:
        # Half a gigabyte, which nothing changes but another precision.
        kept = {id(weight): weight for weight in weights} if precision == "fp32" else {}
        image, cloud = copy.deepcopy(whole, kept)
        for encoder in (image, cloud):
            encoder.prune(keep_blocks)
            encoder.set_precision(DTYPES[precision])
        return DinoPointMAE(image, cloud, DinoPointMAESettings(mode, keep_blocks, precision, "rgb", "xyz"))

    return build


@pytest.fixture(scope="session")
def golden_tokens(
    build_dino_pointmae: Callable[..., DinoPointMAE], golden_samples: dict[str, Sample]
) -> dict[tuple[str, str], Tokens]:
    """Tokens by case and extractor mode, one sample at a time; each is made when it is first asked for."""
    from models.tokens import Tokens

    images: dict[str, Tensor] = {}  # what the image encoder says, which no mode changes

    class Found(dict[tuple[str, str], Tokens]):
        def __missing__(self, key: tuple[str, str]) -> Tokens:
            case, mode = key
            sample, extractor = golden_samples[case], build_dino_pointmae(mode)
            if case not in images:
                images[case] = extractor.image(sample.rgb[None])
            extractor.image.forward = lambda rgb: images[case]  # type: ignore[method-assign]
            self[key] = extractor.extract(sample.rgb[None], sample.xyz[None], sample.valid[None])[0]
            return self[key]

    return Found()


@pytest.fixture
def golden_detector(mapper_states: Callable[[str], dict[str, dict[str, Tensor]]]) -> Callable[..., CrossmodalDetector]:
    """Builds a detector with the stand-in mappers."""
    from models.cfm.detector import CrossmodalDetector

    def build(variant: str = "mlp", precision: str = "fp32") -> CrossmodalDetector:
        states = mapper_states(variant)
        return CrossmodalDetector.from_states(states["CFM_2Dto3D"], states["CFM_3Dto2D"], precision)

    return build


@pytest.fixture(scope="session")
def make_random_tokens() -> Callable[[int], Tokens]:
    """Makes small related tokens of one made-up sample: 7×7 RGB tokens of width 6, 20 groups of width 8."""
    import torch

    from models.tokens import group_clouds, make_tokens

    def make(seed: int) -> Tokens:
        generator = torch.Generator().manual_seed(seed)
        size, (v, u) = 32, torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
        valid = ((u - 15) ** 2 + (v - 16) ** 2) < 100 + 5 * seed
        xyz = torch.stack([u / 100 - 0.15, v / 100 - 0.15, 0.6 + 0.02 * torch.rand(size, size, generator=generator)])
        groups = group_clouds((xyz * valid)[None], valid[None], 20)[0]
        grid = torch.cartesian_prod(torch.linspace(-0.15, 0.15, 7), torch.linspace(-0.15, 0.15, 7)).flip(1)  # x, y
        rgb = torch.cos(grid @ torch.linspace(-30, 20, 12).view(2, 6)) + 0.1 * torch.randn(49, 6, generator=generator)
        geometry = torch.sin(groups.centres[:, :2] @ torch.linspace(-40, 40, 16).view(2, 8) + 1)
        return make_tokens(rgb, geometry, groups, size)

    return make


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """(name, make) -> a folder that `make` fills, once for all processes of the tests; not to be changed."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, done = root / "shared" / name, root / "shared" / f"{name}.done"
        place.parent.mkdir(exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)  # of a worker that was stopped
                place.mkdir()
                make(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def trained(shared: Callable[[str, Callable[[Path], object]], Path]) -> Trained:
    """Detectors of both methods on a few generated scenes; not to be changed."""
    from tests.trained import Trained, train_both

    return Trained(shared("trained", train_both))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """A process a core; each takes up to 2.5 GB. One more takes the caches of the others, and a tenth longer in all."""
    return min(8, available_cores())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: collections of garbage need not go through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a worker takes a file at a time, and none shall begin a long one at the end.

    The very first makes `trained`, so that no other that needs it waits for that.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        makes = next((i.path for i in items if isinstance(i, pytest.Function) and "trained" in i.fixturenames), None)
        items.sort(key=lambda item: (item.path != makes, item.path not in slow))
