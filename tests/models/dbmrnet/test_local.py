"""Hidden local descriptors rebuilt: statistics, loss and errors by hand, what is seen for it, and what is learnt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from datasets.sample import Sample
from models.dbmrnet.descriptors import CELLS, WIDTH
from models.dbmrnet.inputs import Inputs, prepare
from models.dbmrnet.local import ALONE, AROUND, PASSES, SHRINKAGE, SUMMARY, LocalReconstruction
from models.dbmrnet.masking import disjoint_masks
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
        # The components are uncorrelated, of variance 1, and hold the most that so many numbers can.
        components = made.components[m].double()
        unit = components.T @ shrunk @ components
        torch.testing.assert_close(unit, torch.eye(SUMMARY).double(), rtol=0, atol=1e-3)
        largest = torch.linalg.eigvalsh(shrunk)[-SUMMARY:]
        torch.testing.assert_close(components.square().sum(dim=0), 1 / largest, rtol=1e-3, atol=0)


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
    by_hand = squared.mean(dim=3) * few[:, None]  # whatever the expected error: it is the same everywhere
    medians = torch.stack(
        [values[:, some_few].median(dim=1).values for values, some_few in zip(by_hand, few, strict=True)]
    )
    torch.testing.assert_close(errors.flatten(2), by_hand / medians[..., None], rtol=1e-4, atol=0)


@pytest.mark.parametrize("modality", [0, 1])
def test_what_an_expectation_sees(modality: int, inputs: Inputs) -> None:
    """Of its own modality the cells around on the object, each in one of the passes; of the other its own place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = LocalReconstruction()
    made.fit(inputs)
    covered = inputs.covered[0].view(CELLS, CELLS)
    row, column = 32, 33
    own, other = (inputs.descriptors[0, m].float().view(CELLS, CELLS, WIDTH) for m in (modality, 1 - modality))
    there = ((other[row, column] - made.mean[1 - modality]) / made.deviation[1 - modality]).clamp(-8, 8)
    true = ((own[row, column] - made.mean[modality]) / made.deviation[modality]).clamp(-8, 8)
    errors = []
    parts = disjoint_masks(len(AROUND), PASSES, 1, torch.Generator().manual_seed(0)).visible
    assert parts.sum(dim=0).tolist() == [1] * len(AROUND)
    for part in [*parts, torch.zeros(len(AROUND), dtype=torch.bool)]:
        summaries, flags = torch.zeros(len(AROUND), SUMMARY), torch.zeros(len(AROUND))
        for i, (down, right) in enumerate(AROUND):
            if part[i] and covered[row + down, column + right]:
                scaled = (own[row + down, column + right] - made.mean[modality]) / made.deviation[modality]
                summaries[i], flags[i] = (scaled @ made.components[modality]).clamp(-8, 8), 1
        expected, log_scale = made.heads[modality](torch.cat([there, summaries.flatten(), flags])).chunk(2)
        errors.append(((true @ made.whitening[modality] - expected) / log_scale.exp()).square().mean())
    found = made._cell_errors(inputs.select(torch.tensor([0])), torch.tensor([[row * CELLS + column]]), modality)
    *around, alone = errors
    expected = (torch.stack(around).mean() + alone) / 2
    torch.testing.assert_close(found, expected[None, None], rtol=1e-3, atol=0)


def test_what_training_hides(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    expect = LocalReconstruction._expect

    def record(self: LocalReconstruction, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.append(args[3])
        return expect(self, *args)

    monkeypatch.setattr(LocalReconstruction, "_expect", record)
    LocalReconstruction().loss(inputs, torch.Generator().manual_seed(0))
    seen = torch.stack(drawn)  # (2, 4, 128, A)
    alone = ~seen.any(dim=-1)
    assert float(alone.float().mean()) == pytest.approx(ALONE, abs=0.05)
    assert float(seen[~alone].float().mean()) == pytest.approx(1 / PASSES, abs=0.02)


def test_cells_beyond_the_square_are_not_seen(inputs: Inputs) -> None:
    everywhere = replace(inputs, covered=torch.ones_like(inputs.covered))
    _, known = LocalReconstruction()._around(everywhere, torch.tensor([[5 * CELLS + 60]]).expand(4, -1), 0)
    inside = [0 <= 5 + down < CELLS and 0 <= 60 + right < CELLS for down, right in AROUND]
    assert known[:, 0].tolist() == [inside] * 4
    assert 0 < sum(inside) < len(AROUND)


def test_errors_are_told_from_what_is_usual_in_the_sample(inputs: Inputs) -> None:
    errors = constant(0.0).errors(inputs).detach()
    for i, covered in enumerate(inputs.covered):
        for m in range(2):
            assert float(errors[i, m].flatten()[covered].median()) == pytest.approx(1, rel=1e-5)
    assert not bool(errors.flatten(2).movedim(1, -1)[~inputs.covered].any())


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
    assert sum(losses[-5:]) < sum(losses[:5]) - 5
    good = make_dome(9)
    rgb = good.rgb.clone()
    rgb[:, 44:52, 40:48] = rgb[[2, 0, 1], 44:52, 40:48]
    pair = prepare([good, replace(good, rgb=rgb)], ModelSettings("small"), 5, CPU)
    errors = made.errors(pair).detach()
    ratios = []
    for m in range(2):
        good_map, bad_map = (values[46:50, 42:46].mean() for values in to_pixels(pair, errors[:, m : m + 1]))
        ratios.append(float(bad_map / good_map))
    assert ratios[0] > 10
    assert ratios[1] < 2  # the surface is as it was, and those around it say so
