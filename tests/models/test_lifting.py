"""The sparse operators against dense interpolation, pooling and upsampling."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import plain_cfm
from models.lifting import LiftingOperator, bilinear_operator, geometry_operators, geometry_operators_by_torch, pooled
from models.point_ops import nearest_neighbours
from models.tokens import PointGroups, group_clouds, make_tokens

SIZE = 224


def organised_cloud(seed: int) -> tuple[Tensor, Tensor]:
    """A bumpy disc with lost points: (3, 224, 224) metres, (224, 224) bool."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    z = 0.6 + 0.01 * torch.sin(u / 9) * torch.cos(v / 13)
    xyz = torch.stack([(u - 111.5) * 0.001 * z, (v - 111.5) * 0.001 * z, z])
    valid = ((u - 100) ** 2 + (v - 120) ** 2 < 70**2) & (torch.rand(SIZE, SIZE, generator=generator) > 0.05)
    return xyz * valid, valid


def group_one(xyz: Tensor, valid: Tensor, n_groups: int) -> PointGroups:
    """The groups of a batch of one."""
    return group_clouds(xyz[None], valid[None], n_groups)[0]


def test_operators_equal_the_dense_pipeline() -> None:
    xyz, valid = organised_cloud(0)
    generator = torch.Generator().manual_seed(1)
    rgb_tokens, xyz_tokens = torch.randn(784, 10, generator=generator), torch.randn(300, 12, generator=generator)
    groups = group_one(xyz, valid, 300)
    tokens = make_tokens(rgb_tokens, xyz_tokens, groups, SIZE)

    dense_xyz, foreground = plain_cfm.lift_geometry(xyz_tokens, groups.centres, groups.points, valid)
    assert torch.equal(tokens.foreground, foreground.nonzero().flatten())
    torch.testing.assert_close(tokens.xyz.lift.multiply(xyz_tokens), dense_xyz[foreground], rtol=0, atol=1e-5)
    dense_rgb = plain_cfm.lift_rgb(rgb_tokens)
    torch.testing.assert_close(tokens.rgb.lift.multiply(rgb_tokens), dense_rgb[foreground], rtol=0, atol=1e-5)
    assert not dense_xyz[~foreground].any()


def test_rows_are_averages() -> None:
    xyz, valid = organised_cloud(2)
    groups = group_one(xyz, valid, 64)
    rgb_lift = bilinear_operator(28, SIZE, groups.foreground)
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
    operator = LiftingOperator(offsets.int(), columns.int(), dense[rows, columns], 9)
    tokens, gradient = torch.randn(9, 4, generator=generator), torch.randn(20, 4, generator=generator)
    torch.testing.assert_close(operator.multiply(tokens), dense @ tokens)
    torch.testing.assert_close(operator.transposed.multiply(gradient), dense.T @ gradient)
    assert operator.transposed is operator.transposed
    assert operator.to(torch.device("cpu")) is operator
    for size in (1, 6, 10, 20, 50):
        blocks = list(operator.blocks(size))
        assert [block.n_pixels for block in blocks] == [min(size, 20 - start) for start in range(0, 20, size)]
        for dtype in (torch.float32, torch.bfloat16):
            found = torch.cat([block.multiply(tokens.to(dtype)) for block in blocks])
            assert torch.equal(found, operator.multiply(tokens.to(dtype)))
            tolerance = 1e-5 if dtype == torch.float32 else 0.05
            torch.testing.assert_close(found.float(), dense @ tokens, rtol=0, atol=tolerance)


def test_batch_is_its_clouds() -> None:
    pairs = [organised_cloud(4), (torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool))]
    xyz, valid = (torch.stack(part) for part in zip(*pairs, strict=True))
    for found, pair in zip(group_clouds(xyz, valid, 50), pairs, strict=True):
        expected = group_one(*pair, 50)
        assert torch.equal(found.points, expected.points)
        assert torch.equal(found.points, pair[0][:, pair[1]].T)
        assert torch.equal(found.picks, expected.picks)
        assert torch.equal(found.centres, expected.centres)
        assert torch.equal(found.lift.values, expected.lift.values)
        assert torch.equal(found.foreground, expected.foreground)


