"""Raw or preprocessed: whether the plane that a part lies on is still in its scan.

Of a real scan, the background may be measured in part only (dark tables), the part may reach the frame's border, and a
preprocessed part that touches the border may be flat itself. So no share of valid pixels decides, but what is there: a
plane that reaches the border, with nothing behind it, since a table is the last surface that a camera sees.
"""

import numpy as np

from datasets.frames import border_mask, border_share, valid_points

PLANE_DISTANCE = 0.005  # metres; nearer points belong to the plane, as in the published preprocessing

REACH = 0.15
"""Least share of the frame's border that a background plane covers."""

_WIDE_REACH = 0.4  # of the border: so much is a table, whatever stands on it
_FRONT = 0.02  # of the points stand in front of the plane: the part
_BEHIND = 0.01  # of the points may lie behind it: flying points
_FLAT = 0.0011  # metres: a table's deviation from a plane, noise apart; curved parts have more
_TOLERANCE = 0.002  # metres, or twice the noise: points this near support a hypothesis

_DRAWS, _BEST = 400, 40  # planes through three points; those that are fitted again and judged
_POINTS = 3000  # that stand for all
_BLOCKS = 8  # of the planes drawn: so few at a time that a processor's cache holds their distances
_ROUNDS = 3  # of fitting again


def is_raw(xyz: np.ndarray) -> bool:
    """Whether an (h, w, 3) cloud, invalid points (0, 0, 0), still holds its background plane; see there."""
    return background_plane(xyz) is not None


def background_plane(xyz: np.ndarray) -> np.ndarray | None:
    """The plane that the part of a raw scan lies on.

    It reaches the border of the frame, next to nothing lies behind it, and either it fills much of the border, or it is
    flat and something stands in front. Found among planes through three points, drawn with a fixed seed.

    Args:
        xyz: (h, w, 3) metres in the camera's frame, without padding, invalid points (0, 0, 0).

    Returns:
        (4,) float64: unit normal n, towards the camera, and offset d of n·p + d = 0; good to a fraction of
        PLANE_DISTANCE. None without such a plane: a preprocessed scan, or one whose background was not measured.
    """
    valid = valid_points(xyz)
    share = border_share(valid)
    if share < REACH:
        return None
    noise = _noise(np.where(valid, xyz[..., 2], np.nan))
    points, at_border = xyz[valid].astype(np.float64), border_mask(valid.shape)[valid]
    step = len(points) // _POINTS + 1
    points, at_border = points[::step], at_border[::step]
    if not at_border.any():
        return None
    planes = _candidates(points, at_border, max(_TOLERANCE, 2 * noise))
    height = _heights(points, planes)
    near = np.abs(height) < PLANE_DISTANCE
    reach = share * near[at_border].mean(axis=0)
    mean_square = (height**2 * near).sum(axis=0) / np.maximum(near.sum(axis=0), 1)
    flat = mean_square - noise**2 <= _FLAT**2
    stands = (height >= PLANE_DISTANCE).mean(axis=0) >= _FRONT
    last = (height <= -PLANE_DISTANCE).mean(axis=0) <= _BEHIND
    found = last & ((reach >= _WIDE_REACH) | ((reach >= REACH) & flat & stands))
    if not found.any():
        return None
    plane: np.ndarray = planes[np.where(found, reach, -1).argmax()]
    return plane


def _candidates(points: np.ndarray, at_border: np.ndarray, tolerance: float) -> np.ndarray:
    """(K, 4) planes that many of the (N, 3) points support, those at the border counting as much as all together."""
    corners = points[np.random.default_rng(0).integers(len(points), size=(_DRAWS, 3))]  # (draws, 3 corners, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    offsets = np.where(lengths[:, 0] > 0, -(normals * corners[:, 0]).sum(axis=1), np.inf)  # no plane without a normal
    planes = np.concatenate([normals, offsets[:, None]], axis=1)
    score = np.concatenate([_support(points, at_border, block, tolerance) for block in np.split(planes, _BLOCKS)])
    best = np.argsort(-score, kind="stable")[: min(_BEST, max(1, np.count_nonzero(score)))]
    members = np.abs(_heights(points, planes[best])) <= tolerance
    members |= ~members.any(axis=0)  # all points coincide, or lie on a line: any plane through them will do
    for _ in range(_ROUNDS):
        planes = _fitted(points, members)
        planes *= np.where(planes[:, 3:] < 0, -1, 1)  # normals towards the camera
        inside = np.abs(_heights(points, planes)) <= min(2 * tolerance, PLANE_DISTANCE)
        members = np.where(inside.any(axis=0), inside, members)
    return planes


def _heights(points: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """(N, 3) points over (K, 4) planes: (N, K), positive on the side of the normals."""
    found: np.ndarray = points @ planes[:, :3].T + planes[:, 3]
    return found


def _support(points: np.ndarray, at_border: np.ndarray, planes: np.ndarray, tolerance: float) -> np.ndarray:
    """(K,) how many points support each of (K, 4) planes: the share of all, and that of those at the border."""
    support = np.maximum(0, 1 - (_heights(points, planes) / tolerance) ** 2)
    found: np.ndarray = support.mean(axis=0) + support[at_border].mean(axis=0)
    return found


def _fitted(points: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(N, 3) points and (N, K) bool, at least one True a column → (K, 4) planes, each of least squares to its members.

    All at once, by sums of the coordinates and their products, from which the middle is taken first for precision.
    """
    middle = points.mean(axis=0)
    offsets = points - middle
    products = (offsets[:, :, None] * offsets[:, None, :]).reshape(-1, 9)
    sums = members.T.astype(np.float64) @ np.concatenate([offsets, products], axis=1)  # (K, 12)
    counts = members.sum(axis=0)[:, None]
    centre = sums[:, :3] / counts
    covariance = sums[:, 3:].reshape(-1, 3, 3) / counts[:, None] - centre[:, :, None] * centre[:, None, :]
    return _planes_through(centre + middle, covariance)


def least_squares_planes(points: np.ndarray) -> np.ndarray:
    """(B, n, 3) points → (B, 4) planes of least squared distance: unit normals and offsets."""
    centre = points.mean(axis=1)
    offsets = points - centre[:, None]
    covariance = np.einsum("bni,bnj->bij", offsets, offsets)
    return _planes_through(centre, covariance)


def _planes_through(centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(B, 4) planes through (B, 3) centres of points, across the direction in which they vary least by (B, 3, 3)."""
    normal = np.linalg.eigh(covariance)[1][:, :, 0]  # eigenvector of the smallest eigenvalue
    return np.concatenate([normal, -(normal * centre).sum(axis=1, keepdims=True)], axis=1)


def _noise(z: np.ndarray) -> float:
    """Standard deviation of the noise of (h, w) depths, NaN = invalid: from each one's distance to its neighbours' mean
    along the rows, by the median, which steps and slopes do not move."""
    change = z[:, 1:-1] - (z[:, :-2].astype(np.float64) + z[:, 2:]) / 2  # variance: 1 + 2 · 1/4 that of the noise
    known = change[~np.isnan(change)]
    return float(1.4826 * np.median(np.abs(known)) / np.sqrt(1.5)) if known.size else 0.0
