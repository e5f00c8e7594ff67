"""The sparse operators against dense interpolation, pooling and upsampling."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import plain_cfm
from models.lifting import LiftingOperator, bilinear_operator, geometry_operator
from models.tokens import group_cloud, make_tokens

SIZE = 224


def organised_cloud(seed: int) -> tuple[Tensor, Tensor]:
    """A bumpy disc with lost points: (3, 224, 224) metres, (224, 224) bool."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    z = 0.6 + 0.01 * torch.sin(u / 9) * torch.cos(v / 13)
    xyz = torch.stack([(u - 111.5) * 0.001 * z, (v - 111.5) * 0.001 * z, z])
    valid = ((u - 100) ** 2 + (v - 120) ** 2 < 70**2) & (torch.rand(SIZE, SIZE, generator=generator) > 0.05)
    return xyz * valid, valid


def test_operators_equal_the_dense_pipeline() -> None:
    xyz, valid = organised_cloud(0)
    generator = torch.Generator().manual_seed(1)
    rgb_tokens, xyz_tokens = torch.randn(784, 10, generator=generator), torch.randn(300, 12, generator=generator)
    groups = group_cloud(xyz, valid, 300)
    tokens = make_tokens(rgb_tokens, xyz_tokens, groups, SIZE)

    dense_xyz, foreground = plain_cfm.lift_geometry(xyz_tokens, groups.centres, groups.points, valid)
    assert torch.equal(tokens.foreground, foreground.nonzero().flatten())
    torch.testing.assert_close(tokens.xyz_lift.multiply(xyz_tokens), dense_xyz[foreground], rtol=0, atol=1e-5)
    dense_rgb = plain_cfm.lift_rgb(rgb_tokens)
    torch.testing.assert_close(tokens.rgb_lift.multiply(rgb_tokens), dense_rgb[foreground], rtol=0, atol=1e-5)
    assert not dense_xyz[~foreground].any()


def test_rows_are_averages() -> None:
    xyz, valid = organised_cloud(2)
    groups = group_cloud(xyz, valid, 64)
    rgb_lift = bilinear_operator(28, SIZE, groups.foreground.numpy())
    ones = torch.ones(64, 1), torch.ones(784, 1)
    torch.testing.assert_close(rgb_lift.multiply(ones[1]), torch.ones(len(groups.foreground), 1))
    sums = groups.lift.multiply(ones[0])
    inside = functional.avg_pool2d(valid[None].float(), 7, 1, 3)[0].flatten()[groups.foreground] == 1
    torch.testing.assert_close(sums[inside], torch.ones(int(inside.sum()), 1))
    assert 0 < float(sums.min()) < 0.5


def test_products_are_those_of_the_dense_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    dense = torch.rand(20, 9, generator=generator) * (torch.rand(20, 9, generator=generator) > 0.6)
    rows, columns = dense.nonzero(as_tuple=True)
    offsets = functional.pad(torch.bincount(rows, minlength=20).cumsum(0), (1, 0))
    operator = LiftingOperator(offsets, columns, dense[rows, columns], 9)
    tokens, gradient = torch.randn(9, 4, generator=generator), torch.randn(20, 4, generator=generator)
    torch.testing.assert_close(operator.multiply(tokens), dense @ tokens)
    torch.testing.assert_close(operator.transposed().multiply(gradient), dense.T @ gradient)
    for size in (1, 6, 10, 20, 50):
        blocks = list(operator.blocks(size))
        assert [block.n_pixels for block in blocks] == [min(size, 20 - start) for start in range(0, 20, size)]
        assert torch.equal(torch.cat([block.multiply(tokens) for block in blocks]), operator.multiply(tokens))


@pytest.mark.parametrize("n_points", [0, 1, 2, 5])
def test_clouds_of_few_points(n_points: int) -> None:
    xyz, valid = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for i in range(n_points):
        valid[100, 100 + i] = True
        xyz[:, 100, 100 + i] = torch.tensor([0.01 + 0.001 * i, 0.01, 0.6])
    groups = group_cloud(xyz, valid, 16)
    assert groups.centres.shape == (16, 3)
    assert groups.lift.n_pixels == len(groups.foreground)
    assert (len(groups.foreground) > 0) == (n_points > 0)
    assert torch.isfinite(groups.lift.multiply(torch.ones(16, 2))).all()


def test_foreground_is_where_a_window_holds_a_point() -> None:
    valid = np.zeros((SIZE, SIZE), dtype=bool)
    valid[50, 60] = True
    foreground, operator = geometry_operator(valid, np.zeros((1, 3), dtype=np.int64), np.zeros((1, 3)), 1)
    rows, columns = np.divmod(foreground, SIZE)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 51, 58, 61)
    # Half of a 3×3 window's ninth where two windows are averaged, in each direction.
    assert float(operator.values.max()) == pytest.approx(1 / 9, rel=1e-6)