@pytest.mark.parametrize("n_points", [0, 1, 4, 16_000])
def test_operator_of_other_devices_is_the_same(n_points: int) -> None:
    clouds = [organised_cloud(seed) for seed in (5, 6, 7)]
    clouds[1][1].logical_and_(clouds[1][1].flatten().cumsum(0).view(SIZE, SIZE) <= n_points)
    xyz, valid = (torch.stack(part) for part in zip(*clouds, strict=True))
    groups = group_clouds(xyz * valid[:, None], valid, 100)
    nearest = [nearest_neighbours(group.points, group.centres, 3) for group in groups]
    assert [len(squared) for squared, _ in nearest] == valid.sum(dim=(1, 2)).tolist()
    batch = valid, [indices for _, indices in nearest], [squared for squared, _ in nearest], 100
    for found, expected in zip(geometry_operators_by_torch(*batch), geometry_operators(*batch), strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1].offsets, expected[1].offsets)
        assert torch.equal(found[1].indices, expected[1].indices)
        torch.testing.assert_close(found[1].values, expected[1].values, rtol=1e-6, atol=0)
        assert (found[1].n_tokens, found[1].offsets.dtype, found[1].indices.dtype) == (100, torch.int32, torch.int32)


@pytest.mark.parametrize("n_groups", [5, 300])
def test_pooled_operator_is_the_mean_of_the_dense_pixels(n_groups: int) -> None:
    groups = group_one(*organised_cloud(7), n_groups)
    tokens = torch.randn(n_groups, 6, generator=torch.Generator().manual_seed(8))
    dense = torch.zeros(SIZE * SIZE, 6)
    dense[groups.foreground] = groups.lift.multiply(tokens)
    wanted = functional.avg_pool2d(dense.T.view(6, SIZE, SIZE), 4).flatten(1).T  # (56², 6)
    cells, operator = pooled(groups.lift, groups.foreground, SIZE, 4)
    assert torch.equal(cells, wanted.any(dim=1).nonzero().flatten())
    torch.testing.assert_close(operator.multiply(tokens), wanted[cells], rtol=0, atol=1e-5)
    assert len(operator.indices) < len(groups.lift.indices)  # each token once a cell


def test_pooled_operator_without_pixels() -> None:
    groups = group_one(torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool), 8)
    cells, operator = pooled(groups.lift, groups.foreground, SIZE, 4)
    assert (len(cells), operator.n_pixels) == (0, 0)
    assert operator.multiply(torch.ones(8, 3)).shape == (0, 3)


def test_bilinear_rows_have_four_entries() -> None:
    foreground = torch.tensor([0, 3, SIZE + 5, SIZE * SIZE - 1])
    operator = bilinear_operator(28, SIZE, foreground)
    tokens = torch.randn(784, 5, generator=torch.Generator().manual_seed(6))
    assert operator.offsets.tolist() == [0, 4, 8, 12, 16]
    torch.testing.assert_close(operator.multiply(tokens), plain_cfm.lift_rgb(tokens)[foreground], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_points", [0, 1, 2, 5])
def test_clouds_of_few_points(n_points: int) -> None:
    xyz, valid = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for i in range(n_points):
        valid[100, 100 + i] = True
        xyz[:, 100, 100 + i] = torch.tensor([0.01 + 0.001 * i, 0.01, 0.6])
    groups = group_one(xyz, valid, 16)
    assert groups.centres.shape == (16, 3)
    assert groups.lift.n_pixels == len(groups.foreground)
    assert (len(groups.foreground) > 0) == (n_points > 0)
    assert torch.isfinite(groups.lift.multiply(torch.ones(16, 2))).all()


def test_foreground_is_where_a_window_holds_a_point() -> None:
    valid = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    valid[50, 60] = True
    nearest = [torch.zeros(1, 3, dtype=torch.int64)], [torch.zeros(1, 3)]
    ((foreground, operator),) = geometry_operators(valid[None], *nearest, 1)
    rows, columns = foreground // SIZE, foreground % SIZE
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 51, 58, 61)
    # Half of a 3×3 window's ninth where two windows are averaged, in each direction.
    assert float(operator.values.max()) == pytest.approx(1 / 9, rel=1e-6)
