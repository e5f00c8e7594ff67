"""Our DBSCAN against scikit-learn's, label by label."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from processing.background.clusters import dbscan, largest_cluster
from utils.errors import UserError


def uniform(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.random((n, 3)) * rng.uniform(1, 12)


def blobs_with_halo(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.concatenate([rng.normal(0, 0.3, (n, 3)), rng.normal(3, 0.5, (n, 3)), rng.normal(1, 3, (n, 3))])


def bridge(rng: np.random.Generator, n: int) -> np.ndarray:
    ends = [rng.normal((x, 0, 0), 0.7, (n, 3)) for x in (-4, 4)]
    return np.concatenate([*ends, np.linspace((-4, 0, 0), (4, 0, 0), int(rng.integers(5, 120)))])


def lattice(rng: np.random.Generator, n: int) -> np.ndarray:
    """Duplicates, and many distances of exactly eps."""
    return np.round(rng.random((n, 3)) * 10)


def sheets(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two dense parallel surfaces about eps apart, so that single pairs decide whether they are one cluster."""
    flat = rng.random((2, n, 2)) * 4
    heights = rng.normal(0, 0.02, (2, n, 1)) + np.array([0, rng.uniform(0.95, 1.15)])[:, None, None]
    return np.concatenate([flat, heights], axis=2).reshape(-1, 3)


def diagonal_pairs(rng: np.random.Generator, n: int) -> np.ndarray:
    """Pairs whose distance is a little below or above eps, along the diagonal of the grid's cells."""
    ends = np.ones((n, 3)) / np.sqrt(3) * rng.choice([0.99, 1.03], (n, 1))
    first = rng.random((n, 3)) * 40
    return np.stack([first, first + ends], axis=1).reshape(-1, 3)


@pytest.mark.parametrize("shape", [uniform, blobs_with_halo, bridge, lattice, sheets, diagonal_pairs])
def test_labels_equal_those_of_scikit_learn(shape: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    clusters = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        points = rng.permutation(shape(rng, int(rng.integers(1, 1000))))
        min_points = 2 if shape is diagonal_pairs else int(rng.integers(1, 40))
        expected = DBSCAN(eps=1, min_samples=min_points).fit(points).labels_
        np.testing.assert_array_equal(dbscan(points, 1, min_points), expected)
        clusters.add(expected.max())
    assert len(clusters) > 1  # the cases differ in their number of clusters


def test_labels_do_not_depend_on_the_unit_or_the_origin() -> None:
    rng = np.random.default_rng(3)
    points = bridge(rng, 400)
    moved = points * 0.006 + np.array([0.1, -5, 0.7])
    np.testing.assert_array_equal(dbscan(moved, 0.006, 12), dbscan(points, 1, 12))


def test_largest_cluster_counts_border_points_and_drops_noise() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 0.2, (200, 3)), rng.normal(5, 0.2, (300, 3))
    border, noise = np.array([[5, 5, 6.2]]), np.array([[20.0, 0, 0]])
    member = largest_cluster(np.concatenate([small, large, border, noise]), 1, 30)
    np.testing.assert_array_equal(member, np.repeat([False, True, True, False], [200, 300, 1, 1]))


def test_without_a_cluster_nothing_is_kept() -> None:
    assert largest_cluster(np.empty((0, 3)), 1, 30).shape == (0,)
    assert not largest_cluster(np.arange(90.0).reshape(30, 3), 1, 30).any()


def test_absurd_extent_is_an_error() -> None:
    with pytest.raises(UserError, match="far too much"):
        dbscan(np.array([[0, 0, 0], [1e9, 1e9, 1e9]]), 0.006, 2)
