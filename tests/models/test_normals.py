"""Normals of surfaces known in closed form, of noise, holes, and turned clouds."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.normals import NormalSettings, _highest, estimate_normals

SIDE, PITCH, DISTANCE = 48, 0.0007, 0.5
SETTINGS = NormalSettings()


def rays(side: int = SIDE) -> Tensor:
    """(3, side, side) directions of a pinhole camera with z = 1, `PITCH` apart at `DISTANCE`."""
    place = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * PITCH / DISTANCE
    down, across = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([across, down, torch.ones_like(across)])


def plane(normal: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Points (3, H, W) and normals (3, H, W) of the plane through (0, 0, DISTANCE); normals towards the camera."""
    direction, unit = rays(), torch.tensor(normal, dtype=torch.float64)
    unit = unit / unit.norm()
    depth = unit[2] * DISTANCE / (unit[:, None, None] * direction).sum(dim=0)
    return direction * depth, unit[:, None, None].expand(3, SIDE, SIDE)


def round_surface(axes: tuple[float, float, float], radius: float) -> tuple[Tensor, Tensor]:
    """A sphere (axes 1, 1, 1) or a cylinder (one 0) around (0, 0, DISTANCE + radius), as seen from the camera."""
    direction, keep = rays(), torch.tensor(axes, dtype=torch.float64)[:, None, None]
    centre = torch.tensor([0, 0, DISTANCE + radius], dtype=torch.float64)[:, None, None]
    a, b, c = ((p * q * keep).sum(dim=0) for p, q in ((direction, direction), (direction, centre), (centre, centre)))
    root = b.square() - a * (c - radius**2)
    points = direction * (b - root.clamp(min=0).sqrt()) / a
    return points * (root > 0), (points - centre) * keep / radius * (root > 0)


def degrees(found: Tensor, expected: Tensor) -> Tensor:
    """Angle between normals (3, …)."""
    return torch.rad2deg(2 * torch.asin(((found - expected).norm(dim=0) / 2).clamp(max=1)))


def estimate(points: Tensor) -> tuple[Tensor, Tensor]:
    """Of one cloud (3, H, W): normals in float64, known."""
    normals, known = estimate_normals(points[None].float(), (points != 0).all(dim=0)[None], SETTINGS)
    return normals[0].double(), known[0]


@pytest.mark.parametrize("normal", [(0, 0, -1.0), (0.5, 0, -1), (0.3, -0.8, -1), (-1, 1, -1)])
def test_normals_of_a_plane_are_exact_up_to_its_corners(normal: tuple[float, float, float]) -> None:
    points, expected = plane(normal)
    found, known = estimate(points)
    assert known.all()
    assert degrees(found, expected).max() < 0.1  # pixels are not equidistant on a plane seen in perspective


@pytest.mark.parametrize("axes", [(1, 1, 1), (0, 1, 1), (1, 0, 1)], ids=["sphere", "cylinder along x", "along y"])
def test_normals_of_round_surfaces(axes: tuple[float, float, float]) -> None:
    points, expected = round_surface(axes, 0.02)
    found, known = estimate(points)
    inside = known & (expected[2] < -0.5)  # slopes up to 60°
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    assert inside.sum() > 1000
    error = degrees(found, expected)[inside]
    assert error.mean() < 0.3
    assert error.max() < 2


def test_noise_of_a_twentieth_of_a_millimetre_costs_about_a_degree() -> None:
    points, expected = round_surface((1, 1, 1), 0.02)
    noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5e-5
    found, known = estimate(points + rays() * noise * (points != 0))
    error = degrees(found, expected)[known & (expected[2] < -0.5)]
    assert 0.3 < error.mean() < 1.2


def test_a_hole_changes_only_its_window() -> None:
    points, _ = round_surface((1, 1, 1), 0.02)
    found, known = estimate(points)
    holed = points.clone()
    holed[:, 20, 23] = 0
    again, still_known = estimate(holed)
    assert not still_known[20, 23]
    assert (again[:, 20, 23] == 0).all()
    change = (again - found).abs().amax(dim=0)
    assert (change[18:23, 21:26] > 0).all()
    assert change[18:23, 21:26].amax() > 1e-3
    change[18:23, 21:26] = 0
    assert change.amax() < 5e-6  # the middle of all points moves, and with it the last digits
    known[20, 23] = False
    assert torch.equal(known, still_known)


def test_what_lies_behind_a_step_does_not_bend_the_surface() -> None:
    points, expected = plane((0, 0, -1))
    points[:, :, 24:] = rays()[:, :, 24:] * (DISTANCE + 0.01)  # twice the step behind
    found, known = estimate(points)
    assert known.all()
    assert degrees(found, expected).max() < 0.1


def test_points_in_a_line_or_alone_have_no_normal() -> None:
    points, _ = plane((0.2, 0.1, -1))
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[10], mask[30, 30] = True, True
    found, known = estimate(points * mask)
    assert not known.any()
    assert (found == 0).all()


def rotation(axis: int, angle: float) -> Tensor:
    """(3, 3) rotation about a coordinate axis."""
    turn = torch.eye(3, dtype=torch.float64)
    i, j = [place for place in range(3) if place != axis]
    turn[i, i] = turn[j, j] = math.cos(angle)
    turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
    return turn


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_normals_turn_with_the_cloud(axis: int) -> None:
    points, _ = round_surface((1, 1, 1), 0.02)
    turn = rotation(axis, 0.1)
    gentle = NormalSettings(step=1.0)  # turning the cloud tilts the depths that the step looks at
    valid = (points != 0).all(dim=0)[None]
    before, known = estimate_normals(points[None].float(), valid, gentle)
    after, _ = estimate_normals(torch.einsum("ij,jhw->ihw", turn, points)[None].float(), valid, gentle)
    expected = torch.einsum("ij,jhw->ihw", turn, before[0].double())
    assert degrees(after[0].double(), expected)[known[0]].max() < 0.05


@pytest.mark.parametrize("move", [lambda t: t.rot90(1, (-2, -1)), lambda t: t.flip(-1)], ids=["quarter turn", "mirror"])
def test_the_pixels_order_does_not_matter(move: Callable[[Tensor], Tensor]) -> None:
    points, _ = round_surface((1, 1, 1), 0.02)
    found, known = estimate(points)
    moved, moved_known = estimate(move(points))
    assert torch.equal(moved_known, move(known))
    assert torch.allclose(moved, move(found), atol=1e-5)


def test_a_batch_is_its_samples_and_an_empty_cloud_has_no_normals() -> None:
    clouds = [plane((0.2, 0.3, -1))[0], torch.zeros(3, SIDE, SIDE), round_surface((1, 1, 1), 0.02)[0]]
    stacked = torch.stack([cloud.float() for cloud in clouds])
    normals, known = estimate_normals(stacked, (stacked != 0).all(dim=1), SETTINGS)
    assert known.any(dim=(1, 2)).tolist() == [True, False, True]
    for i, cloud in enumerate(clouds):
        single, single_known = estimate_normals(cloud[None].float(), (cloud != 0).all(dim=0)[None], SETTINGS)
        assert torch.equal(single[0], normals[i])
        assert torch.equal(single_known[0], known[i])


def test_the_highest_of_a_window_is_what_pooling_finds() -> None:
    values = torch.randn(2, 21, 34, generator=torch.Generator().manual_seed(0))
    for radius in (1, 2, 4):
        expected = functional.max_pool2d(values[:, None], 2 * radius + 1, 1, radius)[:, 0]
        assert torch.equal(_highest(values, radius, -100.0), expected)
