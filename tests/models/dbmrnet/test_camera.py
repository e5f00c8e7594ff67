"""The camera fitted to a cloud: through padding and resizing, and for clouds with turned axes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample
from models.dbmrnet.camera import fit_camera, project, sample_grid
from models.dbmrnet.inputs import prepare
from models.dbmrnet.settings import ModelSettings

CPU = torch.device("cpu")


def rotation(angles: tuple[float, float, float]) -> Tensor:
    """(3, 3) float64 rotation about x, then y, then z."""
    a, b, c = (torch.tensor(angle, dtype=torch.float64) for angle in angles)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    about_x = torch.stack([one, zero, zero, zero, a.cos(), -a.sin(), zero, a.sin(), a.cos()]).view(3, 3)
    about_y = torch.stack([b.cos(), zero, b.sin(), zero, one, zero, -b.sin(), zero, b.cos()]).view(3, 3)
    about_z = torch.stack([c.cos(), -c.sin(), zero, c.sin(), c.cos(), zero, zero, zero, one]).view(3, 3)
    return about_z @ about_y @ about_x


def tilted_patch(
    relief: float, tilt: float, seed: int, mirrored: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A patch of 20 cm half a metre away, in a turned and moved frame, as picked on a grid of 224 pixels.

    Args:
        relief: height between the lowest and highest point, metres. tilt: of the patch, degrees, any way.

    Returns:
        points (1600, 3); pixels (1600, 2), up to 0.3 off; points (3200, 3) a centimetre above and below the patch;
        their exact pixels; true axes (3, 3).
    """
    rng = np.random.default_rng(seed)
    x, y = (torch.from_numpy(part).flatten() for part in np.meshgrid(*[np.linspace(-0.1, 0.1, 40)] * 2))
    patch = torch.stack([x, y, relief / 2 * torch.sin(60 * x + 1) * torch.cos(45 * y)], dim=1)
    way, angle = rng.uniform(0, 2 * np.pi), np.radians(tilt)
    turn = rotation((0, 0, way)) @ rotation((angle, 0, 0)) @ rotation((0, 0, -way))
    off = torch.tensor([0, 0, 0.01], dtype=torch.float64)
    seen, seen_off = (
        values @ turn.T + torch.tensor([0.02, -0.01, 0.5], dtype=torch.float64)
        for values in (patch, torch.cat([patch - off, patch + off]))
    )
    pixels, pixels_off = (300 * values[:, :2] / values[:, 2:] + 111.5 for values in (seen, seen_off))
    axes = rotation(tuple(rng.uniform(-3, 3, 3)))
    if mirrored:
        axes = axes * torch.tensor([1, 1, -1])
    shift = torch.from_numpy(rng.uniform(-0.5, 0.5, 3))
    jitter = torch.from_numpy(rng.uniform(-0.3, 0.3, pixels.shape))
    return seen @ axes + shift, pixels + jitter, seen_off @ axes + shift, pixels_off, axes


def largest_error(camera: Tensor, points: Tensor, pixels: Tensor) -> float:
    """Largest distance of projected points to their pixels."""
    return float((project(camera[None], points[None])[0] - pixels).norm(dim=1).max())


def turn_between(first: Tensor, second: Tensor) -> float:
    """Angle between two systems of axes in degrees."""
    return float(torch.rad2deg(torch.arccos(((first @ second.T).trace().clamp(max=3) - 1) / 2)))


def valid_pixels(sample: Sample) -> tuple[Tensor, Tensor]:
    """Points (M, 3) and pixels (M, 2), float64."""
    return sample.xyz.permute(1, 2, 0)[sample.valid].double(), sample.valid.nonzero().flip(1).double()


def reprojection(sample: Sample, settings: ModelSettings) -> Tensor:
    """(M, 2) errors in pixels of the prepared sample's own points."""
    inputs = prepare([sample], settings, 0, CPU)
    points = inputs.cloud[0].permute(1, 2, 0)[sample.valid]
    return project(inputs.camera, points[None])[0] - valid_pixels(sample)[1]


@pytest.mark.parametrize("shape", [(600, 800), (800, 600), (448, 448)])
def test_reprojection_of_a_pinhole_after_padding_and_resizing(
    shape: tuple[int, int], make_dome: Callable[..., Sample], settings: ModelSettings
) -> None:
    # Points are picked, not interpolated, so each lies up to a source pixel off: at most half a pixel of the grid.
    errors = reprojection(make_dome(0, 224, shape), settings)
    assert float(errors.square().mean().sqrt()) < 0.1


