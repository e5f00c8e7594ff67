"""Farthest point sampling and neighbours against their obvious versions."""

import pytest
import torch
from torch import Tensor

from benchmarks import plain_cfm
from models import point_ops


def cloud(n_points: int, seed: int, near_origin: bool = False) -> Tensor:
    """Random points in metres at camera distance, or around the origin."""
    points = torch.rand(n_points, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
    return points - 0.05 if near_origin else points + torch.tensor([0.0, 0.0, 0.5])


@pytest.mark.parametrize("near_origin", [False, True])
@pytest.mark.parametrize("n_points", [1, 7, 300])
def test_sampling_equals_the_plain_version(n_points: int, near_origin: bool) -> None:
    points = cloud(n_points, seed=n_points, near_origin=near_origin)
    expected = plain_cfm.sample_centres(points, 100)
    assert point_ops.farthest_point_sampling(points, 100).tolist() == expected.tolist()


def test_sampling_of_the_gpu_path_gives_the_same_picks() -> None:
    points = cloud(500, seed=3)
    expected = point_ops.farthest_point_sampling(points, 200)
    assert point_ops.sample_by_torch(points, 200).tolist() == expected.tolist()


def test_sampling_never_takes_a_point_near_the_origin() -> None:
    points = cloud(400, seed=4, near_origin=True)
    picks = point_ops.farthest_point_sampling(points, 50)
    assert picks[0] == 0
    assert (points[picks[1:]].square().sum(1) > point_ops.SKIPPED_SQUARED_NORM).all()
    assert (points.square().sum(1) <= point_ops.SKIPPED_SQUARED_NORM).any()


def test_sampling_repeats_when_points_run_out() -> None:
    points = torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.0, 0.5], [0.05, 0.0, 0.5]])
    assert point_ops.farthest_point_sampling(points, 5).tolist() == [0, 1, 2, 0, 0]


def test_sampling_where_every_point_is_near_the_origin() -> None:
    assert point_ops.farthest_point_sampling(torch.full((4, 3), 0.001), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("n_points", "k"), [(200, 5), (3, 8), (1, 3)])
def test_neighbours_equal_brute_force(n_points: int, k: int) -> None:
    points, queries = cloud(n_points, seed=1), cloud(40, seed=2)
    expected_distances, expected = plain_cfm.nearest(queries, points, k)
    for squared, found in (
        point_ops.nearest_neighbours(queries, points, k),
        point_ops.nearest_by_blocks(queries, points, k, block_pairs=1000),
    ):
        torch.testing.assert_close(squared.float(), expected_distances, rtol=1e-5, atol=1e-9)
        assert torch.equal(found, expected)


def test_groups_are_offsets_that_hold_their_centre() -> None:
    points = cloud(60, seed=5)
    offsets = point_ops.group_points(points, points[[7, 30]], 4)
    assert offsets.shape == (2, 4, 3)
    assert torch.equal(offsets[:, 0], torch.zeros(2, 3))
    distances = (points - points[7]).square().sum(1).sort().values[:4]
    torch.testing.assert_close(offsets[0].square().sum(1), distances)
