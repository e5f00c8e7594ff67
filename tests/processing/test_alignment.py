"""Clouds moved, stretched and turned against their images: known answers, and none where nothing is wrong."""

from collections.abc import Callable

import numpy as np
import pytest

from datasets.scenes import render_scene
from processing.alignment import SIDE, TURNS, Alignment, align, edge_maps, heights

Pair = tuple[np.ndarray, np.ndarray]
SIZE = 240


@pytest.fixture(scope="module")
def scenes() -> list[Pair]:
    rendered = [render_scene("gear", None, SIZE, seed) for seed in range(6)]
    return [(scene.rgb, scene.xyz) for scene in rendered]


def moved(xyz: np.ndarray, right: int, down: int) -> np.ndarray:
    return np.roll(xyz, (down, right), axis=(0, 1))


def stretched(xyz: np.ndarray, x: float, y: float) -> np.ndarray:
    """Nearest neighbours about the middle; what comes from outside is invalid."""
    rows, columns = (np.rint((np.arange(SIZE) - (SIZE - 1) / 2) / f + (SIZE - 1) / 2).astype(int) for f in (y, x))
    inside = ((rows >= 0) & (rows < SIZE))[:, None] & ((columns >= 0) & (columns < SIZE))
    return np.where(inside[..., None], xyz[rows.clip(0, SIZE - 1)[:, None], columns.clip(0, SIZE - 1)], np.float32(0))


def aligned(pairs: list[Pair], change: Callable[[np.ndarray], np.ndarray] = np.copy) -> Alignment:
    return align([edge_maps(rgb, np.ascontiguousarray(change(xyz))) for rgb, xyz in pairs])


def test_scenes_are_aligned(scenes: list[Pair]) -> None:
    found = aligned(scenes)
    assert found.aligned
    assert (found.samples, found.turn, found.scale) == (6, TURNS[0], (1.0, 1.0))
    assert found.identity == found.best > 0.5
    assert np.abs(found.shift).max() * SIDE <= 2


@pytest.mark.parametrize(("right", "down"), [(8, 0), (-15, 5), (0, 20)])
def test_shift_is_measured(scenes: list[Pair], right: int, down: int) -> None:
    found = aligned(scenes, lambda xyz: moved(xyz, right, down))
    assert not found.aligned
    assert (found.turn, found.scale) == (TURNS[0], (1.0, 1.0))
    np.testing.assert_allclose(np.array(found.shift) * SIZE, (-right, -down), atol=2)
    assert found.best > 1.4 * found.identity


@pytest.mark.parametrize(("x", "y"), [(4 / 3, 1.0), (0.75, 1.0), (1.1, 1.1)])
def test_stretch_is_measured(scenes: list[Pair], x: float, y: float) -> None:
    found = aligned(scenes, lambda xyz: stretched(xyz, x, y))
    assert not found.aligned
    assert found.turn == TURNS[0]
    np.testing.assert_allclose(found.scale, (1 / x, 1 / y), atol=0.06)


@pytest.mark.parametrize(
    ("change", "turn"),
    [
        (lambda xyz: xyz[:, ::-1], "mirrored left to right"),
        (lambda xyz: xyz[::-1], "mirrored top to bottom"),
        (lambda xyz: xyz[::-1, ::-1], "turned by 180°"),
        (lambda xyz: np.rot90(xyz), "turned by 90° to the right"),
        (lambda xyz: xyz.transpose(1, 0, 2), "transposed"),
    ],
)
def test_turn_is_named(scenes: list[Pair], change: Callable[[np.ndarray], np.ndarray], turn: str) -> None:
    found = aligned(scenes, change)
    assert not found.aligned
    assert found.turn == turn


@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_weak_resemblance_proves_nothing(scenes: list[Pair], strength: float) -> None:
    """Images of noise in which the cloud, moved by 12 pixels, can hardly be made out."""
    rng = np.random.default_rng(0)
    clouds = [edge_maps(rgb, xyz)[1] for rgb, xyz in scenes]
    noise = [rng.standard_normal(cloud.shape, np.float32) / SIDE for cloud in clouds]
    found = align([(n + strength * moved(cloud, 12, 0), cloud) for n, cloud in zip(noise, clouds, strict=True)])
    assert found.aligned
    assert found.best < 0.08


def test_flat_images_and_empty_clouds_are_no_evidence(scenes: list[Pair]) -> None:
    assert aligned([(np.zeros_like(rgb), xyz) for rgb, xyz in scenes]).aligned
    found = aligned([(rgb, np.zeros_like(xyz)) for rgb, xyz in scenes])
    assert (found.aligned, found.best) == (True, 0.0)


def test_heights_stand_on_the_plane_or_before_nothing() -> None:
    v, u = np.mgrid[:60, :80].astype(np.float32)
    z = 0.6 + 0.001 * u - 0.0005 * v
    z[20:40, 30:50] -= 0.02
    xyz = np.stack([np.ones_like(z), np.ones_like(z), z], axis=-1)
    xyz[5, 5] = 0
    expected = np.zeros((60, 80))
    expected[20:40, 30:50] = 0.02
    np.testing.assert_allclose(heights(xyz), expected, atol=1e-6)
    inside = expected > 0
    cut = np.where(inside[..., None], xyz, np.float32(0))
    found = heights(cut)
    assert not found[~inside].any()
    np.testing.assert_allclose(found[inside], np.percentile(z[inside], 99) + 0.01 - z[inside], atol=1e-6)


def test_edge_maps_have_one_scale(scenes: list[Pair]) -> None:
    rgb, xyz = scenes[0]
    for edges in edge_maps(rgb[:, :180], xyz[:, :180]):
        assert edges.shape == (SIDE, 180)
        assert np.linalg.norm(edges) == pytest.approx(1, abs=1e-5)
        assert abs(edges.mean()) < 1e-6
