"""The camera fitted to a cloud: through padding and resizing, and for clouds with turned axes."""

from collections.abc import Callable

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
    camera, axes = fit_camera(points, pixels)
    # Focal length 230; cx = 0.48 · 192; cy = 0.53 · 144 and 24 rows of padding above.
    expected = torch.tensor([[230, 0, 92.16, 0], [0, 230, 100.32, 0], [0, 0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(camera, expected, rtol=0, atol=1e-3)
    assert torch.equal(axes, torch.eye(3, dtype=torch.float64))


def test_turned_axes_need_the_general_projection(make_dome: Callable[..., Sample], settings: ModelSettings) -> None:
    original = make_dome(2, 192, (144, 192))
    points, pixels = valid_pixels(original)
    turn, shift = rotation((2.1, -0.4, 0.7)), torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    moved = points @ turn + shift  # p' = Rᵀ·p + t
    camera, axes = fit_camera(moved, pixels)
    assert float((project(camera[None], moved[None])[0] - pixels).square().mean().sqrt()) < 0.01
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(torch.linalg.det(axes)) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(axes, turn, rtol=0, atol=1e-3)
    torch.testing.assert_close((moved - shift) @ axes[2], points[:, 2], rtol=0, atol=1e-3)
    # w of the general projection is the distance along the optical axis.
    torch.testing.assert_close(moved @ camera[2, :3] + camera[2, 3], points[:, 2], rtol=0, atol=2e-3)

    xyz = torch.zeros_like(original.xyz)
    xyz[:, original.valid] = moved.float().T
    turned = Sample(original.rgb, xyz, original.valid, original.gt)
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
