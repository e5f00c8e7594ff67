"""What a GPU computes against what the CPU does; skipped where there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.waits import waits
from models.cfm import training
from models.cfm.detector import CrossmodalDetector
from models.point_ops import farthest_point_sampling, nearest_neighbours
from models.tokens import Tokens, group_clouds
from tests.gpu import CPU, DEVICES, GPU, needs_gpu
from utils.checkpoint import CheckpointName
from utils.training import save_run

pytestmark = needs_gpu
MakeTokens = Callable[[int], Tokens]


def discs() -> tuple[Tensor, Tensor]:
    """Two organised clouds: (2, 3, 96, 96) metres, (2, 96, 96) bool."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    valid = torch.stack([(rows - 40) ** 2 + (columns - 50) ** 2 < radius**2 for radius in (20, 35)])
    depth = 0.6 + 0.02 * torch.rand(2, 96, 96, generator=generator)
    return torch.stack([columns / 500 * depth, rows / 500 * depth, depth], dim=1) * valid[:, None], valid


def test_groups_of_clouds_equal_the_cpus() -> None:
    xyz, valid = discs()
    clouds = [xyz[i][:, valid[i]].T.contiguous() for i in range(2)]
    picks = farthest_point_sampling([cloud.to(GPU) for cloud in clouds], 300)
    assert torch.equal(picks.cpu(), farthest_point_sampling(clouds, 300))
    generator = torch.Generator().manual_seed(0)
    for found, wanted in zip(group_clouds(xyz.to(GPU), valid.to(GPU), 300), group_clouds(xyz, valid, 300), strict=True):
        assert torch.equal(found.foreground.cpu(), wanted.foreground)
        features = torch.randn(300, 5, generator=generator)
        lifted = found.lift.multiply(features.to(GPU)).cpu()
        torch.testing.assert_close(lifted, wanted.lift.multiply(features), rtol=0, atol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 8, 128])
def test_neighbours_equal_the_cpus(k: int) -> None:
    xyz, valid = discs()
    points = xyz[1][:, valid[1]].T.contiguous()
    squared, indices = nearest_neighbours(points[:500].to(GPU), points.to(GPU), k)
    expected, _ = nearest_neighbours(points[:500], points, k)
    torch.testing.assert_close(squared.cpu().double(), expected.double(), rtol=1e-4, atol=1e-9)
    found = (points[indices.cpu()] - points[:500, None]).double().square().sum(dim=2)
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.03)])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_training_step_equals_the_cpus_and_does_not_wait(
    share: float, precision: str, tolerance: float, make_random_tokens: MakeTokens
) -> None:
    batch = [make_random_tokens(seed) for seed in range(2)]
    resident = [tokens.to(GPU) for tokens in batch]
    expected, found = CrossmodalDetector(6, 8, "mlp", "fp32"), CrossmodalDetector(6, 8, "mlp", precision).to(GPU)
    optimizer = torch.optim.Adam(found.parameters())

    def step() -> None:
        found.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(0)
        found.backward([tokens.draw_pixels(share, generator) for tokens in resident])

    step()  # fills what is kept from step to step
    with waits(GPU) as waited:
        step()
        gradients = [parameter.grad for parameter in found.parameters()]
        optimizer.step()
    assert waited == []
    generator = torch.Generator().manual_seed(0)
    expected.backward([tokens.draw_pixels(share, generator) for tokens in batch])
    for gradient, other in zip(gradients, expected.parameters(), strict=True):
        assert gradient is not None
        assert other.grad is not None
        assert (gradient.cpu() - other.grad).norm() < tolerance * other.grad.norm()


def test_maps_equal_the_cpus(make_random_tokens: MakeTokens) -> None:
    tokens, detector = make_random_tokens(0), CrossmodalDetector(6, 8, "mlp", "fp32").eval()
    expected = detector.predict(tokens)
    found = detector.to(GPU).predict(tokens.to(GPU)).cpu()
    torch.testing.assert_close(found.smoothed, expected.smoothed, rtol=1e-4, atol=1e-6)
    assert found.image_score() == pytest.approx(expected.image_score(), rel=1e-4)


@pytest.mark.parametrize(("first", "second"), [("cpu", "gpu"), ("gpu", "cpu"), ("gpu", "gpu")])
def test_run_goes_on_on_another_device(first: str, second: str, make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    config = training.CFMConfig({"extractor": "made up"}, {"images": 5}, "mlp", "fp32", 6, 2, 3, 1.0)
    tokens = [make_random_tokens(seed) for seed in range(5)]

    def run(folder: str, device: torch.device, resume: bool, stop: int | None) -> tuple[dict[str, Tensor], list[float]]:
        name, losses = CheckpointName(tmp_path / folder, "thing", 6, 2), []

        def report(entry: dict[str, Any]) -> None:
            if entry["epoch"] == stop:
                raise KeyboardInterrupt
            losses.append(entry["loss_2Dto3D"] + entry["loss_3Dto2D"])

        detector = training.train(tokens, config, name, device, resume, report, save_seconds=0)
        save_run(name, "CFM", training.states(detector, {}), config, {}, ".pth")
        loaded, _, _ = training.load(name, None)
        return loaded.state_dict(), losses

    expected, losses = run("whole", CPU, False, None)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", DEVICES[first], False, 4)
    found, rest = run("stopped", DEVICES[second], True, None)
    assert rest == pytest.approx(losses[3:], rel=1e-3)
    for key, value in expected.items():
        assert found[key].device == CPU
        assert (found[key] - value).norm() < 1e-2 * value.norm()
