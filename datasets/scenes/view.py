"""What a pinhole camera sees of a height field on a plane.

A viewing ray, followed by its height above the plane, crosses the grid of the height field on a straight line. It meets
the surface where it first falls below the field: a short march from above finds the interval, bisection refines it.
Camera frame: x right, y down, z along the optical axis; metres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.scenes.shapes import Array, Shape

Mask = NDArray[np.bool_]

_MARCH_STEP = 0.0025
_BISECTIONS = 8


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels; integer coordinates are pixel centres."""

    width: int
    height: int
    focal: float
    cx: float
    cy: float

    def rays(self) -> NDArray[np.float64]:
        """(h,w,3) viewing rays scaled to z = 1."""
        u = (np.arange(self.width) - self.cx) / self.focal
        v = (np.arange(self.height) - self.cy) / self.focal
        return np.stack(np.broadcast_arrays(u[None, :], v[:, None], np.ones((1, 1))), axis=-1)

    def along(self, axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """(h,w) dot product of every ray with a vector (3,)."""
        u = (np.arange(self.width) - self.cx) / self.focal
        v = (np.arange(self.height) - self.cy) / self.focal
        return (axis[0] * u + axis[2])[None, :] + (axis[1] * v)[:, None]


@dataclass(frozen=True)
class Pose:
    """Where plane and object are in the camera frame.

    Attributes:
        point: (3,) a point of the plane, metres.
        axes: (3,3) orthonormal rows: right and down in the plane, and its normal towards the camera.
        turn: in-plane rotation of the object in radians.
        shift: (2,) object centre relative to `point`, along right and down, metres.
    """

    point: NDArray[np.float64]
    axes: NDArray[np.float64]
    turn: float
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """Noise-free view of a scene, per pixel.

    Attributes:
        depth: (h,w) distance along the optical axis, metres.
        height: (h,w) height above the plane, metres; 0 on the plane.
        normals: (h,w,3) unit normals in the camera frame, towards the camera.
        albedo: (h,w,3) reflectance in [0,1].
        object_mask: (h,w) True where the object is seen.
        changed: (h,w) True where a defective cell is seen.
    """

    depth: NDArray[np.float64]
    height: Array
    normals: Array
    albedo: Array
    object_mask: Mask
    changed: Mask


def tilted_axes(tilt: float, azimuth: float) -> NDArray[np.float64]:
    """Rows right, down, normal of a plane whose normal leans `tilt` radians from the camera towards `azimuth`."""
    normal = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), -np.cos(tilt)])
    right = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    right /= np.linalg.norm(right)
    down = np.cross(right, normal)
    return np.stack([right, down, normal])


def plane_coordinates(camera: Camera, pose: Pose) -> tuple[Array, Array]:
    """Where each pixel's ray meets the plane: (h,w) metres along right and down from `pose.point`."""
    right, down, normal = pose.axes
    depth = float(pose.point @ normal) / camera.along(normal)
    return (
        (depth * camera.along(right) - pose.point @ right).astype(np.float32),
        (depth * camera.along(down) - pose.point @ down).astype(np.float32),
    )


def view(shape: Shape, changed: Mask, ground: Array, camera: Camera, pose: Pose) -> Surface:
    """What each pixel sees. `changed` (n,n) marks defective cells of the shape; `ground` (h,w,3) colours the plane."""
    descent = -camera.along(pose.axes[2])
    camera_height = -float(pose.point @ pose.axes[2])
    row0, row_slope, column0, column_slope = _grid_lines(shape, camera, pose)
    levels = int(np.ceil(float(shape.height.max()) / _MARCH_STEP))
    top = levels * _MARCH_STEP
    cells = len(shape.height)
    near = _in_grid(row0, column0, cells) | _in_grid(row0 + top * row_slope, column0 + top * column_slope, cells)
    lines = [part[near] for part in (row0, row_slope, column0, column_slope)]
    hit_height = _first_crossing(shape.height, levels, *lines)
    on_object = hit_height > 0
    rows = (lines[0] + hit_height * lines[1])[on_object]
    columns = (lines[2] + hit_height * lines[3])[on_object]

    height = np.zeros(near.shape, np.float32)
    height[near] = hit_height
    object_mask = height > 0
    normals = np.broadcast_to(pose.axes[2].astype(np.float32), (*near.shape, 3)).copy()
    normals[object_mask] = _surface_normals(shape, rows, columns, pose)
    albedo = ground.copy()
    albedo[object_mask] = _bilinear(shape.albedo, rows, columns)
    seen_change = np.zeros(near.shape, bool)
    seen_change[object_mask] = changed[np.rint(rows).astype(int), np.rint(columns).astype(int)]
    depth = (camera_height - height.astype(np.float64)) / descent
    return Surface(depth, height, normals, albedo, object_mask, seen_change)


