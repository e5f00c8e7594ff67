"""What a GPU computes against what the CPU does; skipped where there is none."""

from collections.abc import Callable, Iterator

import pytest
import torch

from models.cfm.detector import CrossmodalDetector
from models.point_ops import farthest_point_sampling, nearest_neighbours
from models.tokens import Tokens, group_clouds

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
GPU = torch.device("cuda")
MakeTokens = Callable[[int], Tokens]


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """Call it, and from then on an operation that waits for the GPU raises."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


def test_groups_of_clouds_equal_the_cpus() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    valid = torch.stack([(rows - 40) ** 2 + (columns - 50) ** 2 < radius**2 for radius in (20, 35)])
    depth = 0.6 + 0.02 * torch.rand(2, 96, 96, generator=generator)
    xyz = torch.stack([columns / 500 * depth, rows / 500 * depth, depth], dim=1) * valid[:, None]
    clouds = [xyz[i][:, valid[i]].T.contiguous() for i in range(2)]
    picks = farthest_point_sampling([cloud.to(GPU) for cloud in clouds], 300)
    assert torch.equal(picks.cpu(), farthest_point_sampling(clouds, 300))
    squared, _ = nearest_neighbours(clouds[0][:50].to(GPU), clouds[0].to(GPU), 8)
    expected, _ = nearest_neighbours(clouds[0][:50], clouds[0], 8)
    torch.testing.assert_close(squared.cpu().double(), expected.double(), rtol=1e-4, atol=1e-9)
    for found, wanted in zip(group_clouds(xyz.to(GPU), valid.to(GPU), 300), group_clouds(xyz, valid, 300), strict=True):
        assert torch.equal(found.foreground.cpu(), wanted.foreground)
        features = torch.randn(300, 5, generator=generator)
        lifted = found.lift.multiply(features.to(GPU)).cpu()
        torch.testing.assert_close(lifted, wanted.lift.multiply(features), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.03)])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_training_step_equals_the_cpus_and_does_not_wait(
    share: float, precision: str, tolerance: float, make_random_tokens: MakeTokens, no_waiting: Callable[[], None]
) -> None:
    batch = [make_random_tokens(seed) for seed in range(2)]
    resident = [tokens.to(GPU) for tokens in batch]
    expected, found = CrossmodalDetector(6, 8, "mlp", "fp32"), CrossmodalDetector(6, 8, "mlp", precision).to(GPU)
    optimizer = torch.optim.Adam(found.parameters())
    for step in range(2):  # the first fills what is kept from step to step
        found.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(0)
        found.backward([tokens.draw_pixels(share, generator) for tokens in resident])
        if step == 0:
            no_waiting()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    generator = torch.Generator().manual_seed(0)
    expected.backward([tokens.draw_pixels(share, generator) for tokens in batch])
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad.cpu() - other.grad).norm() < tolerance * other.grad.norm()


def test_maps_equal_the_cpus(make_random_tokens: MakeTokens) -> None:
    tokens, detector = make_random_tokens(0), CrossmodalDetector(6, 8, "mlp", "fp32").eval()
    expected = detector.predict(tokens)
    found = detector.to(GPU).predict(tokens.to(GPU)).cpu()
    torch.testing.assert_close(found.smoothed, expected.smoothed, rtol=1e-4, atol=1e-6)
    assert found.image_score() == pytest.approx(expected.image_score(), rel=1e-4)
