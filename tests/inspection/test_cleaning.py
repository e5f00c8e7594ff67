"""inspection/cleaning.py: raw scans lose their background as the training data did."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from datasets.frames import border_mask
from inspection.cleaning import clean, needs_cleaning
from processing.background.removal import BackgroundSettings, object_mask
from processing.manifest import Preprocessing
from utils.errors import UserError

SIDE = 96
BOX = slice(30, 60), slice(35, 70)


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, np.ndarray]:
    """A flat box of 20 mm on a table, seen from 0.5 m: (RGB, cloud)."""
    v, u = np.mgrid[:SIDE, :SIDE]
    z = np.full((SIDE, SIDE), 0.5)
    z[BOX] = 0.48
    xyz = np.stack([(u - 47.3) * 0.0015 * z / 0.5, (v - 47.3) * 0.0015 * z / 0.5, z], axis=2).astype(np.float32)
    rgb = np.random.default_rng(0).integers(1, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    return rgb, xyz


def box() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[BOX] = True
    return mask


@pytest.mark.parametrize("preprocessing", [None, Preprocessing().as_json()])
def test_the_plane_is_removed(scan: tuple[np.ndarray, np.ndarray], preprocessing: dict[str, Any] | None) -> None:
    found = clean(*scan, preprocessing)
    assert found is not None
    rgb, xyz = found
    assert np.array_equal(rgb, scan[0])
    assert np.array_equal(xyz, np.where(box()[..., None], scan[1], 0))
    expected = object_mask(scan[1], np.random.default_rng(0))
    assert np.array_equal((xyz != 0).any(axis=2), expected)


def test_family_a_blackens_the_image_too(scan: tuple[np.ndarray, np.ndarray]) -> None:
    found = clean(*scan, Preprocessing("a").as_json())
    assert found is not None
    assert np.array_equal(found[0], np.where(box()[..., None], scan[0], 0))


def test_the_settings_of_the_training_data_are_used(scan: tuple[np.ndarray, np.ndarray]) -> None:
    """Nothing of the box is more than 30 mm above the table."""
    settings = asdict(BackgroundSettings(plane_distance=0.03))
    with pytest.raises(UserError, match="nothing is left"):
        clean(*scan, {"family": "b", "seed": 0, "settings": settings})


def test_a_depth_range_is_cut_out(scan: tuple[np.ndarray, np.ndarray]) -> None:
    top = float(scan[1][BOX][0, 0, 2])
    rgbd = {"family": "rgbd", "settings": {"background": "depth-range", "depth_range": [top, top]}}
    found = clean(*scan, rgbd)
    assert found is not None
    assert np.array_equal((found[1] != 0).any(axis=2), box())


def test_scans_of_unknown_make_are_cleaned_by_their_border_or_their_range(scan: tuple[np.ndarray, np.ndarray]) -> None:
    """A camera that measures nothing near its frame leaves no border to judge by; a range is cut all the same."""
    rgbd = {"family": "rgbd", "settings": {"background": "depth-range", "depth_range": [0.3, 0.49]}}
    inner = scan[1].copy()
    inner[border_mask(inner.shape)] = 0
    assert [needs_cleaning(cloud, None) for cloud in (scan[1], inner)] == [True, False]
    assert [needs_cleaning(cloud, rgbd) for cloud in (scan[1], inner)] == [True, True]


def test_data_that_fills_the_frame_stays(scan: tuple[np.ndarray, np.ndarray]) -> None:
    assert clean(*scan, {"family": "rgbd", "settings": {"background": "none"}}) is None


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        ({"family": "rgbd", "settings": {"background": "mask"}}, "cleaned by masks"),
        ({"family": "eyecandies", "settings": {"scale": 0.1}}, "conversion of family eyecandies"),
        ({"family": 3, "settings": {}}, "the checkpoint's settings"),
        ({"family": "b"}, "the checkpoint's settings"),
        (["b"], "the checkpoint's settings"),
        ({"family": "b", "settings": {"plane_distance": "5 mm"}}, "the checkpoint's settings"),
        ({"family": "rgbd", "settings": {"background": "depth-range"}}, "the checkpoint's settings"),
        ({"family": "rgbd", "settings": {"background": "depth-range", "depth_range": [0.3]}}, "the checkpoint's"),
    ],
)
def test_what_a_scan_alone_does_not_tell_is_refused(
    scan: tuple[np.ndarray, np.ndarray], preprocessing: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        clean(*scan, preprocessing)


def test_the_same_scan_gives_the_same_cloud(scan: tuple[np.ndarray, np.ndarray]) -> None:
    noisy = scan[1] + np.random.default_rng(1).normal(0, 0.001, scan[1].shape).astype(np.float32)
    first, second = (clean(scan[0], noisy.copy(), None) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first[1], second[1])