def test_pinhole_without_resizing_is_exact(make_dome: Callable[..., Sample]) -> None:
    points, pixels = valid_pixels(make_dome(1, 192, (144, 192)))
    camera, axes = fit_camera(points, pixels, 192)
    # Focal length 230; cx = 0.48 · 192; cy = 0.53 · 144 and 24 rows of padding above.
    expected = torch.tensor([[230, 0, 92.16, 0], [0, 230, 100.32, 0], [0, 0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(camera, expected, rtol=0, atol=1e-3)
    assert torch.equal(axes, torch.eye(3, dtype=torch.float64))


def test_turned_axes_need_the_general_projection(make_dome: Callable[..., Sample], settings: ModelSettings) -> None:
    original = make_dome(2, 192, (144, 192))
    points, pixels = valid_pixels(original)
    turn, shift = rotation((2.1, -0.4, 0.7)), torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    moved = points @ turn + shift  # p' = Rᵀ·p + t
    camera, axes = fit_camera(moved, pixels, 192)
    assert float((project(camera[None], moved[None])[0] - pixels).square().mean().sqrt()) < 0.01
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(torch.linalg.det(axes)) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(axes, turn, rtol=0, atol=1e-3)
    torch.testing.assert_close((moved - shift) @ axes[2], points[:, 2], rtol=0, atol=1e-3)
    # w of the general projection is the distance along the optical axis.
    torch.testing.assert_close(moved @ camera[2, :3] + camera[2, 3], points[:, 2], rtol=0, atol=2e-3)

    xyz = torch.zeros_like(original.xyz)
    xyz[:, original.valid] = moved.float().T
    turned = replace(original, xyz=xyz)
    assert float(reprojection(turned, settings).square().mean().sqrt()) < 0.1
    found, straight = (prepare([sample], settings, 0, CPU) for sample in (turned, original))
    # The network sees the same cloud, whatever the axes of the file.
    torch.testing.assert_close(found.cloud, straight.cloud, rtol=0, atol=5e-3)
    assert float(found.axes[0].det()) == pytest.approx(1, abs=1e-5)


def test_turned_axes_after_padding_and_resizing(make_dome: Callable[..., Sample], settings: ModelSettings) -> None:
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:300, :400]
    z = 0.6 - 0.08 * np.exp(-((u - 190) ** 2 + (v - 160) ** 2) / 60**2) + 0.01 * rng.random()
    xyz = np.stack([(u - 200) / 500 * z, (v - 150) / 500 * z, z], axis=-1) @ rotation((-1.9, 0.2, 0.1)).numpy()
    xyz[(u - 190) ** 2 + (v - 160) ** 2 > 120**2] = 0
    sample = make_sample(np.zeros((300, 400, 3), np.uint8), xyz.astype(np.float32), size=200)
    errors = reprojection(sample, settings)
    assert float(errors.square().mean().sqrt()) < 0.1


@pytest.mark.parametrize("relief", [0.01, 0.001, 0.0001, 0])
@pytest.mark.parametrize("tilt", [30, 40, 50])
def test_flat_patches_are_seen_right_beside_their_surface(relief: float, tilt: float) -> None:
    for seed in range(4):
        points, pixels, off, pixels_off, expected = tilted_patch(relief, tilt, seed)
        camera, axes = fit_camera(points, pixels, 224)
        assert largest_error(camera, points, pixels) < 0.6
        assert largest_error(camera, off, pixels_off) < 0.3
        assert float(torch.linalg.det(axes)) == pytest.approx(1, abs=1e-9)
        assert turn_between(axes, expected) < 1


def test_plane_seen_straight_on_has_the_expected_focal_length() -> None:
    points, pixels, _, _, expected = tilted_patch(0, 0, 0)
    # Nothing but the expectation tells the focal length of such a plane from its distance.
    camera, axes = fit_camera(points, pixels, 224)
    assert largest_error(camera, points, pixels) < 0.6
    inner = camera[:, :3] @ axes.T
    assert float(inner[0, 0]) == pytest.approx(1.4 * 224, rel=0.01)
    assert inner[0, 0] == pytest.approx(float(inner[1, 1]), rel=1e-9)
    assert inner[:2, 2].tolist() == pytest.approx([111.5, 111.5], abs=0.5)
    assert turn_between(axes, expected) < 1


def test_mirrored_frame_has_mirrored_axes() -> None:
    points, pixels, off, pixels_off, expected = tilted_patch(0.05, 40, 1, mirrored=True)
    camera, axes = fit_camera(points, pixels, 224)
    assert float(torch.linalg.det(axes)) == pytest.approx(-1, abs=1e-9)
    assert turn_between(axes, expected) < 1
    assert largest_error(camera, points, pixels) < 0.6
    assert largest_error(camera, off, pixels_off) < 0.3


@pytest.mark.parametrize("scale", [0.02, 1, 50])
def test_camera_does_not_depend_on_the_unit(scale: float) -> None:
    points, pixels, off, _, _ = tilted_patch(0.01, 40, 2)
    camera, axes = fit_camera(points, pixels, 224)
    scaled, scaled_axes = fit_camera(points * scale, pixels, 224)
    torch.testing.assert_close(scaled_axes, axes, rtol=0, atol=1e-4)
    assert largest_error(scaled, off * scale, project(camera[None], off[None])[0]) < 0.02
    torch.testing.assert_close(
        (off * scale) @ scaled[2, :3] + scaled[2, 3], (off @ camera[2, :3] + camera[2, 3]) * scale, rtol=1e-3, atol=0
    )


def degenerate(name: str) -> tuple[Tensor, Tensor]:
    """(N, 3) points and (N, 2) pixels that no pinhole at the origin explains."""
    rng = np.random.default_rng(0)
    along = np.linspace(0, 1, 50)[:, None]
    points, pixels = {
        "line": (along * [[0.1, 0.05, 0.2]] + [[0.3, 0.2, -0.1]], along * [[80, 30]] + 60),
        "two points": (np.repeat([[0, 0, 0], [0.1, 0, 0.1]], 20, 0), np.repeat([[30, 40], [100, 20]], 20, 0)),
        "one point": (np.full((30, 3), 0.2), rng.uniform(0, 200, (30, 2))),
        "origin": (np.zeros((30, 3)), rng.uniform(0, 200, (30, 2))),
        "six points": (rng.normal(size=(6, 3)), rng.uniform(0, 200, (6, 2))),
        "pixels on a line": (rng.normal(size=(50, 3)) * [1, 1, 0], rng.uniform(0, 200, (50, 1)) * [1, 0]),
        "no camera": (rng.normal(size=(50, 3)), rng.uniform(0, 200, (50, 2))),
    }[name]
    return torch.from_numpy(points).double(), torch.from_numpy(pixels).double()


@pytest.mark.parametrize(
    "name", ["line", "two points", "one point", "origin", "six points", "pixels on a line", "no camera"]
)
@pytest.mark.filterwarnings("error")
def test_degenerate_clouds_have_a_finite_camera(name: str) -> None:
    points, pixels = degenerate(name)
    camera, axes = fit_camera(points, pixels, 224)
    assert bool(camera.isfinite().all())
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    if name in ("line", "two points"):
        assert largest_error(camera, points, pixels) < 0.1


def test_few_points_stay_with_the_pinhole() -> None:
    points, pixels = degenerate("six points")
    camera, axes = fit_camera(points[:5], pixels[:5], 224)
    assert torch.equal(axes, torch.eye(3, dtype=torch.float64))
    assert camera[2].tolist() == [0, 0, 1, 0]


def test_project_is_finite_beside_the_camera() -> None:
    camera = torch.tensor([[[100.0, 0, 50, 0], [0, 100, 60, 0], [0, 0, 1, 0]]])
    points = torch.tensor([[[0.1, 0.2, 2.0], [0.5, 0.0, 0.0], [0.1, 0.2, -2.0]]])
    found = project(camera, points)
    assert found[0, 0].tolist() == pytest.approx([55, 70])
    assert bool(found.isfinite().all())
    assert found[0, 2].tolist() == pytest.approx([45, 50])


def test_sample_grid_by_hand() -> None:
    values = torch.arange(16.0).view(1, 1, 4, 4)  # value = u + 4·v
    pixels = torch.tensor([[[0.0, 0.0], [2.0, 3.0], [1.25, 0.5], [3.5, 1.0], [-1.0, 0.0], [9.0, 9.0]]])
    assert sample_grid(values, pixels)[0, :, 0].tolist() == pytest.approx([0, 14, 3.25, 3.5, 0, 0], abs=1e-5)
