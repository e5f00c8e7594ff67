"""evaluation/input_check.py: measures of drawn parts with known values, and what changes them."""

import numpy as np
import pytest
from scipy import ndimage

from datasets.sample import Sample, make_sample
from datasets.scenes import render_scene
from evaluation.input_check import _holes, measure
from evaluation.input_limits import limits, outside

SIDE = 224
V, U = np.mgrid[:SIDE, :SIDE]
STEP = 0.0005  # metres a pixel


def part(valid: np.ndarray, brightness: int = 150, moved: tuple[int, int] = (0, 0)) -> Sample:
    """A plate at 0.5 m, bright on black, its image moved by (rows, columns)."""
    xyz = np.stack([(U - 100.5) * STEP, (V - 100.5) * STEP, np.full(U.shape, 0.5)], axis=-1).astype(np.float32)
    rgb = np.roll(np.where(valid[..., None], brightness, 0).astype(np.uint8).repeat(3, axis=2), moved, (0, 1))
    return make_sample(rgb, np.where(valid[..., None], xyz, np.float32(0)))


def disc(radius: float, row: float = 112, column: float = 112) -> np.ndarray:
    return (V - row) ** 2 + (U - column) ** 2 <= radius**2


def test_a_disc_by_hand() -> None:
    valid = disc(50)
    found = measure(part(valid))
    count = np.count_nonzero(valid)
    assert found["points"] == pytest.approx(count / SIDE**2)
    assert found["area"] == pytest.approx(count * STEP**2, rel=1e-3)
    assert found["reach"] == pytest.approx(50 * STEP * np.sqrt(0.99), rel=0.01)
    assert (found["gaps"], found["hole"]) == (0, 0)
    assert found["exposure"] == pytest.approx(150, abs=1)
    assert (found["right"], found["down"]) == (0, 0)


def test_turning_and_moving_a_part_changes_little() -> None:
    bar = (np.abs(V - 112) < 20.5) & (np.abs(U - 112) < 60.5)
    angle = 0.6
    turned = (np.abs((V - 100) * np.cos(angle) - (U - 120) * np.sin(angle)) < 20.5) & (
        np.abs((U - 120) * np.cos(angle) + (V - 100) * np.sin(angle)) < 60.5
    )
    one, other = measure(part(bar)), measure(part(turned))
    for name in ("points", "area", "reach", "exposure"):
        assert one[name] == pytest.approx(other[name], rel=0.03)
    assert abs(one["gaps"] - other["gaps"]) < 0.01
    assert (other["right"], other["down"]) == pytest.approx((0, 0), abs=1.5 / SIDE)


def test_lost_surface_is_measured() -> None:
    valid = disc(50)
    spot, count = disc(6, 100, 120), np.count_nonzero(valid)
    lost = np.count_nonzero(spot)
    assert measure(part(valid & ~spot))["hole"] == pytest.approx(lost / (count - lost))
    assert measure(part(valid & ~spot))["gaps"] == pytest.approx(lost / (count - lost))
    salt = np.random.default_rng(0).random(valid.shape) < 0.1
    sparse = valid & ~salt
    inner = np.count_nonzero(disc(50) & salt)
    assert measure(part(sparse))["gaps"] == pytest.approx(inner / np.count_nonzero(sparse), rel=0.1)
    assert measure(part(valid & ~disc(30)))["gaps"] < 0.005  # wider than any gap: a ring
    assert measure(part(valid & ~disc(30)))["hole"] > 0.5


@pytest.mark.parametrize(("rows", "columns"), [(0, 6), (-5, 0), (7, -9), (0, 0)])
def test_a_moved_image_is_found(rows: int, columns: int) -> None:
    found = measure(part((np.abs(V - 112) < 40) & (np.abs(U - 112) < 55), moved=(rows, columns)))
    assert found["right"] * SIDE == pytest.approx(columns)
    assert found["down"] * SIDE == pytest.approx(rows)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_hardly_any_points(count: int) -> None:
    valid = np.zeros((SIDE, SIDE), bool)
    valid[100, 100 : 100 + 2 * count : 2] = True
    found = measure(part(valid))
    assert found["points"] == pytest.approx(count / SIDE**2)
    assert found["area"] == 0  # no two of them are neighbours
    assert np.isfinite(list(found.values())).all()


def test_a_camera_that_was_moved_by_a_twenty_fourth_of_the_frame_is_told() -> None:
    """Parts with a clear outline; round, softly shaded ones leave wide limits."""

    def gear(seed: int, moved: int = 0) -> dict[str, float]:
        scene = render_scene("gear", None, 240, [3, seed])
        kept = scene.surface.object_mask & (scene.surface.height >= 0.005)
        return measure(make_sample(np.roll(scene.rgb, moved, axis=1), scene.xyz * kept[..., None]))

    nominal = [gear(seed) for seed in range(8)]
    ends = limits({name: [found[name] for found in nominal] for name in nominal[0]}, rank=8)
    assert outside(gear(20), ends) == []
    (told,) = outside(gear(20, moved=10), ends)
    assert told.startswith("image beside its cloud, to the right: ")


def test_holes_are_what_filling_fills() -> None:
    rng = np.random.default_rng(0)
    for share in (0.4, 0.6, 0.8, 1.1):
        valid = rng.random((40, 30)) < share
        labels, sizes = _holes(valid)
        enclosed = ndimage.binary_fill_holes(valid) & ~valid
        np.testing.assert_array_equal((sizes > 0)[labels], enclosed)
        assert sizes.sum() == enclosed.sum()
