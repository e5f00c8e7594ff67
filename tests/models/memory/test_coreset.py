"""The greedy coreset against the loop that compares every row with every pick."""

import pytest
import torch
from torch import Tensor

from models.memory import coreset
from models.memory.coreset import distinct_rows, greedy_coreset, projected, projected_width
from utils.errors import UserError


def plain(rows: Tensor, size: int) -> list[int]:
    values = rows.double()
    picks, least = [0], (values - values[0]).square().sum(dim=1)
    while len(picks) < size:
        picks.append(int(least.argmax()))
        least = torch.minimum(least, (values - values[picks[-1]]).square().sum(dim=1))
    return picks


def cases() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    clusters = normal(12, 7)[torch.randint(0, 12, (600,), generator=generator)]
    return {
        "any": normal(500, 20),
        "clusters": clusters + 0.01 * normal(600, 7),
        "far from the origin": normal(300, 9) * 1e-3 + 500,
        "all equally far": torch.eye(200),
        "lattice": torch.cartesian_prod(*[torch.arange(4.0)] * 4),
        "mostly background": torch.cat([torch.zeros(400, 5), normal(100, 5), torch.zeros(400, 5)]),
        "far background": torch.cat([normal(100, 5), torch.full((400, 5), 30.0)]),
    }


@pytest.mark.parametrize("name", list(cases()))
@pytest.mark.parametrize("block", [8, 64, 512])
def test_picks_are_those_of_the_plain_loop(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "BLOCK", block)
    rows = cases()[name]
    assert greedy_coreset(rows, 80).tolist() == plain(rows, 80)


def test_asking_less_often_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which is asked only now and then whether a block is used up."""
    monkeypatch.setitem(coreset.PICKS_A_CHECK, "cpu", 32)
    monkeypatch.setattr(coreset, "BLOCK", 16)
    for name in ("any", "clusters", "lattice"):
        rows = cases()[name]
        assert greedy_coreset(rows, 120).tolist() == plain(rows, 120), name


def test_repeated_rows_are_never_taken() -> None:
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [2.0, 0.0], [0.0, 1.0], [2.0, 0.0], [5.0, 5.0]])
    assert distinct_rows(rows).tolist() == [0, 2, 5]
    assert greedy_coreset(rows, 6).tolist() == [0, 5, 2]
    assert greedy_coreset(rows, 2).tolist() == [0, 5]
    assert greedy_coreset(rows[:1], 4).tolist() == [0]


def test_different_rows_are_kept() -> None:
    rows = torch.randint(0, 3, (2000, 4), generator=torch.Generator().manual_seed(0)).float()
    firsts: dict[tuple[float, ...], int] = {}
    for number, row in enumerate(rows.tolist()):
        firsts.setdefault(tuple(row), number)
    assert distinct_rows(rows).tolist() == sorted(firsts.values())


def test_rows_of_one_code_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the random factors cannot tell rows apart, no row of other values is dropped."""
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.zeros(2, dtype=torch.int64))
    assert set(distinct_rows(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])).tolist()) == {0, 1}


def test_rows_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="expected finite values"):
        greedy_coreset(torch.tensor([[0.0], [float("nan")]]), 1)


def test_width_of_the_projection() -> None:
    assert projected_width(191_296) == 300  # of bagel's bank: 4·ln 191 296 / .162
    narrow = torch.ones(50, 33)
    assert projected(narrow, 0) is narrow


def test_projection_keeps_distances_and_depends_on_the_seed() -> None:
    rows = torch.randn(60, 4000, generator=torch.Generator().manual_seed(0))
    found = projected(rows, 0)
    assert found.shape == (60, projected_width(60))
    ratio = torch.pdist(found) / torch.pdist(rows)
    assert abs(float(ratio.mean()) - 1) < 0.05
    assert float(ratio.std()) < 0.15
    assert torch.equal(found, projected(rows, 0))
    assert not torch.equal(found, projected(rows, 1))


def test_entries_of_the_projection() -> None:
    """±√(√D / width), each with half of the density 1/√D."""
    entries = projected(torch.eye(900), 3)
    value = (30 / entries.shape[1]) ** 0.5
    assert torch.allclose(entries.abs().unique(), torch.tensor([0.0, value]))
    assert abs(float((entries != 0).float().mean()) - 1 / 30) < 0.003
