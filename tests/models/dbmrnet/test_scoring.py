"""Discrepancy maps of arrangements whose distances are known."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.anomaly_map import AnomalyMap, DefectMap, make_anomaly_map
from models.dbmrnet.inputs import Inputs
from models.dbmrnet.network import MaskedReconstruction
from models.dbmrnet.scoring import (
    image_feature_distance,
    image_residual,
    point_feature_distance,
    point_residual,
    rebuilt_depth,
    rebuilt_frame,
    smallest_eigenvectors,
    surface_normals,
)

MakeFlat = Callable[..., Inputs]


def disc() -> Tensor:
    """(80, 80) bool, valid around the middle."""
    v, u = torch.meshgrid(torch.arange(80), torch.arange(80), indexing="ij")
    return (u - 40) ** 2 + (v - 38) ** 2 < 20**2


def plane_points(slope_x: float, slope_y: float, height: float) -> Tensor:
    """(1, P, 3) irregular points of z = slope_x·x + slope_y·y + height, wider than the disc."""
    xy = 3 * torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) - 1.5
    return torch.cat([xy, slope_x * xy[:, :1] + slope_y * xy[:, 1:] + height], dim=1)[None]


def test_defect_map_is_read_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = make_anomaly_map(
        torch.rand(30, 30, generator=generator), torch.rand(30, 30, generator=generator), "product"
    )
    found = DefectMap(plain.psi_2d, plain.psi_3d, plain.smoothed)
    assert torch.equal(found.aupro_map(), plain.smoothed)
    assert torch.equal(found.pixel_map(), plain.smoothed)
    assert found.image_score() == float(plain.smoothed.max())
    # Twice the discrepancy is twice the score: nothing is normalised by the image itself.
    assert DefectMap(plain.psi_2d, plain.psi_3d, 2 * plain.smoothed).image_score() == 2 * found.image_score()
    assert AnomalyMap(plain.psi_2d, plain.psi_3d, 2 * plain.smoothed).image_score() != 2 * plain.image_score()


def test_defect_map_stays_one_on_the_cpu() -> None:
    found = DefectMap(torch.ones(8, 8), torch.ones(8, 8), torch.rand(8, 8, generator=torch.Generator().manual_seed(0)))
    assert found.cpu().image_score() == found.image_score()


@pytest.mark.parametrize(("slope_x", "slope_y", "height"), [(0, 0, 0.2), (0.5, 0, 0.1), (-0.4, 0.7, -0.3)])
def test_point_residual_is_the_distance_to_a_plane(
    slope_x: float, slope_y: float, height: float, flat_inputs: MakeFlat
) -> None:
    inputs = flat_inputs(disc())
    found = point_residual(inputs, plane_points(slope_x, slope_y, height))[0]
    x, y = inputs.cloud[0, :2]
    expected = (slope_x * x + slope_y * y + height).abs() / (slope_x**2 + slope_y**2 + 1) ** 0.5
    torch.testing.assert_close(found, expected * disc(), rtol=0, atol=1e-3)
    assert not bool(found[~disc()].any())


def test_point_residual_sees_a_dent_only_where_it_is(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(disc())
    dent = torch.zeros(80, 80)
    dent[35:40, 30:36] = 0.12
    dented = replace(inputs, cloud=inputs.cloud + dent * torch.tensor([0.0, 0, 1]).view(3, 1, 1))
    found = point_residual(dented, plane_points(0, 0, 0))[0]
    torch.testing.assert_close(found, dent * disc(), rtol=0, atol=1e-4)


def test_surface_normals_of_planes_and_a_sphere() -> None:
    normals = surface_normals(plane_points(0.5, -0.25, 0.3)[0])
    expected = torch.tensor([-0.5, 0.25, 1]) / (0.25 + 0.0625 + 1) ** 0.5
    torch.testing.assert_close((normals @ expected).abs(), torch.ones(3000), rtol=0, atol=1e-4)
    sphere = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0))
    sphere = sphere / sphere.norm(dim=1, keepdim=True)
    along = (surface_normals(sphere) * sphere).sum(dim=1).abs()
    assert float(along.quantile(0.05)) > 0.99


def test_smallest_eigenvectors_equal_eighs() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.6, 0.05])
    turns = torch.linalg.qr(torch.randn(500, 3, 3, generator=generator)).Q
    patches = (torch.randn(500, 8, 3, generator=generator) * spread) @ turns.transpose(1, 2)
    covariances = patches.transpose(1, 2) @ patches * torch.logspace(-8, 4, 500)[:, None, None]
    found, expected = smallest_eigenvectors(covariances), torch.linalg.eigh(covariances.double()).eigenvectors[:, :, 0]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(500))
    assert ((found * expected).sum(dim=1).abs() > 1 - 1e-6).all()


def test_smallest_eigenvectors_of_lines_planes_and_points() -> None:
    line, plane = torch.tensor([1.0, 2, -2]) / 3, torch.diag(torch.tensor([3.0, 3, 0]))
    matrices = torch.stack([line.outer(line), plane, torch.zeros(3, 3), torch.eye(3)])
    along, across, *others = smallest_eigenvectors(matrices)
    assert float(along @ line) == pytest.approx(0, abs=1e-6)
    assert across.abs().tolist() == pytest.approx([0, 0, 1])
    assert [float(vector.norm()) for vector in (along, *others)] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_point_residual_with_few_rebuilt_points_is_finite(count: int, flat_inputs: MakeFlat) -> None:
    found = point_residual(flat_inputs(disc()), plane_points(0, 0, 0.1)[:, :count])
    assert bool(found.isfinite().all())
    assert float(found.min()) >= 0


def test_rebuilt_depth_on_planes(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(disc())
    level = rebuilt_depth(inputs, plane_points(0, 0, 0.3))[0]
    torch.testing.assert_close(level, 0.3 * disc(), rtol=0, atol=1e-5)
    moved = replace(inputs, scale=torch.tensor([2.0]), middle=torch.tensor([[0.0, 0, 5]]))
    in_metres = rebuilt_depth(moved, plane_points(0, 0, 0.3))[0]
    torch.testing.assert_close(in_metres, 5.6 * disc(), rtol=0, atol=1e-4)
    tilted = rebuilt_depth(inputs, plane_points(0.2, -0.1, 0))[0]
    expected = (0.2 * inputs.cloud[0, 0] - 0.1 * inputs.cloud[0, 1]) * disc()
    assert float((tilted - expected)[disc()].abs().mean()) < 0.01  # the points lie 0.055 apart


@pytest.mark.parametrize("window", [(0.0, 0.0, 80.0), (16.0, 14.0, 48.0)])
def test_image_residual_is_the_root_mean_square_of_the_channels(
    window: tuple[float, float, float], flat_inputs: MakeFlat
) -> None:
    inputs = flat_inputs(disc(), torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), window)
    rebuilt = inputs.image + torch.tensor([0.3, 0, -0.4]).view(3, 1, 1)
    found = image_residual(inputs, rebuilt)[0]
    torch.testing.assert_close(found, (0.25 / 3) ** 0.5 * disc(), rtol=0, atol=1e-6)

    spot = inputs.image.clone()
    spot[0, :, 20, 30] += 1  # at this place of the grid:
    left, top, side = window
    u, v = left + 30.5 * side / 64 - 0.5, top + 20.5 * side / 64 - 0.5
    places = image_residual(inputs, spot)[0].nonzero()
    assert len(places) > 0
    assert float((places - torch.tensor([v, u])).abs().max()) < side / 64


def test_rebuilt_frame_replaces_the_square_only(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(disc(), window=(16.0, 14.0, 48.0))
    rgb = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    # At the pixel u of the frame the square's column is (u + 0.5 − 16) · 64 / 48 − 0.5.
    columns = torch.arange(64.0).expand(1, 3, 64, 64)
    found = rebuilt_frame(inputs, columns, rgb)
    inside = torch.zeros(80, 80, dtype=torch.bool)
    inside[14:62, 16:64] = True
    assert torch.equal(found[..., ~inside], rgb[..., ~inside])
    expected = ((torch.arange(16.0, 64) + 0.5 - 16) * 64 / 48 - 0.5).clamp(0, 63).expand(1, 3, 48, 48)
    torch.testing.assert_close(found[..., 14:62, 16:64], expected, rtol=0, atol=1e-4)


def test_feature_distances_by_hand(network: MaskedReconstruction, inputs: Inputs) -> None:
    with torch.no_grad():
        true = network(inputs)
    assert not bool(image_feature_distance(inputs, true, true).any())
    assert not bool(point_feature_distance(inputs, true, true).any())

    # L2-normalised [features; tokens] turned round are at the distance 2 everywhere.
    turned = replace(true, image_features=-true.image_features, image_tokens=-true.image_tokens)
    found = image_feature_distance(inputs, true, turned)
    torch.testing.assert_close(found, 2.0 * inputs.valid, rtol=0, atol=1e-4)

    step = torch.zeros(128)
    step[3] = 0.7
    shifted = replace(true, point_tokens=true.point_tokens + step)
    found = point_feature_distance(inputs, true, shifted)
    inner = torch.nn.functional.avg_pool2d(inputs.valid[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0.99
    torch.testing.assert_close(found[inner], torch.full_like(found[inner], 0.7), rtol=0, atol=1e-4)
    assert not bool(found[~inputs.valid].any())


def test_point_feature_distance_lies_at_its_token(network: MaskedReconstruction, inputs: Inputs) -> None:
    with torch.no_grad():
        true = network(inputs)
    tokens = true.point_tokens.clone()
    tokens[0, 9] += 1
    found = point_feature_distance(inputs, true, replace(true, point_tokens=tokens))
    assert not bool(found[1:].any())
    v, u = (found[0] == found[0].max()).nonzero()[0].tolist()
    distances = (inputs.cloud[0, :, v, u] - inputs.centres[0, :64]).norm(dim=1)
    assert int(distances.argmin()) == 9
