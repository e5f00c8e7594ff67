"""Units told from where a cloud lies and how large it is."""

import numpy as np
import pytest

from datasets.readers import checked_cloud
from datasets.units import extent, likely_unit, unit_fault
from utils.errors import UserError


def scan(perspective: bool = True) -> np.ndarray:
    """A tilted surface of 80×60 points about 0.6 m away, 0.32 m wide, seen by a pinhole camera or a scanner."""
    v, u = np.mgrid[:60, :80].astype(np.float64)
    z = 0.6 + 0.0008 * u - 0.0005 * v
    x, y = (u - 37.3) / 150, (v - 32.6) / 150
    xyz = np.stack([x * z, y * z, z] if perspective else [0.5 * x, 0.5 * y, z], axis=-1).astype(np.float32)
    xyz[::5, ::7] = 0
    return xyz


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (1, None),
        (1000, (0.001, "millimetres")),
        (1e4, (0.0001, "tenths of a millimetre")),
        (100, (0.01, "centimetres")),
    ],
)
def test_unit_is_told_from_the_distance(stored: float, expected: tuple[float, str] | None) -> None:
    assert likely_unit(scan() * np.float32(stored)) == expected


def test_unit_at_its_limits() -> None:
    assert likely_unit(scan() * np.float32(3)) is None  # 1.8 m away
    assert likely_unit(scan() * np.float32(1e-6)) == (
        1000.0,
        "kilometres, as after dividing millimetres by 1000 twice",
    )
    factor, name = likely_unit(scan() * np.float32(1e6)) or (0.0, "")
    assert np.isnan(factor)
    assert name == "no usual unit"
    assert likely_unit(np.zeros((4, 4, 3), np.float32)) is None
    flat = scan(perspective=False) * np.array([1000, 1000, 0.001], np.float32)  # a scanner's z counts from anywhere
    assert likely_unit(flat) == (0.001, "millimetres")


def test_extent_of_a_box_and_of_nothing() -> None:
    xyz = np.zeros((50, 50, 3), np.float32)
    x, y = np.meshgrid(np.linspace(1, 2, 30), np.linspace(3, 7, 30))
    xyz[10:40, 10:40] = np.stack([x, y, np.full_like(x, 5)], axis=-1)
    assert extent(xyz) == pytest.approx((1, 4, 0), abs=0.05)
    assert extent(np.zeros((4, 4, 3))) == (0, 0, 0)


def test_few_points_are_not_judged() -> None:
    """A flat scrap in front of a scanner whose z counts from the table: metres, though all of it is within 3 mm."""
    scrap = scan(perspective=False) * np.float32(0.01)
    scrap[scrap[..., 2] != 0] -= np.array([0, 0, 0.0057], np.float32)
    assert likely_unit(scrap) is not None
    scrap[10:] = 0
    scrap[:, 19:] = 0
    assert likely_unit(scrap) is None
    assert likely_unit(scrap * np.float32(1000)) is None


def test_a_part_may_be_far_and_a_hall_behind_it_farther() -> None:
    assert likely_unit(scan() * np.float32(13)) is None  # 8 m
    room = scan()
    room[:, 40:] *= 12
    assert likely_unit(room) is None


def test_fault_says_what_was_found_and_what_it_would_be() -> None:
    assert unit_fault(scan()) is None
    told = unit_fault(scan() * np.float32(1000)) or ""
    assert told.startswith("coordinates seem to be in millimetres (z around 617): times 0.001 the points extend over ")
    assert [float(d) for d in told.removesuffix(" cm").split(" over ")[1].split(" × ")] == pytest.approx(
        [100 * d for d in extent(scan())], rel=0.01
    )
    with pytest.raises(UserError, match=r"^a.tiff: expected metres, coordinates seem to be in millimetres \(z around"):
        checked_cloud(scan() * np.float32(1000), "a.tiff")
    with pytest.raises(UserError, match="kilometres"):
        checked_cloud(scan() * np.float32(1e-3), "xyz")
