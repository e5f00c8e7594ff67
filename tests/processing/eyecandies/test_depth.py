"""Depth to cloud against figures of the published conversion, and against a scene whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from processing.eyecandies.depth import decode_depth, foreground, to_cloud, world_points

GOLDEN = Path(__file__).parents[2] / "golden" / "eyecandies"


@pytest.fixture(scope="module")
def golden() -> np.lib.npyio.NpzFile:
    return np.load(GOLDEN / "expected.npz")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    with Image.open(GOLDEN / "000_depth.png") as image:
        stored = np.asarray(image)
    limits = yaml.safe_load((GOLDEN / "000_info_depth.yaml").read_text())["normalization"]
    return world_points(decode_depth(stored, limits["min"], limits["max"]), np.loadtxt(GOLDEN / "000_pose.txt"))


def test_decode_depth() -> None:
    stored = np.array([[0, 65535], [13107, 6553]], np.uint16)
    np.testing.assert_allclose(decode_depth(stored, 2.0, 4.0), [[2.0, 4.0], [2.4, 2.2]], atol=2e-5)
    assert decode_depth(stored, 2.0, 4.0).dtype == np.float32


def test_world_points_have_the_expected_values(points: np.ndarray, golden: np.lib.npyio.NpzFile) -> None:
    np.testing.assert_allclose(points.reshape(-1, 3)[golden["pixels"]], golden["cloud"], rtol=0, atol=1e-14)


def test_foreground_has_the_expected_pixels(points: np.ndarray, golden: np.lib.npyio.NpzFile) -> None:
    expected = np.unpackbits(golden["valid"])[: 512 * 512].astype(bool)
    assert np.array_equal(foreground(points).ravel(), expected)


def test_cloud_has_the_expected_values(points: np.ndarray, golden: np.lib.npyio.NpzFile) -> None:
    cloud = to_cloud(points, foreground(points)).reshape(-1, 3)
    assert cloud.dtype == np.float32
    valid = np.unpackbits(golden["valid"])[: 512 * 512].astype(bool)
    assert np.array_equal((cloud != 0).all(axis=1), valid)
    assert (cloud[~valid] == 0).all()
    chosen = valid[golden["pixels"]]
    assert 0 < chosen.sum() < chosen.size
    np.testing.assert_allclose(cloud[golden["pixels"]][chosen], golden["converted"][chosen], rtol=0, atol=1e-8)


def test_world_points_undo_the_projection() -> None:
    """Points of the world, projected by hand, come back."""
    generator = np.random.default_rng(0)
    angle = 0.9
    pose = np.eye(4)
    pose[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = [0.1, -0.4, 1.9]
    depth = generator.uniform(2, 3, (300, 400))
    points = world_points(depth, pose)
    camera = points @ pose[:3, :3].T + pose[:3, 3]
    v, u = np.mgrid[:300, :400]
    np.testing.assert_allclose(camera[..., 2], depth, atol=1e-12)
    np.testing.assert_allclose(711.11 * camera[..., 0] / camera[..., 2] + 200, u, atol=1e-9)
    np.testing.assert_allclose(711.11 * camera[..., 1] / camera[..., 2] + 150, v, atol=1e-9)


def test_foreground_rules_on_a_flat_ground() -> None:
    """Ground y = 0 along z, up is −y: the limits are 0.02 up, 1.8 along and 1 to a side."""
    points = np.zeros((512, 512, 3))
    points[..., 2] = np.linspace(1.7, 0.0, 512)[:, None]
    points[..., 0] = np.linspace(-1.2, 1.2, 512)[None]
    assert not foreground(points).any()
    points[100, 200, 1] = -0.019
    points[101, 200, 1] = -0.021
    points[102, 200] = [0.0, -0.5, 1.79]
    points[103, 200] = [0.0, -0.5, 1.81]
    points[104, 200] = [0.99, -0.5, 1.0]
    points[105, 200] = [-1.01, -0.5, 1.0]
    assert np.argwhere(foreground(points)).tolist() == [[101, 200], [102, 200], [104, 200]]
