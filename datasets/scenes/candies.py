"""Generated scenes as Eyecandies records them: six lamps, 512 x 512 depth, normals, pose, masks per kind of anomaly.

The scenes are those of `scenes`, seen by Eyecandies' wider camera and enlarged to its world, where an object measures
about 0.8 units. The plane leans only away from the camera, as the published conversion to point clouds assumes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.scenes.defects import apply_defect, changed_cells
from datasets.scenes.light import Light, expose, ground_albedo, radiance
from datasets.scenes.scene import defect_mask, entropy
from datasets.scenes.shapes import OBJECT_CLASSES, draw_shape
from datasets.scenes.view import Camera, Mask, Pose, Surface, plane_coordinates, tilted_axes, view

CANDY_CLASSES = {
    "biscuit": "LicoriceSandwich",
    "cap": "PeppermintCandy",
    "chip_cookie": "ChocolateCookie",
    "gear": "Confetto",
    "loaf": "Marshmallow",
}
"""Object class -> the Eyecandies class whose name it goes by."""

MASK_KINDS = ("bumps", "colors", "dents", "normals")
CANDY_DEFECTS: dict[str, tuple[str, ...]] = {
    "bump": ("bumps",),
    "contamination": ("bumps", "colors"),
    "cut": ("dents", "normals"),
    "dent": ("dents",),
    "hole": ("colors", "dents"),
    "paint": ("colors",),
    "stain": ("colors",),
}
"""Defect -> the masks of MASK_KINDS in which it is drawn."""

CANDY_CAMERA = Camera(512, 512, 711.11, 256.0, 256.0)
SCALE = 9.5
"""Eyecandies world units per metre of the shapes."""

_DISTANCE = 2.3
_LAMPS = {"bottom": (0.0, 0.9), "right": (0.9, 0.0), "top": (0.0, -0.9), "left": (-0.9, 0.0)}


@dataclass(frozen=True)
class Candy:
    """One rendered sample.

    Attributes:
        images: six (512,512,3) uint8: all lights, bottom, right, top, left, global.
        depth: (512,512) distance along the optical axis in world units, no point lost.
        normals: (512,512,3) uint8, 127.5 (n + 1) with x right, y up, z towards the camera.
        pose: (4,4) world to camera.
        masks: kind of MASK_KINDS -> (512,512) bool, True on the defect.
        surface: the noise-free truth, in metres of the shapes.
    """

    images: list[NDArray[np.uint8]]
    depth: NDArray[np.float64]
    normals: NDArray[np.uint8]
    pose: NDArray[np.float64]
    masks: dict[str, Mask]
    surface: Surface


def render_candy(class_name: str, defect: str | None, seed: int | list[int]) -> Candy:
    """One scene, good (`defect` None) or with one defect. Equal arguments give equal arrays.

    Args:
        class_name: a key of CANDY_CLASSES.
        defect: a key of CANDY_DEFECTS, or None.
        seed: one or several integers >= 0.
    """
    pose_stream, shape_stream, defect_stream, light_stream = np.random.default_rng(entropy(class_name, seed)).spawn(4)
    pose = _draw_pose(class_name, pose_stream)
    good = draw_shape(class_name, 0.8 * float(pose.point[2]) / CANDY_CAMERA.focal, shape_stream)
    shape = apply_defect(good, defect, defect_stream) if defect else good
    ground = ground_albedo(*plane_coordinates(CANDY_CAMERA, pose), light_stream)
    surface = view(shape, changed_cells(good, shape), ground, CANDY_CAMERA, pose)
    kinds = CANDY_DEFECTS[defect] if defect else ()
    area = defect_mask(surface.changed)
    return Candy(
        images=_six_images(surface, shape.gloss, light_stream),
        depth=SCALE * surface.depth,
        normals=np.rint(127.5 * (surface.normals * np.array([1, -1, -1]) + 1)).astype(np.uint8),
        pose=_world_to_camera(pose_stream),
        masks={kind: area if kind in kinds else np.zeros_like(area) for kind in MASK_KINDS},
        surface=surface,
    )


def _draw_pose(class_name: str, rng: np.random.Generator) -> Pose:
    """The plane farther away at the upper image border, the object near the middle."""
    tilt = np.radians(12) + rng.normal(0, np.radians(0.3))
    point = np.array([0.0, 0.0, (_DISTANCE + rng.uniform(-0.02, 0.02)) / SCALE])
    shift = rng.uniform(-0.6, 0.6, 2) * OBJECT_CLASSES[class_name].play
    return Pose(point, tilted_axes(tilt, -np.pi / 2), rng.uniform(0, 2 * np.pi), shift)


def _world_to_camera(rng: np.random.Generator) -> NDArray[np.float64]:
    """(4,4) rigid transform that turns about the x axis only."""
    angle = np.radians(51.5) + rng.normal(0, 0.01)
    pose = np.eye(4)
    pose[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = [rng.uniform(-0.02, 0.02), -0.4, 1.9]
    return pose


def _six_images(surface: Surface, gloss: float, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Photographs under all lights, each lamp alone (bottom, right, top, left), and the light of the room alone."""
    strength, tint = rng.uniform(0.82, 0.90), 1 + rng.normal(0, 0.008, 3)
    towards_camera = np.array([0.0, 0.0, -1.0])
    room = radiance(surface, CANDY_CAMERA, 0.0, Light(towards_camera, 0.0, 0.7, tint))
    lamps = []
    for x, y in _LAMPS.values():
        direction = np.array([x, y, -1.0]) / np.linalg.norm([x, y, -1.0])
        lamps.append(radiance(surface, CANDY_CAMERA, gloss, Light(direction, strength, 0.08, tint)))
    everything = (0.5 * room + 0.2 * np.sum(lamps, axis=0)).astype(np.float32)
    return [expose(image, rng) for image in (everything, *lamps, room)]
