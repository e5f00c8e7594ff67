"""DBSCAN (Ester et al., KDD 1996) for dense scans: exact, with a grid that spares most neighbour queries."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from utils.errors import UserError


def largest_cluster(points: np.ndarray, eps: float, min_points: int) -> np.ndarray:
    """Membership in the largest DBSCAN cluster, border points included; of equal ones the first.

    Args:
        points: (N, 3) coordinates.
        eps: radius of the neighbourhood, in the unit of the points.
        min_points: points within `eps`, itself included, that make a core point.

    Returns:
        (N,) bool; all False when there is no cluster.
    """
    labels = dbscan(points, eps, min_points)
    clustered = labels[labels >= 0]
    return labels == (np.bincount(clustered).argmax() if clustered.size else 0)


def dbscan(points: np.ndarray, eps: float, min_points: int) -> np.ndarray:
    """DBSCAN labels, exactly those of the textbook algorithm run over the points in their order.

    Cells of a grid with diagonal `eps` hold points that are all neighbours of one another: a cell with `min_points`
    points consists of core points, and the core points of any cell belong together. Neighbour queries remain for
    the points of sparser cells, and distances for pairs of cells that nothing cheaper decides.

    Args:
        points: (N, 3) coordinates.
        eps: radius of the neighbourhood (distance ≤ eps), in the unit of the points.
        min_points: points within `eps`, itself included, that make a core point.

    Returns:
        (N,) int64: clusters are counted from 0 by their first core point, −1 is noise. A border point within reach
        of several clusters belongs to the first of them.

    Raises:
        UserError: the points span more than the grid can count.
    """
    points = np.asarray(points, np.float64)
    labels = np.full(len(points), -1, np.int64)
    if not len(points):
        return labels
    cell, strides = _cells(points, eps)
    _, cell_index, counts = np.unique(cell, return_inverse=True, return_counts=True)
    core = counts[cell_index] >= min_points
    loose = np.flatnonzero(~core)
    neighbours = np.empty((0, min_points), np.int64)
    if loose.size:
        tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
        reach = np.nextafter(eps, np.inf)
        distance, neighbours = tree.query(points[loose], k=np.arange(1, min_points + 1), distance_upper_bound=reach)
        core[loose] = np.isfinite(distance[:, -1])
    if not core.any():
        return labels
    labels[core] = _core_labels(points[core], cell[core], strides, eps)
    border = ~core[loose]  # fewer than min_points neighbours, so the query returned them all
    no_cluster = np.iinfo(np.int64).max
    known = np.append(np.where(core, labels, no_cluster), no_cluster)  # the query writes index N for "none"
    nearest = known[neighbours[border]].min(axis=1, initial=no_cluster)
    labels[loose[border]] = np.where(nearest == no_cluster, -1, nearest)
    return labels


def _cells(points: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 number of each point's cell, and the (3,) strides: cell numbers differ by offset · strides."""
    side = eps / np.sqrt(3) * (1 - 1e-9)
    low = points.min(axis=0)
    extent = (
        np.floor((points.max(axis=0) - low) / side) + 5
    )  # counts, and room for offsets of ±2 without wrapping round
    if extent.prod() > 2**62:
        raise UserError(f"the points span {np.ptp(points, axis=0)}, far too much for clusters of radius {eps}")
    strides = np.array([extent[1] * extent[2], extent[2], 1], np.int64)
    return np.floor((points - low) / side).astype(np.int64) @ strides, strides


def _core_labels(points: np.ndarray, cell: np.ndarray, strides: np.ndarray, eps: float) -> np.ndarray:
    """(K,) labels of K core points: cells are linked where a pair of their points lies within eps."""
    order = np.argsort(cell, kind="stable")
    cells, start, cell_index, counts = np.unique(
        cell[order], return_index=True, return_inverse=True, return_counts=True
    )
    grouped = points[order]
    low, high = np.minimum.reduceat(grouped, start), np.maximum.reduceat(grouped, start)
    first, second = _adjacent(cells, strides)
    gap = np.maximum(np.maximum(low[second] - high[first], low[first] - high[second]), 0)
    within = (gap**2).sum(axis=1) <= eps**2
    first, second = first[within], second[within]

    linked = ((grouped[start[first]] - grouped[start[second]]) ** 2).sum(axis=1) <= eps**2
    component = _components(first[linked], second[linked], len(cells))
    undecided = np.flatnonzero(component[first] != component[second])
    for pair in undecided:
        one, other = (slice(start[c], start[c] + counts[c]) for c in (first[pair], second[pair]))
        distance, _ = cKDTree(grouped[one]).query(grouped[other], distance_upper_bound=np.nextafter(eps, np.inf))
        linked[pair] = np.isfinite(distance).any()
    if linked[undecided].any():
        component = _components(first[linked], second[linked], len(cells))

    of_point = np.empty(len(points), np.int64)
    of_point[order] = component[cell_index]
    _, first_point, of_point = np.unique(of_point, return_index=True, return_inverse=True)
    rank = np.empty(len(first_point), np.int64)
    rank[np.argsort(first_point)] = np.arange(len(first_point))
    return rank[of_point]


def _adjacent(cells: np.ndarray, strides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), once each, of sorted cells whose offset is at most 2 along every axis: all that eps can bridge."""
    offsets = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ strides
    first, second = [], []
    for offset in offsets[offsets > 0]:
        position = np.searchsorted(cells, cells + offset)
        found = np.flatnonzero(cells[np.minimum(position, len(cells) - 1)] == cells + offset)
        first.append(found)
        second.append(position[found])
    return np.concatenate(first), np.concatenate(second)


def _components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) component of each node of the undirected graph with edges (first, second)."""
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]
