"""Banks: values by hand, a plain version of the releases' score, and what is refused."""

import math

import pytest
import torch
from torch import Tensor

from models.memory.bank import Bank, fit_bank, load_bank
from models.memory.coreset import greedy_coreset
from utils.errors import UserError


def rows(count: int = 300, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def plain_score(patches: Tensor, bank: Tensor) -> float:
    """As published, one image, in float64."""
    distances = (patches.double()[:, None] - bank.double()).norm(dim=2)
    least, nearest = distances.min(dim=1)
    patch = int(least.argmax())
    around = (bank.double()[nearest[patch]] - bank.double()).norm(dim=1).sort(stable=True).indices[1:3]
    root = math.sqrt(patches.shape[1])
    beyond = [math.exp(float(distances[patch, i]) / root) for i in around]
    return (1 - math.exp(float(least[patch]) / root) / sum(beyond)) * float(least[patch])


def test_score_by_hand() -> None:
    bank = fit_bank(torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [0, 3, 0, 0], [50, 50, 0, 0]]), 4, 0)
    patches = torch.tensor([[0.0, 0, 0.5, 0], [0, 0, 4, 0]])  # nearest to row 0, at .5 and at 4
    distances, nearest = bank.distances(patches)
    assert distances.tolist() == [0.5, 4.0]
    assert nearest.tolist() == [0, 0]
    weight = 1 - math.exp(4 / 2) / (math.exp(math.sqrt(17) / 2) + math.exp(5 / 2))  # rows 1 and 2 lie at √17 and 5
    assert float(bank.image_score(patches, distances, nearest)) == pytest.approx(4 * weight, rel=1e-6)


def test_score_is_that_of_the_plain_version() -> None:
    bank = fit_bank(rows(), 40, 0)
    for seed in range(5):
        patches = rows(60, seed=seed + 1) * 3
        distances, nearest = bank.distances(patches)
        score = float(bank.image_score(patches, distances, nearest))
        assert score == pytest.approx(plain_score(patches, bank.rows), rel=1e-5)
        assert 0.5 <= score / float(distances.max()) < 1


def test_score_of_far_patches_is_finite() -> None:
    """exp(s/√D) of the formula as it is written overflows here."""
    bank = fit_bank(rows(), 40, 0)
    patches = torch.full((1, 12), 1e6)
    score = bank.image_score(patches, *bank.distances(patches))
    assert 0.5 <= float(score / bank.distances(patches)[0]) <= 1


def test_a_nominal_patch_is_no_anomaly() -> None:
    bank = fit_bank(rows(), 40, 0)
    patches = bank.rows[:7]
    distances, nearest = bank.distances(patches)
    assert distances.tolist() == [0.0] * 7
    assert nearest.tolist() == list(range(7))
    assert float(bank.image_score(patches, distances, nearest)) == 0


def test_rows_are_those_of_the_coreset() -> None:
    nominal = rows()
    assert torch.equal(fit_bank(nominal, 30, 0, project=False).rows, nominal[greedy_coreset(nominal, 30)])
    assert torch.equal(fit_bank(nominal, 300, 0).rows, nominal)
    assert torch.equal(fit_bank(torch.cat([nominal, nominal]), 900, 0).rows, nominal)


def test_the_seed_decides_the_projection_only() -> None:
    narrow, wide = rows(), rows(200, 1200)
    assert torch.equal(fit_bank(narrow, 30, 0).rows, fit_bank(narrow, 30, 1).rows)  # too narrow for a projection
    assert torch.equal(fit_bank(wide, 30, 0).rows, fit_bank(wide, 30, 0).rows)
    assert not torch.equal(fit_bank(wide, 30, 0).rows, fit_bank(wide, 30, 1).rows)


def test_state_goes_round() -> None:
    bank = fit_bank(rows(), 30, 0)
    again = load_bank(bank.state_dict())
    assert torch.equal(again.rows, bank.rows)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": torch.zeros(30, 12).double()},
        {"rows": torch.zeros(2, 12)},
        {"rows": torch.zeros(30)},
        {"more": torch.zeros(1)},
    ],
)
def test_a_state_that_is_none_is_refused(change: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="a bank: expected rows"):
        load_bank({**fit_bank(rows(), 30, 0).state_dict(), **change})


@pytest.mark.parametrize("nominal", [torch.zeros(100, 3), torch.zeros(0, 3), torch.eye(2)])
def test_too_few_rows_are_refused(nominal: Tensor) -> None:
    with pytest.raises(UserError, match="at least 3 different nominal rows"):
        fit_bank(nominal, 50, 0)


def test_equally_near_rows_are_told_by_their_order() -> None:
    bank = Bank(torch.tensor([[0.0], [1.0], [-1.0], [3.0]]))
    distances, nearest = bank.distances(torch.tensor([[0.5], [-0.5], [2.0]]))
    assert distances.tolist() == [0.5, 0.5, 1.0]
    assert nearest.tolist() == [0, 0, 1]


def test_values_that_are_not_finite_are_refused() -> None:
    bank = Bank(rows(5))
    with pytest.raises(UserError, match="patches: expected finite"):
        bank.distances(torch.full((2, 12), float("nan")))
    with pytest.raises(UserError, match="nominal rows of a bank: expected finite"):
        fit_bank(torch.full((9, 12), float("inf")), 3, 0)
