"""Farthest point sampling and neighbours against their obvious versions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import plain_cfm
from models import point_ops

ROOT = Path(__file__).parents[2]


def cloud(n_points: int, seed: int, near_origin: bool = False) -> Tensor:
    """Random points in metres at camera distance, or around the origin."""
    points = torch.rand(n_points, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
    return points - 0.05 if near_origin else points + torch.tensor([0.0, 0.0, 0.5])


def batch() -> list[Tensor]:
    """Clouds with every oddity: sizes that differ, a skipped start, skipped points, ties, too few points, one point."""
    lattice = torch.cartesian_prod(*(torch.arange(3.0) / 16,) * 3) + 0.25  # exact in float32, so distances tie
    origin = torch.zeros(1, 3)
    return [
        cloud(5000, seed=1),
        cloud(300, seed=2, near_origin=True),
        lattice,
        torch.cat([origin, lattice[:7], lattice[:3]]),
        torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.0, 0.5], [0.05, 0.0, 0.5]]),
        torch.full((4, 3), 0.001),
        cloud(1, seed=3),
    ]


def expected_picks(n_samples: int) -> Tensor:
    """(B, n_samples) picks of the batch, cloud by cloud."""
    return torch.stack([plain_cfm.sample_centres(points, n_samples) for points in batch()])


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_sampling_equals_the_plain_version(n_samples: int) -> None:
    assert point_ops.farthest_point_sampling(batch(), n_samples).tolist() == expected_picks(n_samples).tolist()


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_sampling_on_other_devices_gives_the_same_picks(n_samples: int) -> None:
    found = point_ops.sample_by_torch(*point_ops.pad_clouds(batch()), n_samples)
    assert found.tolist() == expected_picks(n_samples).tolist()


def neighbour_pairs() -> list[tuple[Tensor, Tensor, int]]:
    """Ties, points that lie on each other, numbers that fill no block; the first of equally near ones comes first."""
    lattice = torch.cartesian_prod(*(torch.arange(6.0) / 16,) * 3) + 0.25
    points = torch.cat([lattice, lattice[:9], cloud(150, seed=1)])
    return [(cloud(70, seed=2), points, 3), (points[:33], points, 8), (cloud(1, seed=3), points[:1], 1)]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Triton's kernels say on the CPU, statement by statement: picks.pt and found.pt; one process is started."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("kernels")
    torch.save(point_ops.pad_clouds(batch()), folder / "clouds.pt")
    torch.save(neighbour_pairs(), folder / "pairs.pt")
    program = """
import sys; from pathlib import Path; import torch
from models.neighbour_kernel import nearest_by_triton
from models.sampling_kernel import sample_by_triton
folder = Path(sys.argv[1])
torch.save(sample_by_triton(*torch.load(folder / "clouds.pt", weights_only=True), 35), folder / "picks.pt")
pairs = torch.load(folder / "pairs.pt", weights_only=True)
torch.save([nearest_by_triton(*pair) for pair in pairs], folder / "found.pt")
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # read when Triton is imported
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=ROOT, env=environment)
    return folder


def test_sampling_kernel_gives_the_same_picks(interpreted: Path) -> None:
    picks = torch.load(interpreted / "picks.pt", weights_only=True)
    assert picks.tolist() == expected_picks(35).tolist()


def test_neighbour_kernel_finds_the_same(interpreted: Path) -> None:
    results = torch.load(interpreted / "found.pt", weights_only=True)
    for (squared, indices), pair in zip(results, neighbour_pairs(), strict=True):
        queries, among, k = pair
        distances = (queries[:, None] - among).square()
        nearest = (distances[..., 0] + distances[..., 1] + distances[..., 2]).sort(dim=1, stable=True)
        assert torch.equal(indices, nearest.indices[:, :k])
        assert torch.equal(squared, nearest.values[:, :k])


def test_sampling_never_takes_a_point_near_the_origin() -> None:
    points = cloud(400, seed=4, near_origin=True)
    picks = point_ops.farthest_point_sampling([points], 50)[0]
    assert picks[0] == 0
    assert (points[picks[1:]].square().sum(1) > point_ops.SKIPPED_SQUARED_NORM).all()
    assert (points.square().sum(1) <= point_ops.SKIPPED_SQUARED_NORM).any()


def test_sampling_repeats_when_points_run_out() -> None:
    points = torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.0, 0.5], [0.05, 0.0, 0.5]])
    after_a_skipped_start = torch.cat([torch.zeros(1, 3), points[[0, 1, 0]]])
    found = point_ops.farthest_point_sampling([points, after_a_skipped_start], 5)
    assert found.tolist() == [[0, 1, 2, 0, 0], [0, 2, 1, 1, 1]]


def test_sampling_where_every_point_is_near_the_origin() -> None:
    assert point_ops.farthest_point_sampling([torch.full((4, 3), 0.001)], 3).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(("n_points", "k"), [(200, 5), (200, 1), (3, 8), (1, 3)])
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


def test_without_a_working_triton_the_plain_routines_are_used() -> None:
    with pytest.warns(UserWarning, match="Triton cannot be used here"):
        kernels = point_ops._kernels(torch.device("cpu"))  # it has no CPU driver
    assert kernels == (point_ops.sample_by_torch, point_ops.nearest_by_blocks, 0)
    point_ops._kernels.cache_clear()


def test_without_fpsample_the_picks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fpsample", None)  # importing it fails
    point_ops._has_fpsample.cache_clear()
    with pytest.warns(UserWarning, match="slower without fpsample"):
        found = point_ops.farthest_point_sampling(batch(), 100)
    point_ops._has_fpsample.cache_clear()
    assert found.tolist() == expected_picks(100).tolist()
