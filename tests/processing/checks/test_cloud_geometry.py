"""Axes of clouds whose camera is known."""

import numpy as np
import pytest

from datasets.frames import nearest
from processing.checks.cloud_geometry import axes_fault, repeated_share


def scan(perspective: bool = True, noise: float = 0.0) -> np.ndarray:
    """A tilted, wavy surface of 80×60 points about 0.6 m away, seen by a camera of focal length 150 or a scanner."""
    v, u = np.mgrid[:60, :80].astype(np.float64)
    z = 0.6 + 0.0008 * u - 0.0005 * v + 0.015 * np.sin(u / 7) * np.cos(v / 5)
    z += noise * np.random.default_rng(0).standard_normal(z.shape)
    x, y = (u - 37.3) / 150, (v - 32.6) / 150
    xyz = np.stack([x * z, y * z, z] if perspective else [0.5 * x, 0.5 * y, z], axis=-1).astype(np.float32)
    xyz[::5, ::7] = 0
    return xyz


@pytest.mark.parametrize("perspective", [True, False])
def test_cameras_and_scanners_are_accepted(perspective: bool) -> None:
    assert axes_fault(scan(perspective)) is None
    assert axes_fault(scan(perspective, noise=0.002)) is None


@pytest.mark.parametrize("factor", [1000.0, 10000.0])
def test_axes_do_not_depend_on_the_unit(factor: float) -> None:
    assert axes_fault(scan() * np.float32(factor)) is None
    assert axes_fault(scan()[..., [2, 0, 1]] * np.float32(factor)) == "the channels seem to be (z, x, y)"


@pytest.mark.parametrize(
    ("channels", "name"), [((2, 0, 1), "(z, x, y)"), ((0, 2, 1), "(x, z, y)"), ((1, 2, 0), "(y, z, x)")]
)
def test_exchanged_channels_are_named(channels: tuple[int, ...], name: str) -> None:
    """The channels of the faulty cloud hold these coordinates of the true one."""
    assert axes_fault(scan()[..., list(channels)]) == f"the channels seem to be {name}"


@pytest.mark.parametrize(
    ("signs", "told"),
    [
        ((-1, 1, 1), "x points left"),
        ((1, -1, 1), "y points up"),
        ((1, -1, -1), "z is negative and y points up"),
        ((-1, -1, 1), "x points left and y points up"),
    ],
)
def test_axes_that_point_the_wrong_way_are_named(signs: tuple[int, ...], told: str) -> None:
    assert axes_fault(scan() * np.array(signs, np.float32)) == told


def test_turned_cloud_and_nonsense() -> None:
    turned = axes_fault(np.ascontiguousarray(np.rot90(scan())))
    assert turned is not None
    assert "turned by 90°" in turned
    random = np.random.default_rng(1).uniform(0.1, 1, (60, 80, 3)).astype(np.float32)
    assert axes_fault(random) == "x/z and y/z do not follow the pixels' columns and rows in any order of the channels"


def test_few_points_are_no_evidence() -> None:
    xyz = scan()[..., [2, 0, 1]]
    xyz[:, 3:] = 0
    assert axes_fault(xyz) is None


@pytest.mark.parametrize(("height", "width", "share"), [(60, 80, 0), (120, 160, 0.5), (60, 200, 0.6), (64, 80, 1 / 16)])
def test_share_of_points_that_are_repeated(height: int, width: int, share: float) -> None:
    assert repeated_share(nearest(scan(), (height, width))) == pytest.approx(share, abs=0.02)


def test_reduced_and_empty_clouds_repeat_nothing() -> None:
    assert repeated_share(nearest(scan(), (31, 40))) == 0
    assert repeated_share(np.zeros((5, 6, 3), np.float32)) == 0
