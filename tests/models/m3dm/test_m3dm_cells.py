"""Cells of tokens: means by hand, and places of both modalities."""

import pytest
import torch
from torch import Tensor

from models.m3dm.cells import Cells, Grid, cells_of, reach_out
from models.tokens import cell_tokens, group_clouds, make_tokens

SIZE = 224


def test_tokens_that_are_cells_are_the_rows() -> None:
    foreground = torch.tensor([0, 1, 5, 6, 12, 24])
    values = torch.arange(24.0).view(2, 6, 2)
    cells = cells_of(cell_tokens(values, None, foreground, 5))
    assert cells.grid.side == cells.rgb_grid.side == 5
    assert cells.grid.places.tolist() == cells.rgb_grid.places.tolist() == foreground.tolist()
    assert torch.equal(cells.rgb, values[0])
    assert torch.equal(cells.pairs[0], values[1])
    assert torch.equal(cells.pairs[1], values[0])


def test_cells_beside_the_object_take_the_mean_around() -> None:
    """On 5×5 cells, the two upper rows and the corner below on the right are the object's."""
    grid = Grid(torch.tensor([*range(10), 24]), 5)
    values = grid.fill(torch.arange(1.0, 12.0))
    found = reach_out(values, grid)
    torch.testing.assert_close(reach_out(2 * values, grid), 2 * found)
    assert torch.equal(found[:2], values[:2])
    assert found[2].tolist() == [0, 7, 8, 9, 0]  # two neighbours are too few
    assert found[3:].tolist() == [[0] * 5, [0, 0, 0, 0, 11]]


def frame_cells(rgb_side: int) -> tuple[Cells, Tensor, Tensor]:
    """Cells of a disc in the frame, whose RGB tokens hold their own row and column; its lifted geometry, dense."""
    v, u = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    valid = (u - 90) ** 2 + (v - 120) ** 2 < 50**2
    xyz = torch.stack([u * 0.001, v * 0.001, torch.full((SIZE, SIZE), 0.5)]) * valid
    (groups,) = group_clouds(xyz[None], valid[None], 64)
    place = torch.arange(rgb_side**2)
    rgb = torch.stack([place // rgb_side, place % rgb_side], dim=1).float()
    tokens = make_tokens(rgb, torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), groups, SIZE)
    dense = torch.zeros(SIZE**2, 3)
    dense[tokens.foreground] = tokens.xyz.lifted()
    return cells_of(tokens), dense.view(56, 4, 56, 4, 3).mean(dim=(1, 3)).flatten(0, 1), valid


@pytest.mark.parametrize("rgb_side", [28, 56])
def test_cells_of_the_frame(rgb_side: int) -> None:
    cells, dense, valid = frame_cells(rgb_side)
    assert (cells.grid.side, cells.rgb_grid.side) == (56, rgb_side)
    assert torch.equal(cells.grid.places, dense.any(dim=1).nonzero().flatten())
    torch.testing.assert_close(cells.xyz, dense[cells.grid.places], rtol=0, atol=1e-5)
    holds_a_point = torch.nn.functional.max_pool2d(valid[None].float(), 4)[0].flatten().nonzero().flatten()
    assert set(holds_a_point.tolist()) <= set(cells.grid.places.tolist())
    xyz, rgb = cells.pairs
    assert torch.equal(xyz, cells.xyz)
    down, across = cells.grid.places // 56, cells.grid.places % 56
    factor = 56 // rgb_side  # each geometry cell is paired with the RGB token that it lies in
    assert torch.equal(rgb, torch.stack([down // factor, across // factor], dim=1).float())
    assert len(cells.rgb) == len(rgb.unique(dim=0))  # and each such token is one row


def test_a_sample_without_points_has_no_cells() -> None:
    (groups,) = group_clouds(torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, SIZE, SIZE, dtype=torch.bool), 64)
    cells = cells_of(make_tokens(torch.ones(784, 5), torch.ones(64, 4), groups, SIZE))
    assert (cells.rgb.shape, cells.xyz.shape) == ((0, 5), (0, 4))


def test_values_lie_in_their_places() -> None:
    assert Grid(torch.tensor([1, 4]), 3).fill(torch.tensor([5.0, 7.0])).tolist() == [[0, 5, 0], [0, 7, 0], [0, 0, 0]]
