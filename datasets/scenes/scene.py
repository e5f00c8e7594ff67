"""Generated RGB + organised point cloud scenes: one object on a tilted plane, seen by a structured-light camera.

Stand-ins for the data sets of the field, for demonstrations and tests: colour and shape of each class are tied by a
rule (`shapes`), defects break the shape, the colour or the tie between them (`defects`), and the light of the projector
decides what is photographed and measured (`scanner`), as on the scans of MVTec 3D-AD.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets.scenes.defects import apply_defect, changed_cells
from datasets.scenes.light import expose, ground_albedo, radiance
from datasets.scenes.scanner import draw_light, folds, measure, reached
from datasets.scenes.shapes import OBJECT_CLASSES, Array, Shape, draw_shape
from datasets.scenes.view import Camera, Mask, Pose, Surface, plane_coordinates, tilted_axes, view

FOCAL_AT_800 = 2758.0
"""Focal length in pixels of an image whose longer side has 800."""

_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Scene:
    """One rendered sample.

    Attributes:
        rgb: (h,w,3) uint8.
        xyz: (h,w,3) float32 metres in the camera frame; lost points are exactly (0,0,0).
        gt: (h,w) bool, True on the defect.
        camera: intrinsics of both.
        shape: the object as drawn, defect included.
        surface: the noise-free truth behind `rgb` and `xyz`.
    """

    rgb: NDArray[np.uint8]
    xyz: Array
    gt: Mask
    camera: Camera
    shape: Shape
    surface: Surface


def scene_camera(class_name: str, size: int) -> Camera:
    """The camera of a class: `size` is the longer image side in pixels; the focal length scales with it."""
    width, height = (round(size * share) for share in OBJECT_CLASSES[class_name].aspect)
    right, down = np.random.default_rng([7, *class_name.encode()]).uniform(-0.04, 0.04, 2)
    return Camera(
        width, height, FOCAL_AT_800 * size / 800, round(width * (0.5 + right), 2), round(height * (0.5 + down), 2)
    )


def render_scene(class_name: str, defect: str | None, size: int, seed: int | list[int], exposure: float = 1.0) -> Scene:
    """One scene of a class, good (`defect` None) or with one defect. Equal arguments give equal arrays.

    The instance, its pose, the light and the noise depend on class, size, seed and exposure, not on the defect: a
    defective scene differs from the good scene of the same seed only where the defect changes it.

    Args:
        class_name: a key of OBJECT_CLASSES.
        defect: a key of DEFECTS, or None.
        size: longer image side in pixels.
        seed: one or several integers >= 0.
        exposure: of the scan, relative to that of the training scans; each scan has a little play of its own besides.
    """
    streams = np.random.default_rng(entropy(class_name, seed)).spawn(5)
    pose_stream, shape_stream, defect_stream, light_stream, sensor_stream = streams
    camera = scene_camera(class_name, size)
    pose = draw_pose(class_name, camera, pose_stream)
    good = draw_shape(class_name, 0.8 * float(pose.point[2]) / camera.focal, shape_stream)
    shape = apply_defect(good, defect, defect_stream) if defect else good
    ground = ground_albedo(*plane_coordinates(camera, pose), light_stream)
    surface = view(shape, changed_cells(good, shape), ground, camera, pose)
    light = draw_light(exposure, light_stream)
    lit = reached(surface.depth, camera)
    projected = radiance(surface, camera, shape.gloss, replace(light, ambient=0.0), lit.astype(np.float32))
    scattered = light.ambient * surface.albedo * light.tint.astype(np.float32)
    rgb = expose(projected + scattered, light_stream)
    depth = surface.depth + folds(surface, camera, sensor_stream)
    xyz = measure(depth, projected.mean(axis=-1), camera, sensor_stream)
    return Scene(rgb, xyz, defect_mask(surface.changed), camera, shape, surface)


def entropy(class_name: str, seed: int | list[int]) -> list[int]:
    """Seed for a generator: classes with the same `seed` draw independent numbers."""
    return [*(seed if isinstance(seed, list) else [seed]), *class_name.encode()]


def draw_pose(class_name: str, camera: Camera, rng: np.random.Generator) -> Pose:
    """Plane and object placement: a class keeps its rig up to small play, the object lies anywhere near the middle."""
    rig = np.random.default_rng([11, *class_name.encode()])
    tilt = rig.uniform(np.radians(18), np.radians(23)) + rng.normal(0, np.radians(0.4))
    azimuth = np.pi / 2 + rig.uniform(-0.6, 0.6) + rng.normal(0, 0.03)
    distance = rig.uniform(0.54, 0.57) + rng.uniform(-0.004, 0.004)
    middle = [(camera.width / 2 - camera.cx) / camera.focal, (camera.height / 2 - camera.cy) / camera.focal, 1]
    shift = rng.uniform(-1, 1, 2) * OBJECT_CLASSES[class_name].play
    return Pose(distance * np.array(middle), tilted_axes(tilt, azimuth), rng.uniform(0, 2 * np.pi), shift)


def defect_mask(changed: Mask) -> Mask:
    """The largest connected region (8 neighbours) of changed pixels, gaps closed; empty if none changed."""
    if not changed.any():
        return changed
    reach = max(1, round(max(changed.shape) / 130))
    closed = ndimage.binary_closing(np.pad(changed, reach), _EIGHT, iterations=reach)
    filled = ndimage.binary_fill_holes(closed[reach:-reach, reach:-reach])
    parts, _ = ndimage.label(filled, _EIGHT)
    return parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
