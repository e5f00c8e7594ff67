"""Clouds moved, stretched and turned against their images: known answers, and none where nothing is wrong."""

from collections.abc import Callable

import numpy as np
import pytest

from datasets.scenes import render_scene
from processing.checks.alignment import MIN_SAMPLES, SIDE, TURNS, Alignment, align, edge_maps, heights

Pair = tuple[np.ndarray, np.ndarray]
SIZE = 240


@pytest.fixture(scope="module")
def scenes() -> list[Pair]:
    rendered = [render_scene("gear", None, SIZE, seed) for seed in range(6)]
    return [(scene.rgb, scene.xyz) for scene in rendered]


@pytest.fixture(scope="module")
def few(scenes: list[Pair]) -> list[Pair]:
    """As many as are needed: what is far from right is as clear in them as in all."""
    return scenes[:MIN_SAMPLES]


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
    assert 0 < found.within < 0.03
    assert found.reason == ""
    assert np.abs(found.shift).max() * SIDE <= 2


@pytest.mark.parametrize(("right", "down"), [(8, 0), (-15, 5), (0, 20)])
def test_shift_is_measured(few: list[Pair], right: int, down: int) -> None:
    found = aligned(few, lambda xyz: moved(xyz, right, down))
    assert found.aligned is False
    assert (found.turn, found.scale) == (TURNS[0], (1.0, 1.0))
    np.testing.assert_allclose(np.array(found.shift) * SIZE, (-right, -down), atol=2)
    assert found.best > 1.3 * found.identity


@pytest.mark.parametrize(("x", "y"), [(4 / 3, 1.0), (0.75, 1.0), (1.1, 1.1)])
def test_stretch_is_measured(few: list[Pair], x: float, y: float) -> None:
    found = aligned(few, lambda xyz: stretched(xyz, x, y))
    assert found.aligned is False
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
def test_turn_is_named(few: list[Pair], change: Callable[[np.ndarray], np.ndarray], turn: str) -> None:
    found = aligned(few, change)
    assert found.aligned is False
    assert found.turn == turn


@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_weak_resemblance_proves_nothing(scenes: list[Pair], strength: float) -> None:
    """Images of noise in which the cloud, moved by 12 pixels, can hardly be made out."""
    rng = np.random.default_rng(0)
    clouds = [edge_maps(rgb, xyz)[1] for rgb, xyz in scenes]
    noise = [rng.standard_normal(cloud.shape, np.float32) / SIDE for cloud in clouds]
    found = align([(n + strength * moved(cloud, 12, 0), cloud) for n, cloud in zip(noise, clouds, strict=True)])
    assert found.aligned is None
    assert "little in common" in found.reason
    assert found.best < 0.08


def test_flat_images_and_empty_clouds_are_no_evidence(few: list[Pair]) -> None:
    assert aligned([(np.zeros_like(rgb), xyz) for rgb, xyz in few]).aligned is None
    found = aligned([(rgb, np.zeros_like(xyz)) for rgb, xyz in few])
    assert (found.aligned, found.best) == (None, 0.0)


def rectangles(seed: int, count: int) -> np.ndarray:
    """(SIZE, SIZE) patches of random size and value in [0, 1], the later over the earlier, the same for each seed."""
    rng = np.random.default_rng(seed)
    field = np.zeros((SIZE, SIZE))
    for _ in range(count):
        top, left = rng.integers(0, SIZE - 20, 2)
        height, width = rng.integers(10, 80, 2)
        field[top : top + height, left : left + width] = rng.uniform(0, 1)
    return field


def fixed_scene(rise: np.ndarray, grey: np.ndarray, count: int = 8) -> list[Pair]:
    """One scene that fills the frame, seen again and again: a depth of 0.7 m less `rise`, only noise differs."""
    rng = np.random.default_rng(1)
    v, u = np.mgrid[:SIZE, :SIZE]
    pairs = []
    for _ in range(count):
        z = 0.7 - rise + rng.normal(0, 0.0002, rise.shape)
        xyz = np.stack([(u - 120) / 400 * z, (v - 120) / 400 * z, z], axis=-1).astype(np.float32)
        image = np.clip(grey + rng.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)
        pairs.append((np.repeat(image[..., None], 3, axis=2), xyz))
    return pairs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chance_resemblance_of_a_fixed_scene_is_no_misalignment(seed: int) -> None:
    """Print and relief that have nothing to do with each other: any best fit is the same one in all samples."""
    found = aligned(fixed_scene(0.04 * rectangles(seed, 25), 60 + 150 * rectangles(seed + 10, 60)))
    assert found.aligned is None
    assert found.best > 1.3 * found.identity
    assert "little in common" in found.reason


def test_fixed_scene_whose_edges_agree_is_judged() -> None:
    relief = rectangles(1, 25)
    pairs = fixed_scene(0.04 * relief, 50 + 120 * relief + 40 * rectangles(11, 60))
    assert aligned(pairs).aligned is True
    found = aligned(pairs, lambda xyz: moved(xyz, 9, 0))
    assert found.aligned is False
    np.testing.assert_allclose(np.array(found.shift) * SIZE, (-9, 0), atol=1)


def test_grooves_that_repeat_cannot_be_judged() -> None:
    wave = np.broadcast_to(np.sin(np.arange(SIZE) / 5) > 0, (SIZE, SIZE)).astype(float)
    found = aligned(fixed_scene(0.003 * wave, 80 + 60 * wave))
    assert found.aligned is None
    assert found.identity > 0.9
    assert "repeated edges fit as well when moved" in found.reason


def test_dark_part_on_darker_background_is_judged() -> None:
    v, u = np.mgrid[:SIZE, :SIZE]
    pairs = []
    for index in range(6):
        rng = np.random.default_rng(index)
        centre = 120 + rng.uniform(-25, 25, 2)
        square = np.maximum(np.abs(v - centre[0]), np.abs(u - centre[1])) < 40
        [(rgb, xyz)] = fixed_scene(0.02 * square, np.where(square, 18, 8), 1)
        pairs.append((rgb, np.where(square[..., None], xyz, np.float32(0))))
    assert aligned(pairs).aligned is True
    assert aligned(pairs, lambda xyz: moved(xyz, 0, 6)).aligned is False


def test_heights_stand_on_the_plane_or_before_nothing() -> None:
    v, u = np.mgrid[:60, :80]
    x, y = (u - 40) / 1000, (v - 30) / 1000
    normal = np.array([0.1, -0.05, 1]) / np.linalg.norm([0.1, -0.05, 1])
    table = np.stack([x, y, 0.6 - 0.1 * x + 0.05 * y], axis=-1)
    expected = np.zeros((60, 80))
    expected[20:40, 30:50] = 0.02
    xyz = (table - expected[..., None] * normal).astype(np.float32)
    xyz[5, 5] = 0
    np.testing.assert_allclose(heights(xyz), expected, atol=1e-6)
    inside = expected > 0
    z = xyz[inside][:, 2]
    found = heights(np.where(inside[..., None], xyz, np.float32(0)))
    assert not found[~inside].any()
    np.testing.assert_allclose(found[inside], np.percentile(z, 99) + 0.01 - z, atol=1e-6)


def test_edge_maps_have_one_scale(scenes: list[Pair]) -> None:
    rgb, xyz = scenes[0]
    for edges in edge_maps(rgb[:, :180], xyz[:, :180]):
        assert edges.shape == (SIDE, 180)
        assert np.linalg.norm(edges) == pytest.approx(1, abs=1e-5)
        assert abs(edges.mean()) < 1e-6
