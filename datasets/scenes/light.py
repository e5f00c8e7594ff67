"""Colour images of a rendered surface: Lambertian shading, a mild highlight, and the camera's blur and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets.scenes.shapes import Array
from datasets.scenes.view import Camera, Mask, Surface

_SHININESS = 24
_BLUR = 0.6
_NOISE = 1.3 / 255


@dataclass(frozen=True)
class Light:
    """A distant lamp and the light of the room.

    direction (3,) unit vector from the scene towards the lamp, camera frame; diffuse and ambient strengths; tint (3,).
    """

    direction: NDArray[np.float64]
    diffuse: float
    ambient: float
    tint: NDArray[np.float64]


def draw_light(rng: np.random.Generator) -> Light:
    """The rig's lamp, upper left in front of the object, with the play from image to image."""
    direction = np.array([-0.45, -0.55, -1.0]) + rng.normal(0, 0.04, 3)
    tint = 1 + rng.normal(0, 0.008, 3)
    return Light(direction / np.linalg.norm(direction), rng.uniform(0.66, 0.72), rng.uniform(0.30, 0.34), tint)


def ground_albedo(right: Array, down: Array, rng: np.random.Generator) -> Array:
    """(h,w,3) reflectance of the plane at in-plane positions (h,w) in metres: dark, woven, with soft patches."""
    tile = rng.normal(0, 1, (64, 64)).astype(np.float32)
    soft = ndimage.gaussian_filter(tile, 2, mode="wrap")
    grain = tile[_wrapped(down, 0.9e-3), _wrapped(right, 0.9e-3)]
    patches = soft[_wrapped(down, 2.5e-3), _wrapped(right, 2.5e-3)] / soft.std()
    weave = np.cos(2 * np.pi * right / 4e-3) * np.cos(2 * np.pi * down / 4e-3)
    value = 0.23 + 0.008 * grain + 0.010 * patches + 0.010 * weave
    return (value[..., None] * np.array([0.92, 1.0, 1.08])).astype(np.float32)


def _wrapped(position: Array, cell: float) -> NDArray[np.int_]:
    """Index of a position in a 64-cell tile that repeats."""
    return np.floor(position / cell).astype(int) % 64


def radiance(surface: Surface, camera: Camera, gloss: float, light: Light) -> NDArray[np.float32]:
    """(h,w,3) noise-free colour, not clipped: albedo x (ambient + diffuse x cosine) + highlight on the object."""
    seen = surface.object_mask
    cosine = np.clip(surface.normals @ light.direction.astype(np.float32), 0, None)
    strength = light.ambient + light.diffuse * cosine
    shaded = surface.albedo * np.where(seen, strength, strength * _contact_shadow(seen))[..., None]
    towards_camera = -camera.rays()[seen]
    towards_camera /= np.linalg.norm(towards_camera, axis=-1, keepdims=True)
    halfway = towards_camera + light.direction
    halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True)
    shine = np.clip((surface.normals[seen] * halfway).sum(axis=-1), 0, 1) ** _SHININESS
    shaded[seen] += gloss * light.diffuse * shine[:, None]
    return shaded * light.tint.astype(np.float32)


def _contact_shadow(object_mask: Mask) -> Array:
    """(h,w) factor in (0,1]: the plane is darker close to the object, which hides part of the room from it."""
    width = max(3, max(object_mask.shape) // 24)
    near = ndimage.uniform_filter(object_mask.astype(np.float32), width)
    return 1 - 0.55 * ndimage.uniform_filter(near, width)


def expose(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(h,w,3) uint8 photograph of a radiance image: slight blur, display gamma, slight noise."""
    blurred = ndimage.gaussian_filter(image, (_BLUR, _BLUR, 0))
    display = np.clip(blurred, 0, 1) ** (1 / 1.3)
    noisy = display + _NOISE * rng.standard_normal(display.shape, dtype=np.float32)
    return np.clip(np.rint(255 * noisy), 0, 255).astype(np.uint8)
