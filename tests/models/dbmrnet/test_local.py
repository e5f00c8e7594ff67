"""Local descriptors rebuilt from the other modality: statistics, loss and errors by hand, and what is learnt."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from datasets.sample import Sample
from models.dbmrnet.descriptors import CELLS, WIDTH
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.local import SHRINKAGE, LocalReconstruction
from models.dbmrnet.scoring import to_pixels
from models.dbmrnet.settings import ModelSettings

CPU = torch.device("cpu")


def constant(log_scale: float) -> LocalReconstruction:
    """One that expects 0 with this error whatever it sees."""
    made = LocalReconstruction()
    with torch.no_grad():
        for head in made.heads:
            for parameter in head.parameters():
                parameter.zero_()
            [*head.parameters()][-1][WIDTH:] = log_scale  # the last bias
    return made


def test_statistics_of_nominal_cells(inputs: Inputs) -> None:
    made = LocalReconstruction()
    made.fit(inputs)
    for m in range(2):
        values = inputs.descriptors[:, m][inputs.covered].double()
        torch.testing.assert_close(made.mean[m].double(), values.mean(dim=0), rtol=0, atol=1e-4)
        scaled = ((values - made.mean[m]) / made.deviation[m]).clamp(-8, 8)
        shrunk = scaled.T @ scaled / len(scaled) + SHRINKAGE * torch.eye(WIDTH)
        inverse = made.whitening[m].double() @ made.whitening[m].double().T
        torch.testing.assert_close(inverse @ shrunk, torch.eye(WIDTH).double(), rtol=0, atol=5e-3)


def test_no_cell_at_all_leaves_the_statistics(inputs: Inputs) -> None:
    made = LocalReconstruction()
    none = replace(inputs, covered=torch.zeros_like(inputs.covered))
    made.fit(none)
    assert (float(made.mean.abs().max()), float(made.deviation.max())) == (0, 1)
    assert float(made.loss(none, torch.Generator().manual_seed(0)).detach()) == 0
    assert not bool(made.errors(none).any())


@pytest.mark.parametrize("log_scale", [0.0, 0.7, 9.0])
def test_loss_and_errors_by_hand(log_scale: float, inputs: Inputs) -> None:
    few = torch.zeros_like(inputs.covered)  # fewer than are drawn, so that each of them is
    few[:, 2000:2050] = True
    some = replace(inputs, covered=few)
    made, bounded = constant(log_scale), min(log_scale, 3.0)
    squared = inputs.descriptors.float().clamp(-8, 8).square()  # no statistics yet
    expected = sum(
        float((squared[:, m][few] * torch.exp(torch.tensor(-2 * bounded)) / 2 + bounded).mean()) for m in range(2)
    )
    assert float(made.loss(some, torch.Generator().manual_seed(0)).detach()) == pytest.approx(expected, rel=1e-4)
    errors = made.errors(some)
    assert errors.shape == (4, 2, CELLS, CELLS)
    by_hand = squared.mean(dim=3) * torch.exp(torch.tensor(-2 * bounded)) * few[:, None]
    torch.testing.assert_close(errors.flatten(2), by_hand)


def test_each_modality_is_rebuilt_from_the_other_at_its_place(inputs: Inputs) -> None:
    made = LocalReconstruction()
    made.fit(inputs)
    cell = int(inputs.covered[0].nonzero()[500])
    before = made.errors(inputs).detach()
    changed = inputs.descriptors.clone()
    changed[0, 1, cell] += 1  # of the surface
    after = made.errors(replace(inputs, descriptors=changed)).detach()
    differs = (after != before).flatten(2)
    assert differs[0, :, cell].tolist() == [True, True]  # what the surface lets expect, and what it is
    assert int(differs.sum()) == 2
    # The expectation does not see what it is compared with.
    seen: list[torch.Tensor] = []
    made.heads[1].register_forward_hook(lambda head, args, found: seen.append(found))
    made.errors(inputs)
    made.errors(replace(inputs, descriptors=changed))
    assert torch.equal(*seen)


def test_a_colour_that_does_not_go_with_the_shape_stands_out(
    make_dome: Callable[..., Sample], samples: list[Sample], inputs: Inputs
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = LocalReconstruction()
    made.fit(inputs)
    optimizer, generator = torch.optim.AdamW(made.parameters(), 2e-3), torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        loss = made.loss(inputs, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    good = make_dome(9)
    rgb = good.rgb.clone()
    rgb[:, 44:52, 40:48] = rgb[[2, 0, 1], 44:52, 40:48]
    pair = prepare([good, replace(good, rgb=rgb)], ModelSettings("small"), 5, CPU)
    errors = made.errors(pair).detach()
    for m in range(2):  # the surface is as it was, but the image lets expect another one
        good_map, bad_map = to_pixels(pair, errors[:, m : m + 1])
        assert float(bad_map[46:50, 42:46].mean()) > 2 * float(good_map[46:50, 42:46].mean())
        assert float(bad_map[46:50, 42:46].mean()) > 1.5 * float(bad_map[good.valid].mean())
