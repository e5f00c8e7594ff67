"""Exact nearest neighbours against a plain search in float64."""

import pytest
import torch
from torch import Tensor

from models.memory import neighbours
from models.memory.neighbours import nearest_rows
from utils.errors import UserError


def plain(queries: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    squared = (queries.double()[:, None] - rows.double()[None]).square().sum(dim=2)
    found = squared.sort(dim=1, stable=True)
    return found.values[:, :k], found.indices[:, :k]


def cases() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lattice = torch.randint(0, 3, (400, 5), generator=generator).float()
    return {
        "any": (normal(70, 33), normal(900, 33)),
        "ties and repeated rows": (lattice[:60], lattice),
        "far from the origin": (normal(50, 40) * 1e-3 + 1000, normal(300, 40) * 1e-3 + 1000),
        "two tight clusters, far apart": (
            normal(40, 16) * 1e-4 + 50,
            torch.cat([normal(150, 16) * 1e-4 + 50, normal(150, 16) * 1e-4 - 50]),
        ),
        "one long row": (normal(30, 8), torch.cat([normal(200, 8), torch.full((1, 8), 1e6)])),
        "all rows the same": (normal(5, 4), torch.ones(50, 4)),
        "tiny": (normal(20, 6) * 1e-20, normal(60, 6) * 1e-20),
        "no query": (normal(0, 6), normal(60, 6)),
    }


@pytest.mark.parametrize("name", list(cases()))
@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_those_of_the_plain_search(name: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(neighbours.PAIRS_A_TILE, "cpu", 7 * 900)  # several tiles and blocks
    monkeypatch.setattr(neighbours, "VALUES_A_BLOCK", 1000)
    queries, rows = cases()[name]
    squared, indices = nearest_rows(queries, rows, k)
    wanted_squared, wanted_indices = plain(queries, rows, k)
    assert torch.equal(indices, wanted_indices)
    assert torch.allclose(squared, wanted_squared, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rounding", ["autocast", "medium"])
def test_a_caller_who_rounds_products_changes_nothing(rounding: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        if rounding == "medium":
            torch.set_float32_matmul_precision("medium")
        for queries, rows in cases().values():
            with torch.autocast("cpu", torch.bfloat16, enabled=rounding == "autocast"):
                found = nearest_rows(queries, rows, 2)[1]
            assert torch.equal(found, plain(queries, rows, 2)[1])
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_bound_holds_where_factors_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    a, b = torch.rand(50, 100, generator=torch.Generator().manual_seed(0)) + 1, torch.ones(1, 100) * 1.0039
    lengths = a.square().sum(dim=1) + b.square().sum()
    by_product = lengths - 2 * (a.bfloat16().double() @ b.bfloat16().double().T)[:, 0]
    error = (by_product - (a.double() - b.double()).square().sum(dim=1)).abs()
    assert (error <= neighbours.lost_share(100) * lengths).all()
    assert (error > (100 + 32) * 2.0**-23 * lengths).any()  # float32's bound would not do


def test_the_product_alone_would_be_wrong_where_it_cancels() -> None:
    """What the bound is for: without it these cases are not found."""
    queries, rows = cases()["two tight clusters, far apart"]
    centre = rows.mean(dim=0)
    a, b = queries - centre, rows - centre
    by_product = (b.square().sum(dim=1) - 2 * a @ b.T).argmin(dim=1)
    assert not torch.equal(by_product, plain(queries, rows, 1)[1][:, 0])


def test_the_bound_holds_for_products_of_long_rows() -> None:
    generator = torch.Generator().manual_seed(1)
    for width in (4, 300, 2000):
        a = torch.rand(60, width, generator=generator) + 3
        b = torch.rand(80, width, generator=generator) + 3
        lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
        error = (lengths - 2 * a @ b.T).double() - (a.double()[:, None] - b.double()).square().sum(dim=2)
        assert (error.abs() <= neighbours.lost_share(width) * lengths).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e19, -1e19])
def test_rows_without_distances_are_refused(value: float) -> None:
    rows = torch.zeros(3, 2)
    neighbours.check_rows(rows, "rows")
    rows[1, 1] = value
    with pytest.raises(UserError, match="rows: expected finite values"):
        neighbours.check_rows(rows, "rows")
