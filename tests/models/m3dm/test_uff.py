"""The network that fuses: its loss by hand, what it learns of rightly and wrongly paired patches, and resuming."""

import math

import pytest
import torch
from torch import Tensor

from models.m3dm import uff
from models.m3dm.cells import Cells, Grid
from models.m3dm.uff import UFF, UFFLearner, info_nce

CPU = torch.device("cpu")


def test_info_nce_by_hand() -> None:
    """Lengths do not count; cosines are 1, 0.6, 0 and 0.8."""
    queries = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    keys = torch.tensor([[3.0, 0.0], [0.6, 0.8]])
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(0.6)))
    second = -math.log(math.exp(0.8) / (math.exp(0) + math.exp(0.8)))
    assert float(info_nce(queries, keys)) == pytest.approx(first + second)  # twice the mean of two


def nominal(seed: int, scrambled: bool = False, count: int = 120) -> Cells:
    """Cells whose geometry is a rotation of their RGB, and noise."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(99)))[0]
    rgb = torch.randn(count, 12, generator=generator)
    xyz = rgb @ turn + 0.05 * torch.randn(count, 12, generator=generator)
    inside = torch.randperm(count, generator=generator) if scrambled else torch.arange(count)
    grid = Grid(torch.arange(count), 11)
    return Cells(rgb, grid, xyz, grid, inside)


def learn(cells: list[Cells], epochs: int = 2, seed: int = 0) -> tuple[UFFLearner, float]:
    learner = UFFLearner(cells, epochs, 2, seed, CPU)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        losses = [learner.step(batch, generator)["loss"] for batch in ([0, 1], [2, 3])]
    return learner, float(losses[-1])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uff, "UPDATES", 80)
    monkeypatch.setattr(uff, "PATCHES", 64)


@pytest.mark.usefixtures("short")
def test_scrambled_pairs_cannot_be_told() -> None:
    """As in the release, where RGB patches of the training come in another order than geometry's."""
    right, loss = learn([nominal(seed) for seed in range(4)])
    _, scrambled = learn([nominal(seed, scrambled=True) for seed in range(4)])
    chance = 2 * math.log(64)
    assert loss < chance - 1
    assert scrambled > loss + 0.5
    with torch.no_grad():
        xyz, rgb = nominal(9).pairs
        paired, moved = right.network.loss(xyz, rgb), right.network.loss(xyz, rgb.roll(1, dims=0))
    assert float(moved) > float(paired) + 0.5


@pytest.mark.usefixtures("short")
def test_updates_see_a_bounded_number_of_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def watch(self: UFF, xyz: Tensor, rgb: Tensor) -> Tensor:
        seen.append((*xyz.shape, len(rgb), len(xyz.unique(dim=0))))
        return sum((parameter.sum() for parameter in self.parameters()), torch.zeros(()))

    monkeypatch.setattr(UFF, "loss", watch)
    learner, _ = learn([nominal(seed) for seed in range(4)])
    assert set(seen) == {(64, 12, 64, 64)}  # drawn without repetition
    assert len(seen) == learner.done == learner.all_updates == 80


@pytest.mark.usefixtures("short")
def test_rate_rises_for_a_third_of_the_updates_and_falls_as_a_cosine_does() -> None:
    learner = UFFLearner([nominal(seed) for seed in range(4)], 2, 2, 0, CPU)
    assert learner.all_updates == 80
    rates = {}
    for done in (0, 13, 27, 53, 79):
        learner.done = done
        rates[done] = learner._share()
    rising, falling = 80 / 3, 80 * 2 / 3
    assert rates[0] == pytest.approx(1 / (rising + 1))
    assert rates[13] == pytest.approx(14 / (rising + 1))
    for done in (27, 53, 79):
        assert rates[done] == pytest.approx((1 + math.cos(math.pi * (done - rising) / falling)) / 2)


def test_fused_rows_are_both_perceptrons_side_by_side_without_residual() -> None:
    network = UFF(5, 3)
    xyz, rgb = torch.randn(7, 5), torch.randn(7, 3)
    fused = network(xyz, rgb)
    assert fused.shape == (7, 8)
    assert not fused.requires_grad
    with torch.no_grad():
        normed = torch.nn.functional.layer_norm(xyz, (5,))
        hidden = torch.nn.functional.gelu(normed @ network.xyz_mlp.fc1.weight.T + network.xyz_mlp.fc1.bias)
        wanted = hidden @ network.xyz_mlp.fc2.weight.T + network.xyz_mlp.fc2.bias
    torch.testing.assert_close(fused[:, :5], wanted)
    assert torch.equal(network(2 * xyz, rgb)[:, 5:], fused[:, 5:])
    names = {name.rsplit(".", 1)[0] for name in network.state_dict()}
    of = [f"{kind}_{part}" for kind in ("xyz", "rgb") for part in ("norm", "mlp.fc1", "mlp.fc2", "head")]
    assert names == set(of)


def test_the_seed_decides_and_the_global_generator_stays() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (UFF(4, 4, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first["xyz_mlp.fc1.weight"], again["xyz_mlp.fc1.weight"])
    assert not torch.equal(first["xyz_mlp.fc1.weight"], other["xyz_mlp.fc1.weight"])
