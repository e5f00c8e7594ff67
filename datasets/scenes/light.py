"""Colour images of a rendered surface: Lambertian shading, specular spots, and the camera's blur and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets.scenes.shapes import Array
from datasets.scenes.view import Camera, Surface

CLOTH = 0.031
"""Reflectance of the black cloth that parts lie on: about a fifteenth of theirs, 7 to 9 of 255 in the photograph."""

_SHININESS = 60
_BLUR = 0.6
_NOISE = 2.2 / 255
_MOSAIC_BLUR = 0.5  # pixels: a colour is interpolated from its neighbours in the sensor's mosaic, and so is its noise


@dataclass(frozen=True)
class Light:
    """A distant lamp and the light of the room.

    direction (3,) unit vector from the scene towards the lamp, camera frame; diffuse and ambient strengths; tint (3,).
    """

    direction: NDArray[np.float64]
    diffuse: float
    ambient: float
    tint: NDArray[np.float64]


def ground_albedo(right: Array, down: Array, rng: np.random.Generator) -> Array:
    """(h,w,3) reflectance of the plane at in-plane positions (h,w) in metres: a black cloth with soft patches."""
    tile = rng.normal(0, 1, (64, 64)).astype(np.float32)
    soft = ndimage.gaussian_filter(tile, 2, mode="wrap")
    grain = tile[_wrapped(down, 0.9e-3), _wrapped(right, 0.9e-3)]
    patches = soft[_wrapped(down, 2.5e-3), _wrapped(right, 2.5e-3)] / soft.std()
    value = CLOTH * (1 + 0.08 * grain + 0.05 * patches)
    return (value[..., None] * np.array([0.85, 0.98, 1.17])).astype(np.float32)


def _wrapped(position: Array, cell: float) -> NDArray[np.int_]:
    """Index of a position in a 64-cell tile that repeats."""
    return np.floor(position / cell).astype(int) % 64


def radiance(surface: Surface, camera: Camera, gloss: float, light: Light, lit: Array | float = 1.0) -> Array:
    """(h,w,3) noise-free colour, not clipped: albedo x (ambient + diffuse x cosine) + highlight on the object.

    `lit` (h,w) in [0,1]: how much of the lamp arrives; the rest is in shadow.
    """
    seen = surface.object_mask
    reached = np.broadcast_to(np.asarray(lit, np.float32) * np.float32(light.diffuse), seen.shape)
    cosine = np.clip(surface.normals @ light.direction.astype(np.float32), 0, None)
    shaded = surface.albedo * (light.ambient + reached * cosine)[..., None]
    towards_camera = -camera.rays()[seen]
    towards_camera /= np.linalg.norm(towards_camera, axis=-1, keepdims=True)
    halfway = towards_camera + light.direction
    halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True)
    shine = np.clip((surface.normals[seen] * halfway).sum(axis=-1), 0, 1) ** _SHININESS
    shaded[seen] += (gloss * reached[seen] * shine)[:, None]
    return (shaded * light.tint.astype(np.float32)).astype(np.float32)


def expose(image: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(h,w,3) uint8 photograph of a radiance image: slight blur, and the noise of a colour sensor."""
    blurred = ndimage.gaussian_filter(image, (_BLUR, _BLUR, 0))
    noise = _NOISE * rng.standard_normal(image.shape, dtype=np.float32)
    noisy = np.clip(blurred, 0, 1) + ndimage.gaussian_filter(noise, (_MOSAIC_BLUR, _MOSAIC_BLUR, 0))
    return np.clip(np.rint(255 * noisy), 0, 255).astype(np.uint8)
