"""Generated scenes: the relations that a structured-light camera and a defect have to keep."""

import numpy as np
import pytest
from scipy import ndimage

from datasets.scenes.candies import CANDY_CAMERA, CANDY_CLASSES, CANDY_DEFECTS, MASK_KINDS, SCALE, render_candy
from datasets.scenes.defects import (
    COLOUR_ONLY,
    DEFECTS,
    GEOMETRY_ONLY,
    MIN_HEIGHT,
    apply_defect,
    changed_cells,
)
from datasets.scenes.scanner import measure, reached
from datasets.scenes.scene import Scene, defect_mask, render_scene, scene_camera
from datasets.scenes.shapes import OBJECT_CLASSES, Shape, draw_shape
from datasets.scenes.view import Camera, Pose, tilted_axes, view
from datasets.scenes.writer import EXPOSURES

SIZE = 160
BOTH = ("contamination", "hole")


def valid(scene: Scene) -> np.ndarray:
    return (scene.xyz != 0).all(axis=-1)


def plane_fit(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares plane through (k,3) points: unit normal towards the camera, largest distance of a point."""
    middle = points.mean(axis=0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    return normal * -np.sign(normal[2]), float(np.abs((points - middle) @ normal).max())


@pytest.fixture(scope="module")
def good() -> dict[str, Scene]:
    return {name: render_scene(name, None, SIZE, 3) for name in OBJECT_CLASSES}


@pytest.fixture(scope="module")
def defective() -> dict[tuple[str, str], Scene]:
    return {(name, defect): render_scene(name, defect, SIZE, 3) for name in OBJECT_CLASSES for defect in DEFECTS}


def test_enough_classes_and_defects_of_every_sort() -> None:
    assert len(OBJECT_CLASSES) >= 5
    assert {*GEOMETRY_ONLY, *COLOUR_ONLY, *BOTH} == set(DEFECTS)
    assert scene_camera("loaf", 400).width == 300
    assert scene_camera("loaf", 400).height == 400


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_arrays(good: dict[str, Scene], class_name: str) -> None:
    scene = good[class_name]
    shape = (scene.camera.height, scene.camera.width)
    assert max(shape) == SIZE
    assert scene.rgb.shape == (*shape, 3)
    assert scene.rgb.dtype == np.uint8
    assert scene.xyz.shape == (*shape, 3)
    assert scene.xyz.dtype == np.float32
    assert scene.gt.shape == shape
    assert not scene.gt.any()
    assert np.isfinite(scene.xyz).all()


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_points_lie_on_the_pixels_rays(good: dict[str, Scene], class_name: str) -> None:
    scene, camera = good[class_name], good[class_name].camera
    rows, columns = np.nonzero(valid(scene))
    x, y, z = scene.xyz[rows, columns].T.astype(float)
    np.testing.assert_allclose(x, (columns - camera.cx) * z / camera.focal, atol=1e-7)
    np.testing.assert_allclose(y, (rows - camera.cy) * z / camera.focal, atol=1e-7)
    assert camera.focal == pytest.approx(2758 * SIZE / 800)
    assert (camera.cx, camera.cy) != (camera.width / 2, camera.height / 2)
    assert z.min() > 0.5
    assert z.max() < 0.75


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_noise_along_the_ray_is_larger_where_it_is_darker(good: dict[str, Scene], class_name: str) -> None:
    scene = good[class_name]
    error = (scene.xyz[..., 2] - scene.surface.depth) * np.linalg.norm(scene.camera.rays(), axis=-1)
    smooth = ndimage.uniform_filter(scene.rgb.mean(axis=-1), 3)
    seen = scene.surface.object_mask & valid(scene)
    bright, dim = seen & (smooth > 120), seen & (smooth < 60)
    assert 0.04e-3 < error[bright].std() < 0.06e-3
    assert error[dim].std() > 1.3 * error[bright].std()
    assert abs(error[seen].mean()) < 6e-6


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_border_is_a_tilted_plane_measured_in_part(good: dict[str, Scene], class_name: str) -> None:
    scene = good[class_name]
    border = np.ones(scene.gt.shape, bool)
    border[10:-10, 10:-10] = False
    assert not (scene.surface.object_mask & border).any()
    assert (scene.surface.height[border] == 0).all()
    assert 0.45 < valid(scene)[border].mean() < 0.72
    normal, farthest = plane_fit(scene.xyz[border & valid(scene)].astype(float))
    assert 0.3e-3 < farthest < 2.2e-3  # folds and noise
    assert 16 < np.degrees(np.arccos(-normal[2])) < 25


@pytest.fixture(scope="module")
def scans() -> dict[float, list[Scene]]:
    """Full-size scans of every class by exposure: that of training scans, and that of defective ones."""
    return {
        exposure: [render_scene(name, None, 400, [8, index], exposure) for name in OBJECT_CLASSES for index in (0, 1)]
        for exposure in (EXPOSURES["train"], EXPOSURES["defective"])
    }


def local_deviation(depth: np.ndarray, chosen: np.ndarray) -> float:
    """Median over 5x5 windows, full of `chosen` pixels or not, of the deviation from their plane, in metres."""
    found = []
    for row, column in zip(*np.nonzero(ndimage.uniform_filter(chosen.astype(float), 5) > 0.45), strict=True):
        if row % 12 or column % 12:
            continue
        window = slice(row - 2, row + 3), slice(column - 2, column + 3)
        y, x = np.nonzero(chosen[window])
        system = np.stack([x, y, np.ones(len(x))], axis=1)
        values = depth[window][y, x].astype(float)
        rest = values - system @ np.linalg.lstsq(system, values, rcond=None)[0]
        found.append(np.sqrt((rest**2).sum() / (len(x) - 3)))
    return float(np.median(found))


def test_scans_look_like_real_ones(scans: dict[float, list[Scene]]) -> None:
    """Ranges of MVTec 3D-AD's cable_gland: how much is measured, exposure, noise, holes, and how large the part is."""
    border = np.ones((400, 400), bool)
    border[10:-10, 10:-10] = False
    for exposure, share, rim, bright, dark, noise in (
        (EXPOSURES["train"], (0.60, 0.71), (0.52, 0.66), (90, 132), (7, 9), (0.14e-3, 0.19e-3)),
        (EXPOSURES["defective"], (0.50, 0.61), (0.39, 0.53), (75, 110), (5.8, 7.5), (0.17e-3, 0.22e-3)),
    ):
        for scene in scans[exposure]:
            seen, measured = scene.surface.object_mask, valid(scene)
            beside = ~ndimage.binary_dilation(seen, iterations=20)
            part = ndimage.binary_erosion(seen, iterations=3)
            assert share[0] < measured.mean() < share[1]
            assert rim[0] < measured[border[:, : seen.shape[1]] & ~seen].mean() < rim[1] + 0.02
            assert bright[0] < scene.rgb[seen].mean() < bright[1]
            assert dark[0] < scene.rgb[beside].mean() < dark[1]
            assert noise[0] < local_deviation(scene.xyz[..., 2], beside & measured) < noise[1]
            assert 0.045e-3 < local_deviation(scene.xyz[..., 2], part & measured) < 0.1e-3
            assert 0.11 < seen.mean() < 0.23
        holes = [(~valid(scene))[scene.surface.object_mask].mean() for scene in scans[exposure]]
        assert 0.015 < np.mean(holes) < 0.06


def test_points_are_lost_where_light_is_lost(scans: dict[float, list[Scene]]) -> None:
    """Holes gather where a part is steep to the projector or dazzles; what its shadow covers is not measured at all."""
    for scene in scans[EXPOSURES["train"]]:
        lost, seen = ~valid(scene), scene.surface.object_mask
        assert (scene.xyz[lost] == 0).all()
        assert lost[~reached(scene.surface.depth, scene.camera)].all()
        part = ndimage.binary_erosion(seen, iterations=3)
        dim, dazzling = part & (scene.rgb.mean(axis=-1) < 20), part & (scene.rgb.min(axis=-1) > 250)
        usual = part & ~ndimage.binary_dilation(dim | dazzling, iterations=2)
        assert lost[dim | dazzling].mean() > 6 * lost[usual].mean()
        left, right = (np.roll(seen, shift, axis=1) & ~seen for shift in (-4, 4))
        assert lost[left].mean() > 1.2 * lost[right].mean()


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_object_size(good: dict[str, Scene], class_name: str) -> None:
    rows, columns = np.nonzero(good[class_name].surface.object_mask)
    shape = good[class_name].gt.shape
    assert 0.25 < (np.ptp(rows) + 1) / shape[0] < 0.65
    assert 0.25 < (np.ptp(columns) + 1) / shape[1] < 0.80
    assert 0.01 < good[class_name].surface.height.max() < 0.05


def test_same_seed_same_scene_and_other_seed_other_scene() -> None:
    first, again, other = (render_scene("chip_cookie", "hole", SIZE, seed) for seed in (5, 5, 6))
    for name in ("rgb", "xyz", "gt"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_instances_vary() -> None:
    heights = [render_scene("gear", None, SIZE, seed).surface.height for seed in range(4)]
    tops = {round(float(height.max()), 5) for height in heights}
    areas = {int((height > 0).sum()) for height in heights}
    assert len(tops) == 4
    assert len(areas) == 4


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_one_piece_on_the_object(defective: dict[tuple[str, str], Scene], class_name: str, defect: str) -> None:
    scene = defective[class_name, defect]
    assert ndimage.label(scene.gt, np.ones((3, 3)))[1] == 1
    assert not (scene.gt & ~scene.surface.object_mask).any()
    assert 0.0004 < scene.gt.mean() < 0.01
    changed = scene.surface.changed
    assert changed[scene.gt].mean() > 0.7
    assert scene.gt[changed].mean() > 0.9
    assert valid(scene)[scene.gt].mean() > 0.5


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_outside_the_mask_little_changes(
    good: dict[str, Scene], defective: dict[tuple[str, str], Scene], class_name: str, defect: str
) -> None:
    before, after = good[class_name], defective[class_name, defect]
    away = ~ndimage.binary_dilation(after.gt, iterations=SIZE // 10)
    assert np.abs(before.rgb.astype(int) - after.rgb)[away].max() <= 1
    assert np.abs(before.surface.height - after.surface.height)[away].max() == 0
    assert not np.array_equal(before.rgb[after.gt], after.rgb[after.gt])


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", COLOUR_ONLY)
def test_colour_defect_leaves_the_shape_alone(
    good: dict[str, Scene], defective: dict[tuple[str, str], Scene], class_name: str, defect: str
) -> None:
    """Only noise differs: a darker spot is measured less well."""
    before, after = good[class_name], defective[class_name, defect]
    assert np.array_equal(before.surface.depth, after.surface.depth)
    both = valid(before) & valid(after)
    assert np.abs(before.xyz - after.xyz)[both].max() < 0.5e-3
    difference = np.abs(before.surface.albedo - after.surface.albedo).max(axis=-1)
    assert difference[after.gt].mean() > 0.07


def test_every_planted_defect_shows_in_colour_or_depth(
    good: dict[str, Scene], defective: dict[tuple[str, str], Scene]
) -> None:
    """In the files' own values: what differs from the good scene of the same seed stands out of their noise."""
    for (name, defect), after in defective.items():
        before = good[name]
        both = after.gt & valid(before) & valid(after)
        depth = np.abs(before.xyz[..., 2] - after.xyz[..., 2])[both].mean()
        assert np.abs(before.rgb.astype(int) - after.rgb).max(axis=-1)[after.gt].mean() > 8
        assert (depth > 0.15e-3) == (defect not in COLOUR_ONLY)


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", GEOMETRY_ONLY)
def test_geometry_defect_leaves_the_colour_alone(class_name: str, defect: str) -> None:
    before = draw_shape(class_name, 0.5e-3, np.random.default_rng(1))
    after = apply_defect(before, defect, np.random.default_rng(2))
    assert np.array_equal(before.albedo, after.albedo)
    change = after.height - before.height
    assert 0.0005 < np.abs(change).max() < 0.0032
    assert (change >= 0).all() if defect == "bump" else (change <= 0).all()


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", BOTH)
def test_defect_of_both_changes_both(class_name: str, defect: str) -> None:
    before = draw_shape(class_name, 0.5e-3, np.random.default_rng(1))
    after = apply_defect(before, defect, np.random.default_rng(2))
    changed = changed_cells(before, after)
    assert np.abs(after.height - before.height)[changed].max() > 0.0006
    assert np.abs(after.albedo - before.albedo)[changed].max() > 0.1


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
@pytest.mark.parametrize("defect", ["dent", "cut", "hole"])
def test_no_defect_digs_into_the_reach_of_plane_removal(class_name: str, defect: str) -> None:
    before = draw_shape(class_name, 0.5e-3, np.random.default_rng(4))
    after = apply_defect(before, defect, np.random.default_rng(5))
    dug = after.height < before.height
    assert dug.any()
    assert (after.height[dug] >= np.float32(MIN_HEIGHT) - 1e-7).all()


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_paint_stays_within_the_palette(class_name: str) -> None:
    """Relation only: within the patch every colour is one that the class has elsewhere, yet most cells changed."""
    before = draw_shape(class_name, 0.5e-3, np.random.default_rng(6))
    after = apply_defect(before, "paint", np.random.default_rng(7))
    assert np.array_equal(before.height, after.height)
    changed = changed_cells(before, after)
    normal = before.albedo[before.footprint][::7]
    repainted = after.albedo[changed][::3]
    distance = np.abs(repainted[:, None] - normal[None]).max(axis=-1).min(axis=1)
    assert np.quantile(distance, 0.95) < 0.06
    assert np.abs(after.albedo - before.albedo).max(axis=-1)[changed].mean() > 0.12


@pytest.mark.parametrize("class_name", OBJECT_CLASSES)
def test_colour_follows_relief(class_name: str) -> None:
    """The class rule: relief and paint go together in the pattern, the same way in every instance; misplaced paint
    breaks the tie."""
    followed, misplaced = [], []
    for seed in range(4):
        shape = draw_shape(class_name, 0.5e-3, np.random.default_rng(seed))
        relief = shape.height - ndimage.uniform_filter(shape.height, round(0.014 / shape.pitch))
        difference = np.abs(shape.albedo - shape.misplaced)
        pattern, channel = difference.max(axis=-1) > 0.2, int(np.argmax(difference.mean(axis=(0, 1))))
        followed.append(np.corrcoef(relief[pattern], shape.albedo[pattern, channel])[0, 1])
        misplaced.append(np.corrcoef(relief[pattern], shape.misplaced[pattern, channel])[0, 1])
    sign = np.sign(followed[0])
    assert np.min(sign * np.array(followed)) > 0.4
    assert np.max(sign * np.array(misplaced)) < -0.3


def test_view_of_a_box_matches_the_pinhole_model() -> None:
    """A flat-topped box seen head-on: its top is at the plane's depth less its height, its outline is scaled by z."""
    cells, pitch, thickness, half, distance = 201, 0.5e-3, 0.02, 0.03, 0.6
    axis = (np.arange(cells) - 100) * pitch
    inside = (np.abs(axis)[:, None] <= half) & (np.abs(axis)[None] <= half)
    height = np.where(inside, thickness, 0).astype(np.float32)
    grey = np.full((cells, cells, 3), 0.5, np.float32)
    camera = Camera(200, 200, 700.0, 100.0, 100.0)
    pose = Pose(np.array([0, 0, distance]), tilted_axes(0.0, 0.0), 0.3, np.zeros(2))
    nothing = np.zeros((cells, cells), bool)
    surface = view(Shape(pitch, height, grey, grey, 0.0), nothing, np.zeros((200, 200, 3), np.float32), camera, pose)
    assert surface.depth[100, 100] == pytest.approx(distance - thickness, abs=1e-5)
    assert surface.depth[0, 0] == pytest.approx(distance, abs=1e-9)
    expected = (2 * half * camera.focal / (distance - thickness)) ** 2
    assert surface.object_mask.sum() == pytest.approx(expected, rel=0.03)
    np.testing.assert_allclose(surface.normals[100, 100], [0, 0, -1], atol=1e-6)


def test_projector_shadow_has_the_length_of_similar_triangles() -> None:
    """Left of a step of height h on a plane at z the projector at distance b leaves b h / (z - h) in the dark."""
    camera = scene_camera("gear", 400)
    depth = np.full((400, 400), 0.6)
    depth[100:300, 200:300] = 0.57
    cloud = measure(depth, np.where(reached(depth, camera), 0.5, 0), camera, np.random.default_rng(0))
    dark = (cloud[150:250, 100:200] == 0).all(axis=-1).mean(axis=0) > 0.5
    expected = 0.25 * 0.03 / 0.57 * camera.focal / 0.6
    assert dark.sum() == pytest.approx(expected, abs=2)
    assert dark[-int(dark.sum()) :].all()
    lit = (cloud[150:250, 302:350] == 0).all(axis=-1).mean()
    assert lit < 0.02


def test_defect_mask_joins_pieces_and_drops_specks() -> None:
    changed = np.zeros((260, 260), bool)
    changed[50:70, 50:60] = changed[50:70, 62:70] = True
    changed[200, 200] = True
    changed[58:60, 54:56] = False
    expected = np.zeros_like(changed)
    expected[50:70, 50:70] = True
    assert np.array_equal(defect_mask(changed), expected)
    assert not defect_mask(np.zeros((50, 50), bool)).any()


def test_candy_of_one_seed_is_repeatable_and_complete() -> None:
    candy, again = render_candy("cap", "contamination", 2), render_candy("cap", "contamination", 2)
    assert len(candy.images) == 6
    assert all(np.array_equal(one, two) for one, two in zip(candy.images, again.images, strict=True))
    assert np.array_equal(candy.depth, again.depth)
    assert set(candy.masks) == set(MASK_KINDS)
    assert {kind for kind, mask in candy.masks.items() if mask.any()} == {"bumps", "colors"}
    assert set(CANDY_DEFECTS) == set(DEFECTS)
    assert set(CANDY_CLASSES) == set(OBJECT_CLASSES)


def test_candy_lamps_shine_from_their_sides() -> None:
    """A slope that faces right is brightest under the right lamp (image 2), and so on around."""
    candy = render_candy("loaf", None, 1)
    normals = candy.surface.normals
    facing = {1: normals[..., 1], 2: normals[..., 0], 3: -normals[..., 1], 4: -normals[..., 0]}
    for lamp, towards in facing.items():
        slope = candy.surface.object_mask & (towards > 0.5)
        brightness = [candy.images[index][slope].mean() for index in range(1, 5)]
        assert int(np.argmax(brightness)) == lamp - 1


@pytest.mark.parametrize("class_name", ["biscuit", "loaf"])
def test_candy_object_survives_the_published_background_rule(class_name: str) -> None:
    """Kept: y above the ground line more than 0.02, at most 1.8 deep and 1 to the side, in the ground's frame."""
    candy = render_candy(class_name, None, 4)
    rays = CANDY_CAMERA.rays() * candy.depth[..., None]
    rotation, shift = candy.pose[:3, :3], candy.pose[:3, 3]
    world = (rays - shift) @ rotation
    top, bottom = world[0, 256], world[-1, 256]
    along = (top - bottom)[1:] / np.linalg.norm((top - bottom)[1:])
    offset = world - np.array([0, *bottom[1:]])
    up = offset[..., 1] * along[1] - offset[..., 2] * along[0]
    deep = offset[..., 1] * along[0] + offset[..., 2] * along[1]
    kept = ~((up > -0.02) | (deep > 1.8) | (np.abs(offset[..., 0]) > 1))
    expected = candy.surface.height * SCALE > 0.02
    assert (kept != expected).mean() < 0.002
    assert 0.08 < kept.mean() < 0.35