def _grid_lines(shape: Shape, camera: Camera, pose: Pose) -> tuple[Array, Array, Array, Array]:
    """Each ray's path over the shape's grid: row = row0 + h * row_slope, column likewise, for height h in metres."""
    right, down = plane_coordinates(camera, pose)
    right_slope, down_slope = (camera.along(axis) / camera.along(pose.axes[2]) for axis in pose.axes[:2])
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    middle = (len(shape.height) - 1) / 2
    x, y = right - pose.shift[0], down - pose.shift[1]
    return (
        ((cos * y - sin * x) / shape.pitch + middle).astype(np.float32),
        ((cos * down_slope - sin * right_slope) / shape.pitch).astype(np.float32),
        ((cos * x + sin * y) / shape.pitch + middle).astype(np.float32),
        ((cos * right_slope + sin * down_slope) / shape.pitch).astype(np.float32),
    )


def _first_crossing(
    field: Array, levels: int, row0: Array, row_slope: Array, column0: Array, column_slope: Array
) -> Array:
    """(k,) height at which each ray first falls below `field`; 0 where it reaches the plane.

    The march takes `levels` steps of 2.5 mm down to the plane, so what a ray meets does not depend on how high the
    object is elsewhere.
    """

    def below(height: Array, chosen: Mask | slice = slice(None)) -> Mask:
        rows = row0[chosen] + height * row_slope[chosen]
        columns = column0[chosen] + height * column_slope[chosen]
        return _bilinear(field, rows, columns) > height

    high = np.full(row0.shape, levels * _MARCH_STEP, np.float32)
    searching = np.ones(row0.shape, bool)
    for index in reversed(range(levels)):
        level = np.full(int(searching.sum()), index * _MARCH_STEP, np.float32)
        found = below(level, searching)
        high[searching] = np.where(found, high[searching], level)
        searching[searching] = ~found
    hit = ~searching
    above, under = high[hit], high[hit] - np.float32(_MARCH_STEP)
    for _ in range(_BISECTIONS):
        middle = (above + under) / 2
        inside = below(middle, hit)
        under = np.where(inside, middle, under)
        above = np.where(inside, above, middle)
    result = np.zeros(row0.shape, np.float32)
    result[hit] = np.maximum((above + under) / 2, 1e-6)
    return result


def _in_grid(rows: Array, columns: Array, cells: int) -> Mask:
    """True where a grid position lies on the n x n grid."""
    return (rows >= 0) & (rows <= cells - 1) & (columns >= 0) & (columns <= cells - 1)


def _bilinear(field: Array, rows: Array, columns: Array) -> Array:
    """(k,…) values of `field` (n,n,…) between its cells at (k,) positions, clamped to the grid."""
    cells = len(field)
    rows, columns = np.clip(rows, 0, cells - 1.001), np.clip(columns, 0, cells - 1.001)
    row, column = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - row, columns - column
    flat = field.reshape(cells * cells, *field.shape[2:])
    corner = row * cells + column
    if field.ndim > 2:
        down, right = down[:, None], right[:, None]
    upper = flat[corner] + (flat[corner + 1] - flat[corner]) * right
    lower = flat[corner + cells] + (flat[corner + cells + 1] - flat[corner + cells]) * right
    return (upper + (lower - upper) * down).astype(np.float32)


def _surface_normals(shape: Shape, rows: Array, columns: Array, pose: Pose) -> Array:
    """(k,3) unit normals in the camera frame at grid positions of the shape."""
    slope_y, slope_x = np.gradient(shape.height, shape.pitch)
    slopes = _bilinear(np.stack([slope_x, slope_y], axis=-1), rows, columns)
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    right = cos * slopes[:, 0] - sin * slopes[:, 1]
    down = sin * slopes[:, 0] + cos * slopes[:, 1]
    normals = pose.axes[2] - right[:, None] * pose.axes[0] - down[:, None] * pose.axes[1]
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
