"""datasets/raw_scans.py: scans like real ones, raw and without their background, are told apart."""

import numpy as np
import pytest
from scipy import ndimage

from datasets.frames import border_mask, border_share
from datasets.raw_scans import background_plane, is_raw
from datasets.scenes import render_scene
from datasets.scenes.shapes import OBJECT_CLASSES

SIZE = 160
CLASSES = sorted(OBJECT_CLASSES)


def scan(class_name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A generated raw scan, and (h, w) bool, True where its part is measured at least 5 mm above the table."""
    scene = render_scene(class_name, None, SIZE, seed)
    part = scene.surface.object_mask & (scene.surface.height >= 0.005) & (scene.xyz != 0).all(axis=2)
    return scene.xyz, part


def only(xyz: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.where(kept[..., None], xyz, np.float32(0))


def darkened(xyz: np.ndarray, part: np.ndarray, share: float, how: str) -> np.ndarray:
    """The scan of a dark table: as much of it is lost as leaves `share` of the frame's border."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[: xyz.shape[0], : xyz.shape[1]]
    order = {
        "salt": rng.random(v.shape),
        "patches": ndimage.gaussian_filter(rng.normal(size=v.shape), 8),
        "one side": v + rng.normal(0, 2, v.shape),
        "a corner": u + v + rng.normal(0, 2, v.shape),
    }[how]
    table = (xyz != 0).all(axis=2) & ~part
    at_border = border_mask(v.shape)
    limit = np.sort(order[table & at_border])[int(share * at_border.sum()) - 1]
    return only(xyz, part | (table & (order <= limit)))


def around(part: np.ndarray, inwards: tuple[int, int, int, int]) -> tuple[slice, slice]:
    """The frame cut so that top, bottom, left and right lie so many pixels inside the part's box; not cut where < 0."""
    rows, columns = np.nonzero(part.any(axis=1))[0], np.nonzero(part.any(axis=0))[0]
    top, bottom, left, right = inwards
    return (
        slice(rows[0] + top if top >= 0 else 0, rows[-1] + 1 - bottom if bottom >= 0 else None),
        slice(columns[0] + left if left >= 0 else 0, columns[-1] + 1 - right if right >= 0 else None),
    )


@pytest.mark.parametrize("class_name", CLASSES)
def test_whole_scans(class_name: str) -> None:
    xyz, part = scan(class_name)
    plane = background_plane(xyz)
    assert plane is not None
    table = xyz[(xyz != 0).all(axis=2) & border_mask(part.shape)].astype(np.float64)
    assert np.abs(table @ plane[:3] + plane[3]).max() < 0.003
    assert (xyz[part].astype(np.float64) @ plane[:3] + plane[3]).min() > 0.004
    assert not is_raw(only(xyz, part))


@pytest.mark.parametrize("how", ["salt", "patches", "one side", "a corner"])
@pytest.mark.parametrize("share", [0.25, 0.45])
@pytest.mark.parametrize("class_name", CLASSES)
def test_dark_tables_are_measured_in_part(class_name: str, share: float, how: str) -> None:
    xyz, part = scan(class_name)
    dark = darkened(xyz, part, share, how)
    assert border_share((dark != 0).all(axis=2)) == pytest.approx(share, abs=0.01)
    assert is_raw(dark)


@pytest.mark.parametrize("inwards", [(-1, -1, 4, -1), (-1, -1, 6, 6), (6, 6, -1, -1), (-1, 20, -1, 20)])
@pytest.mark.parametrize("class_name", CLASSES)
def test_parts_that_reach_the_border(class_name: str, inwards: tuple[int, int, int, int]) -> None:
    """On one side, on two, in a corner: raw with the table, also with a quarter of the border left; not without it."""
    whole, part = scan(class_name, seed=1)
    window = around(part, inwards)
    xyz, part = whole[window], part[window]
    assert (part & border_mask(part.shape)).any()
    assert is_raw(xyz)
    assert is_raw(darkened(xyz, part, 0.25, "patches"))
    assert not is_raw(only(xyz, part))


@pytest.mark.parametrize("class_name", CLASSES)
def test_noise_of_a_millimetre(class_name: str) -> None:
    xyz, part = scan(class_name, seed=2)
    rough = xyz * (1 + np.random.default_rng(0).normal(0, 0.001, part.shape) / 0.6)[..., None].astype(np.float32)
    assert is_raw(rough)
    assert is_raw(darkened(rough, part, 0.3, "salt"))
    assert not is_raw(only(rough, part))


def test_curved_parts_may_fill_the_frame_flat_ones_look_like_tables() -> None:
    v, u = (np.mgrid[:120, :120] - 59.5) * 5e-4
    for bend, raw in ((8.0, False), (0.0, True)):
        xyz = np.stack([u, v, 0.5 + bend * (u**2 + v**2)], axis=-1).astype(np.float32)
        assert is_raw(xyz) == raw


@pytest.mark.parametrize("count", [0, 1, 2, 3, 200])
def test_few_points_and_coinciding_ones(count: int) -> None:
    xyz = np.zeros((40, 40, 3), np.float32)
    xyz.reshape(-1, 3)[:count] = [0.1, 0.2, 0.5]
    assert not is_raw(xyz)
    assert is_raw(np.full((40, 40, 3), 0.5, np.float32))  # nothing speaks against a table


def test_a_floor_behind_the_table_is_no_part_of_it() -> None:
    """A plane with a tenth of the points behind it is not the last surface: the part's own, of a cleaned scan."""
    v, u = np.mgrid[:100, :100] * 1e-3 + 0.01
    z = np.where(u < 0.1, 0.5, 0.55)
    xyz = np.stack([u, v, z], axis=-1).astype(np.float32)
    plane = background_plane(xyz)
    assert plane is None or abs(plane[3]) > 0.54
